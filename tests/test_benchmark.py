"""tools/benchmark.py: what it counts, measures, reads and writes."""

import json
import signal
import sys
from itertools import combinations
from pathlib import Path

import mmaction
import numpy as np
import pytest
import torch
import torch.nn as nn
from matplotlib.text import Annotation, Text
from mmengine.config import Config
from torch.optim.optimizer import register_optimizer_step_post_hook

from mamp_mmaction.models.layers import Attention

ROOT = Path(__file__).parents[1]
ZOO = Path(mmaction.__path__[0], '.mim', 'configs')
# Frames, joints, persons of the toy recipes, their patches, and small sizes.
T, V, M, U = 40, 5, 2, 4
D, CLASSES, HIDDEN = 8, 4, 32
SMALL = dict(embed_dims=D, depth=1, num_heads=2, num_joints=V)


@pytest.fixture(scope='module')
def bench(load_tool):
    return load_tool('benchmark')


@pytest.fixture
def write_config(tmp_path):
    """Writes a child of a config of configs/, and returns its path."""

    def write(name, pattern, **changes):
        base = next(ROOT.glob(f'configs/{pattern}'))
        text = f'_base_ = {str(base)!r}\n'
        text += ''.join(f'{k} = {v!r}\n' for k, v in changes.items())
        (tmp_path / f'{name}.py').write_text(text)
        return str(tmp_path / f'{name}.py')

    return write


@pytest.fixture
def linear_config(write_config):
    return write_config(
        'linear',
        'mamp/toy/mamp_*-linear-30e_*.py',
        model=dict(
            backbone=SMALL, cls_head=dict(in_channels=D, num_classes=CLASSES)
        ),
    )


def arguments(bench, config, *more):
    """The command line of a small measurement."""
    small = ('--device', 'cpu', '--batch-size', '3', '--repeats', '2')
    return bench.parse_args([config, *small, '--warmup', '1', *more])


def test_linear_probe_counts_as_by_hand(bench, linear_config):
    result = bench.measure(linear_config, arguments(bench, linear_config))
    assert result['input_shape'] == [M, T, V, 3]
    assert result['training_input_shape'] == [M, T, V, 3]

    block = 2 * D + D * 3 * D + 3 * D + D * D + D + 2 * D
    block += D * HIDDEN + HIDDEN + HIDDEN * D + D
    encoder = U * 3 * D + D + V * D + T // U * D + block + 2 * D
    head = D * CLASSES + CLASSES
    assert result['parameters'] == encoder + head
    assert result['trained_parameters'] == head

    tokens = T // U * V
    person = 2 * tokens * (U * 3 * D + 3 * D * D + D * D + 2 * D * HIDDEN)
    person += 2 * 2 * tokens * tokens * D
    assert result['flops'] == M * person + 2 * D * CLASSES

    for key, batch_size in (('latency', 1), ('throughput', 3)):
        assert result[key]['batch_size'] == batch_size
    for key in ('latency', 'throughput', 'training'):
        times = result[key]['times_ms']
        low, high = result[key]['quartiles_ms']
        assert len(times) == 2 and min(times) > 0
        assert min(times) <= low <= result[key]['median_ms'] <= high
    assert result['threads'] == torch.get_num_threads()
    assert result['data'] == 'toy xsub_val'


def test_pretraining_trains_everything(bench, write_config):
    model = dict(backbone=SMALL, neck=dict(decoder_embed_dims=D))
    config = write_config(
        'pretrain', 'mamp/toy/mamp_*-pretrain-60e_*.py', model=model
    )
    result = bench.measure(config, arguments(bench, config))
    assert result['trained_parameters'] == result['parameters']
    assert result['flops'] > 0 and result['training']['median_ms'] > 0


def test_stgcnpp_of_the_toolbox_is_measured(bench, write_config):
    model = dict(backbone=dict(base_channels=8), cls_head=dict(in_channels=32))
    config = write_config(
        'gcn', 'stgcnpp/stgcnpp_*-joint-*_toy-*.py', model=model
    )
    result = bench.measure(config, arguments(bench, config))
    assert result['input_shape'] == [2, 100, 25, 3]
    assert result['trained_parameters'] == result['parameters']


