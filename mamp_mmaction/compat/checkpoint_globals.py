"""What a checkpoint may name, and what each name means while it is read.

torch's weights-only reader calls an allowed global with any arguments a file
gives and sets any state a file holds. The real objects trust that state: a
forged HistoryBuffer puts other functions in the place of its methods. So
every name allowed here means a stand-in, as in
:mod:`mamp_mmaction.utils.plain_pickle`, that accepts only what mmengine or
Python writes. Records of settings become plain dicts.
"""

import datetime
from pathlib import Path

from mmengine.logging import HistoryBuffer

from ..utils.plain_pickle import (
    NUMPY_GLOBALS,
    Array,
    Function,
    Refused,
    StandIn,
)

_STATISTICS = ('min', 'max', 'current', 'mean')
_FACTORIES = ('list', 'dict', 'int', 'float', 'str', 'bool', 'tuple')


class _HistoryBuffer(StandIn):
    """``mmengine.logging.HistoryBuffer``; its statistics are the class's."""

    def __setstate__(self, state):
        logs, counts = state['_log_history'], state['_count_history']
        if not (isinstance(logs, Array) and isinstance(counts, Array)):
            raise Refused('HistoryBuffer without arrays')
        self.value = HistoryBuffer(
            logs.value, counts.value, state['max_length']
        )


class _Namespace(StandIn):
    """``argparse.Namespace``, as a dict of its options."""

    def __setstate__(self, state):
        self.value = _plain_dict(state)


class _Config(StandIn):
    """``mmengine.Config``, as the dict that it holds."""

    def __setstate__(self, state):
        self.value = state[0]


def _plain_dict(items):
    """``mmengine.ConfigDict``, as a dict."""
    if type(items) is not dict:
        raise Refused(f'a {type(items).__name__} for a dict')
    return items


def _default_dict(factory=None):
    """``collections.defaultdict``, as a dict."""
    if factory is not None and factory not in _TYPES.values():
        raise Refused('collections.defaultdict of a function')
    return {}


def _path(*parts):
    """``pathlib.Path``."""
    if not all(type(part) is str for part in parts):
        raise Refused('pathlib.Path of other than strings')
    return Path(*parts)


def _statistic(owner, name):
    """``builtins.getattr``, by which a HistoryBuffer names its statistics.

    The real one leads from a method to its module's globals, and from there
    to everything; this returns no live object at all.
    """
    if owner is not _HistoryBuffer or name not in _STATISTICS:
        raise Refused(f'builtins.getattr for {name!r:.40}')
    return name


def _no_call(*args):
    """A built-in type that is named, never called."""
    raise Refused('a call of a built-in type')


_TYPES = {f'builtins.{name}': Function(_no_call) for name in _FACTORIES}

# Names of torch itself, such as OrderedDict, cannot be changed here.
ALLOWED_GLOBALS = {
    **NUMPY_GLOBALS,
    **_TYPES,
    'mmengine.logging.history_buffer.HistoryBuffer': _HistoryBuffer,
    'builtins.getattr': Function(_statistic),
    'argparse.Namespace': _Namespace,
    'mmengine.config.config.Config': _Config,
    'mmengine.config.config.ConfigDict': Function(_plain_dict),
    'collections.defaultdict': Function(_default_dict),
    **{
        f'{module}.{flavour}Path': Function(_path)
        for module in ('pathlib', 'pathlib._local')
        for flavour in ('Posix', 'PurePosix', 'Windows', 'PureWindows')
    },
    **{
        f'datetime.{name}': Function(getattr(datetime, name))
        for name in ('datetime', 'date', 'time', 'timedelta', 'timezone')
    },
}
