"""tools/show_results.py: what is drawn is what was computed."""

import json
from pathlib import Path

import numpy as np
import pytest
import synthetic
import torch
import torch.nn as nn
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import imread
from mmaction.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.fileio import dump
from small_models import (
    batch,
    encoder,
    gcn,
    linear_head,
    recogniser,
    recognition,
)

from mamp_mmaction.evaluation.attribution import attribute_answer
from mamp_mmaction.evaluation.comparison import rate_interval
from mamp_mmaction.utils import plots
from mamp_mmaction.utils.pictures import draw_sequence

CLASSES = ['wave', 'clap', 'bow', 'kick', 'jump']
# True classes and answers; nothing is of class 4.
LABELS = [0, 0, 0, 0, 1, 1, 1, 2, 2, 3]
ANSWERS = [0, 0, 1, 4, 1, 1, 1, 1, 1, 0]


@pytest.fixture(scope='module')
def tool(load_tool):
    return load_tool('show_results')


@pytest.fixture
def run(tool, monkeypatch, capsys):
    """Runs the tool; returns its figure, not drawn, and what it printed."""

    def run(*arguments):
        figures = []

        def save(self, path, format):
            figures.append(self)
            Path(path).touch()

        with monkeypatch.context() as patch:
            patch.setattr(Figure, 'savefig', save)
            tool.main([*map(str, arguments), '--out', 'a.png'])
        return figures[0], capsys.readouterr().out

    return run


def write_dump(path='d.pkl'):
    scores = 0.1 + torch.eye(5)[ANSWERS]
    dump(
        [
            dict(pred_score=score.clone(), gt_label=torch.tensor([label]))
            for score, label in zip(scores, LABELS)
        ],
        path,
    )
    Path('names.txt').write_text('\n'.join(CLASSES) + '\n')


def write_features(path, **change):
    rng = np.random.default_rng(0)
    labels = np.arange(45) % 3
    features = 9 * np.eye(6)[labels] + rng.normal(size=(45, 6))
    arrays = dict(features=features, labels=labels, names=np.array(['x'] * 45))
    np.savez(path, **dict(arrays, **change))
    return features, labels


def write_log(work_dir, *lines):
    folder = Path(work_dir, '20260101_000000', 'vis_data')
    folder.mkdir(parents=True)
    folder.joinpath('scalars.json').write_text(
        '\n'.join(json.dumps(line) for line in lines)
    )


def names(ticks):
    return [tick.get_text() for tick in ticks]


def test_confusion_and_accuracies(run):
    write_dump()
    figure, printed = run('confusion', 'd.pkl', '--classes', 'names.txt')
    matrix, bars = figure.axes[:2]
    expected = [
        [50, 25, 0, 0, 25],
        [0, 100, 0, 0, 0],
        [0, 100, 0, 0, 0],
        [100, 0, 0, 0, 0],
        [np.nan] * 5,
    ]
    np.testing.assert_allclose(
        matrix.images[0].get_array().filled(np.nan), expected
    )
    numbers = {text.get_position(): text.get_text() for text in matrix.texts}
    assert numbers == {
        **{(0, 0): '50', (1, 0): '25', (4, 0): '25', (1, 1): '100'},
        **{(1, 2): '100', (0, 3): '100'},
    }
    assert names(matrix.get_yticklabels()) == CLASSES
    found = dict(
        zip(
            names(bars.get_yticklabels()),
            [bar.get_width() for bar in bars.patches],
        )
    )
    assert found == {
        **{'wave  (4)': 50, 'clap  (3)': 100},
        **{'bow  (2)': 0, 'kick  (1)': 0},
    }
    assert list(found.values()) == sorted(found.values())
    assert '50.0 % of 10' in bars.get_title()
    assert '37.5 %' in bars.get_title()
    assert printed.splitlines()[2] == '| bow | clap | 2 | 2 |'

    figure, _ = run('confusion', 'd.pkl', '--most', 2)
    matrix, bars = figure.axes[:2]
    np.testing.assert_allclose(
        matrix.images[0].get_array(), [[50, 25, 25], [0, 100, 0]]
    )
    assert names(matrix.get_xticklabels()) == ['0', '1', 'all others']


@pytest.mark.parametrize('right, count', [(0, 4), (3, 7), (5, 5), (50, 80)])
def test_error_is_one_standard_error_of_the_true_rate(right, count):
    for rate in rate_interval(right, count):
        distance = abs(rate - right / count)
        assert distance == pytest.approx((rate * (1 - rate) / count) ** 0.5)


