"""What MAMP buys: train everything and write the tables of results.

On each data set every row (a model and how it was pre-trained: not at all, on
the data set itself, or on the union of all three) is measured in several
ways: nearest neighbours and logistic regression on frozen features, and
fine-tuning, with all labels, with 10 % and with about 3 sequences a class.
Trainings run by the configs of this repository and the toolbox's own
train.py; test data is used once, at the end of each.

What is finished is skipped, a training that was cut off goes on from its last
checkpoint: run the same command again. The order is such that what is done
first makes a table, too: seed 0 first, cheap before expensive. `--report`
writes the tables of what is finished: means, standard errors over seeds and
draws (those of one seed share its pre-training and count once, by their mean),
and the differences from random features and from training from scratch, paired
by seed and draw: of more than two standard errors, or no difference is shown.
Draw d of seed s is label_seed 100 s + d for all rows. Pre-trained weights are
kept, those of fine-tuned models are not. Machines may share the work by
`--seeds`, and one of them report it by `--merge`.

Budgets: `quick` does some of it on made data, some minutes on two CPU cores;
`small` does all of it on three data sets on such cores; `full` wants a GPU:
the paper's model sizes and long schedules; `smoke` does all of `small` for a
few steps on made data. `study` compares ways of pre-training and `tuning` ways
of fine-tuning; they use no test data: subjects of the training data are held
out and tested on.
"""

import argparse
import hashlib
import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from statistics import fmean
from threading import Lock

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
TITLES = {'mamp': 'MAMP transformer', 'stgcnpp': 'ST-GCN++'}


@dataclass(frozen=True)
class DataSet:
    """A data set; file, converter and layout have the same name."""

    title: str
    file: str
    split: str  # as in the configs' names
    sequences: int  # to train on
    classes: int
    # Subjects of the training split whom the study tests on instead, and
    # how many sequences of the others there are.
    held_out: tuple = ()
    others: int = 0


DATA = {
    'msr-action3d': DataSet(
        'MSR-Action3D', 'msr_action3d', 'xsub', 284, 20, (3, 7), 174
    ),
    'nw-ucla': DataSet(
        'Northwestern-UCLA', 'nw_ucla', 'xview', 1020, 10, (7, 9), 833
    ),
    'utd-mhad': DataSet('UTD-MHAD', 'utd_mhad', 'xsub', 431, 27, (7,), 323),
    'toy': DataSet('Made data', 'toy', 'xsub', 256, 16),
}
SUBJECT = re.compile(r'_s(\d+)_')  # in the names of sequences
MEAN = 'mean'  # of all data sets, in results
UNION = 'kinect-v1'  # of these, in the order of its configs:
KINECT = ('msr-action3d', 'nw-ucla', 'utd-mhad')
CORPORA = {'itself': 'itself', UNION: 'all three'}


@dataclass(frozen=True)
class Row:
    """A row of the tables: a model and where it starts."""

    name: str  # of its folders
    model: str
    pretraining: str  # as the tables say
    protocol: str | None = None  # of the pre-training's config
    corpus: str | None = None  # that it is pre-trained on
    tuning: str = 'finetune'  # protocol of the config of the classifier
    probed: bool = True
    encoder: str | None = None  # the row whose it takes (default: its own)
    changes: tuple = ()  # that fine-tuning makes to its config
    pretraining_changes: tuple = ()  # that pre-training makes to its config
    transformer: tuple | None = None  # as in Budget, for this row alone


def option(name: str, title: str) -> Row:
    """A row of the study: a pre-training of its own on the union."""
    return Row(name, 'mamp', title, f'pretrain-{name}', UNION)


def variant(
    name: str, title: str, rate: str | None, transformer: tuple | None = None
) -> Row:
    """A row of the study: the recommended recipe, of another rate or size."""
    changes = (('optim_wrapper.optimizer.lr', rate),) if rate else ()
    return replace(
        option('recommended', title),
        name=name,
        pretraining_changes=changes,
        transformer=transformer,
    )


def fine_tuning(name: str, title: str, *changes: str) -> Row:
    """A row of the study of fine-tuning, from one encoder for all."""
    return replace(
        option('recommended', title),
        name=name,
        encoder='recommended',
        changes=tuple(tuple(change.split('=')) for change in changes),
    )


