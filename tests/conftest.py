import gc
import importlib.util
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

# Before numpy and torch load, here and in every process that a test starts.
for _library in ('OMP', 'MKL', 'OPENBLAS'):
    os.environ[f'{_library}_NUM_THREADS'] = '1'
# Nothing is drawn on a screen.
os.environ.setdefault('MPLBACKEND', 'agg')

DATA = Path(__file__).parent / 'data'
TOOLS = Path(__file__).parents[1] / 'tools'


def pytest_collectstart():
    """Load the package first, as a config does.

    Only where tests are collected: the process that distributes them to
    others has no use for torch.
    """
    import mamp_mmaction  # noqa: F401


def pytest_collection_finish():
    """Leave the libraries out of each collection that a data set calls for."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _default_scope():
    from mmengine.registry import init_default_scope

    init_default_scope('mmaction')


@pytest.fixture(autouse=True)
def _seed():
    import numpy as np
    import torch

    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    """Run every test in a folder of its own, not in the checkout."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope='session', autouse=True)
def _other_folder(tmp_path_factory):
    """The same for what fixtures of a module or the session do."""
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp('cwd'))
    yield
    os.chdir(before)


@pytest.fixture
def plain_config_text(monkeypatch):
    """Spare the time that mmengine takes to format it for checkpoints."""
    from mmengine.config import Config

    text = property(lambda self: str(self._cfg_dict.to_dict()))
    monkeypatch.setattr(Config, 'pretty_text', text)


@pytest.fixture(scope='session')
def load_tool():
    """Imports a script of tools/ by its path without ``.py``."""

    def load(name):
        path = TOOLS / f'{name}.py'
        spec = importlib.util.spec_from_file_location(
            f'tool_{path.stem}', path
        )
        module = importlib.util.module_from_spec(spec)
        # Processes that a tool starts look its functions up by this name.
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(params=['joints20_one_person', 'ntu25_two_person'])
def parity(request):
    """Reference numbers: ``config``, ``arrays``, ``state``, ``grad``."""
    import numpy as np
    import torch

    with np.load(DATA / f'parity_{request.param}.npz') as file:
        arrays = {key: file[key] for key in file.files}
    config = SimpleNamespace(**json.loads(str(arrays.pop('config'))))

    def tensors(prefix):
        return {
            key[len(prefix) :]: torch.from_numpy(np.array(value))
            for key, value in arrays.items()
            if key.startswith(prefix)
        }

    return SimpleNamespace(
        config=config,
        arrays=arrays,
        # (N, C, T, V, M) -> (N, 1 clip, M, T, V, C)
        inputs=torch.from_numpy(arrays['x'].transpose(0, 4, 2, 3, 1))[:, None],
        state=tensors('state.'),
        grad=tensors('grad.'),
        tensors=tensors,
    )
