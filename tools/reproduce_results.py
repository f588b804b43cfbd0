"""What MAMP buys: train everything and write one table.

Trains, with the configs of this repository and the toolbox's own train.py,
the skeleton transformer (probes of random, reconstruction and MAMP weights;
from scratch and fine-tuned) and ST-GCN, ST-GCN++ and AAGCN (from scratch and
after MAMP pre-training), with 100 % and with 10 % of the labels. Finished
trainings are skipped, one that was cut off goes on from its last checkpoint:
run the same command again. `--report` writes the table of what is finished.

Budgets: `quick` pre-trains, probes and fine-tunes the transformer on made
data, some minutes on two CPU cores; `small` trains everything on
MSR-Action3D on such cores, GCNs at 16 base channels; `full` wants a GPU: the
paper's model sizes, long schedules, three seeds; `smoke` runs everything for
a few steps on made data.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import mean, stdev

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
TITLES = {
    'mamp': 'MAMP transformer',
    'stgcn': 'ST-GCN',
    'stgcnpp': 'ST-GCN++',
    'aagcn': 'AAGCN',
}
ALL, FEW = '100 %', '10 %'
# Name, config, start, what is added to the model's title, pre-training. The
# configs of GCNs are those of the last two and the first.
STEPS = (
    ('pretrain', 'pretrain', None, '', 'MAMP'),
    ('mae', 'mae', None, '', 'reconstruction'),
    ('linear-random', 'linear', None, ', linear probe', 'none'),
    ('linear-mae', 'linear', 'mae', ', linear probe', 'reconstruction'),
    ('linear-pretrain', 'linear', 'pretrain', ', linear probe', 'MAMP'),
    ('scratch', 'scratch', None, '', 'none'),
    ('finetune', 'finetune', 'pretrain', '', 'MAMP'),
)
PRETRAININGS = ('pretrain', 'mae')
END_TO_END = ('scratch', 'finetune')


@dataclass(frozen=True)
class Budget:
    """How much is trained; what is None stays as in the configs."""

    epochs: dict = field(default_factory=dict)  # by kind of training
    transformer: tuple = (128, 4, 2)  # width, blocks, the decoder's
    base_channels: int = 16  # of the GCNs
    val_interval: int | None = 5  # epochs
    models: tuple = tuple(TITLES)
    steps: tuple = tuple(name for name, *_ in STEPS)
    seeds: tuple = (0,)
    draws: int = 1  # of 10 % of the labels, for each seed
    data: str = 'msr-action3d'  # as in the configs' names
    toy: dict | None = None  # options of the toy data set, where it is used


def epochs(pretrain: int, gcn_pretrain: int, classify: int) -> dict:
    """Epochs of each kind of training."""
    return dict(pretrain=pretrain, gcn=gcn_pretrain, classify=classify)


BUDGETS = dict(
    smoke=Budget(
        epochs(2, 2, 2),
        transformer=(32, 2, 1),
        base_channels=8,
        val_interval=1,
        toy=dict(subjects=6, layout='msr_action3d'),
    ),
    quick=Budget(
        transformer=(None, None, None),
        val_interval=None,
        models=('mamp',),
        steps=tuple(name for name, *_ in STEPS if name != 'scratch'),
        draws=0,
        data='toy',
        toy={},
    ),
    small=Budget(epochs(300, 100, 100)),
    full=Budget(
        epochs(1000, 400, 100),
        transformer=(256, 8, 5),
        base_channels=64,
        seeds=(0, 1, 2),
        draws=3,
    ),
)


@dataclass(frozen=True)
class Cell:
    """One training."""

    name: str  # of its folder
    config: Path
    options: dict  # what is changed in the config
    seed: int
    start: str | None  # name of the cell that it starts from
    row: tuple  # model and pre-training
    labels: str | None = None  # None for a pre-training
    draw: int = 0  # of the labels


def plan(budget: Budget, ann_file: Path) -> list[Cell]:
    """All trainings: pre-trainings first, then what is quick."""
    cells = [
        cell
        for seed in budget.seeds
        for model in budget.models
        for step in STEPS
        for cell in _cells(budget, ann_file, seed, model, *step)
    ]
    return sorted(
        cells,
        key=lambda cell: (bool(cell.labels), cell.draw, cell.labels == ALL),
    )


def _cells(
    budget, ann_file, seed, model, name, protocol, start, suffix, pretraining
) -> Iterator[Cell]:
    """The cells of one step: one or, with few labels, several."""
    is_gcn = model != 'mamp'
    if name not in budget.steps or (
        is_gcn and protocol not in ('pretrain', *END_TO_END)
    ):
        return
    pretrains = protocol in PRETRAININGS
    kind = 'classify'
    if pretrains:
        kind = 'gcn' if is_gcn else 'pretrain'
    length = budget.epochs.get(kind)
    width, depth, decoder_depth = budget.transformer
    options = {
        'train_dataloader.dataset.ann_file': ann_file,
        'val_dataloader.dataset.ann_file': ann_file,
        'train_cfg.val_interval': budget.val_interval,
        'train_cfg.max_epochs': length,
    }
    if is_gcn:
        width = 4 * budget.base_channels
        options['model.backbone.base_channels'] = budget.base_channels
    else:
        options['model.backbone.embed_dims'] = width
        options['model.backbone.depth'] = depth
    if pretrains:
        options['model.neck.decoder_embed_dims'] = width
        key = 'embed_dims' if is_gcn else 'depth'
        options[f'model.neck.{key}'] = width if is_gcn else decoder_depth
    else:
        options['model.cls_head.in_channels'] = width
    if length and (pretrains or (not is_gcn and protocol in END_TO_END)):
        # The warm-up leaves most of a short training to the cosine.
        warmup = min(20 if pretrains else 5, length // 5)
        options['param_scheduler.warmup'] = warmup
    whole = Cell(
        f'seed{seed}-{model}-{name}',
        config_file(model, protocol, budget.data),
        {key: x for key, x in options.items() if x is not None},
        seed,
        start and f'seed{seed}-{model}-{start}',
        (TITLES[model] + suffix, pretraining),
        None if pretrains else ALL,
    )
    yield whole
    for draw in range(budget.draws if protocol in END_TO_END else 0):
        few = {
            'train_dataloader.dataset.label_ratio': 0.1,
            'train_dataloader.dataset.label_balanced': True,
            'train_dataloader.dataset.label_seed': draw,
            # A larger batch could not be filled.
            'train_dataloader.batch_size': 8,
        }
        yield replace(
            whole,
            name=f'{whole.name}-10-draw{draw}',
            options={**whole.options, **few},
            labels=FEW,
            draw=draw,
        )


def config_file(model: str, protocol: str, data: str) -> Path:
    """The config of a model and a protocol on a data set."""
    name = f'{model}_1xb32-{protocol}-*_{data}-xsub-keypoint-3d.py'
    for path in CONFIGS.rglob(name):
        return path
    raise FileNotFoundError(f'There is no config {name} below {CONFIGS}.')


def train(cell: Cell, work_dir: Path, threads: int) -> bool:
    """Train one cell in a folder of its own, unless that is finished.

    A training notes in ``training.json`` what it was asked to do. Finished,
    it is not done again; cut off, it goes on from its last checkpoint; and it
    is never taken for another one.
    """
    folder = work_dir / cell.name
    options = {key: str(value) for key, value in cell.options.items()}
    asked = dict(
        config=cell.config.name,
        seed=cell.seed,
        options=options,
        start=cell.start,
    )
    record = read_record(folder)
    if record and record['asked'] != asked:
        raise ValueError(
            f'{folder} holds another training than the one asked for:\n'
            f'  there: {record["asked"]}\n  asked: {asked}\n'
            'Choose another work directory, or remove that folder.'
        )
    if record and record['finished']:
        return False
    write_record(folder, asked=asked, finished=False)
    command = ['train', cell.config, '--work-dir', folder]
    command += ['--seed', cell.seed]
    weights = None
    # With --resume, train.py would take what load_from names for a
    # checkpoint of this training.
    if (folder / 'last_checkpoint').exists():
        command.append('--resume')
    elif cell.start:
        weights = (work_dir / cell.start / 'last_checkpoint').read_text()
    options = dict(load_from=weights, **options)
    command += ['--cfg-options', *(f'{k}={v}' for k, v in options.items())]
    began = time.monotonic()
    run_tool(command, folder / 'console.log', threads)
    seconds = round(time.monotonic() - began)
    write_record(folder, asked=asked, finished=True, seconds=seconds)
    return True


def read_record(folder: Path) -> dict | None:
    """What a training noted, None if there is none."""
    note = folder / 'training.json'
    return json.loads(note.read_text()) if note.exists() else None


def write_record(folder: Path, **record) -> None:
    """Note what a training is and whether it is finished."""
    from mamp_mmaction.utils import written_whole

    with written_whole(folder / 'training.json') as temporary:
        temporary.write_text(json.dumps(record, indent=2))


def run_tool(command: Sequence, log: Path, threads: int) -> None:
    """Run a tool and its arguments, with its output at the end of a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open('a') as output:
        code = subprocess.run(
            [sys.executable, '-m', 'mamp_mmaction', *map(str, command)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(os.environ, OMP_NUM_THREADS=str(threads)),
        ).returncode
    if code:
        tail = '\n'.join(log.read_text().splitlines()[-15:])
        raise ChildProcessError(
            f'{command[0]} failed with exit status {code}:\n{tail}\n'
            f'The whole output is in {log}.'
        )


def run_all(cells: list[Cell], folder: Path, jobs: int, threads: int) -> None:
    """Do all trainings, ``jobs`` at a time.

    Those that come first are done first, unless they wait for their start.
    """
    waiting, running, done = list(cells), {}, {None}

    def run(cell: Cell) -> None:
        began = time.monotonic()
        trained = train(cell, folder, threads)
        spent = f'{time.monotonic() - began:.0f} s' if trained else 'before'
        print(f'  {cell.name}: done ({spent})', flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        while waiting or running:
            ready = [cell for cell in waiting if cell.start in done]
            for cell in ready[: jobs - len(running)]:
                waiting.remove(cell)
                running[pool.submit(run, cell)] = cell.name
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                future.result()
                done.add(running.pop(future))


def collect(cells: list[Cell], folder: Path) -> list[dict]:
    """What came of the trainings that are finished; accuracies in percent."""
    from mamp_mmaction.evaluation.run_log import last_and_best, read_curve

    def curve(cell: Cell, key: str) -> dict:
        values = read_curve(folder / cell.name, key)
        if not values:
            raise ValueError(f'No log below {folder / cell.name} has {key}.')
        return last_and_best(values)

    records = []
    for cell in cells:
        if not (read_record(folder / cell.name) or {}).get('finished'):
            continue
        if cell.labels:
            top1 = curve(cell, 'acc/top1')
            values = {key: 100 * top1[key] for key in ('last', 'best')}
        else:
            values = {
                key: curve(cell, f'masked_motion/{name}')['last']
                for key, name in (('loss', 'mse'), ('zero_loss', 'zero_mse'))
            }
        model, pretraining = cell.row
        records.append(
            dict(
                model=model,
                pretraining=pretraining,
                labels=cell.labels,
                cell=cell.name,
                seed=cell.seed,
                draw=cell.draw,
                **values,
            )
        )
    return records


def format_tables(records: list[dict]) -> str:
    """Losses and accuracies as Markdown tables.

    A row for each model and pre-training; accuracies of the last epoch, in
    brackets the best, as mean and standard deviation where there are several.
    """
    from mamp_mmaction.utils import markdown_table

    losses, accuracies = {}, {}  # by row, then by column
    for record in records:
        row = record['model'], record['pretraining']
        table = accuracies if record['labels'] else losses
        column = table.setdefault(row, {}).setdefault(record['labels'], [])
        column.append(record)
    tables = []
    if losses:
        rows = [
            (
                *row,
                mean_and_spread(x[None], 'loss', 3),
                mean_and_spread(x[None], 'zero_loss', 3),
            )
            for row, x in losses.items()
        ]
        header = ('model', 'pre-training', 'loss', 'of predicting zero')
        tables.append(markdown_table(header, rows))
    if accuracies:
        columns = [
            labels
            for labels in (ALL, FEW)
            if any(labels in x for x in accuracies.values())
        ]
        rows = []
        for row, found in accuracies.items():
            ends = [
                (
                    mean_and_spread(found[labels], 'last', 1),
                    mean_and_spread(found[labels], 'best', 1),
                )
                if labels in found
                else None
                for labels in columns
            ]
            rows.append((*row, *(x and f'{x[0]} ({x[1]})' for x in ends)))
        header = ('model', 'pre-training', *columns)
        tables.append(markdown_table(header, rows))
    return '\n\n'.join(tables)


def mean_and_spread(records: list[dict], key: str, digits: int) -> str:
    """Mean and, of two values or more, standard deviation."""
    values = [record[key] for record in records]
    text = f'{mean(values):.{digits}f}'
    return f'{text} ± {stdev(values):.{digits}f}' if values[1:] else text


def write_report(name: str, budget: Budget, cells: list, folder: Path) -> str:
    """Write ``results.md`` and ``results.json``, and return the tables."""
    from mamp_mmaction.utils import describe_machine, written_whole

    records = collect(cells, folder)
    if not records:
        raise ValueError(f'No training in {folder} is finished.')
    tables, machine = format_tables(records), describe_machine()
    title = (
        f'Budget `{name}`. Validation loss of the last epoch; top-1 of the '
        'last epoch (of the best), %'
    )
    if len(records) < len(cells):
        title += f'; {len(records)} of {len(cells)} trainings are finished'
    results = dict(budget=name, machine=machine, **asdict(budget))
    results['cells'] = records
    for file, text in (
        ('results.md', f'{title}.\n{machine}.\n\n{tables}\n'),
        ('results.json', json.dumps(results, indent=2)),
    ):
        with written_whole(folder / file) as temporary:
            temporary.write_text(text)
    return tables


def parse_args(argv=None):
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('budget', choices=BUDGETS)
    parser.add_argument(
        '--ann-file',
        type=Path,
        default=Path('data', 'msr_action3d.pkl'),
        help='annotations by tools/data/msr_action3d.py; smoke and quick '
        'make theirs (default: %(default)s)',
    )
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=Path('work_dirs', 'results'),
        help='a folder for each budget is made in it (default: %(default)s)',
    )
    parser.add_argument(
        '--report',
        action='store_true',
        help='train nothing, write the table of what is finished',
    )
    parser.add_argument(
        '--models',
        nargs='+',
        choices=TITLES,
        help="what is trained and reported (default: the budget's)",
    )
    for name, count, text in (
        ('--seeds', '+', 'seeds that everything is done with'),
        ('--draws', None, 'draws of 10 %% of the labels for each seed'),
        ('--jobs', None, 'trainings at a time, which share the cores'),
    ):
        default = "the budget's" if name != '--jobs' else 'a GPU 1, else cores'
        parser.add_argument(
            name,
            type=int,
            nargs=count,
            metavar='N',
            help=f'{text} (default: {default})',
        )
    args = parser.parse_args(argv)
    for name in ('draws', 'jobs'):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f'--{name} must be at least 1')
    return args


