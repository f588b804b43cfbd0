"""tools/fuse_scores.py: scores matched by name, and added."""

import pickle

import mmengine
import pytest
import torch
from mmengine.fileio import dump

SIZE = 40
CLASSES = 7


@pytest.fixture(scope='module')
def fuse_scores(load_tool):
    return load_tool('fuse_scores')


@pytest.fixture
def run(fuse_scores, capsys):
    """Runs the tool; returns the rows of its table, and what it said."""

    def run(*arguments):
        fuse_scores.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        says, _, _, _, *rows = printed.out.splitlines()
        rows = [row.strip('| ').split(' | ') for row in rows if '%' in row]
        table = {
            name: [float(cell.removesuffix(' %')) for cell in cells]
            for name, _, *cells in rows
        }
        return table, says + printed.err

    return run


def stream(seed, size=SIZE, classes=CLASSES, names=True):
    """A dump of a classifier that is right more often than by chance."""
    generator = torch.Generator().manual_seed(seed)
    samples = []
    for index in range(size):
        logits = torch.randn(classes, generator=generator)
        label = index % classes
        logits[label] += 1
        sample = dict(
            pred_score=logits.softmax(0),
            pred_label=logits.argmax(0, keepdim=True),
            gt_label=torch.tensor([label]),
            num_classes=classes,
        )
        if names:
            sample['frame_dir'] = f'S{index:03}'
        samples.append(sample)
    return samples


def raw(samples):
    return [dict(s, pred_score=s['pred_score'].log() + 3) for s in samples]


def write(path, samples):
    dump(samples, str(path))
    return path


@pytest.fixture
def dumps(tmp_path):
    return [write(tmp_path / f'{n}.pkl', stream(n)) for n in range(3)]


def expected(streams, weights, softmax=False):
    """Top-1, top-5 and mean class accuracy of the weighted sum in %."""
    scores = [
        torch.stack([sample['pred_score'] for sample in samples]).double()
        for samples in streams
    ]
    if softmax:
        scores = [score.softmax(dim=1) for score in scores]
    fused = sum(w * score for w, score in zip(weights, scores))
    labels = torch.cat([sample['gt_label'] for sample in streams[0]])
    hits = fused.topk(5).indices == labels[:, None]
    right = hits[:, 0].double()
    classes = [right[labels == k].mean() for k in range(CLASSES)]
    return [
        100 * float(rate)
        for rate in (
            right.mean(),
            hits.any(dim=1).double().mean(),
            torch.stack(classes).mean(),
        )
    ]


def test_prints_every_stream_and_the_sum(run, dumps):
    weights = [1, 0.5, 2]
    table, says = run(*dumps, '--weights', *weights)
    streams = [stream(n) for n in range(3)]
    for path, samples in zip(dumps, streams):
        assert table[str(path)] == pytest.approx(
            expected([samples], [1]), abs=0.005
        )
    fused = expected(streams, weights)
    assert fused[0] > expected(streams[:1], [1])[0]
    assert table['fused'] == pytest.approx(fused, abs=0.005)
    assert says == f'{SIZE} samples, matched by name'


def test_samples_are_matched_by_name_or_place(run, dumps):
    """Whatever their order; names may be missing."""
    before, _ = run(*dumps)
    write(dumps[1], stream(1)[::-1])
    assert run(*dumps)[0] == before
    write(dumps[1], stream(1, names=False))
    table, says = run(*dumps)
    assert table == before
    assert 'matched by place in the file' in says and str(dumps[1]) in says


def test_softmax_of_raw_scores(run, dumps):
    streams = [raw(stream(n)) for n in range(2)]
    paths = [write(p, s) for p, s in zip(dumps, streams)]
    plain, _ = run(*paths)
    assert plain['fused'] == pytest.approx(
        expected(streams, [1, 1]), abs=0.005
    )
    soft, says = run(*paths, '--apply-softmax')
    assert soft['fused'] == pytest.approx(
        expected(streams, [1, 1], softmax=True), abs=0.005
    )
    assert 'Note' not in says
    paths = [write(p, stream(n)) for n, p in enumerate(dumps)]
    assert 'holds probabilities already' in run(*paths, '--apply-softmax')[1]


