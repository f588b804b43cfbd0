"""tools/benchmark.py: what it counts, measures, reads and writes."""

import json
import re
import signal
import sys
from pathlib import Path

import mmaction
import numpy as np
import pytest
import torch
import torch.nn as nn
from mmaction.registry import MODELS
from mmengine.config import Config
from processes import ROOT, run_python
from torch.optim.optimizer import register_optimizer_step_post_hook

from mamp_mmaction.config import load_config
from mamp_mmaction.datasets.made_samples import make_samples
from mamp_mmaction.models.layers import Attention
from mamp_mmaction.utils import count_flops

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
    head = dict(in_channels=D, num_classes=CLASSES)
    return write_config(
        'linear',
        'mamp/toy/mamp_*-linear-30e_*.py',
        model=dict(backbone=SMALL, cls_head=head),
    )


@pytest.mark.parametrize(
    'pattern, changes',
    [
        (
            'mamp/toy/mamp_*-pretrain-60e_*.py',
            dict(backbone=SMALL, neck=dict(decoder_embed_dims=D)),
        ),
        (
            'stgcnpp/stgcnpp_*-joint-*_toy-*.py',
            dict(
                backbone=dict(base_channels=8), cls_head=dict(in_channels=32)
            ),
        ),
    ],
)
def test_what_trains_everything(bench, write_config, pattern, changes):
    config = write_config('a', pattern, model=changes)
    result = bench.measure(config, arguments(bench, config))
    assert result['trained_parameters'] == result['parameters']
    assert result['flops'] > 0 and result['training']['median'] > 0


def arguments(bench, config, *more):
    """The command line of a small measurement."""
    small = ('--device', 'cpu', '--batch-size', '3', '--seconds', '0.01')
    return bench.parse_args([config, *small, *more])


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

    for key in ('latency', 'batch', 'training'):
        low, high = result[key]['quartiles']
        assert 0 < low <= result[key]['median'] <= high
    assert result['data'] == 'toy xsub_val'


def test_a_training_step_steps_but_changes_no_weight(bench, write_config):
    head = dict(in_channels=D, num_joints=V)
    config = write_config(
        'finetune',
        'mamp/toy/mamp_*-finetune-20e_*.py',
        model=dict(backbone=SMALL, cls_head=head),
    )
    args = arguments(bench, config)
    cfg = load_config(config)
    model = MODELS.build(cfg.model)
    samples = make_samples(cfg, model, args.batch_size, training=True)
    step, trained = bench.prepare_training(cfg, model, samples, args)
    assert trained == sum(p.numel() for p in model.parameters())
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
def test_flops(module, shape, expected):
    x = torch.randn(shape)
    with torch.no_grad():
        assert count_flops(lambda: module.eval()(x)) == expected


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
    unknown = bench.format_row(dict(name='a', inference_memory_mib=None), 2)
    assert set(unknown[1:]) == {None}


ZOO_CONFIGS = {
    'stgcn/stgcn_8xb16-bone-u100-80e_ntu60-xsub-keypoint-2d': (
        [1, 2, 100, 17, 3],
        [1, 2, 100, 17, 3],
    ),
    'posec3d/slowonly_r50_8xb16-u48-240e_ntu60-xsub-limb': (
        [1, 17, 48, 64, 64],
        [1, 17, 48, 56, 56],
    ),
}


@pytest.mark.parametrize('name', ZOO_CONFIGS, ids=lambda name: name[:12])
def test_samples_of_the_toolbox_configs(bench, name, monkeypatch):
    # The toolbox's PoseCompact asks numpy for a name that numpy 2 dropped.
    monkeypatch.setattr(np, 'Inf', np.inf, raising=False)
    config = f'mmaction::skeleton/{name}.py'
    cfg = load_config(config)
    path = ZOO / 'skeleton' / f'{name}.py'
    backbone = load_config(path).model.backbone
    assert cfg.model.backbone == backbone
    assert bench.config_name(config) == bench.config_name(str(path))
    shapes = [
        list(make_samples(cfg, None, 1, training=training)[0]['inputs'].shape)
        for training in (False, True)
    ]
    assert shapes == list(ZOO_CONFIGS[name])


