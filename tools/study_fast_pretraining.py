"""What the faster ways of pre-training do to what is learned.

Pre-trains on the toy data, in which most samples hold one of two persons, as
the recipe says, then without absent persons (``ignore_absent=True``), then in
bfloat16, and probes each: the time of the pre-training and the accuracy of
the linear probe, over several seeds. Finished trainings are skipped.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from reproduce_results import (
    METRIC,
    Cell,
    mean_and_spread,
    run_all,
    short_warmup,
)
from training_runs import (
    RECORD,
    ROOT,
    data_options,
    describe_machine,
    make_toy_data,
    read_curve,
    write_text,
)

from mamp_mmaction.datasets.annotation_file import read_annotations
from mamp_mmaction.datasets.conversion import available_cores

CONFIGS = ROOT / 'configs' / 'mamp' / 'toy'
NAME = 'mamp_1xb32-{}_toy-xsub-keypoint-3d.py'
# What each changes in the recipe of the pre-training.
CHOICES = {
    'recipe': {},
    'present': {'model.head.ignore_absent': True},
    'bfloat16': {'optim_wrapper.type': 'AutoAmpOptimWrapper'},
}


def plan(ann_file: Path, seeds: Sequence[int], epochs: Sequence[int]) -> list:
    """A pre-training and a probe for each choice and seed.

    Args:
        ann_file (Path): The toy data.
        seeds (list[int]): The seeds.
        epochs (list[int]): Of pre-training and probe.

    Returns:
        list[Cell]: The trainings.
    """
    data = data_options(ann_file)
    cells = []
    for seed in seeds:
        for title, change in CHOICES.items():
            start = f'seed{seed}-{title}-pretrain'
            options = {
                **data,
                **change,
                'train_cfg.max_epochs': epochs[0],
                **short_warmup(5, epochs[0]),
            }
            config = CONFIGS / NAME.format('pretrain-60e')
            cells.append(Cell(start, config, options, seed))
            options = {**data, 'train_cfg.max_epochs': epochs[1]}
            config = CONFIGS / NAME.format('linear-30e')
            name = f'seed{seed}-{title}-linear'
            cells.append(Cell(name, config, options, seed, start))
    return cells


def single_share(ann_file: Path) -> float:
    """Share of the training samples that hold one person, in percent."""
    data = read_annotations(ann_file)
    train = set(data['split']['xsub_train'])
    single = [
        annotation['keypoint'].any(axis=(1, 2, 3)).sum() == 1
        for annotation in data['annotations']
        if annotation['frame_dir'] in train
    ]
    return 100 * mean(map(float, single))


def collect(folder: Path, seeds: Sequence[int]) -> list[dict]:
    """Times and accuracies of the finished trainings.

    Args:
        folder (Path): Folder of their folders.
        seeds (list[int]): The seeds.

    Returns:
        list[dict]: ``choice``, ``seconds`` of each pre-training, ``top1``
        of each probe after its last epoch, in percent.
    """
    records = []
    for title in CHOICES:
        seconds, top1 = [], []
        for seed in seeds:
            name = f'seed{seed}-{title}'
            note = folder / f'{name}-pretrain' / RECORD
            seconds.append(json.loads(note.read_text())['seconds'])
            curve = read_curve(folder / f'{name}-linear', METRIC)
            top1.append(100 * curve[-1])
        records.append(dict(choice=title, seconds=seconds, top1=top1))
    return records


def format_table(records: list[dict]) -> str:
    """The records as a Markdown table, means and standard deviations."""
    lines = [
        '| pre-training | its time, s | linear probe, % |',
        '| --- | --- | --- |',
    ]
    for record in records:
        cells = [record['choice']]
        for values in (record['seconds'], record['top1']):
            cells.append(mean_and_spread(values))
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def parse_args(argv=None):
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=ROOT / 'work_dirs' / 'fast_pretraining',
        help='folder for data, logs and weights (default: %(default)s)',
    )
    parser.add_argument(
        '--seeds',
        nargs='+',
        type=int,
        default=[0, 1, 2],
        metavar='SEED',
        help='default: 0 1 2',
    )
    parser.add_argument(
        '--epochs',
        nargs=2,
        type=int,
        default=[60, 30],
        metavar='N',
        help='of pre-training and probe (default: 60 30)',
    )
    return parser.parse_args(argv)


def main(argv=None):
    """Run the command."""
    args = parse_args(argv)
    folder = args.work_dir.resolve()
    ann_file = make_toy_data(folder / 'toy.pkl')
    cores = available_cores()
    # One after the other: their times are compared.
    run_all(plan(ann_file, args.seeds, args.epochs), folder, 1, cores)

    records = collect(folder, args.seeds)
    table = format_table(records)
    share = f'{single_share(ann_file):.1f} % of the samples hold one person.'
    header = f'{describe_machine()}.\n{share}'
    write_text(folder / 'study.md', f'{header}\n\n{table}\n')
    write_text(folder / 'study.json', json.dumps(records, indent=2))
    print(f'\n{share}\n\n{table}\n\nWritten to {folder}/study.md and .json.')


if __name__ == '__main__':
    main()
