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
import textwrap
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from importlib.metadata import version
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn as nn
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from mmaction.registry import HOOKS, MODELS, TRANSFORMS
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
from mamp_mmaction.machine import processor_name

METRIC = 'acc/top1'
# What tells that a pipeline takes positions in an image, with confidences.
IMAGE_TRANSFORMS = {
    'PreNormalize2D',
    'PoseCompact',
    'DecompressPose',
    'GeneratePoseTarget',
}
IMAGE_SIZE = (1080, 1920)
NUM_FRAMES = 100  # of a made sequence; pipelines resample it


def load_config(name: str) -> Config:
    """Read a config.

    Args:
        name (str): A file, or ``package::path`` below a package's configs.

    Returns:
        Config: The config.
    """
    if '::' in name:
        # Config.fromfile knows this form in `_base_` only.
        return Config.fromstring(f'_base_ = {name!r}\n', '.py')
    return Config.fromfile(name)


def config_name(name: str) -> str:
    """The file name of a config without ``.py``."""
    return Path(name.rpartition('::')[2]).stem


def type_name(cfg: dict) -> str:
    """The name of a component's class, without its registry's scope."""
    kind = cfg['type']
    return kind.rpartition('.')[2] if isinstance(kind, str) else kind.__name__


def find_dataset(cfg: Config, loader: str) -> ConfigDict:
    """Return the data set of a loader, inside of what repeats or joins it.

    Args:
        cfg (Config): The config.
        loader (str): Such as ``'test_dataloader'``.

    Raises:
        ValueError: If there is none with a pipeline.
    """
    dataset = (cfg.get(loader) or {}).get('dataset')
    while dataset and 'pipeline' not in dataset:
        parts = dataset.get('datasets') or [None]
        dataset = dataset.get('dataset') or parts[0]
    if not dataset:
        raise ValueError(f'{loader} has no data set with a pipeline.')
    return dataset


def annotation_shape(
    cfg: Config, model: nn.Module, pipeline: Sequence[dict]
) -> tuple[int, int, int, int]:
    """Read off the annotations that a config is made for.

    Args:
        cfg (Config): The config.
        model (nn.Module): Its model.
        pipeline (list[dict]): The pipeline that takes the annotations.

    Returns:
        tuple[int]: Persons, frames, joints and coordinates.

    Raises:
        ValueError: If nothing tells the number of joints.
    """
    steps = {type_name(step): step for step in pipeline}
    persons = steps.get('FormatGCNInput', {}).get('num_person', 1)
    backbone = cfg.model.get('backbone', {})
    if 'GeneratePoseTarget' in steps:
        heatmap = TRANSFORMS.build(steps['GeneratePoseTarget'])
        joints = 1 + max(max(limb) for limb in heatmap.skeletons)
        if heatmap.with_kp and not heatmap.with_limb:
            joints = backbone.get('in_channels', joints)
    elif hasattr(getattr(model, 'backbone', None), 'num_joints'):
        joints = model.backbone.num_joints
    elif 'graph_cfg' in backbone:
        # The toolbox's models can be imported behind the package only.
        from mmaction.models.utils import Graph

        joints = Graph(**backbone.graph_cfg).num_node
    else:
        raise ValueError(
            f'the backbone {backbone.get("type")} has neither num_joints nor '
            'graph_cfg, and no GeneratePoseTarget is in the pipeline: give '
            'persons, frames, joints and coordinates by --shape.'
        )
    if IMAGE_TRANSFORMS.intersection(steps):
        coordinates = 2
    else:
        # Streams side by side, joints and bones say, are more channels.
        coordinates = min(backbone.get('in_channels', 3), 3)
    return persons, NUM_FRAMES, joints, coordinates


