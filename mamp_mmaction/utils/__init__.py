"""What several parts of the package and its tools share."""

from .atomic import written_whole
from .command import errors_as_one_line
from .machine import available_cores, describe_machine
from .table import markdown_table

__all__ = [
    'available_cores',
    'describe_machine',
    'errors_as_one_line',
    'markdown_table',
    'written_whole',
]
