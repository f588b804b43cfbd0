"""Compare models by size, speed, memory and accuracy.

Takes configs of this repository and of the toolbox, as files or in the form
mmaction::skeleton/..., and prints a Markdown table of parameters, FLOPs,
latency, throughput, the time of a training step and peak memory, beside the
validation accuracies found in work directories. Neither data nor weights are
needed: every model gets made samples that went through its config's own
pipelines. Each config is measured in a process of its own.
"""

import argparse
import ctypes
import gc
import json
import os
import sys
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from datetime import datetime
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

METRIC = 'acc/top1'
COSTS = {
    'gflops': 'GFLOPs of one sample',
    'latency': 'latency of one sample, ms',
}
HEADINGS = (
    'config',
    'input',
    '>parameters, M',
    '>GFLOPs',
    '>latency, ms',
    '>samples/s, batch {batch_size}',
    '>training step, ms, batch {batch_size}',
    '>memory, inference, MiB',
    '>memory, training, MiB',
    '>last top-1',
    '>best top-1',
)
NOTES = """\
Times: medians, with quartiles in brackets; {precision}.
Input: one clip as it enters the model, persons x frames x joints x channels,
or channels x frames x rows x columns of heat maps; in brackets that of the
training step, where it is another.
FLOPs: of one sample of one clip; a multiply-add is two operations (the
documentation of the toolbox counts it as one). Convolutions and matrix
products, attention included.
Latency and throughput: the whole model with its head in `predict`, on one
clip a sample, from inputs on the device.
Training step: forward, backward and the optimiser of the config.
Memory: the peak above that before the model was built, {memory}.
Top-1: validation accuracies in %, from the logs in the work directories."""


def config_name(name):
    """The file name of a config without ``.py``."""
    return Path(name.rpartition('::')[2]).stem


# Measuring


def measure(name, args):
    """Measure one config in this process.

    Returns parameters, FLOPs, times in seconds and memory in MiB, and the
    shapes that they belong to.
    """
    import torch
    from mmaction.registry import MODELS

    from mamp_mmaction.config import load_config
    from mamp_mmaction.datasets.made_samples import find_dataset, make_samples
    from mamp_mmaction.utils import count_flops

    if args.threads:
        torch.set_num_threads(args.threads)
    cfg = load_config(name, needed=['model'])
    tune = (cfg.get('env_cfg') or {}).get('cudnn_benchmark', False)
    torch.backends.cudnn.benchmark = tune
    torch.manual_seed(0)

    # Not init_weights, which may download weights.
    model = MODELS.build(cfg.model).to(args.device)
    samples = make_samples(cfg, model, args.batch_size, args.shape)
    infer = prepare_inference(model, samples[:1], args)
    part = 'val' if cfg.get('val_dataloader') else 'test'
    dataset = find_dataset(cfg, f'{part}_dataloader')
    data = Path(str(dataset.get('ann_file', ''))).stem, dataset.get('split')
    result = dict(
        data=' '.join(str(part) for part in data if part),
        input_shape=list(samples[0]['inputs'].shape[1:]),
        parameters=sum(p.numel() for p in model.parameters()),
        flops=count_flops(infer),
    )
    if not args.skip_training:
        train_samples = make_samples(
            cfg, model, args.batch_size, args.shape, training=True
        )
        shape = list(train_samples[0]['inputs'].shape[1:])
        result['training_input_shape'] = shape
        # What libraries load on first use is not the model's memory: have it
        # loaded. BatchNorm behind a pool wants two samples.
        step, result['trained_parameters'] = prepare_training(
            cfg, model, train_samples[:2], args
        )
        step()
        del step
    del model, infer

    memory = PeakMemory(args.device)
    model = MODELS.build(cfg.model).to(args.device)
    infer = prepare_inference(model, samples[:1], args)
    result['latency'] = time_calls(infer, args.seconds)
    memory.reset()
    infer = prepare_inference(model, samples, args)
    result['batch'] = time_calls(infer, args.seconds)
    result['inference_memory_mib'] = memory.read()
    del infer
    if not args.skip_training:
        memory.reset()
        step, _ = prepare_training(cfg, model, train_samples, args)
        result['training'] = time_calls(step, args.seconds)
        result['training_memory_mib'] = memory.read()
    return result


def prepare_inference(model, samples, args):
    """A call that predicts one batch, from inputs on the device."""
    import torch
    from mmengine.dataset import pseudo_collate

    model.eval()
    batch = model.data_preprocessor(pseudo_collate(samples), training=False)
    dtype = getattr(torch, args.amp or 'bfloat16')
    kind = torch.device(args.device).type

    @torch.no_grad()
    def infer():
        with torch.autocast(kind, dtype, enabled=bool(args.amp)):
            return model(**batch, mode='predict')

    return infer


