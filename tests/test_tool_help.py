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


@pytest.mark.parametrize(
    ('tool', 'arguments'),
    [
        ('demo', 'demo.py --config no.py --checkpoint no.pth --out out.csv'),
        ('export_onnx', 'no.py no.pth out.onnx'),
        ('extract_features', 'no.py none out.npz'),
        ('show_method', 'no.pkl no.py --sample S --out out.png'),
        ('show_results', 'curves no --out out.png'),
        ('data/mamp_npz', 'to-annotations no_xsub.npz out.pkl'),
        ('data/mamp_npz', 'to-npz no.pkl out_xsub.npz'),
    ],
)
def test_what_cannot_be_written_is_told_first(load_tool, tool, arguments):
    if tool == 'export_onnx':
        pytest.importorskip('onnxruntime')
    Path('demo.py').touch()
    for word in arguments.split():
        if word.startswith('out'):
            Path(word).mkdir()
    with pytest.raises(SystemExit, match='^error: .*cannot be written: Is a'):
        load_tool(tool).main(arguments.split())