# In the order of work. The first of a model is what the others of that model
# are compared with.
ROWS = (
    Row('mamp-none', 'mamp', 'none', tuning='scratch'),
    Row('mamp-union', 'mamp', 'MAMP', 'pretrain', UNION),
    Row('mamp-itself', 'mamp', 'MAMP', 'pretrain', 'itself'),
    Row(
        'recommended-union',
        'mamp',
        'recommended',
        'pretrain-recommended',
        UNION,
    ),
    Row(
        'long-union',
        'mamp',
        'recommended, five times as long',
        'pretrain-long',
        UNION,
    ),
    Row(
        'recommended-itself',
        'mamp',
        'recommended',
        'pretrain-recommended',
        'itself',
    ),
    Row('mae-union', 'mamp', 'reconstruction', 'mae', UNION),
    Row('mae-itself', 'mamp', 'reconstruction', 'mae', 'itself'),
    Row('stgcnpp-none', 'stgcnpp', 'none', tuning='scratch'),
    Row('stgcnpp-union', 'stgcnpp', 'MAMP', 'pretrain', UNION),
    Row(
        'stgcnpp-auxiliary',
        'stgcnpp',
        'MAMP beside the labels',
        tuning='auxiliary',
        probed=False,
    ),
)
QUICK = tuple(
    row
    for row in ROWS
    if row.name in ('mamp-none', 'mamp-itself', 'mae-itself')
)
# What pre-training may change, each on the union alone.
STUDY = (
    Row('exact', 'mamp', 'MAMP', 'pretrain', UNION),
    Row('none', 'mamp', 'none', tuning='scratch'),
    option('fast', 'fast: cross-attention, a quarter decoded'),
    option('nat', 'fast, joints normalised over the clip'),
    option('accel', 'fast, motion and acceleration'),
    option('weighted', 'fast, loss weighted by motion'),
    option('tube', 'fast, tube masks'),
    option('limb', 'fast, limb masks'),
    option('latent', 'fast, features of a teacher'),
    option('mask75', 'fast, three quarters masked'),
    option('recommended', 'the last and weighted: recommended'),
    option('long', 'recommended, five times as long'),
    option('turned', 'recommended, turned more about the vertical axis'),
    variant('rate', 'recommended, a rate of 3e-3', '3e-3'),
    variant('slow', 'recommended, a rate of 3e-4', '3e-4'),
    variant('wide', 'recommended, 256 wide', None, (256, 4, 2)),
    variant('wide-slow', 'the same, a rate of 3e-4', '3e-4', (256, 4, 2)),
    variant('deep', 'recommended, 8 blocks', None, (128, 8, 2)),
)


# What fine-tuning may change; all three together are the paper's.
RATE = 'optim_wrapper.optimizer.lr=3e-4'
DECAY = 'optim_wrapper.paramwise_cfg.layer_decay=0.8'
DROP_PATH = 'model.backbone.drop_path_rate=0.3'
TUNING = (
    Row('none', 'mamp', 'none', tuning='scratch'),
    fine_tuning('recommended', 'recommended'),
    fine_tuning('decay', 'recommended, layer decay 0.8', DECAY),
    fine_tuning('rate', 'recommended, a rate of 3e-4', RATE),
    fine_tuning('drop', 'recommended, drop path 0.3', DROP_PATH),
    fine_tuning('paper', 'recommended, all three', RATE, DECAY, DROP_PATH),
)

ALL, TENTH, FEW = 'all', '10 %', '3 a class'  # labels


@dataclass(frozen=True)
class Step:
    """A kind of work; those with a title are columns of the tables."""

    work: str
    labels: str | None = None
    title: str | None = None


# In the order of work.
STEPS = {
    'encoder': Step('pretrain'),
    'features': Step('extract'),
    'knn': Step('neighbours', ALL, 'nearest neighbours'),
    'linear': Step('regression', ALL, 'logistic regression'),
    'linear-few': Step('regression', FEW, 'logistic regression, 3 a class'),
    'tuned-few': Step('tune', FEW, 'fine-tuned, 3 a class'),
    'tuned-10': Step('tune', TENTH, 'fine-tuned, 10 %'),
    'tuned-all': Step('tune', ALL, 'fine-tuned, all labels'),
}
MEASURES = tuple(name for name, step in STEPS.items() if step.title)
# Fine-tuning with few labels: epochs are short, a larger batch not filled.
FEW_EPOCHS, FEW_BATCH = 100, 8
WEIGHT_DECAY = 1e-2  # of the logistic regression
# Seconds of one core: to start a training, to extract and classify features.
START, EXTRACTION, CLASSIFICATION = 12, 6, 2
BUILDING = Lock()  # the random numbers of weights belong to one at a time
# Samples a second on one core, at the sizes of the configs: of a protocol, or
# of a kind of work.
SPEEDS = {
    ('mamp', 'pretrain'): 77,
    ('mamp', 'pretrain-recommended'): 139,
    ('mamp', 'pretrain-long'): 122,
    ('mamp', 'tune'): 55,
    ('stgcnpp', 'pretrain'): 50,
    ('stgcnpp', 'tune'): 66,
}
TOY_SPEEDS = {('mamp', 'pretrain'): 175, ('mamp', 'tune'): 70}


