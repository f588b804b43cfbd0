"""tools/benchmark_speed.py: its rows, their agreement, counts and errors."""

import io
import json
import pickle
import sys
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from mmaction.registry import DATASETS, MODELS
from mmengine.config import Config
from synthetic import data_set, write

from mamp_mmaction.engine.amp_optim_wrapper import supports_bfloat16
from mamp_mmaction.models import layers, mamp
from mamp_mmaction.motion_mask import num_visible_tokens

ROOT = Path(__file__).parents[1]
# Of --short: samples, persons, frames, joints, patch, width, heads.
N, M, T, V, U, D = 5, 2, 24, 25, 4, 16
DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'


@pytest.fixture(scope='module')
def speed(load_tool):
    return load_tool('benchmark_speed')


@pytest.fixture(scope='module')
def cases(speed):
    return sys.modules['speed_cases']


@pytest.fixture(scope='module')
def training(speed):
    return sys.modules['speed_of_training']


@pytest.fixture(scope='module')
def inference(speed):
    return sys.modules['speed_of_inference']


@pytest.fixture(scope='module')
def report(speed, tmp_path_factory):
    """All of --short: what is printed, and the two files."""
    out = tmp_path_factory.mktemp('speed')
    with redirect_stdout(io.StringIO()) as printed:
        speed.main(['--short', '--out', str(out)])
    assert sorted(path.name for path in out.iterdir()) == [
        'benchmark_speed.json',
        'benchmark_speed.md',
    ]
    return SimpleNamespace(
        printed=printed.getvalue(),
        text=(out / 'benchmark_speed.md').read_text(),
        json=json.loads((out / 'benchmark_speed.json').read_text()),
    )


@pytest.fixture
def args(speed):
    return speed.parse_args(['--short'])


@pytest.fixture
def ann_file(cases, args, tmp_path):
    return cases.write_skeletons(tmp_path / 'skeletons.pkl', args)


@pytest.fixture
def data(cases, args, ann_file):
    return cases.pretraining_batch(ann_file, args)


def tables(report, name):
    (section,) = (s for s in report.json['sections'] if s['name'] == name)
    assert 'error' not in section
    return [table['rows'] for table in section['tables']]


def names(rows):
    return [row['name'] for row in rows]


def test_the_file_is_what_is_printed(report):
    assert report.text == f'# Speed\n\n{report.printed}'
    assert report.text.count('\n## ') == 6
    assert 'Failed' not in report.text
    header = report.text.split('\n\n')[1]
    assert 'torch 2' in header and 'frames 24' in header
    rows = [row for row in report.text.splitlines() if row.startswith('| ')]
    for row in rows:
        assert row.count('|') > 4 and 'nan' not in row


def test_every_time_is_kept_and_summarised(report):
    timed = [
        row
        for section in report.json['sections']
        for table in section['tables']
        for row in table['rows']
        if 'times_ms' in row
    ]
    assert len(timed) >= 2 + 4 + 4 + 4 + 2 + 6 + 1
    for row in timed:
        low, high = row['quartiles_ms']
        assert 0 < low <= row['median_ms'] <= high
        assert len(row['times_ms']) == report.json['settings']['repeats'] == 1


def test_pipelines(report):
    whole, parts = tables(report, 'pipeline')
    toolbox, ours = 'ST-GCN++ of the toolbox', 'MAMP pre-training'
    assert names(whole) == [toolbox, ours]
    for name, transforms in (
        (
            toolbox,
            'PoseDataset PreNormalize3D GenSkeFeat UniformSampleFrames '
            'PoseDecode FormatGCNInput PackActionInputs',
        ),
        (
            ours,
            'SkeletonDataset CenterSkeleton TemporalCropResize '
            'RandomRotate3D FormatGCNInput MotionAwareMask PackActionInputs',
        ),
    ):
        own = [row for row in parts if row['pipeline'] == name]
        assert names(own) == transforms.split()
        assert sum(row['percent'] for row in own) == pytest.approx(100)


