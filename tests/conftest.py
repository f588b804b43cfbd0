import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope

import mamp_mmaction  # noqa: F401

DATA = Path(__file__).parent / 'data'
TOOLS = Path(__file__).parents[1] / 'tools'


@pytest.fixture(autouse=True)
def _default_scope():
    init_default_scope('mmaction')


@pytest.fixture(autouse=True)
def _seed():
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope='session')
def load_tool():
    """Imports a script of tools/ by its path without ``.py``."""

    # What a script imports from beside it, as Python itself sees to it.
    sys.path.insert(0, str(TOOLS))

    def load(name):
        path = TOOLS / f'{name}.py'
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(params=['joints20_one_person', 'ntu25_two_person'])
def parity(request):
    """Reference numbers: ``config``, ``arrays``, ``state``, ``grad``."""
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
