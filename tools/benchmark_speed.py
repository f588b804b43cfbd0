"""Show how fast the package is, one optimisation after the other.

For maintainers. Prints Markdown tables; without names of sections all:

  pipeline   a sample through the transforms, beside the toolbox's ST-GCN++
  step       a pre-training step, its optimisations switched on one by one,
             then the recipe `pretrain-fast`
  parts      where the time of a step goes, exact and fast
  inference  equal persons computed once, and fewer tokens
  absent     a pre-training step that leaves out persons who are not there
  processes  a step on one and on two processes of the CPU
  runner     pre-training through mmengine's Runner, loading of data included

No data is needed: skeletons are made that have the size and the lengths of
NTU RGB+D 60. What is compared is timed in turns, so that a machine that
changes its pace favours nothing, and must give the same losses.
"""

import argparse
import json
import math
import os
import tempfile
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from unittest import mock

SCRIPT = Path(__file__).resolve()
RECIPES = SCRIPT.parents[1] / 'configs' / 'mamp' / 'ntu60'
TOOLBOX_CONFIG = (
    'mmaction::skeleton/stgcnpp/'
    'stgcnpp_8xb16-joint-u100-80e_ntu60-xsub-keypoint-3d.py'
)
# Default, default of --short, help.
SIZES = dict(
    seconds=(1.0, 0.0, 'that every row is measured in a round'),
    rounds=(5, 1, 'times that every row is measured, in turns'),
    iterations=(100, 2, 'measured iterations of the Runner'),
    samples=(256, 10, 'sequences that are made'),
)
# With --short the recipes are made as small as this.
SHORT_FRAMES = 24
SHORT_MODEL = dict(
    backbone=dict(
        embed_dims=16, depth=1, num_heads=2, num_frames=SHORT_FRAMES
    ),
    neck=dict(decoder_embed_dims=16, depth=1),
    cls_head=dict(in_channels=16),
)
# Of NTU RGB+D 60: lengths of its sequences (log-normal, cut), distance of
# the camera in metres, joints, share of the sequences that hold one of two
# persons, and how many are trained on, for how long.
MEDIAN_FRAMES, FRAMES_SIGMA, FRAMES_RANGE = 80, 0.35, (30, 250)
CAMERA = (0, 0, 3)
NUM_JOINTS, SINGLE_PERSON = 25, 0.8
TRAINING_SEQUENCES, EPOCHS = 40_091, 400
# What rounding may change in a loss, relative to it.
TOLERANCE, BFLOAT16_TOLERANCE = 1e-3, 3e-2
# A recogniser's options of fewer tokens.
FEWER_TOKENS = (
    dict(keep_ratio=1),
    dict(keep_ratio=0.5),
    dict(keep_ratio=0.25),
    dict(keep_ratio=0.125),
    dict(t_patch_size=12),
    dict(t_patch_size=24),
)
TIMES = ('>median, ms', '>quartiles', '>speed-up')


# What is measured


def write_skeletons(path, args):
    """Write an annotation file of made skeletons, and return its path."""
    import numpy as np

    from mamp_mmaction.datasets.annotation_file import write_annotations
    from mamp_mmaction.datasets.conversion import make_annotation

    rng = np.random.default_rng(0)
    lengths = rng.lognormal(np.log(MEDIAN_FRAMES), FRAMES_SIGMA, args.samples)
    annotations = []
    for index, frames in enumerate(lengths.clip(*FRAMES_RANGE).astype(int)):
        # Single ones are spread evenly.
        singles = [int(n * SINGLE_PERSON) for n in (index, index + 1)]
        persons = 2 if singles[0] == singles[1] else 1
        steps = rng.normal(scale=0.02, size=(persons, frames, NUM_JOINTS, 3))
        start = rng.normal(size=(persons, 1, NUM_JOINTS, 3)) + CAMERA
        keypoint = start + steps.cumsum(axis=1)
        name, label = f'sample{index}', index % 60
        annotations.append(make_annotation(name, label, keypoint))
    names = [annotation['frame_dir'] for annotation in annotations]
    write_annotations(path, dict(train=names), annotations)
    return str(path)


def recipe(protocol, ann_file, args, **options):
    """The config of a protocol on made skeletons."""
    from mmengine.config import Config

    (path,) = RECIPES.glob(f'mamp_*-{protocol}-[0-9]*_ntu60-xsub-*-3d.py')
    cfg = Config.fromfile(path)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.update(ann_file=ann_file, split='train')
        for step in loader.dataset.pipeline:
            if args.short and step.type == 'TemporalCropResize':
                step.num_frames = SHORT_FRAMES
    for part, sizes in SHORT_MODEL.items():
        if args.short and part in cfg.model:
            cfg.model[part].update(sizes)
    cfg.merge_from_dict(options)
    return cfg


