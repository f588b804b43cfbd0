"""One reading of a training's log, whoever asks."""

import json

import pytest

from mamp_mmaction.evaluation.run_log import last_and_best, read_curve

KEY = 'acc/top1'


def write_log(work_dir, start, accuracies, extra='', by='epoch'):
    """Write the scalars of one start, as mmengine does, in both its files."""
    folder = work_dir / start / 'vis_data'
    folder.mkdir(parents=True)
    lines = []
    for step, accuracy in accuracies.items():
        position = dict(epoch=step) if by == 'epoch' else {}
        at = 8 * step if by == 'epoch' else step
        lines.append(dict(loss=1.0, **position, iter=at, step=at))
        if accuracy is not None:
            lines.append({KEY: accuracy, 'step': step})
    text = ''.join(json.dumps(line) + '\n' for line in lines) + extra
    for name in ('scalars', start):
        (folder / f'{name}.json').write_text(text)


@pytest.mark.parametrize(
    'starts, expected',
    [
        ([{1: 0.2, 2: 0.6, 3: None, 4: 0.5}], {1: 0.2, 2: 0.6, 4: 0.5}),
        # Resumed from epoch 2: the first's epoch 3 is void.
        ([{1: 0.3, 2: 0.7, 3: 0.9}, {3: 0.4, 4: 0.5}], [0.3, 0.7, 0.4, 0.5]),
        # Begun anew, and validated every other epoch.
        ([{1: 0.3, 2: 0.9, 3: 0.8}, {1: None, 2: 0.4}], {2: 0.4}),
        # Then tested, and broken off in the first epoch.
        ([{1: 0.3, 2: 0.9}, {}, {1: None}], {1: 0.3, 2: 0.9}),
        ([{1: None}], {}),
        ([], {}),
    ],
)
@pytest.mark.parametrize('by', ['epoch', 'iteration'])
def test_curve_of_several_starts(tmp_path, starts, expected, by):
    for day, accuracies in enumerate(starts, start=1):
        write_log(tmp_path, f'2026010{day}_000000', accuracies, by=by)
    if isinstance(expected, list):
        expected = dict(enumerate(expected, start=1))
    found = read_curve(tmp_path, KEY)
    assert list(found.items()) == list(expected.items())
    assert read_curve(tmp_path, 'acc/top5') == {}


def test_loss_is_averaged_over_an_epoch(tmp_path):
    """Which is logged in steps of its own, and resumed by epoch."""
    more = '{"loss": 3.0, "epoch": 2, "iter": 20, "step": 20}\n'
    write_log(tmp_path, '20260101_000000', {1: 0.2, 2: 0.2, 3: 0.2}, more)
    write_log(tmp_path, '20260102_000000', {3: 0.2, 4: 0.2})
    assert read_curve(tmp_path, 'loss') == {1: 1, 2: 2, 3: 1, 4: 1}


def test_last_and_best():
    found = last_and_best({5: 0.2, 10: 0.6, 15: 0.6, 20: 0.5})
    assert found == dict(last=0.5, last_step=20, best=0.6, best_step=10)


def test_broken_logs(tmp_path):
    # A run that is being written, or was killed, ends anywhere.
    write_log(tmp_path, '20260102_000000', {1: 0.2}, extra='{"acc/to')
    assert read_curve(tmp_path, KEY) == {1: 0.2}
    write_log(tmp_path, '20260103_000000', {1: 0.2}, extra='{"acc\n[1]\n')
    with pytest.raises(ValueError, match='20260103.* line 3.*"acc'):
        read_curve(tmp_path, KEY)
