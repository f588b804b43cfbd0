"""The MATLAB files of UTD-MHAD.

The skeletons (27 actions, 8 subjects, 20 joints) are a MATLAB file a sequence,
aA_sS_tT_skeleton.mat (action, subject, trial), whose d_skel holds 20 joints of
x, y and z in metres in T frames.
"""

from pathlib import Path

from ...layouts import get_layout
from ..conversion import RawFile, make_annotation, parse_name

SUFFIX = '_skeleton.mat'
NAME = r'a(\d+)_s(\d+)_t(\d+)_skeleton'
MOST = {'action': 27, 'subject': 8, 'trial': 4}


def read_sequence(path: Path) -> RawFile:
    """Read one file, ``keypoint`` (1, T, 20, 3) in metres.

    Raises:
        ValueError: The file is not of the release's form.
        OSError: It cannot be opened.
    """
    from scipy.io import loadmat

    action = parse_name(path, NAME, MOST)['action']
    joints = get_layout('utd_mhad').num_joints
    with open(path, 'rb') as file:
        try:
            values = loadmat(file, variable_names=['d_skel'])['d_skel']
        except Exception as error:  # what a broken file raises is anything
            raise ValueError(
                f'{path}: has no d_skel that could be read ('
                f'{type(error).__name__}: {error}).'
            ) from error
    if values.ndim != 3 or values.shape[:2] != (joints, 3):
        raise ValueError(
            f'{path}: d_skel has the shape {values.shape}, expected ({joints},'
            ' 3, frames).'
        )
    if values.dtype.kind not in 'iuf':
        raise ValueError(f'{path}: d_skel is {values.dtype}, no numbers.')
    name = path.name.removesuffix(SUFFIX)
    keypoint = values.transpose(2, 0, 1)[None]
    return RawFile([make_annotation(name, action - 1, keypoint)])