@pytest.mark.parametrize('number', [27, 60])
def test_names_of_classes_do_not_hide_each_other(tmp_path, number):
    """Neither in a matrix nor where all classes lie in one place."""
    figures = []
    rng = np.random.default_rng(0)
    classes = [f'a class with the number {k}' for k in range(number)]
    labels = np.arange(4 * number) % number
    places = rng.normal(size=(len(labels), 2))
    with pytest.MonkeyPatch.context() as patch:
        save = Figure.savefig
        patch.setattr(
            Figure,
            'savefig',
            lambda self, *a, **k: figures.append(self) or save(self, *a, **k),
        )
        plots.draw_confusion(
            tmp_path / 'c.png', np.ones((number, number), int), classes
        )
        plots.draw_embeddings(
            tmp_path / 'e.png',
            {'one': (places, labels)},
            dict(enumerate(classes)),
        )
    for figure in figures:
        axes = figure.axes[0]
        groups = [axes.get_yticklabels(), axes.get_xticklabels()]
        if not groups[0]:
            groups = [[text.get_bbox_patch() for text in axes.texts]]
        for group in groups:
            boxes = np.array(
                [text.get_window_extent().get_points() for text in group]
            )
            assert len(boxes) == number
            low, high = boxes[:, 0], boxes[:, 1]
            apart = np.maximum(low[:, None] - high, low - high[:, None])
            np.fill_diagonal(apart[..., 0], 1)
            assert (apart.max(axis=2) > -1).all()
    assert imread(tmp_path / 'c.png').shape[0] > 15 * number


def test_features_by_class(run):
    features, labels = write_features('one.npz')
    write_features('two.npz', labels=np.where(labels == 2, -1, labels))
    Path('names.txt').write_text('\n'.join(CLASSES))
    figure, _ = run(
        *('features', 'one.npz', 'two.npz', '--method', 'pca'),
        *('--classes', 'names.txt'),
    )
    one, two = figure.axes
    assert [axes.get_title() for axes in (one, two)] == ['one', 'two']
    places = one.collections[0].get_offsets().data
    centred = features - features.mean(0)
    expected = centred @ np.linalg.svd(centred)[2][:2].T
    np.testing.assert_allclose(abs(places), abs(expected), atol=1e-6)
    assert names(one.texts) == CLASSES[:3]
    assert names(two.texts) == CLASSES[:2]
    colors = [to_hex(c) for c in one.collections[0].get_facecolors()]
    assert len(set(zip(colors, labels))) == len(set(colors)) == 3
    others = [to_hex(c) for c in two.collections[0].get_facecolors()]
    assert {others[2], *others[:2]} == {'#bbbbbb', *colors[:2]}
    assert len(one.lines) == 3
    for k, line in enumerate(one.lines):  # from the middle to the name
        own = places[labels == k]
        sums = [np.linalg.norm(own - place, axis=1).sum() for place in own]
        start, end = line.get_xydata()
        np.testing.assert_allclose(start, own[np.argmin(sums)])
        assert tuple(end) == one.texts[k].get_position()

    figure, _ = run('features', 'one.npz')  # t-SNE
    places = figure.axes[0].collections[0].get_offsets().data
    distances = np.linalg.norm(places[:, None] - places, axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argmin(axis=1)] == labels).all()


def test_curves_of_several_trainings(run):
    write_log(
        'a',
        *(dict(loss=x, epoch=1, step=s) for s, x in ((20, 4.0), (40, 2.0))),
        {'acc/top1': 0.25, 'step': 1},
        dict(loss=1.5, epoch=2, step=80),
        {'acc/top1': 0.5, 'step': 2},
    )
    write_log('b', dict(loss=2.5, epoch=1, step=40, lr=0.1))
    figure, _ = run('curves', 'a', 'b')
    loss, accuracy = figure.axes
    assert [axes.get_title() for axes in (loss, accuracy)] == [
        'loss',
        'acc/top1',
    ]
    drawn = [  # beside the curves there are ends of errors, all NaN
        [
            line.get_xydata().tolist()
            for line in axes.lines
            if np.isfinite(line.get_xydata()).all()
        ]
        for axes in figure.axes
    ]
    assert drawn[0] == [[[1, 3], [2, 1.5]], [[1, 2.5]]]
    assert drawn[1] == [[[1, 0.25], [2, 0.5]]]
    assert names(figure.legends[0].get_texts()) == ['a', 'b']
    figure, _ = run('curves', 'b', '--keys', 'lr')
    assert [axes.get_title() for axes in figure.axes] == ['lr']


class Linear(nn.Module):
    """A head: class 1 is where joint 5 is, from frame 6 to 9."""

    def forward(self, x):  # (B, M, T, V, C)
        score = 3 * x[:, :, 6:10, 5].sum(dim=(1, 2, 3))
        return torch.stack([0 * score, score], dim=1)


