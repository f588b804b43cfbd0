"""Show how fast the package is, one optimisation after the other.

Prints Markdown tables; without names of sections all of them:

  pipeline   a sample through the transforms, beside the toolbox's ST-GCN++
  step       a pre-training step, its optimisations switched on one by one
  inference  equal persons computed once, and fewer tokens by keep_ratio
  absent     a pre-training step that leaves out persons who are not there
  scale      how a step grows with frames and persons
  processes  a step on one and on two processes of the CPU
  runner     pre-training through mmengine's Runner, loading of data included

No data is needed: skeletons are made that have the size and the lengths of
NTU RGB+D 60. What is compared is timed in turns, so that a machine that
changes its pace favours nothing.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import torch.distributed as dist
import torch.nn as nn
from benchmark import (
    count_flops,
    find_dataset,
    load_config,
    make_annotation,
    time_calls,
    type_name,
)
from mmaction.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner, load_checkpoint
from training_runs import ROOT, describe_machine, write_text

from mamp_mmaction.datasets.annotation_file import write_annotations
from mamp_mmaction.datasets.conversion import available_cores
from mamp_mmaction.engine.amp_optim_wrapper import supports_bfloat16
from mamp_mmaction.models import layers, mamp_transformer
from mamp_mmaction.models.distinct_persons import distinct_persons

DATA_CONFIG = ROOT / 'configs' / '_base_' / 'datasets' / 'ntu60-xsub.py'
TOOLBOX_CONFIG = (
    'mmaction::skeleton/stgcnpp/'
    'stgcnpp_8xb16-joint-u100-80e_ntu60-xsub-keypoint-3d.py'
)
METRIC = 'acc/top1'
SPLIT = 'train'  # of the made skeletons
# Of NTU RGB+D 60: lengths of its sequences (log-normal, cut), distance of
# the camera in metres, classes, and the pre-training of the paper.
MEDIAN_FRAMES, FRAMES_SIGMA, FRAMES_RANGE = 80, 0.35, (30, 250)
CAMERA = np.float32((0, 0, 3))
NUM_CLASSES = 60
TRAINING_SEQUENCES, EPOCHS = 40_091, 400

PATCH = 4  # frames of a token, as in all recipes
KEEP_RATIOS = (1, 0.5, 0.25, 0.125)
# What rounding may change in a loss, relative to it.
TOLERANCE, BFLOAT16_TOLERANCE = 1e-3, 3e-2


@dataclass
class Table:
    """A table of the report.

    Attributes:
        title (str): What is compared.
        columns (dict[str, str]): Keys of the rows' values by heading.
        rows (list[dict]): The rows; what has no column goes to JSON alone.
            A row with ``error`` shows that behind its first value.
        notes (list[str]): What a reader has to know.
    """

    title: str
    columns: dict[str, str]
    rows: list[dict]
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        headings = list(self.columns)
        lines = [headings, ['---'] + ['---:'] * (len(headings) - 1)]
        lines += [self._cells(row) for row in self.rows]
        table = '\n'.join(f'| {" | ".join(cells)} |' for cells in lines)
        notes = ''.join(f'\n- {note}' for note in self.notes)
        return f'**{self.title}**\n\n{table}\n{notes}'.rstrip()

    def _cells(self, row: dict) -> list[str]:
        cells = [format_value(row.get(key)) for key in self.columns.values()]
        if 'error' in row:
            # A bar would end the cell.
            cells[0] += f': {row["error"]}'.replace('|', '/')
        return cells


TIME_COLUMNS = {'median, ms': 'median_ms', 'quartiles': 'quartiles_ms'}


def format_value(value: object) -> str:
    """A cell: numbers with three digits, a range as ``low to high``.

    Args:
        value (object): The value; None is a hyphen.
    """
    if value is None:
        return '-'
    if isinstance(value, (list, tuple)):
        return ' to '.join(map(format_value, value))
    if isinstance(value, int):
        return f'{value:,}'
    if isinstance(value, float):
        return f'{value:,.0f}' if abs(value) >= 100 else f'{value:.3g}'
    return str(value)


# Measuring


def summarise_times(times_ms: Sequence[float]) -> dict:
    """All times with their median and quartiles, in ms."""
    low, median, high = np.percentile(times_ms, (25, 50, 75)).tolist()
    return dict(
        times_ms=list(times_ms), median_ms=median, quartiles_ms=[low, high]
    )


def time_in_turns(
    calls: dict[str, Callable[[], object]], args: argparse.Namespace
) -> dict[str, dict]:
    """Time calls that are compared, once each in every repeat.

    Args:
        calls (dict[str, Callable]): The calls by name.
        args (Namespace): The command line.

    Returns:
        dict[str, dict]: For each what :func:`summarise_times` returns.
    """
    once = argparse.Namespace(device=args.device, warmup=0, repeats=1)
    for call in calls.values():
        for _ in range(args.warmup):
            call()
    times = {name: [] for name in calls}
    for _ in range(args.repeats):
        for name, call in calls.items():
            times[name] += time_calls(call, args.batch_size, once)['times_ms']
    return {name: summarise_times(values) for name, values in times.items()}


def peak_memory(step: Callable[[], object], model: nn.Module) -> float:
    """Memory that a training step needs beside what is kept between steps.

    Args:
        step (Callable): A step that was made before, so that the optimiser
            has its state.
        model (nn.Module): What it trains.

    Returns:
        float: MiB; on a GPU the peak of what torch allocated, on the CPU
        what is saved for the backward pass, each storage once, parameters
        left out.
    """
    if next(model.parameters()).is_cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    saved = {}

    def note(x: torch.Tensor) -> torch.Tensor:
        storage = x.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        step()
    for parameter in model.parameters():
        saved.pop(parameter.untyped_storage().data_ptr(), None)
    return sum(saved.values()) / 2**20


# What is measured


def write_skeletons(path: Path, args: argparse.Namespace) -> str:
    """Write an annotation file of made skeletons.

    Args:
        path (Path): The file.
        args (Namespace): The command line; ``single_person`` of the
            ``samples`` hold one body, evenly spread.

    Returns:
        str: The path.
    """
    rng = np.random.default_rng(0)
    lengths = rng.lognormal(np.log(MEDIAN_FRAMES), FRAMES_SIGMA, args.samples)
    annotations = []
    for index, frames in enumerate(lengths.clip(*FRAMES_RANGE).astype(int)):
        singles = [int(n * args.single_person) for n in (index, index + 1)]
        persons = args.persons if singles[0] == singles[1] else 1
        shape = (persons, int(frames), args.joints, 3)
        annotation = make_annotation(index, shape, pipeline=())
        annotation['keypoint'] += CAMERA
        annotation['label'] = index % NUM_CLASSES
        annotations.append(annotation)
    names = [annotation['frame_dir'] for annotation in annotations]
    write_annotations(path, {SPLIT: names}, annotations)
    return str(path)


def recipe(name: str, args: argparse.Namespace, **persons) -> list[dict]:
    """A pipeline of the NTU RGB+D 60 recipes, at the sizes asked for.

    Args:
        name (str): Its name in the config of the data set.
        args (Namespace): The command line.
        persons (dict): Further arguments of ``FormatGCNInput``.

    Returns:
        list[dict]: Configs of the transforms.
    """
    changes = {
        'TemporalCropResize': dict(num_frames=args.frames),
        'FormatGCNInput': dict(num_person=args.persons, **persons),
    }
    pipeline = Config.fromfile(DATA_CONFIG)[name]
    return [dict(step, **changes.get(step['type'], {})) for step in pipeline]


def skeletons(ann_file: str, pipeline: Sequence[dict], **kwargs) -> dict:
    """Config of a data set of the made skeletons."""
    cfg = dict(type='SkeletonDataset', ann_file=ann_file, split=SPLIT)
    return dict(cfg, pipeline=list(pipeline), **kwargs)


def build_dataset(
    ann_file: str, pipeline: Sequence[dict], kind: str = 'SkeletonDataset'
) -> BaseDataset:
    """The made skeletons with a pipeline."""
    cfg = dict(skeletons(ann_file, pipeline), type=kind)
    return DATASETS.build(cfg)


def pretraining_batch(
    ann_file: str, args: argparse.Namespace, first: int = 0
) -> dict:
    """A batch for pre-training as the loader collates it, always the same.

    Args:
        ann_file (str): The annotation file.
        args (Namespace): The command line.
        first (int): Index of its first sample. Defaults to 0.
    """
    np.random.seed(first)
    dataset = build_dataset(ann_file, recipe('pretrain_pipeline', args))
    wanted = range(first, first + args.batch_size)
    return pseudo_collate([dataset[i % len(dataset)] for i in wanted])


def encoder_config(args: argparse.Namespace, **kwargs) -> dict:
    """Config of the encoder."""
    keys = ('embed_dims', 'depth', 'num_heads')
    sizes = {key: getattr(args, key) for key in keys}
    return dict(
        type='MAMPTransformer',
        num_frames=args.frames,
        num_joints=args.joints,
        t_patch_size=PATCH,
        **sizes,
        **kwargs,
    )


def pretraining_config(
    args: argparse.Namespace, compiled: bool = False, **head
) -> dict:
    """Config of the pre-training model; ``head`` is for its head."""
    return dict(
        type='MAMP',
        backbone=encoder_config(args),
        neck=dict(
            type='MAMPDecoder',
            decoder_embed_dims=args.embed_dims,
            depth=args.decoder_depth,
        ),
        head=dict(type='MotionPredictionHead', **head),
        compile_cfg={} if compiled else None,
    )


def build_model(cfg: dict, device: str) -> nn.Module:
    """Build a model; the same config gives the same weights."""
    torch.manual_seed(0)
    return MODELS.build(cfg).to(device)


def optimiser_config(
    merged_groups: bool = True, fused: bool = True, bfloat16: bool = False
) -> dict:
    """Config of the recipe's optimiser.

    Args:
        merged_groups (bool): Two parameter groups, instead of one for each
            parameter as the toolbox makes them. Defaults to True.
        fused (bool): Torch's fused AdamW. Defaults to True.
        bfloat16 (bool): Train in bfloat16. Defaults to False.
    """
    if merged_groups:
        groups = dict(constructor='MAMPLayerDecayConstructor')
    else:
        no_decay = dict(norm_decay_mult=0.0, bias_decay_mult=0.0)
        groups = dict(paramwise_cfg=no_decay)
    adamw = dict(type='AdamW', lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05)
    if fused:
        adamw['fused'] = True
    kind = 'AutoAmpOptimWrapper' if bfloat16 else 'OptimWrapper'
    return dict(type=kind, optimizer=adamw, **groups)


@dataclass
class Step:
    """A training step; called again, it goes on with the weights it has.

    Attributes:
        model (nn.Module): The model, on its device.
        optim_wrapper (OptimWrapper): Its optimiser.
        batch (dict): What the model's preprocessor returned.
        context (Callable): Makes a context for every step.
        loss (float): Loss of the last step, before its update.
    """

    model: nn.Module
    optim_wrapper: OptimWrapper
    batch: dict
    context: Callable = nullcontext
    loss: torch.Tensor | None = None

    def __call__(self) -> None:
        """Forward, backward, update."""
        with self.context():
            with self.optim_wrapper.optim_context(self.model):
                losses = self.model(**self.batch, mode='loss')
            loss, _ = self.model.parse_losses(losses)
            self.optim_wrapper.update_params(loss)
        self.loss = loss.detach()


def prepare_step(
    model_cfg: dict,
    optim_cfg: dict,
    data: dict,
    device: str,
    context: Callable = nullcontext,
) -> Step:
    """Build what a step needs.

    Args:
        model_cfg (dict): Config of the model.
        optim_cfg (dict): Config of the optimiser.
        data (dict): A collated batch.
        device (str): Where it computes.
        context (Callable): See :class:`Step`.

    Returns:
        Step: The step.
    """
    model = build_model(model_cfg, device).train()
    optim_wrapper = build_optim_wrapper(model, optim_cfg)
    batch = model.data_preprocessor(data, training=True)
    return Step(model, optim_wrapper, batch, context)


def compare_steps(
    steps: dict[str, Step], args: argparse.Namespace
) -> list[dict]:
    """Time steps in turns.

    Args:
        steps (dict[str, Step]): The steps by name.
        args (Namespace): The command line.

    Returns:
        list[dict]: A row for each: times, memory in MiB, the last loss,
        persons a second and the speed-up over the first; of a step that
        cannot be made the ``error``.
    """
    errors = {}
    for name, step in steps.items():
        try:
            step()
        except Exception as error:  # no compiler, no memory, ...
            errors[name] = one_line(error)
    working = {n: step for n, step in steps.items() if n not in errors}
    times = time_in_turns(working, args)
    rows = []
    for name, step in steps.items():
        row = dict(name=name)
        if name in errors:
            row['error'] = errors[name]
        else:
            persons = math.prod(step.batch['inputs'].shape[:3])
            row.update(times[name])
            row.update(
                loss=step.loss.item(),
                memory_mib=peak_memory(step, step.model),
                persons_per_s=1000 * persons / row['median_ms'],
            )
        rows.append(row)
    add_speed_up(rows)
    return rows


def add_speed_up(rows: list[dict]) -> None:
    """How many times as fast as the first row that has a time."""
    timed = [row for row in rows if 'median_ms' in row]
    for row in timed:
        row['speed_up'] = timed[0]['median_ms'] / row['median_ms']


def one_line(error: Exception) -> str:
    """An exception's type and the first line of what it says."""
    lines = str(error).strip().splitlines() or ['']
    return f'{type(error).__name__}: {lines[0]}'


