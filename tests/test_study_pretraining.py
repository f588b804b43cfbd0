"""The study of pre-training settings."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mamp_mmaction.datasets.annotation_file import read_annotations


@pytest.fixture(scope='module')
def study(load_tool):
    return load_tool('study_pretraining')


@pytest.fixture(scope='module')
def toy(load_tool, tmp_path_factory):
    """Toy data with MSR-Action3D's joints: 6 performers, 1, 3, 5 train."""
    path = tmp_path_factory.mktemp('toy') / 'toy.pkl'
    load_tool('data/make_toy_dataset').main(
        [str(path), '--subjects', '6', '--layout', 'msr_action3d']
    )
    return path


def performer(study, name):
    return int(study.performers([name, 'P000'], study.PERFORMER)[0])


def test_no_test_subject_is_seen(study, toy, tmp_path):
    out = tmp_path / 'new' / 'out.pkl'
    study.leave_out(toy, [3], out)
    data = read_annotations(out)
    seen = {
        split: {performer(study, name) for name in names}
        for split, names in data['split'].items()
    }
    assert seen == dict(xsub_train={1, 5}, xsub_val={3})
    present = {performer(study, a['frame_dir']) for a in data['annotations']}
    assert present == {1, 3, 5}


@pytest.mark.parametrize('subjects', [[2], [1, 3, 5], [1, 7]])
def test_subjects_that_cannot_be_left_out(study, toy, tmp_path, subjects):
    with pytest.raises(SystemExit, match=r'training set .* has \[1, 3, 5\]'):
        study.leave_out(toy, subjects, tmp_path / 'out.pkl')
    assert not (tmp_path / 'out.pkl').exists()


def test_every_setting_changes_what_its_configs_know(study):
    cells = study.plan(study.SETTINGS, Path('data.pkl'), 0)
    rows = [cell.row[0] for cell in cells if cell.row]
    assert list(dict.fromkeys(rows)) == list(study.SETTINGS)
    assert len({cell.name for cell in cells}) == len(cells)
    for cell in cells:
        cfg = Config.fromfile(cell.config)
        for key in cell.options:
            place = cfg
            # What a rate of their own has is not in the schedules.
            for part in key.split('.paramwise_cfg')[0].split('.')[:-1]:
                place = place[int(part)] if part.isdigit() else place[part]
        cfg.merge_from_dict(cell.options)
        pipeline = cfg.train_dataloader.dataset.pipeline
        assert pipeline[study.CROP]['type'] == 'TemporalCropResize'
        assert pipeline[study.ROTATION]['type'] == 'RandomRotate3D'
        if 'mask' in str(cell.options):
            for split, place in study.MASK.items():
                steps = cfg[f'{split}_dataloader'].dataset.pipeline
                assert steps[place]['type'] == 'MotionAwareMask'


def test_settings_share_their_pretraining(study):
    settings = {
        'a': study.Setting(data=study.crop(16)),
        'b': study.Setting(data=study.crop(16), after=study.rate(1e-3)),
        'c': study.Setting(data=study.crop(8)),
        'd': study.Setting('mae', data=study.crop(16)),
        'e': study.Setting(None, 'scratch'),
    }
    cells = {c.name: c for c in study.plan(settings, Path('data.pkl'), 0)}
    starts = {name: cells[name].start for name in settings}
    assert starts == dict(
        a='a-pretrain', b='a-pretrain', c='c-pretrain', d='d-pretrain', e=None
    )
    assert len(cells) == 8


def test_a_setting_that_is_not_there(study, toy, capsys):
    with pytest.raises(SystemExit):
        study.main(['nothing', '--ann-file', str(toy)])
    assert "no settings ['nothing'], only scratch-" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        study.main(['scratch', '--ann-file', 'nowhere.pkl'])
    assert 'no annotation file nowhere.pkl' in capsys.readouterr().err


def test_the_list(study, capsys):
    study.main(['--list'])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(study.SETTINGS)
    assert lines[0].startswith(
        'scratch-nocrop: no pre-training; layer decay 1'
    )


def test_few_labels_are_drawn_several_times(study):
    setting = study.Setting(model='aagcn', draws=2)
    first, *rest = study.plan({'few': setting}, Path('data.pkl'), 0)
    assert first.name == 'few-pretrain' and 'aagcn' in first.config.name
    assert [cell.name for cell in rest] == ['few-draw0', 'few-draw1']
    for draw, cell in enumerate(rest):
        cfg = Config.fromfile(cell.config)
        cfg.merge_from_dict(cell.options)
        data = cfg.train_dataloader.dataset
        assert (data.label_ratio, data.label_seed) == (0.1, draw)
        assert cell.start == first.name and cell.config != first.config


def test_one_labelled_sample_a_class(study):
    torch.manual_seed(0)
    centres = torch.randn(5, 8)
    train_y, val_y = torch.arange(20) % 5, torch.arange(30) % 5
    near = [
        centres[labels] + 0.01 * torch.randn(len(labels), 8)
        for labels in (train_y, val_y)
    ]
    assert study.one_each_accuracy(near[0], train_y, near[1], val_y) == 1
    # Features that say nothing of the classes: one of five by chance.
    noise = torch.randn(20, 8), train_y, torch.randn(30, 8), val_y
    assert 0.1 < study.one_each_accuracy(*noise) < 0.3


def test_from_end_to_end(study, toy, tmp_path, monkeypatch, capsys):
    size = {'model.backbone.depth': 1, **study.epochs(1, 0)}
    first = {'model.neck.depth': 1, 'train_cfg.val_interval': 1}
    # A tenth of the 64 sequences that are left.
    last = {'train_cfg.val_interval': 1, **study.batches(4)}
    settings = {
        'tiny': study.Setting(data=size, before=first, after=last, draws=2),
    }
    monkeypatch.setattr(study, 'SETTINGS', settings)
    command = ['--ann-file', str(toy), '--work-dir', str(tmp_path)]
    folder = tmp_path / 'without-3-seed0'
    study.main([*command, '--left-out', '3', '--features-only'])
    assert not list(folder.glob('tiny-draw*'))
    assert (folder / 'study.md').read_text().endswith(' | - |\n')
    study.main([*command, '--left-out', '3'])
    (record,) = json.loads((folder / 'study.json').read_text())['records']
    assert record['setting'] == 'tiny' and 0 < record['zero'] < 1
    assert record['lowest'] == record['loss']
    assert 0 < record['one_each'] < 100
    assert len(record['last']) == len(record['best']) == 2
    for value in (record['knn'], record['linear'], *record['last']):
        # Of 32 sequences of the performer left out.
        count = value * 32 / 100
        assert count == pytest.approx(round(count), abs=1e-3)
    table = (folder / 'study.md').read_text()
    assert f' | {record["linear"]:.1f} | ' in table and ' ± ' in table
    assert table.split('\n\n')[1].strip() in capsys.readouterr().out
