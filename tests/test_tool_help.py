import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[1] / 'tools'
RUN = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name='__main__')
except SystemExit as end:
    status = end.code
loaded = {'numpy', 'torch', 'mamp_mmaction'} & set(sys.modules)
print(status, sorted(loaded))
"""


@pytest.mark.parametrize(
    'tool', sorted(TOOLS.rglob('*.py')), ids=lambda path: path.stem
)
def test_help_and_a_mistyped_option_load_nothing(tool):
    command = [sys.executable, '-I', '-c', RUN, str(tool)]
    for options, status in ((['--help'], 0), (['--no-such-option'], 2)):
        run = subprocess.run(
            [*command, *options], capture_output=True, text=True, check=True
        )
        assert run.stdout.splitlines()[-1] == f'{status} []'
        told = run.stdout if not status else run.stderr
        assert told.startswith('usage: ')
