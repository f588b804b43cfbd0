"""The script behind the tables of results, and the work that it starts."""

import json
import os
import shutil
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from mmaction.registry import MODELS
from mmengine.config import Config
from processes import start_fork
from synthetic import data_set, write

import mamp_mmaction.__main__ as launcher
from mamp_mmaction.datasets.annotation_file import read_annotations
from mamp_mmaction.utils import resumable
from mamp_mmaction.utils.plots import draw_curves

FOLDER = Path('work')


@pytest.fixture(scope='module')
def results(load_tool):
    return load_tool('reproduce_results')


@pytest.fixture
def calls(results, monkeypatch):
    """What would be run, while nothing is."""
    calls = []

    def note(command, log, threads):
        calls.append(' '.join(map(str, command)))
        write_log(log.parent)
        return 7.5

    monkeypatch.setattr(resumable, 'run_tool', note)
    return calls


def write_log(folder):
    """As if a training of one epoch were done."""
    (folder / '1/vis_data').mkdir(parents=True, exist_ok=True)
    line = json.dumps({'acc/top1': 0.5, 'step': 1})
    (folder / '1/vis_data/scalars.json').write_text(line)
    (folder / 'epoch_1.pth').touch()


@pytest.fixture
def cell(results):
    return results.Cell(
        name='mine',
        step='tuned-all',
        row=results.ROWS[0],
        data='toy',
        seed=3,
        draw=0,
        start=None,
        config=Path('a.py'),
        options={'model.depth': 2, 'train_cfg.max_epochs': 9},
    )


def test_what_is_done_is_not_done_again(results, calls, cell):
    for _ in range(2):
        results.do(cell, FOLDER, 1)
    (call,) = calls
    assert '--seed 3' in call and 'model.depth=2' in call
    assert 'load_from=None' in call and '--resume' not in call
    found = resumable.read_result(FOLDER / 'mine')
    assert found == {'top1': 0.5, 'seconds': 7.5}
    assert not list(FOLDER.rglob('*.pth'))  # of a fine-tuned model


@pytest.mark.parametrize(
    'change',
    [
        dict(config=Path('b.py')),
        dict(options={}),
        dict(seed=0),
        dict(start='other'),
    ],
)
def test_a_folder_is_never_taken_for_other_work(results, calls, cell, change):
    results.do(cell, FOLDER, 1)
    with pytest.raises(ValueError, match='mine holds another result'):
        results.do(replace(cell, **change), FOLDER, 1)
    assert len(calls) == 1


def test_what_was_cut_off_goes_on(results, cell, monkeypatch):
    calls = []

    def fail(command, log, threads):
        calls.append(' '.join(map(str, command)))
        raise ChildProcessError('out of memory')

    monkeypatch.setattr(resumable, 'run_tool', fail)
    cell = replace(cell, start='start')
    for name in ('start', 'mine'):
        (FOLDER / name).mkdir(parents=True)
    (FOLDER / 'start/last_checkpoint').write_text('start/epoch_7.pth')
    for _ in range(2):
        with pytest.raises(ChildProcessError):
            results.do(cell, FOLDER, 1)
        (FOLDER / 'mine/last_checkpoint').write_text('mine/epoch_2.pth')
    # train.py would take load_from for a checkpoint of this training.
    assert ['load_from=start/epoch_7.pth' in call for call in calls] == [1, 0]
    assert ['--resume' in call for call in calls] == [False, True]
    # Trained to its end, but not tested: nothing of it would go on.
    (FOLDER / 'mine/last_checkpoint').write_text('mine/epoch_9.pth')
    with pytest.raises(ChildProcessError):
        results.do(cell, FOLDER, 1)
    assert '--resume' not in calls[-1]


