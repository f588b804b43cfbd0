import copy
import uuid

import pytest
import torch
from mmaction.models import STGCN
from mmaction.registry import HOOKS, MODELS
from mmengine.config import Config
from mmengine.hooks import Hook, SyncBuffersHook, sync_buffer_hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from small_models import (
    HEATMAPS,
    POSEC3D,
    T,
    encoder,
    gcn,
    linear_head,
    posec3d,
    recognition,
)
from synthetic import data_set, loader, pipeline, pixel_data, write

pytestmark = pytest.mark.usefixtures('plain_config_text')

CLASSES = 5
SIZE = dict(size=10, train=6)

# As the toolbox's configs have them, but small and with dropout; behind them
# some that answer train() and eval() in their own way.
BACKBONES = {
    'MAMP': encoder(num_joints=25, drop_path_rate=0.5),
    'ST-GCN': gcn('stgcn', tcn_dropout=0.5),
    '2s-AGCN': gcn('aagcn', gcn_attention=False, tcn_dropout=0.5),
    'PoseC3D': POSEC3D,
    'frozen stages': dict(POSEC3D, frozen_stages=1),
    'norm_eval': dict(POSEC3D, norm_eval=True),
    'dropout in eval mode': dict(
        gcn('stgcn', tcn_dropout=0.5), type='MonteCarloSTGCN'
    ),
}


@MODELS.register_module()
class MonteCarloSTGCN(STGCN):
    """Never says that it trains, and drops out even in eval mode."""

    def train(self, mode=True):
        super().train(mode)
        for module in self.modules():
            if isinstance(module, torch.nn.Dropout):
                module.training = True
        self.training = False


@HOOKS.register_module()
class Watch(Hook):
    """Keeps what a run began with and did to the backbone on its way."""

    priority = 'LOWEST'

    def __init__(self):
        self.modes = set()
        self.has_grad = False

    def before_train(self, runner):
        model = unwrapped(runner)
        self.start = copy.deepcopy(model.state_dict())

        def note(module, inputs):
            if torch.is_grad_enabled():  # not a validation
                self.modes.add((module.training, model.cls_head.training))

        for module in model.backbone.modules():
            module.register_forward_pre_hook(note)

    def after_train_iter(self, runner, *args, **kwargs):
        parameters = unwrapped(runner).backbone.parameters()
        self.has_grad |= any(param.grad is not None for param in parameters)


def unwrapped(runner):
    model = runner.model
    return model.module if is_model_wrapper(model) else model


def hook_of(runner, kind):
    return next(hook for hook in runner.hooks if isinstance(hook, kind))


def config(folder, backbone, **kwargs):
    folder.mkdir(exist_ok=True, parents=True)
    if backbone['type'] == 'ResNet3dSlowOnly':
        head = dict(dropout_ratio=0.5, average_clips='prob')
        model = posec3d(CLASSES, backbone, **head)
        steps = [dict(HEATMAPS[0], num_clips=1), *HEATMAPS[1:]]
        data = pixel_data(**SIZE)
    else:
        model = recognition(linear_head(CLASSES), backbone)
        steps, data = pipeline(T), data_set(**SIZE)
    ann_file = write(folder / 'ann.pkl', data)
    cfg = dict(
        default_scope='mmaction',
        work_dir=str(folder / 'work'),
        model=copy.deepcopy(model),
        train_dataloader=loader(ann_file, 'xsub_train', steps, batch_size=3),
        val_dataloader=loader(ann_file, 'xsub_val', steps),
        train_cfg=dict(
            type='EpochBasedTrainLoop', max_epochs=1, val_interval=9
        ),
        val_cfg=dict(type='ValLoop'),
        val_evaluator=dict(type='AccMetric'),
        optim_wrapper=dict(
            type='OptimWrapper',
            optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.1),
        ),
        default_hooks=dict(sync_buffers=dict(type='SyncBuffersHook')),
        custom_hooks=[dict(type='LinearProbeHook'), dict(type='Watch')],
        log_level='WARNING',
        randomness=dict(seed=0),
    )
    return Config(dict(cfg, **kwargs))


def build_runner(cfg):
    cfg.experiment_name = uuid.uuid4().hex
    return Runner.from_cfg(cfg)


def check_that_only_the_head_trained(runner):
    model, watch = unwrapped(runner), hook_of(runner, Watch)
    end = model.state_dict()
    for key, value in watch.start.items():
        same = torch.equal(value, end[key])
        assert same == key.startswith('backbone.'), key
    assert watch.modes == {(False, True)}  # of backbone and head
    assert not watch.has_grad

    trained = {
        id(param)
        for group in runner.optim_wrapper.optimizer.param_groups
        for param in group['params']
    }
    assert trained == {id(param) for param in model.cls_head.parameters()}