def make_annotation(
    index: int, shape: Sequence[int], pipeline: Sequence[dict]
) -> dict:
    """Make an annotation as the toolbox's data sets hand it to a pipeline.

    Args:
        index (int): Number of the sample; another gives other positions.
        shape (tuple[int]): Persons M, frames T, joints V, coordinates C.
        pipeline (list[dict]): The pipeline that is to take it.

    Returns:
        dict: With ``keypoint`` (M, T, V, C): a random walk of the joints in
        metres or, where the pipeline takes those, pixels and
        ``keypoint_score`` (M, T, V).
    """
    M, T, V, C = shape
    types = set(map(type_name, pipeline))
    rng = np.random.default_rng(index)
    start = rng.normal(size=(M, 1, V, C))
    walk = rng.normal(scale=0.02, size=(M, T, V, C)).cumsum(axis=1)
    annotation = dict(
        frame_dir=f'sample{index}',
        sample_idx=index,
        label=0,
        total_frames=T,
        start_index=0,
        modality='Pose',
        img_shape=IMAGE_SIZE,
        original_shape=IMAGE_SIZE,
        keypoint=(start + walk).astype(np.float32),
    )
    if types & IMAGE_TRANSFORMS:
        height, width = IMAGE_SIZE
        pixels = annotation['keypoint'] * height / 10
        pixels += np.resize((width / 2, height / 2), C).astype(np.float32)
        score = rng.uniform(0.5, 1, size=(M, T, V)).astype(np.float32)
        annotation.update(keypoint=pixels, keypoint_score=score)
    if 'DecompressPose' in types:
        scored = np.append(pixels, score[..., None], axis=-1)
        annotation.update(
            keypoint=scored.swapaxes(0, 1).reshape(T * M, V, C + 1),
            frame_inds=np.repeat(np.arange(T), M),
        )
        del annotation['keypoint_score']
    return annotation


def run_pipeline(pipeline: Sequence[dict], annotation: dict) -> dict:
    """Take an annotation through a pipeline.

    Args:
        pipeline (list[dict]): Configs of the transforms.
        annotation (dict): The annotation.

    Returns:
        dict: ``inputs`` (clips, ...) and ``data_samples``.

    Raises:
        ValueError: If a transform, which is named, cannot take it.
    """
    shape = annotation['keypoint'].shape
    results = annotation
    for step in pipeline:
        try:
            results = TRANSFORMS.build(step)(results)
        except Exception as error:  # whatever somebody's transform raises
            raise ValueError(
                f'{type_name(step)} of the pipeline fails on a made sample, '
                f'whose keypoint has shape {shape}: {type(error).__name__}: '
                f'{error} This tool makes skeletons only; --shape changes '
                'their sizes.'
            ) from error
    return results


def make_samples(
    cfg: Config, model: nn.Module, args: argparse.Namespace, training: bool
) -> list[dict]:
    """Make a batch of samples as a config's model gets them.

    Args:
        cfg (Config): The config.
        model (nn.Module): Its model.
        args (Namespace): The command line, with the number of samples and,
            where they are not to be read off the config, the persons,
            frames, joints and coordinates of their annotations.
        training (bool): Through the training pipeline as it is, instead of
            one clip of the test pipeline.

    Returns:
        list[dict]: Each with ``inputs`` (clips, ...) and ``data_samples``.
    """
    loader = 'train_dataloader' if training else 'test_dataloader'
    pipeline = [dict(step) for step in find_dataset(cfg, loader).pipeline]
    if not training:
        for step in pipeline:
            if 'num_clips' in step:
                step['num_clips'] = 1
    shape = args.shape or annotation_shape(cfg, model, pipeline)
    samples = [
        run_pipeline(pipeline, make_annotation(index, shape, pipeline))
        for index in range(args.batch_size)
    ]
    if not training:
        for sample in samples:
            # A clip and its mirror image count as two.
            sample['inputs'] = sample['inputs'][:1].clone()
    return samples


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


# Okabe and Ito's colours, which the colour-blind can tell apart.
COLORS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9')
COSTS = {
    'gflops': 'GFLOPs of one sample',
    'latency': 'latency of one sample, ms',
}


def cost_of(result: dict, cost: str) -> float | None:
    """Return what a config costs, where that was measured.

    Args:
        result (dict): What is known of the config.
        cost (str): A key of ``COSTS``.
    """
    if cost == 'gflops':
        return result['flops'] / 1e9 if 'flops' in result else None
    return result['latency']['median_ms'] if 'latency' in result else None


