"""Progress bars for people, not for log files."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track as rich_track

Item = TypeVar('Item')


def track(items: Iterable[Item], total: int) -> Iterator[Item]:
    """Go through items with a bar on stderr, if that is a terminal.

    Args:
        items (Iterable): What to go through.
        total (int): How many there are.

    Yields:
        The items.
    """
    yield from rich_track(
        items,
        description='',
        total=total,
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