@dataclass(frozen=True)
class Budget:
    """How much is done; what is None stays as in the configs."""

    epochs: int | None = None  # of everything
    stretch: float = 1  # times as many epochs of pre-training
    transformer: tuple | None = None  # width, blocks, the decoder's
    base_channels: int | None = None  # of the GCNs
    data: tuple = KINECT
    rows: tuple = ROWS
    measures: tuple = MEASURES
    against: str | None = None  # row that others are compared with
    seeds: tuple = (0, 1, 2)
    draws: int = 3  # of few labels, for each seed
    subjects: int | None = None  # of made data, which stands in for all
    held_out: bool = False  # some training subjects stand in for test data
    speeds: dict | None = None  # of trainings, where they are known

    def data_set(self, name: str) -> DataSet:
        """A data set, or what is made in its place."""
        data = DATA[name]
        if self.held_out:
            data = replace(data, sequences=data.others)
        if not self.subjects:
            return data
        classes = DATA['toy'].classes
        # Half of the subjects, or one of the two views.
        sequences = self.subjects * classes
        return replace(data, classes=classes, sequences=sequences)


BUDGETS = dict(
    smoke=Budget(
        epochs=2,
        transformer=(32, 2, 1),
        base_channels=8,
        seeds=(0,),
        draws=1,
        subjects=6,
    ),
    quick=Budget(
        data=('toy',),
        rows=QUICK,
        measures=('knn', 'linear', 'linear-few', 'tuned-few'),
        seeds=(0,),
        subjects=16,
        speeds=TOY_SPEEDS,
    ),
    small=Budget(speeds=SPEEDS),
    study=Budget(
        stretch=0.7,
        measures=('knn', 'linear', 'linear-few'),
        rows=STUDY,
        held_out=True,
        speeds=SPEEDS,
    ),
    tuning=Budget(
        stretch=0.7,
        measures=('tuned-all',),
        rows=TUNING,
        held_out=True,
        speeds=SPEEDS,
    ),
    full=Budget(stretch=4, transformer=(256, 8, 5), base_channels=64),
)


@dataclass(frozen=True)
class Cell:
    """One piece of work; its result is one value of the tables."""

    name: str  # of its folder
    step: str
    row: Row
    data: str
    seed: int
    draw: int  # of the labels
    start: str | None  # name of the cell that it starts from
    config: Path
    options: dict  # what is changed in the config
    samples: int = 0  # that are trained on, over all epochs


def plan(budget: Budget, folder: Path) -> list[Cell]:
    """All work, in its order; annotation files lie in ``folder``.

    What comes before another cell, such as the encoder that it starts from,
    comes before it here.
    """
    cells = {}
    steps = [name for name in STEPS if name not in MEASURES]
    steps += [name for name in MEASURES if name in budget.measures]
    for seed, row, step in product(budget.seeds, budget.rows, steps):
        draws = 1 if STEPS[step].labels in (None, ALL) else budget.draws
        for draw, data in product(range(draws), budget.data):
            cell = _cell(budget, folder, seed, row, step, draw, data)
            if cell is not None:
                cells.setdefault(cell.name, cell)  # the union's encoder once
    needed = {cell.start for cell in cells.values()}
    return [
        cell
        for cell in cells.values()
        if cell.step in MEASURES or cell.name in needed
    ]


def _cell(budget, folder, seed, row, step, draw, data) -> Cell | None:
    """One cell, None where the row has none of this kind."""
    work, labels = STEPS[step].work, STEPS[step].labels
    pretrains, tunes = work == 'pretrain', work == 'tune'
    if not (row.protocol if pretrains else tunes or row.probed):
        return None
    place = '' if row.corpus == UNION else f'/{data}'
    encoder = f'seed{seed}/{row.encoder or row.name}{place}/encoder'
    here = f'seed{seed}/{row.name}/{data}'
    name, start = f'{here}/{step}', encoder if row.protocol else None
    if pretrains:
        name, start = encoder, None
    elif work in ('neighbours', 'regression'):
        start = f'{here}/features'
    few = labels in (TENTH, FEW)
    if few:
        name += f'-draw{draw}'
    members = [data]
    if pretrains and row.corpus == UNION:
        members = KINECT
    config = config_file(row, work, data)
    options = data_options(budget, folder, members)
    options |= model_options(budget, row, pretrains)
    samples = sum(budget.data_set(name).sequences for name in members)
    epochs = int(re.search(r'-(\d+)e_', config.name)[1])
    # The auxiliary loss takes all sequences, with a label or without.
    joint = row.tuning == 'auxiliary'
    if few:
        count = label_count(budget, data, labels)
        options |= {
            'train_dataloader.dataset.label_ratio': (count + 0.5) / samples,
            'train_dataloader.dataset.label_balanced': True,
            'train_dataloader.dataset.label_seed': 100 * seed + draw,
        }
        if not joint:
            samples, epochs = count, FEW_EPOCHS
            options['train_dataloader.batch_size'] = FEW_BATCH
    elif joint:
        options['train_dataloader.dataset.label_ratio'] = 1.0
    if pretrains:
        epochs = round(epochs * budget.stretch)
    options |= dict(row.pretraining_changes if pretrains else row.changes)
    epochs = budget.epochs or epochs
    if pretrains or tunes:
        options |= {
            'train_cfg.max_epochs': epochs,
            'train_cfg.val_interval': epochs,
            'default_hooks.checkpoint.max_keep_ckpts': 1,
            'default_hooks.checkpoint.save_best': None,
        }
        if budget.epochs:
            options['param_scheduler.warmup'] = 0
    else:
        epochs = 0
    samples *= epochs
    return Cell(
        name, step, row, data, seed, draw, start, config, options, samples
    )