def test_steps_agree(report):
    (rows,) = tables(report, 'step')
    if not supports_bfloat16(torch.device(DEVICE)):
        assert 'no instructions' in rows.pop()['error']
    assert (
        names(rows)
        == [
            'eager attention, a group a parameter, float32',
            '+ fused attention',
            '+ merged parameter groups',
            '+ fused AdamW',
            '+ bfloat16',
        ][: len(rows)]
    )
    losses = [row['loss'] for row in rows]
    assert losses[:4] == pytest.approx([losses[0]] * 4, rel=1e-4)
    assert losses == pytest.approx([losses[0]] * len(losses), rel=0.02)
    memory = [row['memory_mib'] for row in rows]
    assert 0 < memory[1] < memory[0]
    assert rows[0]['speed_up'] == 1


def test_distinct_persons_give_the_same_logits(report):
    persons, _ = tables(report, 'inference')
    # Four of five samples hold one person; absent ones are all the same.
    assert [row['persons'] for row in persons] == [10, 7, 10, 6]
    assert max(row['difference'] for row in persons) < 1e-5


def test_kept_tokens(report):
    _, ratios = tables(report, 'inference')
    assert names(ratios) == [1, 0.5, 0.25, 0.125]
    segments = T // U
    kept = [segments, 3, 2, 1]
    assert [row['tokens'] for row in ratios] == [V * k for k in kept]


def test_absent_persons(report):
    (rows,) = tables(report, 'absent')
    assert [row['persons'] for row in rows] == [10, 6]
    assert rows[1]['memory_mib'] < rows[0]['memory_mib']


def step_flops(frames, persons):
    """Forward and backward pass of --short's model on one sample."""
    tokens = frames // U * V
    seen = num_visible_tokens(tokens, 0.9)

    def block(n):  # qkv, projection, perceptron; two attention products
        return 2 * n * (3 + 1 + 8) * D * D + 2 * 2 * n * n * D

    first = 2 * seen * U * 3 * D
    rest = block(seen) + 2 * seen * D * D + block(tokens)
    rest += 2 * tokens * D * U * 3
    # Nobody asks for the gradient of the skeletons.
    return persons * (2 * first + 3 * rest)


def test_flops_grow_by_the_formula(report):
    frames, persons = tables(report, 'scale')
    assert [row['frames'] for row in frames] == [12, 24, 48]
    assert [row['persons'] for row in persons] == [1, 2, 4]
    for row in frames + persons:
        expected = step_flops(row['frames'], row['persons'])
        assert row['gflops'] == expected / 1e9
        assert row['tokens'] == row['frames'] // U * V
    assert [row['growth_flops'] for row in persons] == [1, 2, 4]
    assert frames[2]['growth_flops'] == pytest.approx(
        step_flops(48, M) / step_flops(12, M)
    )


def test_runner(report):
    ((row,),) = tables(report, 'runner')
    assert row['iterations'] == 1
    assert row['persons_per_s'] == M * row['samples_per_s']
    hours = 40_091 * 400 / row['samples_per_s'] / 3600
    assert row['hours'] == pytest.approx(hours)
    assert 0 < row['data_percent'] < 100


def test_runner_measures_what_is_behind_the_warm_up(speed, training, ann_file):
    args = speed.parse_args(
        ['--short', '--warmup', '2', '--iterations', '3', '--workers', '1']
    )
    (table,) = training.bench_runner(ann_file, args)
    # Two iterations an epoch, so three epochs.
    assert table.rows[0]['iterations'] == 4
    assert len(table.rows[0]['times_ms']) == 4


def test_processes(speed, tmp_path, capsys):
    speed.main(['processes', '--short', '--out', str(tmp_path)])
    report = json.loads((tmp_path / 'benchmark_speed.json').read_text())
    rows = report['sections'][0]['tables'][0]['rows']
    assert names(rows) == [1, 2]
    for row in rows:
        persons = row['name'] * N * M
        expected = 1000 * persons / row['median_ms']
        assert row['persons_per_s'] == pytest.approx(expected)
    assert '| processes |' in capsys.readouterr().out


