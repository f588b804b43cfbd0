import importlib
import importlib.metadata
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import mmaction
import mmcv
import numpy as np
import pytest
import torch
from mmaction.registry import TRANSFORMS
from mmengine.config import Config
from mmengine.dist import utils as dist_utils

from mamp_mmaction.compat import check_mmcv, mmcv_version, repair_toolbox

ROOT = Path(__file__).resolve().parents[1]
TOOLBOX = Path(mmaction.__file__).parent
WHEEL_LACKS_DRN = not (TOOLBOX / 'models' / 'localizers' / 'drn').is_dir()


def run_python(*arguments, path=(), **environment):
    """Run Python in a process of its own that finds the repository."""
    path = os.pathsep.join(str(p) for p in (*path, ROOT))
    return subprocess.run(
        [sys.executable, '-W', 'ignore', *map(str, arguments)],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            'OMP_NUM_THREADS': '1',
            'PYTHONPATH': path,
            **environment,
        },
        timeout=120,
    )


def run_without(names, code, folder):
    """Run code where everything is installed but modules of some names."""
    for site in map(Path, sys.path):
        if site.name not in ('site-packages', 'dist-packages'):
            continue
        for entry in site.iterdir():
            link = folder / entry.name
            if not entry.name.startswith(names) and not link.exists():
                link.symlink_to(entry)
    return run_python('-S', '-c', code, path=[folder])


def free_port():
    with socket.socket() as unused:
        unused.bind(('127.0.0.1', 0))
        return str(unused.getsockname()[1])


# mmcv


def test_import_without_mmcv_names_the_command(tmp_path):
    site = tmp_path / 'site'
    site.mkdir()
    done = run_without('mmcv', 'import mamp_mmaction', site)
    error = done.stderr.strip().splitlines()[-1]
    assert error.startswith('ImportError: mamp_mmaction needs mmcv')
    assert "pip install 'mamp-mmaction[lite]'" in error
    assert "pip install 'mmcv>=2.0,<2.2'" in error


@pytest.mark.parametrize('version', ['1.7.2', '2.0.0rc4', '2.2.0'])
def test_mmcv_of_another_version_is_named(version, monkeypatch):
    monkeypatch.setattr(mmcv, '__version__', version)
    with pytest.raises(ImportError, match=f'found {version}') as error:
        check_mmcv()
    assert "pip install 'mamp-mmaction[lite]'" in str(error.value)


@pytest.fixture
def fake_distribution(tmp_path, monkeypatch):
    """Makes pip's record of a distribution, without its files."""

    def make(name, version):
        folder = tmp_path / f'{name}-{version}.dist-info'
        folder.mkdir()
        metadata = f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n'
        (folder / 'METADATA').write_text(metadata)
        monkeypatch.syspath_prepend(str(tmp_path))

    return make


def test_two_mmcvs_are_warned_of(fake_distribution, monkeypatch):
    messages = []
    monkeypatch.setattr(
        mmcv_version, 'print_log', lambda text, **kwargs: messages.append(text)
    )
    fake_distribution('mmcv', '2.1.0')
    fake_distribution('mmcv_lite', '2.0.1')
    check_mmcv()
    (message,) = messages
    assert 'Both mmcv==2.1.0 and mmcv-lite==2.0.1 are installed' in message
    assert 'pip uninstall -y mmcv mmcv-lite' in message


def test_remains_of_mmcv_are_told_from_none(fake_distribution, monkeypatch):
    fake_distribution('mmcv', '2.1.0')
    monkeypatch.setitem(sys.modules, 'mmcv', None)  # its import fails
    with pytest.raises(ImportError, match='its files are gone') as error:
        check_mmcv()
    assert "--force-reinstall --no-deps 'mmcv==2.1.0'" in str(error.value)


# The localizer that the wheel lacks


def test_models_import_needs_the_repair():
    done = run_python('-c', 'import mmaction.models')
    if WHEEL_LACKS_DRN:
        assert 'mmaction.models.localizers.drn' in done.stderr
        assert done.returncode != 0
    else:
        assert done.returncode == 0, done.stderr


