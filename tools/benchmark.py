"""Compare models by size, speed, memory and accuracy.

Takes configs of this repository and of the toolbox, as files or in the form
mmaction::skeleton/..., and prints a Markdown table of parameters, FLOPs,
latency, throughput, the time of a training step and peak memory, beside the
validation accuracies found in work directories. Neither data nor weights are
needed: every model gets made samples that went through its config's own
pipelines. Each config is measured in a process of its own.
"""

import argparse
import contextlib
import ctypes
import gc
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn as nn
from accuracy_plot import COSTS, draw_plot
from made_samples import (
    config_name,
    find_dataset,
    load_config,
    make_samples,
    type_name,
)
from mmaction.registry import HOOKS, MODELS
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mamp_mmaction import __version__
from mamp_mmaction.datasets.conversion import available_cores
from mamp_mmaction.engine import LinearProbeHook
from mamp_mmaction.engine.amp_optim_wrapper import supports_bfloat16
from mamp_mmaction.utils.machine import processor_name

METRIC = 'acc/top1'


def measure(name: str, args: argparse.Namespace) -> dict:
    """Measure one config in this process.

    Args:
        name (str): The config.
        args (Namespace): The command line.

    Returns:
        dict: Parameters, FLOPs, times in ms and memory in MiB, and the shapes
        and settings that they belong to.

    Raises:
        ValueError: If the config has no model, or its pipelines cannot be
            run on made samples.
    """
    cfg = load_config(name)
    if 'model' not in cfg:
        raise ValueError('the config has no model.')
    init_default_scope(cfg.get('default_scope') or 'mmaction')
    use_settings(cfg, args)
    model = build_model(cfg, args)
    samples = make_samples(cfg, model, args, training=False)
    infer = prepare_inference(model, samples[:1], args)
    result = dict(
        data=describe_data(cfg),
        input_shape=list(samples[0]['inputs'].shape[1:]),
        parameters=count_parameters(model.parameters()),
        flops=count_flops(infer),
        threads=torch.get_num_threads(),
        gpu=torch.cuda.get_device_name() if args.device == 'cuda' else None,
    )
    if not args.skip_training:
        train_samples = make_samples(cfg, model, args, training=True)
        shape = train_samples[0]['inputs'].shape[1:]
        result['training_input_shape'] = list(shape)
        # What libraries load on first use is not the model's memory: have it
        # loaded. BatchNorm behind a pool wants two samples.
        step, trained = prepare_training(cfg, model, train_samples[:2], args)
        result['trained_parameters'] = trained
        step()
        del step
    del model, infer

    memory = PeakMemory(args.device)
    model = build_model(cfg, args)
    infer = prepare_inference(model, samples[:1], args)
    result['latency'] = time_calls(infer, 1, args)
    memory.reset()
    infer = prepare_inference(model, samples, args)
    result['throughput'] = time_calls(infer, len(samples), args)
    result['inference_memory_mib'] = memory.read()
    del infer
    if not args.skip_training:
        memory.reset()
        step, _ = prepare_training(cfg, model, train_samples, args)
        result['training'] = time_calls(step, len(train_samples), args)
        result['training_memory_mib'] = memory.read()
    return result


# mmengine's cannot be used with bfloat16, of which the toolbox computes no
# accuracy.
AMP_WRAPPERS = dict(float16='AmpOptimWrapper', bfloat16='AutoAmpOptimWrapper')


def use_settings(cfg: Config, args: argparse.Namespace) -> None:
    """Take over threads and cuDNN's tuning, and make runs repeatable.

    Args:
        cfg (Config): The config.
        args (Namespace): The command line.

    Raises:
        ValueError: If the device cannot compute in the type asked for.
    """
    device = torch.device(args.device)
    if args.amp == 'bfloat16' and not supports_bfloat16(device):
        raise ValueError(
            f'--amp bfloat16: {args.device} has no instructions for it here.'
        )
    if args.threads:
        torch.set_num_threads(args.threads)
    tune = (cfg.get('env_cfg') or {}).get('cudnn_benchmark', False)
    torch.backends.cudnn.benchmark = tune
    np.random.seed(0)
    torch.manual_seed(0)


