"""The MATLAB files of UTD-MHAD.

The skeletons (27 actions, 8 subjects, 20 joints) are a MATLAB file a sequence,
aA_sS_tT_skeleton.mat (action, subject, trial), whose d_skel holds 20 joints of
x, y and z in metres in T frames.
"""

import struct
import zlib
from io import BytesIO
from pathlib import Path

from ...layouts import get_layout
from ...utils.npz import most_content
from ..conversion import RawFile, make_annotation, parse_name

SUFFIX = '_skeleton.mat'
NAME = r'a(\d+)_s(\d+)_t(\d+)_skeleton'
NUMBERS = (
    *('double', 'single', 'int8', 'uint8', 'int16', 'uint16', 'int32'),
    *('uint32', 'int64', 'uint64', 'logical'),
)
HEADER, COMPRESSED = 128, 15  # bytes, and a type of element
MOST = {'action': 27, 'subject': 8, 'trial': 4}


def read_sequence(path: Path) -> RawFile:
    """Read one file, ``keypoint`` (1, T, 20, 3) in metres.

    Raises:
        ValueError: The file is not of the release's form.
        OSError: It cannot be opened.
    """
    from scipy.io import loadmat, whosmat

    action = parse_name(path, NAME, MOST)['action']
    joints = get_layout('utd_mhad').num_joints
    with open(path, 'rb') as file:
        try:
            data = file.read()
            _check_content(data)
            for name, _, kind in whosmat(BytesIO(data)):
                # Cells and structs take the memory that they declare.
                if name == 'd_skel' and kind not in NUMBERS:
                    raise ValueError(f'd_skel is {kind}')
            values = loadmat(BytesIO(data), variable_names=['d_skel'])
            values = values['d_skel']
        except Exception as error:  # what a broken file raises is anything
            raise ValueError(
                f'{path}: has no d_skel that could be read ('
                f'{type(error).__name__}: {" ".join(str(error).split())}).'
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


def _check_content(data: bytes) -> None:
    """Check how much the compressed elements of a file hold.

    Raises:
        ValueError: It is more than any such file.
    """
    order = '>' if data[HEADER - 2 : HEADER] == b'MI' else '<'
    left, start = most_content(len(data)), HEADER
    while start + 8 <= len(data):
        kind, size = struct.unpack(f'{order}II', data[start : start + 8])
        start += 8
        if kind == COMPRESSED:
            content = data[start : start + size]
            left -= len(zlib.decompressobj().decompress(content, left + 1))
            if left < 0:
                raise ValueError('it holds far more than its size')
        start += size
