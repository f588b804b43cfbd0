"""Pickles read as plain data: nothing in a file can run by being read.

pickle calls what a file names with any arguments and sets any state the file
holds. Even numpy trusts that: a forged dtype makes an array's bytes into
addresses of objects. So a name means a stand-in here, which takes only what
numpy and torch write, and :func:`replace_stand_ins` puts the values into
their places. Checkpoints share the stand-ins
(:mod:`mamp_mmaction.compat.checkpoint_globals`).
"""

import io
import math
import mmap
import os
import pickle
import re
from collections import OrderedDict
from pathlib import Path
from typing import ClassVar

import numpy as np

#: Values that a file may hold a byte, each counted as often as it occurs.
MOST_PER_BYTE = 10


class Refused(Exception):
    """A name that no data needs, or one used as no library uses it."""


class Function:
    """A function in the place of the one that a file names.

    pickle can set a state on whatever it has at hand; not on these.
    """

    __slots__ = ('_function',)

    def __init__(self, function):
        self._function = function

    def __call__(self, *args):
        """Call it as the file does."""
        return self._function(*args)

    def __setstate__(self, state):
        raise Refused('a function with a state')


class StandIn:
    """Holds the ``value`` that takes its place when all is read."""


class Dtype(StandIn):
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


class Array(StandIn):
    """``numpy.ndarray``."""

    def __setstate__(self, state):
        _version, shape, dtype, is_fortran, data = state
        dtype = _checked_dtype(shape, dtype, data)
        # numpy's own way, which takes the bytes over without a copy.
        self.value = np.ndarray((0,), 'b')
        self.value.__setstate__((1, shape, dtype, bool(is_fortran), data))


def _checked_dtype(shape, dtype, data):
    """The real dtype of an array whose bytes are as many as it declares."""
    if not isinstance(dtype, Dtype):
        raise Refused('a numpy array without a numpy.dtype')
    if not isinstance(data, (bytes, bytearray)):
        raise Refused(f'a numpy array of a {type(data).__name__}')
    sizes = [*shape, dtype.value.itemsize]
    if min(sizes) < 0 or math.prod(sizes) != len(data):
        raise ValueError(f'{len(data)} bytes for an array of shape {shape}')
    return dtype.value


def _reconstruct(subtype, shape, type_code):
    """``numpy.core.multiarray._reconstruct``."""
    if subtype is not Array:
        raise Refused('numpy.core.multiarray._reconstruct of another class')
    return Array()


def _scalar(dtype, data):
    """``numpy.core.multiarray.scalar``."""
    return np.ndarray((), _checked_dtype((), dtype, data), data)[()]


def _from_buffer(data, dtype, shape, order, axis_order=None):
    """``numpy.core.numeric._frombuffer``, of pickle's protocol 5."""
    dtype = _checked_dtype(shape, dtype, data)
    if order == 'K':  # the axes are stored in another order
        array = np.ndarray(shape, dtype, data).transpose(axis_order)
    else:
        array = np.ndarray(shape, dtype, data, order=order)
    return array if array.flags.writeable else array.copy(order='K')


def _empty_bytes():
    """``builtins.bytes``, by which pickle writes the bytes of no elements."""
    return b''


# numpy 2 renamed numpy.core; files of both are about.
NUMPY_GLOBALS = {
    'numpy.ndarray': Array,
    'numpy.dtype': Dtype,
    **{
        f'numpy.{core}.{name}': Function(function)
        for core in ('core', '_core')
        for name, function in (
            ('multiarray._reconstruct', _reconstruct),
            ('multiarray.scalar', _scalar),
            ('numeric._frombuffer', _from_buffer),
        )
    },
    'builtins.bytes': Function(_empty_bytes),
}


def _encode(text, encoding):
    """``_codecs.encode``, bytes below pickle's protocol 3."""
    if encoding not in ('latin1', 'latin-1'):
        raise Refused(f'_codecs.encode to {encoding!r:.40}')
    return text.encode('latin1')


def _bytearray(data=b'', encoding='latin1'):
    """``builtins.bytearray``; the real one takes a size, too."""
    return bytearray(
        _encode(data, encoding) if isinstance(data, str) else bytes_of(data)
    )


