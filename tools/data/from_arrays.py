"""Convert a folder of NumPy or CSV sequences to the annotation format.

A sequence is an array (frames, joints, coordinates) or (persons, frames,
joints, coordinates) in a file .npy or .npz; or a .csv with a row a frame and
columns JOINT_x, JOINT_y and perhaps JOINT_z and JOINT_score for every joint
of the layout. There the columns person and frame tell rows apart, if need be,
and empty cells are joints that were not seen. LABELS.csv has the columns file
(in the folder, with or without its suffix) and label (a name or an integer
from 0), a row a sequence. Written are the splits train and val. Coordinates
stay as they are.
"""

import argparse
import random
import re
from functools import partial
from pathlib import Path

CHANNELS = ('xyz', 'xy', 'xyz+score', 'xy+score')
MOST_CLASSES = 10_000

# A sequence


def read_sequence(path: Path, folder: Path, labels: dict, **options):
    """Read one file: its name and label, and what its numbers are."""
    from mamp_mmaction.datasets.raw_files import arrays

    name = name_of(path, folder)
    return arrays.read_sequence(path, name, labels[name], **options)


def name_of(path: Path, folder: Path) -> str:
    """Return the name of a sequence: its path in the folder, no suffix."""
    return path.relative_to(folder).with_suffix('').as_posix()


# Labels and splits


def read_labels(path: Path, split_column: str | None) -> dict:
    """Read the label, and the split if asked for, of each file as texts."""
    from mamp_mmaction.datasets.raw_files.arrays import read_table

    header, rows = read_table(path)
    for column in ('file', 'label', split_column):
        if column is not None and column not in header:
            raise ValueError(
                f'{path}: has no column {column!r}; its columns are '
                f'{", ".join(header)}.'
            )
    labels = {}
    for line, row in rows:
        row = dict(zip(header, row))
        if not row['file'] or not row['label']:
            raise ValueError(f'{path}, line {line}: file or label is empty.')
        if row['file'] in labels:
            raise ValueError(
                f'{path}, line {line}: file {row["file"]!r} comes twice.'
            )
        part = split_column and row[split_column]
        if part not in (None, 'train', 'val'):
            raise ValueError(
                f'{path}, line {line}: column {split_column!r} is {part!r}, '
                "expected 'train' or 'val'."
            )
        labels[row['file']] = (row['label'], part)
    return labels


def match(files: list[Path], folder: Path, labels: dict, where: Path) -> dict:
    """Return label and split by the names of the files.

    Raises:
        ValueError: A file has no label, a label no file, or two files would
            have one name.
    """
    from mamp_mmaction.datasets.raw_files.arrays import SUFFIXES

    names, matched, used = {}, {}, set()
    for path in files:
        name = name_of(path, folder)
        if name in names:
            raise ValueError(
                f'{folder}: {names[name]} and {path} would both be named '
                f'{name!r}.'
            )
        names[name] = path
        given = [path.relative_to(folder).as_posix(), name]
        given = [key for key in dict.fromkeys(given) if key in labels]
        if len(given) > 1:
            raise ValueError(f'{where}: names {path} twice.')
        if given:
            matched[name] = labels[given[0]]
            used.add(given[0])
    for lacking, what in (
        ([p for name, p in names.items() if name not in matched], 'label'),
        ([key for key in labels if key not in used], 'file'),
    ):
        if lacking:
            raise ValueError(
                f'{where}: there is no {what} for {len(lacking)} '
                f'{"files" if what == "label" else "rows"}, the first is '
                f'{str(lacking[0])!r}; the files are those of {folder} that '
                f'end in {", ".join(SUFFIXES)}.'
            )
    return matched


def number_labels(texts: dict[str, str]) -> tuple[dict[str, int], list[str]]:
    """Return labels from 0 by name, and the names of the classes.

    Integers stay as they are; names are numbered in alphabetical order.

    Raises:
        ValueError: An integer is too large, or numbers that are no integers
            from 0 stand for names.
    """
    if all(text.isdecimal() for text in texts.values()):
        labels = {name: int(text) for name, text in texts.items()}
        most = max(labels.values())
        if most >= MOST_CLASSES:
            raise ValueError(
                f'label {most} is too large, expected less than '
                f'{MOST_CLASSES}.'
            )
        return labels, [str(label) for label in range(most + 1)]
    # Of numbers and names, what is no integer from 0 is told first.
    for name, text in sorted(texts.items(), key=lambda x: x[1].isdecimal()):
        if re.fullmatch(r'[-+]?\d+([.]\d*)?', text):
            raise ValueError(
                f'{name} has the label {text!r}: expected names for all '
                'files, or integers from 0 for all.'
            )
    classes = sorted(set(texts.values()))
    numbers = {text: number for number, text in enumerate(classes)}
    return {name: numbers[text] for name, text in texts.items()}, classes


