import importlib
import importlib.metadata
import re
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import mmaction
import mmcv
import numpy as np
import pytest
import torch
from mmaction.engine.hooks import VisualizationHook
from mmaction.registry import MODELS, TRANSFORMS
from mmengine.config import Config
from mmengine.dist import utils as dist_utils
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from processes import ROOT, free_port, run_python
from small_models import linear_head

from mamp_mmaction.compat import check_mmcv, mmcv_version, repair_toolbox

TOOLBOX = Path(mmaction.__file__).parent
WHEEL_LACKS_DRN = not (TOOLBOX / 'models' / 'localizers' / 'drn').is_dir()


# mmcv


@pytest.mark.parametrize('version', [None, '1.7.2', '2.0.0rc4', '2.2.0'])
def test_no_mmcv_names_the_command(version, monkeypatch):
    """Nor one of another version."""
    found = f'found {version}'
    if version is None:
        found = '^mamp_mmaction needs mmcv'
        monkeypatch.setitem(sys.modules, 'mmcv', None)  # its import fails
        monkeypatch.setattr(mmcv_version, '_distributions', list)
    else:
        monkeypatch.setattr(mmcv, '__version__', version)
    with pytest.raises(ImportError, match=found) as error:
        check_mmcv()
    assert "pip install 'mamp-mmaction[lite]'" in str(error.value)
    assert "pip install 'mmcv>=2.0,<2.2'" in str(error.value)


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


@pytest.mark.upstream
def test_models_import_needs_the_repair():
    done = run_python('-c', 'import mmaction.models')
    assert (done.returncode != 0) == WHEEL_LACKS_DRN, done.stderr


@pytest.mark.skipif(
    not WHEEL_LACKS_DRN, reason='the installed mmaction2 has DRN'
)
def test_building_the_missing_localizer_says_how_to_get_it():
    with pytest.raises(ImportError, match='mmaction2 from its source'):
        mmaction.registry.MODELS.build(dict(type='DRN', vocab_size=10))


DRN_CHECK = """
import importlib.util
import sys

spec = importlib.util.spec_from_file_location('drn_repair', sys.argv[1])
drn_repair = importlib.util.module_from_spec(spec)
spec.loader.exec_module(drn_repair)
print(drn_repair.is_missing(), 'mmaction' in sys.modules)
"""


@pytest.mark.parametrize(
    ('files', 'missing'),
    [
        (dict(drn='class DRN: ...'), False),
        (dict(drn='from .loss import x', loss='import json'), False),
        (dict(drn='from .loss import x', loss='import no_vision.ops'), True),
        (dict(drn='from no_vision import ops'), True),
        ({}, True),
    ],
)
def test_existing_localizer_is_left_alone(files, missing, tmp_path):
    folder = tmp_path / 'mmaction' / 'models' / 'localizers' / 'drn'
    folder.mkdir(parents=True)
    (tmp_path / 'mmaction' / '__init__.py').touch()
    for name, text in files.items():
        (folder / f'{name}.py').write_text(text)
    repair = ROOT / 'mamp_mmaction' / 'compat' / 'drn.py'
    done = run_python('-c', DRN_CHECK, repair, path=[tmp_path, ROOT])
    # Found out without importing the package.
    assert done.stdout.split() == [str(missing), 'False'], done.stderr


def test_foreign_warnings_are_silent():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        repair_toolbox()
        warnings.warn('Fail to import ``MultiScaleDeformableAttention`` from')
        warnings.warn('pkg_resources is deprecated as an API.')
        warnings.warn('other')
    assert [str(warning.message) for warning in caught] == ['other']


# What the dependencies mend


def test_dependencies_mend_what_the_toolbox_does_not_declare():
    declared = importlib.metadata.requires('mamp-mmaction')
    names = [re.match(r'[\w-]+', line)[0] for line in declared]
    assert {'importlib_metadata', 'importlib-metadata'} & set(names)
    assert '<82' in declared[names.index('setuptools')]
    importlib.import_module('importlib_metadata')
    importlib.import_module('pkg_resources')


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
        SLURM_NODELIST='localhost', MASTER_ADDR='127.0.0.1',
        MASTER_PORT=free_port(), CUDA_VISIBLE_DEVICES='',
    )  # fmt: skip
    return run_python('-c', LAUNCH, repaired, **launched)


@pytest.mark.upstream
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


# Uses that are refused


def test_compiling_by_mmengine_is_answered(monkeypatch):
    weight = torch.nn.Parameter(torch.ones(1))
    runner = SimpleNamespace(
        cfg=Config(dict(compile=True)),
        optim_wrapper=SimpleNamespace(optimizer=torch.optim.AdamW([weight])),
    )
    with pytest.raises(ValueError, match=r'compile_cfg=dict\(\)'):
        Runner._maybe_compile(runner, 'train_step')
    runner.cfg = Config(dict())
    Runner._maybe_compile(runner, 'train_step')


def test_skeletons_are_not_drawn_as_videos():
    hook = SimpleNamespace(enable=True)
    batch = dict(inputs=[torch.zeros(1, 2, 40, 25, 3)])
    draw = VisualizationHook._draw_samples
    with pytest.raises(ValueError, match=r'\(1, 2, 40, 25, 3\).*browse_anno'):
        draw(hook, 0, batch, [None])
    hook.enable = False
    draw(hook, 0, batch, [None])
    draw(hook, 0, dict(inputs=dict(imgs=[torch.zeros(3)])), [None])


@pytest.mark.parametrize(
    ('config', 'error', 'message'),
    [
        (
            dict(type='MotionPredictionHead', motion_strid=2),
            TypeError,
            "no argument 'motion_strid': did you mean 'motion_stride'",
        ),
        # An argument of the head's base class.
        (
            dict(linear_head(), los_cls={}),
            TypeError,
            "did you mean 'loss_cls'",
        ),
        (dict(type='MAMPDecoder', ab=1), TypeError, 'also takes .*, depth, '),
        (dict(type='MAMPDecodr'), KeyError, "did you mean 'MAMPDecoder'"),
    ],
)
@pytest.mark.parametrize('registry', [MODELS, MODELS.root])
def test_misspelt_words_of_a_config_are_corrected(
    registry, config, error, message
):
    """Also where mmengine's registry is asked, as its runner does."""
    with (
        DefaultScope.overwrite_default_scope('mmaction'),
        pytest.raises(error, match=message),
    ):
        registry.build(config)


def test_posec3ds_pipeline_runs():
    compact = TRANSFORMS.build(
        dict(type='PoseCompact', hw_ratio=1.0, allow_imgpad=True)
    )
    keypoint = np.array([[[[30.0, 40.0], [90.0, 80.0]]]])
    result = compact(dict(keypoint=keypoint, img_shape=(200, 300)))
    # The box of the joints, padded by a quarter and made square.
    assert result['img_shape'] == (75, 75)
    assert result['keypoint'].min() > 0