def label_count(budget: Budget, name: str, labels: str) -> int:
    """How many sequences of a data set are labelled."""
    data = budget.data_set(name)
    if labels == FEW:
        return 3 * data.classes
    return data.sequences if labels == ALL else data.sequences // 10


def data_options(budget: Budget, folder: Path, members: Sequence) -> dict:
    """What a config is told of the data."""
    options = {}
    for loader, place in product(('train', 'val'), range(len(members))):
        key = f'{loader}_dataloader.dataset'
        if len(members) > 1:
            key += f'.datasets.{place}'
        elif budget.subjects:
            options[f'{key}.num_classes'] = DATA['toy'].classes
        file = folder / f'{DATA[members[place]].file}.pkl'
        options[f'{key}.ann_file'] = file
    return options


def model_options(budget: Budget, row: Row, pretrains: bool) -> dict:
    """What a config is told of the network's size."""
    options, width = {}, None
    transformer = row.transformer or budget.transformer
    if row.model == 'mamp' and transformer:
        width, depth, decoder_depth = transformer
        options = {'backbone.embed_dims': width, 'backbone.depth': depth}
        if pretrains:
            options['neck.depth'] = decoder_depth
    elif row.model != 'mamp' and budget.base_channels:
        width = 4 * budget.base_channels
        options = {'backbone.base_channels': budget.base_channels}
        if pretrains:
            options['neck.embed_dims'] = width
    if width:
        own = (
            'neck.decoder_embed_dims' if pretrains else 'cls_head.in_channels'
        )
        options[own] = width
    if budget.subjects and not pretrains:
        options['cls_head.num_classes'] = DATA['toy'].classes
    return {f'model.{key}': x for key, x in options.items()}


def config_file(row: Row, work: str, data: str) -> Path:
    """The config of a row's pre-training, or of its classifier."""
    place = f'{data}-{DATA[data].split}'
    if work == 'pretrain':
        protocol = row.protocol
        place = UNION if row.corpus == UNION else place
    else:
        protocol = row.tuning
        place += f'-from-{UNION}' if row.corpus == UNION else ''
    name = f'{row.model}_1xb*-{protocol}-[0-9]*e_{place}-keypoint-3d.py'
    for path in CONFIGS.rglob(name):
        return path
    raise FileNotFoundError(f'There is no config {name} below {CONFIGS}.')


def do(cell: Cell, folder: Path, threads: int) -> None:
    """Do one cell in a folder of its own, unless it is done already.

    A training that was cut off goes on from its last checkpoint.
    """
    from mamp_mmaction.utils.resumable import do_once

    asked = dict(config=cell.config.name, seed=cell.seed, start=cell.start)
    asked['options'] = {key: str(x) for key, x in cell.options.items()}
    works = dict(pretrain=train, tune=train, extract=extract)
    work = works.get(STEPS[cell.step].work, classify)
    began = time.monotonic()
    if do_once(folder / cell.name, asked, lambda: work(cell, folder, threads)):
        spent = time.monotonic() - began
        print(f'  {cell.name}: done ({spent:.0f} s)', flush=True)


