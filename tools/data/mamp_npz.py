"""Convert the MAMP authors' prepared archives to annotation files, and back.

An archive (``NTU60_XSub.npz``, ``NTU120_XSet.npz``, ``PKUv1_XSub.npz`` and
the like) is one split of a data set: ``x_train`` and ``x_test``, (N, 300,
150), are the joints of two persons, one after the other, zero in absent
persons and after the last frame; ``y_train`` and ``y_test``, (N, classes),
are one-hot.
"""

import argparse
import os
import re
import sys
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mamp_mmaction.datasets.annotation_file import (
    read_annotations,
    summarise,
    write_annotations,
)
from mamp_mmaction.datasets.progress import Progress
from mamp_mmaction.layouts import get_layout

NUM_FRAMES, NUM_PERSONS, NUM_COORDS = 300, 2, 3
NUM_JOINTS = get_layout('nturgb+d').num_joints
ROW_SHAPE = (NUM_FRAMES, NUM_PERSONS * NUM_JOINTS * NUM_COORDS)
# Split of an annotation file for each part of an archive.
PARTS = {'train': '{}_train', 'test': '{}_val'}
SPLIT_IN_NAME = re.compile('xsub|xview|xset', re.IGNORECASE)
# Rows that are read or written at once: 180 kB each.
CHUNK = 64

# ---------------------------------------------------------------------------
# From an archive to annotations
# ---------------------------------------------------------------------------


@dataclass
class Converted:
    """What an archive holds, in the annotation format.

    Attributes:
        split (dict[str, list[str]]): Names by split.
        annotations (list[dict]): Samples in the order of the archive. A name
            is the part and the row, such as ``test_000012``.
        classes (list[str]): Names of the classes, counted from 1.
        empty (list[str]): Names of samples left out since all of them is 0.
        rounding (float): The largest change by rounding to float32.
    """

    split: dict[str, list[str]]
    annotations: list[dict]
    classes: list[str]
    empty: list[str]
    rounding: float


def from_archive(src: Path, split_name: str) -> Converted:
    """Convert an archive.

    Persons who are never seen and frames after the last one with a person are
    not stored, everything else is, bit by bit. The coordinates are read a few
    rows at a time.

    Args:
        src (Path): The archive.
        split_name (str): What the names of the two splits begin with.

    Returns:
        Converted: Annotations with ``keypoint`` (M, T, 25, 3), and the type
        of the one-hot numbers as ``one_hot_dtype``, which the way back needs.

    Raises:
        ValueError: The file is no such archive; names the array, and the row
            where a single one is broken.
        OSError: The file cannot be read.
    """
    with _open_archive(src) as archive:
        labels = {part: _read_labels(archive, part) for part in PARTS}
        widths = {part: array.shape[1] for part, array in labels.items()}
        if len(set(widths.values())) > 1:
            raise ValueError(
                f'{src}: y_train has {widths["train"]} columns, y_test '
                f'{widths["test"]}; expected one a class in both.'
            )
        num_classes = widths['train']
        converted = Converted(
            split={form.format(split_name): [] for form in PARTS.values()},
            annotations=[],
            classes=[f'A{number + 1:03}' for number in range(num_classes)],
            empty=[],
            rounding=0.0,
        )
        progress = Progress(sum(map(len, labels.values())))
        try:
            for part, one_hot in labels.items():
                names = converted.split[PARTS[part].format(split_name)]
                _convert_part(
                    archive, part, one_hot, names, converted, progress
                )
        finally:
            progress.close()
    return converted


def _convert_part(
    archive: zipfile.ZipFile,
    part: str,
    one_hot: np.ndarray,
    names: list[str],
    converted: Converted,
    progress: Progress,
) -> None:
    """Add one part's samples to ``names`` and ``converted``."""
    labels = one_hot.argmax(axis=1).tolist()
    row = 0
    for values, rounding in _read_rows(archive, f'x_{part}', len(labels)):
        converted.rounding = max(converted.rounding, rounding)
        for sample in values:
            name = f'{part}_{row:06}'
            if sample.any():
                keypoint = trim(sample)
                names.append(name)
                converted.annotations.append(
                    {
                        'frame_dir': name,
                        'label': labels[row],
                        'total_frames': keypoint.shape[1],
                        'keypoint': keypoint,
                        'one_hot_dtype': one_hot.dtype.str,
                    }
                )
            else:
                converted.empty.append(name)
            row += 1
            progress.update()