# The sections


def bench_pipeline(ann_file: str, args: argparse.Namespace) -> list[Table]:
    """Time the training pipelines, as a whole and by transform."""
    toolbox = find_dataset(load_config(TOOLBOX_CONFIG), 'train_dataloader')
    pipelines = {
        'ST-GCN++ of the toolbox': ('PoseDataset', toolbox.pipeline),
        'MAMP pre-training': (
            'SkeletonDataset',
            recipe('pretrain_pipeline', args),
        ),
    }
    rows, calls, parts = [], {}, {}
    for name, (kind, pipeline) in pipelines.items():
        dataset = build_dataset(ann_file, pipeline, kind)
        rows.append(dict(name=name))
        try:
            dataset[0]
        except Exception as error:  # the toolbox's is for certain joints
            rows[-1]['error'] = one_line(error)
            continue
        parts[name] = []
        calls[name] = partial(take_all, dataset)
        calls[name, 'parts'] = partial(take_in_parts, dataset, parts[name])
    times = time_in_turns(calls, args)
    for row in rows:
        if row['name'] in times:
            taken = times[row['name']]['times_ms']
            row.update(summarise_times([ms / args.samples for ms in taken]))
            row['samples_per_s'] = 1000 / row['median_ms']
    add_speed_up(rows)
    whole = Table(
        'One sample through a training pipeline',
        {
            'pipeline': 'name',
            **TIME_COLUMNS,
            'samples/s and core': 'samples_per_s',
            'speed-up': 'speed_up',
        },
        rows,
        [
            f'{args.samples} sequences, in one process, from the annotation '
            'in memory to tensors; neither sent to another process nor '
            'collated.',
            f"MAMP's makes clips of {args.frames} frames with masks, the "
            "toolbox's is as its config says, without masks.",
        ],
    )
    shares = Table(
        'The same by transform',
        {
            'pipeline': 'pipeline',
            'transform': 'name',
            'ms a sample': 'ms',
            'share, %': 'percent',
        },
        [
            row
            for name in parts
            for row in _share_rows(name, parts[name][-args.repeats :], args)
        ],
        ['The first is the reading of the annotation. Medians.'],
    )
    return [whole, shares]


