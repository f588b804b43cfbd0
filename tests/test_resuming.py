"""What a seed decides, and what a run that was killed goes on from."""

import os
import resource
import signal
import sys
import uuid
from pathlib import Path

import pytest
import torch
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner
from processes import start_fork
from small_models import (
    OPTIONS,
    T,
    V,
    encoder,
    finetune_head,
    pretraining,
    recognition,
    with_option,
)
from synthetic import data_set, loader, pipeline, write

from mamp_mmaction.compat import CheckpointError, checkpoint_saving
from mamp_mmaction.compat.checkpoint_saving import find_latest_checkpoint

DROPS = encoder(drop_path_rate=0.5)
MODELS = dict(
    pretrain=dict(pretraining(DROPS), decode_ratio=0.5),
    finetune=recognition(finetune_head(), DROPS),
)
# The masks of options, for the joints that a layout of limbs has.
MASKS = dict(
    tube=dict(tube=2), limb=dict(tube=2, part='limb', layout='nturgb+d')
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
    save_best=None,
    resume=False,
    sampler='DefaultSampler',
    times=1,
    **dataloader,
):
    """Three epochs of two batches, with everything that draws."""
    joints = 25 if model in MASKS else V
    ann_file = Path('data.pkl')
    if not ann_file.exists():
        write(ann_file, data_set(4, 4, frames=T + 9, joints=joints))
    steps = pipeline(T, 1, None if model == 'finetune' else 0.8)
    steps[-2].update(MASKS.get(model, {}))
    steps.insert(2, dict(type='RandomRotate3D'))
    train = loader('data.pkl', 'xsub_train', steps, batch_size=2, **dataloader)
    train['sampler']['type'] = sampler
    train['dataset'] = dict(
        type='RepeatDataset', dataset=train['dataset'], times=times
    )
    train_cfg = train_cfg or dict(by_epoch=True, max_epochs=3)
    return Runner(
        model=MODELS.get(model) or with_option(OPTIONS.get(model), joints),
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
                save_best=save_best,
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
    different = [
        k for k, v in expected.items() if not torch.equal(found[k], v)
    ]
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
@pytest.mark.parametrize('workers', [0, 2])
def test_a_resumed_run_ends_as_one_that_was_never_stopped(model, workers):
    kwargs = dict(model=model, num_workers=workers)
    expected = weights_of('whole', **kwargs)
    with pytest.raises(KeyboardInterrupt):
        make_runner('cut', hooks=[Stop(3)], **kwargs).train()
    # The seed is that of the checkpoint, if none is given.
    found = weights_of('cut', seed=None, resume=True, **kwargs)
    assert_same(found, expected)


@pytest.mark.parametrize('option', [*OPTIONS, *MASKS])
def test_so_does_one_with_an_option(option):
    """Beside an average of the weights."""
    hooks = [dict(type='EMAHook')]
    expected = weights_of('whole', option, hooks=hooks)
    with pytest.raises(KeyboardInterrupt):
        make_runner('cut', option, hooks=[*hooks, Stop(3)]).train()
    found = weights_of('cut', option, resume=True, hooks=hooks)
    assert_same(found, expected)


@pytest.mark.parametrize(
    # torch takes 5 s to end each worker that has read ahead.
    'workers',
    [0, pytest.param(2, marks=pytest.mark.long)],
)
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


# A run that is killed


def train_in_a_fork(**kwargs):
    """Returns what it died of, 0 for nothing."""

    def train():
        weights = weights_of(**kwargs)
        torch.save(weights, 'found.pth')

    child = start_fork(train, 'log.txt')
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_at(step, work_dir):
    """Let this process die at a step of its work on files in a folder."""
    steps = iter(range(step, -1, -1))

    def count(event, arguments):
        if event in ('open', 'os.rename', 'os.remove'):
            path = str(arguments[-1 if event == 'os.rename' else 0])
            is_ours = work_dir in path and ('.pth' in path or 'last_' in path)
            if is_ours and next(steps) == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


class KillWhileSaving(Hook):
    priority = 'LOWEST'

    def __init__(self, step):
        self.step = step

    def after_train_epoch(self, runner):
        if runner.epoch == 0:  # the first checkpoint is there
            kill_at(self.step, runner.work_dir)


def files_of(folder):
    files = [p.name for p in Path(folder).iterdir() if p.is_file()]
    return sorted(name for name in files if not name.endswith('.py'))


def test_a_run_that_is_killed_at_any_step_of_saving_is_resumed():
    """With one checkpoint that is kept; the steps are those of the second."""
    keep_one = dict(
        max_keep_ckpts=1, train_cfg=dict(by_epoch=True, max_epochs=2)
    )
    expected = weights_of('whole', **keep_one)
    whole = files_of('whole')
    assert whole == ['epoch_2.pth', 'last_checkpoint']

    for step in range(100):
        cut = dict(keep_one, work_dir=f'cut{step}')
        died = train_in_a_fork(**cut, hooks=[KillWhileSaving(step)])
        assert find_latest_checkpoint(cut['work_dir'])
        resumed = train_in_a_fork(**cut, resume=True, seed=None)
        assert resumed == 0, Path('log.txt').read_text()
        assert_same(torch.load('found.pth'), expected)
        assert files_of(cut['work_dir']) == whole, step
        if not died:
            break
        assert died == -signal.SIGKILL
    assert step > 6  # each file is made, synced and renamed, one is removed


@pytest.fixture
def saved(tmp_path):
    """A run's folder with two checkpoints, and the best one's weights."""
    weights = dict(state_dict=dict(a=torch.ones(1000)))
    for age, name in enumerate(('best_2', 'epoch_2', 'epoch_1')):
        if age:
            weights.update(meta=dict(epoch=3 - age), optimizer=dict())
        path = tmp_path / f'{name}.pth'
        torch.save(weights, path)
        os.utime(path, (1e9 - age, 1e9 - age))
    note = tmp_path / 'last_checkpoint'
    note.write_text(str(tmp_path / 'epoch_2.pth'))
    return tmp_path


@pytest.fixture
def warnings_of(monkeypatch):
    """What is logged."""
    lines = []
    monkeypatch.setattr(
        checkpoint_saving,
        'print_log',
        lambda text, **kwargs: lines.append(text),
    )
    return lines


def zeros_inside(content):
    return content[:2000] + bytes(1000) + content[3000:]


@pytest.mark.parametrize(
    ('name', 'damage', 'said', 'found'),
    [
        ('last_checkpoint', None, 'last_checkpoint is missing', 'epoch_2'),
        ('last_checkpoint', lambda x: b'', 'is empty', 'epoch_2'),
        ('last_checkpoint', lambda x: bytes(9), 'is empty', 'epoch_2'),
        ('epoch_2.pth', None, 'epoch_2.pth does not exist', 'epoch_1'),
        ('epoch_2.pth', lambda x: b'', 'epoch_2.pth cannot be', 'epoch_1'),
        ('epoch_2.pth', lambda x: x[:3000], 'epoch_2.pth cannot', 'epoch_1'),
        ('epoch_2.pth', zeros_inside, 'epoch_2.pth is damaged', 'epoch_1'),
    ],
)
def test_what_is_damaged_gives_way_to_the_newest_that_is_whole(
    saved, warnings_of, name, damage, said, found
):
    path = saved / name
    if damage is None:
        path.unlink()
    else:
        content = damage(path.read_bytes())
        age = path.stat().st_mtime
        path.write_bytes(content)
        os.utime(path, (age, age))
    assert find_latest_checkpoint(saved) == str(saved / f'{found}.pth')
    (warning,) = warnings_of
    assert said in warning and f'goes on from {saved / found}.pth' in warning


def test_nothing_that_can_be_resumed_is_an_error(saved):
    for path in saved.glob('epoch_*.pth'):
        path.write_bytes(b'')
    with pytest.raises(CheckpointError, match=r'epoch_2.pth cannot .*anew'):
        find_latest_checkpoint(saved)


@pytest.fixture
def little_space():
    """No file can grow above 20 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_last_checkpoint(request):
    class Fill(Hook):
        def before_train_epoch(self, runner):
            if runner.epoch == 1:
                request.getfixturevalue('little_space')

    with pytest.raises(OSError, match=r'epoch_2.pth could not be written: '):
        make_runner('a', max_keep_ckpts=1, hooks=[Fill()]).train()
    assert files_of('a') == ['epoch_1.pth', 'last_checkpoint']


def test_the_best_checkpoint_stays_until_a_better_one_is_saved(request):
    runner = make_runner('a', save_best='acc')
    runner.train()
    (hook,) = (x for x in runner.hooks if isinstance(x, CheckpointHook))
    hook.after_val_epoch(runner, dict(acc=0.3))
    runner.train_loop._epoch = 1
    hook.after_val_epoch(runner, dict(acc=0.4))
    assert [x for x in files_of('a') if 'best' in x] == [
        'best_acc_epoch_1.pth'
    ]
    runner.train_loop._epoch = 2
    request.getfixturevalue('little_space')
    with pytest.raises(OSError, match=r'best_acc_epoch_2.pth could not'):
        hook.after_val_epoch(runner, dict(acc=0.5))
    assert [x for x in files_of('a') if 'best' in x] == [
        'best_acc_epoch_1.pth'
    ]


@pytest.mark.long
def test_long_runs_need_no_more_memory_or_files():
    """2,000 iterations, whose workers start anew every 8."""
    found = []

    class Measure(Hook):
        def after_train_epoch(self, runner):
            if runner.epoch % 50 == 49:
                pages = int(Path('/proc/self/statm').read_text().split()[1])
                files = len(os.listdir('/proc/self/fd'))
                found.append((pages * resource.getpagesize() / 1e6, files))

    make_runner(
        'a',
        train_cfg=dict(by_epoch=True, max_epochs=250),
        max_keep_ckpts=1,
        hooks=[Measure()],
        num_workers=2,
        times=4,
    ).train()
    (first, files), *_, (last, _) = found
    assert last - first < 5  # MB
    # But for those of workers that are just ending.
    assert all(abs(number - files) <= 4 for _, number in found)
