"""The ``.skeleton`` files of NTU RGB+D.

The release is a text file a sequence, SsssCcccPpppRrrrAaaa.skeleton (setup,
camera, subject, replication, action). It holds the number of frames; then for
each frame the number of bodies; then for each body a line of 10 values that
begins with the body's ID, the number of joints, and a line of 12 values a
joint that begins with x, y and z in metres.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..conversion import (
    RawFile,
    make_annotation,
    parse_lines,
    parse_name,
    read_lines,
)

NUM_JOINTS = 25
BODY_COLUMNS, JOINT_COLUMNS = 10, 12
NAME = r'S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})'
MOST_DIGITS = 9  # of a count
#: The highest number of each kind in a name.
MOST = dict(setup=32, camera=3, subject=106, replication=2, action=120)


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
    lines, position = read_lines(path), 0

    def take(count: int) -> list[str]:
        nonlocal position
        position += count
        if position > len(lines):
            raise ValueError(
                f'{path}: ends after line {len(lines)}, expected at least '
                f'{position} lines; the file is truncated.'
            )
        return lines[position - count : position]

    def fault(expected: str) -> ValueError:
        return ValueError(
            f'{path}, line {position}: {lines[position - 1][:60]!r}, expected '
            f'{expected}.'
        )

    def take_count(what: str) -> int:
        text = take(1)[0].strip()
        if not text.isdecimal() or len(text) > MOST_DIGITS:
            raise fault(what)
        return int(text)

    seen, rows, numbers = [], [], []
    num_frames = take_count('the number of frames')
    for frame in range(num_frames):
        for slot in range(take_count('the number of bodies')):
            fields = take(1)[0].split()
            if len(fields) != BODY_COLUMNS:
                raise fault(f'a line of {BODY_COLUMNS} values')
            if take_count('the number of joints') != NUM_JOINTS:
                raise fault(f'{NUM_JOINTS} joints')
            seen.append((frame, slot, fields[0]))
            rows += take(NUM_JOINTS)
            numbers += range(position - NUM_JOINTS + 1, position + 1)
    if position < len(lines):
        position += 1
        raise fault('the end of the file after its last frame')
    frames, slots, ids = zip(*seen) if seen else ((), (), ())
    joints = parse_lines(path, rows, JOINT_COLUMNS, 3, numbers)
    return Bodies(
        num_frames,
        np.array(frames, int),
        np.array(slots, int),
        np.array(ids),
        joints.reshape(-1, NUM_JOINTS, 3),
    )


# Choosing the persons

MAX_PERSONS = 2
MAX_SLOTS = 4  # bodies of a frame that the toolbox considers
MAX_NOISE_FRAMES = 11
MAX_ASPECT = 0.8  # width to height of a body in a plausible frame
WIDE_SHARE = 0.69754  # of the frames, from which on a body is removed


def choose_by_spread(bodies: Bodies) -> tuple[np.ndarray, dict]:
    """Choose persons as the toolbox does, by their place in the frames.

    A person is what has the same place among the bodies of each frame. Of the
    first four the two whose joints are spread most are kept, the more spread
    one first.

    Args:
        bodies (Bodies): The bodies of a sequence.

    Returns:
        tuple[np.ndarray, dict]: Positions (M, T, 25, 3), zero in frames where
        a person is not seen, and how many bodies were left out, by reason.
    """
    persons = np.zeros((MAX_SLOTS, bodies.num_frames, NUM_JOINTS, 3))
    seen = bodies.slot < MAX_SLOTS
    persons[bodies.slot[seen], bodies.frame[seen]] = bodies.joints[seen]
    spreads = [0.0] * MAX_SLOTS
    for i, person in enumerate(persons):
        present = person[person.any(axis=(1, 2))].reshape(-1, 3)
        if len(present):
            spreads[i] = present.std(axis=0).sum()
    order = np.argsort(spreads, kind='stable')[::-1][:MAX_PERSONS]
    chosen = persons[order]
    chosen = chosen[chosen.any(axis=(1, 2, 3))]
    surplus = len(np.unique(bodies.slot)) - len(chosen)
    return chosen, {'bodies beyond two': surplus}


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
        low, high = self.joints.min(axis=1), self.joints.max(axis=1)
        width, height = (high - low)[:, :2].T
        return width > MAX_ASPECT * height

    @property
    def motion(self) -> float:
        """Variance of the positions, the less one with or without wide."""
        return min(
            joints.reshape(-1, 3).var(axis=0).sum()
            for joints in (self.joints, self.joints[~self.wide])
            if len(joints)
        )


def choose_by_motion(bodies: Bodies) -> tuple[np.ndarray, dict]:
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
        tuple[np.ndarray, dict]: As :func:`choose_by_spread`.
    """
    tracks = [
        Track(bodies.frame[entries], bodies.joints[entries])
        for body in dict.fromkeys(bodies.body_id)
        for entries in [bodies.body_id == body]
    ]
    long = [
        track
        for track in tracks
        if len(tracks) == 1 or len(track.frame) > MAX_NOISE_FRAMES
    ]
    plausible = list(long)
    for track in long:
        if len(plausible) > 1 and track.wide.mean() >= WIDE_SHARE:
            plausible.remove(track)
    persons = np.zeros((MAX_PERSONS, bodies.num_frames, NUM_JOINTS, 3))
    surplus = 0
    for track in sorted(plausible, key=lambda t: t.motion, reverse=True):
        for person in persons:
            present = np.flatnonzero(person.any(axis=(1, 2)))
            if (
                not len(present)
                or track.frame[0] > present[-1]
                or track.frame[-1] < present[0]
            ):
                person[track.frame] = track.joints
                break
        else:
            surplus += 1
    left_out = {
        'bodies too short': len(tracks) - len(long),
        'bodies too wide': len(long) - len(plausible),
        'bodies beyond two': surplus,
    }
    return persons[persons.any(axis=(1, 2, 3))], left_out


def numbers_of(path: Path) -> dict[str, int]:
    """Read setup, camera, subject, replication and action in a name.

    Raises:
        ValueError: The name is not one of the release.
    """
    return parse_name(path, NAME, MOST)


def read_sequence(path: Path, denoise: bool = False) -> RawFile:
    """Read one file, ``keypoint`` (M, T, 25, 3) in metres.

    Args:
        path (Path): A file of the release.
        denoise (bool): Whether persons are chosen by
            :func:`choose_by_motion` rather than :func:`choose_by_spread`.
            Defaults to False.

    Raises:
        ValueError: The name or a line of the file is not the release's.
    """
    label = numbers_of(path)['action'] - 1
    choose = choose_by_motion if denoise else choose_by_spread
    keypoint, counts = choose(read_bodies(path))
    if not len(keypoint):
        counts = {'left out, no body': 1, **counts}
        return RawFile([], [f'no body: {path.stem}'], counts)
    return RawFile([make_annotation(path.stem, label, keypoint)], [], counts)