def build_model(cfg, args):
    """Build a model; the same config gives the same weights."""
    import torch
    from mmaction.registry import MODELS

    torch.manual_seed(0)
    return MODELS.build(cfg.model).to(args.device)


def collate(dataset_cfg, args, first=0):
    """A batch as the loader collates it, always the same."""
    import numpy as np
    from mmaction.registry import DATASETS

    np.random.seed(first)
    return collate_from(DATASETS.build(dataset_cfg), args, first)


def collate_from(dataset, args, first=0):
    """The batch whose first sample is the one at a place."""
    from mmengine.dataset import pseudo_collate

    wanted = range(first, first + args.batch_size)
    return pseudo_collate([dataset[i % len(dataset)] for i in wanted])


class Step:
    """A training step; called again, it goes on with the weights it has."""

    def __init__(self, cfg, args, context=nullcontext):
        from mmengine.optim import build_optim_wrapper

        self.model = build_model(cfg, args).train()
        self.optim_wrapper = build_optim_wrapper(self.model, cfg.optim_wrapper)
        data = collate(cfg.train_dataloader.dataset, args)
        self.batch = self.model.data_preprocessor(data, training=True)
        self.context = context

    def __call__(self):
        """Forward, backward, update."""
        with self.context():
            with self.optim_wrapper.optim_context(self.model):
                losses = self.model(**self.batch, mode='loss')
            loss, _ = self.model.parse_losses(losses)
            self.optim_wrapper.update_params(loss)
        self.loss = loss.detach()


def peak_memory(step):
    """MiB that a step needs beside what is kept between steps.

    On a GPU it is the peak of what torch allocated, on the CPU what is saved
    for the backward pass, each storage once, parameters left out.
    """
    import torch

    if next(step.model.parameters()).is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    saved = {}

    def note(x):
        storage = x.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        step()
    for parameter in step.model.parameters():
        saved.pop(parameter.untyped_storage().data_ptr(), None)
    return sum(saved.values()) / 2**20


# Measuring and showing


def time_in_turns(calls, args):
    """Seconds of one call each, measured in as many rounds as asked for."""
    import torch
    from torch.utils.benchmark import Timer

    times = {name: [] for name in calls}
    for _ in range(args.rounds):
        for name, call in calls.items():
            timer = Timer(
                'call()',
                globals=dict(call=call),
                num_threads=torch.get_num_threads(),
            )
            found = timer.blocked_autorange(min_run_time=args.seconds)
            times[name] += found.times
    return times


def show_times(times, first):
    """The cells of ``TIMES``, from times in seconds."""
    import numpy as np

    low, median, high = 1000 * np.percentile(times, (25, 50, 75))
    speed_up = 1000 * np.median(first) / median
    return f'{median:.4g}', f'{low:.4g} to {high:.4g}', f'{speed_up:.3g}'


def compare_steps(steps, args):
    """Rows with times, memory and loss of steps that must agree on the loss.

    Args:
        steps (dict[str, tuple]): By name a function that makes a step, and
            what its loss may differ from that of the first, relative to it.
        args (Namespace): The command line.
    """
    rows, working, expected = {}, {}, None
    for name, (make, tolerance) in steps.items():
        try:
            step = make()
            for _ in range(3):  # all from the same weights
                step()
            loss, memory = step.loss.item(), peak_memory(step)
        except (RuntimeError, ValueError) as error:  # no compiler, no memory
            rows[name] = [f'{name}: {one_line(error)}', *[None] * 5]
            continue
        expected = loss if expected is None else expected
        if not abs(loss - expected) <= tolerance * abs(expected):
            raise ValueError(
                f'{name}: its loss is {loss:.6g}, but that of the first row '
                f'{expected:.6g}.'
            )
        working[name] = step
        rows[name] = [f'{memory:.4g}', f'{loss:.6g}']
    times = time_in_turns(working, args)
    for name, found in times.items():
        first = next(iter(times.values()))
        rows[name] = [name, *show_times(found, first), *rows[name]]
    return list(rows.values())


def one_line(error):
    """An exception's type and the first line of what it says."""
    lines = str(error).strip().splitlines() or ['']
    return f'{type(error).__name__}: {lines[0]}'.replace('|', '/')