def test_processes_that_fail(speed, training, monkeypatch, capsys):
    failed = SimpleNamespace(returncode=3, stdout='the reason')
    monkeypatch.setattr(training.subprocess, 'run', lambda *_, **__: failed)
    with pytest.raises(SystemExit) as stopped:
        speed.main(['processes', '--short'])
    assert stopped.value.code == 1
    printed = capsys.readouterr()
    assert 'Failed: ' in printed.out and 'status 3' in printed.out
    assert 'the reason' in printed.err


def test_skeletons_are_like_those_of_ntu(speed, cases, tmp_path):
    args = speed.parse_args(['--samples', '400'])
    path = cases.write_skeletons(tmp_path / 'skeletons.pkl', args)
    annotations = pickle.loads(Path(path).read_bytes())['annotations']
    shapes = [annotation['keypoint'].shape for annotation in annotations]
    lengths = [shape[1] for shape in shapes]
    assert 75 <= np.median(lengths) <= 85
    assert 30 <= min(lengths) < 50 and 150 < max(lengths) <= 250
    assert sum(shape[0] == 1 for shape in shapes) == 320
    assert {(shape[0], *shape[2:]) for shape in shapes} == {
        (1, 25, 3),
        (2, 25, 3),
    }
    keypoint = annotations[0]['keypoint']
    assert keypoint.dtype == np.float32
    assert keypoint[..., 2].mean() == pytest.approx(3, abs=1)


def test_what_is_compared_is_timed_in_turns(speed, cases):
    args = speed.parse_args(['--short', '--warmup', '2', '--repeats', '3'])
    made = []
    calls = {name: lambda name=name: made.append(name) for name in 'ab'}
    times = cases.time_in_turns(calls, args)
    assert ''.join(made) == 'aabb' + 'ab' * 3
    assert all(len(times[name]['times_ms']) == 3 for name in 'ab')


def test_eager_attention_is_the_fused_one(training):
    q, k, v = torch.randn(3, 2, 4, 7, 8, dtype=torch.double).requires_grad_()
    torch.testing.assert_close(
        training.eager_attention(q, k, v),
        F.scaled_dot_product_attention(q, k, v),
    )


def test_switches(training, args, data, monkeypatch):
    calls = []

    def counted(q, k, v):
        calls.append(q)
        return attention(q, k, v)

    attention = training.eager_attention
    monkeypatch.setattr(training, 'eager_attention', counted)
    fused = layers.F.scaled_dot_product_attention
    plain = training.switched_step([], data, args)
    plain()
    assert len(calls) == args.depth + args.decoder_depth
    assert layers.F.scaled_dot_product_attention is fused

    keys = list(training.SWITCHES)
    quick = training.switched_step(keys[:3], data, args)
    quick()
    assert len(calls) == args.depth + args.decoder_depth
    parameters = len(list(plain.model.parameters()))
    groups = [s.optim_wrapper.optimizer.param_groups for s in (plain, quick)]
    assert [len(g) for g in groups] == [parameters, 2]
    assert [g[0]['fused'] for g in groups] == [None, True]
    # What is merged is what was apart.
    decayed = [
        sum(p.numel() for g in group for p in g['params'] if g['weight_decay'])
        for group in groups
    ]
    assert decayed[0] == decayed[1] > 0
    half = training.switched_step(keys[:4], data, args)
    assert type(half.optim_wrapper).__name__ == 'AutoAmpOptimWrapper'


def test_a_step_that_computes_something_else_is_an_error(
    speed, training, ann_file, monkeypatch
):
    args = speed.parse_args(['--short', '--repeats', '2'])
    monkeypatch.setattr(training, 'eager_attention', lambda q, k, v: 99 * v)
    (table,) = training.bench_step(ann_file, args)
    for row in table.rows[1:4]:
        assert 'that of the first row' in row['error']
        assert 'median_ms' not in row
    assert '+ fused attention: its loss is' in str(table)


