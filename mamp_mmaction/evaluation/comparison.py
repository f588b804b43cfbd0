"""What runs that differ by chance show: means, their errors, differences."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean, stdev

# Standard errors that a difference must exceed, and values that it needs, of
# which fewer tell too little of their own spread.
SHOWN_BEYOND, LEAST_VALUES = 2, 3


@dataclass(frozen=True)
class Estimate:
    """A mean and how far it can be trusted.

    Attributes:
        mean (float): Mean of the values.
        error (float | None): Its standard error, s / sqrt(n) with the
            standard deviation s of n - 1 degrees of freedom; None of a
            single value.
        count (int): The number of values, n.
        is_shown (bool): Whether the mean is more than two errors away from
            0, of at least three values.
    """

    mean: float
    error: float | None
    count: int

    is_shown: bool = field(init=False)

    def __post_init__(self) -> None:
        enough = self.count >= LEAST_VALUES
        shown = enough and abs(self.mean) > SHOWN_BEYOND * self.error
        object.__setattr__(self, 'is_shown', shown)

    def __format__(self, spec: str) -> str:
        """Mean by ``spec`` and, where there is one, its error."""
        text = format(self.mean, spec)
        if self.error is None:
            return text
        return f'{text} ± {format(self.error, spec.lstrip("+"))}'


def estimate(values: Iterable[float]) -> Estimate:
    """Mean of values and its standard error.

    Args:
        values (Iterable[float]): At least one.

    Returns:
        Estimate: In the values' unit.

    Raises:
        ValueError: There is no value.
    """
    values = list(values)
    if not values:
        raise ValueError('A mean needs at least one value, got none.')
    error = stdev(values) / len(values) ** 0.5 if values[1:] else None
    return Estimate(fmean(values), error, len(values))


def independent(values: Mapping[tuple, float]) -> list[float]:
    """Values that share nothing: one a seed.

    Draws of the labels of one seed share its pre-training, so that several
    are worth less than as many seeds. Their mean counts once. Of a single
    seed each draw counts, and the error says nothing of the pre-training.

    Args:
        values (Mapping): Values by (seed, draw).

    Returns:
        list[float]: Means by seed; of a single seed the values.
    """
    seeds = {}
    for (seed, _), value in values.items():
        seeds.setdefault(seed, []).append(value)
    if len(seeds) == 1:
        return [*values.values()]
    return [fmean(draws) for draws in seeds.values()]


def paired_difference(
    values: Mapping[tuple, float], reference: Mapping[tuple, float]
) -> Estimate | None:
    """Mean of the differences between runs that share what is drawn.

    What a pair has in common, such as which samples have a label, does not
    count as an error of the difference.

    Args:
        values (Mapping): Values by (seed, draw).
        reference (Mapping): Values to compare with, likewise.

    Returns:
        Estimate | None: Of value minus reference over the keys that both
        have, a value a seed (:func:`independent`); None where they share
        none.
    """
    differences = {
        key: value - reference[key]
        for key, value in values.items()
        if key in reference
    }
    return estimate(independent(differences)) if differences else None


def rate_interval(right: int, count: int) -> tuple[float, float]:
    """Rates that a count of right answers is one standard error away from.

    Wilson's score interval: the standard error is that of the true rate, so
    that it is not zero where all answers are right, or none.

    Args:
        right (int): Right answers.
        count (int): All answers, at least one.

    Returns:
        tuple[float, float]: The lowest and the highest such rate.
    """
    from scipy.stats import binomtest

    within = math.erf(2**-0.5)  # one standard error of a normal distribution
    found = binomtest(int(right), int(count)).proportion_ci(within, 'wilson')
    return found.low, found.high