def trim(sample: np.ndarray) -> np.ndarray:
    """Take the zeros off that fill a sample up.

    Args:
        sample (np.ndarray): A row (300, 150) of an archive, float32.

    Returns:
        np.ndarray: ``keypoint`` (M, T, 25, 3) without the persons after the
        last one, and the frames after the last one, that hold anything.
    """
    # Compared as bits: a negative zero could not be brought back otherwise.
    bits = sample.view(np.uint32).reshape(NUM_FRAMES, NUM_PERSONS, -1)
    frames, persons = np.nonzero(bits.any(axis=2))
    by_person = sample.reshape(
        NUM_FRAMES, NUM_PERSONS, NUM_JOINTS, NUM_COORDS
    ).swapaxes(0, 1)
    return by_person[: persons.max() + 1, : frames.max() + 1].copy()


@contextmanager
def _open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive that has all four arrays."""
    wanted = [f'{letter}_{part}' for part in PARTS for letter in 'xy']
    try:
        with zipfile.ZipFile(path) as archive:
            found = [name.removesuffix('.npy') for name in archive.namelist()]
            missing = [key for key in wanted if key not in found]
            if missing:
                raise ValueError(
                    f'{path}: lacks {missing} (it has {found[:8]}), expected '
                    f'{wanted}.'
                )
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(
            f'{path}: cannot be read as an .npz archive ({error}); it is '
            'truncated, damaged or of another format.'
        ) from error


@contextmanager
def _open_array(
    archive: zipfile.ZipFile, key: str
) -> Iterator[tuple[zipfile.ZipExtFile, tuple, np.dtype]]:
    """Yield an array's file at its first number, its shape and its type."""
    with archive.open(f'{key}.npy') as file:
        try:
            version = np.lib.format.read_magic(file)
            read_header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, fortran_order, dtype = read_header(file)
        except (ValueError, KeyError) as error:
            raise ValueError(
                f'{archive.filename}, {key}: is no numpy array of version 1 '
                f'or 2 ({error}).'
            ) from error
        if fortran_order:
            raise ValueError(
                f'{archive.filename}, {key}: is stored column by column, so '
                'that its rows cannot be read one after the other; save it '
                'again from numpy.ascontiguousarray.'
            )
        if dtype.kind not in 'biuf':
            raise ValueError(
                f'{archive.filename}, {key}: holds {dtype}, expected numbers.'
            )
        yield file, shape, dtype


def _read_labels(archive: zipfile.ZipFile, part: str) -> np.ndarray:
    """Read the one-hot labels (N, classes) of a part and check them."""
    key = f'y_{part}'
    where = f'{archive.filename}, {key}'
    with _open_array(archive, key) as (file, shape, dtype):
        if len(shape) != 2 or not shape[1]:
            raise ValueError(
                f'{where}: has the shape {shape}, expected (samples, classes).'
            )
        labels = _read_values(file, shape, dtype, where)
    ones = np.count_nonzero(labels == 1, axis=1)
    zeros = np.count_nonzero(labels == 0, axis=1)
    wrong = np.flatnonzero((ones != 1) | (zeros != shape[1] - 1))
    if len(wrong):
        row = wrong[0]
        raise ValueError(
            f'{where}: {len(wrong)} rows are not one-hot; row {row} has '
            f'{ones[row]} ones and {zeros[row]} zeros, expected 1 and '
            f'{shape[1] - 1}.'
        )
    return labels


def _read_rows(
    archive: zipfile.ZipFile, key: str, count: int
) -> Iterator[tuple[np.ndarray, float]]:
    """Yield rows (n, 300, 150) in float32, and how far they were rounded."""
    where = f'{archive.filename}, {key}'
    expected = (count, *ROW_SHAPE)
    with _open_array(archive, key) as (file, shape, dtype):
        if shape != expected:
            raise ValueError(
                f'{where}: has the shape {shape}, expected {expected} (a row '
                f'for each label, {NUM_FRAMES} frames, {NUM_PERSONS} persons '
                f'x {NUM_JOINTS} joints x {NUM_COORDS} coordinates).'
            )
        if dtype.kind != 'f' or dtype.itemsize < 4:
            raise ValueError(
                f'{where}: holds {dtype}, expected float32 or float64 '
                '(coarser types have lost the motion between frames).'
            )
        for begin in range(0, count, CHUNK):
            rows = min(CHUNK, count - begin)
            read = _read_values(file, (rows, *ROW_SHAPE), dtype, where)
            with np.errstate(over='ignore'):
                values = read.astype(np.float32)
            finite = np.isfinite(values).all(axis=2)
            if not finite.all():
                row, frame = np.argwhere(~finite)[0]
                raise ValueError(
                    f'{where}: row {begin + row} holds NaN, infinity or a '
                    f'number beyond float32 (frame {frame}); expected zeros '
                    'for absent joints or persons.'
                )
            rounded = dtype.itemsize > values.itemsize
            yield values, np.abs(values - read).max() if rounded else 0.0