def build_model(cfg: Config, args: argparse.Namespace) -> nn.Module:
    """Build the model, but not init_weights, which may download weights."""
    return MODELS.build(cfg.model).to(args.device)


def describe_data(cfg: Config) -> str:
    """Name the data that the config is validated on."""
    is_validated = bool(cfg.get('val_dataloader'))
    loader = 'val_dataloader' if is_validated else 'test_dataloader'
    dataset = find_dataset(cfg, loader)
    parts = Path(str(dataset.get('ann_file', ''))).stem, dataset.get('split')
    return ' '.join(str(part) for part in parts if part)


def prepare_inference(
    model: nn.Module, samples: list[dict], args: argparse.Namespace
) -> Callable[[], object]:
    """Return a call that predicts one batch, from inputs on the device.

    Args:
        model (nn.Module): Is put into eval mode.
        samples (list[dict]): The batch.
        args (Namespace): The command line.
    """
    model.eval()
    batch = model.data_preprocessor(pseudo_collate(samples), training=False)
    dtype = getattr(torch, args.amp or 'bfloat16')
    precision = torch.autocast(args.device, dtype, enabled=bool(args.amp))

    @torch.no_grad()
    def infer() -> object:
        with precision:
            return model(**batch, mode='predict')

    return infer


def prepare_training(
    cfg: Config,
    model: nn.Module,
    samples: list[dict],
    args: argparse.Namespace,
) -> tuple[Callable[[], None], int]:
    """Return a call that makes one training step.

    Learning rates are zero, which costs the same and keeps the weights: no
    repeat trains another model than the one before, and none diverges. The
    config's hooks are left out, but for ``LinearProbeHook``, without which a
    step of a probe would be one of fine-tuning.

    Args:
        cfg (Config): The config.
        model (nn.Module): Is put into training mode.
        samples (list[dict]): The batch.
        args (Namespace): The command line.

    Returns:
        tuple[Callable, int]: The call, and the number of parameters that it
        trains.

    Raises:
        ValueError: If the config has no optimiser.
    """
    if not cfg.get('optim_wrapper'):
        raise ValueError('the config has no optim_wrapper: --skip-training.')
    optim_cfg = ConfigDict(cfg.optim_wrapper)
    if args.amp:
        optim_cfg.update(type=AMP_WRAPPERS[args.amp], dtype=args.amp)
    optim_wrapper = build_optim_wrapper(model, optim_cfg)
    model.train()
    runner = SimpleNamespace(model=model, optim_wrapper=optim_wrapper)
    for hook in cfg.get('custom_hooks') or ():
        if type_name(hook) == LinearProbeHook.__name__:
            probe = HOOKS.build(hook)
            probe.before_run(runner)
            probe.before_train_iter(runner, 0)
    groups = optim_wrapper.optimizer.param_groups
    for group in groups:
        group['lr'] = 0.0
    batch = model.data_preprocessor(pseudo_collate(samples), training=True)

    def step() -> None:
        with optim_wrapper.optim_context(model):
            losses = model(**batch, mode='loss')
        loss, _ = model.parse_losses(losses)
        optim_wrapper.update_params(loss)

    trained = [param for group in groups for param in group['params']]
    return step, count_parameters(p for p in trained if p.requires_grad)


def count_parameters(parameters: Iterator[nn.Parameter]) -> int:
    """Return how many numbers they hold."""
    return sum(parameter.numel() for parameter in parameters)


def count_flops(call: Callable[[], object]) -> int:
    """Count the floating-point operations of a call, a multiply-add as two.

    Counted are convolutions and matrix products, those inside of ``einsum``
    and attention included; norms, activations and the like are not.

    Args:
        call (Callable): What to count.

    Returns:
        int: The operations.
    """
    # torch's counter sees what is executed, so that einsum arrives as the
    # products it is made of. It does not know the CPU's fused attention,
    # which the plain one replaces here: its two products are counted on any
    # device. mmengine's get_model_complexity_info traces the model instead
    # and counts attention as nothing, on any device.
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as counter:
            call()
        return counter.get_total_flops()


