"""The toolbox's own train.py and test.py, unchanged, as a user runs them."""

import json
import math
import os
import runpy
import signal
import sys
import time
from pathlib import Path

import mmaction
import numpy as np
import pytest
import torch
from processes import (
    ROOT,
    TORCHRUN,
    run_successfully,
    start_fork,
    start_ranks,
)

from mamp_mmaction.compat import load_checkpoint_file
from mamp_mmaction.compat.checkpoint_saving import find_latest_checkpoint

TESTS = Path(__file__).parent
CONFIGS = TESTS.parent / 'configs'
STGCNPP_CONFIG = next(CONFIGS.glob('stgcnpp/*_toy-*.py'))
SCRIPTS = Path(mmaction.__path__[0], '.mim', 'tools')

LOADERS = """
train_dataloader = dict(
    batch_size=8, num_workers=0, persistent_workers=False, dataset={train})
val_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(ann_file={data!r}))
test_dataloader = val_dataloader
default_hooks = dict(checkpoint=dict(interval=1), logger=dict(interval=1))
"""
PRETRAIN = """
_base_ = '{configs}/mamp/toy/mamp_1xb32-pretrain-60e_toy-xsub-keypoint-3d.py'
model = dict(
    backbone=dict(embed_dims=16, depth=1, num_heads=2),
    neck=dict(decoder_embed_dims=16))
param_scheduler = dict(warmup=1)
train_cfg = dict(max_epochs=4, val_interval=1)
"""
PROBE = """
_base_ = '{configs}/mamp/toy/mamp_1xb32-linear-30e_toy-xsub-keypoint-3d.py'
model = dict(
    backbone=dict(embed_dims=16, depth=1, num_heads=2),
    cls_head=dict(in_channels=16))
train_cfg = dict(max_epochs=2, val_interval=1)
"""
FINETUNE = """
_base_ = '{configs}/mamp/toy/mamp_1xb32-finetune-20e_toy-xsub-keypoint-3d.py'
model = dict(
    backbone=dict(embed_dims=16, depth=1, num_heads=2),
    cls_head=dict(in_channels=16))
"""
STGCNPP = """
_base_ = '{stgcnpp}'
model = dict(
    backbone=dict(base_channels=8), cls_head=dict(in_channels=32))
train_cfg = dict(max_epochs=2)
"""


@pytest.fixture(scope='module')
def data(tmp_path_factory, load_tool):
    """A toy data set of 64 sequences, 32 in each split."""
    path = tmp_path_factory.mktemp('data') / 'toy.pkl'
    make = load_tool('data/make_toy_dataset').main
    make([str(path), '--subjects', '2', '--cameras', '2'])
    return str(path)


@pytest.fixture
def project(tmp_path, data):
    return Project(tmp_path, data)


class Project:
    """A user's folder with configs, run by the toolbox's scripts."""

    def __init__(self, folder, data):
        self.folder = folder
        self.data = data

    def write_config(self, name, text, extra=''):
        train = f'dict(ann_file={self.data!r})'
        if 'stgcnpp' in text:
            train = f'dict(dataset={train})'
        text = text.format(configs=CONFIGS, stgcnpp=STGCNPP_CONFIG)
        text += LOADERS.format(train=train, data=self.data) + extra
        (self.folder / f'{name}.py').write_text(text)

    def run(self, script, config, *args, processes=1):
        """Run a script as `python SCRIPT` does, in forks of this process.

        They need not import anything, which costs most of such a run.
        """
        argv = [str(SCRIPTS / script), f'{config}.py', *map(str, args)]
        if processes > 1:
            argv += ['--launcher', 'pytorch']
        log = self.folder / 'log.txt'
        children = start_ranks(lambda: self._be(argv), log, processes)
        statuses = [os.waitpid(child, 0)[1] for child in children]
        assert not any(statuses), log.read_text()
        return log.read_text()

    def start(self, *command):
        """Run a command in a process of its own."""
        run_successfully(*command, cwd=self.folder, path=(ROOT, TESTS))

    def _be(self, argv):
        """Become the script."""
        os.chdir(self.folder)
        sys.argv = argv
        runpy.run_path(argv[0], run_name='__main__')

    def work_dir(self, config):
        return self.folder / 'work_dirs' / config

    def scalars(self, config, run=-1):
        logs = sorted(self.work_dir(config).glob('*/vis_data/scalars.json'))
        return [json.loads(line) for line in logs[run].open()]

    def test_metrics(self, config):
        """What test.py wrote last."""
        logs = [
            path
            for path in sorted(self.work_dir(config).glob('*/*.json'))
            if path.parent.name == path.stem
        ]
        return json.loads(logs[-1].read_text())


