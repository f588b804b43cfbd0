"""Convert the MAMP authors' prepared archives to annotation files, and back.

An archive (NTU60_XSub.npz, NTU120_XSet.npz, PKUv1_XSub.npz and the like) is
one split of a data set: x_train and x_test, (N, 300, 150), are the joints of
two persons, one after the other, zero in absent persons and after the last
frame; y_train and y_test, (N, classes), are one-hot.
"""

import argparse
import lzma
import math
import re
import struct
import sys
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path

NUM_FRAMES, NUM_PERSONS, NUM_JOINTS, NUM_COORDS = 300, 2, 25, 3
ROW_SHAPE = (NUM_FRAMES, NUM_PERSONS * NUM_JOINTS * NUM_COORDS)
# Split of an annotation file for each part of an archive.
PARTS = {'train': '{}_train', 'test': '{}_val'}
CHUNK = 64  # rows that are read at once, 180 kB each
DAMAGES = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    RuntimeError,  # a password or an unknown compression
    UnicodeError,  # a name
)

# From an archive to annotations


class Array:
    """An array of an archive, read some rows at a time.

    Args:
        archive (ZipFile): The archive.
        key (str): The array's name.

    Raises:
        ValueError: It is no array of numbers, row by row, or not as long as
            it says.
    """

    def __init__(self, archive: zipfile.ZipFile, key: str) -> None:
        import numpy as np

        self.where = f'{archive.filename}, {key}'
        info = archive.getinfo(f'{key}.npy')
        self._file = archive.open(info)
        try:
            version = np.lib.format.read_magic(self._file)
            self.shape, by_column, self.dtype = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version](self._file)
        except DAMAGES:
            raise
        except Exception as error:  # what a broken header raises is anything
            why = ' '.join(str(error).split())
            raise ValueError(
                f'{self.where}: is no numpy array of version 1 or 2 ({why}).'
            ) from error
        if by_column:
            raise ValueError(
                f'{self.where}: is stored column by column, so that its rows '
                'cannot be read one after the other; save it again from '
                'numpy.ascontiguousarray.'
            )
        if self.dtype.kind not in 'biuf':
            raise ValueError(
                f'{self.where}: holds {self.dtype}, expected numbers.'
            )
        size = math.prod(self.shape) * self.dtype.itemsize
        found = info.file_size - self._file.tell()
        if found != size:
            raise ValueError(
                f'{self.where}: has {found} bytes of numbers, expected {size} '
                f'for the shape {self.shape} that it declares.'
            )

    def read(self, rows: int):
        """Return the next rows."""
        import numpy as np

        shape = (rows, *self.shape[1:])
        data = self._file.read(math.prod(shape) * self.dtype.itemsize)
        return np.frombuffer(data, self.dtype).reshape(shape)


@contextmanager
def open_archive(path: Path):
    """Yield the four arrays of an archive by name.

    Raises:
        ValueError: The file is damaged or lacks one of them.
        OSError: It cannot be opened.
    """
    wanted = [f'{letter}_{part}' for part in PARTS for letter in 'xy']
    from mamp_mmaction.utils.npz import check_declared

    try:
        with zipfile.ZipFile(path) as archive:
            check_declared(archive)
            found = [name.removesuffix('.npy') for name in archive.namelist()]
            missing = [key for key in wanted if key not in found]
            if missing:
                raise ValueError(
                    f'{path}: lacks {missing} (it has {found[:8]}), expected '
                    f'{wanted}.'
                )
            arrays = {key: Array(archive, key) for key in wanted}
            for part in PARTS:
                _check_shapes(arrays[f'x_{part}'], arrays[f'y_{part}'])
            yield arrays
    except (*DAMAGES, OSError) as error:
        if getattr(error, 'filename', None):  # a file's, not its content's
            raise
        raise ValueError(
            f'{path}: cannot be read as an .npz archive ({error}); it is '
            'truncated, damaged or of another format.'
        ) from error