def reproduce(args: argparse.Namespace) -> None:
    """Train and report as the command line says."""
    import torch

    from mamp_mmaction.utils import available_cores

    given = {
        key: getattr(args, key)
        for key in ('models', 'seeds', 'draws')
        if getattr(args, key)
    }
    budget = replace(BUDGETS[args.budget], **given)
    folder = (args.work_dir / args.budget).resolve()
    ann_file = args.ann_file.resolve()
    cores = available_cores()
    if budget.toy is not None:
        ann_file = folder / 'toy.pkl'
    cells = plan(budget, ann_file)
    if not args.report:
        if not ann_file.exists():
            if budget.toy is None:
                raise FileNotFoundError(
                    f'There is no annotation file {ann_file}: convert the '
                    'recordings with tools/data/msr_action3d.py, or give '
                    '--ann-file.'
                )
            options = [f'--{key}={x}' for key, x in budget.toy.items()]
            command = ['data/make_toy_dataset', ann_file, *options]
            run_tool(command, folder / 'data.log', cores)
        jobs = args.jobs or (1 if torch.cuda.is_available() else cores)
        print(f'{len(cells)} trainings, {jobs} at a time:', flush=True)
        run_all(cells, folder, jobs, max(cores // jobs, 1))
    tables = write_report(args.budget, budget, cells, folder)
    print(f'\n{tables}\n\nWritten to {folder}/results.md and results.json.')


def main(argv=None):
    """Run the command."""
    args = parse_args(argv)
    from mamp_mmaction.utils import errors_as_one_line

    with errors_as_one_line():
        reproduce(args)


if __name__ == '__main__':
    main()
