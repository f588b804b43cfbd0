import copy
import json
import uuid
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from small_models import T, V, pretraining
from synthetic import data_set, pipeline, write
from synthetic import loader as make_loader

from mamp_mmaction.engine import RepresentationProbeHook
from mamp_mmaction.evaluation.extraction import (
    extract_features,
    ordered_dataloader,
)
from mamp_mmaction.evaluation.probes import knn_accuracy, linear_accuracy

pytestmark = pytest.mark.usefixtures('plain_config_text')

SIZE = dict(size=20, train=15, joints=V, frames=T)


PLAIN = [
    dict(step, test_mode=True) if 'num_frames' in step else step
    for step in pipeline(T)[1:]
]
AUGMENTED = [dict(type='RandomRotate3D'), *pipeline(T, 2, 0.8)[1:]]


def loader(ann_file, split, steps=PLAIN, **kwargs):
    return make_loader(
        ann_file, split, steps, 'PoseDataset', batch_size=8, **kwargs
    )


def config(tmp_path, probe=None, epochs=2, data=None, **kwargs):
    """Pre-training of 15 samples; ``probe`` is of the hook's arguments."""
    ann_file = write(tmp_path / 'ann.pkl', data or data_set(**SIZE))
    cfg = dict(
        default_scope='mmaction',
        work_dir=str(tmp_path / 'work'),
        model=pretraining(),
        train_dataloader=loader(ann_file, 'xsub_train', AUGMENTED),
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
            train_dataloader=loader(ann_file, 'xsub_train'),
            val_dataloader=loader(ann_file, 'xsub_val'),
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
    """Both accuracies, from features of a model as it is."""
    sets = []
    for split in ('xsub_train', 'xsub_val'):
        found = extract_features(
            model, ordered_dataloader(loader(ann_file, split))
        )
        sets += [found.features, found.labels]
    return {
        'probe/knn_top1': knn_accuracy(*sets, k=k),
        'probe/linear_top1': linear_accuracy(*sets, weight_decay=weight_decay),
    }


def test_scores_are_those_of_the_weights(tmp_path):
    """In the log, in the scalars and in the message hub."""
    probe = dict(interval=2, k=3, weight_decay=1.0)
    cfg = config(tmp_path, probe, epochs=3)
    runner = train(cfg)
    logged = scalars(cfg.work_dir)
    assert [line['step'] for line in logged] == [2, 3]  # the last one, too
    ann_file = str(tmp_path / 'ann.pkl')
    for epoch, line in zip((2, 3), logged):
        path = Path(cfg.work_dir, f'epoch_{epoch}.pth')
        runner.load_checkpoint(str(path))
        expected = recomputed(ann_file, runner.model, weight_decay=1.0, k=3)
        for key, value in expected.items():
            assert line[key] == pytest.approx(value), key
            history = runner.message_hub.get_scalar(key).data[0]
            assert history[epoch - 2] == line[key]
    text = next(Path(cfg.work_dir).glob('*/*.log')).read_text()
    for line in logged:
        assert (
            f'Epoch(probe) [{line["step"]}]  '
            f'probe/knn_top1: {line["probe/knn_top1"]:.4f}  '
            f'probe/linear_top1: {line["probe/linear_top1"]:.4f}\n'
        ) in text
    training = [line for line in text.splitlines() if 'Epoch(train)' in line]
    assert training and 'probe/knn_top1' not in ''.join(training)


def test_training_does_not_notice(tmp_path):
    """Neither random numbers of the model nor of the data change.

    The probe's own pipeline draws random numbers here.
    """
    plain = train(config(tmp_path)).model.state_dict()
    ann_file = str(tmp_path / 'ann.pkl')
    random_set = loader(ann_file, 'xsub_train', AUGMENTED)
    cfg = config(tmp_path, dict(train_dataloader=random_set, interval=1))
    probed = train(cfg).model
    assert len(scalars(cfg.work_dir)) == 2
    for key, value in probed.state_dict().items():
        assert torch.equal(value, plain[key]), key
    assert all(module.training for module in probed.modules())


@pytest.fixture
def scripted(monkeypatch):
    """Lets the hook believe in scores, one an epoch."""

    def script(*scores):
        rest = iter(scores)
        monkeypatch.setattr(
            RepresentationProbeHook,
            '_probe',
            lambda self, runner: dict(knn_top1=0.0, linear_top1=next(rest)),
        )

    return script


BEST = dict(interval=1, save_best='linear_top1')


def best_files(cfg):
    return sorted(path.name for path in Path(cfg.work_dir).glob('*best_*'))


def test_the_best_weights_are_kept(tmp_path, scripted):
    """The first of equals; also by a run that is resumed.

    The checkpoint resumed from is older than the best file.
    """
    scripted(0.2, 0.6, 0.6)
    cfg = config(tmp_path, BEST, epochs=3)
    runner = train(cfg)
    name = 'best_probe_linear_top1_epoch_2.pth'
    assert best_files(cfg) == [name]
    best = torch.load(Path(cfg.work_dir, name), weights_only=False)
    assert best['meta']['epoch'] == 2
    assert best['meta']['probe'] == dict(knn_top1=0.0, linear_top1=0.6)
    at_2 = torch.load(Path(cfg.work_dir, 'epoch_2.pth'), weights_only=False)
    for key, value in at_2['state_dict'].items():
        assert torch.equal(value, best['state_dict'][key])
    runner.load_checkpoint(str(Path(cfg.work_dir, name)))

    pointer = Path(cfg.work_dir, 'last_checkpoint')
    pointer.write_text(str(Path(cfg.work_dir, 'epoch_1.pth')))
    scripted(0.5, 0.4, 0.7)
    cfg.train_cfg.max_epochs = 4
    train(Config(dict(cfg, resume=True)))
    assert best_files(cfg) == ['best_probe_linear_top1_epoch_4.pth']


def test_a_failed_save_leaves_the_last_best(tmp_path, scripted, monkeypatch):
    scripted(0.2, 0.6)
    cfg = config(tmp_path, BEST)
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
    for message, arguments in (
        ('interval=0', dict(interval=0)),
        ("save_best='loss'", dict(save_best='loss')),
    ):
        with pytest.raises(ValueError, match=message):
            RepresentationProbeHook({}, {}, **arguments)

    averaged = config(tmp_path, dict(save_best='knn_top1'))
    averaged.custom_hooks.append(dict(type='EMAHook'))
    with pytest.raises(ValueError, match='leave out save_best, or EMAHook'):
        train(averaged)


def test_data_that_cannot_be_probed(tmp_path):
    probe = dict(interval=1)
    with pytest.raises(ValueError, match='k=16 nearest'):
        train(config(tmp_path, dict(probe, k=16)))

    unlabelled = data_set(**SIZE)
    for sample in unlabelled['annotations']:
        del sample['label']
    with pytest.raises(ValueError, match='its training set has none'):
        train(config(tmp_path, probe, data=unlabelled))
