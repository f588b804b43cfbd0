import copy
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import mmaction
import numpy as np
import pytest
import torch
from mmaction.registry import HOOKS
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from synthetic import data_set, write
from test_features import (
    FORMAT,
    FRAMES,
    PACK,
    PRETRAINING,
    SKELETONS,
    STGCN,
    numpy_knn,
    numpy_softmax_regression,
)

from mamp_mmaction.engine.representation_probe_hook import (
    preserved_random_state,
)
from mamp_mmaction.evaluation.extraction import (
    extract_features,
    ordered_dataloader,
)

TRAIN = Path(mmaction.__path__[0], '.mim', 'tools', 'train.py')
TORCHRUN = ['-m', 'torch.distributed.run', '--nproc_per_node=2']
TORCHRUN += ['--standalone']
PRETRAIN_PIPELINE = [
    dict(type='CenterSkeleton'),
    dict(type='TemporalCropResize', num_frames=FRAMES),
    dict(type='RandomRotate3D'),
    FORMAT,
    dict(type='MotionAwareMask', mask_ratio=0.9, tau=0.8),
    dict(PACK, algorithm_keys=('mask',)),
]


@pytest.fixture(autouse=True)
def _plain_config_text(monkeypatch):
    """Spare the time that mmengine takes to format it for checkpoints."""
    text = property(lambda self: str(self._cfg_dict.to_dict()))
    monkeypatch.setattr(Config, 'pretty_text', text)


def loader(ann_file, split, pipeline, **kwargs):
    dataset = dict(
        type='PoseDataset', ann_file=ann_file, split=split, pipeline=pipeline
    )
    return dict(dict(batch_size=8, num_workers=0, dataset=dataset), **kwargs)


def config(tmp_path, probe=None, epochs=2, data=None, **kwargs):
    """Pre-training of 31 samples; ``probe`` is of the hook's arguments."""
    ann_file = write(tmp_path / 'ann.pkl', data or data_set(40, 31))
    shuffle = dict(type='DefaultSampler', shuffle=True)
    cfg = dict(
        default_scope='mmaction',
        work_dir=str(tmp_path / 'work'),
        model=PRETRAINING,
        train_dataloader=loader(
            ann_file, 'xsub_train', PRETRAIN_PIPELINE, sampler=shuffle
        ),
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=epochs),
        optim_wrapper=dict(
            type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-2)
        ),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
        randomness=dict(seed=0),
        custom_hooks=[],
    )
    if probe is not None:
        sets = dict(
            train_dataloader=loader(ann_file, 'xsub_train', SKELETONS),
            val_dataloader=loader(ann_file, 'xsub_val', SKELETONS),
        )
        hook = dict(dict(type='RepresentationProbeHook', **sets), **probe)
        cfg['custom_hooks'] = [hook]
    return Config(dict(cfg, **kwargs))


def train(cfg):
    cfg = copy.deepcopy(cfg)
    cfg.experiment_name = uuid.uuid4().hex
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def scalars(folder):
    logs = sorted(Path(folder).glob('*/vis_data/scalars.json'))
    lines = [json.loads(line) for log in logs for line in log.open()]
    return [line for line in lines if 'probe/knn_top1' in line]


def recomputed(ann_file, model, weight_decay, k):
    """Both accuracies by numpy, from features of a model as it is."""
    sets = []
    for split in ('xsub_train', 'xsub_val'):
        found = extract_features(
            model, ordered_dataloader(loader(ann_file, split, SKELETONS))
        )
        sets += [found.features.double().numpy(), found.labels.numpy()]
    return dict(
        knn_top1=numpy_knn(*sets, k=k),
        linear_top1=numpy_softmax_regression(*sets, weight_decay),
    )


@pytest.mark.parametrize('name', ['MAMP', 'STGCN'])
def test_scores_are_those_of_the_weights(tmp_path, name):
    """In the log, in the scalars and in the message hub."""
    probe = dict(interval=2, k=3, weight_decay=1.0)
    cfg = config(tmp_path, probe, epochs=3)
    if name == 'STGCN':
        cfg.model = STGCN
        cfg.train_dataloader.dataset.pipeline = SKELETONS
    runner = train(cfg)
    logged = scalars(cfg.work_dir)
    assert [line['step'] for line in logged] == [2, 3]  # the last one, too
    ann_file = str(tmp_path / 'ann.pkl')
    for epoch, line in zip((2, 3), logged):
        path = Path(cfg.work_dir, f'epoch_{epoch}.pth')
        runner.load_checkpoint(str(path))
        expected = recomputed(ann_file, runner.model, weight_decay=1.0, k=3)
        for key, value in expected.items():
            assert line[f'probe/{key}'] == pytest.approx(value), key
            history = runner.message_hub.get_scalar(f'probe/{key}').data[0]
            assert history[epoch - 2] == line[f'probe/{key}']
    text = next(Path(cfg.work_dir).glob('*/*.log')).read_text()
    for line in logged:
        assert (
            f'Epoch(probe) [{line["step"]}]  '
            f'probe/knn_top1: {line["probe/knn_top1"]:.4f}  '
            f'probe/linear_top1: {line["probe/linear_top1"]:.4f}\n'
        ) in text
    assert 'probe/knn_top1' not in ''.join(
        line for line in text.splitlines() if 'Epoch(train)' in line
    )


