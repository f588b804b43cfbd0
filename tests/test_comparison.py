"""Means, their standard errors and paired differences."""

import pytest

from mamp_mmaction.evaluation.comparison import (
    Estimate,
    estimate,
    independent,
    paired_difference,
)


def test_mean_and_standard_error_by_hand():
    # Deviations -3, -1, 0, 4: variance 26 / 3, over n = 4.
    found = estimate([1.0, 3.0, 4.0, 8.0])
    assert (found.mean, found.count) == (4.0, 4)
    assert found.error == pytest.approx((26 / 3 / 4) ** 0.5)


def test_a_single_value_has_no_error_and_shows_nothing():
    assert estimate([7.0]) == Estimate(7.0, None, 1)
    assert f'{estimate([7.0]):.1f}' == '7.0'
    assert not estimate([7.0]).is_shown


def test_there_is_no_mean_of_nothing():
    with pytest.raises(ValueError, match='at least one value'):
        estimate([])


def test_what_a_pair_shares_is_no_error_of_the_difference():
    few = {(0, 0): 40.0, (1, 0): 60.0, (2, 0): 80.0}
    more = {
        key: value + gain for (key, value), gain in zip(few.items(), (1, 2, 3))
    }
    found = paired_difference(more, few)
    # Differences 1, 2, 3: standard deviation 1, over the root of 3.
    assert found.mean == pytest.approx(2)
    assert found.error == pytest.approx(3**-0.5)
    assert found.is_shown and f'{found:+.1f}' == '+2.0 ± 0.6'
    back = paired_difference(few, more)
    assert back.mean == pytest.approx(-2) and back.is_shown


def test_only_what_both_have_is_compared():
    values = {(0, 0): 5.0, (1, 0): 9.0, (2, 0): 0.0}
    found = paired_difference(values, {(3, 0): 1.0, (1, 0): 4.0})
    assert found == Estimate(5.0, None, 1)
    assert paired_difference({(0, 0): 5.0}, {(0, 1): 5.0}) is None


def test_draws_of_one_seed_count_once():
    gains = {(0, 0): 1.0, (0, 1): 3.0, (1, 0): 4.0, (1, 1): 8.0, (2, 0): 4.0}
    none = dict.fromkeys(gains, 0.0)
    # Means by seed 2, 6 and 4: standard deviation 2.
    found = paired_difference(gains, none)
    assert (found.mean, found.count) == (4.0, 3)
    assert found.error == pytest.approx(2 / 3**0.5)
    # All that a single seed has are its draws.
    assert independent({(7, 0): 1.0, (7, 1): 3.0}) == [1.0, 3.0]


@pytest.mark.parametrize(
    'mean, error, count, shown',
    [
        (2.1, 1.0, 3, True),
        (-2.1, 1.0, 3, True),
        (2.0, 1.0, 3, False),
        (0.0, 0.0, 3, False),
        (9.0, 1.0, 2, False),
    ],
)
def test_only_beyond_two_errors_of_three_values_is_a_difference(
    mean, error, count, shown
):
    assert Estimate(mean, error, count).is_shown == shown
