"""NumPy's files, read without trust in what they declare."""

import os
import zipfile
from pathlib import Path

import numpy as np

#: A compressed file may hold this many times its size, and some more.
MOST_TIMES, AND_MORE = 100, 1 << 26


def most_content(size: int) -> int:
    """Return how many bytes a compressed file may hold, by its own size."""
    return MOST_TIMES * size + AND_MORE


def check_declared(archive: zipfile.ZipFile) -> None:
    """Check how much an archive says that it holds; no more is ever read.

    Raises:
        BadZipFile: It is beyond :func:`most_content`.
    """
    size = archive.fp.seek(0, os.SEEK_END)
    declared = sum(info.file_size for info in archive.infolist())
    if declared > most_content(size):
        raise zipfile.BadZipFile(
            f'{size} bytes that declare {declared} of content, expected at '
            f'most {most_content(size)}: forged, or to be saved again '
            'uncompressed'
        )


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Read all arrays of a .npy or .npz file, no objects.

    Args:
        path (str | Path): The file.

    Returns:
        dict[str, np.ndarray]: By name; that of a .npy file is empty.

    Raises:
        OSError: It cannot be opened.
        ValueError: It is another file, damaged, or declares more than it
            holds.
    """
    with open(path, 'rb') as file:
        try:
            content = np.load(file, allow_pickle=False)
            if isinstance(content, np.ndarray):
                return {'': content}
            check_declared(content.zip)
            return dict(content)
        except Exception as error:  # what a damaged file raises is anything
            # Without numpy's advice to read objects, which could run code.
            reason = ' '.join(str(error).split('. ')[0].split()).rstrip('.')
            raise ValueError(
                f'{path}: holds no array that could be read ({reason}).'
            ) from error
