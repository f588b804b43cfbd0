import contextlib
import subprocess
import sys
from pathlib import Path

import pytest
from processes import run_successfully

JOB = Path(__file__).with_name('two_process_job.py')


@contextlib.contextmanager
def busy_processes(count):
    processes = [
        subprocess.Popen([sys.executable, '-c', 'while True: pass'])
        for _ in range(count)
    ]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def run_job(starts, timeout):
    """Each start may take a minute."""
    output = run_successfully(
        *('-W', 'ignore', JOB, starts, 60), timeout=timeout
    )
    assert f'{starts} starts ended' in output


def test_two_process_jobs_end():
    run_job(3, timeout=110)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_hundred_two_process_jobs_end_under_load():
    with busy_processes(2):
        run_job(100, timeout=3500)