def bytes_of(data):
    """Return bytes as they are, refuse all else."""
    if type(data) is not bytes:
        raise Refused(f'bytes of a {type(data).__name__}')
    return data


def _set(items):
    """``builtins.set``, below pickle's protocol 4."""
    if type(items) is not list:
        raise Refused(f'builtins.set of a {type(items).__name__}')
    check_keys(items)
    return set(items)


def _ordered_dict():
    """``collections.OrderedDict``; its items follow in the file."""
    return OrderedDict()


def _storage(data):
    """``torch.storage._load_from_bytes``; the real one runs what they say."""
    import torch

    return torch.load(io.BytesIO(bytes_of(data)), weights_only=True)


def _tensor(storage, offset, size, stride, *_others):
    """``torch._utils._rebuild_tensor_v2``; the real one resizes storages."""
    import torch

    if not isinstance(storage, torch.storage.TypedStorage):
        raise Refused('a torch tensor without a storage')
    count = storage._size()  # len() warns of the class's removal
    last = offset + sum((n - 1) * step for n, step in zip(size, stride))
    if (
        min(offset, *size, *stride, 0) < 0
        or len(size) != len(stride)
        or (0 not in size and last >= count)
        or math.prod(size) > count
    ):
        raise ValueError(
            f'a storage of {count} numbers for a tensor of shape {tuple(size)}'
        )
    empty = torch.empty(0, dtype=storage.dtype)
    return empty.set_(storage, offset, tuple(size), tuple(stride))


_GLOBALS = {
    **NUMPY_GLOBALS,
    '_codecs.encode': Function(_encode),
    'builtins.bytearray': Function(_bytearray),
    'builtins.set': Function(_set),
    'collections.OrderedDict': Function(_ordered_dict),
    'torch.storage._load_from_bytes': Function(_storage),
    'torch._utils._rebuild_tensor_v2': Function(_tensor),
}


_KEY_TYPES = (str, bytes, int, float, type(None), np.number, np.bool_)
_MOST_IN_A_KEY = 100


def check_keys(keys, others: type | tuple = ()) -> None:
    """Refuse keys whose hash would take long, or overflow the stack.

    The hash of a tuple is computed anew each time, of each part as often as
    it occurs: 60 pairs of pairs take 2^60 steps, a million nested ones crash.

    Args:
        keys (Iterable): What is to be keys of a dict or items of a set.
        others (type or tuple): Types that keys may have, too. Defaults to
            none.

    Raises:
        Refused: One is more than a string, a number, or some of these.
    """
    for key in keys:
        parts, count = [key], 0
        while parts:
            part = parts.pop()
            count += 1
            if type(part) is tuple and count + len(part) <= _MOST_IN_A_KEY:
                parts += part
            elif not isinstance(part, (_KEY_TYPES, others)) or (
                type(part) is int and part.bit_length() > 64
            ):
                raise Refused(f'such a {type(part).__name__} as a key')


def _checking(load, keys):
    """The reader of an opcode, which first checks the keys on the stack."""

    def check_and_load(self):
        check_keys(self.stack[keys], self.other_keys)
        load(self)

    return check_and_load


class GuardedUnpickler(pickle._Unpickler):
    """Python's own reader in Python, since the one in C lets nobody check.

    That one asks for whatever memory a file declares, and hashes any key.
    """

    other_keys = ()
    dispatch: ClassVar = dict(pickle._Unpickler.dispatch)

    def _load_bytearray8(self):
        size = int.from_bytes(self.read(8), 'little')
        self.append(bytearray(self.read(size)))

    for _code, _keys in (
        (pickle.SETITEM, slice(-2, -1)),
        (pickle.SETITEMS, slice(None, None, 2)),
        (pickle.DICT, slice(None, None, 2)),
        (pickle.ADDITEMS, slice(None)),
        (pickle.FROZENSET, slice(None)),
    ):
        dispatch[_code[0]] = _checking(dispatch[_code[0]], _keys)
    dispatch[pickle.BYTEARRAY8[0]] = _load_bytearray8