def time_calls(
    call: Callable[[], object], batch_size: int, args: argparse.Namespace
) -> dict:
    """Time a call again and again.

    Args:
        call (Callable): What to time.
        batch_size (int): Samples of a call, for the record.
        args (Namespace): The command line.

    Returns:
        dict: Batch size, all times in ms, their median and quartiles.
    """
    # Kernels of a GPU run on after the call that started them has returned.
    is_cuda = args.device == 'cuda'
    wait = torch.cuda.synchronize if is_cuda else lambda: None
    for _ in range(args.warmup):
        call()
    times = []
    for _ in range(args.repeats):
        wait()
        start = time.perf_counter()
        call()
        wait()
        times.append(1000 * (time.perf_counter() - start))
    low, median, high = np.percentile(times, (25, 50, 75)).tolist()
    return dict(
        batch_size=batch_size,
        times_ms=times,
        median_ms=median,
        quartiles_ms=[low, high],
    )


class PeakMemory:
    """The most memory used since a reset, above that at construction.

    On a GPU it is what torch's allocator handed out; on the CPU what is
    resident, which only Linux can tell: getrusage's ``ru_maxrss`` can neither
    be reset nor, since a process inherits its parent's, be trusted.

    Args:
        device (str): ``'cpu'`` or ``'cuda'``.
    """

    def __init__(self, device: str) -> None:
        self.is_cuda = device == 'cuda'
        self.is_known = True
        self.reset()
        if self.is_cuda:
            self.before = torch.cuda.memory_allocated()
        elif self.is_known:
            self.before = _resident_memory('VmRSS')

    def reset(self) -> None:
        """Forget the peak."""
        gc.collect()
        if self.is_cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            return
        try:
            # Memory that was freed, but not given back, would hide as much
            # of what is allocated next.
            ctypes.CDLL(None).malloc_trim(0)
            Path('/proc/self/clear_refs').write_text('5')
        except (AttributeError, OSError):
            self.is_known = False

    def read(self) -> float | None:
        """Return the peak in MiB, None where it is not known."""
        if self.is_cuda:
            return (torch.cuda.max_memory_allocated() - self.before) / 2**20
        if not self.is_known:
            return None
        return (_resident_memory('VmHWM') - self.before) / 2**20


def _resident_memory(key: str) -> int:
    """Return VmRSS, what is resident now, or VmHWM, its peak, in bytes."""
    for line in Path('/proc/self/status').read_text().splitlines():
        name, _, value = line.partition(':')
        if name == key:
            return 1024 * int(value.split()[0])
    raise OSError(f'/proc/self/status has no {key}.')


def measure_apart(name: str, args: argparse.Namespace) -> dict:
    """Measure one config in a process of its own.

    Args:
        name (str): The config.
        args (Namespace): The command line.

    Returns:
        dict: What :func:`measure` returns or, where that failed, ``error``
        and the whole output.
    """
    environment = dict(os.environ)
    if args.threads:
        environment.update(
            OMP_NUM_THREADS=str(args.threads),
            MKL_NUM_THREADS=str(args.threads),
        )
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, 'result.json')
        done = subprocess.run(
            _measuring_command(name, result, args),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors='replace',
            env=environment,
        )
        if result.exists():
            return json.loads(result.read_text())
    lines = done.stdout.strip().splitlines() or ['no output']
    error = f'its process ended with status {done.returncode}: {lines[-1]}'
    if done.returncode == -signal.SIGKILL:
        error = (
            'its process was killed, most likely for want of memory: try a '
            f'--batch-size below {args.batch_size}.'
        )
    return dict(error=error, output=done.stdout)


def _measuring_command(
    name: str, result: Path, args: argparse.Namespace
) -> list[str]:
    command = [sys.executable, __file__, name, '--result', str(result)]
    for key in ('device', 'batch_size', 'repeats', 'warmup', 'threads', 'amp'):
        value = getattr(args, key)
        if value is not None:
            command += [f'--{key.replace("_", "-")}', str(value)]
    if args.shape:
        command += ['--shape', *map(str, args.shape)]
    if args.skip_training:
        command += ['--skip-training']
    return command


