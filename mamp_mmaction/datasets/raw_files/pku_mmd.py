"""The text files of PKU-MMD.

The release has a folder skeleton with a text file a video, a line a frame of
150 numbers (two persons x 25 joints x xyz, zero where a person is absent); and
a folder label with files of the same names, a line class,start,end,confidence
an action instance.
"""

from pathlib import Path

import numpy as np

from ..conversion import RawFile, make_annotation, parse_lines, read_lines

NUM_PERSONS, NUM_JOINTS = 2, 25
MAX_FRAMES = 300  # of an instance; those after them are cut off
NUM_CLASSES = 51


def read_frames(path: Path) -> np.ndarray:
    """Read a file of the folder skeleton.

    Args:
        path (Path): The file.

    Returns:
        np.ndarray: Positions (2, T, 25, 3) in metres, float64, zero where a
        person is absent.

    Raises:
        ValueError: A line is not of the release's form; it is named.
        OSError: The file is missing.
    """
    shape = (NUM_PERSONS, NUM_JOINTS, 3)
    values = parse_lines(path, read_lines(path), NUM_PERSONS * NUM_JOINTS * 3)
    return values.reshape(-1, *shape).swapaxes(0, 1)


def read_video(name: str, raw_dir: Path, strict: bool = False) -> RawFile:
    """Read the action instances of one video.

    Instances are named after the video and the line of the label file,
    ``0002-L_001`` being the first of ``0002-L``.

    Args:
        name (str): The video, a file in ``skeleton`` and in ``label``.
        raw_dir (Path): The folder of the release.
        strict (bool): Whether a broken instance breaks the video rather than
            being left out. Defaults to False.

    Raises:
        ValueError: A file is not of the release's form, or, with ``strict``,
            an instance is broken; names file and line.
        OSError: A file is missing.
    """
    labels = raw_dir / 'label' / f'{name}.txt'
    rows = read_lines(labels)
    frames = read_frames(raw_dir / 'skeleton' / f'{name}.txt')
    video = RawFile()
    for number, row in enumerate(rows, start=1):
        try:
            action, start, end = parse_instance(row, frames.shape[1])
        except ValueError as error:
            fault = f'{labels}, line {number}: {row[:60]!r}, {error}.'
            if strict:
                raise ValueError(fault) from None
            video.left_out.append(f'broken: {fault}')
            video.counts['instances broken'] += 1
            continue
        instance = f'{name}_{number:03}'
        persons = frames[:, start : min(end, start + MAX_FRAMES)]
        persons = persons[persons.any(axis=(1, 2, 3))]
        if not len(persons):
            video.left_out.append(f'nobody present: {instance}')
            video.counts['instances without a person'] += 1
            continue
        video.counts[f'cut to {MAX_FRAMES} frames'] += end > start + MAX_FRAMES
        video.annotations.append(
            make_annotation(instance, action - 1, persons)
        )
    return video


def parse_instance(row: str, num_frames: int) -> tuple[int, int, int]:
    """Read class (from 1), first frame and frame after the last of a line.

    Raises:
        ValueError: Says what was expected instead.
    """
    try:
        *whole, confidence = row.split(',')
        action, start, end = map(int, whole)
        float(confidence)
    except ValueError:
        raise ValueError(
            'expected class,start,end,confidence, the first three whole '
            'numbers'
        ) from None
    if not 1 <= action <= NUM_CLASSES:
        raise ValueError(f'expected a class from 1 to {NUM_CLASSES}')
    if not 0 <= start < end <= num_frames:
        raise ValueError(
            f'expected 0 <= start < end <= {num_frames}, the frames of the '
            'skeleton file'
        )
    return action, start, end
