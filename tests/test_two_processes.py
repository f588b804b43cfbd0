import subprocess
import sys
from pathlib import Path

import pytest
from processes import run_successfully

JOB = Path(__file__).with_name('two_process_job.py')


@pytest.fixture(scope='module')
def busy_machine():
    """Two other processes that always compute."""
    processes = [
        subprocess.Popen([sys.executable, '-c', 'while True: pass'])
        for _ in range(2)
    ]
    yield
    for process in processes:
        process.kill()
        process.wait()


def start_jobs(starts):
    """Each start may take a minute; a machine at work needs ten seconds."""
    output = run_successfully('-W', 'ignore', JOB, starts, 60, timeout=280)
    assert f'{starts} starts ended' in output


def test_two_process_jobs_end():
    start_jobs(3)


@pytest.mark.long
@pytest.mark.parametrize('part', range(20))
def test_two_hundred_two_process_jobs_end_under_load(part, busy_machine):
    start_jobs(10)
