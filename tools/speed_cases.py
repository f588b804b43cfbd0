"""What ``benchmark_speed.py`` times: skeletons, models, steps, and how.

Skeletons are made that have the size and the lengths of NTU RGB+D 60.
"""

import argparse
import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
from benchmark import time_calls
from made_samples import make_annotation
from mmaction.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.optim import OptimWrapper, build_optim_wrapper
from training_runs import ROOT

from mamp_mmaction.datasets.annotation_file import write_annotations

NTU60 = ROOT / 'configs' / 'mamp' / 'ntu60'
RECIPES = {  # of a pipeline: config, loader
    'pretrain_pipeline': (
        'mamp_4xb32-pretrain-400e_ntu60-xsub-keypoint-3d.py',
        'train_dataloader',
    ),
    'val_pipeline': (
        'mamp_2xb128-linear-100e_ntu60-xsub-keypoint-3d.py',
        'val_dataloader',
    ),
}
SPLIT = 'train'  # of the made skeletons
# Of NTU RGB+D 60: lengths of its sequences (log-normal, cut), distance of
# the camera in metres, classes.
MEDIAN_FRAMES, FRAMES_SIGMA, FRAMES_RANGE = 80, 0.35, (30, 250)
CAMERA = np.float32((0, 0, 3))
NUM_CLASSES = 60

PATCH = 4  # frames of a token, as in all recipes

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
        name (str): Its name in ``RECIPES``.
        args (Namespace): The command line.
        persons (dict): Further arguments of ``FormatGCNInput``.

    Returns:
        list[dict]: Configs of the transforms.
    """
    changes = {
        'TemporalCropResize': dict(num_frames=args.frames),
        'FormatGCNInput': dict(num_person=args.persons, **persons),
    }
    config, loader = RECIPES[name]
    pipeline = Config.fromfile(NTU60 / config)[loader].dataset.pipeline
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


def quiet_runner() -> dict:
    """Arguments of a Runner that keeps to itself."""
    # mmengine keeps what belongs to a run under its name, for ever.
    return dict(
        experiment_name=f'benchmark-{time.monotonic_ns()}',
        default_scope='mmaction',
        log_level='ERROR',
    )
