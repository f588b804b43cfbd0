"""What the machine is, for the headers of measurements."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

PACKAGES = ('torch', 'mmengine', 'mmaction2', 'numpy')


def available_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor_name() -> str:
    """Model of the processor, else its architecture."""
    info = Path('/proc/cpuinfo')
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    return platform.processor() or platform.machine()


def describe_machine() -> str:
    """The hardware and the versions that a figure was measured with.

    Returns:
        str: Such as ``'2 cores, AMD EPYC; Python 3.11.7, torch 2.13.0, ...'``
        or, where there is one, the GPU's name first.
    """
    import torch

    device = f'{available_cores()} cores, {processor_name()}'
    if torch.cuda.is_available():
        device = f'{torch.cuda.get_device_name()}; {device}'
    versions = ', '.join(f'{name} {version(name)}' for name in PACKAGES)
    return f'{device}; Python {platform.python_version()}, {versions}'


def usable_device(name: str | None = None) -> 'torch.device':
    """The device that a command is to compute on.

    Args:
        name (str, optional): Such as ``'cpu'`` or ``'cuda:0'``. Defaults to
            None, an accelerator where there is one, else the CPU.

    Returns:
        torch.device: The device.

    Raises:
        ValueError: It is not there.
    """
    import torch
    from mmengine.device import get_device

    try:
        device = torch.device(name or get_device())
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f'The device {name!r} cannot be used here ({reason}): take cpu, '
            'or another that torch finds.'
        ) from error
    return device