def train(cell: Cell, folder: Path, threads: int) -> dict:
    """Train, and return what the test data gave after the last epoch."""
    from mamp_mmaction.evaluation.run_log import last_and_best, read_curve
    from mamp_mmaction.utils import resumable

    own = folder / cell.name
    command = ['train', cell.config, '--work-dir', own, '--seed', cell.seed]
    weights, last = None, own / 'last_checkpoint'
    # A training whose final test was cut off would not be tested any more:
    # it begins anew. With --resume, train.py would take what load_from names
    # for a checkpoint of this training.
    end = f'epoch_{cell.options["train_cfg.max_epochs"]}.pth'
    if last.exists() and not last.read_text().endswith(end):
        command.append('--resume')
    elif cell.start:
        weights = (folder / cell.start / 'last_checkpoint').read_text()
    options = dict(load_from=weights, **cell.options)
    command += ['--cfg-options', *(f'{k}={v}' for k, v in options.items())]
    spent = resumable.run_tool(command, own / 'console.log', threads)
    keys = dict(top1='acc/top1')
    if STEPS[cell.step].work == 'pretrain':
        keys = dict(loss='masked_motion/mse', zero='masked_motion/zero_mse')
    curves = {name: read_curve(own, key) for name, key in keys.items()}
    if not all(curves.values()):
        raise ValueError(f'The logs below {own} lack one of {keys}.')
    if cell.step in MEASURES:  # nothing starts from it
        for checkpoint in own.glob('*.pth'):
            checkpoint.unlink()
        last.unlink(missing_ok=True)
    result = {name: last_and_best(x)['last'] for name, x in curves.items()}
    # A training that went on does not know what came before.
    return result | ({} if '--resume' in command else dict(seconds=spent))


def extract(cell: Cell, folder: Path, threads: int) -> dict:
    """Write the features of both splits."""
    import numpy as np

    from mamp_mmaction.config import load_config
    from mamp_mmaction.evaluation.extraction import (
        extract_features,
        model_with_backbone,
        split_dataloader,
    )

    checkpoint = cell.start
    if cell.start:
        checkpoint = (folder / cell.start / 'last_checkpoint').read_text()
    with BUILDING:
        options = dict(cell.options)
        for loader in ('train_dataloader', 'val_dataloader'):
            # Other threads compute: no process may be forked here.
            options[f'{loader}.num_workers'] = 0
            options[f'{loader}.persistent_workers'] = False
        options = [f'{key}={x}' for key, x in options.items()]
        cfg = load_config(cell.config, options)
        model = model_with_backbone(cfg, checkpoint, cell.seed)
        loaders = {x: split_dataloader(cfg, x) for x in ('train', 'val')}
    for split, loader in loaders.items():
        found = extract_features(model, loader)
        arrays = dict(features=found.features, labels=found.labels)
        arrays['names'] = found.names
        np.savez(folder / cell.name / f'{split}.npz', **arrays)
    return {}


def classify(cell: Cell, folder: Path, threads: int) -> dict:
    """Classify features, trained on those with a label."""
    import numpy as np
    import torch
    from mmengine.config import Config

    from mamp_mmaction.datasets import SkeletonDataset
    from mamp_mmaction.evaluation.probes import knn_accuracy, linear_accuracy

    sets = []
    for split in ('train', 'val'):
        with np.load(folder / cell.start / f'{split}.npz') as file:
            sets.append(dict(file))
    if STEPS[cell.step].labels != ALL:  # those that fine-tuning has, too
        cfg = Config.fromfile(cell.config)
        cfg.merge_from_dict(cell.options)
        options = dict(cfg.train_dataloader.dataset, pipeline=[])
        options.pop('type')
        drawn = SkeletonDataset(**options, lazy_init=True).load_data_list()
        names = {annotation['frame_dir'] for annotation in drawn}
        kept = np.isin(sets[0]['names'], sorted(names))
        sets[0] = {key: x[kept] for key, x in sets[0].items()}
    x = [
        torch.from_numpy(arrays[key])
        for arrays in sets
        for key in ('features', 'labels')
    ]
    if STEPS[cell.step].work == 'neighbours':
        return dict(top1=knn_accuracy(*x, k=1))
    return dict(top1=linear_accuracy(*x, WEIGHT_DECAY))


def describe_work(budget: Budget, cells: list[Cell], folder: Path) -> str:
    """What is left to do and, where speeds are known, how long it takes."""
    from mamp_mmaction.utils.resumable import read_result

    left = [c for c in cells if read_result(folder / c.name) is None]
    text = f'{len(left)} of {len(cells)} pieces of work are left'
    if not (left and budget.speeds):
        return text
    hours = {}  # by seed
    for cell in left:
        spent = seconds(cell, budget.speeds) / 3600
        hours[cell.seed] = hours.get(cell.seed, 0) + spent
    each = ', '.join(f'{x:.1f} of seed {seed}' for seed, x in hours.items())
    return f'{text}, some {sum(hours.values()):.1f} hours of a core ({each})'


def seconds(cell: Cell, speeds: dict) -> float:
    """Seconds of one core that a cell takes, about."""
    work = STEPS[cell.step].work
    if not cell.samples:
        return EXTRACTION if work == 'extract' else CLASSIFICATION
    works = [work]
    if cell.row.tuning == 'auxiliary':
        works = ['pretrain', 'tune']
    elif work == 'pretrain' and (cell.row.model, cell.row.protocol) in speeds:
        works = [cell.row.protocol]
    spent = [cell.samples / speeds[cell.row.model, work] for work in works]
    return START + sum(spent)