def draw_plot(report: dict, cost: str) -> Figure:
    """Draw accuracy against cost.

    Args:
        report (dict): The report.
        cost (str): A key of ``COSTS``.

    Returns:
        Figure: A point for each config whose accuracy and cost are known; the
        others are named below.
    """
    results = report['results']
    points = [
        (cost_of(r, cost), r)
        for r in results
        if r.get('accuracy') and cost_of(r, cost) is not None
    ]
    shown = [result['name'] for _, result in points]
    absent = [r['name'] for r in results if r['name'] not in shown]
    figure = Figure((9, 5 + 0.2 * len(results)), dpi=150)
    FigureCanvasAgg(figure)
    note = f'No point, for want of accuracy or cost: {", ".join(absent)}'
    lines = textwrap.wrap(note, 110) if absent else []
    foot = (0.75 + 0.17 * len(lines)) / figure.get_figheight()
    top = 1 - 0.4 / figure.get_figheight()
    axes = figure.add_axes((0.09, foot, 0.88, top - foot))
    figure.text(0.09, 0.015, '\n'.join(lines), fontsize=8, color='#555555')
    axes.set_xlabel(COSTS[cost])
    axes.set_ylabel('validation top-1, %')
    axes.grid(color='#e5e5e5', linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
    if points:
        _draw_points(axes, points)
    else:
        axes.set(xticks=[], yticks=[])
        text = 'No accuracy is known: give --work-dirs with trained models.'
        axes.text(0.5, 0.5, text, ha='center', transform=axes.transAxes)
    return figure


def _draw_points(axes: Axes, points: list[tuple[float, dict]]) -> None:
    """Draw last and best accuracy of each, joined, in its data's colour."""
    data = sorted({result['data'] for _, result in points})
    color_of = {name: COLORS[i % len(COLORS)] for i, name in enumerate(data)}
    costs = [cost for cost, _ in points]
    last, marks = [], []
    for cost, result in points:
        ends = [100 * result['accuracy'][key] for key in ('last', 'best')]
        color = color_of[result['data']]
        axes.plot((cost, cost), ends, color=color, linewidth=1)
        axes.plot(cost, ends[1], 'o', color=color, markerfacecolor='white')
        axes.plot(cost, ends[0], 'o', color=color)
        last.append((cost, ends[0]))
        marks += [(cost, height) for height in np.linspace(*ends, 20)]
    _set_limits(axes, costs, [height for _, height in marks])
    names = shorten_names([result['name'] for _, result in points])
    place_labels(axes, last, names, obstacles=marks)
    _add_legend(axes, color_of)


def _set_limits(axes: Axes, costs: list[float], heights: list[float]) -> None:
    """Leave room for labels, and make no gulf of a small difference."""
    low, high = min(costs), max(costs)
    if high > 8 * low:
        axes.set_xscale('log')
        axes.xaxis.set_major_formatter('{x:g}')
        room = (high / low) ** 0.15
        axes.set_xlim(low / room, high * room)
    else:
        room = max(0.15 * (high - low), 0.1 * high)
        axes.set_xlim(low - room, high + room)
    low, high = min(heights), max(heights)
    room = max(0.15 * (high - low), 1)
    axes.set_ylim(low - room, high + room)


def _add_legend(axes: Axes, color_of: dict[str, str]) -> None:
    """Say above the axes what markers and colours mean."""
    mark = dict(linestyle='', marker='o', color='#555555')
    handles = [
        Line2D([], [], label='last epoch', **mark),
        Line2D([], [], label='best', markerfacecolor='white', **mark),
    ]
    handles += [
        Line2D([], [], linewidth=4, color=color, label=name)
        for name, color in color_of.items()
    ]
    axes.legend(
        handles=handles,
        loc='lower left',
        bbox_to_anchor=(0, 1),
        ncols=len(handles),
        frameon=False,
        fontsize=8,
    )


def shorten_names(names: Sequence[str]) -> list[str]:
    """Fit names for a plot: without what all share, and on two lines.

    Args:
        names (list[str]): Names whose parts are joined by underscores, the
            data set last.

    Returns:
        list[str]: The names, without a last part that all have.
    """
    parts = [name.rpartition('_') for name in names]
    heads, tails = {head for head, _, _ in parts}, {tail for *_, tail in parts}
    if len(tails) == 1 and len(heads) == len(names) > 1:
        return [head for head, _, _ in parts]
    return ['\n'.join(filter(None, (head, tail))) for head, _, tail in parts]


LABEL_SIZE = 7.5
# Where a label may lie, seen from its point: near before far, to the sides
# before above or below.
DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1))
DIRECTIONS += tuple(
    (x, slope * y)
    for slope in (0.25, 0.5, 1, 2)
    for y in (1, -1)
    for x in (1, -1)
)
DISTANCES = (7, 16, 26, 38, 52, 68, 86, 106, 130, 160, 200, 250)  # points
OFFSETS = np.array(
    [np.multiply(y, x) for x, y in product(DISTANCES, DIRECTIONS)]
)