def test_pretraining_stops_tests_and_resumes(project):
    project.write_config('pretrain', PRETRAIN)
    # As a user does; nothing but the config loads the package.
    project.start(
        *(SCRIPTS / 'train.py', 'pretrain.py', '--cfg-options'),
        *('train_cfg.max_epochs=2', 'param_scheduler.end=4'),
    )
    first = project.scalars('pretrain')
    checkpoint = project.work_dir('pretrain') / 'epoch_2.pth'

    project.run('test.py', 'pretrain', checkpoint)
    tested = project.test_metrics('pretrain')
    validated = [line for line in first if 'masked_motion/mse' in line][-1]
    for name in ('masked_motion/mse', 'masked_motion/zero_mse'):
        assert tested[name] == pytest.approx(validated[name], rel=1e-6)

    project.run('train.py', 'pretrain', '--resume')
    lines = first + project.scalars('pretrain')
    found = [line['lr'] for line in lines if 'lr' in line]
    steps = [i / 4 for i in range(16)]  # 32 samples: 4 batches of 8 an epoch
    expected = [
        1e-3 * e
        if e < 1
        else 5e-4 + 5e-4 * (1 + math.cos(math.pi * (e - 1) / 3)) / 2
        for e in steps
    ]
    assert found == pytest.approx(expected)
    assert (project.work_dir('pretrain') / 'epoch_4.pth').exists()


@pytest.mark.parametrize(
    ('options', 'start'),
    [([], 'epoch_60.pth'), (['begin_from=own.pth'], 'own.pth')],
)
def test_resuming_before_the_first_checkpoint_begins_as_asked(
    project, options, start
):
    project.write_config('probe', PROBE)
    options = options and ['--cfg-options', *options]
    with pytest.raises(AssertionError, match=f'{start} does not exist'):
        project.run('train.py', 'probe', '--resume', *options)


def test_stgcnpp_of_the_toolbox_trains_and_tests(project):
    project.write_config('gcn', STGCNPP)
    project.run('train.py', 'gcn', '--cfg-options', 'train_cfg.max_epochs=1')
    checkpoint = project.work_dir('gcn') / 'epoch_1.pth'
    one_clip = 'test_dataloader.dataset.pipeline.2.num_clips=1'
    project.run('test.py', 'gcn', checkpoint, '--cfg-options', one_clip)
    validated = project.scalars('gcn', 0)[-1]
    tested = project.test_metrics('gcn')
    assert tested['acc/top5'] == pytest.approx(validated['acc/top5'])