def test_models_import_after_the_repair():
    models = importlib.import_module('mmaction.models')
    assert issubclass(models.RecognizerGCN, torch.nn.Module)


@pytest.mark.skipif(
    not WHEEL_LACKS_DRN, reason='the installed mmaction2 has DRN'
)
def test_building_the_missing_localizer_says_how_to_get_it():
    with pytest.raises(ImportError, match='install mmaction2 from its source'):
        mmaction.registry.MODELS.build(dict(type='DRN', vocab_size=10))


DRN_CHECK = """
import importlib.util
import sys

spec = importlib.util.spec_from_file_location('drn_repair', sys.argv[1])
drn_repair = importlib.util.module_from_spec(spec)
spec.loader.exec_module(drn_repair)
print(drn_repair.is_missing(), 'mmaction' in sys.modules)
"""


@pytest.mark.parametrize('has_module', [True, False])
def test_existing_localizer_is_left_alone(has_module, tmp_path):
    localizers = tmp_path / 'mmaction' / 'models' / 'localizers'
    (localizers / 'drn').mkdir(parents=True)
    (tmp_path / 'mmaction' / '__init__.py').touch()
    if has_module:
        (localizers / 'drn' / 'drn.py').write_text('class DRN: ...')
    repair = ROOT / 'mamp_mmaction' / 'compat' / 'drn.py'
    done = run_python('-c', DRN_CHECK, repair, path=[tmp_path])
    # Found out without importing the package.
    assert done.stdout.split() == [str(not has_module), 'False'], done.stderr


# What the dependencies mend


def test_dependencies_mend_what_the_toolbox_does_not_declare():
    declared = importlib.metadata.requires('mamp-mmaction')
    names = [re.match(r'[\w-]+', line)[0] for line in declared]
    assert {'importlib_metadata', 'importlib-metadata'} & set(names)
    assert '<82' in declared[names.index('setuptools')]
    importlib.import_module('importlib_metadata')
    importlib.import_module('pkg_resources')


def write_child_config(folder):
    path = folder / 'child.py'
    path.write_text("_base_ = 'mmaction::_base_/default_runtime.py'\n")
    return path


def test_toolbox_configs_are_found(tmp_path):
    config = Config.fromfile(write_child_config(tmp_path))
    assert config.default_scope == 'mmaction'
    assert config.default_hooks.checkpoint.type == 'CheckpointHook'


UNDECLARED = """
import sys

from mmaction.registry import TRANSFORMS
from mmengine.config import Config

try:
    Config.fromfile(sys.argv[1])
except ModuleNotFoundError as error:
    print(error.name)
try:
    import mmaction.utils.dependency
except ModuleNotFoundError as error:
    print(error.name)
"""


def test_toolbox_fails_without_those_dependencies(tmp_path):
    site = tmp_path / 'site'
    site.mkdir()
    config = write_child_config(tmp_path)
    code = UNDECLARED.replace('sys.argv[1]', repr(str(config)))
    names = ('pkg_resources', 'importlib_metadata')
    done = run_without(names, code, site)
    assert done.stdout.split() == list(names), done.stderr


# Several processes without a GPU


LAUNCH = """
import sys

import torch
from mmengine.dist import get_backend, init_dist
from mmengine.model import MMDistributedDataParallel
from torch.distributed import destroy_process_group

set_device = torch.cuda.set_device
if sys.argv[1] == 'repaired':
    from mamp_mmaction.compat import repair_toolbox
    repair_toolbox()
    repair_toolbox()
for launcher in ('pytorch', 'mpi', 'slurm'):
    try:
        init_dist(launcher, backend='nccl')
        model = MMDistributedDataParallel(
            module=torch.nn.Linear(2, 2), device_ids=[0]
        )
        print(launcher, get_backend(), model.device_ids)
        destroy_process_group()
    except Exception as error:
        print(launcher, 'failed:', type(error).__name__)
assert torch.cuda.set_device is set_device
"""