def write_measured(name: str, args: argparse.Namespace) -> None:
    """Measure one config and write what came of it to ``args.result``."""
    try:
        result = measure(name, args)
    except Exception as error:  # whatever somebody's model raises
        lines = str(error).strip().splitlines() or ['']
        said = f'{type(error).__name__}: {lines[0]}'
        result = dict(error=said, output=traceback.format_exc())
    with replacing(args.result) as temporary:
        temporary.write_text(json.dumps(result))


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name; what is written there gets the right name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def find_work_dir(
    configs: Sequence[str], index: int, folders: Sequence[Path]
) -> Path | None:
    """Find the work directory of a config.

    Where there are as many folders as configs, each config has its own: the
    folder, or one in it with the config's name. Else, and where that is no
    work directory, any folder that bears the name or holds one that does.

    Args:
        configs (list[str]): The configs.
        index (int): Which of them.
        folders (list[Path]): What was given as --work-dirs.

    Returns:
        Path, optional: The work directory, None if there is none.

    Raises:
        ValueError: If several fit.
    """
    name = config_name(configs[index])
    if len(folders) == len(configs):
        own = folders[index]
        for folder in (own / name, own):
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


def read_accuracy(work_dir: Path) -> dict | None:
    """Read the validation accuracies of a training.

    A work directory has one log a start. The newest that holds accuracies
    wins; where it resumed another, which its first epoch tells, the epochs
    before come from the next older one, and so on. Logs without accuracies,
    of tests and of runs that soon broke off, are passed over.

    Args:
        work_dir (Path): The work directory.

    Returns:
        dict, optional: The last and the best accuracy in [0, 1], their steps
        (epochs, for trainings by epoch) and the logs, the oldest first. None
        if there is no accuracy.
    """
    curve, logs, start = [], [], float('inf')
    # Named by the time of the start.
    for folder in sorted(work_dir.glob('*/vis_data'), reverse=True):
        lines = read_scalars(folder)
        part = [
            (line.get('step', 0), line[METRIC])
            for line in lines
            if METRIC in line and line.get('step', 0) < start
        ]
        if part:
            curve = part + curve
            logs.insert(0, str(folder))
            # A training by iteration tells no epochs: nothing is before it.
            epochs = (line['epoch'] for line in lines if 'epoch' in line)
            start = min(epochs, default=0)
    if not curve:
        return None
    best = max(curve, key=lambda point: point[1])
    return dict(
        last=curve[-1][1],
        last_step=curve[-1][0],
        best=best[1],
        best_step=best[0],
        logs=logs,
    )


def read_scalars(folder: Path) -> list[dict]:
    """Read the scalars that mmengine logged in one run.

    Args:
        folder (Path): The run's folder ``vis_data``.

    Returns:
        list[dict]: One a line. A last line that is incomplete is left out.

    Raises:
        ValueError: If another line is no JSON object.
    """
    # mmengine writes the same lines to two files.
    files = [folder / 'scalars.json', *sorted(folder.glob('*.json'))]
    file = next((file for file in files if file.is_file()), None)
    lines = file.read_text().split('\n') if file else []
    scalars = []
    for number, line in enumerate(lines, start=1):
        try:
            if line.strip():
                scalars.append(dict(json.loads(line)))
        except (TypeError, ValueError) as error:
            if number < len(lines):
                raise ValueError(
                    f'{file}, line {number}: expected a JSON object with the '
                    f'scalars of a step, found {line[:60]!r}.'
                ) from error
    return scalars


def label_results(results: Sequence[dict]) -> None:
    """Give every result a name of its own to be shown under."""
    names = [config_name(result['config']) for result in results]
    count, seen = Counter(names), Counter()
    for name, result in zip(names, results):
        seen[name] += 1
        label = name
        if count[name] > 1:
            work_dir = result.get('work_dir')
            mark = Path(work_dir).name if work_dir else str(seen[name])
            label += f' ({mark})'
        result['name'] = label