@pytest.mark.parametrize(
    'protocol', ['4xb32-pretrain-400e', '2xb128-linear-100e']
)
def test_samples_of_the_projects_2d_configs(protocol):
    name = f'mamp/ntu60/mamp_{protocol}_ntu60-xsub-keypoint-2d.py'
    cfg = load_config(f'mamp_mmaction::{name}')
    model = MODELS.build(cfg.model)
    (sample,) = make_samples(cfg, model, 1, training=True)
    assert sample['inputs'].shape == (1, 2, 120, 17, 3)


def pipeline_config(*pipeline):
    pipeline = [*pipeline, dict(type='PackActionInputs')]
    dataset = dict(type='RepeatDataset', dataset=dict(pipeline=pipeline))
    model = dict(backbone=dict(type='Somebodys'))
    return Config(dict(model=model, test_dataloader=dict(dataset=dataset)))


def test_shape_is_given_where_no_config_tells_it():
    cfg = pipeline_config(dict(type='FormatGCNInput', num_person=3))
    with pytest.raises(ValueError, match='Somebodys .*--shape'):
        make_samples(cfg, None, 3)
    samples = make_samples(cfg, None, 3, (1, 30, 7, 2))
    assert len(samples) == 3
    shapes = {tuple(sample['inputs'].shape) for sample in samples}
    assert shapes == {(1, 3, 30, 7, 2)}
    assert not samples[0]['inputs'].equal(samples[1]['inputs'])


def test_samples_have_the_joints_that_are_mapped():
    mapped = dict(type='MapJoints', source='nturgb+d', target='kinect_v1')
    cfg = pipeline_config(mapped, dict(type='FormatGCNInput', num_person=1))
    samples = make_samples(cfg, None, 1)
    assert samples[0]['inputs'].shape[3:] == (20, 3)


def test_the_transform_that_cannot_run_is_named():
    cfg = pipeline_config(dict(type='CenterSkeleton', center_joint=9))
    with pytest.raises(ValueError, match=r'CenterSkeleton .*\(1, 30, 7, 3\)'):
        make_samples(cfg, None, 1, (1, 30, 7, 3))


def test_work_dirs_are_found_by_place_or_name(bench, tmp_path):
    names = ('runs/a', 'runs/b', 'first', 'second', 'other/a')
    for name in names:
        (tmp_path / name / '20260101_000000' / 'vis_data').mkdir(parents=True)

    def found(*given):
        paths = [tmp_path / name for name in given]
        own = paths if len(paths) == 2 else [None] * 2
        work_dirs = [
            bench.find_work_dir(name, folder, paths)
            for name, folder in zip('ab', own)
        ]
        return [d and str(d.relative_to(tmp_path)) for d in work_dirs]

    assert found('runs') == ['runs/a', 'runs/b']
    assert found('first', 'second') == ['first', 'second']
    assert found('second', 'runs') == ['second', 'runs/b']
    assert found('runs/b') == [None, 'runs/b']
    assert found('other') == ['other/a', None]
    assert found() == [None, None]
    with pytest.raises(ValueError, match='other/a and .*runs/a are both'):
        found('runs', 'other', 'first')


def made_result(name, **more):
    times = dict(times=[0.002, 0.003], median=0.0025)
    times['quartiles'] = [0.00225, 0.00275]
    result = dict(
        name=name,
        data='toy xsub_val',
        input_shape=[1, 8, 5, 3],
        training_input_shape=[1, 6, 5, 3],
        parameters=1_234_567,
        flops=2_500_000_000,
        latency=times,
        batch=times,
        training=times,
        inference_memory_mib=10.0,
        training_memory_mib=123.4,
        accuracy=dict(last=0.5, best=0.625),
    )
    return dict(result, **more)


def test_row(bench):
    assert bench.format_row(made_result('a'), 4) == [
        *('a', '1x8x5x3 (1x6x5x3)', '1.23', '2.5', '2.5 (2.25 to 2.75)'),
        *('1600 (1455 to 1778)', '2.5 (2.25 to 2.75)', '10', '123'),
        *('50.0', '62.5'),
    ]


