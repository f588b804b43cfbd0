"""Files that are there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{os.getpid()}.tmp.{path.name}')
    try:
        yield temporary
        with open(temporary, 'rb') as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
