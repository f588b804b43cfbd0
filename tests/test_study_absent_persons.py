"""The study of absent persons, from end to end."""

import json

import pytest
from mmengine.config import Config


@pytest.fixture(scope='module')
def study(load_tool):
    return load_tool('study_absent_persons')


def test_only_the_loss_differs(study, tmp_path):
    cells = study.plan(tmp_path / 'toy.pkl', [0], [1, 1])
    everybody, _, present, _ = [
        (Config.fromfile(cell.config), cell) for cell in cells
    ]
    found = []
    for cfg, cell in (everybody, present):
        cfg.merge_from_dict(cell.options)
        found.append(cfg.to_dict())
    assert found[0]['model']['head'].pop('ignore_absent') is False
    assert found[1]['model']['head'].pop('ignore_absent') is True
    assert found[0] == found[1]
    assert [cell.start for cell in cells] == [
        *(None, 'seed0-all-pretrain', None, 'seed0-present-pretrain')
    ]


def test_the_study(study, tmp_path, capsys):
    study.main(
        ['--work-dir', str(tmp_path), '--seeds', '4', '--epochs', '1', '1']
    )
    records = json.loads((tmp_path / 'study.json').read_text())
    assert [record['persons'] for record in records] == ['all', 'present']
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
        dict(persons='all', seconds=[10, 12], top1=[40.0, 44.0]),
        dict(persons='present', seconds=[5, 5], top1=[41.0, 41.0]),
    ]
    assert study.format_table(records).splitlines()[2:] == [
        '| all | 11.0 ± 1.4 | 42.0 ± 2.8 |',
        '| present | 5.0 ± 0.0 | 41.0 ± 0.0 |',
    ]
