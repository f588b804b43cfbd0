"""What the converters of raw data sets share.

A converter reads one raw file at a time and says what is in it; here the
files are read in worker processes, broken ones named and left out, splits
made, the annotation file written and summarised.
"""

import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from ..utils import available_cores
from ..utils.atomic import check_writable
from .annotation_file import (
    body_size,
    check_annotation,
    summarise,
    write_annotations,
)
from .progress import track
from .sample_name import sample_name

# Files that a worker fetches at once: enough to hide what a transfer costs,
# few enough that the workers finish together.
MAX_CHUNK = 32
# Bodies this many times larger or smaller than usual are in another unit.
OTHER_UNIT = 50


@dataclass
class RawFile:
    """What one raw file gives.

    Attributes:
        annotations (list[dict]): Its samples.
        left_out (list[str]): A message on each of its samples that is not
            among them, such as ``'no body: S001C001P001R001A001'``.
        counts (dict[str, int]): What the summary adds up over all files.
    """

    annotations: list[dict] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=Counter)


def convert(
    read: Callable[..., RawFile],
    files: Sequence,
    out: str | Path,
    classes: Sequence[str],
    in_train: dict[str, Callable[[str], bool]],
    num_workers: int | None = None,
    strict: bool = False,
) -> dict[str, list[str]]:
    """Convert raw files to one annotation file and say what was done.

    Args:
        read (Callable): Reads one file; raises ValueError or OSError, with a
            message that names the file, where it is broken. A function of a
            module, so that worker processes find it.
        files (Sequence): What ``read`` takes, one a call.
        out (str | Path): The annotation file (.pkl).
        classes (list[str]): The class names in the order of the labels.
        in_train (dict[str, Callable]): For each kind of split, such as
            ``'xsub'``, whether the sample of this name is for training. It
            gives the splits ``xsub_train`` and ``xsub_val``; the kind ``''``
            gives ``train`` and ``val``.
        num_workers (int, optional): Worker processes; 1 reads in this
            process. Defaults to None, the cores available here.
        strict (bool): Whether the first broken file stops the conversion
            rather than being left out. Defaults to False.

    Returns:
        dict[str, list[str]]: The names by split, sorted.

    Raises:
        ValueError: Nothing usable is left; or, with ``strict``, a file is
            broken; or ``out`` is no ``.pkl``, before anything is read.
        OSError: ``out`` cannot be written.
        ChildProcessError: The system ended a worker process.
    """
    # Hours may pass before it is written.
    if Path(out).suffix != '.pkl':
        raise ValueError(f'{out}: expected the name of a .pkl file.')
    check_writable(out)
    contents, broken = read_files(read, files, num_workers, strict)
    messages = [
        message for content in contents for message in content.left_out
    ]
    for message in [f'broken: {fault}' for fault in broken] + messages:
        print(f'left out, {message}', file=sys.stderr)
    annotations = [a for content in contents for a in content.annotations]
    if not annotations:
        raise ValueError(
            f'no usable sequence is left of {len(files)} files; {out} is not '
            'written.'
        )
    names = sorted(annotation['frame_dir'] for annotation in annotations)
    split = {
        f'{kind}_{part}'.lstrip('_'): [
            n for n in names if is_in(n) == (part == 'train')
        ]
        for kind, is_in in in_train.items()
        for part in ('train', 'val')
    }
    write_annotations(out, split, annotations, classes)
    print(summarise(split, annotations))
    labels = {a['frame_dir']: int(a['label']) for a in annotations}
    for part in split:
        here = {labels[name] for name in split[part]}
        lacking = sorted({*labels.values()} - here)
        if lacking and part.endswith('train'):
            print(
                f'warning: {len(lacking)} classes have no sequence in {part}, '
                f'the first is {classes[lacking[0]]!r}',
                file=sys.stderr,
            )
    sizes = [body_size(a['keypoint']) for a in annotations]
    usual = np.median(sizes)
    other = [
        f'{a["frame_dir"]} ({size:.4g})'
        for a, size in zip(annotations, sizes)
        if max(size, usual) > OTHER_UNIT * min(size, usual)
    ]
    if other:
        print(
            f'warning: in {len(other)} of {len(annotations)} sequences a body '
            f'is {OTHER_UNIT} times larger or smaller than usual '
            f'({usual:.4g}), as if in another unit; the first is {other[0]}',
            file=sys.stderr,
        )
    counts = Counter({'left out, broken': len(broken)})
    for content in contents:
        counts.update(content.counts)
    for what, count in counts.items():
        print(f'{what:<20}  {count}')
    print(f'Written to {out}')
    return split


def read_files(
    read: Callable[..., RawFile],
    files: Sequence,
    num_workers: int | None = None,
    strict: bool = False,
) -> tuple[list[RawFile], list[str]]:
    """Read many files in worker processes, with a progress bar on stderr.

    Arguments and errors are those of :func:`convert`.

    Returns:
        tuple[list[RawFile], list[str]]: What the files hold, in their order,
        without the broken ones, and a message for each broken one.
    """
    num_workers = available_cores() if num_workers is None else num_workers
    if num_workers < 1:
        raise ValueError(f'--num-workers is {num_workers}, less than 1.')
    results, broken = [], []
    with closing(_map(read, files, num_workers)) as outcomes:
        for result, fault in track(outcomes, len(files)):
            if fault is None:
                results.append(result)
            elif strict:
                raise ValueError(fault)
            else:
                broken.append(fault)
    return results, broken