@pytest.mark.parametrize(
    'name', ['smoke', 'quick', 'small', 'study', 'tuning', 'full']
)
def test_the_plan_holds_every_value_once(results, name):
    budget = results.BUDGETS[name]
    cells = results.plan(budget, Path('data'))
    names = [cell.name for cell in cells]
    assert len(set(names)) == len(names)
    found = [
        (cell.row, cell.data, cell.step, cell.seed, cell.draw)
        for cell in cells
        if cell.step in results.MEASURES
    ]
    wanted = [
        (row, data, step, seed, draw)
        for row, data, step, seed in product(
            budget.rows, budget.data, budget.measures, budget.seeds
        )
        for draw in range(budget.draws)
        if not step.startswith(('knn', 'linear')) or row.probed
        if draw == 0 or step in ('linear-few', 'tuned-few', 'tuned-10')
    ]
    assert len(found) == len(set(found)) and set(found) == set(wanted)
    # One seed after the other, and nothing before what it starts from.
    assert [c.seed for c in cells] == sorted(c.seed for c in cells)
    for place, cell in enumerate(cells):
        assert cell.start is None or cell.start in names[:place]
        # Pre-trained weights are of the same row and seed.
        seed, row = cell.name.split('/')[:2]
        own = [seed, cell.row.encoder or row]
        assert not cell.start or cell.start.split('/')[:2] == own


def test_pretrainings_are_shared_as_far_as_they_can(results):
    cells = results.plan(results.BUDGETS['small'], Path('data'))
    encoders = [c.name for c in cells if c.step == 'encoder' and not c.seed]
    wanted = []
    for kind in ('mamp', 'recommended', 'mae'):
        wanted.append(f'seed0/{kind}-union/encoder')
        if kind == 'recommended':
            wanted.append('seed0/long-union/encoder')
        for data in results.KINECT:
            wanted.append(f'seed0/{kind}-itself/{data}/encoder')
    assert encoders == [*wanted, 'seed0/stgcnpp-union/encoder']


def test_ways_of_fine_tuning_differ_in_what_they_say(results):
    """They start from one encoder, and have the same data."""
    cells = results.plan(results.BUDGETS['tuning'], Path('data'))
    assert sum(cell.step == 'encoder' for cell in cells) == 3  # seeds
    assert {cell.start for cell in cells if cell.seed == 1} == {
        None,
        'seed1/recommended/encoder',
    }
    given = {
        cell.row.name: cell.options
        for cell in cells
        if cell.seed == 2 and cell.name.endswith('nw-ucla/tuned-all')
    }
    same = given['recommended']
    assert given['none'] == same
    rate = {'optim_wrapper.optimizer.lr': '3e-4'}
    assert given['rate'] == same | rate
    assert given['paper'] == same | rate | given['drop'] | given['decay']
    assert len({str(options) for options in given.values()}) == 5


def test_all_rows_have_the_same_labels(results):
    """And other seeds and draws have others."""
    labels = {}
    for cell in results.plan(results.BUDGETS['small'], Path('data')):
        drawn = tuple(
            cell.options.get(f'train_dataloader.dataset.label_{key}')
            for key in ('ratio', 'balanced', 'seed')
        )
        if cell.step.endswith('-few') or cell.step == 'tuned-10':
            kind = cell.step.replace('linear', 'tuned'), cell.data
            labels.setdefault((kind, cell.seed, cell.draw), set()).add(drawn)
    assert all(len(drawn) == 1 for drawn in labels.values())
    assert len({(k[0], *drawn) for k, drawn in labels.items()}) == len(labels)


@pytest.mark.parametrize(
    'budget, options, hours',
    [
        ('small', dict(measures=('tuned-all',)), 1),
        ('smoke', {}, None),
    ],
)
def test_work_that_is_left_is_estimated(results, budget, options, hours):
    budget = replace(results.BUDGETS[budget], **options)
    cells = results.plan(budget, Path('data'))
    said = results.describe_work(budget, cells, FOLDER)
    assert said.startswith(f'{len(cells)} of {len(cells)} pieces')
    assert ('hours' in said) == bool(hours)
    if hours:
        fewer = replace(budget, seeds=(0,))
        few = results.plan(fewer, Path('data'))
        spent = [
            sum(results.seconds(cell, results.SPEEDS) for cell in some)
            for some in (few, cells)
        ]
        assert spent[1] == pytest.approx(3 * spent[0])
        assert f'{spent[0] / 3600:.1f} of seed 0' in said


