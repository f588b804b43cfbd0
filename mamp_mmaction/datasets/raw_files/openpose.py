"""Folders of OpenPose's JSON files, one a frame.

OpenPose writes NAME_000000000000_keypoints.json and so on, with a list people
whose pose_keypoints_2d holds x, y and a confidence a joint, zeros where a
joint was not seen. It does not say who is who from frame to frame.
"""

import json
import re
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from ..annotation_file import LARGEST_COORDINATE
from ..conversion import RawFile, find_files, make_annotation

PATTERN = '*_keypoints.json'
#: Layouts by their number of joints.
LAYOUTS = {25: 'openpose25', 18: 'openpose'}


def read_sequence(
    folder: Path, image_size: tuple[int, int] | None = None
) -> RawFile:
    """Read one folder.

    Persons are told apart by the distance of their mean positions from one
    frame to the next. The one whose joints are seen best comes first.

    Args:
        folder (Path): The folder; its files are the frames in the order of
            their names.
        image_size (tuple[int, int], optional): Width and height in pixels,
            which becomes ``img_shape``. Defaults to None.

    Returns:
        RawFile: One annotation of the label 0, with ``keypoint`` (M, T, V, 2)
        in pixels and ``keypoint_score`` (M, T, V).

    Raises:
        ValueError: A file is of another form, or nobody is in any of them.
        OSError: A file cannot be read.
    """
    # By the numbers in their names, which need not have leading zeros.
    files = sorted(
        find_files(folder, PATTERN),
        key=lambda path: [*map(int, re.findall(r'\d+', path.name))],
    )
    frames = [_read_frame(path) for path in files]
    joints = {len(person) for people in frames for person in people}
    if len(joints) != 1:
        raise ValueError(
            f'{folder}: '
            + (
                f'its persons have {sorted(joints)} joints, expected as many '
                'in all.'
                if joints
                else f'nobody is in any of its {len(files)} files.'
            )
        )
    persons, last = [], []  # of each person (T, V, 3), and where it was seen
    shape = (len(frames), *joints, 3)
    for t, people in enumerate(frames):
        centers = [p[p[:, 2] > 0, :2].mean(axis=0) for p in people]
        chosen = {}
        if people and persons:
            far = np.linalg.norm(
                np.array(last)[:, None] - np.array(centers)[None], axis=-1
            )
            chosen = dict(zip(*linear_sum_assignment(far.T)))
        for i, (person, center) in enumerate(zip(people, centers)):
            if i not in chosen:
                chosen[i] = len(persons)
                persons.append(np.zeros(shape))
                last.append(center)
            persons[chosen[i]][t] = person
            last[chosen[i]] = center
    values = np.array(
        sorted(persons, key=lambda person: person[..., 2].sum(), reverse=True)
    )
    more = {'keypoint_score': values[..., 2].astype(np.float32)}
    if image_size:
        more['img_shape'] = (image_size[1], image_size[0])
    return RawFile([make_annotation(folder.name, 0, values[..., :2], **more)])


def _read_frame(path: Path) -> list[np.ndarray]:
    """Return the persons (V, 3) of whom a joint is seen."""
    try:
        people = json.loads(path.read_bytes())['people']
        persons = [
            np.array(person['pose_keypoints_2d'], float).reshape(-1, 3)
            for person in people
        ]
    except Exception as error:  # what forged content raises is anything
        raise ValueError(
            f'{path}: has no people with pose_keypoints_2d that could be read '
            f'({type(error).__name__}: {error}).'
        ) from error
    for person in persons:
        if not (abs(person) <= LARGEST_COORDINATE).all():  # NaN is not
            raise ValueError(
                f'{path}: has numbers in pose_keypoints_2d that are NaN, '
                f'infinite or beyond {LARGEST_COORDINATE:g}; expected zeros '
                'for a joint that was not seen.'
            )
    return [person for person in persons if (person[:, 2] > 0).any()]