def test_a_step_that_cannot_be_made_does_not_stop_the_others(
    speed, training, ann_file, monkeypatch
):
    def compile(function, **kwargs):
        def fail(*args):
            raise RuntimeError('No working C++ compiler found.\nmore')

        return fail

    monkeypatch.setattr(torch, 'compile', compile)
    monkeypatch.setattr(training, 'supports_bfloat16', lambda device: False)
    args = speed.parse_args(['--short', '--compile'])
    (table,) = training.bench_step(ann_file, args)
    assert names(table.rows)[4:] == ['+ bfloat16', '+ torch.compile']
    assert table.rows[4]['error'].endswith('no instructions for it here')
    error = 'RuntimeError: No working C++ compiler found.'
    assert table.rows[5]['error'] == error
    assert all('median_ms' in row for row in table.rows[:4])


@pytest.mark.skipif(DEVICE == 'cuda', reason='another memory is counted')
def test_memory_is_what_is_saved_each_storage_once(cases):
    model = nn.Linear(4, 3)
    x = torch.randn(5, 4)

    def step():
        y = model(x).relu()  # saves x, the weight and the result
        (y * y[:2].sum()).sum().backward()  # y again, and the sum

    saved = 4 * (5 * 4 + 5 * 3 + 1)
    assert cases.peak_memory(step, model) * 2**20 == saved


def test_all_persons_are_computed_where_asked(inference, cases, args):
    model = MODELS.build(cases.encoder_config(args)).eval()
    rows = []
    model.blocks.register_forward_pre_hook(
        lambda _, inputs: rows.append(len(inputs[0]))
    )
    x = torch.zeros(3, M, T, V, 3)
    x[0] = torch.randn(T, V, 3)
    features = model(x)
    with inference.all_persons_computed():
        torch.testing.assert_close(model(x), features)
    model(x)
    assert rows == [2, 6, 2]


def test_dropping_a_person_who_is_there_is_an_error(
    training, args, ann_file, monkeypatch
):
    def first_person(keypoint, mask):
        return keypoint[:1, :1], mask[:1, :1]

    monkeypatch.setattr(mamp, 'present_persons', first_person)
    (table,) = training.bench_absent(ann_file, args)
    assert 'median_ms' in table.rows[0]
    assert 'with everybody encoded' in table.rows[1]['error']


@pytest.fixture
def trained(tmp_path):
    """A recogniser for 5 joints: config, weights, annotations."""
    base = next(ROOT.glob('configs/mamp/toy/*linear*.py'))
    sizes = dict(embed_dims=8, depth=1, num_heads=2, num_joints=5)
    model = dict(backbone=sizes, cls_head=dict(in_channels=8, num_classes=5))
    loader = dict(batch_size=4, num_workers=0, persistent_workers=False)
    config = tmp_path / 'probe.py'
    config.write_text(
        f'_base_ = {str(base)!r}\nmodel = {model!r}\n'
        f'test_dataloader = {loader!r}\n'
    )
    weights = tmp_path / 'weights.pth'
    model = MODELS.build(Config.fromfile(config).model)
    torch.save(dict(state_dict=model.state_dict()), weights)
    annotations = data_set(size=20, train=8, joints=5)
    path = write(tmp_path / 'data.pkl', annotations)
    return SimpleNamespace(config=config, weights=weights, ann_file=path)


def command(trained):
    line = ['inference', '--short', '--config', str(trained.config)]
    line += ['--checkpoint', str(trained.weights)]
    return [*line, '--ann-file', trained.ann_file]


