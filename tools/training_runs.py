"""Trainings through the toolbox's train.py, for the scripts beside this file.

A training notes in ``training.json`` what it was asked to do. Finished, it is
not done again; cut off, it goes on from its last checkpoint; and it is never
taken for another one.
"""

import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import mmaction
import torch

from mamp_mmaction.datasets.conversion import available_cores
from mamp_mmaction.utils.machine import processor_name

ROOT = Path(__file__).resolve().parents[1]
TRAIN = Path(mmaction.__path__[0], '.mim', 'tools', 'train.py')
TOY_MAKER = ROOT / 'tools' / 'data' / 'make_toy_dataset.py'
RECORD = 'training.json'


def run_command(command, log: Path, threads: int) -> None:
    """Run a Python script with its output in a file.

    Args:
        command (list): The script and its arguments.
        log (Path): File that the output is appended to.
        threads (int): Threads that it may compute with.

    Raises:
        SystemExit: If it fails; the end of its output is shown.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
    with log.open('a') as output:
        code = subprocess.run(
            [sys.executable, *map(str, command)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        ).returncode
    if code:
        tail = '\n'.join(log.read_text().splitlines()[-15:])
        raise SystemExit(
            f'{command[0]} failed (exit status {code}):\n{tail}\n'
            f'The whole output is in {log}.'
        )


def train(
    config: Path,
    folder: Path,
    options: dict,
    seed: int,
    threads: int,
    start: Path | None = None,
) -> bool:
    """Train one config, unless that is finished.

    Args:
        config (Path): The config file.
        folder (Path): Working directory of this training alone.
        options (dict): What is changed in the config, by dotted key.
        seed (int): Seed of the training.
        threads (int): Threads that it may compute with.
        start (Path, optional): Folder of the training whose last weights it
            starts from. Defaults to None, random weights.

    Returns:
        bool: Whether anything was left to do.

    Raises:
        SystemExit: If it fails, or the folder holds another training.
    """
    weights = None
    cut_off = (folder / 'last_checkpoint').exists()
    # With --resume, train.py would take what load_from names for a
    # checkpoint of this training.
    if start and not cut_off:
        weights = (start / 'last_checkpoint').read_text()
    asked = dict(
        config=config.name,
        seed=seed,
        options={key: str(value) for key, value in options.items()},
        start=start and start.name,
    )
    note = folder / RECORD
    record = json.loads(note.read_text()) if note.exists() else None
    if record and record['asked'] != asked:
        raise SystemExit(
            f'{folder} holds another training than the one asked for:\n'
            f'  there: {record["asked"]}\n  asked: {asked}\n'
            'Choose another work directory, or remove that folder.'
        )
    if record and record['finished']:
        return False
    write_text(note, json.dumps(dict(asked=asked, finished=False), indent=2))
    command = [TRAIN, config, '--work-dir', folder, '--seed', seed]
    if cut_off:
        command.append('--resume')
    command += ['--cfg-options', f'load_from={weights}']
    command += [f'{key}={value}' for key, value in options.items()]
    began = time.monotonic()
    run_command(command, folder / 'console.log', threads)
    seconds = round(time.monotonic() - began)
    record = dict(asked=asked, finished=True, seconds=seconds)
    write_text(note, json.dumps(record, indent=2))
    return True


def data_options(ann_file: Path) -> dict:
    """What makes a config train and validate on an annotation file.

    Args:
        ann_file (Path): The annotation file.

    Returns:
        dict: Options for :func:`train`.
    """
    return {
        f'{split}_dataloader.dataset.ann_file': ann_file
        for split in ('train', 'val')
    }


def make_toy_data(path: Path, **options) -> Path:
    """Make the toy data set, unless it is there.

    Args:
        path (Path): The annotation file; what is printed goes beside it.
        options (dict): Arguments of ``make_toy_dataset.py``.

    Returns:
        Path: The annotation file.
    """
    if not path.exists():
        arguments = [f'--{key}={value}' for key, value in options.items()]
        run_command(
            [TOY_MAKER, path, *arguments],
            path.with_name('data.log'),
            available_cores(),
        )
    return path


def is_finished(folder: Path) -> bool:
    """Whether the training of a folder came to its end."""
    note = folder / RECORD
    return note.exists() and json.loads(note.read_text())['finished']


def train_and_tell(title: str, *args, **kwargs) -> None:
    """Train as :func:`train` does, and print how long it took.

    Args:
        title (str): What is printed before the time.
        args: Arguments of :func:`train`.
        kwargs: Likewise.
    """
    began = time.monotonic()
    trained = train(*args, **kwargs)
    spent = f'{time.monotonic() - began:.0f} s' if trained else 'done before'
    print(f'  {title}: {spent}', flush=True)


def read_curve(folder: Path, key: str) -> list[float]:
    """A value that a training logged after each validation.

    Args:
        folder (Path): Working directory of the training. Where it was
            resumed, the later record of an epoch counts.
        key (str): Name of the value, such as ``'acc/top1'``.

    Returns:
        list[float]: The values, by epoch.

    Raises:
        SystemExit: If there is none.
    """
    curve = {}
    for log in sorted(folder.glob('*/vis_data/scalars.json')):
        for line in map(json.loads, log.read_text().splitlines()):
            if key in line:
                curve[line['step']] = line[key]
    if not curve:
        raise SystemExit(f'No log below {folder} has {key!r}.')
    return [curve[step] for step in sorted(curve)]


def write_text(path: Path, text: str) -> None:
    """Write a file under a temporary name, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'{path.name}.tmp')
    temporary.write_text(text)
    temporary.replace(path)


def describe_machine() -> str:
    """The hardware and the versions that a figure was measured with."""
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    else:
        device = f'{available_cores()} cores, {processor_name()}'
    packages = ('torch', 'mmengine', 'mmaction2', 'numpy')
    versions = ', '.join(f'{name} {version(name)}' for name in packages)
    return f'{device}; Python {platform.python_version()}, {versions}'