def test_a_training_step_steps_but_changes_no_weight(bench, write_config):
    head = dict(in_channels=D, num_joints=V)
    config = write_config(
        'finetune',
        'mamp/toy/mamp_*-finetune-20e_*.py',
        model=dict(backbone=SMALL, cls_head=head),
    )
    args = arguments(bench, config)
    cfg = bench.load_config(config)
    model = bench.build_model(cfg, args)
    samples = bench.make_samples(cfg, model, args, training=True)
    step, trained = bench.prepare_training(cfg, model, samples, args)
    assert trained == bench.count_parameters(model.parameters())
    before = [param.detach().clone() for param in model.parameters()]
    batch_norm = next(m for m in model.modules() if 'Norm1d' in repr(m)[:15])
    seen, optimisers = batch_norm.num_batches_tracked.item(), []
    handle = register_optimizer_step_post_hook(
        lambda optimiser, *_: optimisers.append(optimiser)
    )
    step()
    handle.remove()
    assert batch_norm.num_batches_tracked.item() == seen + 1
    assert len(optimisers) == 1
    assert len(optimisers[0].state) == len(before)
    assert all(map(torch.equal, before, model.parameters()))


class Graph(nn.Module):
    """The matrix product that the toolbox's GCNs write as einsum."""

    def forward(self, x):
        return torch.einsum('nkctv,kvw->nctw', x, x.new_ones(3, 25, 25))


