"""The script behind the table of results, and the trainings it starts."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from mmaction.registry import MODELS
from mmengine.config import Config

TOOLS = Path(__file__).parents[1] / 'tools'


@pytest.fixture(scope='module')
def results(load_tool):
    return load_tool('reproduce_results')


@pytest.fixture
def runs(load_tool, tmp_path, monkeypatch):
    """``training_runs`` with a stand-in for train.py that notes its call."""
    runs = load_tool('training_runs')
    script = tmp_path / 'train.py'
    script.write_text(
        'import sys, pathlib\n'
        'folder = pathlib.Path(sys.argv[sys.argv.index("--work-dir") + 1])\n'
        'with open(folder / "calls", "a") as file:\n'
        '    print(*sys.argv[2:], file=file)\n'
        'sys.exit("out of memory" if (folder / "fail").exists() else 0)\n'
    )
    monkeypatch.setattr(runs, 'TRAIN', script)
    return runs


def calls(folder):
    return (folder / 'calls').read_text().splitlines()


def test_a_finished_training_is_not_done_again(runs, tmp_path):
    folder = tmp_path / 'work'
    asked = (Path('a.py'), folder, {'model.depth': 2}, 3, 1)
    assert runs.train(*asked)
    assert not runs.train(*asked)
    (call,) = calls(folder)
    assert '--seed 3' in call and 'model.depth=2' in call
    assert 'load_from=None' in call and '--resume' not in call


@pytest.mark.parametrize(
    'other', [(Path('b.py'), {}, 0), (Path('a.py'), {'x': 1}, 0)]
)
def test_a_folder_is_never_taken_for_another_training(runs, tmp_path, other):
    folder = tmp_path / 'work'
    runs.train(Path('a.py'), folder, {}, 0, 1)
    config, options, seed = other
    with pytest.raises(SystemExit, match='holds another training'):
        runs.train(config, folder, options, seed, 1)


def test_what_was_cut_off_goes_on(runs, tmp_path):
    folder = tmp_path / 'work'
    folder.mkdir()
    (folder / 'fail').touch()
    with pytest.raises(SystemExit, match='(?s)out of memory.*console.log'):
        runs.train(Path('a.py'), folder, {}, 0, 1)
    (folder / 'fail').unlink()
    (folder / 'last_checkpoint').write_text('epoch_1.pth')
    with pytest.raises(SystemExit, match='another training'):
        runs.train(Path('a.py'), folder, {}, 1, 1)
    assert runs.train(Path('a.py'), folder, {}, 0, 1)
    assert ['--resume' in call for call in calls(folder)] == [False, True]


def test_a_training_starts_from_the_last_weights_of_another(runs, tmp_path):
    start = tmp_path / 'start'
    start.mkdir()
    (start / 'last_checkpoint').write_text('start/epoch_7.pth')
    folder = tmp_path / 'work'
    folder.mkdir()
    (folder / 'fail').touch()
    with pytest.raises(SystemExit):
        runs.train(Path('a.py'), folder, {}, 0, 1, start)
    assert 'load_from=start/epoch_7.pth' in calls(folder)[0]

    (folder / 'last_checkpoint').write_text('work/epoch_2.pth')
    with pytest.raises(SystemExit):
        runs.train(Path('a.py'), folder, {}, 0, 1, start)
    assert 'load_from=None' in calls(folder)[1]
    assert '--resume' in calls(folder)[1]


def log(folder, name, **by_step):
    path = folder / name / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    lines = [
        {'acc/top1': value, 'step': int(step[1:])}
        for step, value in by_step.items()
    ]
    lines.insert(1, {'loss': 2.0, 'step': 4})
    path.write_text('\n'.join(map(json.dumps, lines)))


def test_the_later_record_of_an_epoch_counts(runs, tmp_path):
    log(tmp_path, '20260101_100000', _5=0.1, _10=0.2)
    log(tmp_path, '20260101_110000', _10=0.3, _15=0.25)
    assert runs.read_curve(tmp_path, 'acc/top1') == [0.1, 0.3, 0.25]
    with pytest.raises(SystemExit, match="No log .* has 'acc/top5'"):
        runs.read_curve(tmp_path, 'acc/top5')


@pytest.mark.parametrize('name', ['smoke', 'small', 'full'])
def test_the_plan(results, name):
    budget = results.BUDGETS[name]
    cells = results.plan(budget, Path('data.pkl'))
    names = [cell.name for cell in cells]
    assert len(set(names)) == len(names)
    for cell in cells:
        before = names[: names.index(cell.name)]
        assert cell.start is None or cell.start in before
        # Pre-trained weights are those of the same network and seed.
        assert (
            not cell.start
            or cell.start.split('-')[:2] == (cell.name.split('-')[:2])
        )
    rows = {(cell.row, cell.labels) for cell in cells if cell.row}
    assert len(rows) == 3 + 4 * 2 * 2
    few = [cell for cell in cells if cell.labels == '10 %']
    assert len(few) == 8 * len(budget.seeds) * budget.draws


def test_the_plan_of_some_models(results):
    budget = results.BUDGETS['small']
    some = results.plan(budget, Path('data.pkl'), ('aagcn', 'mamp'))
    rows = {cell.row[0].split(',')[0] for cell in some if cell.row}
    assert rows == {'AAGCN', 'MAMP transformer'}
    everything = results.plan(budget, Path('data.pkl'))
    assert {cell.name for cell in some} < {cell.name for cell in everything}


@pytest.mark.parametrize('name', ['small', 'full'])
def test_every_option_of_the_plan_is_one_of_its_config(results, name):
    cells = results.plan(results.BUDGETS[name], Path('data.pkl'))
    for cell in [c for c in cells if c.seed == 0 and 'draw1' not in c.name]:
        cfg = Config.fromfile(cell.config)
        for key in cell.options:
            place = cfg
            for part in key.split('.')[:-1]:
                place = place[part]
        cfg.merge_from_dict(cell.options)
        model = MODELS.build(cfg.model)
        width = cfg.model.get('cls_head', cfg.model.get('neck'))
        features = width.get('in_channels', width.get('embed_dims'))
        if 'draw' not in cell.name and 'cls_head' in cfg.model:
            size = model.backbone.state_dict().values()
            assert any(features in weight.shape for weight in size)


def test_a_training_waits_for_its_start_and_for_nothing_else(
    results, tmp_path, monkeypatch
):
    started, both = [], threading.Barrier(2, timeout=20)

    def train(name, *args):
        started.append((name, args[-1]))
        if name in ('start', 'alone'):
            both.wait()  # These two run at once, or never end.

    monkeypatch.setattr(results, 'train_and_tell', train)
    cells = [
        results.Cell(name, Path('config.py'), {}, 0, start)
        for name, start in (
            ('start', None),
            ('after', 'start'),
            ('last', 'after'),
            ('alone', None),
        )
    ]
    results.run_all(cells, tmp_path, 2, 1)
    names = [name for name, _ in started]
    assert set(names[:2]) == {'start', 'alone'}
    assert names[2:] == ['after', 'last']
    assert dict(started)['after'] == tmp_path / 'start'


def test_nothing_is_started_after_a_failure(results, tmp_path, monkeypatch):
    def train(name, *args):
        started.append(name)
        raise SystemExit('out of memory')

    started = []
    monkeypatch.setattr(results, 'train_and_tell', train)
    cells = [
        results.Cell(name, Path('config.py'), {}, 0) for name in ('a', 'b')
    ]
    with pytest.raises(SystemExit, match='out of memory'):
        results.run_all(cells, tmp_path, 1, 1)
    assert started == ['a']


def test_the_table(results):
    def record(model, labels, last, best):
        return dict(
            model=model,
            pretraining='MAMP',
            labels=labels,
            last=last,
            best=best,
        )

    table = results.format_table(
        [
            record('A', '100 %', 60.0, 61.0),
            record('A', '10 %', 40.0, 42.0),
            record('A', '10 %', 44.0, 46.0),
            record('B', '100 %', 50.04, 50.06),
        ]
    )
    assert table.splitlines()[2:] == [
        '| A | MAMP | 60.0 (61.0) | 42.0 ± 2.8 (44.0 ± 2.8) |',
        '| B | MAMP | 50.0 (50.1) | - |',
    ]


def test_absent_annotations(results, tmp_path):
    with pytest.raises(SystemExit, match='no annotation file .*nothing.pkl'):
        results.main(['small', '--ann-file', str(tmp_path / 'nothing.pkl')])


def test_the_smoke_budget_from_end_to_end(tmp_path):
    command = [sys.executable, str(TOOLS / 'reproduce_results.py'), 'smoke']
    command += ['--work-dir', str(tmp_path)]
    first = subprocess.run(command, capture_output=True, text=True)
    assert first.returncode == 0, first.stdout + first.stderr
    folder = tmp_path / 'smoke'
    found = json.loads((folder / 'results.json').read_text())
    assert len(found['cells']) == 19
    assert all(0 <= c['last'] <= c['best'] <= 100 for c in found['cells'])
    table = (folder / 'results.md').read_text()
    assert table.count('\n| ') == 13 and 'torch' in table
    assert table.split('\n\n')[1].strip() in first.stdout

    (folder / 'seed0-stgcn-scratch' / 'training.json').unlink()
    part = subprocess.run([*command, '--report'], capture_output=True)
    assert part.returncode == 0, part.stderr
    table = (folder / 'results.md').read_text()
    assert '18 of 19 classifiers are finished' in table
    assert '| ST-GCN | none | - |' in table

    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.count('done before') == 23
