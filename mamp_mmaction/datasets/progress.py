"""Progress bars for people, not for log files."""

import io
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from mmengine.utils import ProgressBar

Item = TypeVar('Item')


class Progress(ProgressBar):
    """A bar on stderr; where that is no terminal, nothing is drawn.

    Args:
        total (int): Number of updates that finish it.
    """

    def __init__(self, total: int) -> None:
        self.is_drawn = sys.stderr.isatty()
        stream = sys.stderr if self.is_drawn else io.StringIO()
        super().__init__(total, file=stream)

    def close(self) -> None:
        """End the bar's line."""
        if self.is_drawn:
            print(file=sys.stderr)


def track(items: Iterable[Item], total: int) -> Iterator[Item]:
    """Go through items with a progress bar.

    Args:
        items (Iterable): What to go through.
        total (int): How many there are.

    Yields:
        The items.
    """
    progress = Progress(total)
    try:
        for item in items:
            yield item
            progress.update()
    finally:
        progress.close()