def test_joint_that_alone_decides_is_found():
    model = recogniser()
    model.backbone, model.cls_head = nn.Identity(), Linear()
    inputs = batch(samples=1)[0][0].abs()
    found = attribute_answer(model, inputs)
    assert found.answer == 1 and found.probability > 0.99
    expected = torch.zeros_like(inputs[0, ..., 0])
    expected[:, 6:10, 5] = 3 * inputs[0, :, 6:10, 5].sum(-1)
    torch.testing.assert_close(found.contributions, expected)
    assert found.rise == pytest.approx(expected.sum().item(), rel=1e-5)


@pytest.mark.parametrize(
    'backbone',
    [
        encoder(num_joints=25),
        encoder(num_joints=25, keep_ratio=0.5),
        gcn('stgcn'),
    ],
)
def test_contributions_add_up_to_the_score(backbone):
    model = recogniser(backbone=backbone).train()
    inputs = batch(samples=1, joints=25)[0][0]
    inputs[:, 1] = 0  # an absent person contributes nothing
    found = attribute_answer(model, inputs)
    assert model.training and all(p.grad is None for p in model.parameters())
    assert found.contributions.sum().item() == pytest.approx(
        found.rise, rel=0.02, abs=1e-3
    )
    assert not found.contributions[1].any()
    assert found.contributions[0].any()


def test_a_body_that_is_there_twice_contributes_twice():
    inputs = batch(samples=1)[0][0]
    inputs[:, 1] = inputs[:, 0]
    one, other = attribute_answer(recogniser(), inputs).contributions
    assert one.any()
    torch.testing.assert_close(one, other)


def test_joints_are_as_large_as_they_contribute():
    keypoint = np.random.default_rng(0).normal(size=(1, 16, 7, 3))
    weights = np.zeros((1, 16, 7))
    weights[0, :3, 5], weights[0, 13:, 2] = 1, -0.5
    axes = Figure().subplots()
    draw_sequence(axes, keypoint, None, weights)
    points = axes.collections[-1]
    share = points.get_array().reshape(8, 7)
    # Moments are two frames and a bit apart.
    assert share[0, 5] == 1 and share[-1, 2] == -0.5
    assert (np.count_nonzero(share, axis=0) > 0).nonzero()[0].tolist() == [
        2,
        5,
    ]
    sizes = points.get_sizes().reshape(8, 7)
    assert (sizes == 4 + 130 * abs(share)).all()


def write_config(**step):
    _, resize, *rest = synthetic.pipeline(16, 1)
    step = step or dict(type='CenterSkeleton')
    steps = [dict(resize, test_mode=True), step, *rest]
    data = synthetic.data_set(size=12, train=4)
    ann_file = synthetic.write(Path('a.pkl'), data)
    cfg = Config(
        dict(
            custom_imports=dict(imports=['mamp_mmaction']),
            model=recognition(linear_head(5), encoder(num_joints=25)),
            test_dataloader=synthetic.loader(ann_file, 'xsub_val', steps),
        )
    )
    cfg.dump('config.py')
    model = MODELS.build(cfg.model)
    torch.save(dict(state_dict=model.state_dict()), 'weights.pth')
    return model


@pytest.mark.parametrize(
    'step',
    [
        dict(type='CenterSkeleton'),
        dict(type='SkeletonStream', stream='bone'),
        dict(type='PreNormalize3D'),
    ],
)
def test_answers_are_explained_on_the_bodies(run, step):
    model = write_config(**step)
    figure, printed = run(
        *('attribution', 'config.py', 'weights.pth', '--samples', 'S007'),
        *('--classes', 'nw_ucla', '--layout', 'nturgb+d'),
    )
    bodies, heat, _ = figure.axes
    seen = synthetic_input()
    found = attribute_answer(model, seen['inputs'])
    weights = found.contributions[0].numpy()
    np.testing.assert_allclose(
        heat.images[0].get_array(), weights.T, atol=1e-6
    )
    assert 'left hand' in names(heat.get_yticklabels())
    assert bodies.get_title(loc='left').startswith('S007   answer: ')
    assert f'({found.probability:.0%})   true class: drop trash' in (
        bodies.get_title(loc='left')
    )
    best = heat.get_yticklabels()[weights.sum(0).argmax()].get_text()
    assert f'| {best.replace(" ", "_")} ' in printed
    # The spine is upright, whatever the model gets.
    points = bodies.collections[-1].get_offsets().reshape(8, 25, 2)
    shape = points - points[:, :1]
    wanted = seen['positions'] - seen['positions'][:, :1]
    scale = abs(shape).max() / abs(wanted).max()
    np.testing.assert_allclose(shape, scale * wanted, atol=1e-4)