def test_training_does_not_notice(tmp_path):
    """Neither random numbers of the model nor of the data change.

    The probe's own pipeline draws random numbers here.
    """
    random = dict(
        train_dataloader=loader(
            str(tmp_path / 'ann.pkl'), 'xsub_train', PRETRAIN_PIPELINE
        )
    )
    plain = train(config(tmp_path, epochs=3)).model.state_dict()
    cfg = config(tmp_path, dict(random, interval=1), epochs=3)
    probed = train(cfg).model
    assert len(scalars(cfg.work_dir)) == 3
    for key, value in probed.state_dict().items():
        assert torch.equal(value, plain[key]), key
    assert all(module.training for module in probed.modules())


def test_random_states_are_restored():
    def draw():
        return [
            torch.rand(()).item(),
            np.random.random(),
            __import__('random').random(),
        ]

    with preserved_random_state():
        expected = draw()
    with pytest.raises(KeyError), preserved_random_state():
        draw()
        raise KeyError
    assert draw() == expected


@pytest.fixture
def scripted(monkeypatch):
    """Lets the hook believe in scores, one an epoch."""
    from mamp_mmaction.engine import RepresentationProbeHook

    def script(*scores):
        rest = iter(scores)
        monkeypatch.setattr(
            RepresentationProbeHook,
            '_probe',
            lambda self, runner: dict(knn_top1=0.0, linear_top1=next(rest)),
        )

    return script


def best_files(cfg):
    return sorted(path.name for path in Path(cfg.work_dir).glob('best_*'))


def test_the_best_weights_are_kept(tmp_path, scripted):
    scripted(0.2, 0.6, 0.4, 0.6)
    probe = dict(interval=1, save_best='linear_top1')
    cfg = config(tmp_path, probe, epochs=4)
    runner = train(cfg)
    name = 'best_probe_linear_top1_epoch_2.pth'
    assert best_files(cfg) == [name]
    assert not list(Path(cfg.work_dir).glob('*.tmp'))
    best = torch.load(Path(cfg.work_dir, name), weights_only=False)
    assert best['meta']['epoch'] == 2
    assert best['meta']['probe'] == dict(knn_top1=0.0, linear_top1=0.6)
    at_2 = torch.load(Path(cfg.work_dir, 'epoch_2.pth'), weights_only=False)
    for key, value in at_2['state_dict'].items():
        assert torch.equal(value, best['state_dict'][key])
    runner.load_checkpoint(str(Path(cfg.work_dir, name)))


def test_resuming_goes_on_from_the_best_file(tmp_path, scripted):
    """Although the checkpoint resumed from is older than that file."""
    scripted(0.1, 0.3, 0.6)
    probe = dict(interval=1, save_best='linear_top1')
    cfg = config(tmp_path, probe, epochs=3)
    train(cfg)
    pointer = Path(cfg.work_dir, 'last_checkpoint')
    pointer.write_text(str(Path(cfg.work_dir, 'epoch_1.pth')))

    scripted(0.5, 0.4)
    train(Config(dict(cfg, resume=True)))
    assert best_files(cfg) == ['best_probe_linear_top1_epoch_3.pth']
    best = torch.load(
        Path(cfg.work_dir, best_files(cfg)[0]), weights_only=False
    )
    assert best['meta']['probe']['linear_top1'] == 0.6

    scripted(0.7)
    cfg.train_cfg.max_epochs = 4
    train(Config(dict(cfg, resume=True)))
    assert best_files(cfg) == ['best_probe_linear_top1_epoch_4.pth']


def test_a_failed_save_leaves_the_last_best(tmp_path, scripted, monkeypatch):
    scripted(0.2, 0.6)
    probe = dict(interval=1, save_best='linear_top1')
    cfg = config(tmp_path, probe)
    save = Runner.save_checkpoint

    def break_at_second(self, out_dir, filename, *args, **kwargs):
        save(self, out_dir, filename, *args, **kwargs)
        if 'linear_top1_epoch_2' in filename:
            raise OSError('disk full')

    monkeypatch.setattr(Runner, 'save_checkpoint', break_at_second)
    with pytest.raises(OSError, match='disk full'):
        train(cfg)
    assert best_files(cfg) == ['best_probe_linear_top1_epoch_1.pth']


