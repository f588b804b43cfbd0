"""Classifiers of features, and tools/probe_features.py."""

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from mamp_mmaction.evaluation.probes import knn_accuracy, linear_accuracy


def random_sets(n=60, N=40, D=5, classes=4):
    """Overlapping clouds, one a class."""
    rng = np.random.default_rng(0)
    centres = 2 * rng.normal(size=(classes, D))
    sets = []
    for size in (n, N):
        y = rng.integers(classes, size=size)
        x = centres[y] + 2 * rng.normal(size=(size, D))
        sets += [x * np.arange(1, D + 1) + 3, y]
    return sets


def tensors(sets):
    return [torch.from_numpy(array) for array in sets]


def reference_knn(train_x, train_y, val_x, val_y, k):
    """By scikit-learn's neighbours; of equal votes the nearest one's."""
    scaler = StandardScaler().fit(train_x)
    neighbours = NearestNeighbors(n_neighbors=k, metric='cosine')
    neighbours.fit(scaler.transform(train_x))
    places = neighbours.kneighbors(scaler.transform(val_x))[1]
    votes = [Counter(row).most_common(1)[0][0] for row in train_y[places]]
    return np.mean(votes == val_y)


def reference_linear(train_x, train_y, val_x, val_y, weight_decay):
    """By scikit-learn's logistic regression, which sums over samples."""
    scaler = StandardScaler().fit(train_x)
    strength = 1 / (weight_decay * len(train_y))
    model = LogisticRegression(C=strength, tol=1e-8, max_iter=10_000)
    model.fit(scaler.transform(train_x), train_y)
    return model.score(scaler.transform(val_x), val_y)


@pytest.mark.parametrize('k', [1, 2, 5, 60])
def test_knn_accuracy_is_that_of_scikit_learn(k):
    sets = random_sets()
    found = knn_accuracy(*tensors(sets), k=k)
    assert found == pytest.approx(reference_knn(*sets, k=k))
    assert (k < 60) == (found > 0.4)


def test_knn_ties():
    """The nearest one's class wins a draw, the first one of equals."""
    train_x = torch.tensor([[5.0, 0], [5, 1], [5, 2], [-5, -1], [-5, -2]])
    train_y = torch.tensor([0, 1, 1, 2, 2])
    val_x = torch.tensor([[5.0, 0]])

    def predicted(k, train_x=train_x, val_x=val_x):
        y = [
            label
            for label in range(3)
            if knn_accuracy(train_x, train_y, val_x, torch.tensor([label]), k)
        ]
        return y[0]

    assert [predicted(k) for k in (1, 2, 3)] == [0, 0, 1]
    same = torch.ones(5, 2)  # collapsed features
    assert [predicted(k, same, same[:1]) for k in (1, 2, 3)] == [0, 0, 1]


@pytest.mark.parametrize('weight_decay', [0.01, 3.0])
def test_linear_accuracy_is_that_of_scikit_learn(weight_decay):
    """Also without gradients, for any labels and features of any scale."""
    sets = random_sets(N=200)
    expected = reference_linear(*sets, weight_decay)
    assert 0.4 < expected < 1
    train_x, train_y, val_x, val_y = tensors(sets)
    names = torch.tensor([7, 3, 9, 0])
    with torch.no_grad():
        found = linear_accuracy(
            *(1000 * train_x - 5, names[train_y]),
            *(1000 * val_x - 5, names[val_y]),
            weight_decay=weight_decay,
        )
    assert found == pytest.approx(expected)


@pytest.mark.parametrize('classify', [knn_accuracy, linear_accuracy])
def test_sets_that_cannot_be_classified(classify):
    train_x, train_y, val_x, val_y = tensors(random_sets())
    options = dict(k=1) if classify is knn_accuracy else {}

    def refused(message, *sets):
        with pytest.raises(ValueError, match=message):
            classify(*sets, **options)

    refused('training set', train_x[0], train_y, val_x, val_y)
    refused('validation set', train_x, train_y, val_x[:0], val_y[:0])
    refused('one label a sample', train_x, train_y, val_x, val_y[:, None])
    refused('5 channels, validation.*4', train_x, train_y, val_x[:, 1:], val_y)
    refused('40 of 40 .* negative', train_x, train_y, val_x, val_y - 9)
    refused('label 9', train_x, train_y, val_x, val_y.clone().fill_(9))
    val_x[3, 1] = float('nan')
    refused('1 of 40 validation', train_x, train_y, val_x, val_y)
    if classify is knn_accuracy:
        options['k'] = 61
        refused('k=61', train_x, train_y, train_x, train_y)


@pytest.fixture(scope='module')
def tool(load_tool):
    return load_tool('probe_features')


