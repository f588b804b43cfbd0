"""What the converters of raw data sets share: workers and broken files."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from functools import partial

from ..utils import available_cores
from .progress import Progress

# Files that a worker fetches at once: enough to hide what a transfer costs,
# few enough that the workers finish together.
MAX_CHUNK = 32


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--num-workers`` and ``--strict`` to a converter's arguments."""
    parser.add_argument(
        '--num-workers',
        type=_at_least_one,
        default=available_cores(),
        metavar='N',
        help='worker processes (default: the cores available here, '
        '%(default)s)',
    )
    parser.add_argument(
        '--strict',
        action='store_true',
        help='stop at the first broken file instead of leaving it out',
    )


def read_files(
    read: Callable,
    files: Sequence,
    num_workers: int = 1,
    strict: bool = False,
) -> tuple[list, list[str]]:
    """Read many files in worker processes, with a progress bar on stderr.

    Args:
        read (Callable): Reads one file; raises ValueError or OSError, with a
            message that names the file, where it is broken. A function of a
            module, so that worker processes find it.
        files (Sequence): What ``read`` takes, one a call.
        num_workers (int): Worker processes; 1 reads in this process.
            Defaults to 1.
        strict (bool): Whether the first broken file stops the reading.
            Defaults to False.

    Returns:
        tuple[list, list[str]]: The results in the order of the files, without
        the broken ones, and a message for each broken one.

    Raises:
        ValueError: With ``strict``, a file is broken.
        ChildProcessError: The system ended a worker process.
    """
    results, broken = [], []
    progress = Progress(len(files))
    try:
        with closing(_map(read, files, num_workers)) as outcomes:
            for result, fault in outcomes:
                if fault is None:
                    results.append(result)
                elif strict:
                    raise ValueError(fault)
                else:
                    broken.append(fault)
                progress.update()
    finally:
        progress.close()
    return results, broken


def _map(read: Callable, files: Sequence, num_workers: int) -> Iterator[tuple]:
    """Yield the outcomes in the order of the files."""
    attempt = partial(_attempt, read)
    if num_workers == 1:
        yield from map(attempt, files)
        return
    chunk = len(files) // (4 * num_workers)
    with ProcessPoolExecutor(num_workers) as pool:
        try:
            yield from pool.map(
                attempt, files, chunksize=min(max(chunk, 1), MAX_CHUNK)
            )
        except BrokenProcessPool:
            raise ChildProcessError(
                'the system ended a worker process, most likely for want of '
                f'memory; found --num-workers {num_workers}, use fewer.'
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _attempt(read: Callable, file: object) -> tuple[object, str | None]:
    """Return the result and no fault, or no result and the fault."""
    try:
        return read(file), None
    except (ValueError, OSError) as error:
        return None, str(error)


def _at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'{value} is less than 1')
    return value