# The sections: each yields a title, a header and rows


def bench_pipeline(ann_file, args):
    """The training pipelines, as a whole and by transform."""
    import numpy as np
    from mmaction.registry import DATASETS
    from mmengine.config import Config

    toolbox = Config.fromstring(f'_base_ = {TOOLBOX_CONFIG!r}', '.py')
    toolbox = toolbox.train_dataloader.dataset.dataset
    toolbox.update(ann_file=ann_file, split='train')
    own = recipe('pretrain', ann_file, args).train_dataloader.dataset
    datasets = {
        'ST-GCN++ of the toolbox': DATASETS.build(toolbox),
        'MAMP pre-training': DATASETS.build(own),
    }
    # list() takes every sample through the pipeline.
    calls = {name: partial(list, x) for name, x in datasets.items()}
    times = {
        name: np.divide(found, args.samples)
        for name, found in time_in_turns(calls, args).items()
    }
    first = next(iter(times.values()))
    rows = [
        (name, *show_times(found, first), f'{1 / np.median(found):.4g}')
        for name, found in times.items()
    ]
    header = ('pipeline', *TIMES, '>samples/s and core')
    yield 'One sample, from the annotation in memory to tensors', header, rows
    rows = [
        (pipeline, name, f'{1000 * seconds / args.samples:.3g}')
        for pipeline, dataset in datasets.items()
        for name, seconds in take_in_parts(dataset).items()
    ]
    header = ('pipeline', 'transform', '>ms a sample')
    yield 'The same by transform; the first reads the annotation', header, rows


def take_in_parts(dataset):
    """Seconds that each transform takes for all samples."""
    steps = [dataset.get_data_info, *dataset.pipeline.transforms]
    names = [type(step).__name__ for step in (dataset, *steps[1:])]
    taken = dict.fromkeys(names, 0.0)
    for index in range(len(dataset)):
        results = index
        for name, step in zip(names, steps):
            start = time.perf_counter()
            results = step(results)
            taken[name] += time.perf_counter() - start
    return taken