def draw_val(labels: dict[str, int], share: float, seed: int) -> set[str]:
    """Draw the names of the validation set, the same share of each class.

    Of a class with several sequences at least one is drawn, and not all.
    """
    rng = random.Random(seed)
    drawn = set()
    for label in sorted(set(labels.values())):
        names = sorted(name for name in labels if labels[name] == label)
        count = min(max(round(share * len(names)), 1), len(names) - 1)
        drawn.update(rng.sample(names, count))
    return drawn


# The command


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'folder', type=Path, help='folder of the sequences, searched in depth'
    )
    parser.add_argument('labels', type=Path, metavar='LABELS.csv')
    parser.add_argument('out', help='annotation file to write (.pkl)')
    parser.add_argument(
        '--layout',
        required=True,
        metavar='NAME_OR_FILE',
        help='the joints: a name of the layout table, or a Python file that '
        'registers a layout',
    )
    parser.add_argument(
        '--channels',
        choices=CHANNELS,
        help='what the numbers of a joint are (default: by the first file; '
        'three in an array are xyz, with --image-size xy+score)',
    )
    parser.add_argument(
        '--image-size',
        nargs=2,
        type=int,
        metavar=('W', 'H'),
        help='width and height in pixels, for 2D; 1 1 where coordinates go '
        'from 0 to 1',
    )
    splits = parser.add_mutually_exclusive_group()
    splits.add_argument(
        '--split-column',
        metavar='COLUMN',
        help='column of LABELS.csv that says train or val',
    )
    splits.add_argument(
        '--val-share',
        type=float,
        default=0.2,
        metavar='S',
        help='share of each class that is drawn for val (default: 0.2)',
    )
    parser.add_argument(
        '--seed', type=int, default=0, metavar='N', help='seed of the draw'
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
    args = parser.parse_args(argv)
    if not 0 < args.val_share < 1:
        parser.error(f'--val-share: {args.val_share} is not between 0 and 1.')
    if args.image_size and min(args.image_size) < 1:
        parser.error(f'--image-size: {args.image_size}, expected 1 or more.')
    return args


def main(argv=None) -> None:
    """Convert, and say what was kept and what was left out."""
    args = parse_args(argv)
    from mamp_mmaction.datasets.conversion import convert, find_files
    from mamp_mmaction.datasets.raw_files.arrays import (
        SUFFIXES,
        check_image_size,
        guess_channels,
    )
    from mamp_mmaction.layouts import load_layout
    from mamp_mmaction.utils import errors_as_one_line

    with errors_as_one_line():
        layout = load_layout(args.layout)
        files = [
            path
            for path in find_files(args.folder, '**/*')
            if path.suffix in SUFFIXES
            and path.resolve() != args.labels.resolve()
        ]
        rows = match(
            files,
            args.folder,
            read_labels(args.labels, args.split_column),
            args.labels,
        )
        channels = args.channels or guess_channels(
            files[0], layout, args.image_size
        )
        check_image_size(
            channels,
            args.image_size,
            '--channels' if args.channels else files[0],
        )
        labels, classes = number_labels(
            {name: label for name, (label, _) in rows.items()}
        )
        if args.split_column:
            val = {name for name, (_, part) in rows.items() if part == 'val'}
            fault = f'column {args.split_column!r} puts all files into one '
            fault += 'split.'
        else:
            val = draw_val(labels, args.val_share, args.seed)
            fault = 'no class has two files, of which one could be drawn for '
            fault += 'val: give --split-column.'
        if not 0 < len(val) < len(rows):
            raise ValueError(f'{args.labels}: {fault}')
        convert(
            partial(
                read_sequence,
                folder=args.folder,
                labels=labels,
                layout=layout,
                channels=channels,
                image_size=args.image_size,
            ),
            files,
            args.out,
            classes,
            {'': lambda name: name not in val},
            args.num_workers,
            args.strict,
        )


if __name__ == '__main__':
    main()