def _check_shapes(x: Array, y: Array) -> None:
    if len(y.shape) != 2 or not y.shape[1]:
        raise ValueError(
            f'{y.where}: has the shape {y.shape}, expected (samples, classes).'
        )
    expected = (y.shape[0], *ROW_SHAPE)
    if x.shape != expected:
        raise ValueError(
            f'{x.where}: has the shape {x.shape}, expected {expected} (a row '
            f'for each label, {NUM_FRAMES} frames, {NUM_PERSONS} persons x '
            f'{NUM_JOINTS} joints x {NUM_COORDS} coordinates).'
        )
    if x.dtype.kind != 'f' or x.dtype.itemsize < 4:
        raise ValueError(
            f'{x.where}: holds {x.dtype}, expected float32 or float64 '
            '(coarser types have lost the motion between frames).'
        )


def read_labels(array: Array):
    """Return the one-hot labels as numbers (N,).

    Raises:
        ValueError: A row is not one-hot.
    """
    one_hot = array.read(array.shape[0])
    ones, zeros = (one_hot == 1).sum(axis=1), (one_hot == 0).sum(axis=1)
    others = array.shape[1] - 1
    wrong = ((ones != 1) | (zeros != others)).nonzero()[0]
    if len(wrong):
        row = wrong[0]
        raise ValueError(
            f'{array.where}: {len(wrong)} rows are not one-hot; row {row} has '
            f'{ones[row]} ones and {zeros[row]} zeros, expected 1 and '
            f'{others}.'
        )
    return one_hot.argmax(axis=1)


def read_rows(array: Array):
    """Yield rows (300, 150) in float32, and how far each was rounded.

    Raises:
        ValueError: A row holds a number that is none of float32.
    """
    import numpy as np

    count = array.shape[0]
    for begin in range(0, count, CHUNK):
        read = array.read(min(CHUNK, count - begin))
        with np.errstate(over='ignore'):
            values = read.astype(np.float32)
        finite = np.isfinite(values).all(axis=2)
        if not finite.all():
            row, frame = np.argwhere(~finite)[0]
            raise ValueError(
                f'{array.where}: row {begin + row} holds NaN, infinity or a '
                f'number beyond float32 (frame {frame}); expected zeros for '
                'absent joints or persons.'
            )
        if array.dtype.itemsize > values.itemsize:
            changes = np.abs(values - read).max(axis=(1, 2))
        else:
            changes = np.zeros(len(values))
        yield from zip(values, changes)


def trim(row):
    """Take the zeros off that fill a sample up.

    Args:
        row (np.ndarray): A row (300, 150) of an archive, float32.

    Returns:
        np.ndarray: ``keypoint`` (M, T, 25, 3) without the persons after the
        last one, and the frames after the last one, that hold anything; None
        if nothing does.
    """
    shape = (NUM_FRAMES, NUM_PERSONS, NUM_JOINTS, NUM_COORDS)
    if not row.any():
        return None
    # Compared as bits: a negative zero could not be brought back otherwise.
    bits = row.view('u4').reshape(NUM_FRAMES, NUM_PERSONS, -1)
    frames, persons = bits.any(axis=2).nonzero()
    by_person = row.reshape(shape).swapaxes(0, 1)
    return by_person[: persons.max() + 1, : frames.max() + 1].copy()


