"""The script behind the table of results, and the trainings it starts."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from mmaction.registry import MODELS
from mmengine.config import Config

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

    monkeypatch.setattr(results, 'run_tool', note)
    return calls


@pytest.fixture
def cell(results):
    options = {'model.depth': 2}
    return results.Cell('mine', Path('a.py'), options, 3, None, ('A', 'none'))


def test_a_finished_training_is_not_done_again(results, calls, cell):
    assert results.train(cell, FOLDER, 1)
    assert not results.train(cell, FOLDER, 1)
    (call,) = calls
    assert '--seed 3' in call and 'model.depth=2' in call
    assert 'load_from=None' in call and '--resume' not in call


@pytest.mark.parametrize(
    'change',
    [
        dict(config=Path('b.py')),
        dict(options={}),
        dict(seed=0),
        dict(start='other'),
    ],
)
def test_a_folder_is_never_taken_for_another_training(
    results, calls, cell, change
):
    results.train(cell, FOLDER, 1)
    with pytest.raises(ValueError, match='mine holds another training'):
        results.train(replace(cell, **change), FOLDER, 1)
    assert len(calls) == 1


def test_what_was_cut_off_goes_on(results, cell, monkeypatch):
    calls = []

    def fail(command, log, threads):
        calls.append(' '.join(map(str, command)))
        raise ChildProcessError('out of memory')

    monkeypatch.setattr(results, 'run_tool', fail)
    cell = replace(cell, start='start')
    for name in ('start', 'mine'):
        (FOLDER / name).mkdir(parents=True)
    (FOLDER / 'start/last_checkpoint').write_text('start/epoch_7.pth')
    for _ in range(2):
        with pytest.raises(ChildProcessError):
            results.train(cell, FOLDER, 1)
        (FOLDER / 'mine/last_checkpoint').write_text('mine/epoch_2.pth')
    # train.py would take load_from for a checkpoint of this training.
    assert ['load_from=start/epoch_7.pth' in call for call in calls] == [1, 0]
    assert ['--resume' in call for call in calls] == [False, True]


def test_a_tool_that_fails_is_an_error_with_its_last_words(results):
    log = FOLDER / 'console.log'
    with pytest.raises(OSError, match=r'(?s)nil failed .* 1:.*train.*console'):
        results.run_tool(['nil'], log, 1)
    assert "no tool 'nil'" in log.read_text()


@pytest.mark.parametrize(
    'name, models, rows',
    [
        ('smoke', None, 3 + 4 * 2 * 2),
        ('quick', None, 3 + 1),
        ('small', ('aagcn', 'mamp'), 3 + 2 * 2 * 2),
        ('full', None, 3 + 4 * 2 * 2),
    ],
)
def test_the_plan(results, name, models, rows):
    budget = results.BUDGETS[name]
    if models:
        budget = replace(budget, models=models)
    cells = results.plan(budget, Path('data.pkl'))
    names = [cell.name for cell in cells]
    assert len(set(names)) == len(names)
    for cell in cells:
        before = names[: names.index(cell.name)]
        assert cell.start is None or cell.start in before
        # Pre-trained weights are those of the same network and seed.
        assert (
            not cell.start
            or cell.start.split('-')[:2] == cell.name.split('-')[:2]
        )
    table = {(cell.row, cell.labels) for cell in cells if cell.labels}
    assert len(table) == rows
    titles = {cell.row[0].split(',')[0] for cell in cells}
    assert titles == {results.TITLES[model] for model in budget.models}


@pytest.mark.parametrize('name', ['quick', 'small', 'full'])
def test_every_option_of_the_plan_is_one_of_its_config(results, name):
    budget = replace(results.BUDGETS[name], seeds=(0,), draws=0)
    for cell in results.plan(budget, Path('data.pkl')):
        cfg = Config.fromfile(cell.config)
        for key in cell.options:
            place = cfg
            for part in key.split('.')[:-1]:
                place = place[part]
        cfg.merge_from_dict(cell.options)
        model = MODELS.build(cfg.model)
        weights = model.backbone.state_dict().values()
        part = cfg.model.get('cls_head', cfg.model.get('neck'))
        width = part.get('in_channels', part.get('embed_dims'))
        # MAMP's decoder takes over its encoder's.
        if width is not None:
            assert any(width in weight.shape for weight in weights)


def test_a_training_waits_for_its_start_and_for_nothing_else(
    results, cell, monkeypatch
):
    """Nothing is started after a failure."""
    started, both = [], threading.Barrier(2, timeout=20)

    def train(cell, folder, threads):
        started.append(cell.name)
        if cell.name in ('start', 'alone'):
            both.wait()  # These two run at once, or never end.
        if cell.name == 'fails':
            raise ChildProcessError('out of memory')

    def run(processes, **starts):
        cells = [replace(cell, name=n, start=s) for n, s in starts.items()]
        results.run_all(cells, FOLDER, processes, 1)

    monkeypatch.setattr(results, 'train', train)
    run(2, start=None, after='start', last='after', alone=None)
    assert set(started[:2]) == {'start', 'alone'}
    assert started[2:] == ['after', 'last']
    started.clear()
    with pytest.raises(ChildProcessError):
        run(1, fails=None, other=None)
    assert started == ['fails']


def test_the_tables(results):
    def record(model, labels, last, best):
        common = dict(model=model, pretraining='MAMP', labels=labels)
        return dict(common, last=last, best=best)

    loss = dict(model='A', pretraining='MAMP', labels=None)
    lines = results.format_tables(
        [
            dict(loss, loss=0.41, zero_loss=0.5),
            record('A', '100 %', 60.0, 61.0),
            record('A', '10 %', 40.0, 42.0),
            record('A', '10 %', 44.0, 46.0),
            record('B', '100 %', 50.04, 50.06),
        ]
    ).splitlines()
    assert lines[2] == '| A | MAMP | 0.410 | 0.500 |'
    assert lines[-2:] == [
        '| A | MAMP | 60.0 (61.0) | 42.0 ± 2.8 (44.0 ± 2.8) |',
        '| B | MAMP | 50.0 (50.1) | - |',
    ]


@pytest.mark.parametrize(
    'options, message',
    [
        ([], 'no annotation file .*nothing.pkl'),
        (['--report'], 'No training in .* is finished'),
    ],
)
def test_what_cannot_be_done(results, options, message):
    with pytest.raises(SystemExit, match=f'^error: .*{message}'):
        results.main(['small', '--ann-file', 'nothing.pkl', *options])
    assert not list(Path.cwd().rglob('results.*'))


def test_from_end_to_end(results, monkeypatch, capsys):
    """Pre-trains and fine-tunes; refuses, goes on, and reports."""
    whole = results.BUDGETS['smoke']
    few = replace(whole, models=('mamp',), draws=0)
    few = replace(few, steps=('pretrain', 'finetune'))

    def run(epochs, *options):
        lengths = results.epochs(1, 1, epochs)
        budget = replace(few, epochs=lengths)
        monkeypatch.setitem(results.BUDGETS, 'smoke', budget)
        results.main(['smoke', '--work-dir', 'work', '--jobs', '1', *options])
        return capsys.readouterr().out

    said = run(1)
    tables = said.split('\n\n', 1)[1].partition('\n\nWritten')[0]
    assert '| MAMP transformer | MAMP | ' in tables
    folder = Path('work/smoke')
    report = (folder / 'results.md').read_text()
    assert tables in report and 'torch' in report
    found = json.loads((folder / 'results.json').read_text())
    pretrained, tuned = found['cells']
    assert pretrained['loss'] > 0 and pretrained['zero_loss'] > 0
    with pytest.raises(SystemExit, match='finetune holds another training'):
        run(2)

    # As if the second of two epochs had been cut off.
    note = folder / 'seed0-mamp-finetune' / 'training.json'
    record = json.loads(note.read_text())
    record['asked']['options']['train_cfg.max_epochs'] = '2'
    note.write_text(json.dumps(dict(record, finished=False)))
    run(2, '--report')
    assert '1 of 2 trainings' in (folder / 'results.md').read_text()
    said = run(2)
    assert 'pretrain: done (before)' in said
    log = (folder / 'seed0-mamp-finetune/console.log').read_text()
    assert log.count('resumed epoch: 1') == 1 and 'Epoch(train) [2]' in log
    logs = list((folder / 'seed0-mamp-finetune').glob('*/vis_data'))
    assert len(logs) == 2
    found = json.loads((folder / 'results.json').read_text())
    best = max(tuned['last'], found['cells'][1]['last'])
    assert found['cells'][1]['best'] == best  # of both starts
