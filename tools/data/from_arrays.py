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
import csv
import random
import re
from functools import partial
from pathlib import Path

SUFFIXES = ('.csv', '.npy', '.npz')
CHANNELS = {'xyz': 3, 'xy': 2, 'xyz+score': 4, 'xy+score': 3}
MOST_CLASSES = 10_000

# A sequence


def read_sequence(path, folder, labels, layout, channels, image_size):
    """Read one file.

    Args:
        path (Path): The file.
        folder (Path): Where names of files begin.
        labels (dict[str, int]): By name.
        layout (SkeletonLayout): Its joints, V.
        channels (str): What its C numbers a joint are, of :data:`CHANNELS`.
        image_size (tuple[int, int], optional): Width and height in pixels.

    Returns:
        RawFile: One annotation with ``keypoint`` (M, T, V, C), without the
        score, which is its ``keypoint_score`` (M, T, V).

    Raises:
        ValueError: The file is not of this form.
    """
    from mamp_mmaction.datasets.conversion import RawFile, make_annotation

    if path.suffix == '.csv':
        values = read_csv(path, layout, channels)
    else:
        values = read_array(path)
        if values.shape[2] != layout.num_joints:
            raise ValueError(
                f'{path}: the array of the shape {values.shape} has '
                f'{values.shape[2]} joints, but the layout {layout.name!r} '
                f'has {layout.num_joints}; expected (persons, frames, joints, '
                'coordinates), or without persons.'
            )
        if values.shape[3] != CHANNELS[channels]:
            raise ValueError(
                f'{path}: the array of the shape {values.shape} has '
                f'{values.shape[3]} numbers a joint, expected '
                f'{CHANNELS[channels]} ({channels}).'
            )
    more = {}
    if channels.endswith('+score'):
        more['keypoint_score'] = values[..., -1].astype('float32')
        values = values[..., :-1]
    if image_size:
        more['img_shape'] = (image_size[1], image_size[0])
    name = name_of(path, folder)
    return RawFile([make_annotation(name, labels[name], values, **more)])


def name_of(path: Path, folder: Path) -> str:
    """Return the name of a sequence: its path in the folder, no suffix."""
    return path.relative_to(folder).with_suffix('').as_posix()


def read_array(path: Path):
    """Read a .npy or .npz file as an array (M, T, V, C)."""
    import zipfile
    import zlib

    import numpy as np

    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            content = {'keypoint': content}
        elif len(content.files) == 1:
            content = {'keypoint': content[content.files[0]]}
        else:
            content = {key: content[key] for key in content.files}
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        # Without numpy's advice to read objects, which could run code.
        reason = str(error).split('.')[0]
        raise ValueError(
            f'{path}: holds no array that could be read ({reason}).'
        ) from error
    if 'keypoint' not in content:
        raise ValueError(
            f'{path}: holds the arrays {sorted(content)}, expected one, or '
            "'keypoint' among them."
        )
    values = content['keypoint']
    if values.ndim not in (3, 4) or values.dtype.kind not in 'fiu':
        raise ValueError(
            f'{path}: the array of {values.dtype} has the shape '
            f'{values.shape}, expected numbers of (frames, joints, '
            'coordinates) or (persons, frames, joints, coordinates).'
        )
    score = content.get('keypoint_score')
    if score is not None:
        if score.shape != values.shape[:-1]:
            raise ValueError(
                f'{path}: keypoint_score has the shape {score.shape}, '
                f'expected {values.shape[:-1]}.'
            )
        values = np.concatenate([values, score[..., None]], axis=-1)
    return values if values.ndim == 4 else values[None]