def to_annotations(src: Path, out: Path, split_name: str | None) -> None:
    """Convert an archive and say what was found.

    Persons who are never seen and frames after the last one with a person are
    not stored, everything else is, bit by bit. The type of the one-hot
    numbers is kept as ``one_hot_dtype``, which the way back needs.

    Raises:
        ValueError: The file is no such archive; names the array, and the row
            where a single one is broken.
        OSError: The file cannot be read.
    """
    from mamp_mmaction.datasets.annotation_file import (
        summarise,
        write_annotations,
    )
    from mamp_mmaction.datasets.conversion import make_annotation
    from mamp_mmaction.datasets.progress import track

    split_name = split_name or derive_split(src)
    split, annotations, num_empty, rounding = {}, [], 0, 0.0
    with open_archive(src) as arrays:
        widths = {part: arrays[f'y_{part}'].shape[1] for part in PARTS}
        if widths['train'] != widths['test']:
            raise ValueError(
                f'{src}: y_train has {widths["train"]} columns, y_test '
                f'{widths["test"]}; expected one a class in both.'
            )
        for part, form in PARTS.items():
            names = split[form.format(split_name)] = []
            y = arrays[f'y_{part}']
            labels = read_labels(y).tolist()
            rows = track(read_rows(arrays[f'x_{part}']), len(labels))
            for number, (label, (row, change)) in enumerate(zip(labels, rows)):
                name = f'{part}_{number:06}'
                rounding = max(rounding, change)
                keypoint = trim(row)
                if keypoint is None:
                    print(f'left out, all zero: {name}', file=sys.stderr)
                    num_empty += 1
                    continue
                names.append(name)
                sample = make_annotation(
                    name, label, keypoint, one_hot_dtype=y.dtype.str
                )
                annotations.append(sample)
    if not annotations:
        raise ValueError(f'{src}: no sample holds anything but zeros.')
    classes = [f'A{number + 1:03}' for number in range(widths['train'])]
    write_annotations(out, split, annotations, classes)
    print(summarise(split, annotations))
    print(f'left out, all zero    {num_empty}')
    if rounding:
        print(
            f'rounded to float32    by at most {rounding:.2g} of the unit of '
            'the coordinates; an archive that is written from this holds '
            'float32'
        )


# From annotations to an archive


def count_classes(content: dict) -> int:
    """Return the number of class names, else the highest label plus 1."""
    if content.get('classes') is not None:
        return len(content['classes'])
    labels = [sample.get('label') for sample in content['annotations']]
    return 1 + max((int(v) for v in labels if hasattr(v, 'real')), default=-1)


def one_hot_type(src: Path, samples: list[dict]):
    """Return the type that the samples' archive had, else float64."""
    import numpy as np

    types = {sample.get('one_hot_dtype') for sample in samples} - {None}
    try:
        (dtype,) = {np.dtype(name) for name in types or {'f8'}}
    except (TypeError, ValueError):
        raise ValueError(
            f'{src}: one_hot_dtype is {sorted(map(str, types))}, expected '
            'one type, such as float64, for a split.'
        ) from None
    return dtype