def test_samples_of_several_data_sets_are_drawn(run):
    write_config()
    figure, _ = run('attribution', 'config.py', 'weights.pth')
    cfg = Config.fromfile('config.py')
    loader = cfg.test_dataloader
    empty = dict(loader.dataset, split='xsub_train')
    loader.dataset = dict(
        type='ConcatDataset', datasets=[empty, loader.dataset]
    )
    cfg.dump('config.py')
    given = ('attribution', 'config.py', 'weights.pth', '--samples')
    both, _ = run(*given, 'S000', 'S004', 'S011')
    assert both.axes[0].get_title(loc='left').startswith('S000   answer')
    for one, other in ((0, 2), (4, 4)):
        points = [
            axes.collections[-1].get_offsets()
            for axes in (figure.axes[one], both.axes[other])
        ]
        np.testing.assert_allclose(*points)


def test_samples_of_like_names_are_all_drawn(run):
    model = write_config()
    nn.init.zeros_(model.cls_head.fc.weight)
    torch.save(dict(state_dict=model.state_dict()), 'weights.pth')
    data = synthetic.data_set(size=3, train=0)
    for i, sample in enumerate(data['annotations']):
        sample.update(frame_dir='folder/' * 8 + f'S{i}', label=0)
    data['split'] = dict(
        xsub_val=[a['frame_dir'] for a in data['annotations']]
    )
    synthetic.write(Path('a.pkl'), data)
    given = ('attribution', 'config.py', 'weights.pth', '--samples', '3')
    figure, _ = run(*given, '--cfg-options', 'model_layout=nturgb+d')
    titles = [axes.get_title(loc='left') for axes in figure.axes[:6:2]]
    assert [title.split()[0][-2:] for title in titles] == ['S0', 'S1', 'S2']
    assert 'left hand' in names(figure.axes[1].get_yticklabels())


def synthetic_input():
    """What the config's pipeline makes of sample S007, and its joints."""
    cfg = Config.fromfile('config.py').test_dataloader.dataset
    inputs = DATASETS.build(cfg)[3]['inputs']
    kind = cfg.pipeline[1]['type']
    upright = inputs
    if kind == 'SkeletonStream':
        del cfg.pipeline[1]
        upright = DATASETS.build(cfg)[3]['inputs']
    shown = upright[0, 0, np.linspace(0, 15, 8).round()].numpy()
    axes = [0, 2] if kind == 'PreNormalize3D' else [0, 1]
    return dict(inputs=inputs.float(), positions=shown[..., axes])


@pytest.mark.parametrize(
    'arguments, message',
    [
        ('confusion d.pkl --classes toy', 'toy has 16 class .* d.pkl has 5'),
        ('confusion d.pkl --classes d', "'d': neither a file nor .* ntu60"),
        ('confusion d.pkl --classes d.pkl', "d.pkl: holds no 'classes'"),
        ('confusion one.npz', 'one.npz: cannot be read as a pickle'),
        ('features bare.npz', r"bare.npz has .* lacks \['labels'\]"),
        ('features few.npz', r'few.npz: features of shape \(2, 6\)'),
        ('features nan.npz', 'nan.npz: the features of 45 of 45 .* NaN'),
        ('features equal.npz', 'equal.npz: the features of all 45 .* equal'),
        ('features one.npz --classes two.txt', 'two.txt has 2 .* least 3'),
        ('curves a b', 'b: no training below it has logged any of loss'),
        ('curves a --keys x', 'a: no training below it has logged any of x'),
        ('curves a --keys loss x', "none of the trainings has logged 'x'"),
        ('attribution config.py a.pth', 'a.pth'),
        ('attribution bare.py a.pth', 'bare.py has no model'),
        ('attribution config.py weights.pth --samples x', "no sample 'x'"),
        ('attribution config.py other.pth', 'other.pth: does not fit'),
        (
            'attribution config.py weights.pth --layout coco',
            "25 joints, but the layout 'coco' has 17",
        ),
    ],
)
def test_bad_input_is_told_in_one_line(run, arguments, message):
    write_dump()
    features, labels = write_features('one.npz')
    np.savez('bare.npz', features=features, names=labels)
    write_features('few.npz', **few(features, labels))
    write_features('nan.npz', features=features * np.nan)
    write_features('equal.npz', features=features * 0)
    Path('two.txt').write_text('a\nb\n')
    Path('bare.py').write_text('')
    write_log('a', dict(loss=1.0, epoch=1, step=1))
    Path('b').mkdir()
    if arguments.startswith('attribution'):
        write_config()
        torch.save(dict(state_dict={}), 'other.pth')
    with pytest.raises(SystemExit, match=f'^error: .*{message}') as stopped:
        run(*arguments.split())
    assert '\n' not in stopped.value.code
    assert not Path('a.png').exists()


def few(features, labels):
    return dict(features=features[:2], labels=labels[:2], names=['x', 'y'])


def test_only_png_files_are_written(tool, capsys):
    with pytest.raises(SystemExit):
        tool.main(['curves', 'a', '--out', 'a.jpg'])
    assert 'a.jpg does not end in .png' in capsys.readouterr().err