def describe_machine() -> dict:
    """Return the hardware and the versions."""
    packages = ('torch', 'mmaction2', 'mmengine')
    versions = {package: version(package) for package in packages}
    return dict(
        processor=processor_name(),
        cores=available_cores(),
        load=os.getloadavg()[0],
        system=f'{platform.system()} {platform.release()}',
        versions=dict(
            python=platform.python_version(),
            **versions,
            mamp_mmaction=__version__,
        ),
    )


def format_header(report: dict) -> str:
    """Say what the table's figures are and what they were measured on."""
    machine, settings = report['machine'], report['settings']
    measured = [r for r in report['results'] if 'threads' in r]
    threads = sorted({r['threads'] for r in measured})
    gpus = sorted({r['gpu'] for r in measured if r['gpu']})
    number = settings['batch_size']
    lines = [
        f'{report["date"]}; {machine["processor"]}, {machine["cores"]} cores, '
        f'threads used: {" and ".join(map(str, threads)) or "none"}, load '
        f'{machine["load"]:.1f}; {machine["system"]}; '
        f'GPU: {", ".join(gpus) or "not used"}.',
        ', '.join(f'{k} {v}' for k, v in machine['versions'].items()) + '.',
        f'Times are medians of {settings["repeats"]} repeats after '
        f'{settings["warmup"]} warm-up runs, with the quartiles in brackets, '
        + (
            f'autocast to {settings["amp"]}.'
            if settings['amp']
            else 'in float32; training in the precision of the config.'
        ),
        'Input: one clip as it enters the model, persons x frames x joints x '
        'channels, or channels x frames x rows x columns of heat maps; in '
        'brackets that of the training step, where it is another.',
        'FLOPs: of one sample of one clip; a multiply-add is two operations '
        '(the documentation of the toolbox counts it as one). Convolutions '
        'and matrix products, attention included.',
        'Latency and throughput: the whole model with its head in `predict`, '
        'on one clip a sample, from inputs on the device.',
        'Training step: forward, backward and the optimiser of the config.',
        'Memory: the peak above that before the model was built, '
        + (
            'of what torch allocated on the GPU'
            if settings['device'] == 'cuda'
            else 'of the resident memory of the process'
        )
        + f'; batch {number}.',
        f'{METRIC}: validation accuracies in %, from the logs in the work '
        'directories.',
    ]
    return '\n'.join(f'- {line}' for line in lines)


def format_table(report: dict) -> str:
    """Return the Markdown table, and below it what went wrong.

    Args:
        report (dict): The report.
    """
    number = report['settings']['batch_size']
    heads = (
        'config',
        'input',
        'parameters, M',
        'GFLOPs',
        'latency, ms',
        f'samples/s, batch {number}',
        f'training step, ms, batch {number}',
        'memory, inference, MiB',
        'memory, training, MiB',
        'last top-1',
        'best top-1',
    )
    rows = [heads, ['---', '---'] + ['---:'] * (len(heads) - 2)]
    rows += [format_row(result) for result in report['results']]
    table = '\n'.join(f'| {" | ".join(row)} |' for row in rows)
    failed = [
        f'- {result["name"]}: {result["error"]}'
        for result in report['results']
        if 'error' in result
    ]
    return '\n'.join(
        [table, '', 'Failed:', '', *failed] if failed else [table]
    )


def format_row(result: dict) -> list[str]:
    """Return the cells of one config; what is not known is a hyphen."""

    def scaled(key: str, scale: float) -> str:
        value = result.get(key)
        return '-' if value is None else _number(value * scale)

    accuracy = result.get('accuracy') or {}
    rate = result.get('throughput')
    return [
        result['name'],
        _format_input(result),
        scaled('parameters', 1e-6),
        scaled('flops', 1e-9),
        _format_times(result.get('latency')),
        _format_times(rate, lambda ms: 1000 * rate['batch_size'] / ms),
        _format_times(result.get('training')),
        scaled('inference_memory_mib', 1),
        scaled('training_memory_mib', 1),
        *(
            f'{100 * accuracy[key]:.1f}' if key in accuracy else '-'
            for key in ('last', 'best')
        ),
    ]


def _format_input(result: dict) -> str:
    shapes = [
        'x'.join(map(str, result[key]))
        for key in ('input_shape', 'training_input_shape')
        if key in result
    ]
    if len(set(shapes)) == 2 and 'training' in result:
        return f'{shapes[0]} ({shapes[1]})'
    return shapes[0] if shapes else '-'