def _read_values(
    file: zipfile.ZipExtFile, shape: tuple, dtype: np.dtype, where: str
) -> np.ndarray:
    """Read the next numbers of an array."""
    size = int(np.prod(shape)) * dtype.itemsize
    data = file.read(size)
    if len(data) != size:
        raise ValueError(
            f'{where}: ends early, {size - len(data)} bytes are missing.'
        )
    return np.frombuffer(data, dtype).reshape(shape)


# ---------------------------------------------------------------------------
# From annotations to an archive
# ---------------------------------------------------------------------------


@dataclass
class Part:
    """The samples of ``x_train`` and ``y_train``, or of the others.

    Attributes:
        samples (list[dict]): Annotations.
        one_hot_dtype (np.dtype): Type of the one-hot labels.
        cut (Counter): Samples that have more than an archive holds, by what.
    """

    samples: list[dict]
    one_hot_dtype: np.dtype
    cut: Counter


def read_splits(src: Path) -> dict:
    """Read an annotation file that has splits and annotations.

    Raises:
        ValueError: It is of another form.
    """
    content = read_annotations(src)
    if isinstance(content, list):
        raise ValueError(
            f'{src}: is a list of annotations without splits, expected a dict '
            "with 'split' and 'annotations'."
        )
    for index, sample in enumerate(content['annotations']):
        if not isinstance(sample, dict):
            raise ValueError(
                f'{src}: annotation {index} is a {type(sample).__name__}, '
                'expected a dict.'
            )
    return content


def select_parts(
    src: Path, content: dict, split_name: str, num_classes: int
) -> dict[str, Part]:
    """Take the two splits of an annotation file and check their samples.

    Args:
        src (Path): The file, for messages.
        content (dict): What the file holds.
        split_name (str): What the names of the two splits begin with.
        num_classes (int): Labels are below it.

    Returns:
        dict[str, Part]: The parts, samples in the order of the annotations.

    Raises:
        ValueError: A split is missing, a name in it has not exactly one
            annotation, or a sample does not fit into an archive. Too many
            frames or persons are counted instead.
    """
    parts = {}
    annotations = content['annotations']
    count = Counter(sample.get('frame_dir') for sample in annotations)
    for part, form in PARTS.items():
        name = form.format(split_name)
        if name not in content['split']:
            raise ValueError(
                f'{src}: has no split {name!r}; it has '
                f'{sorted(content["split"])}. Give --split, what the names '
                'of two of them begin with.'
            )
        wanted = set(content['split'][name])
        for member in content['split'][name]:
            if count[member] != 1:
                raise ValueError(
                    f'{src}: split {name!r} names {member!r}, which has '
                    f'{count[member]} annotations, expected 1.'
                )
        samples = [s for s in annotations if s.get('frame_dir') in wanted]
        cut = Counter()
        for sample in samples:
            _check_sample(src, sample, num_classes)
            persons, frames = sample['keypoint'].shape[:2]
            cut[f'more than {NUM_FRAMES} frames'] += frames > NUM_FRAMES
            cut[f'more than {NUM_PERSONS} persons'] += persons > NUM_PERSONS
        parts[part] = Part(samples, _one_hot_dtype(src, samples), +cut)
    return parts


