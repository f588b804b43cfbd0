import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

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


def run_job(starts, seconds):
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', JOB, str(starts), str(seconds)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f'{starts} starts ended' in done.stdout


def test_two_process_jobs_end():
    run_job(starts=3, seconds=60)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_hundred_two_process_jobs_end_under_load():
    with busy_processes(2):
        run_job(starts=100, seconds=60)
