"""The JSON files of Northwestern-UCLA.

The skeletons (10 actions, 10 subjects, 3 views, 20 joints) are a JSON file a
sequence, aAA_sSS_eEE_vVV.json (action, subject, repetition, view), whose
skeletons are T frames of 20 joints of x, y and z in metres.
"""

import json
from pathlib import Path

import numpy as np

from ...layouts import get_layout
from ..conversion import RawFile, make_annotation, parse_name

NAME = r'a(\d\d)_s(\d\d)_e\d\d_v(\d\d)'
MOST = {'action': 12, 'subject': 10, 'view': 3}
ACTIONS = (1, 2, 3, 4, 5, 6, 8, 9, 11, 12)  # in the order of the labels


def read_sequence(path: Path) -> RawFile:
    """Read one file, ``keypoint`` (1, T, 20, 3) in metres.

    Raises:
        ValueError: The file is not of the form of the others.
    """
    action = parse_name(path, NAME, MOST)['action']
    if action not in ACTIONS:
        raise ValueError(f'{path}: no action {action}, expected {ACTIONS}.')
    joints = get_layout('nw_ucla').num_joints
    try:
        content = json.loads(path.read_bytes())
        frames = np.array(content['skeletons'], np.float64)
    except Exception as error:  # what forged content raises is anything
        raise ValueError(
            f'{path}: has no skeletons that could be read ('
            f'{type(error).__name__}: {error}).'
        ) from error
    if frames.shape[1:] != (joints, 3):
        raise ValueError(
            f'{path}: skeletons have the shape {frames.shape}, expected '
            f'(frames, {joints}, 3).'
        )
    return RawFile(
        [make_annotation(path.stem, ACTIONS.index(action), frames[None])]
    )
