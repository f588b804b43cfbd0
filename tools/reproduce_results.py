"""What MAMP buys on MSR-Action3D: train everything and write one table.

Trains, with the configs of this repository and the toolbox's own train.py,
the skeleton transformer (probes of random, reconstruction and MAMP weights;
from scratch and fine-tuned) and ST-GCN, ST-GCN++ and AAGCN (from scratch and
after MAMP pre-training), the latter two kinds with 100 % and with 10 % of the
labels. Finished trainings are skipped, one that was cut off goes on from its
last checkpoint: run the same command again. `--report` writes the table of
what is finished so far.

Budgets: `smoke` runs everything for a few steps on made data; `small` fits
two CPU cores, GCNs at 16 base channels; `full` wants a GPU: the paper's model
sizes, long schedules, three seeds.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import mean, stdev

import torch
from training_runs import (
    ROOT,
    data_options,
    describe_machine,
    is_finished,
    make_toy_data,
    read_curve,
    train_and_tell,
    write_text,
)

from mamp_mmaction.datasets.conversion import available_cores

METRIC = 'acc/top1'
GCNS = {'stgcn': 'ST-GCN', 'stgcnpp': 'ST-GCN++', 'aagcn': 'AAGCN'}
TRANSFORMER = 'MAMP transformer'
MODELS = ('mamp', *GCNS)
LABELS = ('100 %', '10 %')


@dataclass(frozen=True)
class Budget:
    """How much is trained.

    Attributes:
        pretrain_epochs (int): Of the transformer's pre-trainings.
        epochs (int): Of its probes and classifiers.
        gcn_pretrain_epochs (int): Of the GCNs' pre-trainings.
        gcn_epochs (int): Of their classifiers.
        seeds (tuple[int]): Everything is done once for each.
        draws (int): Draws of 10 % of the labels for each seed.
        val_interval (int): Epochs between two validations.
        embed_dims, depth, decoder_depth (int): Size of the transformer.
        base_channels (int): Size of the GCNs.
        toy (dict): Arguments of the toy data set, if that is used.
    """

    pretrain_epochs: int
    epochs: int
    gcn_pretrain_epochs: int
    gcn_epochs: int
    seeds: tuple[int, ...] = (0,)
    draws: int = 1
    val_interval: int = 5
    embed_dims: int = 128
    depth: int = 4
    decoder_depth: int = 2
    base_channels: int = 16
    toy: dict = field(default_factory=dict)


BUDGETS = {
    'smoke': Budget(
        2,
        2,
        2,
        2,
        val_interval=1,
        embed_dims=32,
        depth=2,
        decoder_depth=1,
        base_channels=8,
        toy=dict(subjects=6, layout='msr_action3d'),
    ),
    'small': Budget(300, 100, 100, 100),
    'full': Budget(
        1000,
        100,
        400,
        100,
        seeds=(0, 1, 2),
        draws=3,
        embed_dims=256,
        depth=8,
        decoder_depth=5,
        base_channels=64,
    ),
}


@dataclass(frozen=True)
class Cell:
    """One training.

    Attributes:
        name (str): Name of its folder.
        config (Path): The config file.
        options (dict): What is changed in it.
        seed (int): The seed.
        start (str, optional): Name of the cell that it starts from.
        row (tuple[str, str], optional): Model and pre-training in the table.
        labels (str): The table's column.
        draw (int): Which draw of the labels.
    """

    name: str
    config: Path
    options: dict
    seed: int
    start: str | None = None
    row: tuple[str, str] | None = None
    labels: str = LABELS[0]
    draw: int = 0


def plan(
    budget: Budget, ann_file: Path, models: Sequence[str] = MODELS
) -> list[Cell]:
    """All trainings, each after the one that it starts from.

    Args:
        budget (Budget): The budget.
        ann_file (Path): The annotation file.
        models (list[str]): Those that are trained. Defaults to all.

    Returns:
        list[Cell]: The trainings; pre-trainings first, then what is quick,
        the second and further draws of the labels last.
    """
    cells = []
    for seed in budget.seeds:
        for model in models:
            if model in GCNS:
                cells += _gcn_cells(budget, seed, model, GCNS[model])
            else:
                cells += _transformer_cells(budget, seed)
    data = data_options(ann_file)
    data['train_cfg.val_interval'] = budget.val_interval
    for cell in cells:
        cell.options.update(data)
    return sorted(
        cells,
        key=lambda cell: (
            cell.row is not None,
            cell.draw,
            cell.labels == LABELS[0],
        ),
    )


def config_file(model: str, protocol: str) -> Path:
    """The config of a model and a protocol on MSR-Action3D."""
    name = f'{model}_1xb32-{protocol}-*_msr-action3d-xsub-keypoint-3d.py'
    return next((ROOT / 'configs').rglob(name))


def _transformer_cells(budget: Budget, seed: int) -> Iterator[Cell]:
    size = {
        'model.backbone.embed_dims': budget.embed_dims,
        'model.backbone.depth': budget.depth,
    }
    pretrain = {
        **size,
        'model.neck.decoder_embed_dims': budget.embed_dims,
        'model.neck.depth': budget.decoder_depth,
        'train_cfg.max_epochs': budget.pretrain_epochs,
        **short_warmup(20, budget.pretrain_epochs),
    }
    classify = {
        **size,
        'model.cls_head.in_channels': budget.embed_dims,
        'train_cfg.max_epochs': budget.epochs,
    }
    name = f'seed{seed}-mamp-{{}}'.format
    files = {
        protocol: config_file('mamp', protocol)
        for protocol in ('pretrain', 'mae', 'linear', 'finetune', 'scratch')
    }
    for protocol in ('pretrain', 'mae'):
        yield Cell(name(protocol), files[protocol], dict(pretrain), seed)
    probe = f'{TRANSFORMER}, linear probe'
    for start, title in (
        ('random', 'none'),
        ('mae', 'reconstruction'),
        ('pretrain', 'MAMP'),
    ):
        yield Cell(
            name(f'linear-{start}'),
            files['linear'],
            dict(classify),
            seed,
            name(start) if start != 'random' else None,
            (probe, title),
        )
    classify.update(short_warmup(5, budget.epochs))
    yield from _classifier_cells(
        budget, seed, name, TRANSFORMER, files, classify
    )


def _gcn_cells(
    budget: Budget, seed: int, model: str, title: str
) -> Iterator[Cell]:
    channels = {'model.backbone.base_channels': budget.base_channels}
    features = 4 * budget.base_channels
    name = f'seed{seed}-{model}-{{}}'.format
    files = {
        protocol: config_file(model, protocol)
        for protocol in ('pretrain', 'finetune', 'scratch')
    }
    pretrain = {
        **channels,
        'model.neck.embed_dims': features,
        'model.neck.decoder_embed_dims': features,
        'train_cfg.max_epochs': budget.gcn_pretrain_epochs,
        **short_warmup(20, budget.gcn_pretrain_epochs),
    }
    yield Cell(name('pretrain'), files['pretrain'], pretrain, seed)
    classify = {
        **channels,
        'model.cls_head.in_channels': features,
        'train_cfg.max_epochs': budget.gcn_epochs,
    }
    yield from _classifier_cells(budget, seed, name, title, files, classify)


def _classifier_cells(
    budget: Budget,
    seed: int,
    name: Callable[[str], str],
    title: str,
    files: dict,
    options: dict,
) -> Iterator[Cell]:
    """From scratch and fine-tuned, with all and with few labels."""
    for protocol, start, pretraining in (
        ('scratch', None, 'none'),
        ('finetune', name('pretrain'), 'MAMP'),
    ):
        row = (title, pretraining)
        file = files[protocol]
        yield Cell(name(protocol), file, dict(options), seed, start, row)
        for draw in range(budget.draws):
            few = {**options, **few_labels(draw)}
            cell = name(f'{protocol}-10-draw{draw}')
            yield Cell(cell, file, few, seed, start, row, LABELS[1], draw)


def few_labels(draw: int) -> dict:
    """Train with a tenth of the labels, one or two samples a class."""
    return {
        'train_dataloader.dataset.label_ratio': 0.1,
        'train_dataloader.dataset.label_balanced': True,
        'train_dataloader.dataset.label_seed': draw,
        # A larger batch could not be filled.
        'train_dataloader.batch_size': 8,
    }


def short_warmup(longest: int, epochs: int) -> dict:
    """A warm-up that leaves most of a short training to the cosine."""
    return {'param_scheduler.warmup': min(longest, epochs // 5)}


def run_all(cells: list[Cell], folder: Path, jobs: int, threads: int) -> None:
    """Do all trainings, ``jobs`` at a time.

    Args:
        cells (list[Cell]): The trainings, with all that they start from.
            Those that come first are done first, unless they have to wait
            for their start.
        folder (Path): Folder of their folders.
        jobs (int): Trainings at a time.
        threads (int): Threads for each.
    """
    waiting, running = list(cells), {}
    done: set[str | None] = {None}

    def run(cell: Cell) -> None:
        train_and_tell(
            cell.name,
            cell.config,
            folder / cell.name,
            cell.options,
            cell.seed,
            threads,
            folder / cell.start if cell.start else None,
        )

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
    """Accuracies of all classifiers that are finished.

    Args:
        cells (list[Cell]): The trainings.
        folder (Path): Folder of their folders.

    Returns:
        list[dict]: ``model``, ``pretraining``, ``labels``, ``cell``, and
        ``last`` and ``best`` top-1 accuracy in percent.
    """
    records = []
    for cell in cells:
        if cell.row and is_finished(folder / cell.name):
            curve = read_curve(folder / cell.name, METRIC)
            records.append(
                dict(
                    model=cell.row[0],
                    pretraining=cell.row[1],
                    labels=cell.labels,
                    cell=cell.name,
                    seed=cell.seed,
                    draw=cell.draw,
                    last=100 * curve[-1],
                    best=100 * max(curve),
                )
            )
    return records


def format_table(records: list[dict]) -> str:
    """The accuracies as a Markdown table.

    Args:
        records (list[dict]): As :func:`collect` gives them.

    Returns:
        str: One row for each model and pre-training, a column for each share
        of the labels: last epoch, in brackets the best, as mean and standard
        deviation where there are several.
    """
    lines = [
        f'| model | pre-training | {" | ".join(LABELS)} |',
        '| --- | --- | --- | --- |',
    ]
    rows = dict.fromkeys((r['model'], r['pretraining']) for r in records)
    for row in rows:
        cells = []
        for labels in LABELS:
            group = [
                r
                for r in records
                if (r['model'], r['pretraining'], r['labels'])
                == (*row, labels)
            ]
            last = mean_and_spread([r['last'] for r in group])
            best = mean_and_spread([r['best'] for r in group])
            cells.append(f'{last} ({best})' if group else '-')
        lines.append(f'| {" | ".join((*row, *cells))} |')
    return '\n'.join(lines)


def mean_and_spread(values: list[float]) -> str:
    """Mean and, of two values or more, standard deviation."""
    if len(values) < 2:
        return ''.join(f'{value:.1f}' for value in values)
    return f'{mean(values):.1f} ± {stdev(values):.1f}'


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
        default=ROOT / 'data' / 'msr_action3d.pkl',
        help='annotations by tools/data/msr_action3d.py; not used by smoke '
        '(default: %(default)s)',
    )
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=ROOT / 'work_dirs' / 'results',
        help='a folder for each budget is made in it (default: %(default)s)',
    )
    parser.add_argument(
        '--report',
        action='store_true',
        help='train nothing, write the table of what is finished',
    )
    parser.add_argument(
        '--draws',
        type=int,
        metavar='N',
        help='draws of 10 %% of the labels for each seed '
        '(default: 1, with budget full 3)',
    )
    parser.add_argument(
        '--models',
        nargs='+',
        choices=MODELS,
        default=MODELS,
        help='what is trained and reported (default: everything)',
    )
    cores = available_cores()
    parser.add_argument(
        '--jobs',
        type=int,
        default=1 if torch.cuda.is_available() else cores,
        help='trainings at a time, which share the cores '
        '(default: %(default)s)',
    )
    return parser.parse_args(argv)


def main(argv=None):
    """Run the command."""
    args = parse_args(argv)
    budget = BUDGETS[args.budget]
    if args.draws:
        budget = replace(budget, draws=args.draws)
    folder = (args.work_dir / args.budget).resolve()
    cores = available_cores()
    ann_file = args.ann_file.resolve()
    if budget.toy:
        ann_file = make_toy_data(folder / 'toy.pkl', **budget.toy)
    elif not ann_file.exists():
        sys.exit(
            f'error: There is no annotation file {ann_file}: convert the '
            'recordings with tools/data/msr_action3d.py, or give --ann-file.'
        )
    cells = plan(budget, ann_file, args.models)
    if not args.report:
        print(f'{len(cells)} trainings, {args.jobs} at a time:', flush=True)
        run_all(cells, folder, args.jobs, max(cores // args.jobs, 1))

    records = collect(cells, folder)
    table = format_table(records)
    machine = describe_machine()
    title = f'Budget `{args.budget}`, top-1 of the last epoch (of the best)'
    wanted = sum(cell.row is not None for cell in cells)
    if len(records) < wanted:
        title += f'; {len(records)} of {wanted} classifiers are finished'
    write_text(folder / 'results.md', f'{title}.\n{machine}.\n\n{table}\n')
    results = dict(
        budget=args.budget, machine=machine, **asdict(budget), cells=records
    )
    write_text(folder / 'results.json', json.dumps(results, indent=2))
    print(f'\n{table}\n\nWritten to {folder}/results.md and results.json.')


if __name__ == '__main__':
    main()
