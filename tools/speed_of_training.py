"""Sections of ``benchmark_speed.py`` about pre-training."""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import torch.distributed as dist
import torch.nn as nn
from benchmark import count_flops
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner
from speed_cases import (
    PATCH,
    SIZES,
    TIME_COLUMNS,
    Step,
    Table,
    add_speed_up,
    build_model,
    compare_steps,
    optimiser_config,
    prepare_step,
    pretraining_batch,
    pretraining_config,
    quiet_runner,
    recipe,
    skeletons,
    summarise_times,
)
from training_runs import ROOT, write_text

from mamp_mmaction.datasets.conversion import available_cores
from mamp_mmaction.engine.amp_optim_wrapper import supports_bfloat16
from mamp_mmaction.models import layers

SCRIPT = Path(__file__).with_name('benchmark_speed.py')
# The pre-training of the paper on NTU RGB+D 60, cross-subject.
TRAINING_SEQUENCES, EPOCHS = 40_091, 400
# What rounding may change in a loss, relative to it.
TOLERANCE, BFLOAT16_TOLERANCE = 1e-3, 3e-2


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
        command += ['--standalone', '--nproc_per_node=2', SCRIPT]
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
            **quiet_runner(),
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