def collect(budget: Budget, cells: list[Cell], results: dict) -> list[dict]:
    """What there is of each measure of each row on each data set.

    Accuracies in percent, by seed and draw; their mean and standard error;
    and the difference from the first row of that model, or from the row that
    the budget names, over the seeds and draws that both have. The same of the
    mean of all data sets.
    """
    from mamp_mmaction.evaluation.comparison import (
        estimate,
        independent,
        paired_difference,
    )

    found = {}
    for cell in cells:
        if cell.step in MEASURES and cell.name in results:
            values = found.setdefault((cell.data, cell.row, cell.step), {})
            top1 = results[cell.name]['top1']
            values[cell.seed, cell.draw] = 100 * top1
    for row, step in {key[1:]: None for key in found}:
        every = [found.get((name, row, step), {}) for name in budget.data]
        shared = [key for key in every[0] if all(key in x for x in every)]
        if len(every) > 1 and shared:
            means = {key: fmean(x[key] for x in every) for key in shared}
            found[MEAN, row, step] = means
    measures = []
    for (data, row, step), values in found.items():
        measure = dict(data=data, row=row.name, measure=step)
        measure['values'] = {
            f'seed {seed}, draw {draw}': value
            for (seed, draw), value in values.items()
        }
        measure['top1'] = estimate(independent(values))
        reference = reference_row(budget, row.model)
        if row != reference:
            others = found.get((data, reference, step), {})
            measure['difference'] = paired_difference(values, others)
        measures.append(measure)
    return measures


def reference_row(budget: Budget, model: str) -> Row:
    """The row that others of a model are compared with."""
    named = [row for row in budget.rows if row.name == budget.against]
    return (named or [row for row in budget.rows if row.model == model])[0]


def format_tables(budget: Budget, measures: list, costs: dict) -> str:
    """Accuracies and differences of each data set as Markdown tables.

    The mean of all data sets comes first, with what pre-training costs.
    """
    texts = []
    for name in (MEAN, *budget.data):
        own = [m for m in measures if m['data'] == name]
        if name == MEAN and own:
            texts.append('### Mean of the data sets')
            texts += tables_of(budget, own, costs)
        elif own:
            data = budget.data_set(name)
            few, tenth, every = (
                label_count(budget, name, x) for x in (FEW, TENTH, ALL)
            )
            texts.append(
                f'### {data.title}\n\nSequences with a label: all {every}; '
                f'10 %, {tenth}; about 3 of each of {data.classes} classes, '
                f'{few}.'
            )
            texts += tables_of(budget, own, {})
    return '\n\n'.join(texts)


def tables_of(budget: Budget, measures: list, costs: dict) -> Iterator[str]:
    """Accuracies, and their differences, of one data set."""
    from mamp_mmaction.utils import markdown_table

    found = {(m['row'], m['measure']): m for m in measures}
    columns = [
        step
        for step in budget.measures
        if any((row.name, step) in found for row in budget.rows)
    ]
    reference = reference_row(budget, budget.rows[0].model).pretraining
    for key, title in (
        ('top1', 'pre-training'),
        ('difference', f'difference from {reference}'),
    ):
        rows = []
        for row in budget.rows:
            of_row = [found.get((row.name, x), {}) for x in columns]
            ends = [show(x.get(key), key) for x in of_row]
            if any(ends):
                cost = [costs.get(row.name)] if costs else []
                titles = TITLES[row.model], row.pretraining
                rows.append((*titles, CORPORA.get(row.corpus), *cost, *ends))
        header = ['model', title, 'on', *(STEPS[x].title for x in columns)]
        if costs:
            header.insert(3, '>cost of pre-training')
        if rows:
            yield markdown_table(header, rows)


def show(estimate: object | None, key: str) -> str | None:
    """A mean or a difference as text."""
    if estimate is None or key == 'top1':
        return estimate and f'{estimate:.1f}'
    text = f'{estimate:+.1f}'
    return (
        f'**{text}**' if estimate.is_shown else f'no difference shown ({text})'
    )


def pretraining_costs(cells: list[Cell], results: dict) -> dict:
    """Time of the cores for each row, as shares of the first row's.

    Times of one machine are compared with those of no other.
    """
    spent = {}
    for cell in cells:
        found = results.get(cell.name, {})
        seconds = found.get('seconds')
        if cell.row.corpus == UNION and cell.step == 'encoder' and seconds:
            key = cell.row.name, found['machine']
            spent.setdefault(key, []).append(seconds)
    shares = {}
    first = next(iter(spent), [None])[0]
    for (name, machine), values in spent.items():
        if (first, machine) in spent:
            share = fmean(values) / fmean(spent[first, machine])
            shares.setdefault(name, []).append(share)
    return {name: f'{fmean(values):.2f}' for name, values in shares.items()}


