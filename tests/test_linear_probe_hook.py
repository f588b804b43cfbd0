import copy

import pytest
import torch
from mmaction.registry import HOOKS
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from synthetic import data_set, write

FRAMES = 24
BACKBONES = {
    'MAMPTransformer': dict(
        type='MAMPTransformer',
        embed_dims=16,
        num_heads=2,
        depth=2,
        num_frames=FRAMES,
        drop_path_rate=0.5,
    ),
    'STGCN': dict(
        type='STGCN',
        base_channels=4,
        num_stages=2,
        inflate_stages=[],
        down_stages=[],
        graph_cfg=dict(layout='nturgb+d', mode='stgcn_spatial'),
    ),
}


@HOOKS.register_module()
class Watch(Hook):
    """Keeps the weights from the start and the training modes after."""

    def __init__(self):
        self.modes = []

    def before_train(self, runner):
        self.weights = copy.deepcopy(runner.model.state_dict())

    def after_train_iter(self, runner, *args, **kwargs):
        backbone = [m.training for m in runner.model.backbone.modules()]
        self.modes.append((any(backbone), runner.model.cls_head.training))


def config(tmp_path, backbone, **kwargs):
    ann_file = write(tmp_path / 'ann.pkl', data_set())
    width = backbone.get('embed_dims', backbone.get('base_channels'))
    pipeline = [
        dict(type='CenterSkeleton'),
        dict(type='TemporalCropResize', num_frames=FRAMES),
        dict(type='FormatGCNInput', num_person=2),
        dict(type='PackActionInputs'),
    ]
    cfg = dict(
        default_scope='mmaction',
        work_dir=str(tmp_path / 'work'),
        model=dict(
            type='RecognizerGCN',
            data_preprocessor=dict(type='SkeletonDataPreprocessor'),
            backbone=backbone,
            cls_head=dict(
                type='LinearProbeHead', num_classes=5, in_channels=width
            ),
        ),
        train_dataloader=dict(
            batch_size=10,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=True),
            dataset=dict(
                type='SkeletonDataset',
                ann_file=ann_file,
                split='xsub_train',
                pipeline=pipeline,
            ),
        ),
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=2),
        optim_wrapper=dict(
            type='OptimWrapper',
            optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.1),
        ),
        custom_hooks=[
            dict(type='LinearProbeHook'),
            dict(type='Watch'),
        ],
        log_level='WARNING',
        randomness=dict(seed=0),
    )
    return Config(dict(cfg, **kwargs))


def build_runner(cfg):
    cfg.experiment_name = f'test{torch.randint(1 << 40, ()).item()}'
    return Runner.from_cfg(cfg)


@pytest.mark.parametrize('name', BACKBONES)
def test_only_the_head_trains(tmp_path, name):
    runner = build_runner(config(tmp_path, BACKBONES[name]))
    runner.train()
    hook = next(hook for hook in runner.hooks if isinstance(hook, Watch))
    after = runner.model.state_dict()
    for key, value in hook.weights.items():
        same = torch.equal(value, after[key])
        assert same == key.startswith('backbone.'), key

    assert hook.modes == [(False, True)] * 6

    trained = {
        id(param)
        for group in runner.optim_wrapper.optimizer.param_groups
        for param in group['params']
    }
    head = {id(param) for param in runner.model.cls_head.parameters()}
    assert trained == head


def test_merged_and_empty_groups_survive(tmp_path):
    """Schedulers count on the number of groups, also across a resume."""
    cfg = config(
        tmp_path,
        BACKBONES['MAMPTransformer'],
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


def test_a_model_without_backbone_is_refused(tmp_path):
    runner = build_runner(config(tmp_path, BACKBONES['STGCN']))
    del runner.model.backbone
    with pytest.raises(ValueError, match='RecognizerGCN has none'):
        runner.train()


def test_a_model_without_trainable_head_is_refused(tmp_path):
    runner = build_runner(config(tmp_path, BACKBONES['STGCN']))
    runner.model.cls_head.requires_grad_(False)
    with pytest.raises(ValueError, match='Nothing is left to train'):
        runner.train()