def take_all(dataset: BaseDataset) -> None:
    """Take every sample through the pipeline."""
    for index in range(len(dataset)):
        dataset[index]


def take_in_parts(
    dataset: BaseDataset, passes: list[dict[str, float]]
) -> None:
    """The same, with a clock behind every transform.

    Args:
        dataset (BaseDataset): The data set.
        passes (list[dict]): Gets one more: seconds by transform.
    """
    taken = dict.fromkeys([type(dataset).__name__], 0.0)
    for index in range(len(dataset)):
        start = time.perf_counter()
        results = dataset.get_data_info(index)
        stop = time.perf_counter()
        taken[type(dataset).__name__] += stop - start
        for transform in dataset.pipeline.transforms:
            start = time.perf_counter()
            results = transform(results)
            stop = time.perf_counter()
            name = type(transform).__name__
            taken[name] = taken.get(name, 0.0) + stop - start
    passes.append(taken)


def _share_rows(
    pipeline: str, passes: list[dict[str, float]], args: argparse.Namespace
) -> list[dict]:
    seconds = {
        name: float(np.median([taken[name] for taken in passes]))
        for name in passes[0]
    }
    total = sum(seconds.values())
    return [
        dict(
            pipeline=pipeline,
            name=name,
            ms=1000 * value / args.samples,
            percent=100 * value / total,
        )
        for name, value in seconds.items()
    ]


def eager_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor
) -> torch.Tensor:
    """Attention as the formula says it: softmax(Q K^T / sqrt(D)) V.

    Args:
        q (torch.Tensor): Queries of shape (B, heads, L, D).
        k (torch.Tensor): Keys, the same shape.
        v (torch.Tensor): Values, the same shape.

    Returns:
        torch.Tensor: Shape (B, heads, L, D).
    """
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    return scores.softmax(dim=-1) @ v


BASELINE = 'eager attention, a group a parameter, float32'
SWITCHES = {
    'fused_attention': '+ fused attention',
    'merged_groups': '+ merged parameter groups',
    'fused_adamw': '+ fused AdamW',
    'bfloat16': '+ bfloat16',
    'compiled': '+ torch.compile',
}


def bench_step(ann_file: str, args: argparse.Namespace) -> list[Table]:
    """Time pre-training steps, one optimisation more in each row."""
    data = pretraining_batch(ann_file, args)
    switched_on = []
    steps = {BASELINE: switched_step(switched_on, data, args)}
    tolerances = {BASELINE: TOLERANCE}
    skipped = []
    for key, name in SWITCHES.items():
        if key == 'compiled' and not args.compile_step:
            continue
        if key == 'bfloat16' and not supports_bfloat16(
            torch.device(args.device)
        ):
            error = f'{args.device} has no instructions for it here'
            skipped.append(dict(name=name, error=error))
            continue
        switched_on.append(key)
        steps[name] = switched_step(switched_on, data, args)
        tolerances[name] = (
            BFLOAT16_TOLERANCE if 'bfloat16' in switched_on else TOLERANCE
        )
    rows = compare_steps(steps, args)
    check_losses(rows, tolerances)
    order = [BASELINE, *SWITCHES.values()]
    rows = sorted(rows + skipped, key=lambda row: order.index(row['name']))
    return [
        Table(
            'One pre-training step: forward, backward, optimiser',
            {
                'switched on, beside all above': 'name',
                **TIME_COLUMNS,
                'speed-up': 'speed_up',
                'memory, MiB': 'memory_mib',
                'persons/s': 'persons_per_s',
                'last loss': 'loss',
            },
            rows,
            [
                _memory_note(args),
                'All rows start from the same weights and train on the same '
                'batch for the same number of steps; a row whose last loss '
                f'is off by more than {TOLERANCE:.1%} (in bfloat16 '
                f'{BFLOAT16_TOLERANCE:.0%}) would be an error.',
            ],
        )
    ]


