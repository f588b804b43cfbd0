"""Programs that tests run beside themselves, with a limit of time."""

import os
import signal
import socket
import subprocess
import sys
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Two processes that meet at a free port, so that tests can run side by side.
TORCHRUN = ('-m', 'torch.distributed.run', '--standalone')
TORCHRUN += ('--nproc_per_node=2',)


def free_port():
    """A port of this machine that is free now, as a string."""
    with socket.socket() as unused:
        unused.bind(('127.0.0.1', 0))
        return str(unused.getsockname()[1])


def run_python(*arguments, cwd=None, path=(ROOT,), timeout=240, **environment):
    """Run Python to its end, with this repository's package.

    Args:
        arguments: What follows ``python`` on the command line.
        cwd: Folder to run in. Defaults to the test's own.
        path: Folders for ``PYTHONPATH``.
        timeout: Seconds after which the program and all that it has started
            show the stacks of their threads and are ended.
        environment: Further variables.

    Returns:
        subprocess.CompletedProcess: ``returncode``, ``stdout``, ``stderr``.

    Raises:
        AssertionError: If it does not end in time, with its output.
    """
    command = [sys.executable, *map(str, arguments)]
    process = subprocess.Popen(
        command,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            'PYTHONPATH': os.pathsep.join(map(str, path)),
            'PYTHONFAULTHANDLER': '1',
            **environment,
        },
    )
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        _abort(process.pid)
        stdout, stderr = process.communicate()
        raise AssertionError(
            f'not done after {timeout} s: {command}\n{stdout}\n{stderr}'
        ) from None
    except BaseException:  # the test's own limit, or the keyboard
        _abort(process.pid)
        raise
    return subprocess.CompletedProcess(
        command, process.returncode, stdout, stderr
    )


def run_successfully(*arguments, **kwargs):
    """:func:`run_python`; returns all that it printed, in one string."""
    done = run_python(*arguments, **kwargs)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def start_fork(function, log, **environment):
    """Call a function in a fork of this process, which need import nothing.

    Imports cost most of what a script takes that does little.

    Args:
        function (callable): What is called, without arguments.
        log: File that gets all that it prints, also below Python.
        environment: Further variables.

    Returns:
        int: Its process, for ``os.waitpid``.
    """
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.environ.update(environment)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(output, stream)
        sys.stdout, sys.stderr = (
            os.fdopen(stream, 'w', buffering=1, closefd=False)
            for stream in (1, 2)
        )
        function()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def start_ranks(function, log, size):
    """Call a function in forks that are the processes of one training.

    Args:
        function (callable): What each calls, without arguments.
        log: File that gets all that they print.
        size: How many processes.

    Returns:
        list[int]: The processes by their rank, for ``os.waitpid``.
    """
    port = free_port()
    return [
        start_fork(
            function,
            log,
            MASTER_ADDR='127.0.0.1',
            MASTER_PORT=port,
            WORLD_SIZE=str(size),
            RANK=str(rank),
            LOCAL_RANK=str(rank),
        )
        for rank in range(size)
    ]


def _abort(pid):
    """End a process after those it started; each one shows its stacks."""
    try:
        # A parent that sees a child end could end the others without a word.
        os.kill(pid, signal.SIGSTOP)
        for child in _children(pid):
            _abort(child)
        os.kill(pid, signal.SIGABRT)
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        pass


def _children(pid):
    path = Path(f'/proc/{pid}/task/{pid}/children')
    return [int(child) for child in path.read_text().split()]