class _PlainUnpickler(GuardedUnpickler):
    dispatch: ClassVar = dict(GuardedUnpickler.dispatch)

    def _load_build(self):
        made = self.stack[-2]
        if not isinstance(made, (StandIn, Function, OrderedDict)):
            # A tensor would take any size, and functions to be called.
            raise Refused(f'a {type(made).__name__} with a state')
        pickle._Unpickler.load_build(self)

    dispatch[pickle.BUILD[0]] = _load_build

    def find_class(self, module, name):
        key = f'{module}.{name}'.replace('__builtin__.', 'builtins.')
        if key not in _GLOBALS:
            raise Refused(key)
        return _GLOBALS[key]


def load_plain_pickle(path: str | Path) -> object:
    """Read a pickle of dicts, lists, strings, numbers, arrays and tensors.

    Args:
        path (str | Path): The file.

    Returns:
        object: What it holds.

    Raises:
        OSError: It cannot be opened.
        ValueError: It is no pickle, or asks for more than those values.
    """
    with open(path, 'rb') as file:
        size = os.fstat(file.fileno()).st_size
        try:
            # Reading from it takes no more memory than there are bytes.
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                content = replace_stand_ins(_PlainUnpickler(data).load())
            if _expanded_size(content, {}) > MOST_PER_BYTE * size:
                raise Refused('values that hold one another countless times')
            return content
        except Refused as refused:
            raise ValueError(
                f'{path}: refused, since it asks for {refused}. Such a file '
                'holds dicts, lists, strings, numbers, numpy arrays and '
                'tensors only; write it anew from those.'
            ) from None
        except Exception as error:  # what a broken pickle raises is anything
            reason = ' '.join(str(error).split())
            raise ValueError(
                f'{path}: cannot be read as a pickle '
                f'({type(error).__name__}: {reason}); it is truncated or of '
                'another format.'
            ) from None


def _expanded_size(value, sizes):
    # What shares its parts is small in a file, but not to those who go
    # through it or print it.
    if not isinstance(value, (tuple, list, dict)):
        return 1
    if id(value) not in sizes:
        sizes[id(value)] = math.inf  # what holds itself
        parts = value.values() if isinstance(value, dict) else value
        sizes[id(value)] = 1 + sum([_expanded_size(p, sizes) for p in parts])
    return sizes[id(value)]


def replace_stand_ins(value: object) -> object:
    """Put the real values into what was read, in place where possible.

    Args:
        value (object): What an unpickler returned under stand-ins.

    Returns:
        object: The same with the stand-ins' values in it.

    Raises:
        Refused: If a stand-in remains where it cannot be replaced, or a dict
            carries attributes that would hide its methods.
    """
    return _replace(value, {})


def _replace(value, done):
    # Everything is visited once: nested tuples that share their parts would
    # else take 2^depth steps. ``done`` keeps what it knows by id alive.
    if id(value) in done:
        return done[id(value)][1]
    if isinstance(value, StandIn):
        result = _replace(value.value, done)
    elif type(value) is tuple:
        result = tuple([_replace(item, done) for item in value])
        if all(new is old for new, old in zip(result, value)):
            result = value
    elif isinstance(value, dict):
        done[id(value)] = value, value
        if set(getattr(value, '__dict__', ())) - {'_metadata'}:
            raise Refused('collections.OrderedDict with attributes')
        # Unbound: keys and items can be looked up on the class alone.
        for key, item in dict.items(value):
            if type(key) is not str and _replace(key, done) is not key:
                raise Refused(f'a {type(key).__name__} as a key')
            value[key] = _replace(item, done)
        return value
    elif type(value) is list:
        done[id(value)] = value, value
        value[:] = [_replace(item, done) for item in value]
        return value
    elif type(value) in (set, frozenset):
        if any(_replace(item, done) is not item for item in value):
            raise Refused(f'a {type(value).__name__} of such items')
        return value
    elif isinstance(value, (Function, type)):
        raise Refused('a function or class as a value')
    else:
        return value
    done[id(value)] = value, result
    return result
