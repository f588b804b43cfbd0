"""Trainings of several processes give what one gives, and end when one dies.

The processes are forks of this one, which need import nothing.
"""

import os
import signal
import uuid
from pathlib import Path

import pytest
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner
from processes import start_ranks
from small_models import (
    OPTIONS,
    T,
    V,
    auxiliary_of,
    gcn_head,
    pretraining,
    with_option,
)
from synthetic import data_set, loader, pipeline, write

from mamp_mmaction.models import mamp
from mamp_mmaction.models.visible_tokens import token_places

TOTAL_BATCH, SAMPLES, UNEVEN = 8, 16, 7
FAST = dict(neck=dict(attention='cross'), decode_ratio=0.25)
# BatchNorm normalises by the samples of one process, so a head without it.
JOINT = auxiliary_of(pretraining(), gcn_head(5))
MODELS = {
    'exact': pretraining(),
    'fast': with_option(FAST),
    'latent': with_option(OPTIONS['latent']),
    'joint': JOINT,
}
ALL = {**{k: with_option(v) for k, v in OPTIONS.items()}, **MODELS}


class Losses(Hook):
    def __init__(self):
        self.found = []

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        self.found.append(outputs['loss'].item())


class Signal(Hook):
    """Sends itself a signal in the second epoch, in one of the processes."""

    def __init__(self, number):
        self.number = number

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter == 2 and get_rank() == 1:
            os.kill(os.getpid(), self.number)


def make_runner(name, steps, hooks=(), timeout=60, interval=-1, resume=False):
    """Epochs of two steps; the batch of all processes is always the same."""
    size = int(os.environ.get('WORLD_SIZE', 1))
    model = ALL[name]
    metric = 'AccMetric' if 'cls_head' in model else 'MaskedMotionMetric'
    training, validation = pipeline(T, 1, 0.8), pipeline(T, 1, 0.8)
    validation[-2]['seed'] = 0
    return Runner(
        model=model,
        work_dir='work',
        train_dataloader=loader(
            'data.pkl', 'xsub_train', training, batch_size=TOTAL_BATCH // size
        ),
        train_cfg=dict(by_epoch=True, max_epochs=steps // 2),
        val_dataloader=loader('data.pkl', 'xsub_val', validation),
        val_cfg=dict(),
        val_evaluator=dict(type=metric),
        optim_wrapper=dict(
            optimizer=dict(type='AdamW', lr=1e-3), clip_grad=dict(max_norm=1)
        ),
        default_hooks=dict(
            sampler_seed=dict(type='SeedHook'),
            checkpoint=dict(type='CheckpointHook', interval=interval),
        ),
        custom_hooks=list(hooks),
        randomness=dict(seed=0),
        launcher='pytorch' if size > 1 else 'none',
        env_cfg=dict(dist_cfg=dict(backend='nccl', timeout=timeout)),
        resume=resume,
        default_scope='mmaction',
        experiment_name=uuid.uuid4().hex,
        log_level='ERROR',
    )


def places_by_mask(mask, *args):
    """Draws that depend on a person's mask alone.

    Each process draws for its share of the batch, so that others are drawn
    where there are more processes.
    """
    rows = []
    for row in mask:
        torch.manual_seed((row * torch.arange(len(row))).sum())
        rows.append(token_places(row[None], *args))
    return [torch.cat(places) for places in zip(*rows)]


def train(names, steps, **kwargs):
    """Losses, weights and scores of this process by model."""
    found = {}
    for name in names:
        losses = Losses()
        hooks = [losses, *kwargs.pop('hooks', ())]
        runner = make_runner(name, steps, hooks, **kwargs)
        weights = runner.train().state_dict()
        found[name] = dict(
            losses=torch.tensor(losses.found),
            weights={k.removeprefix('module.'): v for k, v in weights.items()},
            scores={k: float(v) for k, v in runner.val().items()},
        )
    return found


def begin(size, *args, **kwargs):
    """Start processes that save what they found."""

    def save():
        found = train(*args, **kwargs)
        torch.save(found, f'{os.environ["RANK"]}.pth')

    return start_ranks(save, 'log.txt', size)


def status_of(process):
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def found_by(size, *args, **kwargs):
    statuses = [status_of(p) for p in begin(size, *args, **kwargs)]
    assert not any(statuses), Path('log.txt').read_text()
    return [torch.load(f'{rank}.pth') for rank in range(size)]


@pytest.fixture(autouse=True)
def _small(plain_config_text, monkeypatch):
    monkeypatch.setattr(mamp, 'token_places', places_by_mask)
    size = SAMPLES + UNEVEN
    write(Path('data.pkl'), data_set(size, SAMPLES, joints=V))


def check_losses(ranks, name, expected):
    mean = torch.stack([rank[name]['losses'] for rank in ranks]).mean(dim=0)
    torch.testing.assert_close(mean, expected, rtol=1e-5, atol=1e-5, msg=name)


def check(size, names, steps):
    single, ranks = train(names, steps), found_by(size, names, steps)
    for name in names:
        expected, found = single[name], [rank[name] for rank in ranks]
        check_losses(ranks, name, expected['losses'])
        assert len(expected['losses']) == steps
        for rank in found:
            assert rank['scores'] == pytest.approx(
                expected['scores'], rel=1e-4
            )
            for key, value in rank['weights'].items():
                assert torch.equal(value, found[0]['weights'][key]), key


def test_two_processes_give_the_loss_of_one():
    """And the same weights each; they count every sample once."""
    check(2, ALL, 4)


@pytest.mark.long
@pytest.mark.parametrize('size', [2, 4])
@pytest.mark.parametrize('name', MODELS)
def test_processes_give_the_losses_of_one_over_fifty_steps(size, name):
    check(size, [name], 50)


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_dies_or_hangs_ends_the_others(number):
    """In bounded time, in words, and the training can be resumed."""
    training = dict(size=2, names=['fast'], steps=4, interval=1)
    first, second = begin(**training, hooks=[Signal(number)], timeout=3)
    assert status_of(first) == 1  # or the test runs into its own limit
    os.kill(second, signal.SIGKILL)
    assert status_of(second) == -signal.SIGKILL
    assert 'Process 0 of 2 has lost another one' in Path('log.txt').read_text()

    resumed = found_by(**training, resume=True)
    losses = train(['fast'], 4)['fast']['losses'][2:]
    check_losses(resumed, 'fast', losses)
