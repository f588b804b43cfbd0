"""What decides whether MAMP helps on MSR-Action3D: try settings, one by one.

Nothing here sees a test subject. The subjects of the training set that
--left-out names are kept from every training, pre-trainings included, and
everything is measured on them: the loss of the pre-training beside that of
predicting zero; nearest neighbours, of all sequences and of one a class, and
logistic regression on its features; and the top-1 accuracy after fine-tuning.

Finished trainings are skipped, one that was cut off goes on from its last
checkpoint. `--list` tells what the settings are.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

import torch
from probe_features import PERFORMER, performers, read_features
from reproduce_results import (
    METRIC,
    Cell,
    config_file,
    few_labels,
    mean_and_spread,
    run_all,
)
from training_runs import (
    ROOT,
    data_options,
    describe_machine,
    is_finished,
    read_curve,
    run_command,
    write_text,
)

from mamp_mmaction.datasets.annotation_file import (
    read_annotations,
    write_annotations,
)
from mamp_mmaction.datasets.conversion import available_cores
from mamp_mmaction.features import knn_accuracy, linear_accuracy

EXTRACTOR = Path(__file__).parent / 'extract_features.py'
CROP, ROTATION = 1, 2  # Places in the pipelines of the configs.
MASK = dict(train=4, val=3)
PROBES = ('knn', 'one_each', 'linear')
DRAWS = 15  # Of one labelled sequence a class.
LOSS, ZERO = 'masked_motion/mse', 'masked_motion/zero_mse'
# Of all trainings.
SHARED = {
    'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
    'val_dataloader.num_workers': 0,
    'val_dataloader.persistent_workers': False,
}


def crop(min_frames: int, smallest: float = 0.5) -> dict:
    """Train on stretches of at least so many frames, or such a share."""
    key = f'train_dataloader.dataset.pipeline.{CROP}'
    return {
        f'{key}.min_crop_frames': min_frames,
        f'{key}.crop_ratio': f'({smallest},1.0)',
    }


def rotation(angle: float) -> dict:
    """Rotate by up to so many radians in training."""
    key = f'train_dataloader.dataset.pipeline.{ROTATION}'
    return {f'{key}.max_angle': angle}


def epochs(number: int, warmup: int) -> dict:
    """Train for so many epochs."""
    return {'train_cfg.max_epochs': number, 'param_scheduler.warmup': warmup}


def stride(frames: int) -> dict:
    """Predict the motion over so many frames."""
    return {'model.head.motion_stride': frames}


def clips(frames: int) -> dict:
    """Resize every clip to so many frames."""
    crops = {
        f'{split}_dataloader.dataset.pipeline.{CROP}.num_frames': frames
        for split in MASK
    }
    return {'model.backbone.num_frames': frames, **crops}


def mask(ratio: float) -> dict:
    """Mask such a share of the tokens."""
    return {
        f'{split}_dataloader.dataset.pipeline.{place}.mask_ratio': ratio
        for split, place in MASK.items()
    }


def rate(value: float) -> dict:
    """Learn at such a rate."""
    return {
        'optim_wrapper.optimizer.lr': value,
        'param_scheduler.min_lr': value / 30,
    }


def batches(samples: int) -> dict:
    """Train on batches of so many."""
    return {'train_dataloader.batch_size': samples}


def gentle(value: float, share: float) -> dict:
    """Learn at such a rate, the backbone at such a share of it."""
    return {
        'optim_wrapper.optimizer.lr': value,
        'optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mult': share,
    }


@dataclass(frozen=True)
class Setting:
    """One pre-training and the fine-tuning after it.

    Attributes:
        pretrain (str, optional): Protocol of the pre-training: ``pretrain``
            (MAMP), ``mae`` (reconstruction) or None.
        classify (str): ``finetune`` or, without layer decay, ``scratch``.
        data (dict): Options of both.
        before (dict): Options of the pre-training alone.
        after (dict): Options of the fine-tuning alone.
        model (str): ``mamp``, ``stgcn``, ``stgcnpp`` or ``aagcn``.
        draws (int): Draws of 10 % of the labels, each fine-tuned with; 0
            for one fine-tuning with all labels.
    """

    pretrain: str | None = 'pretrain'
    classify: str = 'finetune'
    data: dict = field(default_factory=dict)
    before: dict = field(default_factory=dict)
    after: dict = field(default_factory=dict)
    model: str = 'mamp'
    draws: int = 0


SLOW, FAST = rate(3e-4), rate(1e-3)
FLOAT32 = {'optim_wrapper.type': 'OptimWrapper'}
UNTRAINED = {**epochs(1, 0), **rate(1e-12)}
TENTH, HALF = mask(0.9), mask(0.5)
VARIED = {**rotation(1.0), **crop(8, 0.25)}
FEW = dict(model='stgcn', draws=3)
# The first two are the paper's recipe: a crop keeps 64 frames or more, which
# few of these sequences have.
SETTINGS = {
    'scratch-nocrop': Setting(None, 'scratch', crop(64), after=SLOW),
    'mamp-nocrop': Setting(data=crop(64), before=TENTH, after=SLOW),
    'scratch-slow': Setting(None, 'scratch', after=SLOW),
    'mamp-slow': Setting(before=TENTH, after=SLOW),
    'scratch': Setting(None, 'scratch', after=FAST),
    'mamp-untrained': Setting(before=UNTRAINED, after=FAST),
    'mamp-mask90': Setting(before=TENTH, after=FAST),
    'mae-mask90': Setting('mae', before=TENTH, after=FAST),
    'mamp': Setting(after=FAST),
    'mae': Setting('mae', after=FAST),
    'mamp-mask50': Setting(before=HALF, after=FAST),
    'mae-mask50': Setting('mae', before=HALF, after=FAST),
    'mamp-float32': Setting(data=FLOAT32, after=FAST),
    'mamp-600': Setting(before=epochs(600, 20), after=FAST),
    'mamp-stride4': Setting(before={**TENTH, **stride(4)}, after=FAST),
    'mamp-stride12': Setting(before={**TENTH, **stride(12)}, after=FAST),
    'mamp-varied': Setting(before={**TENTH, **VARIED}, after=FAST),
    'mamp-flat': Setting('pretrain', 'scratch', after=FAST),
    'mamp-flat-mask90': Setting(
        'pretrain', 'scratch', before=TENTH, after=FAST
    ),
    'scratch-120': Setting(None, 'scratch', clips(120), after=FAST),
    'mamp-120': Setting(data=clips(120), after=FAST),
    'mae-120': Setting('mae', data=clips(120), after=FAST),
    'stgcn-scratch': Setting(None, 'scratch', **FEW),
    'stgcn-untrained': Setting(before=UNTRAINED, **FEW),
    'stgcn': Setting(**FEW),
    'stgcn-mask50': Setting(before=HALF, **FEW),
    'stgcn-stride12': Setting(before={**HALF, **stride(12)}, **FEW),
    'stgcn-batch8': Setting(before={**HALF, **batches(8)}, **FEW),
    'stgcn-gentle': Setting(before=HALF, after=gentle(0.1, 0.05), **FEW),
}


def plan(
    settings: dict[str, Setting], ann_file: Path, seed: int
) -> list[Cell]:
    """The trainings, a pre-training that several settings share once.

    Args:
        settings (dict[str, Setting]): What is tried.
        ann_file (Path): Annotations without any test subject.
        seed (int): Of all trainings.

    Returns:
        list[Cell]: Each after the one that it starts from.
    """
    data = {**SHARED, **data_options(ann_file)}
    cells, known = [], {}
    for name, setting in settings.items():
        start = None
        if setting.pretrain:
            options = {**setting.data, **setting.before}
            config = config_file(setting.model, setting.pretrain)
            key = (config, *sorted(map(str, options.items())))
            start = known.setdefault(key, f'{name}-pretrain')
            if start not in {cell.name for cell in cells}:
                cells.append(Cell(start, config, {**data, **options}, seed))
        options = {'train_cfg.val_interval': 5, **data}
        options.update({**setting.data, **setting.after})
        config = config_file(setting.model, setting.classify)
        row = (name, setting.pretrain or 'none')
        if not setting.draws:
            cells.append(Cell(name, config, options, seed, start, row))
        for draw in range(setting.draws):
            title = f'{name}-draw{draw}'
            few = {**few_labels(draw), **options}
            cells.append(Cell(title, config, few, seed, start, row))
    return cells


def leave_out(ann_file: Path, subjects: Sequence[int], out: Path) -> None:
    """Write annotations in which some training subjects are the test set.

    Args:
        ann_file (Path): What tools/data/msr_action3d.py wrote.
        subjects (list[int]): The subjects that are left out.
        out (Path): File to write.

    Raises:
        SystemExit: A subject is not in the training set, or all are left out.
    """
    data = read_annotations(ann_file)
    names = data['split']['xsub_train']
    numbers = [int(text) for text in performers(names, PERFORMER)]
    if not set(subjects) < set(numbers):
        sys.exit(
            f'error: cannot leave out the subjects {sorted(subjects)}: the '
            f'training set of {ann_file} has {sorted(set(numbers))}, of which '
            'some must stay.'
        )
    pairs = list(zip(names, numbers))
    val = [name for name, number in pairs if number in subjects]
    train = [name for name, number in pairs if number not in subjects]
    kept = set(names)
    annotations = [
        annotation
        for annotation in data['annotations']
        if annotation['frame_dir'] in kept
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    write_annotations(out, dict(xsub_train=train, xsub_val=val), annotations)


def probe(cell: Cell, folder: Path, threads: int) -> dict[str, float]:
    """Classify by the features of a pre-training.

    Args:
        cell (Cell): A finished pre-training.
        folder (Path): Folder of the cells' folders.
        threads (int): Threads to compute with.

    Returns:
        dict: Accuracies on the subjects left out, in percent: ``knn``,
        nearest neighbour; ``one_each``, the same with one labelled sequence
        of each class; ``linear``, logistic regression.
    """
    work = folder / cell.name
    checkpoint = (work / 'last_checkpoint').read_text()
    sets = []
    for split in ('train', 'val'):
        out = work / f'{split}.npz'
        if not out.exists():
            options = [f'{key}={value}' for key, value in cell.options.items()]
            command = [EXTRACTOR, cell.config, checkpoint, out]
            command += ['--split', split, '--cfg-options', *options]
            run_command(command, work / 'features.log', threads)
        sets += read_features(out)[:2]
    return dict(
        knn=100 * knn_accuracy(*sets, k=1),
        one_each=100 * one_each_accuracy(*sets),
        linear=100 * linear_accuracy(*sets),
    )


def one_each_accuracy(
    train_x: torch.Tensor,
    train_y: torch.Tensor,
    val_x: torch.Tensor,
    val_y: torch.Tensor,
) -> float:
    """Nearest neighbour among one labelled sample of each class.

    Args:
        train_x (torch.Tensor): Training features, (n, D).
        train_y (torch.Tensor): Their labels, long, (n,).
        val_x (torch.Tensor): Validation features, (N, D).
        val_y (torch.Tensor): Their labels, long, (N,).

    Returns:
        float: Share that is classified correctly, mean of ``DRAWS`` draws.
    """
    generator = torch.Generator().manual_seed(0)
    accuracies = []
    for _ in range(DRAWS):
        order = torch.randperm(len(train_y), generator=generator).tolist()
        few = list({train_y[i].item(): i for i in order}.values())
        sets = train_x[few], train_y[few], val_x, val_y
        accuracies.append(knn_accuracy(*sets, k=1))
    return mean(accuracies)


def collect(
    settings: dict[str, Setting], cells: list[Cell], folder: Path, threads: int
) -> list[dict]:
    """What came out of each setting.

    Args:
        settings (dict[str, Setting]): What was tried.
        cells (list[Cell]): The trainings, of which at least the
            pre-trainings are finished.
        folder (Path): Folder of their folders.
        threads (int): Threads to compute with.

    Returns:
        list[dict]: ``setting``; ``loss``, ``lowest`` and ``zero`` of the
        pre-training, what :func:`probe` gives; lists ``last`` and ``best``,
        after each finished fine-tuning. Accuracies in percent.
    """
    by_name = {cell.name: cell for cell in cells}
    records = []
    for name in settings:
        record = dict(setting=name)
        group = [cell for cell in cells if cell.row and cell.row[0] == name]
        if start := group[0].start:
            loss = read_curve(folder / start, LOSS)
            zero = read_curve(folder / start, ZERO)[-1]
            record.update(loss=loss[-1], lowest=min(loss), zero=zero)
            record.update(probe(by_name[start], folder, threads))
        curves = [
            read_curve(folder / cell.name, METRIC)
            for cell in group
            if is_finished(folder / cell.name)
        ]
        record['last'] = [100 * curve[-1] for curve in curves]
        record['best'] = [100 * max(curve) for curve in curves]
        records.append(record)
    return records


def format_table(records: list[dict]) -> str:
    """The records as a Markdown table."""
    lines = [
        '| setting | loss (lowest) | of predicting zero | nearest neighbour '
        '| one each | linear | fine-tuned (best) |',
        f'| {" | ".join(["---"] * 7)} |',
    ]
    for record in records:
        cells = ['-'] * 5
        if 'loss' in record:
            cells = [
                f'{record["loss"]:.3f} ({record["lowest"]:.3f})',
                f'{record["zero"]:.3f}',
                *(f'{record[key]:.1f}' for key in PROBES),
            ]
        last, best = map(mean_and_spread, (record['last'], record['best']))
        cells.append(f'{last} ({best})' if last else '-')
        lines.append(f'| {" | ".join([record["setting"], *cells])} |')
    return '\n'.join(lines)


def describe(setting: Setting) -> str:
    """A setting in words."""
    kinds = dict(pretrain='mamp', mae='reconstruction')
    first = kinds.get(setting.pretrain, 'no pre-training')
    decay = dict(finetune='0.8', scratch='1')[setting.classify]
    if setting.model == 'mamp':
        parts = [f'{first}; layer decay {decay}']
    else:
        parts = [setting.model, first]
    if setting.draws:
        parts.append(f'{setting.draws} draws of 10 % of the labels')
    for title, options in (
        ('both', setting.data),
        ('pre-training', setting.before),
        ('fine-tuning', setting.after),
    ):
        chosen = ', '.join(f'{k}={v}' for k, v in options.items())
        parts += [f'{title}: {chosen}'] if chosen else []
    return '; '.join(parts)


def parse_args(argv=None):
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'settings',
        nargs='*',
        metavar='SETTING',
        help='what is tried (default: everything)',
    )
    parser.add_argument(
        '--list', action='store_true', help='print the settings, and end'
    )
    parser.add_argument(
        '--ann-file',
        type=Path,
        default=ROOT / 'data' / 'msr_action3d.pkl',
        help='annotations by tools/data/msr_action3d.py (default: '
        '%(default)s)',
    )
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=ROOT / 'work_dirs' / 'study',
        help='folder for data, logs and weights (default: %(default)s)',
    )
    parser.add_argument(
        '--left-out',
        nargs='+',
        type=int,
        default=[3, 7],
        metavar='SUBJECT',
        help='training subjects that everything is measured on (default: 3 7)',
    )
    parser.add_argument(
        '--features-only',
        action='store_true',
        help='measure the features of the pre-trainings, fine-tune nothing',
    )
    parser.add_argument('--seed', type=int, default=0, help='default: 0')
    parser.add_argument(
        '--jobs',
        type=int,
        default=1 if torch.cuda.is_available() else available_cores(),
        help='trainings at a time, which share the cores '
        '(default: %(default)s)',
    )
    args = parser.parse_args(argv)
    if unknown := set(args.settings) - set(SETTINGS):
        parser.error(
            f'there are no settings {sorted(unknown)}, only '
            f'{", ".join(SETTINGS)}'
        )
    if not args.ann_file.is_file() and not args.list:
        parser.error(
            f'there is no annotation file {args.ann_file}: convert the '
            'recordings with tools/data/msr_action3d.py, or give --ann-file'
        )
    return args


def main(argv=None):
    """Run the command."""
    args = parse_args(argv)
    if args.list:
        for name, setting in SETTINGS.items():
            print(f'{name}: {describe(setting)}')
        return
    names = args.settings or SETTINGS
    settings = {name: SETTINGS[name] for name in names}
    subjects = sorted(args.left_out)
    title = '-'.join(map(str, subjects))
    folder = args.work_dir.resolve() / f'without-{title}-seed{args.seed}'
    ann_file = folder / 'annotations.pkl'
    leave_out(args.ann_file, subjects, ann_file)
    cells = plan(settings, ann_file, args.seed)
    threads = max(available_cores() // args.jobs, 1)
    wanted = [c for c in cells if not (args.features_only and c.row)]
    run_all(wanted, folder, args.jobs, threads)

    records = collect(settings, cells, folder, threads)
    table = format_table(records)
    machine = describe_machine()
    header = f'Left out: subjects {title}; seed {args.seed}.\n{machine}.'
    write_text(folder / 'study.md', f'{header}\n\n{table}\n')
    results = dict(left_out=subjects, machine=machine, records=records)
    write_text(folder / 'study.json', json.dumps(results, indent=2))
    print(f'\n{table}\n\nWritten to {folder}/study.md and study.json.')


if __name__ == '__main__':
    main()
