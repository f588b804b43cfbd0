"""Files that are there whole or not at all."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TEMPORARY = '.{}.tmp.{}'  # process, name


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Write a file under a temporary name, then give it its own.

    Whatever fails, an existing file keeps its content and nothing else is
    left behind::

        with written_whole('out.json') as temporary:
            temporary.write_text(text)

    Args:
        path (str | Path): The file. Missing folders are made.

    Yields:
        Path: A name in the same folder, with the same ending, to write to.

    Raises:
        OSError: The folder cannot be made, or the file not written.
    """
    path = Path(path)
    temporary = check_writable(path)
    try:
        yield temporary
        with open(temporary, 'rb') as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: str | Path) -> Path:
    """Check that a file can be written, before the work for it begins.

    Args:
        path (str | Path): The file. Missing folders are made.

    Returns:
        Path: The name that it has while it is written.

    Raises:
        OSError: It is a folder, or its folder cannot be made or written to.
    """
    path = Path(path)
    temporary = path.with_name(_TEMPORARY.format(os.getpid(), path.name))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        temporary.touch()
        temporary.unlink()
    except OSError as error:
        reason = f'cannot be written: {error.strerror}'
        raise OSError(error.errno, reason, str(path)) from error
    return temporary


def remove_leftovers(folder: str | Path, name: str) -> None:
    """Remove what :func:`written_whole` left where its process was killed.

    Args:
        folder (str | Path): Folder in which no other process writes.
        name (str): Pattern of the files' names, such as ``'*.pth'``.
    """
    for path in Path(folder).glob(_TEMPORARY.format('*', name)):
        path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    # Else a crash of the machine may undo the renaming, but not what follows.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