def switched_step(
    switched_on: Sequence[str], data: dict, args: argparse.Namespace
) -> Step:
    """Build a step with some of the optimisations.

    Args:
        switched_on (list[str]): Keys of ``SWITCHES``.
        data (dict): A collated batch.
        args (Namespace): The command line.

    Returns:
        Step: The step.
    """
    context = nullcontext
    if 'fused_attention' not in switched_on:
        # For the duration of a step, in torch.nn.functional itself.
        context = partial(
            mock.patch.object,
            layers.F,
            'scaled_dot_product_attention',
            eager_attention,
        )
    return prepare_step(
        pretraining_config(args, 'compiled' in switched_on),
        optimiser_config(
            merged_groups='merged_groups' in switched_on,
            fused='fused_adamw' in switched_on,
            bfloat16='bfloat16' in switched_on,
        ),
        data,
        args.device,
        context,
    )


def check_losses(rows: list[dict], tolerances: dict[str, float]) -> None:
    """Turn rows that have computed something else into errors.

    Args:
        rows (list[dict]): The rows; those without ``loss`` have failed.
        tolerances (dict[str, float]): By name what may differ, relative to
            the loss of the first row.
    """
    done = [row for row in rows if 'loss' in row]
    for row in done[1:]:
        name, expected = row['name'], done[0]['loss']
        difference = abs(row['loss'] - expected)
        if not difference <= tolerances[name] * abs(expected):
            error = (
                f'its loss is {row["loss"]:.6g}, but that of the first row '
                f'{expected:.6g}'
            )
            row.clear()
            row.update(name=name, error=error)


def _memory_note(args: argparse.Namespace) -> str:
    if args.device == 'cuda':
        return (
            "Memory: the peak of torch's allocations in a step, above what "
            'is kept between steps.'
        )
    return (
        'Memory: what a step saves for its backward pass, each storage once, '
        'parameters left out.'
    )