def test_settings_that_cannot_work(tmp_path):
    def refused(message, probe, **kwargs):
        probe = dict(dict(interval=1), **probe)
        with pytest.raises(ValueError, match=message):
            train(config(tmp_path, probe, **kwargs))

    refused('interval=0', dict(interval=0))
    refused("save_best='loss'", dict(save_best='loss'))
    refused('k=32 nearest', dict(k=32))

    averaged = config(tmp_path, dict(save_best='knn_top1'))
    averaged.custom_hooks.append(dict(type='EMAHook'))
    with pytest.raises(ValueError, match='leave out save_best, or EMAHook'):
        train(averaged)

    unlabelled = data_set(40, 31)
    for sample in unlabelled['annotations']:
        del sample['label']
    refused('its training set has none', {}, data=unlabelled)

    unseen = data_set(40, 31)
    unseen['annotations'][35]['label'] = 9
    refused('No training sample has label 9', {}, data=unseen)


def test_a_model_without_backbone_is_refused(tmp_path):
    runner = Runner.from_cfg(config(tmp_path, {}))
    runner.model.encoder = runner.model.backbone
    del runner.model.backbone
    hook = HOOKS.build(config(tmp_path, {}).custom_hooks[0])
    with pytest.raises(ValueError, match='MAMP has no backbone'):
        hook.before_train(runner)


class DumpHook(Hook):
    """Keeps what every process ends with; the test's module imports it."""

    def after_train(self, runner):
        probe = next(
            hook for hook in runner.hooks if hasattr(hook, 'save_best')
        )
        ann_file = runner.cfg.train_dataloader.dataset.ann_file
        found = extract_features(
            runner.model,
            ordered_dataloader(loader(ann_file, 'xsub_train', SKELETONS)),
        )
        torch.save(
            dict(
                names=found.names,
                labels=found.labels,
                features=found.features,
                best=(probe._best_score, str(probe._best_path)),
                weights=runner.model.module.state_dict(),
            ),
            Path(runner.work_dir, f'{torch.distributed.get_rank()}.pth'),
        )


def test_two_processes(tmp_path):
    """31 and 9 samples, so that the sampler pads both sets."""
    probe = dict(interval=1, k=3, weight_decay=1.0, save_best='knn_top1')
    cfg = config(tmp_path, probe, epochs=2)
    cfg.custom_imports = dict(imports=['mamp_mmaction', 'two_processes'])
    cfg.custom_hooks.append(dict(type='DumpHook'))
    cfg.env_cfg = dict(dist_cfg=dict(backend='gloo'))
    (tmp_path / 'pretrain.json').write_text(json.dumps(cfg.to_dict()))
    (tmp_path / 'two_processes.py').write_text(
        'from mmaction.registry import HOOKS\n'
        'from test_representation_probe_hook import DumpHook\n'
        'HOOKS.register_module(module=DumpHook)\n'
    )
    paths = [str(tmp_path), str(Path(__file__).parent)]
    paths += [os.environ.get('PYTHONPATH', '')]
    done = subprocess.run(
        [
            *(sys.executable, *TORCHRUN, TRAIN),
            *(tmp_path / 'pretrain.json', '--launcher', 'pytorch'),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=dict(
            os.environ,
            OMP_NUM_THREADS='1',
            PYTHONPATH=os.pathsep.join(filter(None, paths)),
        ),
    )
    assert done.returncode == 0, done.stdout + done.stderr

    ranks = [torch.load(tmp_path / f'work/{rank}.pth') for rank in (0, 1)]
    for key, value in ranks[0]['weights'].items():
        assert torch.equal(value, ranks[1]['weights'][key]), key
    ann_file = str(tmp_path / 'ann.pkl')
    model = Runner.from_cfg(config(tmp_path)).model
    model.load_state_dict(ranks[0]['weights'])
    single = extract_features(
        model, ordered_dataloader(loader(ann_file, 'xsub_train', SKELETONS))
    )
    for rank in ranks:
        assert rank['names'] == single.names and len(single.names) == 31
        assert torch.equal(rank['labels'], single.labels)
        torch.testing.assert_close(rank['features'], single.features)

    logged = scalars(tmp_path / 'work')
    assert [line['step'] for line in logged] == [1, 2]
    expected = recomputed(ann_file, model, weight_decay=1.0, k=3)
    for key, value in expected.items():
        assert logged[1][f'probe/{key}'] == pytest.approx(value), key
    scores = [line['probe/knn_top1'] for line in logged]
    best = scores.index(max(scores)) + 1
    path = tmp_path / f'work/best_probe_knn_top1_epoch_{best}.pth'
    assert best_files(cfg) == [path.name]
    for rank in ranks:
        assert rank['best'] == (max(scores), str(path))
