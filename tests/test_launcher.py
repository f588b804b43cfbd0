import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmaction.evaluation import ConfusionMatrix
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from synthetic import data_set, write

from mamp_mmaction import __main__ as launcher

CONFIGS = Path(__file__).parents[1] / 'configs'
TOY = CONFIGS / 'mamp' / 'toy'
PROBE = """
custom_hooks = [
    dict(
        type='RepresentationProbeHook',
        interval=1,
        train_dataloader=dict(),
        val_dataloader=dict(),
    )
]
"""
TITLES = 'Tools of mamp_mmaction', 'Scripts of mmaction'


@pytest.fixture
def launch(monkeypatch):
    """Runs the launcher in this process."""
    monkeypatch.setattr(torch, 'load', torch.load)  # it may put another

    def launch(*arguments):
        monkeypatch.setattr(sys, 'argv', ['mamp', *map(str, arguments)])
        launcher.main()

    return launch


def test_help_needs_no_torch():
    command = [sys.executable, '-X', 'importtime', '-m', 'mamp_mmaction']
    for argument in ('--help', 'none'):
        done = subprocess.run(
            [*command, argument], capture_output=True, text=True
        )
        assert ' mamp_mmaction' in done.stderr
        assert ' numpy' not in done.stderr
        assert ' torch' not in done.stderr
        for title in TITLES:
            assert title in done.stdout + done.stderr


@pytest.mark.parametrize(
    ('wanted', 'found'),
    [
        ('train', 'tools/train.py'),
        ('train.py', 'tools/train.py'),
        ('confusion_matrix', 'analysis_tools/confusion_matrix.py'),
        ('deployment/publish_model', 'deployment/publish_model.py'),
        ('benchmark', 'tools/benchmark.py'),
        ('analysis_tools/benchmark', 'analysis_tools/benchmark.py'),
        ('tools/data/make_toy_dataset.py', 'data/make_toy_dataset.py'),
    ],
)
def test_tool_is_found_by_name(wanted, found, launch, monkeypatch):
    ran = []
    monkeypatch.setattr(
        launcher.runpy,
        'run_path',
        lambda path, run_name: ran.append((path, sys.argv, run_name)),
    )
    launch(wanted, '--lr', 1)
    ((path, argv, run_name),) = ran
    assert path.endswith(found)
    assert argv == [path, '--lr', '1'] and run_name == '__main__'


@pytest.mark.parametrize(
    ('wanted', 'message'),
    [
        ('none', "no tool 'none'.*Tools of.*benchmark.*vis_scheduler"),
        ('download', "'download' may be .*data/.*folder, too"),
    ],
)
def test_unclear_tool_is_an_error(wanted, message, launch):
    with pytest.raises(SystemExit, match=f'(?s)^error: .*{message}'):
        launch(wanted)


def test_amp_is_dropped_where_the_config_has_it(tmp_path, capsys):
    script = Path('tools', 'train.py')
    for wrapper, kept in (('OptimWrapper', True), ('AutoAmp', False)):
        config = tmp_path / f'{wrapper}.py'
        name = wrapper if kept else 'AutoAmpOptimWrapper'
        config.write_text(f'optim_wrapper = dict(type={name!r})\n')
        arguments = [str(config), '--amp', '--resume']
        found = launcher._without_double_amp(script, list(arguments))
        assert ('--amp' in found) == kept
        assert found[0] == str(config) and found[-1] == '--resume'
    assert 'mixed precision already' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('resume', 'key'),
    [
        ([], 'load_from'),
        (['--resume'], 'begin_from'),
        (['--resume', 'epoch_1.pth'], 'load_from'),
    ],
)
def test_resuming_goes_before_loading(resume, key):
    arguments = ['a.py', *resume, '--cfg-options', 'load_from=b.pth']
    found = launcher._resuming_first(Path('train.py'), arguments)
    assert found == [*arguments[:-1], f'{key}=b.pth']


@pytest.mark.parametrize('protocol', ['pretrain', 'finetune', 'linear'])
def test_schedule_is_drawn(protocol, launch, tmp_path):
    """By a script that trains a model of its own, with the config's hooks."""
    (base,) = TOY.glob(f'*-{protocol}-*.py')
    config, picture = tmp_path / 'config.py', tmp_path / 'rate.png'
    hooks = PROBE if protocol == 'pretrain' else ''
    config.write_text(f'_base_ = {str(base)!r}\n{hooks}')
    options = ('--not-show', '--save-path', picture, '--dataset-size', 32)
    launch('vis_scheduler', config, *options)
    assert picture.stat().st_size


def test_checkpoint_is_published(launch, tmp_path):
    checkpoint = dict(
        meta=dict(epoch=np.int64(3)),
        message_hub=dict(loss=HistoryBuffer([1.0], [1])),
        optimizer={},
        state_dict=dict(weight=torch.ones(2)),
    )
    torch.save(checkpoint, tmp_path / 'epoch_3.pth')
    launch('publish_model', tmp_path / 'epoch_3.pth', tmp_path / 'out.pth')
    (path,) = tmp_path.glob('out_*.pth')
    found = torch.load(path)
    assert sorted(found) == ['meta', 'state_dict']
    assert torch.equal(found['state_dict']['weight'], torch.ones(2))


def test_confusion_matrix_bears_the_class_names(launch, tmp_path, monkeypatch):
    data = dict(data_set(size=10, train=5), classes=[f'c{i}' for i in '01234'])
    dataset = dict(
        type='SkeletonDataset', ann_file=write(tmp_path / 'a.pkl', data)
    )
    Config(dict(test_dataloader=dict(dataset=dataset))).dump('config.py')
    scores, labels = torch.eye(5), torch.arange(5)[:, None]
    samples = [
        dict(pred_label=label, gt_label=label, pred_score=score)
        for score, label in zip(scores, labels)
    ]
    write(tmp_path / 'dump.pkl', samples)
    drawn, plot = [], ConfusionMatrix.plot
    monkeypatch.setattr(
        ConfusionMatrix,
        'plot',
        staticmethod(lambda *a, **k: drawn.append(k) or plot(*a, **k)),
    )
    launch('confusion_matrix', 'config.py', 'dump.pkl', '--show-path', 'm.png')
    assert drawn[0]['classes'] == ('c0', 'c1', 'c2', 'c3', 'c4')
    assert Path('m.png').stat().st_size