def prepare_training(cfg, model, samples, args):
    """A call that makes one training step, and what number it trains.

    Learning rates are zero, which costs the same and keeps the weights: no
    repeat trains another model than the one before, and none diverges. The
    config's hooks are left out, but for ``LinearProbeHook``, without which a
    step of a probe would be one of fine-tuning.
    """
    from mmaction.registry import HOOKS
    from mmengine.config import ConfigDict
    from mmengine.dataset import pseudo_collate
    from mmengine.optim import build_optim_wrapper

    from mamp_mmaction.datasets.made_samples import type_name

    if not cfg.get('optim_wrapper'):
        raise ValueError('the config has no optim_wrapper: --skip-training.')
    optim_cfg = ConfigDict(cfg.optim_wrapper)
    if args.amp:
        # mmengine's cannot be used with bfloat16, of which the toolbox
        # computes no accuracy.
        auto = 'Auto' if args.amp == 'bfloat16' else ''
        optim_cfg.update(type=f'{auto}AmpOptimWrapper', dtype=args.amp)
    optim_wrapper = build_optim_wrapper(model, optim_cfg)
    model.train()
    runner = SimpleNamespace(model=model, optim_wrapper=optim_wrapper)
    for hook in cfg.get('custom_hooks') or ():
        if type_name(hook) == 'LinearProbeHook':
            probe = HOOKS.build(hook)
            probe.before_run(runner)
            probe.before_train_iter(runner, 0)
    groups = optim_wrapper.optimizer.param_groups
    for group in groups:
        group['lr'] = 0.0
    batch = model.data_preprocessor(pseudo_collate(samples), training=True)

    def step():
        with optim_wrapper.optim_context(model):
            losses = model(**batch, mode='loss')
        loss, _ = model.parse_losses(losses)
        optim_wrapper.update_params(loss)

    trained = [param for group in groups for param in group['params']]
    return step, sum(p.numel() for p in trained if p.requires_grad)


def time_calls(call, seconds):
    """Time a call until the quartiles agree, or the seconds are over."""
    import numpy as np
    import torch
    from torch.utils.benchmark import Timer

    threads = torch.get_num_threads()
    timer = Timer('call()', globals=dict(call=call), num_threads=threads)
    times = timer.adaptive_autorange(max_run_time=seconds).times
    low, median, high = np.percentile(times, (25, 50, 75)).tolist()
    return dict(times=times, median=median, quartiles=[low, high])


class PeakMemory:
    """The most memory used since a reset, above that at construction.

    On a GPU it is what torch's allocator handed out; on the CPU what is
    resident, which only Linux can tell: getrusage's ``ru_maxrss`` can neither
    be reset nor, since a process inherits its parent's, be trusted.
    """

    def __init__(self, device):
        self.is_cuda = device.startswith('cuda')
        self.is_known = True
        self.reset()
        self.before = self._read('VmRSS')

    def reset(self):
        """Forget the peak."""
        import torch

        gc.collect()
        if self.is_cuda:
            torch.cuda.reset_peak_memory_stats()
            return
        try:
            # Memory that was freed, but not given back, would hide as much
            # of what is allocated next.
            ctypes.CDLL(None).malloc_trim(0)
            Path('/proc/self/clear_refs').write_text('5')
        except (AttributeError, OSError):
            self.is_known = False

    def read(self):
        """The peak in MiB, None where it is not known."""
        return self._read('VmHWM') - self.before if self.is_known else None

    def _read(self, key):
        import torch

        if self.is_cuda:
            return torch.cuda.max_memory_allocated() / 2**20
        if not self.is_known:
            return None
        status = Path('/proc/self/status').read_text()
        return int(status.partition(f'{key}:')[2].split()[0]) / 1024


def measure_apart(function, *args):
    """Call a function in a process of its own; a failure is an ``error``."""
    pool = ProcessPoolExecutor(1, mp_context=get_context('spawn'))
    try:
        with pool:
            return pool.submit(function, *args).result()
    except BrokenProcessPool:
        return dict(
            error='its process was killed, most likely for want of memory: '
            'try a smaller --batch-size.'
        )
    except Exception as error:  # whatever somebody's model raises
        lines = str(error).strip().splitlines() or ['']
        said = f'{type(error).__name__}: {lines[0]}'
        return dict(error=said, output=traceback.format_exc())


# Accuracies