@contextmanager
def all_persons_computed() -> Iterator[None]:
    """Make ``MAMPTransformer`` in eval mode compute equal persons again.

    Yields:
        Nothing.
    """

    def all_persons(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        places = torch.arange(x.shape[0] * x.shape[1], device=x.device)
        return places, places

    with mock.patch.object(mamp_transformer, 'distinct_persons', all_persons):
        yield


def bench_inference(ann_file: str, args: argparse.Namespace) -> list[Table]:
    """Time a recogniser: distinct persons, and fewer tokens."""
    tables = [compare_persons(ann_file, args)]
    if args.config:
        tables.append(compare_keep_ratios_of_config(args))
    else:
        dataset = build_dataset(ann_file, recipe('val_pipeline', args))
        models = {
            ratio: build_model(
                recogniser_config(args, keep_ratio=ratio), args.device
            )
            for ratio in KEEP_RATIOS
        }
        tables.append(compare_keep_ratios(models, dataset, args))
    return tables


def recogniser_config(args: argparse.Namespace, **encoder) -> dict:
    """Config of the fine-tuning recipe's recogniser."""
    return dict(
        type='RecognizerGCN',
        data_preprocessor=dict(type='SkeletonDataPreprocessor'),
        backbone=encoder_config(args, **encoder),
        cls_head=dict(
            type='MAMPFinetuneHead',
            num_classes=NUM_CLASSES,
            in_channels=args.embed_dims,
            num_joints=args.joints,
        ),
    )


def prepare_inference(
    model: nn.Module, dataset: BaseDataset, args: argparse.Namespace
) -> tuple[Callable[[], torch.Tensor], torch.Tensor]:
    """Prepare a call that computes the logits of a batch.

    Args:
        model (nn.Module): The recogniser; is put into eval mode.
        dataset (BaseDataset): Its first samples are the batch.
        args (Namespace): The command line.

    Returns:
        tuple: The call, and its inputs (N, clips, M, T, V, C).
    """
    model.eval()
    size = min(args.batch_size, len(dataset))
    # Not every n-th, which could meet the pairs alone.
    data = pseudo_collate([dataset[i] for i in range(size)])
    inputs = model.data_preprocessor(data)['inputs']

    @torch.no_grad()
    def infer() -> torch.Tensor:
        return model.extract_feat(inputs, stage='head')[0]

    return infer, inputs


def compare_persons(ann_file: str, args: argparse.Namespace) -> Table:
    """Compute all persons, or those that differ."""
    model = build_model(recogniser_config(args), args.device)
    calls, rows = {}, []
    for mode, title in (('zero', 'absent'), ('loop', 'the first again')):
        pipeline = recipe('val_pipeline', args, mode=mode)
        dataset = build_dataset(ann_file, pipeline)
        infer, inputs = prepare_inference(model, dataset, args)
        infer_all = all_persons_computed()(infer)
        keypoint = inputs.flatten(0, 1)
        difference = (infer() - infer_all()).abs().max().item()
        for name, call, count, off in (
            ('all', infer_all, math.prod(keypoint.shape[:2]), 0.0),
            (
                'distinct',
                infer,
                len(distinct_persons(keypoint)[0]),
                difference,
            ),
        ):
            calls[mode, name] = call
            rows.append(
                dict(
                    name=title,
                    computed=name,
                    persons=count,
                    difference=off,
                    key=(mode, name),
                )
            )
    times = time_in_turns(calls, args)
    for row in rows:
        row.update(times[row.pop('key')])
        row['samples_per_s'] = 1000 * len(inputs) / row['median_ms']
    for pair in (rows[:2], rows[2:]):
        add_speed_up(pair)
    return Table(
        'A recogniser in eval mode: equal persons computed once',
        {
            'second person of single ones': 'name',
            'persons computed': 'computed',
            'their number': 'persons',
            **TIME_COLUMNS,
            'samples/s': 'samples_per_s',
            'speed-up': 'speed_up',
            'largest difference of logits': 'difference',
        },
        rows,
        [
            f'{args.single_person:.0%} of the samples hold one person.',
            '`all` replaces `distinct_persons` in the module of '
            '`MAMPTransformer` by one that finds every person distinct.',
        ],
    )


def compare_keep_ratios(
    models: dict[float, nn.Module],
    dataset: BaseDataset,
    args: argparse.Namespace,
) -> Table:
    """Time recognisers that encode the tokens that move most.

    Args:
        models (dict[float, nn.Module]): Recognisers by their keep_ratio.
        dataset (BaseDataset): A batch of it is classified.
        args (Namespace): The command line.

    Returns:
        Table: A row for each.
    """
    calls, rows = {}, []
    for ratio, model in models.items():
        calls[ratio], inputs = prepare_inference(model, dataset, args)
        encoder = model.backbone
        tokens = encoder.kept_segments * encoder.num_joints
        rows.append(dict(name=ratio, tokens=tokens))
    times = time_in_turns(calls, args)
    for row in rows:
        row.update(times[row['name']])
        row['samples_per_s'] = 1000 * len(inputs) / row['median_ms']
    add_speed_up(rows)
    return Table(
        'A recogniser that encodes the most moving tokens',
        {
            'keep_ratio': 'name',
            'tokens a person': 'tokens',
            **TIME_COLUMNS,
            'samples/s': 'samples_per_s',
            'speed-up': 'speed_up',
        },
        rows,
    )


def compare_keep_ratios_of_config(args: argparse.Namespace) -> Table:
    """The same with trained weights, and the accuracies.

    Args:
        args (Namespace): The command line.

    Returns:
        Table: A row for each ratio.

    Raises:
        ValueError: If the config is of no recogniser with MAMP's encoder, or
            the weights are not its.
    """
    cfg = load_config(str(args.config))
    backbone = (cfg.get('model') or {}).get('backbone')
    if 'cls_head' not in (cfg.get('model') or {}) or (
        type_name(backbone) != 'MAMPTransformer'
    ):
        raise ValueError(
            f'{args.config} has no recogniser with the backbone '
            'MAMPTransformer, which alone knows keep_ratio: give the config '
            'of a linear probe or of a fine-tuning.'
        )
    dataset_cfg = find_dataset(cfg, 'test_dataloader')
    if args.ann_file:
        dataset_cfg.ann_file = str(args.ann_file)
    models = {}
    for ratio in KEEP_RATIOS:
        backbone.keep_ratio = ratio
        models[ratio] = build_model(cfg.model, args.device)
        try:
            load_checkpoint(
                models[ratio], str(args.checkpoint), 'cpu', strict=True
            )
        except RuntimeError as error:
            raise ValueError(
                f'{args.checkpoint} does not hold the weights of the model '
                f'of {args.config}: {error}'
            ) from error
    table = compare_keep_ratios(models, DATASETS.build(dataset_cfg), args)
    for row in table.rows:
        row['top1'] = 100 * measure_accuracy(models[row['name']], cfg)
    table.columns['top-1, %'] = 'top1'
    table.notes.append(
        f'Accuracies on the test set of `{args.config.stem}` with '
        f'`{args.checkpoint.name}`.'
    )
    return table


def measure_accuracy(model: nn.Module, cfg: Config) -> float:
    """Top-1 accuracy, in [0, 1], as the toolbox's test.py computes it.

    Args:
        model (nn.Module): The trained recogniser.
        cfg (Config): Its config, with data set and metric.

    Returns:
        float: The accuracy.

    Raises:
        ValueError: If the config's metric does not give it.
    """
    with tempfile.TemporaryDirectory() as folder:
        metrics = Runner(
            model=model,
            work_dir=folder,
            test_dataloader=cfg.test_dataloader,
            test_cfg=cfg.test_cfg,
            test_evaluator=cfg.test_evaluator,
            **_quiet_runner(),
        ).test()
    if METRIC not in metrics:
        raise ValueError(
            f'The test_evaluator of the config gives {sorted(metrics)}, but '
            f'{METRIC} is needed: use AccMetric.'
        )
    return metrics[METRIC]


def _quiet_runner() -> dict:
    # mmengine keeps what belongs to a run under its name, for ever.
    return dict(
        experiment_name=f'benchmark-{time.monotonic_ns()}',
        default_scope='mmaction',
        log_level='ERROR',
    )


def bench_absent(ann_file: str, args: argparse.Namespace) -> list[Table]:
    """Time pre-training steps with all persons and with those present."""
    data = pretraining_batch(ann_file, args)
    steps = {
        name: prepare_step(
            pretraining_config(args, ignore_absent=ignore),
            optimiser_config(),
            data,
            args.device,
        )
        for name, ignore in (
            ('all (ignore_absent=False)', False),
            ('present ones (ignore_absent=True)', True),
        )
    }
    error = _absent_error(list(steps.values())[1])
    rows = compare_steps(steps, args)
    keypoint = steps[rows[0]['name']].batch['inputs'].flatten(0, 2)
    present = int(keypoint.flatten(1).any(dim=1).sum())
    for row, count in zip(rows, (len(keypoint), present)):
        row['persons'] = count
    if error:
        rows[1] = dict(name=rows[1]['name'], error=error)
    return [
        Table(
            'One pre-training step, with and without absent persons',
            {
                'persons': 'name',
                'computed': 'persons',
                **TIME_COLUMNS,
                'speed-up': 'speed_up',
                'memory, MiB': 'memory_mib',
                'persons/s, absent ones counted': 'persons_per_s',
            },
            rows,
            [
                _memory_note(args),
                'Dropped persons are in neither encoder, decoder nor loss.',
            ],
        )
    ]


@torch.no_grad()
def _absent_error(step: Step) -> str | None:
    """Whether dropping persons gives another loss than not counting them."""
    model, batch = step.model, step.batch
    dropped, _ = model.parse_losses(model(**batch, mode='loss'))
    # This mode computes everybody, and the head counts who is present.
    pred = model(**batch, mode='tensor')
    masks = torch.stack([sample.mask for sample in batch['data_samples']])
    losses = model.head.loss(
        pred, batch['inputs'].flatten(0, 2), masks.flatten(0, 1)
    )
    counted, _ = model.parse_losses(losses)
    if torch.isclose(dropped, counted, rtol=TOLERANCE):
        return None
    return f'the loss is {dropped:.6g}, with everybody encoded {counted:.6g}'


def bench_scale(ann_file: str, args: argparse.Namespace) -> list[Table]:
    """Time steps of more frames and of more persons, and count FLOPs."""
    half = max(args.frames // PATCH // 2, 2) * PATCH
    frames = sorted({half, args.frames, 2 * args.frames})
    persons = sorted({1, args.persons, 2 * args.persons})
    steps, sizes = {}, {}
    for size in dict.fromkeys(
        [(T, args.persons) for T in frames]
        + [(args.frames, M) for M in persons]
    ):
        own = argparse.Namespace(**vars(args))
        own.frames, own.persons = size
        name = f'{size[0]} frames, {size[1]} persons'
        sizes[name] = own
        steps[name] = prepare_step(
            pretraining_config(own),
            optimiser_config(),
            pretraining_batch(ann_file, own),
            args.device,
        )
    rows = compare_steps(steps, args)
    for row in rows:
        own = sizes[row['name']]
        row.update(
            frames=own.frames,
            persons=own.persons,
            tokens=steps[row['name']].model.neck.num_tokens,
            gflops=count_step_flops(ann_file, own) / 1e9,
        )
    tables = []
    for key, other, expected in (
        (
            'frames',
            'persons',
            'Expected: linear layers grow with the tokens, attention with '
            'their square; so the whole grows more than the frames, and the '
            'more so the longer the clips.',
        ),
        (
            'persons',
            'frames',
            'Expected: everything grows with the persons, who are rows of '
            'the batch.',
        ),
    ):
        chosen = [
            dict(row) for row in rows if row[other] == getattr(args, other)
        ]
        chosen.sort(key=lambda row: row[key])
        tables.append(_growth_table(key, chosen, expected))
    return tables


def count_step_flops(ann_file: str, args: argparse.Namespace) -> int:
    """Count the operations of a pre-training step on one sample.

    Args:
        ann_file (str): The annotation file.
        args (Namespace): The command line.

    Returns:
        int: Those of matrix products, a multiply-add as two.
    """
    own = argparse.Namespace(**{**vars(args), 'batch_size': 1})
    data = pretraining_batch(ann_file, own)
    step = prepare_step(
        pretraining_config(own), optimiser_config(), data, args.device
    )
    return count_flops(step)


def _growth_table(key: str, rows: list[dict], expected: str) -> Table:
    first = rows[0]
    for row in rows:
        row['growth'] = row[key] / first[key]
        row['growth_flops'] = row['gflops'] / first['gflops']
        if 'median_ms' in row and 'median_ms' in first:
            row['growth_time'] = row['median_ms'] / first['median_ms']
    return Table(
        f'One pre-training step of more {key}',
        {
            'size': 'name',
            f'{key}, times': 'growth',
            'tokens a person': 'tokens',
            **TIME_COLUMNS,
            'time, times': 'growth_time',
            'GFLOPs a sample': 'gflops',
            'FLOPs, times': 'growth_flops',
        },
        rows,
        [
            expected,
            'FLOPs: matrix products of forward and backward pass, attention '
            'included; a multiply-add is two.',
        ],
    )


def bench_processes(ann_file: str, args: argparse.Namespace) -> list[Table]:
    """Time steps on one and on two processes, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, 'result.json')
        command = [sys.executable, '-m', 'torch.distributed.run']
        command += ['--standalone', '--nproc_per_node=2', __file__]
        command += ['processes', '--device', 'cpu', '--ann-file', ann_file]
        command += ['--rank-result', str(result)]
        for key in (*SIZES, 'batch_size', 'samples'):
            command += [f'--{key.replace("_", "-")}', str(getattr(args, key))]
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=dict(os.environ, OMP_NUM_THREADS='1'),
        )
        if done.returncode:
            print(done.stdout, file=sys.stderr)
            raise RuntimeError(
                'The two processes ended with status '
                f'{done.returncode}; their output is above.'
            )
        rows = json.loads(result.read_text())
    add_speed_up(rows)
    for row in rows:
        count = row['name'] * args.batch_size * args.persons
        row['persons_per_s'] = 1000 * count / row['median_ms']
        row['gain'] = row['persons_per_s'] / rows[0]['persons_per_s']
    notes = [
        f'gloo, DistributedDataParallel, one thread and {args.batch_size} '
        'samples each, float32, fused AdamW; always on the CPU.'
    ]
    if available_cores() < 2:
        notes.append('There is one core alone, which the two have to share.')
    return [
        Table(
            'One pre-training step on several processes',
            {
                'processes': 'name',
                **TIME_COLUMNS,
                'persons/s, all': 'persons_per_s',
                'persons/s, times': 'gain',
            },
            rows,
            notes,
        )
    ]


def run_rank(args: argparse.Namespace) -> None:
    """Be one of the two processes; the first writes the times.

    Args:
        args (Namespace): The command line.

    Raises:
        RuntimeError: If the two end up with different weights.
    """
    torch.set_num_threads(1)
    dist.init_process_group('gloo')
    rank = dist.get_rank()
    data = pretraining_batch(
        str(args.ann_file), args, first=rank * args.batch_size
    )
    models = {}
    for number in (1, 2):
        model = build_model(pretraining_config(args), 'cpu').train()
        optim_wrapper = build_optim_wrapper(model, optimiser_config())
        if number > 1:
            model = MMDistributedDataParallel(model)
        models[number] = model, optim_wrapper
    times = {number: [] for number in models}
    for turn in range(args.warmup + args.repeats):
        for number, (model, optim_wrapper) in models.items():
            dist.barrier()
            start = time.perf_counter()
            if rank < number:
                model.train_step(data, optim_wrapper)
            dist.barrier()
            if turn >= args.warmup:
                times[number].append(1000 * (time.perf_counter() - start))
    own = nn.utils.parameters_to_vector(models[2][0].parameters()).detach()
    first = own.clone()
    dist.broadcast(first, src=0)
    if not torch.equal(own, first):
        raise RuntimeError('The processes have come to different weights.')
    if rank == 0:
        rows = [dict(name=n, **summarise_times(t)) for n, t in times.items()]
        write_text(args.rank_result, json.dumps(rows))
    dist.barrier()
    dist.destroy_process_group()


class IterationClock(Hook):
    """Takes the time from the end of the warm-up to the last iteration.

    Args:
        warmup (int): Iterations of the warm-up.
        device (str): A GPU is waited for at both ends.
    """

    priority = 'VERY_LOW'

    def __init__(self, warmup: int, device: str) -> None:
        self.warmup = warmup
        is_cuda = device == 'cuda'
        self.wait = torch.cuda.synchronize if is_cuda else lambda: None

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Note the time behind the two iterations.

        Args:
            runner (Runner): The runner.
            batch_idx (int): Unused.
            data_batch (dict, optional): Unused.
            outputs (dict, optional): Unused.
        """
        if runner.iter + 1 == self.warmup:
            self.wait()
            self.start = time.perf_counter()
        elif runner.iter + 1 == runner.max_iters:
            self.wait()
            self.stop = time.perf_counter()


def bench_runner(ann_file: str, args: argparse.Namespace) -> list[Table]:
    """Pre-train through the Runner, and count persons a second."""
    wanted = args.warmup + args.iterations
    samples = min(args.samples, wanted * args.batch_size)
    clock = IterationClock(args.warmup, args.device)
    pipeline = recipe('pretrain_pipeline', args)
    hooks = Config.fromfile(ROOT / 'configs/_base_/default_runtime.py')
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(
            model=pretraining_config(args, args.compile is True),
            work_dir=folder,
            train_dataloader=dict(
                batch_size=args.batch_size,
                drop_last=True,
                pin_memory=args.pin_memory,
                sampler=dict(type='DefaultSampler', shuffle=True),
                dataset=skeletons(ann_file, pipeline, indices=samples),
                **_worker_options(args.workers),
            ),
            train_cfg=dict(
                by_epoch=True,
                max_epochs=math.ceil(wanted / (samples // args.batch_size)),
            ),
            optim_wrapper=optimiser_config(bfloat16=True),
            param_scheduler=dict(
                type='WarmupCosineLR', min_lr=5e-4, convert_to_iter_based=True
            ),
            default_hooks=hooks.default_hooks,
            custom_hooks=[clock],
            randomness=dict(seed=0),
            **_quiet_runner(),
        )
        runner.train()
    row = _runner_row(runner, clock, args)
    compiled = 'compiled' if args.compile else 'not compiled'
    pinned = 'pinned' if args.pin_memory else 'not pinned'
    return [
        Table(
            'Pre-training through the Runner',
            {
                'precision': 'name',
                'iterations': 'iterations',
                **TIME_COLUMNS,
                'samples/s': 'samples_per_s',
                'persons/s': 'persons_per_s',
                'waiting for data, %': 'data_percent',
                'projected hours': 'hours',
            },
            [row],
            [
                f'Batch {args.batch_size}, {compiled}, fused AdamW, the hooks '
                f"of the recipes; {args.workers} workers, the loader's "
                f'memory {pinned}.',
                'Samples and persons: over the whole time behind '
                f'{args.warmup} iterations of warm-up, between two '
                "synchronisations; times and share: the Runner's own `time` "
                'and `data_time`. Every iteration ends with reading the '
                'loss, which waits for the device.',
                f'Projected: {EPOCHS} epochs of {TRAINING_SEQUENCES:,} '
                'sequences (NTU RGB+D 60, cross-subject), without '
                'validations.',
            ],
        )
    ]


def _worker_options(workers: int) -> dict:
    if not workers:
        return dict(num_workers=0)
    return dict(
        num_workers=workers, persistent_workers=True, prefetch_factor=4
    )


def _runner_row(
    runner: Runner, clock: IterationClock, args: argparse.Namespace
) -> dict:
    """Figures of a training that is over.

    Raises:
        RuntimeError: If it has diverged.
    """

    def logged(key: str) -> np.ndarray:
        values, _ = runner.message_hub.get_scalar(f'train/{key}').data
        return values[args.warmup :]

    if not np.isfinite(logged('loss')).all():
        raise RuntimeError('The training has diverged.')
    iterations = runner.max_iters - args.warmup
    samples_per_s = iterations * args.batch_size / (clock.stop - clock.start)
    hours = TRAINING_SEQUENCES * EPOCHS / samples_per_s / 3600
    bfloat16 = supports_bfloat16(torch.device(args.device))
    return dict(
        name='bfloat16' if bfloat16 else 'float32',
        iterations=iterations,
        **summarise_times(1000 * logged('time')),
        samples_per_s=samples_per_s,
        persons_per_s=samples_per_s * args.persons,
        data_percent=100 * logged('data_time').sum() / logged('time').sum(),
        hours=hours,
    )


# The command

SECTIONS = dict(
    pipeline=bench_pipeline,
    step=bench_step,
    inference=bench_inference,
    absent=bench_absent,
    scale=bench_scale,
    processes=bench_processes,
    runner=bench_runner,
)
# Default, default of --short, help.
SIZES = dict(
    frames=(120, 24, 'frames of a clip, a multiple of 4'),
    joints=(25, 25, 'joints of a skeleton'),
    persons=(2, 2, 'persons of a sample'),
    embed_dims=(256, 16, 'width of encoder and decoder'),
    depth=(8, 1, "the encoder's blocks"),
    decoder_depth=(3, 1, "the decoder's blocks"),
    num_heads=(8, 2, 'attention heads'),
    repeats=(10, 1, 'times that everything is measured'),
    warmup=(3, 1, 'times before that'),
)


def run_section(
    name: str, ann_file: str, args: argparse.Namespace
) -> dict[str, object]:
    """Run a section; what others print goes to stderr.

    Args:
        name (str): Its name.
        ann_file (str): The annotation file.
        args (Namespace): The command line.

    Returns:
        dict: ``name`` and ``tables`` or, where it failed, ``error``.
    """
    print(f'{name} ...', file=sys.stderr, flush=True)
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('ERROR')
    try:
        with redirect_stdout(sys.stderr):
            return dict(name=name, tables=SECTIONS[name](ann_file, args))
    except (ValueError, OSError) as error:
        return dict(name=name, tables=[], error=str(error))
    except Exception as error:  # the other sections are worth having
        traceback.print_exc()
        return dict(name=name, tables=[], error=one_line(error))
    finally:
        logger.setLevel(level)


def format_section(section: dict) -> str:
    """A section in Markdown."""
    parts = [f'## {section["name"]}', *map(str, section['tables'])]
    if 'error' in section:
        parts.append(f'Failed: {section["error"]}')
    return '\n\n'.join(parts)


def format_header(args: argparse.Namespace) -> str:
    """Say what the figures were measured with."""
    precision = torch.get_float32_matmul_precision()
    sizes = ', '.join(
        f'{key} {getattr(args, key)}'
        for key in ('batch_size', *SIZES, 'samples', 'single_person')
    )
    lines = [
        f'{datetime.now().astimezone().isoformat(" ", "seconds")}; '
        f'{describe_machine()}; load {os.getloadavg()[0]:.1f}.',
        f'Device {args.device}; threads {torch.get_num_threads()}; precision '
        f'of float32 matrix products: {precision}'
        f'{" (no TF32)" if precision == "highest" else ""}.',
        f'{sizes.replace("_", " ")}.',
        'Times: medians with quartiles, after a warm-up, the rows of a table '
        'in turns.',
    ]
    return '\n'.join(f'- {line}' for line in lines)


def write_report(
    folder: Path, header: str, sections: list[dict], args: argparse.Namespace
) -> None:
    """Write ``benchmark_speed.md`` and ``benchmark_speed.json``.

    Args:
        folder (Path): Where; it is made if need be.
        header (str): What was measured with.
        sections (list[dict]): What :func:`run_section` returned.
        args (Namespace): The command line.
    """
    parts = ['# Speed', header, *map(format_section, sections)]
    write_text(folder / 'benchmark_speed.md', '\n\n'.join(parts) + '\n')
    report = dict(
        header=header.splitlines(),
        settings=vars(args),
        sections=[
            dict(section, tables=list(map(asdict, section['tables'])))
            for section in sections
        ],
    )
    text = json.dumps(report, indent=1, default=str)
    write_text(folder / 'benchmark_speed.json', f'{text}\n')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'sections',
        nargs='*',
        type=_section,
        metavar='SECTION',
        help='what to measure (default: everything)',
    )
    parser.add_argument(
        '--short',
        action='store_true',
        help='tiny sizes and one repeat, to see that all runs; without '
        'torch.compile and, unless it is named, without processes',
    )
    parser.add_argument(
        '--out',
        type=Path,
        metavar='FOLDER',
        help='write benchmark_speed.md and benchmark_speed.json (every '
        'single time) there',
    )
    parser.add_argument(
        '--device',
        choices=('cpu', 'cuda'),
        default='cuda' if torch.cuda.is_available() else 'cpu',
        help='default here: %(default)s',
    )
    options = dict(
        threads="threads of the CPU (default: torch's choice)",
        batch_size='samples of a batch (default: 128 on a GPU, else 4)',
        samples='sequences that are made (default: 4096 on a GPU, else 256)',
        iterations='measured iterations of the Runner, rounded up to whole '
        'epochs (default: 200 on a GPU, else as --repeats)',
    )
    for key, (default, short, text) in SIZES.items():
        options[key] = f'{text} (default: {default}, with --short {short})'
    for key, text in options.items():
        parser.add_argument(
            f'--{key.replace("_", "-")}', type=_natural, metavar='N', help=text
        )
    parser.add_argument(
        '--single-person',
        type=_share,
        default=0.8,
        metavar='SHARE',
        help='of the samples that hold one person (default: %(default)s)',
    )
    parser.add_argument(
        '--compile',
        action=argparse.BooleanOptionalAction,
        help='torch.compile as the last row of step (default: unless '
        '--short), and in runner (default: no)',
    )
    parser.add_argument(
        '--workers',
        type=int,
        metavar='N',
        help="processes of runner's data loader (default: up to 8 with a "
        'GPU, else none)',
    )
    parser.add_argument(
        '--pin-memory',
        action=argparse.BooleanOptionalAction,
        help="whether runner's data loader pins memory (default: with a GPU)",
    )
    parser.add_argument(
        '--config',
        type=Path,
        metavar='FILE',
        help='a recogniser of this repository whose accuracies inference '
        'adds for each keep_ratio',
    )
    parser.add_argument(
        '--checkpoint', type=Path, metavar='FILE', help='its trained weights'
    )
    parser.add_argument(
        '--ann-file',
        type=Path,
        metavar='FILE',
        help="annotations of its test set (default: the config's)",
    )
    # Where the first of the two processes writes its times.
    parser.add_argument('--rank-result', type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    _set_defaults(args)
    _check(args, parser)
    return args


def _set_defaults(args: argparse.Namespace) -> None:
    on_gpu = args.device == 'cuda'
    # With --short the same everywhere.
    batch_size, samples = (128, 4096) if on_gpu else (4, 256)
    workers = min(available_cores(), 8) if on_gpu else 0
    defaults = {key: sizes[args.short] for key, sizes in SIZES.items()}
    defaults.update(
        batch_size=5 if args.short else batch_size,
        samples=10 if args.short else samples,
        workers=0 if args.short else workers,
        pin_memory=on_gpu,
    )
    for key, value in defaults.items():
        if getattr(args, key) is None:
            setattr(args, key, value)
    if args.iterations is None:
        full = on_gpu and not args.short
        args.iterations = 200 if full else args.repeats
    args.compile_step = args.compile
    if args.compile is None:
        args.compile_step = not args.short
    if not args.sections:
        args.sections = list(SECTIONS)
        if args.short:
            args.sections.remove('processes')


def _check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    on_gpu = torch.cuda.is_available()
    if args.device == 'cuda' and not on_gpu:
        parser.error('--device cuda: torch finds no GPU here.')
    if (
        args.device == 'cpu'
        and on_gpu
        and ('runner' in args.sections or args.config)
    ):
        parser.error(
            "--device cpu: mmengine's Runner takes the GPU where there is "
            'one; set CUDA_VISIBLE_DEVICES= to hide it.'
        )
    if args.workers < 0:
        parser.error(f'--workers {args.workers} is less than 0.')
    if args.samples < args.batch_size:
        parser.error(
            f'--samples {args.samples} is less than a batch of '
            f'{args.batch_size}.'
        )
    if bool(args.config) != bool(args.checkpoint):
        parser.error('--config and --checkpoint belong together.')
    if args.config and 'inference' not in args.sections:
        parser.error('--config belongs to the section inference.')
    if args.ann_file and not (args.config or args.rank_result):
        parser.error('--ann-file belongs to --config.')
    for name in ('config', 'checkpoint', 'ann_file'):
        path = getattr(args, name)
        if path and not path.is_file():
            option = name.replace('_', '-')
            parser.error(f'--{option} {path}: there is no such file.')


def _section(text: str) -> str:
    if text not in SECTIONS:
        raise argparse.ArgumentTypeError(
            f'{text!r} is none of {", ".join(SECTIONS)}'
        )
    return text


def _natural(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'{value} is less than 1')
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f'{value} is outside of 0 to 1')
    return value


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print the tables."""
    args = parse_args(argv)
    init_default_scope('mmaction')
    if args.rank_result:
        run_rank(args)
        return
    if args.threads:
        torch.set_num_threads(args.threads)
    header = format_header(args)
    print(header, flush=True)
    sections = []
    with tempfile.TemporaryDirectory() as folder:
        ann_file = write_skeletons(Path(folder, 'skeletons.pkl'), args)
        for name in args.sections:
            sections.append(run_section(name, ann_file, args))
            print(f'\n{format_section(sections[-1])}', flush=True)
            if args.out:
                write_report(args.out, header, sections, args)
    failed = [section for section in sections if 'error' in section]
    for section in failed:
        print(f'error: {section["name"]}: {section["error"]}', file=sys.stderr)
    if failed:
        sys.exit(1)


if __name__ == '__main__':
    main()
