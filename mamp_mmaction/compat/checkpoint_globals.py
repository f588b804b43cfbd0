"""What a checkpoint may name, and what each name means while it is read.

torch's weights-only reader calls an allowed global with any arguments a file
gives and sets any state a file holds. The real objects trust that state: a
forged numpy dtype makes array bytes into object pointers, a forged
HistoryBuffer puts other functions in the place of its methods. So every name
allowed here means a stand-in that accepts only what mmengine writes and holds
plain data; :func:`replace_stand_ins` makes the real objects afterwards.
"""

import re

import numpy as np
from mmengine.logging import HistoryBuffer

_STATISTICS = ('min', 'max', 'current', 'mean')


class Refused(Exception):
    """An allowed name used in a way that no checkpoint needs."""


class _Dtype:
    """``numpy.dtype`` of numbers, booleans and strings: no objects."""

    def __init__(self, code, align=False, copy=False):
        if not isinstance(code, str) or not re.fullmatch(
            r'[biufcSU]\d+', code
        ):
            raise Refused(f'numpy.dtype({code!r:.40})')
        self.value = np.dtype(code)

    def __setstate__(self, state):
        _version, byte_order, *structure = state[:5]
        if structure != [None, None, None]:
            raise Refused('numpy.dtype with fields')
        self.value = self.value.newbyteorder(byte_order)


class _Array:
    """``numpy.ndarray``."""

    def __setstate__(self, state):
        _version, shape, dtype, is_fortran, data = state
        order = 'F' if is_fortran else 'C'
        self.value = _array_from_bytes(shape, dtype, data, order)


class _HistoryBuffer:
    """``mmengine.logging.HistoryBuffer``; its statistics are the class's."""

    def __setstate__(self, state):
        logs, counts = state['_log_history'], state['_count_history']
        if not (isinstance(logs, _Array) and isinstance(counts, _Array)):
            raise Refused('HistoryBuffer without arrays')
        self.value = HistoryBuffer(
            logs.value, counts.value, state['max_length']
        )


def _statistic(owner, name):
    """``builtins.getattr``, by which a HistoryBuffer names its statistics.

    The real one leads from a method to its module's globals, and from there
    to everything; this returns no live object at all.
    """
    if owner is not _HistoryBuffer or name not in _STATISTICS:
        raise Refused(f'builtins.getattr for {name!r:.40}')
    return name


def _empty_bytes():
    """``builtins.bytes``, by which pickle writes the bytes of no elements."""
    return b''


def _reconstruct(subtype, shape, type_code):
    """``numpy.core.multiarray._reconstruct``."""
    if subtype is not _Array:
        raise Refused('numpy.core.multiarray._reconstruct of another class')
    return _Array()


def _scalar(dtype, data):
    """``numpy.core.multiarray.scalar``."""
    return _array_from_bytes((), dtype, data)[()]


def _array_from_bytes(shape, dtype, data, order='C'):
    if not isinstance(dtype, _Dtype):
        raise Refused('a numpy array without a numpy.dtype')
    array = np.ndarray(shape, dtype.value, data, order=order)
    if array.nbytes != len(data):
        raise ValueError(f'{len(data)} bytes for an array of shape {shape}')
    return array.copy(order='K')


# numpy 2 renamed numpy.core; files of both are about.
ALLOWED_GLOBALS = [
    (_HistoryBuffer, 'mmengine.logging.history_buffer.HistoryBuffer'),
    (_statistic, 'builtins.getattr'),
    (_empty_bytes, 'builtins.bytes'),
    (_Array, 'numpy.ndarray'),
    (_Dtype, 'numpy.dtype'),
    (_reconstruct, 'numpy.core.multiarray._reconstruct'),
    (_reconstruct, 'numpy._core.multiarray._reconstruct'),
    (_scalar, 'numpy.core.multiarray.scalar'),
    (_scalar, 'numpy._core.multiarray.scalar'),
]


def replace_stand_ins(value):
    """Put the real objects into what was read, in place where possible.

    Args:
        value: What the weights-only reader returned under
            :data:`ALLOWED_GLOBALS`.

    Returns:
        The same with numpy's and mmengine's objects in it.

    Raises:
        Refused: If a dict carries attributes that would hide its methods.
    """
    return _replace(value, seen=set())


def _replace(value, seen):
    if isinstance(value, (_Dtype, _Array, _HistoryBuffer)):
        return value.value
    if type(value) is tuple:
        return tuple(_replace(item, seen) for item in value)
    if id(value) in seen:
        return value
    seen.add(id(value))
    if isinstance(value, dict):
        if set(getattr(value, '__dict__', ())) - {'_metadata'}:
            raise Refused('collections.OrderedDict with attributes')
        # Unbound: keys and items can be looked up on the class alone.
        for key, item in dict.items(value):
            value[key] = _replace(item, seen)
    elif isinstance(value, list):
        value[:] = [_replace(item, seen) for item in value]
    return value
