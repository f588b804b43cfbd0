"""Convert raw NTU RGB+D skeletons to the toolbox's annotation format.

The release is a text file a sequence, ``SsssCcccPpppRrrrAaaa.skeleton``
(setup, camera, subject, replication, action). It holds the number of frames;
then for each frame the number of bodies; then for each body a line of 10
values that begins with the body's ID, the number of joints, and a line of 12
values a joint that begins with x, y and z in metres.
"""

import argparse
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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

NUM_JOINTS = get_layout('nturgb+d').num_joints
BODY_COLUMNS, JOINT_COLUMNS = 10, 12
SUFFIX = '.skeleton'
SEQUENCE_NAME = re.compile(r'S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})')

# ---------------------------------------------------------------------------
# The benchmarks
# ---------------------------------------------------------------------------


class SequenceName(NamedTuple):
    """What the name of a sequence says, counted from 1."""

    setup: int
    camera: int
    subject: int
    replication: int
    action: int


@dataclass(frozen=True)
class Task:
    """A benchmark's share of the release, and how it is split.

    Attributes:
        largest (SequenceName): The highest number of each kind.
        in_train (dict): For each split, whether a sequence is for training.
        ignore_list (str): Name under which the list of sequences with missing
            or incomplete skeletons is published.
        sizes (dict[str, int]): Sequences a split of the complete release,
            without those on the list.
    """

    largest: SequenceName
    in_train: dict[str, Callable[[SequenceName], bool]]
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
        largest=SequenceName(17, 3, 40, 2, 60),
        in_train={
            'xsub': lambda name: name.subject in TRAIN_SUBJECTS_60,
            'xview': lambda name: name.camera in (2, 3),
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
        largest=SequenceName(32, 3, 106, 2, 120),
        in_train={
            'xsub': lambda name: name.subject in TRAIN_SUBJECTS_120,
            'xset': lambda name: name.setup % 2 == 0,
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


def parse_name(path: Path) -> SequenceName:
    """Read the numbers in a file's name.

    Raises:
        ValueError: The name is not one of the release.
    """
    match = SEQUENCE_NAME.fullmatch(path.stem)
    name = SequenceName(*map(int, match.groups())) if match else None
    if name is None or not _within(name, TASKS['ntu120'].largest):
        raise ValueError(
            f'{path}: {path.stem!r} names no sequence, expected '
            'SsssCcccPpppRrrrAaaa, S001C001P001R001A001 to '
            'S{:03}C{:03}P{:03}R{:03}A{:03}.'.format(*TASKS['ntu120'].largest)
        )
    return name


def _within(name: SequenceName, largest: SequenceName) -> bool:
    return all(1 <= number <= most for number, most in zip(name, largest))


# ---------------------------------------------------------------------------
# Reading a file
# ---------------------------------------------------------------------------


@dataclass
class Bodies:
    """The bodies of a sequence, one entry for each time one is seen.

    Attributes:
        num_frames (int): Length of the sequence, T.
        frame (np.ndarray): The frame (N,) an entry belongs to.
        slot (np.ndarray): Its place (N,) among the bodies of that frame.
        body_id (np.ndarray): The sensor's ID (N,) of the body, text.
        joints (np.ndarray): Positions (N, 25, 3) in metres, float64.
    """

    num_frames: int
    frame: np.ndarray
    slot: np.ndarray
    body_id: np.ndarray
    joints: np.ndarray


def read_bodies(path: Path) -> Bodies:
    """Read what a file says of its bodies.

    Of a joint's 12 values the first three are read; that the others are there
    is checked, what they are is not.

    Raises:
        ValueError: The file is not of the release's form; names the line.
    """
    reader = _LineReader(path)
    num_frames = reader.take_count('the number of frames')
    frame, slot, body_id, rows, first_rows = [], [], [], [], []
    for t in range(num_frames):
        for s in range(reader.take_count('the number of bodies')):
            frame.append(t)
            slot.append(s)
            body_id.append(reader.take_fields(BODY_COLUMNS)[0])
            joints = reader.take_count('the number of joints')
            if joints != NUM_JOINTS:
                raise reader.fault(f'{NUM_JOINTS} joints')
            first_rows.append(reader.position)
            rows += reader.take(NUM_JOINTS)
    reader.check_end()
    try:
        joints = _parse_joints(rows)
    except ValueError:
        row = next(i for i, line in enumerate(rows) if not _parses(line))
        body, joint = divmod(row, NUM_JOINTS)
        reader.position = first_rows[body] + joint + 1
        raise reader.fault(
            f'{JOINT_COLUMNS} values, the first three finite numbers (x y z)'
        ) from None
    return Bodies(
        num_frames,
        np.array(frame, int),
        np.array(slot, int),
        np.array(body_id),
        joints,
    )


class _LineReader:
    """Hands out a file's lines in order, with errors that name the line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        text = path.read_bytes().decode('ascii', errors='replace')
        self.lines = text.rstrip().splitlines()
        self.position = 0

    def take(self, count: int) -> list[str]:
        """Return the next lines."""
        begin = self.position
        self.position += count
        if self.position > len(self.lines):
            raise ValueError(
                f'{self.path}: ends after line {len(self.lines)}, expected at '
                f'least {self.position} lines; the file is truncated or empty.'
            )
        return self.lines[begin : self.position]

    def take_count(self, what: str) -> int:
        """Return the one whole number of the next line."""
        text = self.take(1)[0].strip()
        if not text.isdecimal():
            raise self.fault(what)
        return int(text)

    def take_fields(self, count: int) -> list[str]:
        """Return the values of the next line."""
        fields = self.take(1)[0].split()
        if len(fields) != count:
            raise self.fault(f'a line of {count} values')
        return fields

    def check_end(self) -> None:
        """Raise ValueError where lines are left."""
        if self.position < len(self.lines):
            self.position += 1
            raise self.fault('the end of the file after its last frame')

    def fault(self, expected: str) -> ValueError:
        """Return the error that the last line taken is another."""
        line = self.lines[self.position - 1]
        return ValueError(
            f'{self.path}, line {self.position}: {line[:60]!r}, expected '
            f'{expected}.'
        )


def _parse_joints(rows: Sequence[str]) -> np.ndarray:
    """Return the positions (N, 25, 3) of the lines of joints."""
    if not rows:
        return np.zeros((0, NUM_JOINTS, 3))
    # Counting blanks takes a fraction of the time of splitting at them.
    blanks = [row.count(' ') for row in rows]
    if set(blanks) != {JOINT_COLUMNS - 1}:
        fields = [len(row.split()) for row in rows]
        if set(fields) != {JOINT_COLUMNS}:
            raise ValueError('other columns')
    values = np.loadtxt(rows, usecols=(0, 1, 2), comments=None, ndmin=2)
    if not np.isfinite(values).all():
        raise ValueError('not finite')
    return values.reshape(-1, NUM_JOINTS, 3)


def _parses(row: str) -> bool:
    try:
        return bool(len(_parse_joints([row] * NUM_JOINTS)))
    except ValueError:
        return False


# ---------------------------------------------------------------------------
# Choosing the persons
# ---------------------------------------------------------------------------

MAX_PERSONS = 2
MAX_SLOTS = 4  # bodies of a frame that the toolbox considers
MAX_NOISE_FRAMES = 11
MAX_ASPECT = 0.8  # width to height of a body in a plausible frame
WIDE_SHARE = 0.69754  # of the frames, from which on a body is removed
SURPLUS = 'beyond two persons'


def choose_by_spread(bodies: Bodies) -> tuple[np.ndarray, Counter]:
    """Choose persons as the toolbox does, by their place in the frames.

    A person is what has the same place among the bodies of each frame. Of the
    first four the two whose joints are spread most are kept, the more spread
    one first.

    Args:
        bodies (Bodies): The bodies of a sequence.

    Returns:
        tuple[np.ndarray, Counter]: Positions (M, T, 25, 3), zero in frames
        where a person is not seen, and how many were left out, by reason.
    """
    shape = (MAX_SLOTS, bodies.num_frames, NUM_JOINTS, 3)
    persons = np.zeros(shape)
    seen = bodies.slot < MAX_SLOTS
    persons[bodies.slot[seen], bodies.frame[seen]] = bodies.joints[seen]
    spreads = [_spread(person) for person in persons]
    order = np.argsort(spreads, kind='stable')[::-1][:MAX_PERSONS]
    chosen = persons[order]
    chosen = chosen[chosen.any(axis=(1, 2, 3))]
    surplus = len(np.unique(bodies.slot)) - len(chosen)
    return chosen, Counter({SURPLUS: surplus})


def _spread(person: np.ndarray) -> float:
    """Sum of the standard deviations of x, y and z, absent frames aside."""
    present = person[person.any(axis=(1, 2))]
    if not len(present):
        return 0.0
    return present.reshape(-1, 3).std(axis=0).sum()


@dataclass(eq=False)
class Track:
    """What the sensor took for one body.

    Attributes:
        frame (np.ndarray): The frames (F,) in which it is seen.
        joints (np.ndarray): Its positions (F, 25, 3) there.
    """

    frame: np.ndarray
    joints: np.ndarray

    @property
    def wide(self) -> np.ndarray:
        """The frames (F,) in which the body is too wide for its height."""
        width, height = np.ptp(self.joints[..., :2], axis=1).T
        return width > MAX_ASPECT * height

    @property
    def motion(self) -> float:
        """Variance of the positions, the less one with or without wide."""
        narrow = self.joints[~self.wide]
        return min(_variance(j) for j in (self.joints, narrow) if len(j))


def _variance(joints: np.ndarray) -> float:
    return joints.reshape(-1, 3).var(axis=0).sum()


def choose_by_motion(bodies: Bodies) -> tuple[np.ndarray, Counter]:
    """Remove noise and choose persons as for the MAMP authors' archives.

    A body is what bears one ID. Unless it is the only one, a body of at most
    11 frames is removed, and then one that is implausibly wide: more than 0.8
    times as wide (x) as high (y) in at least 69.754 % of its frames. The
    others follow in the order of their motion, the variance of all positions.
    The first is person 1. A later one continues person 1 if all its frames
    lie before or after the frames of person 1, else is or continues person 2
    likewise, else is left out. Every body stays in the frames it is seen in.

    Args:
        bodies (Bodies): The bodies of a sequence.

    Returns:
        tuple[np.ndarray, Counter]: Positions (M, T, 25, 3), zero in frames
        where a person is not seen, and how many were left out, by reason.
    """
    tracks = [
        Track(bodies.frame[entries], bodies.joints[entries])
        for body in dict.fromkeys(bodies.body_id)
        for entries in [bodies.body_id == body]
    ]
    long = _without_short(tracks)
    plausible = _without_wide(long)
    persons = np.zeros((MAX_PERSONS, bodies.num_frames, NUM_JOINTS, 3))
    surplus = 0
    for track in sorted(plausible, key=lambda t: t.motion, reverse=True):
        free = [person for person in persons if not _overlap(person, track)]
        if free:
            free[0][track.frame] = track.joints
        else:
            surplus += 1
    left_out = Counter(
        {
            'short': len(tracks) - len(long),
            'wide': len(long) - len(plausible),
            SURPLUS: surplus,
        }
    )
    return persons[persons.any(axis=(1, 2, 3))], left_out


def _without_short(tracks: Sequence[Track]) -> list[Track]:
    if len(tracks) == 1:
        return list(tracks)
    return [track for track in tracks if len(track.frame) > MAX_NOISE_FRAMES]


def _without_wide(tracks: Sequence[Track]) -> list[Track]:
    kept = list(tracks)
    for track in tracks:
        if len(kept) > 1 and track.wide.mean() >= WIDE_SHARE:
            kept.remove(track)
    return kept


def _overlap(person: np.ndarray, track: Track) -> bool:
    """Return whether a track begins before a person (T, 25, 3) has ended."""
    present = np.flatnonzero(person.any(axis=(1, 2)))
    return bool(len(present)) and (
        track.frame[0] <= present[-1] and present[0] <= track.frame[-1]
    )


# ---------------------------------------------------------------------------
# The data set
# ---------------------------------------------------------------------------


class Conversion(NamedTuple):
    """What a conversion gives.

    Attributes:
        split (dict[str, list[str]]): Names by split.
        annotations (list[dict]): The samples, ``keypoint`` (M, T, 25, 3).
        broken (list[str]): Messages on files that could not be read.
        bodiless (list[str]): Names of sequences in which no body is left.
        ignored (int): Number of sequences on the ignore list.
        foreign (int): Number of sequences of another benchmark.
        bodies (Counter): Number of bodies left out, by reason.
    """

    split: dict[str, list]
    annotations: list
    broken: list
    bodiless: list
    ignored: int
    foreign: int
    bodies: Counter


def convert(
    files: Sequence[Path],
    task: Task,
    ignored: frozenset = frozenset(),
    denoise: bool = False,
    num_workers: int = 1,
    strict: bool = False,
) -> Conversion:
    """Read sequences, those for cross-subject training first.

    Args:
        files (list[Path]): The files of the release, in the order that the
            splits are to have.
        task (Task): The benchmark.
        ignored (frozenset[str]): Names of sequences to leave out.
        denoise (bool): Whether persons are chosen by
            :func:`choose_by_motion` rather than :func:`choose_by_spread`.
            Defaults to False.
        num_workers (int): Worker processes. Defaults to 1.
        strict (bool): Whether a broken file stops the conversion rather than
            being left out. Defaults to False.

    Returns:
        Conversion: Samples, splits, and what was left out.

    Raises:
        ValueError: With ``strict``, a file is broken; names file and line.
    """
    wanted = [path for path in files if path.stem not in ignored]
    names, misnamed = _parse_names(wanted, strict)
    own = [path for path in names if _within(names[path], task.largest)]
    own.sort(key=lambda path: not task.in_train['xsub'](names[path]))
    read = partial(read_sequence, denoise=denoise)
    sequences, broken = read_files(read, own, num_workers, strict)

    annotations, bodiless, bodies = [], [], Counter()
    for path, annotation, left_out in sequences:
        bodies += left_out
        if len(annotation['keypoint']):
            annotations.append(annotation)
        else:
            bodiless.append(path.stem)
    kept = {annotation['frame_dir'] for annotation in annotations}
    split = _make_split(
        {p.stem: name for p, name in names.items() if p.stem in kept}, task
    )
    return Conversion(
        split,
        annotations,
        misnamed + broken,
        bodiless,
        ignored=len(files) - len(wanted),
        foreign=len(names) - len(own),
        bodies=bodies,
    )


def _make_split(names: dict[str, SequenceName], task: Task) -> dict[str, list]:
    """Return the names of the samples by split, in the order they come in."""
    split = {}
    for kind, in_train in task.in_train.items():
        for part, is_train in (('train', True), ('val', False)):
            split[f'{kind}_{part}'] = [
                sample
                for sample, name in names.items()
                if in_train(name) == is_train
            ]
    return split


def _parse_names(
    files: Sequence[Path], strict: bool
) -> tuple[dict[Path, SequenceName], list[str]]:
    """Return the names by file, and messages on files of other names."""
    names, misnamed = {}, []
    for path in files:
        try:
            names[path] = parse_name(path)
        except ValueError as error:
            if strict:
                raise
            misnamed.append(str(error))
    return names, misnamed


def read_sequence(
    path: Path, denoise: bool = False
) -> tuple[Path, dict, Counter]:
    """Read one sequence.

    Args:
        path (Path): A file of the release.
        denoise (bool): Which of the two choices of persons. Defaults to
            False.

    Returns:
        tuple[Path, dict, Counter]: The file, the annotation with ``keypoint``
        (M, T, 25, 3) in metres, and how many bodies were left out, by reason.

    Raises:
        ValueError: The name or a line of the file is not the release's.
    """
    name = parse_name(path)
    choose = choose_by_motion if denoise else choose_by_spread
    keypoint, left_out = choose(read_bodies(path))
    annotation = {
        'frame_dir': path.stem,
        'label': name.action - 1,
        'total_frames': keypoint.shape[1],
        'keypoint': keypoint.astype(np.float32),
    }
    return path, annotation, left_out


def find_files(raw_dir: Path) -> list[Path]:
    """List the files of the release.

    Raises:
        ValueError: There are none.
    """
    files = sorted(raw_dir.glob('*' + SUFFIX))
    if not files:
        raise ValueError(
            f'{raw_dir}: holds no *{SUFFIX}; give the folder that they were '
            'unpacked to (nturgb+d_skeletons in the release).'
        )
    return files


def read_ignore_list(path: Path) -> frozenset:
    """Read the names in a list of sequences, whatever else it says.

    Raises:
        ValueError: It names none.
    """
    text = path.read_text(encoding='ascii', errors='replace')
    names = frozenset(match.group() for match in SEQUENCE_NAME.finditer(text))
    if not names:
        raise ValueError(
            f'{path}: names no sequence to leave out, expected lines such as '
            'S001C002P005R002A008.'
        )
    return names


def find_ignore_list(raw_dir: Path, task: Task) -> Path:
    """Look for the benchmark's ignore list where people keep it.

    Raises:
        ValueError: It is nowhere.
    """
    folders = (raw_dir, raw_dir.absolute().parent, Path())
    for folder in folders:
        if (folder / task.ignore_list).is_file():
            return folder / task.ignore_list
    raise ValueError(
        f'{task.ignore_list} is neither in {raw_dir} nor beside it nor in '
        f'{Path.cwd()}. The published splits leave out the sequences that it '
        'names, whose skeletons are missing or incomplete. It comes with the '
        'data set (github.com/shahroudy/NTURGB-D): put it there or name it '
        'by --ignore; --keep-all converts every sequence.'
    )


# ---------------------------------------------------------------------------
# The command
# ---------------------------------------------------------------------------


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=(
            'Convert the raw skeletons of NTU RGB+D 60 or 120 to an '
            'annotation file with the samples and splits of ntu60_3d.pkl '
            '(xsub_train, xsub_val, xview_train, xview_val) or ntu120_3d.pkl '
            '(xset instead of xview), in float32. Coordinates stay as they '
            'are, in metres; frames without a body stay, as zeros.'
        ),
        epilog=(
            "By default persons are chosen as by the toolbox's "
            'gen_ntu_rgbd_raw.py, which removes no noise: of the first four '
            'bodies of each frame, told apart by their order, the two with '
            'the largest standard deviation of positions, the larger first. '
            "--denoise follows the preparation of the MAMP authors' archives: "
            'bodies are told apart by their ID; unless it is the only one, a '
            f'body of at most {MAX_NOISE_FRAMES} frames is removed, and then '
            f'one more than {MAX_ASPECT} times as wide as high in at least '
            f'{WIDE_SHARE:.3%} of its frames. The body with the largest '
            'variance of positions is person 1. In the order of the variance '
            'each other one continues person 1, if it lies wholly before or '
            'after, else is or continues person 2, else is left out.'
        ),
    )
    parser.add_argument(
        'raw_dir', type=Path, help=f'folder of the files *{SUFFIX}'
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
    add_reading_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Convert, and say what was kept and what was left out."""
    args = parse_args(argv)
    task = TASKS[args.task]
    try:
        files = find_files(args.raw_dir)
        ignored = frozenset()
        if not args.keep_all:
            path = args.ignore or find_ignore_list(args.raw_dir, task)
            ignored = read_ignore_list(path)
        result = convert(
            files, task, ignored, args.denoise, args.num_workers, args.strict
        )
        for message in result.broken:
            print(f'left out, broken: {message}', file=sys.stderr)
        for name in result.bodiless:
            print(f'left out, no body: {name}', file=sys.stderr)
        if not result.annotations:
            raise ValueError(f'{args.raw_dir}: no usable sequence is left.')
        write_annotations(args.out, result.split, result.annotations)
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')
    print(summarise(result.split, result.annotations))
    print(
        f'left out              {result.ignored} on the ignore list, '
        f'{result.foreign} not of {args.task}, {len(result.broken)} broken, '
        f'{len(result.bodiless)} without a body'
    )
    counts = ', '.join(f'{n} {why}' for why, n in result.bodies.items())
    print(f'bodies left out       {counts or "none"}')
    _compare_sizes(result.split, task)
    print(f'Written to {args.out}')


def _compare_sizes(split: dict[str, list], task: Task) -> None:
    """Say where the splits have not the sizes of the complete release's."""
    if {name: len(samples) for name, samples in split.items()} != task.sizes:
        sizes = ', '.join(f'{name} {n}' for name, n in task.sizes.items())
        print(f'note                  the complete release gives {sizes}')


if __name__ == '__main__':
    main()