def place_labels(
    axes: Axes,
    points: Sequence[tuple[float, float]],
    labels: Sequence[str],
    obstacles: Sequence[tuple[float, float]],
) -> list[Annotation]:
    """Label points so that no label covers another, a marker or the frame.

    Each takes the nearest free place, and a line that crosses no label and no
    marker leads to its point.

    Args:
        axes (Axes): With their final limits and size.
        points (list[tuple]): Positions in the data's units.
        labels (list[str]): One a point.
        obstacles (list[tuple]): Positions of markers and along lines.

    Returns:
        list[Annotation]: The labels.
    """
    renderer = axes.figure.canvas.get_renderer()
    pixel = axes.figure.dpi / 72  # of a typographic point
    frame = axes.get_window_extent(renderer).extents[None]
    taken = _boxes(axes.transData.transform(obstacles), 4 * pixel)
    lines = np.empty((0, 4))
    style = dict(fontsize=LABEL_SIZE, linespacing=1.1, parse_math=False)
    annotations = []
    for point, label in zip(points, labels):
        text = axes.text(0, 0, label, **style)
        half = text.get_window_extent(renderer).size / 2
        text.remove()
        origin = axes.transData.transform(point)
        near = origin + OFFSETS * pixel
        places = _boxes(near + np.sign(OFFSETS) * half, half + 2 * pixel)
        # (places, points of the line, x and y)
        leaders = np.linspace(origin, near, 50, axis=1)
        others = taken[~_inside(origin, taken)]
        covered = _common_area(places, np.concatenate((taken, lines)))
        fault = covered.sum(axis=1) + _inside(leaders, others).sum(axis=(1, 2))
        fault += 4 * np.prod(half + 2 * pixel)
        fault -= _common_area(places, frame)[:, 0]
        best = fault.round(3).argmin()
        taken = np.concatenate((taken, places[best, None]))
        lines = np.concatenate((lines, _boxes(leaders[best, 10:], pixel)))
        x_side, y_side = np.sign(OFFSETS[best]).astype(int)
        annotations.append(
            axes.annotate(
                label,
                point,
                xytext=tuple(OFFSETS[best]),
                textcoords='offset points',
                ha=('center', 'left', 'right')[x_side],
                va=('center', 'bottom', 'top')[y_side],
                arrowprops=dict(
                    arrowstyle='-',
                    color='#999999',
                    linewidth=0.6,
                    relpos=((1 - x_side) / 2, (1 - y_side) / 2),
                    shrinkA=0,
                    shrinkB=3,
                ),
                **style,
            )
        )
    return annotations


def _boxes(centers: np.ndarray, half: np.ndarray | float) -> np.ndarray:
    """Boxes (K, 4), as left, bottom, right, top, about centres (K, 2)."""
    return np.concatenate((centers - half, centers + half), axis=1)


def _common_area(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Areas (K, L) that boxes (K, 4) and (L, 4) have in common."""
    low = np.maximum(a[:, None, :2], b[:, :2])
    high = np.minimum(a[:, None, 2:], b[:, 2:])
    return (high - low).clip(min=0).prod(axis=2)


def _inside(points: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Whether points (..., 2) lie in boxes (K, 4), as (..., K)."""
    points = points[..., None, :]
    above = (points > boxes[:, :2]).all(axis=-1)
    return above & (points < boxes[:, 2:]).all(axis=-1)


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