@pytest.mark.parametrize('name', ['smoke', 'quick', 'full'])
def test_every_option_of_the_plan_is_one_of_its_config(results, name):
    budget = replace(results.BUDGETS[name], seeds=(0,), draws=1)
    kinds = {}
    for cell in results.plan(budget, Path('data')):
        keys = cell.config, *sorted(cell.options)
        if cell.step not in ('knn', 'linear', 'linear-few'):
            kinds.setdefault(keys, cell)
    for cell in kinds.values():
        cfg = Config.fromfile(cell.config)
        for key in cell.options:
            place = cfg
            for part in key.split('.')[:-1]:
                place = place[int(part) if part.isdigit() else part]
        cfg.merge_from_dict(cell.options)
        files = str(cfg.train_dataloader) + str(cfg.val_dataloader)
        assert files.count(".pkl'") == files.count("PosixPath('data/")
        with torch.device('meta'):
            model = MODELS.build(cfg.model)
        part = cfg.model.get('cls_head', cfg.model.get('neck'))
        width = part.get('in_channels', part.get('embed_dims'))
        weights = model.backbone.state_dict().values()
        # MAMP's decoder takes over its encoder's.
        if width is not None:
            assert any(width in weight.shape for weight in weights)


def write_result(cell, result):
    folder = FOLDER / cell.name
    folder.mkdir(parents=True)
    note = folder / resumable.NOTE
    note.write_text(json.dumps(dict(asked={}, result=result)))


def test_the_report_of_what_is_finished(results):
    """Differences are paired; only those beyond their error are called so."""
    small = results.BUDGETS['small']
    trained = 'stgcnpp', 'mamp-none', 'mamp-union', 'mae-union'
    rows = [row for row in small.rows if row.name.startswith(trained)]
    budget = replace(small, data=('nw-ucla',), rows=rows)
    cells = results.plan(budget, Path('data'))
    gains = {'mamp-union': (1, 2, 3), 'mae-union': (-9, 0, 9)}
    for cell in cells:
        if cell.step == 'tuned-all' and cell.row.model == 'mamp':
            gain = gains.get(cell.row.name, (0, 0, 0))[cell.seed]
            top1 = (50 + 20 * cell.seed + gain) / 100
            write_result(cell, dict(top1=top1))
    # Begun: no result.
    write_result(next(c for c in cells if c.row.model == 'stgcnpp'), None)

    tables = results.write_report('small', budget, cells, FOLDER)
    lines = tables.splitlines()
    assert f'9 of {len(cells)} pieces' in lines[0]
    # Deviations of -20, 0 and 20: error 20 / sqrt(3).
    assert '| MAMP transformer | none | - | 70.0 ± 11.5 |' in lines
    assert '| MAMP transformer | MAMP | all three | **+2.0 ± 0.6** |' in lines
    assert (
        '| MAMP transformer | reconstruction | all three '
        '| no difference shown (+0.0 ± 5.2) |' in lines
    )
    assert 'all 1020; 10 %, 102; about 3 of each of 10 classes, 30' in tables
    assert '### Northwestern-UCLA' in lines and 'ST-GCN' not in tables
    found = json.loads((FOLDER / 'results.json').read_text())['measures']
    assert [x['row'] for x in found] == ['mamp-none', *gains]
    assert found[1]['difference']['is_shown']
    assert found[1]['values']['seed 2, draw 0'] == pytest.approx(93)
    assert (FOLDER / 'results.png').read_bytes()[1:4] == b'PNG'
    against = replace(budget, against='mamp-union')
    tables = results.write_report('small', against, cells, FOLDER)
    assert '| model | difference from MAMP | on | fine-tuned,' in tables
    assert '| MAMP transformer | none | - | **-2.0 ± 0.6** |' in tables


def test_the_plot_joins_no_points_across_a_gap(monkeypatch):
    figures = []

    def save(self, path, format):
        figures.append(self)
        path.touch()

    monkeypatch.setattr(Figure, 'savefig', save)
    both = {x: (x, 50 + x, 1.0) for x in (3, 10, 30)}
    curves = dict(all=[*both.values()], ends=[both[3], both[30]])
    draw_curves(Path('a.png'), dict(panel=curves), 'x', 'y', 'title')
    every, ends = (bars.lines[0] for bars in figures[0].axes[0].containers)
    assert every.get_ydata().tolist() == [53, 60, 80]
    broken = ends.get_ydata().astype(float)
    np.testing.assert_array_equal(broken, [53, np.nan, 80])