def find_work_dir(name, own, folders):
    """The work directory of a config: its own folder, or one of its name."""
    for folder in (own / name, own) if own else ():
        if next(folder.glob('*/vis_data'), None):
            return folder
    found = {folder for folder in folders if folder.name == name}
    found |= {folder / name for folder in folders if (folder / name).is_dir()}
    if len(found) > 1:
        raise ValueError(
            f'{" and ".join(sorted(map(str, found)))} are both for {name}: '
            'give one --work-dirs folder a config, in the same order.'
        )
    return next(iter(found), None)


# The report


def number(value, unit=1):
    """Three significant digits, without an exponent above a thousandth."""
    if value is None:
        return None
    value = value / unit
    return f'{value:.0f}' if abs(value) >= 100 else f'{value:.3g}'


def format_times(times, convert):
    """The median, with the quartiles in brackets."""
    if times is None:
        return None
    low, high = sorted(map(convert, times['quartiles']))
    median = convert(times['median'])
    return f'{number(median)} ({number(low)} to {number(high)})'


def format_row(result, batch_size):
    """The cells of one config; what is not known is None."""
    infer, train = (
        'x'.join(map(str, result.get(f'{part}input_shape', ())))
        for part in ('', 'training_')
    )
    shapes = f'{infer} ({train})' if train not in ('', infer) else infer
    accuracy = result.get('accuracy') or {}
    return [
        result['name'],
        shapes or None,
        number(result.get('parameters'), 1e6),
        number(result.get('flops'), 1e9),
        format_times(result.get('latency'), lambda s: 1000 * s),
        format_times(result.get('batch'), lambda s: batch_size / s),
        format_times(result.get('training'), lambda s: 1000 * s),
        number(result.get('inference_memory_mib')),
        number(result.get('training_memory_mib')),
        *(
            f'{100 * accuracy[key]:.1f}' if accuracy else None
            for key in ('last', 'best')
        ),
    ]


def format_report(report):
    """Machine, notes, table, and below it what went wrong."""
    from mamp_mmaction.utils import markdown_table

    settings, results = report['settings'], report['results']
    notes = NOTES.format(
        precision=f'autocast to {settings["amp"]}'
        if settings['amp']
        else 'in float32, training in the precision of the config',
        memory='of what torch allocated on the GPU'
        if settings['device'].startswith('cuda')
        else 'of the resident memory of the process',
    )
    batch_size = settings['batch_size']
    header = [text.format(batch_size=batch_size) for text in HEADINGS]
    rows = [format_row(result, batch_size) for result in results]
    parts = [f'{report["date"]}; {report["machine"]}.', notes]
    parts.append(markdown_table(header, rows))
    failed = [f'- {r["name"]}: {r["error"]}' for r in results if 'error' in r]
    return '\n\n'.join(parts + (['Failed:', '\n'.join(failed)] * bool(failed)))


def draw_plot(report, cost, path):
    """Draw accuracy against cost: the last and, hollow, the best."""
    from matplotlib.figure import Figure

    figure = Figure((9, 7), dpi=150, layout='constrained')
    axes = figure.add_subplot(xlabel=COSTS[cost], ylabel='validation top-1, %')
    axes.grid(alpha=0.3)
    for index, result in enumerate(report['results']):
        label, points = f'{result["name"]}, not known', ([], [])
        if result.get('accuracy') and 'latency' in result:
            x = result['flops'] / 1e9
            if cost == 'latency':
                x = 1000 * result['latency']['median']
            label = f'{result["name"]}, {result["data"]}'
            y = [100 * result['accuracy'][key] for key in ('last', 'best')]
            points = (x, x), y
        # Ten colours, and another marker for the next ten.
        (line,) = axes.plot(
            *points, marker='osD^v'[index // 10 % 5], label=label
        )
        hollow = [values[1:] for values in points]
        style = dict(marker=line.get_marker(), color=line.get_color())
        axes.plot(*hollow, **style, markerfacecolor='white')
    figure.legend(loc='outside lower center', fontsize=8)
    figure.savefig(path, format='png')


def write_report(report, cost, folder):
    """Write ``benchmark.md``, ``benchmark.json`` and ``benchmark.png``."""
    from mamp_mmaction.utils import written_whole

    with written_whole(folder / 'benchmark.png') as temporary:
        draw_plot(report, cost, temporary)
    with written_whole(folder / 'benchmark.json') as temporary:
        temporary.write_text(json.dumps(report, indent=1) + '\n')
    with written_whole(folder / 'benchmark.md') as temporary:
        temporary.write_text(f'# Benchmark\n\n{format_report(report)}\n')


def parse_args(argv=None):
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'config',
        nargs='+',
        help='config files, or mmaction::skeleton/... for those of the '
        'toolbox',
    )
    parser.add_argument(
        '--work-dirs',
        nargs='+',
        type=Path,
        default=[],
        metavar='DIR',
        help='work directories with accuracies: one a config, in the same '
        'order, or folders in which they bear the names of the configs',
    )
    parser.add_argument(
        '--out',
        type=Path,
        metavar='FOLDER',
        help='write benchmark.md, benchmark.json (every single time) and '
        'benchmark.png (accuracy against cost) there',
    )
    parser.add_argument(
        '--device', help='such as cpu or cuda (default: a GPU if there is)'
    )
    for name, kind, default, text in (
        ('batch-size', _natural, 16, 'samples, but for the latency'),
        (
            'seconds',
            float,
            10,
            'what is timed is repeated until the quartiles are within a '
            'tenth, for that long at most',
        ),
        ('threads', _natural, None, 'threads of the CPU'),
    ):
        parser.add_argument(
            f'--{name}',
            type=kind,
            default=default,
            metavar='N',
            help=f'{text} (default: {default or "as torch chooses"})',
        )
    parser.add_argument(
        '--amp',
        choices=('float16', 'bfloat16'),
        help='autocast to this type (default: no autocast)',
    )
    parser.add_argument(
        '--skip-training',
        action='store_true',
        help='leave the training step out',
    )
    parser.add_argument(
        '--shape',
        nargs=4,
        type=_natural,
        metavar=('M', 'T', 'V', 'C'),
        help='persons, frames, joints and coordinates of the samples made '
        'for the pipelines (default: read off each config)',
    )
    parser.add_argument(
        '--cost',
        choices=list(COSTS),
        default='gflops',
        help="the plot's x axis (default: %(default)s)",
    )
    args = parser.parse_args(argv)
    for folder in args.work_dirs:
        if not folder.is_dir():
            parser.error(f'--work-dirs {folder}: there is no such folder.')
    return args


