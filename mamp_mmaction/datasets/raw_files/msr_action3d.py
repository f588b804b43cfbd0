"""The text files of MSR-Action3D.

The release (20 actions, 10 subjects, 20 joints) is a text file a sequence,
aAA_sSS_eEE_skeleton3D.txt (action, subject, repetition): a line a joint,
x y z confidence, in metres, 20 lines a frame.
"""

from pathlib import Path

from ...layouts import get_layout
from ..conversion import (
    RawFile,
    make_annotation,
    parse_lines,
    parse_name,
    read_lines,
)

SUFFIX = '_skeleton3D.txt'
NAME = r'a(\d\d)_s(\d\d)_e(\d\d)_skeleton3D'
MOST = {'action': 20, 'subject': 10, 'repetition': 99}
COLUMNS = 4


def read_sequence(path: Path) -> RawFile:
    """Read one file without the frames in which tracking failed.

    Raises:
        ValueError: The name or a line of the file is not the release's.
    """
    joints = get_layout('msr_action3d').num_joints
    label = parse_name(path, NAME, MOST)['action'] - 1
    name = path.name.removesuffix(SUFFIX)
    lines = read_lines(path)
    values = parse_lines(path, lines, COLUMNS)[:, :3]
    if len(lines) % joints:
        raise ValueError(
            f'{path}: {len(lines)} lines are no whole number of frames of '
            f'{joints} lines; the file is truncated.'
        )
    frames = values.reshape(-1, joints, 3)
    tracked = frames[frames.any(axis=(1, 2))]
    if not len(tracked):
        return RawFile(
            left_out=[f'no frame tracked: {name}'],
            counts={'left out, untracked': 1},
        )
    return RawFile([make_annotation(name, label, tracked[None])])
