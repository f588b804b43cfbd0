"""What several parts of the package and its tools share."""

from .atomic import written_whole
from .command import errors_as_one_line
from .flops import count_flops
from .machine import available_cores, describe_machine, usable_device
from .table import markdown_table

__all__ = [
    'available_cores',
    'count_flops',
    'describe_machine',
    'errors_as_one_line',
    'markdown_table',
    'usable_device',
    'written_whole',
]