def write_log(work_dir, accuracy):
    folder = work_dir / '20260101_000000' / 'vis_data'
    folder.mkdir(parents=True)
    line = json.dumps({'acc/top1': accuracy, 'step': 1})
    (folder / 'scalars.json').write_text(f'{line}\n')


def test_command(linear_config, tmp_path):
    write_log(tmp_path / 'runs' / 'linear', 0.75)
    options = ['--device', 'cpu', '--batch-size', '2', '--seconds', '0.01']
    options += ['--threads', '1', '--out', 'out', '--work-dirs', 'runs']
    done = run_python(
        *(ROOT / 'tools' / 'benchmark.py', linear_config),
        *(*options, '--skip-training'),
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1].startswith('| linear |')
    assert lines[-1].endswith('| - | 75.0 | 75.0 |')

    out = Path('out')
    written = (out / 'benchmark.md').read_text()
    assert written == f'# Benchmark\n\n{done.stdout}'
    report = json.loads((out / 'benchmark.json').read_text())
    (measured,) = report['results']
    assert measured['latency']['times']
    assert measured['accuracy']['last'] == 0.75
    assert measured['input_shape'] == [M, T, V, 3]
    assert 'training' not in measured and 'torch' in report['machine']
    picture = (out / 'benchmark.png').read_bytes()
    assert picture.startswith(b'\x89PNG') and b'IEND' in picture[-12:]
    assert len(list(out.iterdir())) == 3


@pytest.fixture
def apart(bench, monkeypatch):
    """Sets what is measured; nothing is started."""

    def stand_in(**results):
        monkeypatch.setattr(
            bench,
            'measure_apart',
            lambda function, name, args: results[bench.config_name(name)],
        )

    return stand_in


def test_configs_of_one_name_and_the_plot(bench, apart, capsys):
    measured = made_result('a')
    del measured['name'], measured['accuracy']
    apart(a=measured, b=dict(error='no memory'))
    for name in ('first', 'second', 'third'):
        write_log(Path(name), 0.5)
    with pytest.raises(SystemExit) as stopped:
        bench.main(
            ['a.py', 'x/a.py', 'b.py', '--device', 'cpu', '--out', 'out']
            + ['--work-dirs', 'first', 'second', 'third']
        )
    assert stopped.value.code == 1
    printed = capsys.readouterr().out
    assert '| a (first) |' in printed and '| a (second) |' in printed
    assert '- b: no memory' in printed


def test_no_table_where_nothing_was_measured(bench, apart, capsys):
    apart(a=dict(error='KeyError: Somebodys'))
    with pytest.raises(SystemExit, match=r'^error: Nothing .*a: KeyError: So'):
        bench.main(['a.py', '--device', 'cpu', '--out', 'out'])
    assert capsys.readouterr().out == '' and not Path('out').exists()


@pytest.mark.parametrize(
    'arguments, said',
    [
        ((signal.raise_signal, signal.SIGKILL), 'killed.*--batch-size'),
        ((divmod, 1, 0), 'ZeroDivisionError: .*'),
        ((divmod, 7, 2), None),
    ],
)
def test_a_process_of_its_own(bench, arguments, said):
    function, *arguments = arguments
    result = bench.measure_apart(function, *arguments)
    if said is None:
        assert result == (3, 1)
    else:
        assert re.search(said, result['error'])


@pytest.mark.parametrize(
    'options, said',
    [
        (['--work-dirs', 'nowhere'], 'nowhere: there is no such folder'),
        (['--batch-size', '0'], '0 is less than 1'),
        (['--amp', 'float16'], '--amp float16 needs a GPU'),
        (['--device', 'cuda:99'], "'cuda:99' cannot be used"),
    ],
)
def test_command_lines_that_cannot_be(bench, options, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        bench.main(['a.py', '--device', 'cpu', *options])
    assert said in f'{stopped.value.code}{capsys.readouterr().err}'
