"""Convert raw PKU-MMD skeletons to the toolbox's annotation format.

The release has a folder ``skeleton`` with a text file a video, a line a frame
of 150 numbers (two persons x 25 joints x xyz, zero where a person is absent);
a folder ``label`` with files of the same names, a line
``class,start,end,confidence`` an action instance; and files that say which
videos are for training.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mamp_mmaction.datasets.annotation_file import (
    summarise,
    write_annotations,
)
from mamp_mmaction.datasets.conversion import add_reading_options, read_files
from mamp_mmaction.layouts import get_layout

NUM_PERSONS = 2
NUM_JOINTS = get_layout('nturgb+d').num_joints
FRAME_COLUMNS = NUM_PERSONS * NUM_JOINTS * 3
LABEL_COLUMNS = ('class', 'start', 'end', 'confidence')
MAX_FRAMES = 300  # of an instance; those after them are cut off
SPLITS = {'xsub': 'cross_subject', 'xview': 'cross_view'}

CLASSES = (
    'bow',
    'brushing hair',
    'brushing teeth',
    'check time (from watch)',
    'cheer up',
    'clapping',
    'cross hands in front (say stop)',
    'drink water',
    'drop',
    'eat meal/snack',
    'falling',
    'giving something to other person',
    'hand waving',
    'handshaking',
    'hopping (one foot jumping)',
    'hugging other person',
    'jump up',
    'kicking other person',
    'kicking something',
    'make a phone call/answer phone',
    'pat on back of other person',
    'pickup',
    'playing with phone/tablet',
    'point finger at the other person',
    'pointing to something with finger',
    'punching/slapping other person',
    'pushing other person',
    'put on a hat/cap',
    'put something inside pocket',
    'reading',
    'rub two hands together',
    'salute',
    'sitting down',
    'standing up',
    'take off a hat/cap',
    'take off glasses',
    'take off jacket',
    'take out something from pocket',
    'taking a selfie',
    'tear up paper',
    'throw',
    'touch back (backache)',
    'touch chest (stomachache/heart pain)',
    'touch head (headache)',
    'touch neck (neckache)',
    'typing on a keyboard',
    'use a fan (with hand or paper)/feeling warm',
    'wear jacket',
    'wear on glasses',
    'wipe face',
    'writing',
)

# ---------------------------------------------------------------------------
# Reading a video
# ---------------------------------------------------------------------------


class Instance(NamedTuple):
    """One line of a label file.

    Attributes:
        row (int): Its number among the file's lines, from 1.
        action (int): The class, from 1.
        start (int): The first frame, from 0.
        end (int): The frame after the last.
    """

    row: int
    action: int
    start: int
    end: int


@dataclass
class Video:
    """What one video gives.

    Attributes:
        name (str): Its name.
        annotations (list[dict]): Its instances, ``keypoint`` (M, T, 25, 3).
        faults (list[str]): Messages on broken instances.
        empty (list[str]): Names of instances in which nobody is present.
        cut (int): Number of instances cut to 300 frames.
    """

    name: str
    annotations: list = field(default_factory=list)
    faults: list = field(default_factory=list)
    empty: list = field(default_factory=list)
    cut: int = 0


def read_video(name: str, raw_dir: Path, strict: bool = False) -> Video:
    """Read the action instances of one video.

    Instances are named after the video and the line of the label file,
    ``0002-L_001`` being the first of ``0002-L``. A person who is absent from
    all frames of an instance is not stored, so that M is 1 or 2.

    Args:
        name (str): The video, a file in ``skeleton`` or ``label``.
        raw_dir (Path): The folder of the release.
        strict (bool): Whether a broken instance breaks the video rather than
            being left out. Defaults to False.

    Raises:
        ValueError: A file is not of the release's form, or, with ``strict``,
            an instance is broken; names file and line.
        OSError: A file is missing.
    """
    labels = raw_dir / 'label' / f'{name}.txt'
    lines = _read_lines(labels)
    frames = read_frames(raw_dir / 'skeleton' / f'{name}.txt')
    video = Video(name)
    for row, line in enumerate(lines, start=1):
        try:
            instance = parse_instance(row, line, len(frames))
        except ValueError as error:
            fault = f'{labels}, line {row}: {line[:60]!r}, {error}.'
            if strict:
                raise ValueError(fault) from None
            video.faults.append(fault)
            continue
        _add_instance(video, instance, frames)
    return video


def _add_instance(
    video: Video, instance: Instance, frames: np.ndarray
) -> None:
    """Append an instance of the frames (n, 2, 25, 3) to a video."""
    name = f'{video.name}_{instance.row:03}'
    end = min(instance.end, instance.start + MAX_FRAMES)
    persons = frames[instance.start : end].swapaxes(0, 1)
    persons = persons[persons.any(axis=(1, 2, 3))]
    if not len(persons):
        video.empty.append(name)
        return
    video.cut += end < instance.end
    video.annotations.append(
        {
            'frame_dir': name,
            'label': instance.action - 1,
            'total_frames': persons.shape[1],
            'keypoint': np.ascontiguousarray(persons),
        }
    )


def parse_instance(row: int, line: str, num_frames: int) -> Instance:
    """Read a line of a label file.

    Raises:
        ValueError: Says what was expected instead.
    """
    try:
        *whole, confidence = line.split(',')
        action, start, end = map(int, whole)
        float(confidence)
    except ValueError:
        raise ValueError(
            f'expected {",".join(LABEL_COLUMNS)}, the first three whole '
            'numbers'
        ) from None
    if not 1 <= action <= len(CLASSES):
        raise ValueError(f'expected a class from 1 to {len(CLASSES)}')
    if not 0 <= start < end <= num_frames:
        raise ValueError(
            f'expected 0 <= start < end <= {num_frames}, the frames of the '
            'skeleton file'
        )
    return Instance(row, action, start, end)


def read_frames(path: Path) -> np.ndarray:
    """Read the positions (n, 2, 25, 3), float32, of one file.

    Raises:
        ValueError: Names the first line that does not hold 150 finite
            numbers.
        OSError: There is no such file.
    """
    lines = _read_lines(path)
    try:
        frames = _parse(lines)
    except ValueError:
        fault = next(i for i, line in enumerate(lines) if not _parses(line))
        raise ValueError(
            f'{path}, line {fault + 1}: {lines[fault][:60]!r} ... '
            f'({len(lines[fault].split())} values), expected '
            f'{FRAME_COLUMNS} finite numbers.'
        ) from None
    return frames.reshape(-1, NUM_PERSONS, NUM_JOINTS, 3)


def _parse(lines: Sequence[str]) -> np.ndarray:
    values = np.loadtxt(lines, dtype=np.float32, comments=None, ndmin=2)
    # A blank line is passed over by loadtxt, which would shift the frames.
    if values.shape != (len(lines), FRAME_COLUMNS):
        raise ValueError('other columns, or blank lines')
    if not np.isfinite(values).all():
        raise ValueError('not finite')
    return values


def _parses(line: str) -> bool:
    try:
        return bool(line.strip()) and bool(len(_parse([line])))
    except ValueError:
        return False


def _read_lines(path: Path) -> list[str]:
    """Return a file's lines without blank ones at its end.

    Raises:
        ValueError: There are none.
    """
    text = path.read_bytes().decode('ascii', errors='replace').rstrip()
    if not text:
        raise ValueError(f'{path}: is empty.')
    return text.splitlines()


# ---------------------------------------------------------------------------
# The data set
# ---------------------------------------------------------------------------


def find_split(raw_dir: Path, kind: str, phase: int) -> Path:
    """Find the file of a split in either spelling.

    Args:
        raw_dir (Path): The folder of the release; the file is there or in its
            folder ``split``.
        kind (str): ``'cross_subject'`` or ``'cross_view'``.
        phase (int): 1 or 2.

    Raises:
        ValueError: There is none, or there are several.
    """
    name = f'{kind}{"_v2" if phase == 2 else ""}.txt'
    found = [
        path
        for folder in (raw_dir, raw_dir / 'split')
        for path in sorted(folder.glob('*.txt'))
        if path.name.replace('-', '_') == name
    ]
    if len(found) != 1:
        raise ValueError(
            f'{raw_dir}: expected one file {name} or {name.replace("_", "-")} '
            f'there or in its folder split, found {len(found)}'
            f'{": " if found else ""}{", ".join(map(str, found))}.'
        )
    return found[0]


def read_split(path: Path) -> frozenset:
    """Return the names of the training videos.

    The file has a heading, the training videos on one line separated by
    commas, a heading, and the validation videos likewise. Whatever is not a
    training video counts as validation, so the latter are only checked.

    Raises:
        ValueError: The file is of another form, or a video is in both parts.
    """
    text = path.read_bytes().decode('ascii', errors='replace')
    lines = [line for line in text.splitlines() if line.strip()]
    parts = [
        frozenset(name.strip() for name in line.split(',')) - {''}
        for line in lines[1::2]
    ]
    if len(lines) != 4 or not all(parts):
        raise ValueError(
            f'{path}: found {len(lines)} lines that are not blank, expected '
            'a heading, the training videos on one line separated by commas, '
            'a heading, and the validation videos likewise.'
        )
    both = sorted(parts[0] & parts[1])
    if both:
        raise ValueError(
            f'{path}: names {len(both)} videos for both training and '
            f'validation, the first is {both[0]!r}.'
        )
    return parts[0]


def find_videos(raw_dir: Path) -> list[str]:
    """List the videos that have a skeleton or a label file.

    Raises:
        ValueError: There are none.
    """
    names = {
        path.stem
        for folder in ('skeleton', 'label')
        for path in (raw_dir / folder).glob('*.txt')
    }
    if not names:
        raise ValueError(
            f'{raw_dir}: holds neither skeleton/*.txt nor label/*.txt; give '
            'the folder that has the folders skeleton and label.'
        )
    return sorted(names)


def make_split(
    videos: Sequence[Video], train: dict[str, frozenset]
) -> dict[str, list]:
    """Return the names of the instances by split.

    Args:
        videos (list[Video]): The videos.
        train (dict[str, frozenset[str]]): The training videos of each kind of
            split.
    """
    split = {}
    for kind, names in train.items():
        for part, is_train in (('train', True), ('val', False)):
            split[f'{kind}_{part}'] = [
                annotation['frame_dir']
                for video in videos
                for annotation in video.annotations
                if (video.name in names) == is_train
            ]
    return split


# ---------------------------------------------------------------------------
# The command
# ---------------------------------------------------------------------------


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=(
            'Convert the raw skeletons of PKU-MMD I or II to an annotation '
            'file of its action instances with the splits xsub_train, '
            'xsub_val, xview_train and xview_val. An instance is cut to its '
            f'first {MAX_FRAMES} frames. A person who is absent from a whole '
            'instance is not stored, and an instance without any person is '
            'left out. Coordinates stay as they are; labels are '
            f'{len(CLASSES)}-way in both phases.'
        )
    )
    parser.add_argument(
        'raw_dir',
        type=Path,
        help='folder with the folders skeleton and label; the split files, '
        'cross-subject.txt and cross-view.txt (II: cross_subject_v2.txt and '
        'cross_view_v2.txt; hyphen and underscore are the same), are there or '
        'in its folder split',
    )
    parser.add_argument('out', help='annotation file to write (.pkl)')
    parser.add_argument(
        '--phase',
        type=int,
        choices=(1, 2),
        required=True,
        help='which phase the files are of',
    )
    add_reading_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Convert, and say what was kept and what was left out."""
    args = parse_args(argv)
    try:
        names = find_videos(args.raw_dir)
        train = {
            kind: read_split(find_split(args.raw_dir, file, args.phase))
            for kind, file in SPLITS.items()
        }
        read = partial(read_video, raw_dir=args.raw_dir, strict=args.strict)
        videos, broken = read_files(read, names, args.num_workers, args.strict)
        faults = [fault for video in videos for fault in video.faults]
        for message in broken + faults:
            print(f'left out, broken: {message}', file=sys.stderr)
        for name in (name for video in videos for name in video.empty):
            print(f'left out, nobody present: {name}', file=sys.stderr)
        annotations = [a for video in videos for a in video.annotations]
        if not annotations:
            raise ValueError(f'{args.raw_dir}: no usable instance is left.')
        split = make_split(videos, train)
        write_annotations(args.out, split, annotations, classes=CLASSES)
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')
    print(summarise(split, annotations))
    print(
        f'cut to {MAX_FRAMES} frames     {sum(v.cut for v in videos)}\n'
        f'left out              {len(broken)} broken videos, {len(faults)} '
        f'broken instances, {sum(len(v.empty) for v in videos)} without a '
        'person'
    )
    for kind, listed in train.items():
        missing = len(listed.difference(names))
        if missing:
            print(
                f'missing               {missing} of the {len(listed)} '
                f'training videos of {kind} have no file'
            )
    print(f'Written to {args.out}')


if __name__ == '__main__':
    main()