def run_launchers(repaired):
    launched = dict(
        RANK='0', LOCAL_RANK='0', WORLD_SIZE='1',
        OMPI_COMM_WORLD_LOCAL_RANK='0', OMPI_COMM_WORLD_RANK='0',
        OMPI_COMM_WORLD_SIZE='1',
        SLURM_PROCID='0', SLURM_NTASKS='1', SLURM_LOCALID='0',
        SLURM_NODELIST='localhost',
    )  # fmt: skip
    return run_python(
        '-c',
        LAUNCH,
        repaired,
        MASTER_ADDR='127.0.0.1',
        MASTER_PORT=free_port(),
        CUDA_VISIBLE_DEVICES='',
        **launched,
    )


def test_launchers_without_repair_need_a_gpu():
    done = run_launchers('as installed')
    assert done.stdout.count('failed:') == 3, done.stdout + done.stderr


def test_launchers_after_repair_take_gloo_on_the_cpu():
    done = run_launchers('repaired')
    for launcher in ('pytorch', 'mpi', 'slurm'):
        assert f'{launcher} gloo None' in done.stdout, done.stderr
    assert done.stdout.count('gloo, not nccl') == 3


def test_launchers_stay_as_they_are_where_there_is_a_gpu(monkeypatch):
    launch = object()
    monkeypatch.setattr(dist_utils, '_init_dist_pytorch', launch)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    repair_toolbox()
    assert dist_utils._init_dist_pytorch is launch


TOY = """
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.model import BaseModel

from mmaction.registry import DATASETS, HOOKS, MODELS


@DATASETS.register_module()
class Numbers(torch.utils.data.Dataset):
    metainfo = {}

    def __len__(self):
        return 8

    def __getitem__(self, index):
        x = torch.tensor([float(index), 1.0])
        return dict(x=x, y=3 * x[:1] - 1)


@MODELS.register_module()
class Line(BaseModel):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(2, 1)

    def forward(self, x, y, mode):
        error = self.linear(torch.stack(x)) - torch.stack(y)
        return dict(loss=error.square().mean())


@HOOKS.register_module()
class SaveEveryRank(Hook):
    def before_train(self, runner):
        self.save(runner, 'before')

    def after_train(self, runner):
        self.save(runner, 'after')

    def save(self, runner, when):
        path = f'{runner.work_dir}/{when}_{get_rank()}.pth'
        torch.save(runner.model.module.state_dict(), path)
"""

TOY_CONFIG = """
_base_ = 'mmaction::_base_/default_runtime.py'
custom_imports = dict(imports=['mamp_mmaction', 'toy'])
default_hooks = dict(checkpoint=dict(save_best=None))
custom_hooks = [dict(type='SaveEveryRank')]
model = dict(type='Line')
train_dataloader = dict(
    batch_size=2,
    dataset=dict(type='Numbers'),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
train_cfg = dict(by_epoch=True, max_epochs=2)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))
"""


def test_two_processes_train_by_the_toolbox_script(tmp_path):
    (tmp_path / 'toy.py').write_text(TOY)
    config = tmp_path / 'config.py'
    config.write_text(TOY_CONFIG)
    script = TOOLBOX / '.mim' / 'tools' / 'train.py'
    done = run_python(
        *('-m', 'torch.distributed.run', '--nproc-per-node', 2),
        *('--master-port', free_port()),
        *(script, config, '--launcher', 'pytorch', '--work-dir', tmp_path),
        path=[tmp_path],
        CUDA_VISIBLE_DEVICES='',
    )
    assert done.returncode == 0, done.stderr

    before, after, other = (
        torch.load(tmp_path / f'{name}.pth')['linear.weight']
        for name in ('before_0', 'after_0', 'after_1')
    )
    assert torch.equal(after, other)
    assert not torch.equal(after, before)
    assert done.stdout.count('gloo, not nccl') == 1


def test_posec3ds_pipeline_runs():
    compact = TRANSFORMS.build(
        dict(type='PoseCompact', hw_ratio=1.0, allow_imgpad=True)
    )
    keypoint = np.array([[[[30.0, 40.0], [90.0, 80.0]]]])
    result = compact(dict(keypoint=keypoint, img_shape=(200, 300)))
    # The box of the joints, padded by a quarter and made square.
    assert result['img_shape'] == (75, 75)
    assert result['keypoint'].min() > 0
