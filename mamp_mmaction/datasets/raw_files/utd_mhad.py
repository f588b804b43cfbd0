"""The MATLAB files of UTD-MHAD.

The skeletons (27 actions, 8 subjects, 20 joints) are a MATLAB file a sequence,
aA_sS_tT_skeleton.mat (action, subject, trial), whose d_skel holds 20 joints of
x, y and z in metres in T frames.
"""

import struct
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from ...layouts import get_layout
from ...utils.npz import most_content
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
    action = parse_name(path, NAME, MOST)['action']
    joints = get_layout('utd_mhad').num_joints
    data = path.read_bytes()
    try:
        values = read_matrix(data, 'd_skel')
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
    name = path.name.removesuffix(SUFFIX)
    keypoint = values.transpose(2, 0, 1)[None]
    return RawFile([make_annotation(name, action - 1, keypoint)])


# The MAT-file format, level 5; scipy's reader crashes on some broken files.
HEADER = 128  # bytes
MATRIX, COMPRESSED = 14, 15
TYPES = {
    **{1: 'i1', 2: 'u1', 3: 'i2', 4: 'u2', 5: 'i4', 6: 'u4', 7: 'f4'},
    **{9: 'f8', 12: 'i8', 13: 'u8'},
}
REAL_CLASSES = range(6, 16)  # double, single, int8 to uint64
COMPLEX = 0x800


def read_matrix(data: bytes, name: str) -> np.ndarray:
    """Read an array of real numbers of a MATLAB file.

    Args:
        data (bytes): The file, of MATLAB 5 or later, before 7.3.
        name (str): The array's name.

    Raises:
        Exception: The file is of another form, or lacks it.
    """
    order = {b'IM': '<', b'MI': '>'}.get(data[HEADER - 2 : HEADER])
    if order is None:
        raise ValueError('no MATLAB file of version 5')
    for kind, content in _elements(data[HEADER:], order):
        if kind == COMPRESSED:
            most = most_content(len(data))
            content = zlib.decompressobj().decompress(content, most + 1)
            if len(content) > most:
                raise ValueError('it holds far more than its size')
            kind, content = next(_elements(content, order))
        parts = kind == MATRIX and list(islice(_elements(content, order), 4))
        if not parts or len(parts) < 4 or parts[2][1] != name.encode():
            continue
        (_, flags), (_, shape), _, (kind, numbers) = parts
        (flags,) = struct.unpack_from(f'{order}I', flags)
        if flags & 0xFF not in REAL_CLASSES or flags & COMPLEX:
            raise ValueError('it is no array of real numbers')
        shape = np.frombuffer(shape, f'{order}i4')
        values = np.frombuffer(numbers, f'{order}{TYPES[kind]}')
        return values.reshape(shape, order='F')
    raise ValueError('there is none')


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Yield type and content of each element."""
    start = 0
    while start < len(data):
        kind, size = struct.unpack_from(f'{order}II', data, start)
        start += 8
        if kind >> 16:  # a small one, in the place of the size
            kind, size, start = kind & 0xFFFF, kind >> 16, start - 4
            end = start + 4
        else:  # filled up to 8 bytes
            end = start + size + (0 if kind == COMPRESSED else -size % 8)
        content = data[start : min(start + size, end)]
        if len(content) < size:
            raise ValueError('it ends too early')
        yield kind, content
        start = end