def write_features(path, subjects=3, classes=4, seed=0, **change):
    """Classes lie apart; every subject is off by a little."""
    rng = np.random.default_rng(seed)
    who, y, _ = np.mgrid[1 : subjects + 1, :classes, :3].reshape(3, -1)
    x = 4 * np.eye(8)[y] + 0.5 * who[:, None] + rng.normal(size=(len(y), 8))
    names = [f'a{c:02}_s{p:02}_e{i}' for i, (p, c) in enumerate(zip(who, y))]
    arrays = dict(
        features=x.astype(np.float32), labels=y, names=np.array(names)
    )
    np.savez(path, **{**arrays, **change})
    return arrays['features'], y, who


def probed(tool, capsys, *arguments):
    """The table's cells behind the header."""
    tool.main([str(argument) for argument in arguments])
    lines = capsys.readouterr().out.splitlines()[2:]
    return [line.strip('| ').split(' | ') for line in lines]


def test_leaving_one_out_is_training_on_the_others(tool, capsys):
    x, y, subjects = write_features('mine.npz')
    right = np.zeros(2)
    for p in (1, 2, 3):
        out = subjects == p
        sets = x[~out], y[~out], x[out], y[out]
        right += out.sum() * np.array(
            [reference_knn(*sets, k=1), reference_linear(*sets, 1e-2)]
        )
    assert 0 < right[0] < len(y)
    shares = [f'{100 * share / len(y):.1f} %' for share in right]
    assert probed(tool, capsys, 'mine.npz') == [['mine', '36', *shares]]


def test_what_needs_scikit_learn_says_so(tool, monkeypatch):
    write_features('mine.npz')
    monkeypatch.setitem(sys.modules, 'sklearn.model_selection', None)
    with pytest.raises(SystemExit, match=r'mamp-mmaction\[probes\].*--val'):
        tool.main(['mine.npz'])
    tool.main(['mine.npz', '--val', 'mine.npz'])


def test_a_validation_set_is_what_counts(tool, capsys):
    """Its classifiers are trained on all of the training set."""
    train = write_features('train.npz')[:2]
    val = write_features('val.npz', subjects=2, seed=1)[:2]
    knn = reference_knn(*train, *val, k=3)
    linear = reference_linear(*train, *val, 0.1)
    shares = [f'{100 * share:.1f} %' for share in (knn, linear)]
    options = ['--neighbours', 3, '--weight-decay', 0.1]
    found = probed(tool, capsys, 'train.npz', '--val', 'val.npz', *options)
    assert found == [['train', '24', *shares]]


@pytest.mark.parametrize(
    'options, change, message',
    [
        ([], dict(names=np.array(['x'] * 36)), "name 'x' matches"),
        (['--subject', '(a)'], {}, "subject 'a'; .* two or more"),
        ([], dict(labels=np.zeros((36, 2))), 'one vector, label and name'),
        ([], dict(names=np.array(['x'] * 9)), '9 names'),
        ([], dict(labels=np.array(['x'] * 36)), 'labels of <U1 .* integers'),
        ([], dict(features=np.ones((36, 2, 2))), 'no --per-token'),
        ([], dict(names=np.array([None] * 36)), 'mine.npz: holds no array'),
        (['--neighbours', '99'], {}, 'k=99 nearest neighbours of 24'),
        (['--val', 'absent.npz'], {}, 'No such file.*absent.npz'),
        (['--val', 'text.npz'], {}, 'text.npz: holds no array'),
        (['--val', 'cut.npz'], {}, 'cut.npz: holds no array that could'),
        (['--val', 'rotten.npz'], {}, 'rotten.npz: holds no array'),
        (['--val', 'unlabelled.npz'], {}, r"unlabelled.* lacks \['labels'\]"),
    ],
)
def test_files_that_cannot_be_probed(tool, options, change, message):
    write_features('mine.npz', **change)
    whole = Path('mine.npz').read_bytes()
    Path('text.npz').write_text('features')
    Path('cut.npz').write_bytes(whole[:1000])
    Path('rotten.npz').write_bytes(whole[:300] + b'rot' + whole[303:])
    np.savez('unlabelled.npz', features=np.ones((2, 2)), names=['1', '2'])
    with pytest.raises(SystemExit, match=f'^error: .*{message}') as stopped:
        tool.main(['mine.npz', *options])
    assert '\n' not in stopped.value.code


@pytest.mark.parametrize(
    'options, said',
    [
        (['--val', 'a.npz', 'b.npz'], '2 files for 1'),
        (['--subject', '('], r"--subject '\('"),
        (['--subject', 'x'], 'not one group'),
    ],
)
def test_command_lines_that_cannot_be(tool, capsys, options, said):
    with pytest.raises(SystemExit):
        tool.main(['mine.npz', *options])
    assert said.replace('\\', '') in capsys.readouterr().err
