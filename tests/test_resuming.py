"""What a seed decides, and what a run that was killed goes on from."""

import math
import os
import resource
import signal
import sys
import uuid
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from processes import start_fork
from small_models import T, V, encoder, finetune_head, pretraining
from synthetic import data_set, loader, pipeline, write

from mamp_mmaction.compat import CheckpointError
from mamp_mmaction.compat.checkpoint_saving import find_latest_checkpoint

DROPS = encoder(drop_path_rate=0.5)
MODELS = dict(
    pretrain=dict(pretraining(DROPS), decode_ratio=0.5),
    finetune=dict(
        type='RecognizerGCN',
        data_preprocessor=dict(type='SkeletonDataPreprocessor'),
        backbone=DROPS,
        cls_head=finetune_head(),
    ),
)
BY_ITERATION = dict(type='IterBasedTrainLoop', max_iters=6)


class Stop(Hook):
    """Ends the run as an error does, in the middle of what it is at."""

    def __init__(self, iteration):
        self.iteration = iteration

    def after_train_iter(self, runner, batch_idx, *args, **kwargs):
        if runner.iter == self.iteration:
            raise KeyboardInterrupt


def make_runner(
    work_dir,
    model='pretrain',
    seed=0,
    train_cfg=None,
    hooks=(),
    max_keep_ckpts=-1,
    resume=False,
    sampler='DefaultSampler',
    **dataloader,
):
    """Three epochs of two batches, with everything that draws."""
    ann_file = Path('data.pkl')
    if not ann_file.exists():
        write(ann_file, data_set(4, 4, frames=T + 9, joints=V))
    steps = pipeline(T, 1, 0.8 if model == 'pretrain' else None)
    steps.insert(2, dict(type='RandomRotate3D'))
    train = loader('data.pkl', 'xsub_train', steps, batch_size=2, **dataloader)
    train['sampler']['type'] = sampler
    train['dataset'] = dict(
        type='RepeatDataset', dataset=train['dataset'], times=1
    )
    train_cfg = train_cfg or dict(by_epoch=True, max_epochs=3)
    return Runner(
        model=MODELS[model],
        work_dir=str(work_dir),
        train_dataloader=train,
        train_cfg=train_cfg,
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.01)),
        default_hooks=dict(
            sampler_seed=dict(type='SeedHook'),
            checkpoint=dict(
                type='CheckpointHook',
                interval=1 if 'max_epochs' in train_cfg else 2,
                by_epoch='max_epochs' in train_cfg,
                max_keep_ckpts=max_keep_ckpts,
            ),
        ),
        custom_hooks=list(hooks),
        randomness=dict(seed=seed),
        resume=resume,
        default_scope='mmaction',
        experiment_name=uuid.uuid4().hex,
        log_level='ERROR',
    )


def weights_of(*args, **kwargs):
    return make_runner(*args, **kwargs).train().state_dict()


def assert_same(found, expected):
    different = [k for k, v in expected.items() if not torch.equal(found[k], v)]
    assert not different


@pytest.fixture(autouse=True)
def _plain(plain_config_text):
    pass


# The seed decides


@pytest.mark.parametrize('model', MODELS)
def test_weights_depend_on_the_seed_and_not_on_the_workers(model):
    expected = weights_of('a', model)
    for workers in (dict(), dict(num_workers=1), dict(num_workers=2)):
        assert_same(weights_of('b', model, **workers), expected)
    other = weights_of('c', model, seed=1)
    key = 'backbone.blocks.0.attn.proj.weight'
    assert not torch.equal(other[key], expected[key])


@pytest.mark.parametrize('persistent', [False, True])
def test_every_epoch_draws_anew(persistent):
    seen = []

    class Look(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            seen.extend(data_batch['inputs'])

    workers = dict(num_workers=2, persistent_workers=persistent)
    make_runner('a', hooks=[Look()], **workers).train()
    assert len({x.sum().item() for x in seen}) == len(seen) == 12


@pytest.mark.parametrize('model', MODELS)
@pytest.mark.parametrize(
    'workers',
    [0, 2],
)
def test_a_resumed_run_ends_as_one_that_was_never_stopped(model, workers):
    kwargs = dict(model=model, num_workers=workers)
    expected = weights_of('whole', **kwargs)
    with pytest.raises(KeyboardInterrupt):
        make_runner('cut', hooks=[Stop(3)], **kwargs).train()
    # The seed is that of the checkpoint, if none is given.
    found = weights_of('cut', seed=None, resume=True, **kwargs)
    assert_same(found, expected)


@pytest.mark.parametrize('workers', [0, 2])
def test_so_does_a_run_by_iterations(workers):
    kwargs = dict(
        train_cfg=BY_ITERATION,
        sampler='InfiniteSampler',
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    expected = weights_of('whole', **kwargs)
    with pytest.raises(KeyboardInterrupt):
        make_runner('cut', hooks=[Stop(4)], **kwargs).train()
    found = weights_of('cut', seed=None, resume=True, **kwargs)
    assert_same(found, expected)