def write_part(archive: zipfile.ZipFile, name: str, samples, one_hot) -> None:
    """Write the coordinates and labels of one part into an archive.

    Args:
        archive (ZipFile): The archive.
        name (str): ``'train'`` or ``'test'``.
        samples (list[dict]): Annotations; of longer ones the first 300
            frames, of more persons the first two are written.
        one_hot (np.ndarray): The labels (N, classes).
    """
    import numpy as np

    from mamp_mmaction.datasets.progress import track

    shape = (NUM_FRAMES, NUM_PERSONS, NUM_JOINTS, NUM_COORDS)
    header = {
        'descr': np.lib.format.dtype_to_descr(np.dtype(np.float32)),
        'fortran_order': False,
        'shape': (len(samples), *ROW_SHAPE),
    }
    with archive.open(f'x_{name}.npy', 'w', force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for sample in track(samples, len(samples)):
            row = np.zeros(shape, np.float32)
            kept = sample['keypoint'][:NUM_PERSONS, :NUM_FRAMES].swapaxes(0, 1)
            row[: kept.shape[0], : kept.shape[1]] = kept
            file.write(row)
    with archive.open(f'y_{name}.npy', 'w', force_zip64=True) as file:
        np.lib.format.write_array(file, one_hot, allow_pickle=False)


def to_npz(src: Path, out: Path, split_name: str | None, cut: bool) -> None:
    """Write an archive and say what it holds.

    Raises:
        ValueError: The file is no annotation file with both splits, or a
            sample does not fit into an archive by more than frames or
            persons that are too many, or by those, without ``cut``.
        OSError: A file cannot be read or written.
    """
    import numpy as np

    from mamp_mmaction.datasets.annotation_file import (
        check_annotation,
        read_annotations,
        select_split,
    )
    from mamp_mmaction.datasets.sample_name import sample_name
    from mamp_mmaction.utils import written_whole

    split_name = split_name or derive_split(out)
    content = read_annotations(src)
    if isinstance(content, list):
        raise ValueError(
            f"{src}: is a list without splits, expected a dict with 'split' "
            "and 'annotations'."
        )
    where = f'{src} (--split {split_name})'
    parts = {
        part: select_split(content, form.format(split_name), where)
        for part, form in PARTS.items()
    }
    num_classes = count_classes(content)
    used = [sample for part in parts.values() for sample in part]
    for sample in used:
        sample_where = f'{src}: {sample_name(sample)}'
        check_annotation(sample, sample_where, num_classes)
        keypoint = sample['keypoint']
        if keypoint.shape[2:] != (NUM_JOINTS, NUM_COORDS):
            raise ValueError(
                f'{sample_where}: keypoint has the shape {keypoint.shape}, '
                f'expected (persons, frames, {NUM_JOINTS} joints, '
                f'{NUM_COORDS} coordinates).'
            )
        if keypoint.dtype.kind != 'f':
            raise ValueError(
                f'{sample_where}: keypoint is {keypoint.dtype}, expected '
                'floating-point numbers.'
            )
    persons, frames = (
        sum(sample['keypoint'].shape[axis] > most for sample in used)
        for axis, most in enumerate((NUM_PERSONS, NUM_FRAMES))
    )
    told = (
        f'more than {NUM_FRAMES} frames in {frames} samples, more than '
        f'{NUM_PERSONS} persons in {persons} samples'
    )
    if (persons or frames) and not cut:
        raise ValueError(
            f'{src}: holds {told}, which an archive cannot. Give --cut to '
            'leave the frames or persons out that are too many.'
        )
    one_hot = {
        part: np.eye(num_classes, dtype=one_hot_type(src, samples))[
            [int(sample['label']) for sample in samples]
        ]
        for part, samples in parts.items()
    }
    with written_whole(out) as path, zipfile.ZipFile(path, 'w') as archive:
        for part, samples in parts.items():
            write_part(archive, part, samples, one_hot[part])
    for part, labels in one_hot.items():
        print(f'x_{part:<8}{(len(labels), *ROW_SHAPE)} float32')
        print(f'y_{part:<8}{labels.shape} {labels.dtype}')
    unused = len(content['annotations']) - len(used)
    print(f'not used  {unused} annotations in neither split')
    print(f'cut       {told if cut else "nothing"}')


# The command


def derive_split(path: Path) -> str:
    """Return ``xsub``, ``xview`` or ``xset`` from an archive's name.

    Raises:
        ValueError: The name holds none of them, or two.
    """
    found = set(re.findall('xsub|xview|xset', path.stem.lower()))
    if len(found) != 1:
        raise ValueError(
            f'{path}: its name says not which split it is (XSub, XView or '
            'XSet); give --split, such as --split xsub for xsub_train and '
            'xsub_val.'
        )
    return found.pop()


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
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
    for command, src, out in ((forth, '.npz', '.pkl'), (back, '.pkl', '.npz')):
        command.set_defaults(suffix=out)
        command.add_argument('src', type=Path, help=f'file to read ({src})')
        command.add_argument('out', type=Path, help=f'file to write ({out})')
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
    args = parser.parse_args(argv)
    if args.out.suffix != args.suffix:
        parser.error(f'{args.out} does not end in {args.suffix}')
    return args


def main(argv=None) -> None:
    """Convert in either direction."""
    args = parse_args(argv)
    from mamp_mmaction.utils import errors_as_one_line
    from mamp_mmaction.utils.atomic import check_writable

    with errors_as_one_line():
        check_writable(args.out)
        if args.command == 'to-annotations':
            to_annotations(args.src, args.out, args.split)
        else:
            to_npz(args.src, args.out, args.split, args.cut)
        print(f'Written to {args.out}')


if __name__ == '__main__':
    main()