def _check_sample(src: Path, sample: dict, num_classes: int) -> None:
    """Raise ValueError unless an archive can hold a sample."""
    where = f'{src}: sample {sample["frame_dir"]!r}'
    keypoint = sample.get('keypoint')
    expected = (NUM_JOINTS, NUM_COORDS)
    shape = getattr(keypoint, 'shape', None)
    if shape is None or len(shape) != 4 or shape[2:] != expected:
        raise ValueError(
            f'{where}: keypoint has the shape {shape}, expected (persons, '
            f'frames, {NUM_JOINTS} joints, {NUM_COORDS} coordinates).'
        )
    if keypoint.dtype.kind != 'f' or not np.isfinite(keypoint).all():
        raise ValueError(
            f'{where}: keypoint is {keypoint.dtype}, perhaps with NaN or '
            'infinity; expected finite floating-point numbers.'
        )
    label = sample.get('label')
    if not isinstance(label, (int, np.integer)) or not (
        0 <= label < num_classes
    ):
        raise ValueError(
            f'{where}: label is {label!r}, expected 0 to {num_classes - 1}.'
        )


def _one_hot_dtype(src: Path, samples: Sequence[dict]) -> np.dtype:
    """Return the type that the samples' archive had, else float64."""
    types = {sample.get('one_hot_dtype') for sample in samples} - {None}
    if not types:
        return np.dtype(np.float64)
    try:
        (dtype,) = {np.dtype(name) for name in types}
    except (TypeError, ValueError):
        raise ValueError(
            f'{src}: one_hot_dtype is {sorted(map(str, types))}, expected '
            'one type, such as float64, for a split.'
        ) from None
    return dtype


def count_classes(content: dict) -> int:
    """Return the number of class names, else the highest label plus 1."""
    if content.get('classes') is not None:
        return len(content['classes'])
    labels = [sample.get('label') for sample in content['annotations']]
    known = [v for v in labels if isinstance(v, (int, np.integer))]
    return int(max(known, default=-1)) + 1


