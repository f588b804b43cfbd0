"""What the machine is, for the headers of measurements."""

import platform
from pathlib import Path


def processor_name() -> str:
    """Model of the processor, as far as the system tells it.

    Returns:
        str: Such as ``'AMD EPYC'``; else the architecture.
    """
    info = Path('/proc/cpuinfo')
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    return platform.processor() or platform.machine()