def _format_times(
    times: dict | None, convert: Callable[[float], float] = float
) -> str:
    if times is None:
        return '-'
    low, high = sorted(map(convert, times['quartiles_ms']))
    median = convert(times['median_ms'])
    return f'{_number(median)} ({_number(low)} to {_number(high)})'


def _number(value: float) -> str:
    """Three significant digits, without an exponent above a thousandth."""
    return f'{value:.0f}' if abs(value) >= 100 else f'{value:.3g}'


def write_report(report: dict, cost: str, folder: Path) -> None:
    """Write ``benchmark.md``, ``benchmark.json`` and ``benchmark.png``.

    Args:
        report (dict): The report.
        cost (str): The plot's x axis, a key of ``COSTS``.
        folder (Path): Where; it is made if need be.
    """
    figure = draw_plot(report, cost)
    with replacing(folder / 'benchmark.png') as temporary:
        figure.savefig(temporary, format='png')
    with replacing(folder / 'benchmark.json') as temporary:
        temporary.write_text(json.dumps(report, indent=1) + '\n')
    with replacing(folder / 'benchmark.md') as temporary:
        temporary.write_text(f'# Benchmark\n\n{format_report(report)}\n')


def format_report(report: dict) -> str:
    """Return header and table."""
    return f'{format_header(report)}\n\n{format_table(report)}'


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
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
        '--device',
        choices=('cpu', 'cuda'),
        default='cuda' if torch.cuda.is_available() else 'cpu',
        help='default here: %(default)s',
    )
    for name, default, text in (
        ('--batch-size', 16, 'samples of a batch, but for the latency'),
        ('--repeats', 10, 'measured runs'),
        ('--warmup', 3, 'runs before them'),
        ('--threads', None, "threads of the CPU (default: torch's choice)"),
    ):
        parser.add_argument(
            name,
            type=_natural,
            default=default,
            metavar='N',
            help=text + (f' (default: {default})' if default else ''),
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
    # The process that measures one config writes its result there.
    parser.add_argument('--result', type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.error('--device cuda: torch finds no GPU here.')
    if args.device == 'cpu' and args.amp == 'float16':
        parser.error('--amp float16 needs a GPU: --amp bfloat16 on a CPU.')
    for folder in args.work_dirs:
        if not folder.is_dir():
            parser.error(f'--work-dirs {folder}: there is no such folder.')
    return args


def _natural(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'{value} is less than 1')
    return value


def main(argv: Sequence[str] | None = None) -> None:
    """Measure the configs and print the table."""
    args = parse_args(argv)
    if args.result:
        write_measured(args.config[0], args)
        return
    try:
        work_dirs = [
            find_work_dir(args.config, index, args.work_dirs)
            for index in range(len(args.config))
        ]
    except ValueError as error:
        sys.exit(f'error: {error}')
    report = dict(
        date=datetime.now().astimezone().isoformat(' ', 'seconds'),
        machine=describe_machine(),
        settings=dict(
            device=args.device,
            batch_size=args.batch_size,
            repeats=args.repeats,
            warmup=args.warmup,
            threads=args.threads,
            amp=args.amp,
            shape=args.shape,
        ),
        results=[],
    )
    for name, work_dir in zip(args.config, work_dirs):
        number = f'{len(report["results"]) + 1}/{len(args.config)}'
        print(f'[{number}] {config_name(name)}', file=sys.stderr, flush=True)
        result = dict(config=name, **measure_apart(name, args))
        if work_dir is not None:
            result['work_dir'] = str(work_dir)
            try:
                result['accuracy'] = read_accuracy(work_dir)
            except (ValueError, OSError) as error:
                result.setdefault('error', str(error))
        report['results'].append(result)
    label_results(report['results'])
    print(format_report(report))
    if args.out:
        write_report(report, args.cost, args.out)
        print(f'Written to {args.out}', file=sys.stderr)
    if any('error' in result for result in report['results']):
        sys.exit(1)


if __name__ == '__main__':
    main()