def eager_attention(q, k, v):
    """Attention as the formula says it: softmax(Q K^T / sqrt(D)) V."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    return scores.softmax(dim=-1) @ v


def switched_step(switched_on, ann_file, args):
    """A pre-training step with some of the optimisations."""
    import torch

    from mamp_mmaction.engine.amp_optim_wrapper import supports_bfloat16

    protocol = (
        'pretrain-fast' if 'pretrain-fast' in switched_on else 'pretrain'
    )
    cfg = recipe(protocol, ann_file, args)
    wrapper = cfg.optim_wrapper
    context = nullcontext
    if 'fused attention' not in switched_on:
        # For the duration of a step, in torch.nn.functional itself.
        context = partial(
            mock.patch.object,
            torch.nn.functional,
            'scaled_dot_product_attention',
            eager_attention,
        )
    if 'merged parameter groups' not in switched_on:
        del wrapper['constructor']
        wrapper.paramwise_cfg = dict(norm_decay_mult=0.0, bias_decay_mult=0.0)
    if 'fused AdamW' in switched_on:
        wrapper.optimizer.fused = True
    if 'bfloat16' in switched_on:
        if not supports_bfloat16(torch.device(args.device)):
            raise ValueError(f'{args.device} is not faster in it')
        wrapper.type = 'AutoAmpOptimWrapper'
    if 'torch.compile' in switched_on:
        cfg.model.compile_cfg = {}
    return Step(cfg, args, context)


def bench_step(ann_file, args):
    """Pre-training steps, one optimisation more in each row."""
    switches = ['fused attention', 'merged parameter groups', 'fused AdamW']
    last = ['torch.compile'] * args.compile + ['bfloat16']
    switches += last
    steps = {}
    for count in range(len(switches) + 1):
        on = switches[:count]
        name = 'eager attention, a group a parameter, float32'
        steps[f'+ {on[-1]}' if on else name] = (
            partial(switched_step, on, ann_file, args),
            BFLOAT16_TOLERANCE if 'bfloat16' in on else TOLERANCE,
        )
    # The fast recipe has another loss than the exact one.
    for count in range(len(last) + 1):
        on = ['pretrain-fast', *last[:count]]
        with_all = partial(switched_step, switches[:2] + on, ann_file, args)
        steps[' + '.join(on)] = with_all, math.inf
    header = ('switched on, beside all above', *TIMES, '>memory, MiB', '>loss')
    yield 'One pre-training step', header, compare_steps(steps, args)


def bench_parts(ann_file, args):
    """Forward and backward passes of each part of a pre-training step."""
    import numpy as np

    columns = {}
    for protocol in ('pretrain', 'pretrain-fast'):
        cfg = recipe(protocol, ann_file, args)
        times = time_in_turns(parts_of_step(cfg, args), args)
        columns[protocol] = {
            name: 1000 * np.median(found) for name, found in times.items()
        }
    rows = []
    for part in columns['pretrain']:
        row = [part]
        for found in columns.values():
            share = 100 * found[part] / sum(found.values())
            row += [f'{found[part]:.4g}', f'{share:.3g}']
        rows.append(row)
    header = ['part']
    for protocol in columns:
        header += [f'>{protocol}, ms', '>%']
    yield 'Forward and backward pass of one batch, float32', header, rows


def parts_of_step(cfg, args):
    """Calls that do a part of a step each, with what comes before at hand."""
    import torch
    from mmaction.registry import DATASETS

    step = Step(cfg, args)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    model, batch = step.model, step.batch
    samples = batch['data_samples']
    step()  # the optimiser has its state
    keypoint, mask = model.counted(*model.unpack(batch['inputs'], samples))
    visible, wanted = model.choose(mask, samples)
    latent = model.encode(keypoint, mask, visible).detach().requires_grad_()
    pred = model.neck(latent, visible, wanted).detach().requires_grad_()
    persons, masks = keypoint.flatten(0, 1), mask.flatten(0, 1)

    def backward(output):
        output.backward(torch.ones_like(output))

    def compare():
        losses = model.head.loss(pred, persons, masks, wanted)
        backward(model.parse_losses(losses)[0])

    def load():
        model.data_preprocessor(collate_from(dataset, args), training=True)

    def encode():
        backward(model.encode(keypoint, mask, visible))

    def decode():
        backward(model.neck(latent, visible, wanted))

    return {
        'data': load,
        'masks': lambda: model.choose(mask, samples),
        'encoder': encode,
        'decoder': decode,
        'target and loss': compare,
        'optimiser': step.optim_wrapper.optimizer.step,
    }


def prepare_inference(cfg, args):
    """A call that computes the logits of a batch, its inputs and the model."""
    import torch

    model = build_model(cfg, args).eval()
    data = collate(cfg.val_dataloader.dataset, args)
    inputs = model.data_preprocessor(data)['inputs']

    @torch.no_grad()
    def infer():
        return model.extract_feat(inputs, stage='head')[0]

    return infer, inputs, model


def bench_inference(ann_file, args):
    """A recogniser in eval mode: distinct persons, and fewer tokens."""
    import torch

    from mamp_mmaction.models.distinct_persons import distinct_persons

    calls, computed = {}, {}
    for mode, title in (('zero', 'absent'), ('loop', 'the first again')):
        logits = []
        for distinct in (False, True):
            key = 'model.backbone.distinct_persons'
            cfg = recipe('finetune', ann_file, args, **{key: distinct})
            for step in cfg.val_dataloader.dataset.pipeline:
                if step.type == 'FormatGCNInput':
                    step.mode = mode
            infer, inputs, _ = prepare_inference(cfg, args)
            keypoint = inputs.flatten(0, 1)
            persons = keypoint.flatten(0, 1)
            if distinct:
                persons, _ = distinct_persons(keypoint)
            name = title, 'distinct' if distinct else 'all'
            calls[name], computed[name] = infer, len(persons)
            logits.append(infer())
        torch.testing.assert_close(*logits)
    times = time_in_turns(calls, args)
    rows = [
        (*name, computed[name], *show_times(found, times[name[0], 'all']))
        for name, found in times.items()
    ]
    header = ('second person of single ones', 'computed', '>persons', *TIMES)
    yield 'Equal persons computed once', header, rows

    calls, tokens = {}, {}
    for fewer in FEWER_TOKENS:
        cfg = recipe('finetune', ann_file, args)
        cfg.model.backbone.update(fewer)
        (name,) = (f'{key}={value}' for key, value in fewer.items())
        calls[name], _, model = prepare_inference(cfg, args)
        tokens[name] = model.backbone.kept_segments * NUM_JOINTS
    times = time_in_turns(calls, args)
    rows = [
        (name, tokens[name], *show_times(found, times['keep_ratio=1']))
        for name, found in times.items()
    ]
    header = ('encoder', '>tokens a person', *TIMES)
    yield 'The most moving tokens alone, or longer patches', header, rows


def bench_absent(ann_file, args):
    """Pre-training steps with all persons and with those present."""
    steps = {}
    for ignore, title in ((False, 'all'), (True, 'present ones')):
        options = {'model.head.ignore_absent': ignore}
        cfg = recipe('pretrain', ann_file, args, **options)
        # Their losses differ: absent persons count in the first.
        steps[f'{title} (ignore_absent={ignore})'] = (
            partial(Step, cfg, args),
            math.inf,
        )
    header = ('persons', *TIMES, '>memory, MiB', '>loss')
    yield 'One pre-training step', header, compare_steps(steps, args)


def bench_processes(ann_file, args):
    """Steps on one and on two processes, in turns."""
    import numpy as np
    from torch.multiprocessing import spawn

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        # Each of the two has one core.
        with mock.patch.dict(os.environ, OMP_NUM_THREADS='1'):
            spawn(run_rank, (args, ann_file, folder), nprocs=2)
        times = json.loads((folder / 'times.json').read_text())
    rows, count = [], 2 * args.batch_size
    for number, found in times.items():
        rate = int(number) * count / np.median(found)
        rows.append((number, *show_times(found, times['1']), f'{rate:.3g}'))
    header = ('processes', *TIMES, '>persons/s, all')
    yield 'gloo, one thread and a batch each, on the CPU', header, rows


def run_rank(rank, args, ann_file, folder):
    """Be one of the two processes; the first writes the times."""
    import torch
    import torch.distributed as dist
    from mmengine.logging import MMLogger
    from mmengine.model import MMDistributedDataParallel
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import init_default_scope

    import mamp_mmaction  # noqa: F401

    init_default_scope('mmaction')
    MMLogger.get_current_instance().setLevel('ERROR')
    torch.set_num_threads(1)
    args.device = 'cpu'
    dist.init_process_group(
        'gloo', f'file://{folder}/store', rank=rank, world_size=2
    )
    cfg = recipe('pretrain', ann_file, args)
    first = rank * args.batch_size
    data = collate(cfg.train_dataloader.dataset, args, first)
    models = {}
    for number in (1, 2):
        model = build_model(cfg, args).train()
        optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
        if number > 1:
            model = MMDistributedDataParallel(model)
        models[number] = model, optim_wrapper
    times = {number: [] for number in models}
    for turn in range(1 + args.rounds):
        for number, (model, optim_wrapper) in models.items():
            dist.barrier()
            start = time.perf_counter()
            if rank < number:
                model.train_step(data, optim_wrapper)
            dist.barrier()
            if turn:  # behind a warm-up
                times[number].append(time.perf_counter() - start)
    parameters = models[2][0].parameters()
    own = torch.nn.utils.parameters_to_vector(parameters).detach()
    other = own.clone()
    dist.broadcast(other, src=0)
    if not torch.equal(own, other):
        raise RuntimeError('The processes have come to different weights.')
    if rank == 0:
        (folder / 'times.json').write_text(json.dumps(times))
    dist.barrier()


def bench_runner(ann_file, args):
    """Pre-train through the Runner, and count samples a second."""
    rows = [
        (protocol, *run_training(protocol, ann_file, args))
        for protocol in ('pretrain', 'pretrain-fast')
    ]
    header = ('recipe', 'iterations', *TIMES[:2], '>samples/s')
    header += ('>waiting for data, %',)
    header += (f'>hours of {EPOCHS} epochs of NTU RGB+D 60',)
    yield 'In bfloat16 where the device is faster in it', header, rows


def run_training(protocol, ann_file, args):
    """Pre-train for some iterations; the cells of a row."""
    import numpy as np
    from mmengine.runner import Runner

    cfg = recipe(protocol, ann_file, args)
    warmup = max(args.iterations // 10, 1)
    wanted = warmup + args.iterations
    samples = min(args.samples, wanted * args.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        cfg.merge_from_dict(
            {
                'work_dir': folder,
                'train_dataloader.batch_size': args.batch_size,
                'train_dataloader.num_workers': args.workers,
                'train_dataloader.persistent_workers': args.workers > 0,
                'train_dataloader.pin_memory': args.device != 'cpu',
                'train_dataloader.dataset.indices': samples,
                'train_cfg.max_epochs': math.ceil(
                    wanted / (samples // args.batch_size)
                ),
                'optim_wrapper.type': 'AutoAmpOptimWrapper',
                'param_scheduler.warmup': 0,
                'log_level': 'ERROR',
                # mmengine keeps what belongs to a run under its name.
                'experiment_name': f'benchmark-{time.monotonic_ns()}',
            }
        )
        cfg.model.compile_cfg = {} if args.compile else None
        for key in ('dataloader', 'cfg', 'evaluator'):
            cfg[f'val_{key}'] = cfg[f'test_{key}'] = None
        runner = Runner.from_cfg(cfg)
        runner.train()

    def logged(key):
        values, _ = runner.message_hub.get_scalar(f'train/{key}').data
        return np.asarray(values[warmup:])

    if not np.isfinite(logged('loss')).all():
        raise ValueError('The training has diverged.')
    # Every iteration ends with reading the loss, which waits for the device.
    seconds = logged('time')
    rate = args.batch_size / seconds.mean()
    hours = TRAINING_SEQUENCES * EPOCHS / rate / 3600
    share = 100 * logged('data_time').sum() / seconds.sum()
    cells = show_times(seconds, seconds)[:2]
    return len(seconds), *cells, f'{rate:.4g}', f'{share:.3g}', f'{hours:.4g}'


SECTIONS = dict(
    pipeline=bench_pipeline,
    step=bench_step,
    parts=bench_parts,
    inference=bench_inference,
    absent=bench_absent,
    processes=bench_processes,
    runner=bench_runner,
)


# The command


def parse_args(argv=None):
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'sections',
        nargs='*',
        metavar='SECTION',
        help='what to measure (default: everything)',
    )
    parser.add_argument(
        '--short',
        action='store_true',
        help='tiny sizes and one round, to see that all runs',
    )
    parser.add_argument(
        '--device', help='cpu or cuda (default: a GPU if there is)'
    )
    parser.add_argument(
        '--compile',
        action='store_true',
        help='torch.compile as the last row of step, and in runner',
    )
    options = dict(
        threads=(None, None, 'threads of the CPU (default: as torch chooses)'),
        batch_size=(
            None,
            4,
            'samples of a batch (default: 4, on a GPU 128, with --short 4)',
        ),
        workers=(0, 0, "processes of runner's data loader"),
        **SIZES,
    )
    for key, (default, short, text) in options.items():
        if default is not None:
            text = f'{text} (default: {default}, with --short {short})'
        parser.add_argument(
            f'--{key.replace("_", "-")}',
            type=type(default or 0),
            metavar='N',
            help=text,
        )
    args = parser.parse_args(argv)
    for key, (default, short, _) in options.items():
        if getattr(args, key) is None:
            setattr(args, key, short if args.short else default)
    for key in ('rounds', 'iterations', 'samples'):
        if getattr(args, key) < 1:
            parser.error(f'--{key} is less than 1')
    args.sections = args.sections or list(SECTIONS)
    unknown = set(args.sections) - set(SECTIONS)
    if unknown:
        parser.error(f'{min(unknown)!r} is none of {", ".join(SECTIONS)}')
    return args


def run(args):
    """Measure, and print the tables."""
    import torch
    from mmengine.logging import MMLogger

    from mamp_mmaction.utils import (
        describe_machine,
        markdown_table,
        usable_device,
    )

    args.device = str(usable_device(args.device))
    if args.batch_size is None:
        args.batch_size = 4 if args.device == 'cpu' else 128
    if args.samples < args.batch_size:
        raise ValueError(
            f'--samples {args.samples} is less than a batch of '
            f'{args.batch_size}.'
        )
    if args.threads:
        torch.set_num_threads(args.threads)
    MMLogger.get_current_instance().setLevel('ERROR')
    settings = ', '.join(f'{k} {x}' for k, x in vars(args).items())
    print(f'# Speed\n\n{describe_machine()}; {settings}.')
    with tempfile.TemporaryDirectory() as folder:
        ann_file = write_skeletons(Path(folder, 'skeletons.pkl'), args)
        for name in args.sections:
            print(f'\n## {name}', flush=True)
            for title, header, rows in SECTIONS[name](ann_file, args):
                table = markdown_table(header, rows)
                print(f'\n{title}:\n\n{table}', flush=True)


def main(argv=None):
    """Run the command."""
    args = parse_args(argv)
    from mmengine.registry import init_default_scope

    from mamp_mmaction.utils import errors_as_one_line

    init_default_scope('mmaction')
    with errors_as_one_line():
        run(args)


if __name__ == '__main__':
    main()