@pytest.mark.parametrize('name', BACKBONES)
def test_only_the_head_trains(tmp_path, name):
    runner = build_runner(config(tmp_path, BACKBONES[name]))
    runner.train()
    check_that_only_the_head_trained(runner)


@pytest.fixture
def average_over_seven(monkeypatch):
    """Let SyncBuffersHook do to buffers what it does in seven processes.

    Its all-reduce adds seven equal numbers and divides the sum in float32,
    also that of integers. Returns the buffers that it changed so far.
    """
    changed = []

    def all_reduce_params(buffers, op):
        assert op == 'mean'
        for buffer in list(buffers):
            total = sum(buffer.clone() for _ in range(7))
            mean = torch.true_divide(total, 7).to(buffer.dtype)
            if not torch.equal(mean, buffer):
                changed.append(buffer)
            buffer.copy_(mean)

    monkeypatch.setattr(
        sync_buffer_hook, 'all_reduce_params', all_reduce_params
    )
    return changed


@pytest.mark.parametrize(
    'loop',
    [
        dict(type='EpochBasedTrainLoop', max_epochs=2, val_interval=1),
        dict(type='IterBasedTrainLoop', max_iters=2, val_interval=1),
    ],
)
def test_buffers_survive_the_averaging_over_processes(
    tmp_path, average_over_seven, loop
):
    """Also with a validation in between."""
    iter_based = loop['type'] == 'IterBasedTrainLoop'
    checkpoint = dict(type='CheckpointHook', interval=1)
    hooks = dict(
        sync_buffers=dict(type='SyncBuffersHook'),
        checkpoint=dict(checkpoint, by_epoch=not iter_based),
    )
    cfg = config(
        tmp_path, BACKBONES['ST-GCN'], train_cfg=loop, default_hooks=hooks
    )
    runner = build_runner(cfg)
    hook_of(runner, SyncBuffersHook).distributed = True
    backbone = runner.model.backbone
    for name, buffer in backbone.named_buffers():
        if name.endswith('num_batches_tracked'):
            buffer.fill_(2**24 + 1)  # float32 has no such number
        elif 'running' in name:
            buffer.uniform_(0.1, 1)
    runner.train()

    averaged = {id(buffer) for buffer in average_over_seven}
    running, counted = (
        {id(b) for name, b in backbone.named_buffers() if name.endswith(end)}
        for end in ('running_mean', 'num_batches_tracked')
    )
    assert averaged & running and counted <= averaged
    check_that_only_the_head_trained(runner)
    assert 'val/acc/top1' in runner.message_hub.log_scalars
    saved = torch.load(
        tmp_path / 'work' / ('iter_2.pth' if iter_based else 'epoch_2.pth'),
        weights_only=False,
    )
    for key, value in hook_of(runner, Watch).start.items():
        if key.startswith('backbone.'):
            assert torch.equal(saved['state_dict'][key], value), key


def test_buffers_of_a_former_training_are_not_put_back(tmp_path):
    runner = build_runner(config(tmp_path, BACKBONES['ST-GCN']))
    runner.train()
    mean = runner.model.backbone.data_bn.running_mean.fill_(7)
    runner.val()
    assert (mean == 7).all()


def test_merged_and_empty_groups_survive(tmp_path):
    """Schedulers count on the number of groups, also across a resume."""
    cfg = config(
        tmp_path,
        BACKBONES['MAMP'],
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=2),
        optim_wrapper=dict(
            type='OptimWrapper',
            constructor='MAMPLayerDecayConstructor',
            paramwise_cfg=dict(layer_decay=0.5),
            optimizer=dict(type='AdamW', lr=1e-2, weight_decay=0.05),
        ),
        param_scheduler=dict(
            type='WarmupCosineLR', convert_to_iter_based=True
        ),
    )
    runner = build_runner(copy.deepcopy(cfg))
    runner.train()
    groups = runner.optim_wrapper.optimizer.param_groups
    assert len(groups) == 8
    assert [bool(group['params']) for group in groups].count(True) == 2

    cfg.update(resume=True)
    cfg.train_cfg.max_epochs = 3
    resumed = build_runner(cfg)
    resumed.train()
    assert resumed.epoch == 3


@pytest.mark.parametrize('part', ['backbone', 'cls_head'])
def test_models_that_cannot_be_probed(tmp_path, part):
    runner = build_runner(config(tmp_path, BACKBONES['MAMP']))
    if part == 'backbone':
        del runner.model.backbone
        message = 'RecognizerGCN has none'
    else:
        runner.model.cls_head.requires_grad_(False)
        message = 'Nothing is left to train'
    with pytest.raises(ValueError, match=message):
        runner.train()