def test_fused_scores_are_a_dump_again(run, dumps, tmp_path):
    weights = [3, 1, 2]
    out = tmp_path / 'new' / 'fused.pkl'
    table, _ = run(*dumps, '--weights', *weights, '--out', out)
    assert [path.name for path in out.parent.iterdir()] == ['fused.pkl']
    samples = mmengine.load(out)
    assert expected([samples], [1]) == pytest.approx(table['fused'], abs=0.005)
    for sample in samples:
        assert sample['pred_label'].item() == sample['pred_score'].argmax()
    again, _ = run(out)
    assert again['fused'] == table['fused']


def change(samples, index, **entries):
    samples[index] = dict(samples[index], **entries)
    return samples


def labelled(*label):
    return change(stream(1), 3, gt_label=torch.tensor(label))


def scored(score):
    return change(stream(1), 3, pred_score=score)


@pytest.mark.parametrize(
    'samples, message',
    [
        (stream(1)[:-2], r"1.pkl lacks 2 of the samples of .*0.pkl.*'S038'"),
        (stream(1, SIZE + 1), r"0.pkl lacks 1 of the .*1.pkl.*'S040'"),
        (stream(1)[1:] + stream(1)[1:2], "more than one sample 'S001'"),
        (stream(1, classes=6), '1.pkl has 6 classes, .*0.pkl 7'),
        (labelled(0), "1 samples have other labels .*'S003' has 0 and 3"),
        (stream(1, names=False)[::-1], r'other labels .*sample .S000. has'),
        (stream(1, names=False)[1:], '1.pkl has 39 samples, .*0.pkl 40'),
        (raw(stream(1)), '0.pkl holds probabilities, .*1.pkl raw scores'),
        (scored(torch.full((7,), torch.nan)), 'sample 3 has .* are NaN'),
        (scored(torch.ones(2, 7)), r'scores of shape \(2, 7\).*average_clips'),
        (scored(torch.ones(6)), r'1.pkl: the samples have \[6, 7\] scores'),
        (labelled(1, 0), r'sample 3 has the label \[1, 0\]'),
        (labelled(7), r'has the label \[7\], expected one class of 0 to 6'),
        ([{'frame_dir': 'S000'}], "sample 0 has no tensor 'pred_score'"),
        ([], 'expected a list of samples'),
        ({'state_dict': 1}, 'holds dict, expected a list of samples'),
    ],
)
def test_dumps_that_do_not_fit(run, dumps, samples, message):
    write(dumps[1], samples)
    with pytest.raises(SystemExit, match=f'^error: .*{message}'):
        run(*dumps, '--out', dumps[0].with_name('fused.pkl'))
    assert not dumps[0].with_name('fused.pkl').exists()


def test_files_that_are_no_dumps(run, dumps):
    hostile = pickle.dumps([dict(pred_score=breakpoint)])
    for content, message in (
        (hostile, 'refused.*builtins.breakpoint'),
        (dumps[1].read_bytes()[:900], 'cannot be read as a pickle'),
    ):
        dumps[1].write_bytes(content)
        with pytest.raises(SystemExit, match=f'1.pkl: {message}'):
            run(*dumps)
    dumps[1].unlink()
    with pytest.raises(SystemExit, match='No such file.*1.pkl'):
        run(*dumps)


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['a.pkl', 'b.pkl', '--weights', '1'], '1 numbers for 2 dumps'),
        (['a.pkl', '--out', 'b.npy'], 'b.npy does not end in .pkl'),
        (['a.pkl', '--out', './a.pkl'], 'is one of the dumps'),
    ],
)
def test_bad_arguments(run, arguments, message, capsys):
    with pytest.raises(SystemExit):
        run(*arguments)
    assert message in capsys.readouterr().err