def test_a_row_changes_what_it_names_alone(results):
    budget = replace(results.BUDGETS['study'], seeds=(0,), data=('nw-ucla',))
    rows = ('recommended', 'rate', 'wide')
    options = {
        (cell.row.name, cell.step): set(cell.options.items())
        for cell in results.plan(budget, FOLDER)
        if cell.row.name in rows and cell.step in ('encoder', 'features')
    }
    changes = {
        key: dict(options[key] - options['recommended', key[1]])
        for key in product(rows[1:], ('encoder', 'features'))
    }
    wide = {'model.backbone.embed_dims': 256, 'model.backbone.depth': 4}
    assert changes == {
        ('rate', 'encoder'): {'optim_wrapper.optimizer.lr': '3e-3'},
        ('rate', 'features'): {},
        ('wide', 'encoder'): {
            **wide,
            'model.neck.depth': 2,
            'model.neck.decoder_embed_dims': 256,
        },
        ('wide', 'features'): {**wide, 'model.cls_head.in_channels': 256},
    }


def test_the_study_never_sees_test_data(results):
    content = data_set(12, 9)
    for index, sample in enumerate(content['annotations']):
        sample['frame_dir'] = f'a01_s{index % 3 + 1:02}_e{index:02}'
    names = [sample['frame_dir'] for sample in content['annotations']]
    content['split'] = dict(xview_train=names[:9], xview_val=names[9:])
    write(Path('all.pkl'), content)
    data = replace(results.DATA['nw-ucla'], held_out=(2,))
    results.hold_out(data, Path('all.pkl'), Path('study.pkl'))
    found = read_annotations('study.pkl')
    assert len(found['annotations']) == 9
    assert found['split']['xview_val'] == [n for n in names[:9] if 's02' in n]
    train = [n for n in names[:9] if 's02' not in n]
    assert found['split']['xview_train'] == train
    # Few labels are counted among those that are left.
    assert results.BUDGETS['study'].data_set('nw-ucla').sequences == 833


def test_means_of_data_sets_and_what_pretraining_costs(results):
    """Over the seeds that all data sets have, in pairs."""
    budget = results.BUDGETS['study']
    cells = results.plan(budget, Path('data'))
    for cell in cells:
        if cell.step == 'encoder':
            cost = dict(exact=200).get(cell.row.name, 50)
            write_result(cell, dict(seconds=cost + cell.seed))
        elif cell.step == 'knn' and (cell.data, cell.seed) != ('utd-mhad', 2):
            gain = 0.1 * (cell.row.name == 'exact')
            top1 = 0.2 + gain + 0.3 * (cell.data == 'nw-ucla')
            write_result(cell, dict(top1=top1))
    tables = results.write_report('study', budget, cells, FOLDER)
    mean, *_ = tables.split('### Northwestern-UCLA')
    assert (
        '| MAMP transformer | MAMP | all three | 1.00 | 40.0 ± 0.0 |' in mean
    )
    assert '| MAMP transformer | none | - | - | 30.0 ± 0.0 |' in mean
    assert (
        '| MAMP transformer | none | - | - | no difference shown (-10.0'
        in (mean)
    )
    assert 'held-out subjects' in tables


def test_costs_of_different_machines_are_not_compared(results):
    cells = results.plan(results.BUDGETS['study'], FOLDER)
    spent = {
        ('exact', 0): (200, 'old'),
        ('exact', 1): (100, 'new'),
        ('fast', 1): (50, 'new'),
        ('nat', 2): (10, 'another'),
    }
    found = {
        cell.name: dict(zip(('seconds', 'machine'), spent[key]))
        for cell in cells
        if cell.step == 'encoder'
        and (key := (cell.row.name, cell.seed)) in spent
    }
    costs = results.pretraining_costs(cells, found)
    assert costs == dict(exact='1.00', fast='0.50')


