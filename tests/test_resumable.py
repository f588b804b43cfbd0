"""Long work in pieces: what is done once, and in which order."""

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from mamp_mmaction.utils.resumable import (
    do_once,
    read_result,
    run_in_order,
    run_tool,
)

FOLDER = Path('work')


def test_what_is_done_is_not_done_again():
    assert read_result(FOLDER) is None
    assert do_once(FOLDER, dict(seed=1), lambda: dict(top1=0.5))
    assert not do_once(FOLDER, dict(seed=1), pytest.fail)
    assert read_result(FOLDER) == dict(top1=0.5)
    with pytest.raises(ValueError, match="(?s)work holds another .*'seed': 1"):
        do_once(FOLDER, dict(seed=2), pytest.fail)


def test_what_failed_is_done_again():
    with pytest.raises(ZeroDivisionError):
        do_once(FOLDER, {}, lambda: 1 / 0)
    assert read_result(FOLDER) is None
    assert do_once(FOLDER, {}, dict)
    assert read_result(FOLDER) == {}  # which is a result
    assert not do_once(FOLDER, {}, pytest.fail)


def pieces(**starts):
    return [SimpleNamespace(name=k, start=v) for k, v in starts.items()]


def test_work_waits_for_its_start_and_for_nothing_else():
    started, both = [], threading.Barrier(2, timeout=20)

    def do(piece):
        started.append(piece.name)
        if piece.name in ('start', 'alone'):
            both.wait()  # These two run at once, or never end.

    work = pieces(start=None, after='start', last='after', alone=None)
    run_in_order(work, do, 2)
    assert set(started[:2]) == {'start', 'alone'}
    assert started[2:] == ['after', 'last']


def test_nothing_is_started_after_a_failure():
    started = []

    def do(piece):
        started.append(piece.name)
        raise ChildProcessError('out of memory')

    with pytest.raises(ChildProcessError):
        run_in_order(pieces(a=None, b=None), do, 1)
    assert started == ['a']


def test_a_tool_that_fails_is_an_error_with_its_last_words():
    log = FOLDER / 'console.log'
    with pytest.raises(OSError, match=r'(?s)nil failed .* 1:.*train.*console'):
        run_tool(['nil'], log, 1)
    assert "no tool 'nil'" in log.read_text()