def test_accuracy_by_keep_ratio(speed, inference, trained):
    args = speed.parse_args(command(trained))
    table = inference.compare_keep_ratios_of_config(args)
    cfg = Config.fromfile(trained.config)
    cfg.test_dataloader.dataset.ann_file = trained.ann_file
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    inputs = torch.stack([sample['inputs'] for sample in dataset])
    labels = [int(sample['data_samples'].gt_label) for sample in dataset]
    assert len(labels) == 12
    expected = []
    for ratio in (1, 0.5, 0.25, 0.125):
        cfg.model.backbone.keep_ratio = ratio
        model = MODELS.build(cfg.model).eval()
        model.load_state_dict(torch.load(trained.weights)['state_dict'])
        with torch.no_grad():
            scores, _ = model.extract_feat(inputs.float(), stage='head')
        right = scores.argmax(dim=1) == torch.tensor(labels)
        expected.append(100 * right.float().mean().item())
    assert [row['top1'] for row in table.rows] == pytest.approx(expected)
    assert [row['tokens'] for row in table.rows] == [50, 25, 10, 5]
    assert '| top-1, % |' in str(table)


def test_weights_of_another_model(speed, trained, capsys):
    state = torch.load(trained.weights)
    del state['state_dict']['cls_head.fc.weight']
    torch.save(state, trained.weights)
    with pytest.raises(SystemExit) as stopped:
        speed.main(command(trained))
    assert stopped.value.code == 1
    error = capsys.readouterr().err.split('error: inference: ')[1]
    assert 'weights.pth does not hold the weights' in error
    assert 'cls_head.fc.weight' in error


def test_configs_without_mamps_encoder(speed, inference, trained):
    trained.config = next(ROOT.glob('configs/stgcnpp/*scratch*.py'))
    args = speed.parse_args(command(trained))
    with pytest.raises(ValueError, match='stgcnpp.*no recogniser .*MAMPTr'):
        inference.compare_keep_ratios_of_config(args)
    args.config = next(ROOT.glob('configs/mamp/toy/*pretrain*.py'))
    with pytest.raises(ValueError, match='pretrain.*no recogniser'):
        inference.compare_keep_ratios_of_config(args)


def test_a_section_that_fails_does_not_stop_the_others(speed, capsys):
    with pytest.raises(SystemExit) as stopped:
        speed.main(['absent', 'pipeline', '--short', '--frames', '22'])
    assert stopped.value.code == 1
    printed = capsys.readouterr()
    said = 'num_frames=22 is not a positive multiple of t_patch_size=4'
    assert f'Failed: {said}' in printed.out
    assert f'error: absent: {said}' in printed.err
    # There it is a row's.
    assert '| ST-GCN++ of the toolbox | ' in printed.out
    assert f'| MAMP pre-training: ValueError: {said}' in printed.out


@pytest.mark.parametrize(
    'line, said',
    [
        (['speed'], "'speed' is none of pipeline, step, inference"),
        (['--samples', '3', '--batch-size', '4'], '3 is less than a batch'),
        (['--repeats', '0'], '0 is less than 1'),
        (['--single-person', '1.5'], '1.5 is outside of 0 to 1'),
        (['--workers', '-1'], '-1 is less than 0'),
        (['--checkpoint', 'x.pth'], '--config and --checkpoint belong'),
        (['--ann-file', 'x.pkl'], '--ann-file belongs to --config'),
        (
            ['step', '--config', 'x.py', '--checkpoint', 'x.pth'],
            '--config belongs to the section inference',
        ),
        (
            ['--config', __file__, '--checkpoint', 'no.pth'],
            '--checkpoint no.pth: there is no such file',
        ),
    ],
)
def test_command_lines_that_cannot_be(speed, line, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        speed.parse_args(line)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_sections_that_are_run(speed):
    everything = list(speed.SECTIONS)
    assert speed.parse_args([]).sections == everything
    everything.remove('processes')
    assert speed.parse_args(['--short']).sections == everything
    named = ['step', 'processes']
    assert speed.parse_args(['--short', *named]).sections == named
    assert speed.parse_args([]).compile_step
    assert not speed.parse_args(['--short']).compile_step
    assert not speed.parse_args(['--no-compile']).compile_step
