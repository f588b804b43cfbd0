"""The study of faster pre-trainings."""

import json

import pytest
from mmengine.config import Config


@pytest.fixture(scope='module')
def study(load_tool):
    return load_tool('study_fast_pretraining')


def test_only_what_is_studied_differs(study, tmp_path):
    cells = study.plan(tmp_path / 'toy.pkl', [0], [1, 1])
    names = [f'seed0-{choice}-pretrain' for choice in study.CHOICES]
    assert [cell.name for cell in cells[::2]] == names
    assert [cell.start for cell in cells[1::2]] == names
    found = []
    for cell in cells[::2]:
        cfg = Config.fromfile(cell.config)
        cfg.merge_from_dict(cell.options)
        found.append(cfg.to_dict())
    recipe, present, bfloat16 = found
    assert not recipe['model']['head'].get('ignore_absent')
    assert present['model']['head'].pop('ignore_absent') is True
    assert present == recipe
    assert bfloat16['optim_wrapper'].pop('type') == 'AutoAmpOptimWrapper'
    assert recipe['optim_wrapper'].pop('type') == 'OptimWrapper'
    assert bfloat16 == recipe


def test_the_study(study, tmp_path, capsys):
    study.main(
        ['--work-dir', str(tmp_path), '--seeds', '4', '--epochs', '1', '1']
    )
    records = json.loads((tmp_path / 'study.json').read_text())
    assert [record['choice'] for record in records] == list(study.CHOICES)
    for record in records:
        (top1,) = record['top1']
        # One of 16 actions of each of 8 performers, in two views.
        assert top1 * 256 / 100 == pytest.approx(round(top1 * 2.56), abs=1e-3)
        assert record['seconds'][0] > 0
    out = capsys.readouterr().out
    # Shaking hands and pushing take two.
    assert '87.5 % of the samples hold one person' in out
    assert f'| {records[1]["top1"][0]:.1f} |' in out


def test_the_table(study):
    records = [
        dict(choice='recipe', seconds=[10, 12], top1=[40.0, 44.0]),
        dict(choice='present', seconds=[5, 5], top1=[41.0, 41.0]),
    ]
    assert study.format_table(records).splitlines()[2:] == [
        '| recipe | 11.0 ± 1.4 | 42.0 ± 2.8 |',
        '| present | 5.0 ± 0.0 | 41.0 ± 0.0 |',
    ]
