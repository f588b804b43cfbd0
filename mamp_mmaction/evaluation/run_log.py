"""The scalars that mmengine logs in a working directory."""

import json
from collections import defaultdict
from pathlib import Path
from statistics import fmean


def read_curve(work_dir: str | Path, key: str) -> dict[int, float]:
    """Read how a value went in a training, over all its starts.

    What a training by epochs logs several times an epoch, such as its loss,
    is averaged over the epoch.

    Every start writes a log of its own. Where a training was resumed, or
    begun anew in the same folder, what an earlier log says of the steps from
    there on is void. Logs without the value (of tests, of starts that soon
    broke off) are passed over.

    Args:
        work_dir (str | Path): Working directory of the training.
        key (str): Name of the value, such as ``'acc/top1'``.

    Returns:
        dict[int, float]: The value by step (epochs, for trainings by epoch),
        in their order. Empty where it was never logged.

    Raises:
        ValueError: A line before the last of a log is no JSON object.
        OSError: A log cannot be read.
    """
    curve = {}
    # The folders bear the time of the start.
    for folder in sorted(Path(work_dir).glob('*/vis_data')):
        lines = read_scalars(folder)
        found = defaultdict(list)
        for line in lines:
            if key in line:
                found[_place(line)].append(line[key])
        if found:
            start = min(map(_place, lines))
            curve = {step: x for step, x in curve.items() if step < start}
            curve.update((s, fmean(x)) for s, x in sorted(found.items()))
    return curve


def _place(line: dict) -> int:
    """Epoch or step: validations have their epoch as the step."""
    return line.get('epoch', line.get('step', 0))


def last_and_best(curve: dict[int, float]) -> dict[str, float]:
    """The last and the highest value of a curve.

    Args:
        curve (dict[int, float]): As of :func:`read_curve`, not empty.

    Returns:
        dict: ``last``, ``last_step``, ``best`` and ``best_step``, the
        earlier of equals.
    """
    last, best = max(curve), max(curve, key=curve.get)
    return dict(
        last=curve[last], last_step=last, best=curve[best], best_step=best
    )


def read_scalars(folder: str | Path) -> list[dict]:
    """Read the scalars of one start.

    Args:
        folder (str | Path): Its folder ``vis_data``.

    Returns:
        list[dict]: One a line. A last line that is incomplete is left out.

    Raises:
        ValueError: Another line is no JSON object.
        OSError: The log cannot be read.
    """
    # mmengine writes the same lines to two files.
    files = [
        Path(folder, 'scalars.json'),
        *sorted(Path(folder).glob('*.json')),
    ]
    file = next((file for file in files if file.is_file()), None)
    lines = file.read_text().split('\n') if file else []
    scalars = []
    for number, line in enumerate(lines, start=1):
        try:
            if line.strip():
                scalars.append(dict(json.loads(line)))
        except (TypeError, ValueError) as error:
            if number < len(lines):
                raise ValueError(
                    f'{file}, line {number}: expected a JSON object with the '
                    f'scalars of a step, found {line[:60]!r}.'
                ) from error
    return scalars