def _map(read: Callable, files: Sequence, num_workers: int) -> Iterator[tuple]:
    """Yield the outcomes in the order of the files."""
    attempt = partial(_attempt, read)
    if num_workers == 1:
        yield from map(attempt, files)
        return
    chunk = len(files) // (4 * num_workers)
    with ProcessPoolExecutor(num_workers) as pool:
        try:
            yield from pool.map(
                attempt, files, chunksize=min(max(chunk, 1), MAX_CHUNK)
            )
        except BrokenProcessPool:
            raise ChildProcessError(
                'the system ended a worker process, most likely for want of '
                f'memory; found --num-workers {num_workers}, use fewer.'
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _attempt(
    read: Callable, file: object
) -> tuple[RawFile | None, str | None]:
    """Return the content and no fault, or no content and the fault."""
    try:
        content = read(file)
    except (ValueError, OSError) as error:
        return None, str(error)
    try:
        for annotation in content.annotations:
            check_annotation(annotation, f'{file}: {sample_name(annotation)}')
    except ValueError as error:
        return None, str(error)
    return content, None


# What the files of several data sets have in common


def make_annotation(
    name: str, label: int, keypoint: np.ndarray, **more: object
) -> dict:
    """Return a sample of the annotation file.

    Args:
        name (str): Its ``frame_dir``.
        label (int): Its class, from 0.
        keypoint (np.ndarray): Positions (M, T, V, C), stored as float32.
        **more: Further keys.
    """
    with np.errstate(over='ignore'):  # becomes infinity, which is refused
        keypoint = np.ascontiguousarray(keypoint, np.float32)
    return {
        'frame_dir': name,
        'label': label,
        'total_frames': keypoint.shape[1],
        'keypoint': keypoint,
        **more,
    }


def find_files(folder: Path, pattern: str) -> list[Path]:
    """List the files of a folder, sorted by name.

    Raises:
        FileNotFoundError: There is no such folder, or no such file in it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f'{folder}: there is no such folder (working directory '
            f'{os.getcwd()}).'
        )
    files = sorted(folder.glob(pattern))
    if not files:
        raise FileNotFoundError(
            f'{folder}: holds no {pattern}; give the folder that holds the '
            'files.'
        )
    return files


def parse_name(
    path: Path, pattern: str, most: dict[str, int]
) -> dict[str, int]:
    """Read the numbers in the name of a file.

    Args:
        path (Path): The file; what counts is its name up to the first dot.
        pattern (str): Regular expression with a group of digits a number.
        most (dict[str, int]): The highest number by what is numbered, in the
            order of the groups; the least is 1.

    Raises:
        ValueError: The name is another, or a number is out of range.
    """
    name = path.name.partition('.')[0]
    match = re.fullmatch(pattern, name)
    numbers = dict(zip(most, map(int, match.groups()))) if match else {}
    if not match or any(not 1 <= numbers[key] <= most[key] for key in most):
        expected = ', '.join(
            f'{key} 1 to {high}' for key, high in most.items()
        )
        raise ValueError(
            f'{path}: {name!r} names no sequence, expected {pattern} with '
            f'{expected}.'
        )
    return numbers


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file without blank ones at its end.

    Raises:
        ValueError: There are none.
    """
    text = path.read_bytes().decode('ascii', errors='replace').rstrip()
    if not text:
        raise ValueError(f'{path}: is empty.')
    return text.splitlines()


def parse_lines(
    path: Path,
    lines: Sequence[str],
    columns: int,
    used: int | None = None,
    numbers: Sequence[int] | None = None,
) -> np.ndarray:
    """Read lines of numbers.

    Args:
        path (Path): The file, for messages.
        lines (list[str]): Its lines (N,), or some of them.
        columns (int): How many values a line must have.
        used (int, optional): How many of them are read; the others need not
            be numbers. Defaults to None, all.
        numbers (list[int], optional): The lines' numbers in the file.
            Defaults to None, 1 to N.

    Returns:
        np.ndarray: The numbers (N, used), float64.

    Raises:
        ValueError: Names the first line with other columns or with a value
            that is no finite number of float32.
    """
    used = columns if used is None else used
    try:
        return _parse(lines, columns, used)
    except ValueError:
        fault = next(
            i for i, s in enumerate(lines) if not _parses(s, columns, used)
        )
        line = lines[fault]
        raise ValueError(
            f'{path}, line {numbers[fault] if numbers else fault + 1}: '
            f'{line[:60]!r} ({len(line.split())} values), expected {columns}'
            f'{"" if used == columns else f", the first {used}"} finite '
            'numbers.'
        ) from None


def _parse(lines: Sequence[str], columns: int, used: int) -> np.ndarray:
    if not lines:
        return np.zeros((0, used))
    # Counting blanks takes a fraction of the time of splitting at them.
    blanks = {line.count(' ') for line in lines}
    if blanks != {columns - 1} and {len(s.split()) for s in lines} != {
        columns
    }:
        raise ValueError('other columns')
    usecols = None if used == columns else range(used)
    values = np.loadtxt(lines, usecols=usecols, comments=None, ndmin=2)
    with np.errstate(over='ignore'):
        finite = np.isfinite(values.astype(np.float32)).all()
    if values.shape != (len(lines), used) or not finite:
        raise ValueError('blank lines, or not finite')
    return values


def _parses(line: str, columns: int, used: int) -> bool:
    try:
        return bool(len(_parse([line], columns, used)))
    except ValueError:
        return False