def draw_plot(budget: Budget, measures: list[dict], path: Path) -> bool:
    """Draw accuracy of fine-tuning against labels, for the first model."""
    from mamp_mmaction.utils.plots import draw_curves

    model = budget.rows[0].model
    rows = {row.name: row for row in budget.rows}
    panels = {budget.data_set(name).title: {} for name in budget.data}
    tuned = [
        m
        for m in measures
        if rows[m['row']].model == model
        and STEPS[m['measure']].work == 'tune'
        and m['data'] != MEAN
    ]
    several = len({rows[m['row']].corpus for m in tuned} - {None}) > 1
    for m in tuned:
        row, step = rows[m['row']], STEPS[m['measure']]
        corpus = f' on {CORPORA[row.corpus]}' if several and row.corpus else ''
        panel = panels[budget.data_set(m['data']).title]
        panel.setdefault(f'{row.pretraining}{corpus}', []).append(
            (
                label_count(budget, m['data'], step.labels),
                m['top1'].mean,
                m['top1'].error,
            )
        )
    panels = {title: curves for title, curves in panels.items() if curves}
    if panels:
        draw_curves(
            path,
            panels,
            'sequences with a label',
            'accuracy, %',
            f'{TITLES[model]}, fine-tuned, by its pre-training',
        )
    return bool(panels)


def settings(cell: Cell) -> str:
    """What tells a cell from one of other settings, wherever its data lie."""
    options = {
        key: x.name if isinstance(x, Path) else str(x)
        for key, x in cell.options.items()
    }
    text = json.dumps([cell.config.name, cell.start, options])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_results(cells: list, folder: Path, others: Sequence) -> tuple:
    """Results by the names of cells, each with its machine; all machines.

    Those of ``others``, files ``results.json``, count where the folder has
    none.
    """
    from mamp_mmaction.utils import describe_machine
    from mamp_mmaction.utils.resumable import read_result

    results = {}
    for file in others:
        content = json.loads(file.read_text())
        for cell in cells:
            found = content['results'].get(cell.name)
            if found is None:
                continue
            if found.pop('settings') != settings(cell):
                raise ValueError(
                    f'{file}: {cell.name} was made with other settings than '
                    'this command has now: leave the file out.'
                )
            machine = content['machines'][found.pop('machine', 0)]
            results[cell.name] = dict(found, machine=machine)
    for cell in cells:
        found = read_result(folder / cell.name)
        if found is not None:
            results[cell.name] = dict(found, machine=describe_machine())
    if not results:
        raise ValueError(f'Nothing in {folder} is finished.')
    return results, list(dict.fromkeys(x['machine'] for x in results.values()))


def write_report(
    name: str, budget: Budget, cells: list, folder: Path, others: Sequence = ()
) -> str:
    """Write ``results.md``, ``.json`` and ``.png``; return the tables."""
    from mamp_mmaction.utils import written_whole

    results, machines = read_results(cells, folder, others)
    measures = collect(budget, cells, results)
    costs = pretraining_costs(cells, results)
    tested = 'held-out subjects' if budget.held_out else 'test data'
    tables = (
        f'Budget `{name}`; {len(results)} of {len(cells)} pieces of work are '
        f'finished. Top-1 accuracy on {tested} at the end, %: mean and '
        'standard error over seeds, each the mean of its draws of the labels, '
        'or over the draws of a single seed. Differences are paired by seed '
        'and draw; those of more than two standard errors, over three values '
        'or more, are bold; of others no difference is shown.'
        f'\n{"; ".join(machines)}.\n\n'
        f'{format_tables(budget, measures, costs)}'
    )
    if draw_plot(budget, measures, folder / 'results.png'):
        tables += '\n\n![Accuracy against labels](results.png)'
    content = dict(budget=name, machines=machines, measures=measures)
    content['results'] = {
        cell.name: results[cell.name]
        | dict(
            settings=settings(cell),
            machine=machines.index(results[cell.name]['machine']),
        )
        for cell in cells
        if cell.name in results
    }
    for file, text in (
        ('results.md', f'{tables}\n'),
        ('results.json', json.dumps(content, default=asdict, indent=2)),
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
        '--data-dir',
        type=Path,
        default=Path('data'),
        help='of msr_action3d.pkl, nw_ucla.pkl and utd_mhad.pkl by the tools '
        'in tools/data; smoke and quick make their data (default: data)',
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
        help='do nothing, write the tables of what is finished',
    )
    parser.add_argument(
        '--merge',
        type=Path,
        nargs='+',
        default=[],
        metavar='FILE',
        help='results.json of other machines, which have done other seeds: '
        'the tables count them, too',
    )
    for name, choices, text in (
        ('data', KINECT, 'data sets'),
        ('rows', None, "of the tables, by their folders' names"),
        ('measures', MEASURES, 'columns of the tables'),
    ):
        parser.add_argument(
            f'--{name}',
            nargs='+',
            choices=choices,
            help=f"{text} (default: the budget's)",
        )
    parser.add_argument(
        '--against',
        metavar='ROW',
        help='that others are compared with (default: the first of a model)',
    )
    for name, count, text in (
        ('seeds', '+', "that everything is done with (default: the budget's)"),
        ('draws', None, "of few labels for each seed (default: the budget's)"),
        (
            'jobs',
            None,
            'at a time, sharing the cores (default: a GPU 1, else cores)',
        ),
    ):
        parser.add_argument(
            f'--{name}', type=int, nargs=count, metavar='N', help=text
        )
    args = parser.parse_args(argv)
    for name in ('draws', 'jobs'):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f'--{name} must be at least 1')
    known = [row.name for row in BUDGETS[args.budget].rows]
    for name in set(args.rows or []) - set(known):
        parser.error(f'--rows: {name!r} is none of {", ".join(known)}')
    if args.against not in (None, *(args.rows or known)):
        parser.error(f'--against: {args.against!r} is none of the rows')
    return args