@pytest.mark.parametrize(
    'module, shape, expected',
    [
        (nn.Linear(7, 9), (3, 5, 7), 2 * 3 * 5 * 7 * 9),
        (
            Attention(16, 4),
            (2, 10, 16),
            2 * (2 * 10 * 4 * 16 * 16 + 2 * 2 * 10 * 10 * 16),
        ),
        (
            nn.Conv2d(6, 8, 3, padding=1, groups=2),
            (2, 6, 5, 4),
            2 * 2 * 5 * 4 * 8 * (6 // 2) * 9,
        ),
        (Graph(), (2, 3, 8, 10, 25), 2 * 2 * 3 * 8 * 10 * 25 * 25),
        (nn.LayerNorm(7), (3, 7), 0),
    ],
    ids=('linear', 'attention', 'grouped convolution', 'einsum', 'norm'),
)
def test_flops(bench, module, shape, expected):
    x = torch.randn(shape)
    with torch.no_grad():
        assert bench.count_flops(lambda: module.eval()(x)) == expected


def test_warm_up_is_not_timed(bench, linear_config):
    args = arguments(bench, linear_config, '--repeats', '4', '--warmup', '3')
    calls = []
    times = bench.time_calls(lambda: calls.append(0), 8, args)
    assert len(calls) == 7
    assert len(times['times_ms']) == 4 and times['batch_size'] == 8


@pytest.mark.skipif(sys.platform != 'linux', reason='only Linux tells it')
def test_peak_memory_is_what_was_allocated_since_the_reset(bench):
    memory = bench.PeakMemory('cpu')
    if not memory.is_known:
        pytest.skip('the system does not let the peak be reset')
    tensor = torch.ones(2**24)  # 64 MiB
    del tensor
    assert 63 < memory.read() < 80
    memory.reset()
    assert memory.read() < 16


def test_unknown_memory_is_a_hyphen(bench, monkeypatch):
    def refuse(*args):
        raise OSError

    monkeypatch.setattr(bench.ctypes, 'CDLL', refuse)
    memory = bench.PeakMemory('cpu')
    assert memory.read() is None
    result = dict(name='a', inference_memory_mib=None)
    assert set(bench.format_row(result)[1:]) == {'-'}


ZOO_CONFIGS = {
    'stgcn/stgcn_8xb16-bone-u100-80e_ntu60-xsub-keypoint-2d': (
        [1, 2, 100, 17, 3],
        [1, 2, 100, 17, 3],
    ),
    '2s-agcn/2s-agcn_8xb16-joint-u100-80e_ntu60-xsub-keypoint-3d': (
        [1, 2, 100, 25, 3],
        [1, 2, 100, 25, 3],
    ),
    'posec3d/slowonly_r50_8xb16-u48-240e_ntu60-xsub-limb': (
        [1, 17, 48, 64, 64],
        [1, 17, 48, 56, 56],
    ),
    'posec3d/slowonly_r50_8xb32-u48-240e_k400-keypoint': (
        [1, 17, 48, 64, 64],
        [1, 17, 48, 56, 56],
    ),
}


@pytest.mark.parametrize('name', ZOO_CONFIGS, ids=lambda name: name[:12])
def test_samples_of_the_toolbox_configs(bench, name, monkeypatch):
    # The toolbox's PoseCompact asks numpy for a name that numpy 2 dropped.
    monkeypatch.setattr(np, 'Inf', np.inf, raising=False)
    config = f'mmaction::skeleton/{name}.py'
    cfg = bench.load_config(config)
    path = ZOO / 'skeleton' / f'{name}.py'
    backbone = bench.load_config(str(path)).model.backbone
    assert cfg.model.backbone == backbone
    assert bench.config_name(config) == bench.config_name(str(path))
    args = arguments(bench, config, '--batch-size', '1')
    shapes = [
        list(bench.make_samples(cfg, None, args, training)[0]['inputs'].shape)
        for training in (False, True)
    ]
    assert shapes == list(ZOO_CONFIGS[name])


def pipeline_config(*pipeline):
    return Config(
        dict(
            model=dict(backbone=dict(type='Somebodys')),
            test_dataloader=dict(
                dataset=dict(
                    type='RepeatDataset',
                    dataset=dict(pipeline=[*pipeline, pack()]),
                )
            ),
        )
    )


def pack():
    return dict(type='PackActionInputs')


def test_shape_is_given_where_no_config_tells_it(bench):
    cfg = pipeline_config(dict(type='FormatGCNInput', num_person=3))
    args = arguments(bench, 'somebodys.py')
    with pytest.raises(ValueError, match='Somebodys .*--shape'):
        bench.make_samples(cfg, None, args, training=False)
    args.shape = (1, 30, 7, 2)
    samples = bench.make_samples(cfg, None, args, training=False)
    assert len(samples) == 3
    shapes = {tuple(sample['inputs'].shape) for sample in samples}
    assert shapes == {(1, 3, 30, 7, 2)}
    assert not samples[0]['inputs'].equal(samples[1]['inputs'])


def test_the_transform_that_cannot_run_is_named(bench):
    cfg = pipeline_config(dict(type='CenterSkeleton', center_joint=9))
    args = arguments(bench, 'x.py', '--shape', '1', '30', '7', '3')
    with pytest.raises(ValueError, match=r'CenterSkeleton .*\(1, 30, 7, 3\)'):
        bench.make_samples(cfg, None, args, training=False)


def write_log(work_dir, stamp, accuracies, extra=''):
    """Write the scalars of one run, as mmengine does, in both its files."""
    folder = work_dir / stamp / 'vis_data'
    folder.mkdir(parents=True)
    lines = []
    for epoch, accuracy in accuracies.items():
        lines.append(dict(lr=0.1, loss=1.0, epoch=epoch, iter=8, step=8))
        if accuracy is not None:
            lines.append({'acc/top1': accuracy, 'acc/top5': 1, 'step': epoch})
    text = ''.join(json.dumps(line) + '\n' for line in lines) + extra
    for name in ('scalars', stamp):
        (folder / f'{name}.json').write_text(text)


def accuracy(bench, work_dir):
    """Last and best accuracy with their epochs, and the runs read."""
    found = bench.read_accuracy(work_dir)
    runs = [Path(log).parent.name for log in found.pop('logs')]
    return *found.values(), runs


def test_accuracy_of_one_run(bench, tmp_path):
    write_log(tmp_path, '20260101_000000', {1: 0.2, 2: 0.6, 3: None, 4: 0.5})
    found = accuracy(bench, tmp_path)
    assert found == (0.5, 4, 0.6, 2, ['20260101_000000'])


def test_a_resumed_run_continues_the_one_before(bench, tmp_path):
    # The second resumed from epoch 2, so that the first's epoch 3 is void.
    write_log(tmp_path, '20260101_000000', {1: 0.3, 2: 0.7, 3: 0.9})
    write_log(tmp_path, '20260102_000000', {3: 0.4, 4: 0.5})
    found = accuracy(bench, tmp_path)
    runs = ['20260101_000000', '20260102_000000']
    assert found == (0.5, 4, 0.7, 2, runs)


def test_of_several_runs_the_newest_wins(bench, tmp_path):
    write_log(tmp_path, '20260101_000000', {1: 0.3, 2: 0.9})
    # Validated every other epoch, yet begun anew.
    write_log(tmp_path, '20260102_000000', {1: None, 2: 0.4})
    # Tested, and a run that broke off: no accuracies.
    write_log(tmp_path, '20260103_000000', {})
    write_log(tmp_path, '20260104_000000', {1: None})
    found = accuracy(bench, tmp_path)
    assert found == (0.4, 2, 0.4, 2, ['20260102_000000'])


def test_a_run_by_iterations_is_read_alone(bench, tmp_path):
    for day, value in ((1, 0.9), (2, 0.4)):
        folder = tmp_path / f'2026010{day}_000000' / 'vis_data'
        folder.mkdir(parents=True)
        lines = [dict(loss=1.0, iter=20, step=20), {'acc/top1': value}]
        text = '\n'.join(map(json.dumps, lines))
        (folder / 'scalars.json').write_text(text)
    assert accuracy(bench, tmp_path)[0] == 0.4


def test_logs_without_accuracy_and_broken_logs(bench, tmp_path):
    assert bench.read_accuracy(tmp_path) is None
    write_log(tmp_path, '20260101_000000', {1: None})
    assert bench.read_accuracy(tmp_path) is None
    # A run that is being written ends anywhere.
    write_log(tmp_path, '20260102_000000', {1: 0.2}, extra='{"acc/to')
    assert accuracy(bench, tmp_path)[0] == 0.2
    write_log(tmp_path, '20260103_000000', {1: 0.2}, extra='{"acc\n[1]\n')
    with pytest.raises(ValueError, match='20260103.* line 3.*"acc'):
        bench.read_accuracy(tmp_path)


def test_work_dirs_are_found_by_place_or_name(bench, tmp_path):
    configs = ['configs/a.py', 'mmaction::skeleton/b.py']
    names = ('runs/a', 'runs/b', 'first', 'second', 'other/a')
    folders = {name: tmp_path / name for name in names}
    for folder in folders.values():
        (folder / '20260101_000000' / 'vis_data').mkdir(parents=True)

    def found(*given, configs=configs):
        paths = [tmp_path / name for name in given]
        work_dirs = [
            bench.find_work_dir(configs, index, paths)
            for index in range(len(configs))
        ]
        return [d and str(d.relative_to(tmp_path)) for d in work_dirs]

    assert found('runs') == ['runs/a', 'runs/b']
    assert found('first', 'second') == ['first', 'second']
    assert found('second', 'runs') == ['second', 'runs/b']
    assert found('runs', 'runs/b') == ['runs/a', 'runs/b']
    assert found('runs/b') == [None, 'runs/b']
    assert found('other') == ['other/a', None]
    assert found() == [None, None]
    assert found('runs', 'runs', configs=['b.py'] * 2) == ['runs/b'] * 2
    with pytest.raises(ValueError, match='other/a and .*runs/a are both'):
        found('runs', 'other', 'first')


def made_result(name, flops, last, best, **more):
    times = dict(
        batch_size=4,
        times_ms=[2.0, 3.0],
        median_ms=2.5,
        quartiles_ms=[2.25, 2.75],
    )
    return dict(
        name=name,
        config=f'{name}.py',
        data='toy xsub_val',
        input_shape=[1, 8, 5, 3],
        training_input_shape=[1, 6, 5, 3],
        parameters=1_234_567,
        flops=flops,
        latency=times,
        throughput=times,
        training=times,
        inference_memory_mib=10.0,
        training_memory_mib=123.4,
        threads=1,
        gpu=None,
        accuracy=dict(last=last, best=best),
        **more,
    )


def made_report(bench, results):
    args = arguments(bench, 'x.py')
    return dict(
        date='today',
        machine=bench.describe_machine(),
        settings=vars(args),
        results=results,
    )


def test_row(bench):
    row = bench.format_row(made_result('a', 2_500_000_000, 0.5, 0.625))
    assert row == [
        *('a', '1x8x5x3 (1x6x5x3)', '1.23', '2.5', '2.5 (2.25 to 2.75)'),
        *('1600 (1455 to 1778)', '2.5 (2.25 to 2.75)', '10', '123'),
        *('50.0', '62.5'),
    ]


def test_labels_of_the_plot_do_not_overlap(bench):
    results = [
        made_result(f'mamp_number-{i}_toy-{i}', 10**9 + i, 0.5, 0.51)
        for i in range(12)
    ]
    figure = bench.draw_plot(made_report(bench, results), 'gflops')
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    axes = figure.axes[0]
    labels = [t for t in axes.texts if isinstance(t, Annotation)]
    assert len(labels) == 12
    boxes = [Text.get_window_extent(label, renderer) for label in labels]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    frame = axes.get_window_extent()
    for box in boxes:
        assert frame.contains(*box.min) and frame.contains(*box.max)
        # Neither a point nor the line that joins its two accuracies.
        markers = [(1, accuracy) for accuracy in np.linspace(50, 51, 9)]
        assert not box.count_contains(axes.transData.transform(markers))


def test_the_plot_names_what_has_no_point(bench):
    known, unknown = (made_result(n, 10**9, 0.5, 0.6) for n in ('a_b', 'c_d'))
    unknown['accuracy'] = None
    figure = bench.draw_plot(made_report(bench, [known, unknown]), 'latency')
    said = [text.get_text() for text in figure.texts]
    assert any('c_d' in text and 'a_b' not in text for text in said)
    figure = bench.draw_plot(made_report(bench, [unknown]), 'gflops')
    said = [text.get_text() for text in figure.axes[0].texts]
    assert said == [
        'No accuracy is known: give --work-dirs with trained models.'
    ]


def test_names_in_the_plot(bench):
    shorten = sys.modules['accuracy_plot'].shorten_names
    assert shorten(['a_1_toy', 'a_2_toy']) == ['a_1', 'a_2']
    assert shorten(['a_1_toy', 'a_1_ntu']) == ['a_1\ntoy', 'a_1\nntu']
    assert shorten(['a_1_toy']) == ['a_1\ntoy']
    assert shorten(['a', 'b']) == ['a', 'b']


def test_command(bench, linear_config, write_config, tmp_path, capsys):
    """A config that works and one that does not, each in its process."""
    broken = write_config(
        'broken',
        'mamp/toy/mamp_*-linear-30e_*.py',
        model=dict(backbone=dict(num_heads=7)),
    )
    write_log(tmp_path / 'runs' / 'linear', '20260101_000000', {1: 0.75})
    out = tmp_path / 'out'
    options = ['--device', 'cpu', '--batch-size', '2', '--repeats', '2']
    options += ['--warmup', '1', '--threads', '1', '--out', str(out)]
    options += ['--work-dirs', str(tmp_path / 'runs'), '--skip-training']
    with pytest.raises(SystemExit) as stopped:
        bench.main([broken, linear_config, *options])
    assert stopped.value.code == 1

    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert f'| broken |{" - |" * 10}' in lines
    error = next(line for line in lines if line.startswith('- broken: '))
    assert 'num_heads=7' in error
    row = next(line for line in lines if line.startswith('| linear |'))
    assert row.endswith('| - | 75.0 | 75.0 |')
    assert 'threads used: 1,' in printed

    assert (out / 'benchmark.md').read_text() == f'# Benchmark\n\n{printed}'
    report = json.loads((out / 'benchmark.json').read_text())
    failed, measured = report['results']
    assert 'Traceback' in failed['output'] and 'flops' not in failed
    assert len(measured['latency']['times_ms']) == 2
    assert measured['accuracy']['last'] == 0.75
    assert measured['input_shape'] == [M, T, V, 3]
    assert 'training' not in measured
    assert set(report['machine']['versions']) == {
        *('python', 'torch', 'mmaction2', 'mmengine', 'mamp_mmaction'),
    }
    picture = (out / 'benchmark.png').read_bytes()
    assert picture.startswith(b'\x89PNG') and b'IEND' in picture[-12:]
    assert sorted(path.name for path in out.iterdir()) == [
        f'benchmark.{kind}' for kind in ('json', 'md', 'png')
    ]


def test_status_is_zero_where_all_went_well(bench, monkeypatch, capsys):
    monkeypatch.setattr(
        bench,
        'measure_apart',
        lambda name, args: dict(parameters=10**6, threads=1, gpu=None),
    )
    bench.main(['a.py', 'a.py', '--device', 'cpu'])
    printed = capsys.readouterr().out
    assert '| a (1) |' in printed and '| a (2) |' in printed
    assert 'Failed' not in printed


@pytest.mark.parametrize(
    'code, said',
    [
        (f'import os; os.kill(os.getpid(), {signal.SIGKILL})', '--batch-size'),
        ('print("why it went wrong"); exit(3)', '3: why it went wrong'),
    ],
)
def test_a_process_that_dies(bench, monkeypatch, code, said):
    command = [sys.executable, '-c', code]
    monkeypatch.setattr(bench, '_measuring_command', lambda *args: command)
    result = bench.measure_apart('a.py', arguments(bench, 'a.py'))
    assert said in result['error']


@pytest.mark.parametrize(
    'options, said',
    [
        (['--work-dirs', 'nowhere'], 'nowhere: there is no such folder'),
        (['--batch-size', '0'], '0 is less than 1'),
        (['--amp', 'float16'], '--amp float16 needs a GPU'),
    ],
)
def test_command_lines_that_cannot_be(bench, options, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        bench.parse_args(['a.py', '--device', 'cpu', *options])
    assert stopped.value.code
    assert said in capsys.readouterr().err