def test_results_of_other_machines_are_merged(results, monkeypatch):
    """With their own; never those of other settings."""
    budget = replace(results.BUDGETS['study'], data=('nw-ucla',))
    cells = results.plan(budget, Path('data'))
    chosen = {c.seed: c for c in cells if (c.step, c.row.name) == KNN}
    write_result(chosen[0], dict(top1=0.5))
    results.write_report('study', budget, cells, FOLDER)
    other = Path('other.json')
    (FOLDER / 'results.json').rename(other)
    shutil.rmtree(FOLDER)
    monkeypatch.setattr('mamp_mmaction.utils.describe_machine', lambda: 'new')
    write_result(chosen[1], dict(top1=0.6))
    tables = results.write_report('study', budget, cells, FOLDER, [other])
    assert '| MAMP transformer | MAMP | all three | 55.0 ± 5.0 |' in tables
    merged = json.loads((FOLDER / 'results.json').read_text())
    machines = [
        merged['machines'][x['machine']] for x in merged['results'].values()
    ]
    assert machines == [*json.loads(other.read_text())['machines'], 'new']
    # The data may lie elsewhere, but that is all.
    moved = results.plan(budget, Path('elsewhere'))
    assert [*map(results.settings, moved)] == [*map(results.settings, cells)]
    longer = results.plan(replace(budget, data=('utd-mhad',)), Path('data'))
    changed = [replace(c, options=longer[0].options) for c in cells]
    with pytest.raises(ValueError, match=r'other.json: seed0/exact/nw-ucla/'):
        results.write_report('study', budget, changed, FOLDER, [other])


KNN = 'knn', 'exact'


@pytest.mark.parametrize(
    'options, message',
    [
        ([], 'no annotation file .*msr_action3d.pkl.*tools/data/msr_action3d'),
        (['--report'], 'Nothing in .* is finished'),
    ],
)
def test_what_cannot_be_done(results, options, message):
    with pytest.raises(SystemExit, match=f'^error: .*{message}'):
        results.main(['small', *options])
    assert not list(Path.cwd().rglob('results.*'))


def run_in_fork(command, log, threads):
    """As ``run_tool`` does, but without the time that imports take."""

    def become():
        sys.argv = ['mamp_mmaction', *map(str, command)]
        launcher.main()

    log.parent.mkdir(parents=True, exist_ok=True)
    if os.waitpid(start_fork(become, log), 0)[1]:
        raise ChildProcessError(log.read_text())
    return 1.0


@pytest.mark.filterwarnings('ignore:.*fork.*')
def test_from_end_to_end(results, monkeypatch, capsys):
    """Pre-trains on the union, probes, tunes; refuses, goes on, reports."""
    monkeypatch.setattr(resumable, 'run_tool', run_in_fork)
    # Forks hang where other threads have computed.
    assert torch.get_num_threads() == 1
    monkeypatch.setattr('mamp_mmaction.utils.available_cores', lambda: 1)
    whole = replace(results.BUDGETS['smoke'], epochs=1, subjects=4)
    parts = ['--data', 'utd-mhad', '--rows', 'mamp-none', 'mamp-union']

    def run(epochs, *options):
        budget = replace(whole, epochs=epochs)
        monkeypatch.setitem(results.BUDGETS, 'smoke', budget)
        few = ['--measures', 'knn', 'linear', 'linear-few', 'tuned-few']
        few += ['--work-dir', 'work', '--jobs', '1']
        results.main(['smoke', *parts, *few, *options])
        return capsys.readouterr().out

    said = run(1)
    folder = Path('work/smoke')
    assert said.count(': done (') == 11
    assert (folder / 'results.md').read_text().strip() in said
    found = json.loads((folder / 'results.json').read_text())
    losses = found['results']['seed0/mamp-union/encoder']
    assert losses['loss'] > 0 and losses['zero'] > 0
    assert len(found['measures']) == 8
    # Nothing is done twice, and no folder taken for another one's.
    assert ': done (' not in run(1)
    with pytest.raises(SystemExit, match='few-draw0 holds another result'):
        run(2)

    # As if the second of two epochs had been cut off.
    name = 'seed0/mamp-union/encoder'
    note = folder / name / resumable.NOTE
    record = json.loads(note.read_text())
    for key in ('max_epochs', 'val_interval'):
        record['asked']['options'][f'train_cfg.{key}'] = '2'
    note.write_text(json.dumps(dict(record, result=None)))
    for other in folder.glob('seed0/*/utd-mhad'):
        shutil.rmtree(other)
    said = run(2, '--measures', 'knn')
    log = (folder / name / 'console.log').read_text()
    assert log.count('resumed epoch: 1') == 1 and 'Epoch(train) [2]' in log
    assert said.count(': done (') == 5
    logs = list((folder / name).glob('*/vis_data'))
    assert len(logs) == 2
