"""Convert raw NTU RGB+D skeletons to the toolbox's annotation format.

The release is a text file a sequence, SsssCcccPpppRrrrAaaa.skeleton (setup,
camera, subject, replication, action). It holds the number of frames; then for
each frame the number of bodies; then for each body a line of 10 values that
begins with the body's ID, the number of joints, and a line of 12 values a
joint that begins with x, y and z in metres. Written are the samples and splits
of ntu60_3d.pkl (xsub_train, xsub_val, xview_train, xview_val) or ntu120_3d.pkl
(xset instead of xview), in float32. Coordinates stay as they are; frames
without a body stay, as zeros.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

KINDS = ('setup', 'camera', 'subject', 'replication', 'action')

# The benchmarks


@dataclass(frozen=True)
class Task:
    """A benchmark's share of the release, and how it is split.

    Attributes:
        most (dict[str, int]): The highest number of each kind in a name.
        in_train (dict): For each split, whether a sequence, given by the
            numbers in its name, is for training.
        ignore_list (str): Name under which the list of sequences with missing
            or incomplete skeletons is published.
        sizes (dict[str, int]): Sequences a split of the complete release,
            without those on the list.
    """

    most: dict[str, int]
    in_train: dict[str, Callable[[dict], bool]]
    ignore_list: str
    sizes: dict[str, int]


TRAIN_SUBJECTS_60 = frozenset(
    (1, 2, 4, 5, 8, 9, *range(13, 20), 25, 27, 28, 31, 34, 35, 38)
)
TRAIN_SUBJECTS_120 = TRAIN_SUBJECTS_60 | {
    *(45, 46, 47, 49, 50, *range(52, 60), 70, 74, 78, *range(80, 87)),
    *(89, *range(91, 96), 97, 98, 100, 103),
}

TASKS = {
    'ntu60': Task(
        most=dict(zip(KINDS, (17, 3, 40, 2, 60))),
        in_train={
            'xsub': lambda name: name['subject'] in TRAIN_SUBJECTS_60,
            'xview': lambda name: name['camera'] in (2, 3),
        },
        ignore_list='NTU_RGBD_samples_with_missing_skeletons.txt',
        sizes={
            'xsub_train': 40091,
            'xsub_val': 16487,
            'xview_train': 37646,
            'xview_val': 18932,
        },
    ),
    'ntu120': Task(
        most=dict(zip(KINDS, (32, 3, 106, 2, 120))),
        in_train={
            'xsub': lambda name: name['subject'] in TRAIN_SUBJECTS_120,
            'xset': lambda name: name['setup'] % 2 == 0,
        },
        ignore_list='NTU_RGBD120_samples_with_missing_skeletons.txt',
        sizes={
            'xsub_train': 63026,
            'xsub_val': 50919,
            'xset_train': 54468,
            'xset_val': 59477,
        },
    ),
}

# The data set


def select_files(files: list[Path], task: str, ignored: frozenset):
    """Select a benchmark's files, those for cross-subject training first.

    A file whose name is none of the release stays: reading it names it.

    Returns:
        tuple[list[Path], dict]: The files, and how many are left out, by
        reason.
    """
    from mamp_mmaction.datasets.raw_files.ntu_rgbd import numbers_of

    wanted = [path for path in files if path.stem not in ignored]
    own, is_val = [], {}
    for path in wanted:
        try:
            numbers = numbers_of(path)
        except ValueError:
            own.append(path)
            continue
        if all(
            numbers[kind] <= most for kind, most in TASKS[task].most.items()
        ):
            own.append(path)
            is_val[path] = not TASKS[task].in_train['xsub'](numbers)
    own.sort(key=lambda path: is_val.get(path, False))
    return own, {
        'on the ignore list': len(files) - len(wanted),
        f'not of {task}': len(wanted) - len(own),
    }


def read_ignore_list(raw_dir: Path, task: str, path: Path | None) -> frozenset:
    """Read the names in a list of sequences, whatever else it says.

    Args:
        raw_dir (Path): Folder of the release. The list is looked for in it,
            beside it and in the working directory.
        task (str): The benchmark.
        path (Path, optional): The list, if it is elsewhere.

    Raises:
        ValueError: It is nowhere, or names no sequence.
        OSError: It cannot be read.
    """
    import re

    from mamp_mmaction.datasets.raw_files.ntu_rgbd import NAME

    name = TASKS[task].ignore_list
    folders = (raw_dir, raw_dir.absolute().parent, Path())
    found = [f / name for f in folders if (f / name).is_file()]
    if path is None and not found:
        raise ValueError(
            f'{name} is neither in {raw_dir} nor beside it nor in '
            f'{Path.cwd()}. The published splits leave out the sequences that '
            'it names, whose skeletons are missing or incomplete. It comes '
            'with the data set (github.com/shahroudy/NTURGB-D): put it there '
            'or name it by --ignore; --keep-all converts every sequence.'
        )
    path = path or found[0]
    text = path.read_text(encoding='ascii', errors='replace')
    names = frozenset(match.group() for match in re.finditer(NAME, text))
    if not names:
        raise ValueError(
            f'{path}: names no sequence to leave out, expected lines such as '
            'S001C002P005R002A008.'
        )
    return names


# The command


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=(
            "By default persons are chosen as by the toolbox's "
            'gen_ntu_rgbd_raw.py, which removes no noise: of the first four '
            'bodies of each frame, told apart by their order, the two with '
            'the largest standard deviation of positions, the larger first. '
            "--denoise follows the preparation of the MAMP authors' archives: "
            'bodies are told apart by their ID; unless it is the only one, a '
            'body of at most 11 frames is removed, and then one more than 0.8 '
            'times as wide as high in at least 69.754% of its frames. The '
            'body with the largest '
            'variance of positions is person 1. In the order of the variance '
            'each other one continues person 1, if it lies wholly before or '
            'after, else is or continues person 2, else is left out.'
        ),
    )
    parser.add_argument(
        'raw_dir',
        type=Path,
        help='folder of the files *.skeleton (nturgb+d_skeletons in the '
        'release)',
    )
    parser.add_argument('out', help='annotation file to write (.pkl)')
    parser.add_argument(
        '--task', choices=list(TASKS), required=True, help='the benchmark'
    )
    parser.add_argument(
        '--denoise',
        action='store_true',
        help='remove noise bodies, see below',
    )
    left_out = parser.add_mutually_exclusive_group()
    left_out.add_argument(
        '--ignore',
        type=Path,
        metavar='FILE',
        help='list of the sequences to leave out (default: '
        f'{TASKS["ntu60"].ignore_list} or {TASKS["ntu120"].ignore_list} in '
        'RAW_DIR, beside it or in the working directory)',
    )
    left_out.add_argument(
        '--keep-all',
        action='store_true',
        help='leave no sequence out because of a list',
    )
    parser.add_argument(
        '--num-workers',
        type=int,
        metavar='N',
        help='worker processes (default: the cores available)',
    )
    parser.add_argument(
        '--strict',
        action='store_true',
        help='stop at the first broken file instead of leaving it out',
    )
    return parser.parse_args(argv)


def main(argv=None) -> None:
    """Convert, and say what was kept and what was left out."""
    args = parse_args(argv)
    from mamp_mmaction.datasets.class_names import CLASS_NAMES
    from mamp_mmaction.datasets.conversion import convert, find_files
    from mamp_mmaction.datasets.raw_files.ntu_rgbd import (
        numbers_of,
        read_sequence,
    )
    from mamp_mmaction.utils import errors_as_one_line

    task = TASKS[args.task]

    def is_in(in_train: Callable):
        return lambda name: in_train(numbers_of(Path(name)))

    with errors_as_one_line():
        files = find_files(args.raw_dir, '*.skeleton')
        ignored = frozenset()
        if not args.keep_all:
            ignored = read_ignore_list(args.raw_dir, args.task, args.ignore)
        files, left_out = select_files(files, args.task, ignored)
        split = convert(
            partial(read_sequence, denoise=args.denoise),
            files,
            args.out,
            CLASS_NAMES[args.task],
            {
                kind: is_in(in_train)
                for kind, in_train in task.in_train.items()
            },
            args.num_workers,
            args.strict,
        )
        for reason, count in left_out.items():
            print(f'note: {count} files {reason}')
        if {name: len(part) for name, part in split.items()} != task.sizes:
            sizes = ', '.join(f'{name} {n}' for name, n in task.sizes.items())
            print(f'note: the complete release gives {sizes}')


if __name__ == '__main__':
    main()