def write_archive(out: Path, parts: dict[str, Part], num_classes: int) -> None:
    """Write an archive; on failure nothing is left under its name.

    Args:
        out (Path): The archive. A missing folder is created.
        parts (dict[str, Part]): What it is to hold; of longer samples the
            first 300 frames, of more persons the first two.
        num_classes (int): Columns of the labels.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f'.{out.name}.{os.getpid()}.tmp')
    total = sum(len(part.samples) for part in parts.values())
    progress = Progress(total)
    try:
        with zipfile.ZipFile(temporary, 'w') as archive:
            for name, part in parts.items():
                _write_coordinates(archive, name, part.samples, progress)
                _write_labels(archive, name, part, num_classes)
        os.replace(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)
        progress.close()


def _write_coordinates(
    archive: zipfile.ZipFile,
    name: str,
    samples: Sequence[dict],
    progress: Progress,
) -> None:
    header = {
        'descr': np.lib.format.dtype_to_descr(np.dtype(np.float32)),
        'fortran_order': False,
        'shape': (len(samples), *ROW_SHAPE),
    }
    with archive.open(f'x_{name}.npy', 'w', force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for sample in samples:
            file.write(fill(sample['keypoint']))
            progress.update()


def fill(keypoint: np.ndarray) -> np.ndarray:
    """Fill a sample up with zeros.

    Args:
        keypoint (np.ndarray): Shape (M, T, 25, 3).

    Returns:
        np.ndarray: A row (300, 150) of an archive, float32, with what of the
        sample it can hold.
    """
    row = np.zeros(
        (NUM_FRAMES, NUM_PERSONS, NUM_JOINTS, NUM_COORDS), np.float32
    )
    kept = keypoint[:NUM_PERSONS, :NUM_FRAMES].swapaxes(0, 1)
    row[: kept.shape[0], : kept.shape[1]] = kept
    return row.reshape(ROW_SHAPE)


def _write_labels(
    archive: zipfile.ZipFile, name: str, part: Part, num_classes: int
) -> None:
    one_hot = np.zeros((len(part.samples), num_classes), part.one_hot_dtype)
    for row, sample in zip(one_hot, part.samples):
        row[sample['label']] = 1
    with archive.open(f'y_{name}.npy', 'w', force_zip64=True) as file:
        np.lib.format.write_array(file, one_hot, allow_pickle=False)


# ---------------------------------------------------------------------------
# The command
# ---------------------------------------------------------------------------


def derive_split(path: Path) -> str:
    """Return ``xsub``, ``xview`` or ``xset`` from an archive's name.

    Raises:
        ValueError: The name holds none of them, or two.
    """
    found = {match.lower() for match in SPLIT_IN_NAME.findall(path.stem)}
    if len(found) != 1:
        raise ValueError(
            f'{path}: its name says not which split it is (XSub, XView or '
            'XSet); give --split, such as --split xsub for xsub_train and '
            'xsub_val.'
        )
    return found.pop()


def to_annotations(src: Path, out: Path, split_name: str | None) -> None:
    """Convert an archive and say what was found."""
    found = from_archive(src, split_name or derive_split(src))
    for name in found.empty:
        print(f'left out, all zero: {name}', file=sys.stderr)
    if not found.annotations:
        raise ValueError(f'{src}: no sample holds anything but zeros.')
    write_annotations(out, found.split, found.annotations, found.classes)
    print(summarise(found.split, found.annotations))
    print(f'left out              {len(found.empty)} all zero')
    if found.rounding:
        print(
            'rounded to float32    by at most '
            f'{found.rounding:.2g} of the unit of the coordinates; an '
            'archive that is written from this holds float32'
        )


def to_npz(src: Path, out: Path, split_name: str | None, cut: bool) -> None:
    """Write an archive and say what it holds."""
    split_name = split_name or derive_split(out)
    content = read_splits(src)
    num_classes = count_classes(content)
    parts = select_parts(src, content, split_name, num_classes)
    too_large = sum((part.cut for part in parts.values()), Counter())
    told = ', '.join(f'{what} in {n} samples' for what, n in too_large.items())
    if told and not cut:
        raise ValueError(
            f'{src}: holds {told}, which an archive cannot. Give --cut to '
            'leave the frames or persons out that are too many.'
        )
    write_archive(out, parts, num_classes)
    for name, part in parts.items():
        shape = (len(part.samples), *ROW_SHAPE)
        print(f'x_{name:<8}{shape} float32')
        shape = (len(part.samples), num_classes)
        print(f'y_{name:<8}{shape} {part.one_hot_dtype}')
    used = sum(len(part.samples) for part in parts.values())
    unused = len(content['annotations']) - used
    print(f'not used  {unused} annotations in neither split')
    print(f'cut       {told or "nothing"}')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=(
            "Convert the MAMP authors' prepared archives (NTU60_XSub.npz, "
            'NTU120_XSet.npz, PKUv1_XSub.npz and the like) to annotation '
            'files, and back.'
        )
    )
    commands = parser.add_subparsers(dest='command', required=True)
    forth = commands.add_parser(
        'to-annotations',
        help='from an archive to an annotation file',
        description=(
            'Write the samples of an archive, in its order, as the splits '
            '..._train and ..._val. A sample is named for its row '
            '(train_000000), a class for its number (A001). The zeros that '
            'fill samples up are left out, and samples that are all zero, '
            'which nothing can be learnt from, are left out and named. All '
            'other numbers stay as they are: to-npz brings the archive back '
            'bit by bit.'
        ),
    )
    back = commands.add_parser(
        'to-npz',
        help='from an annotation file to an archive',
        description=(
            'Write the splits ..._train and ..._val of an annotation file '
            f'with {NUM_JOINTS} joints in 3D as an archive. Absent persons '
            'are zeros: a single person is not held twice, as in archives of '
            'NTU-120, unless the annotation holds it twice.'
        ),
    )
    for command, src, out in (
        (forth, '.npz', '.pkl'),
        (back, '.pkl', '.npz'),
    ):
        command.add_argument('src', type=Path, help=f'file to read ({src})')
        command.add_argument(
            'out', type=_file(out), help=f'file to write ({out})'
        )
        command.add_argument(
            '--split',
            metavar='NAME',
            help='what the names of the two splits begin with, such as xsub; '
            "by default what the archive's name says: XSub, XView or XSet",
        )
    back.add_argument(
        '--cut',
        action='store_true',
        help=f'keep the first {NUM_FRAMES} frames and {NUM_PERSONS} persons '
        'of samples that have more, instead of stopping',
    )
    return parser.parse_args(argv)


def _file(suffix: str):
    def path(text: str) -> Path:
        if not text.endswith(suffix):
            raise argparse.ArgumentTypeError(
                f'{text!r} does not end in {suffix}'
            )
        return Path(text)

    return path


def main(argv: Sequence[str] | None = None) -> None:
    """Convert in either direction."""
    args = parse_args(argv)
    try:
        if args.command == 'to-annotations':
            to_annotations(args.src, args.out, args.split)
        else:
            to_npz(args.src, args.out, args.split, args.cut)
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')
    print(f'Written to {args.out}')


if __name__ == '__main__':
    main()
