"""Sequences in NumPy and CSV files.

A sequence is an array (frames, joints, coordinates) or (persons, frames,
joints, coordinates) in a file .npy or .npz; or a .csv with a row a frame and
columns JOINT_x, JOINT_y and perhaps JOINT_z and JOINT_score for every joint
of a layout. There the columns person and frame tell rows apart, if need be,
and empty cells are joints that were not seen.
"""

import csv
import math
import re
from pathlib import Path

import numpy as np

from ...layouts import SkeletonLayout
from ...utils.npz import MOST_TIMES, read_arrays
from ...utils.pictures import IMAGE_LAYOUTS
from ..conversion import RawFile, make_annotation

#: Endings of the files.
SUFFIXES = ('.csv', '.npy', '.npz')
#: How many numbers a joint are what.
CHANNELS = {'xyz': 3, 'xy': 2, 'xyz+score': 4, 'xy+score': 3}


def read_sequence(
    path: Path,
    name: str,
    label: int,
    layout: SkeletonLayout | None,
    channels: str,
    image_size: tuple[int, int] | None = None,
) -> RawFile:
    """Read one file.

    Args:
        path (Path): The file.
        name (str): Name of the sequence.
        label (int): Its class, from 0.
        layout (SkeletonLayout): Its joints, V; None for any, but in CSV
            files.
        channels (str): What its C numbers a joint are, of :data:`CHANNELS`.
        image_size (tuple[int, int], optional): Width and height in pixels,
            for 2D, and only there. Defaults to None.

    Returns:
        RawFile: One annotation with ``keypoint`` (M, T, V, C), without the
        score, which is its ``keypoint_score`` (M, T, V).

    Raises:
        ValueError: The file is not of this form.
    """
    check_image_size(channels, image_size, path)
    if path.suffix == '.csv':
        values = read_csv(path, layout, channels)
    else:
        values, scored = read_array(path)
        if layout and values.shape[2] != layout.num_joints:
            raise ValueError(
                f'{path}: the array of the shape {values.shape} has '
                f'{values.shape[2]} joints, but the layout {layout.name!r} '
                f'has {layout.num_joints}; expected (persons, frames, joints, '
                'coordinates), or without persons.'
            )
        count, expected = values.shape[3], CHANNELS[channels]
        if count != expected or (scored and not channels.endswith('+score')):
            raise ValueError(
                f'{path}: has {count - scored} numbers a joint'
                f'{" and a keypoint_score" if scored else ""}, expected '
                f'{expected} ({channels}), as the first file has or as was '
                'said. All files need the same.'
            )
    more = {}
    if channels.endswith('+score'):
        more['keypoint_score'] = values[..., -1].astype('float32')
        values = values[..., :-1]
    if image_size:
        more['img_shape'] = (image_size[1], image_size[0])
    return RawFile([make_annotation(name, label, values, **more)])


def check_image_size(
    channels: str, image_size: tuple[int, int] | None, where: str | Path
) -> None:
    """Check that what is in 2D, and only that, comes with an image's size.

    Args:
        channels (str): What the numbers a joint are, of :data:`CHANNELS`.
        image_size (tuple[int, int], optional): Width and height in pixels.
        where (str | Path): What says so, to begin the error's message.

    Raises:
        ValueError: It is not so.
    """
    if channels.startswith('xyz') == bool(image_size):
        raise ValueError(
            f'{where}: {channels} '
            + (
                'is in 3D: leave --image-size out.'
                if image_size
                else 'is in 2D: give --image-size W H.'
            )
        )


def read_array(path: Path) -> tuple[np.ndarray, bool]:
    """Read a .npy or .npz file.

    Returns:
        tuple: Its array (M, T, V, C), and whether the last of C is a score.
    """
    content = read_arrays(path)
    if len(content) == 1:
        content = {'keypoint': content.popitem()[1]}
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
    return values if values.ndim == 4 else values[None], score is not None


def read_csv(path: Path, layout: SkeletonLayout, channels: str) -> np.ndarray:
    """Read a .csv file of named joints as an array (M, T, V, C)."""
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
                if not math.isfinite(frame):
                    raise ValueError(f'frame is {frame}, expected a number')
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
    if len(persons) * len(frames) > MOST_TIMES * len(rows):
        raise ValueError(
            f'{path}: has {len(persons)} persons and {len(frames)} frames in '
            f'{len(rows)} rows, expected a row for each person in most '
            'frames; the columns person and frame may be wrong.'
        )
    frames = {frame: i for i, frame in enumerate(sorted(frames))}
    shape = (len(persons), len(frames), layout.num_joints, len(axes))
    out = np.zeros(shape)
    for (person, frame), row in where.items():
        out[persons[person], frames[frame]] = np.reshape(row, shape[2:])
    return out


def named_joints(path: Path) -> list[str]:
    """Return the joints that the columns of a .csv file name."""
    ends = re.compile('_(x|y|z|score)$')
    columns = [c for c in read_table(path)[0] if ends.search(c)]
    return list(dict.fromkeys(ends.sub('', column) for column in columns))


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
                if row
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


def guess_channels(
    path: Path,
    layout: SkeletonLayout | None,
    image_size: tuple[int, int] | None = None,
) -> str:
    """Say what the numbers a joint are, by one file.

    Raises:
        ValueError: Three numbers may be x, y, z or x, y and a score.
    """
    if path.suffix == '.csv':
        ends = {column.rpartition('_')[2] for column in read_table(path)[0]}
        coords = 'xyz' if 'z' in ends else 'xy'
        return coords + ('+score' if 'score' in ends else '')
    values, scored = read_array(path)
    shape = values.shape
    if shape[3] == 3 and (image_size or scored):
        return 'xy+score'
    if shape[3] == 3 and layout and layout.name in IMAGE_LAYOUTS:
        raise ValueError(
            f'{path}: the array has 3 numbers a joint of layout '
            f'{layout.name!r}: if they are x, y and a score, give '
            '--image-size W H; if x, y and z, convert it by from_arrays '
            '--channels xyz.'
        )
    for channels, count in CHANNELS.items():
        if count == shape[3]:
            return channels
    raise ValueError(
        f'{path}: the array of the shape {shape} has {shape[3]} numbers a '
        'joint, expected 2 to 4.'
    )