def test_two_processes(project):
    """Pre-train and probe on two processes without a GPU."""
    dump = """
custom_imports = dict(imports=['mamp_mmaction', 'rank_dump_hook'])
"""
    hook = "custom_hooks = [dict(type='RankDumpHook')]\n"
    project.write_config('pretrain', PRETRAIN, dump + hook)
    hook = "custom_hooks = [dict(type='LinearProbeHook')] + " + hook[15:]
    project.write_config('probe', PROBE, dump + hook)

    one_epoch = ('--cfg-options', 'train_cfg.max_epochs=2')
    project.start(
        *(*TORCHRUN, '-m', 'mamp_mmaction', 'train', 'pretrain.py'),
        *('--launcher', 'pytorch', *one_epoch),
    )
    checkpoint = project.work_dir('pretrain') / 'epoch_2.pth'
    load = f'load_from={checkpoint}'
    project.run('train.py', 'probe', *one_epoch, load, processes=2)

    def weights(config, rank, moment):
        path = project.work_dir(config) / f'rank{rank}_{moment}.pth'
        return torch.load(path)

    for config in ('pretrain', 'probe'):
        first, second = (weights(config, rank, 'end') for rank in (0, 1))
        for key, value in first.items():
            assert torch.equal(value, second[key]), (config, key)

    pretrained = weights('pretrain', 0, 'end')
    before, after = (weights('probe', 1, m) for m in ('start', 'end'))
    moved = {key for key in after if not torch.equal(before[key], after[key])}
    assert moved == {key for key in after if key.startswith('cls_head.')}
    for key, value in after.items():
        if key.startswith('backbone.'):
            assert torch.equal(value, pretrained[key]), key
    assert not torch.equal(
        pretrained['backbone.norm.weight'],
        weights('pretrain', 0, 'start')['backbone.norm.weight'],
    )


KILLED = """
train_cfg = dict(max_epochs=40, val_interval=40)
param_scheduler = dict(end=40)
default_hooks['checkpoint'].update(max_keep_ckpts=1, save_last=False)
train_dataloader.update(num_workers=2, persistent_workers=True)
"""


@pytest.mark.long
@pytest.mark.parametrize(
    ('text', 'start'),
    [(PRETRAIN, ''), (FINETUNE, "load_from = 'start.pth'\n")],
    ids=['pretrain', 'finetune'],
)
def test_twenty_kills_lose_an_epoch_at_most_each(project, text, start):
    """Some come before the training begins, some while it saves."""
    project.write_config('config', text, KILLED + start)
    if start:
        project.write_config('start', PRETRAIN)
        two_epochs = ('--cfg-options', 'train_cfg.max_epochs=2')
        project.run('train.py', 'start', *two_epochs)
        weights = project.work_dir('start') / 'epoch_2.pth'
        weights.rename(project.folder / 'start.pth')

    def begin(folder):
        argv = [str(SCRIPTS / 'train.py'), 'config.py', '--resume']
        argv += ['--seed', '3', '--work-dir', folder]
        log = project.folder / 'log.txt'
        return start_fork(lambda: project._be(argv), log)

    def end(folder):
        assert os.waitpid(begin(folder), 0)[1] == 0
        found = saved(folder)['state_dict']
        for key, value in saved('whole')['state_dict'].items():
            assert torch.equal(found[key], value), key

    def trained(folder):
        """The last iteration that was logged."""
        logs = (project.folder / folder).glob('*/vis_data/scalars.json')
        lines = [line for log in logs for line in log.open() if 'loss' in line]
        return max((json.loads(line)['step'] for line in lines), default=0)

    def saved(folder):
        path = find_latest_checkpoint(project.folder / folder)
        return load_checkpoint_file(path) if path else None

    end('whole')
    rng = np.random.default_rng(0)
    kills, runs = 0, 0
    while kills < 20:
        folder = f'cut{runs}'
        until = trained(folder) + rng.integers(40)  # iterations
        process = begin(folder)
        time.sleep(rng.uniform(0, 2))
        ended = 0
        while not ended and trained(folder) < until:
            time.sleep(0.01)
            ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            assert status == 0
            runs += 1
            continue
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        kills += 1
        last, kept = trained(folder), saved(folder)
        lost = last - (kept['meta']['iter'] if kept else 0)
        print(f'killed at iteration {last}, lost {lost}', flush=True)
        assert lost <= 4  # the batches of an epoch
    for run in range(runs + 1):
        end(f'cut{run}')