def reproduce(args: argparse.Namespace) -> None:
    """Work and report as the command line says."""
    import torch
    from mmengine.logging import MMLogger

    from mamp_mmaction.utils import available_cores
    from mamp_mmaction.utils.resumable import run_in_order

    budget = BUDGETS[args.budget]
    given = {
        key: tuple(x) if isinstance(x, list) else x
        for key in ('data', 'measures', 'seeds', 'draws', 'against')
        if (x := getattr(args, key))
    }
    if args.rows:
        given['rows'] = tuple(
            row for row in budget.rows if row.name in args.rows
        )
    budget = replace(budget, **given)
    folder = (args.work_dir / args.budget).resolve()
    own_data = budget.subjects or budget.held_out
    data_dir = folder if own_data else args.data_dir.resolve()
    cells = plan(budget, data_dir)
    if not args.report:
        cores = available_cores()
        prepare_data(budget, data_dir, args.data_dir, cores)
        jobs = args.jobs or (1 if torch.cuda.is_available() else cores)
        work = describe_work(budget, cells, folder)
        print(f'{work}; {jobs} at a time:', flush=True)
        threads = max(cores // jobs, 1)
        torch.set_num_threads(threads)
        MMLogger.get_current_instance().setLevel('ERROR')
        run_in_order(cells, lambda cell: do(cell, folder, threads), jobs)
    tables = write_report(args.budget, budget, cells, folder, args.merge)
    print(f'\n{tables}\n\nWritten to {folder}, results.*')


def prepare_data(
    budget: Budget, folder: Path, recordings: Path, threads: int
) -> None:
    """Make the data that is made, and miss what is missing."""
    from mamp_mmaction.utils import resumable

    union = any(row.corpus == UNION for row in budget.rows)
    for name in KINECT if union else budget.data:
        data = DATA[name]
        path = folder / f'{data.file}.pkl'
        if path.exists():
            continue
        if budget.subjects:
            layout = 'nturgb+d' if data.file == 'toy' else data.file
            command = ['data/make_toy_dataset', path, '--layout', layout]
            command += ['--subjects', budget.subjects]
            resumable.run_tool(command, folder / 'data.log', threads)
            continue
        source = recordings / path.name
        if not source.exists():
            raise FileNotFoundError(
                f'There is no annotation file {source}: convert the '
                f'recordings with tools/data/{data.file}.py, or give '
                '--data-dir.'
            )
        if budget.held_out:
            hold_out(data, source, path)


def hold_out(data: DataSet, source: Path, path: Path) -> None:
    """Write the training split alone, and split it by subjects."""
    from mamp_mmaction.datasets.annotation_file import (
        read_annotations,
        write_annotations,
    )

    content = read_annotations(source)
    split = {f'{data.split}_train': [], f'{data.split}_val': []}
    for name in content['split'][f'{data.split}_train']:
        subject = int(SUBJECT.search(name)[1])
        part = 'val' if subject in data.held_out else 'train'
        split[f'{data.split}_{part}'].append(name)
    kept = {name for names in split.values() for name in names}
    annotations = [
        annotation
        for annotation in content['annotations']
        if annotation['frame_dir'] in kept
    ]
    write_annotations(path, split, annotations, content.get('classes'))


def main(argv=None):
    """Run the command."""
    args = parse_args(argv)
    from mamp_mmaction.utils import errors_as_one_line

    with errors_as_one_line():
        reproduce(args)


if __name__ == '__main__':
    main()