def read_csv(path: Path, layout, channels: str):
    """Read a .csv file of named joints as an array (M, T, V, C)."""
    import numpy as np

    header, rows = read_table(path)
    coords, _, score = channels.partition('+')
    axes = [*coords, *([score] if score else [])]
    wanted = [f'{j}_{axis}' for j in layout.joint_names for axis in axes]
    lacking = [column for column in wanted if column not in header]
    unknown = [c for c in header if c not in {*wanted, 'person', 'frame'}]
    if lacking or unknown:
        faults = ' and '.join(
            f'{what} {len(columns)} ({columns[0]!r} first)'
            for what, columns in (('lacks', lacking), ('knows no', unknown))
            if columns
        )
        raise ValueError(
            f'{path}: of its columns layout {layout.name!r} with {channels} '
            f'{faults}; expected {wanted[0]}, {wanted[1]}, ... for each of '
            f'its {layout.num_joints} joints, person and frame if need be.'
        )
    places = [header.index(column) for column in wanted]
    values, persons, frames = [], {}, {}
    counts = {}  # of rows by person
    where = {}  # row by person and frame
    for line, row in rows:
        person = row[header.index('person')] if 'person' in header else ''
        frame = counts[person] = counts.get(person, -1) + 1
        try:
            if 'frame' in header:
                frame = float(row[header.index('frame')])
            cells = [row[place] for place in places]
            values.append([float(cell or 0) for cell in cells])
        except ValueError as error:
            raise ValueError(f'{path}, line {line}: {error}.') from None
        for joint, start in zip(
            layout.joint_names, range(0, len(cells), len(axes))
        ):
            seen = [bool(cell) for cell in cells[start : start + len(axes)]]
            if any(seen) and not all(seen):
                raise ValueError(
                    f'{path}, line {line}: of joint {joint!r} some cells are '
                    'empty and some are not.'
                )
        if (person, frame) in where:
            raise ValueError(
                f'{path}, line {line}: frame {frame:g} comes twice for one '
                'person.'
            )
        where[person, frame] = values[-1]
        persons.setdefault(person, len(persons))
        frames[frame] = None
    if 'frame' not in header and len(set(counts.values())) > 1:
        raise ValueError(
            f'{path}: its persons have different numbers of rows; a column '
            'frame says which belong together.'
        )
    frames = {frame: i for i, frame in enumerate(sorted(frames))}
    shape = (len(persons), len(frames), layout.num_joints, len(axes))
    out = np.zeros(shape)
    for (person, frame), row in where.items():
        out[persons[person], frames[frame]] = np.reshape(row, shape[2:])
    return out


def read_table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Read a CSV file: its header, and its rows with their lines' numbers.

    Raises:
        ValueError: It is no text, has no rows, names a column twice, or a row
            has other columns than the header.
    """
    try:
        with open(path, newline='', encoding='utf-8-sig') as file:
            reader = csv.reader(file, strict=True)
            rows = [
                (reader.line_num, [cell.strip() for cell in row])
                for row in reader
                if any(row)
            ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f'{path}: is no CSV file ({error}).') from error
    if len(rows) < 2:
        raise ValueError(f'{path}: has no rows below a header.')
    header = rows[0][1]
    twice = [column for column in header if header.count(column) > 1]
    if twice:
        raise ValueError(f'{path}: has the column {twice[0]!r} twice.')
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise ValueError(
                f'{path}, line {line}: has {len(row)} columns, the header '
                f'has {len(header)}.'
            )
    return header, rows[1:]


def guess_channels(path: Path, layout, image_size) -> str:
    """Say what the numbers a joint are, by one file.

    Raises:
        ValueError: Three numbers may be x, y, z or x, y and a score.
    """
    from mamp_mmaction.utils.pictures import IMAGE_LAYOUTS

    if path.suffix == '.csv':
        ends = {column.rpartition('_')[2] for column in read_table(path)[0]}
        coords = 'xyz' if 'z' in ends else 'xy'
        return coords + ('+score' if 'score' in ends else '')
    shape = read_array(path).shape
    if shape[3] == 3 and image_size:
        return 'xy+score'
    if shape[3] == 3 and layout.name in IMAGE_LAYOUTS:
        raise ValueError(
            f'{path}: the array has 3 numbers a joint of layout '
            f'{layout.name!r}: say --channels xyz or --channels xy+score.'
        )
    for channels, count in CHANNELS.items():
        if count == shape[3]:
            return channels
    raise ValueError(
        f'{path}: the array of the shape {shape} has {shape[3]} numbers a '
        'joint, expected 2 to 4.'
    )


# Labels and splits


def read_labels(path: Path, split_column: str | None) -> dict:
    """Read the label, and the split if asked for, of each file as texts."""
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
    for name, text in texts.items():
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
        if channels.startswith('xyz') == bool(args.image_size):
            raise ValueError(
                f'{channels} '
                + (
                    'is in 3D: leave --image-size out.'
                    if args.image_size
                    else 'is in 2D: give --image-size W H.'
                )
            )
        labels, classes = number_labels(
            {name: label for name, (label, _) in rows.items()}
        )
        if args.split_column:
            val = {name for name, (_, part) in rows.items() if part == 'val'}
            if not 0 < len(val) < len(rows):
                raise ValueError(
                    f'{args.labels}: column {args.split_column!r} puts all '
                    'files into one split.'
                )
        else:
            val = draw_val(labels, args.val_share, args.seed)
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
