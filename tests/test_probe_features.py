"""Leaving out one performer at a time."""

import numpy as np
import pytest
import torch

from mamp_mmaction.evaluation.probes import linear_accuracy


@pytest.fixture(scope='module')
def tool(load_tool):
    return load_tool('probe_features')


def features(path, performers=3, classes=4, repeats=3, shift=0.0, **change):
    """Classes lie apart; each performer is off by ``shift``."""
    rng = np.random.default_rng(0)
    rows = [
        (p, c, r)
        for p in range(1, performers + 1)
        for c in range(classes)
        for r in range(repeats)
    ]
    x = np.stack(
        [
            4 * np.eye(8)[c] + shift * p * np.ones(8) + rng.normal(size=8)
            for p, c, _ in rows
        ]
    ).astype(np.float32)
    arrays = dict(
        features=x,
        labels=np.array([c for _, c, _ in rows]),
        names=np.array([f'a{c:02}_s{p:02}_e{r:02}' for p, c, r in rows]),
    )
    np.savez(path, **{**arrays, **change})
    return x, arrays['labels'], np.array([p for p, _, _ in rows])


def test_leaving_one_out_is_training_on_the_others(tool, tmp_path, capsys):
    path = tmp_path / 'mine.npz'
    x, y, performers = features(path, shift=0.5)
    nearest = linear = 0
    for p in (1, 2, 3):
        out = performers == p
        mean, std = x[~out].mean(0), x[~out].std(0)
        train, val = (x[~out] - mean) / std, (x[out] - mean) / std
        cosine = val @ train.T / np.linalg.norm(train, axis=1)
        nearest += (y[~out][cosine.argmax(1)] == y[out]).sum()
        tensors = map(torch.from_numpy, (x[~out], y[~out], x[out], y[out]))
        linear += linear_accuracy(*tensors, weight_decay=1e-2) * out.sum()
    tool.main([str(path)])
    line = capsys.readouterr().out.splitlines()[-1]
    assert line == (
        f'| mine | 36 | {100 * nearest / 36:.1f} % | '
        f'{100 * linear / 36:.1f} % |'
    )
    assert 0 < nearest < 36 or 0 < linear <= 36


@pytest.mark.parametrize(
    'options, change, message',
    [
        ([], dict(names=np.array(['x'] * 36)), "name 'x' matches"),
        (['--performer', '(a)'], {}, "performer 'a'; .* two or more"),
        ([], dict(labels=np.zeros((36, 2))), 'one label a sample'),
        ([], dict(features=np.ones((36, 2, 2))), 'no --per-token'),
    ],
)
def test_features_that_cannot_be_compared(
    tool, tmp_path, options, change, message
):
    path = tmp_path / 'mine.npz'
    features(path, **change)
    with pytest.raises(SystemExit, match=f'mine.npz: .*{message}'):
        tool.main([str(path), *options])


def test_a_file_without_labels(tool, tmp_path):
    path = tmp_path / 'mine.npz'
    np.savez(path, features=np.ones((2, 2)), names=np.array(['s1', 's2']))
    with pytest.raises(SystemExit, match=r"lacks \['labels'\]"):
        tool.main([str(path)])
    with pytest.raises(SystemExit, match='absent.npz'):
        tool.main([str(tmp_path / 'absent.npz')])