def _natural(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'{value} is less than 1')
    return value


def run(args):
    """Measure the configs and print the table; return whether all went."""
    from mamp_mmaction.engine.amp_optim_wrapper import supports_bfloat16
    from mamp_mmaction.evaluation.run_log import last_and_best, read_curve
    from mamp_mmaction.utils import describe_machine, usable_device

    device = usable_device(args.device)
    args.device = str(device)
    if args.amp == 'float16' and device.type == 'cpu':
        raise ValueError('--amp float16 needs a GPU: --amp bfloat16 on a CPU.')
    if args.amp == 'bfloat16' and not supports_bfloat16(device):
        raise ValueError(
            f'--amp bfloat16: {args.device} has no instructions for it here.'
        )
    if args.threads:
        for library in ('OMP', 'MKL'):  # of the processes that measure
            os.environ[f'{library}_NUM_THREADS'] = str(args.threads)
    names = list(map(config_name, args.config))
    own = args.work_dirs
    if len(own) != len(names):
        own = [None] * len(names)
    work_dirs = [
        find_work_dir(name, folder, args.work_dirs)
        for name, folder in zip(names, own)
    ]
    results, seen = [], Counter()
    for config, name, work_dir in zip(args.config, names, work_dirs):
        place = f'[{len(results) + 1}/{len(names)}]'
        print(place, name, file=sys.stderr, flush=True)
        result = dict(config=config, **measure_apart(measure, config, args))
        seen[name] += 1
        if names.count(name) > 1:
            name += f' ({work_dir.name if work_dir else seen[name]})'
        result['name'] = name
        if work_dir is not None:
            result['work_dir'] = str(work_dir)
            curve = read_curve(work_dir, METRIC)
            result['accuracy'] = last_and_best(curve) if curve else None
        results.append(result)
    keys = 'device', 'batch_size', 'seconds', 'threads', 'amp', 'shape'
    report = dict(
        date=datetime.now().astimezone().isoformat(' ', 'seconds'),
        machine=f'{describe_machine()}; load {os.getloadavg()[0]:.1f}',
        settings={key: getattr(args, key) for key in keys},
        results=results,
    )
    if not any('flops' in r or r.get('accuracy') for r in results):
        errors = [f'{r["name"]}: {r["error"]}' for r in results]
        raise ValueError('Nothing was measured. ' + '\n'.join(errors))
    print(format_report(report))
    if args.out:
        write_report(report, args.cost, args.out)
        print(f'Written to {args.out}', file=sys.stderr)
    return not any('error' in result for result in results)


def main(argv=None):
    """Run the command."""
    args = parse_args(argv)
    from mamp_mmaction.utils import errors_as_one_line

    with errors_as_one_line():
        if not run(args):
            sys.exit(1)


if __name__ == '__main__':
    main()
