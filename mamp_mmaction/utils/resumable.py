"""Long work in pieces, each of which is done once, however often started."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

from .atomic import written_whole

NOTE = 'piece.json'


def do_once(folder: Path, asked: dict, work: Callable[[], dict]) -> bool:
    """Do a piece of work in a folder of its own, unless it is done already.

    The folder gets a note of what was asked for and what came of it. Work
    that was cut off is begun again, and may go on from what it left there;
    a folder is never taken for that of other work.

    Args:
        folder (Path): The folder.
        asked (dict): What tells this work from other work, as in JSON.
        work (Callable): Does it, and returns what is to be noted.

    Returns:
        bool: Whether anything was done.

    Raises:
        ValueError: The folder is that of other work.
    """
    note = folder / NOTE
    before = json.loads(note.read_text()) if note.exists() else None
    if before and before['asked'] != asked:
        raise ValueError(
            f'{folder} holds another result than the one asked for:\n'
            f'  there: {before["asked"]}\n  asked: {asked}\n'
            'Choose another work directory, or remove that folder.'
        )
    if before and before['result'] is not None:
        return False
    _write(note, dict(asked=asked, result=None))
    _write(note, dict(asked=asked, result=work()))
    return True


def read_result(folder: Path) -> dict | None:
    """What came of a piece of work.

    Args:
        folder (Path): Its folder.

    Returns:
        dict | None: What was noted; None where it is not finished.
    """
    note = folder / NOTE
    return json.loads(note.read_text())['result'] if note.exists() else None


def _write(note: Path, content: dict) -> None:
    with written_whole(note) as temporary:
        temporary.write_text(json.dumps(content, indent=2))


def run_in_order(
    pieces: Sequence, do: Callable[[object], None], jobs: int
) -> None:
    """Do pieces of work, several at a time.

    Those that come first are done first, unless they wait for another one.
    After a failure nothing more is started.

    Args:
        pieces (Sequence): Each with a ``name``, and as ``start`` the name of
            the piece that must be done before it, or None.
        do (Callable): Does a piece.
        jobs (int): How many are done at a time.
    """
    waiting, running, done = list(pieces), {}, {None}
    with ThreadPoolExecutor(jobs) as pool:
        while waiting or running:
            ready = [piece for piece in waiting if piece.start in done]
            for piece in ready[: jobs - len(running)]:
                waiting.remove(piece)
                running[pool.submit(do, piece)] = piece.name
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                future.result()
                done.add(running.pop(future))


def run_tool(command: Sequence, log: Path, threads: int) -> float:
    """Run a tool and its arguments in a process, as the launcher names it.

    Args:
        command (Sequence): Tool and arguments.
        log (Path): File that its output is appended to.
        threads (int): Threads that it computes with.

    Returns:
        float: Seconds that cores spent on it, its processes all together.

    Raises:
        ChildProcessError: It fails; with its last words.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open('a') as output:
        process = subprocess.Popen(
            [sys.executable, '-m', 'mamp_mmaction', *map(str, command)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(os.environ, OMP_NUM_THREADS=str(threads)),
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = code = os.waitstatus_to_exitcode(status)
    if code:
        tail = '\n'.join(log.read_text().splitlines()[-15:])
        raise ChildProcessError(
            f'{command[0]} failed with exit status {code}:\n{tail}\n'
            f'The whole output is in {log}.'
        )
    return usage.ru_utime + usage.ru_stime
