import collections
import os
import pickle
import time
import tracemalloc

import numpy as np
import pytest
import torch
from hostile_checkpoints import Call, Forged

from mamp_mmaction.datasets.annotation_file import read_annotations
from mamp_mmaction.utils.plain_pickle import load_plain_pickle

VALUES = [
    np.arange(6, dtype=np.int16).reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.zeros((0, 3), np.float32),
    np.array(['sit', 'stand up']),
    np.float32(1.5),
    np.bool_(True),
    torch.arange(6.0).view(2, 3).t(),
    torch.tensor(3),
    torch.zeros(0),
    collections.OrderedDict(a=(1, b'\xff', bytearray(b'x'), {2, 3})),
    [None, 1 << 80, 'name'],
]


def same(found, expected):
    if isinstance(expected, (np.ndarray, torch.Tensor)):
        return found.dtype == expected.dtype and np.array_equal(
            found, expected
        )
    return found == expected


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_come_back(protocol, tmp_path):
    path = tmp_path / 'values.pkl'
    path.write_bytes(pickle.dumps({'values': VALUES}, protocol))
    values = load_plain_pickle(path)['values']
    for found, expected in zip(values, VALUES, strict=True):
        assert type(found) is type(expected)
        assert same(found, expected), expected
    values[0][0, 0] = 7  # an array of the reader's own


@pytest.mark.parametrize('core', [b'numpy.core.', b'numpy._core.'])
def test_files_of_either_numpy_load(core, tmp_path):
    data = pickle.dumps(VALUES[0], protocol=0)
    for name in (b'numpy._core.', b'numpy.core.'):
        data = data.replace(name, core)
    assert core in data
    path = tmp_path / 'array.pkl'
    path.write_bytes(data)
    np.testing.assert_array_equal(load_plain_pickle(path), VALUES[0])


SYSTEM = Call(os.system, 'touch marker')
RECONSTRUCT, (_, _, _), _ = np.zeros(1).__reduce__()
SCALAR = np.float32(0).__reduce__()[0]
FLAGS_OFF = (3, '|', None, None, None, -1, -1, 0)
OBJECTS = Forged(np.dtype, ('O8', False, True), FLAGS_OFF)
DOUBLE = np.dtype('f8')


def array_of(dtype, data, shape=(1,)):
    state = (1, shape, dtype, False, data)
    return Forged(RECONSTRUCT, (np.ndarray, (0,), b'b'), state)


def tensor_of(offset, size, stride):
    storage = torch.TypedStorage([1, 1], dtype=torch.float32)
    return Call(
        torch._utils._rebuild_tensor_v2,
        *(storage, offset, size, stride, False, collections.OrderedDict()),
    )


HOSTILE = {
    'system': (SYSTEM, rf'asks for {os.system.__module__}\.system'),
    'eval': (Call(eval, 'open("marker", "w")'), r'asks for builtins\.eval'),
    'getattr': (Call(getattr, 'text', 'format'), r'builtins\.getattr'),
    'another class': (collections.deque(), r'collections\.deque'),
    # numpy would take the bytes for the address of an object.
    'scalar of objects': (Call(SCALAR, OBJECTS, b'A' * 8), 'numpy.dtype'),
    'array of objects': (array_of(OBJECTS, b'A' * 8), 'numpy.dtype'),
    'list of objects': (np.array([None], dtype=object), 'numpy.dtype'),
    # numpy would read far behind the array.
    'fields': (
        Forged(
            np.dtype,
            ('f8', False, True),
            (3, '|', None, ('a',), {'a': (DOUBLE, 999)}, 8, 1, 0),
        ),
        'dtype with fields',
    ),
    'array with a state': (Forged(np.ndarray, ((0,),), {}), 'cannot be read'),
    'more elements than bytes': (
        array_of(DOUBLE, b'A' * 8, (1 << 40,)),
        '8 bytes for an array of shape',
    ),
    'negative shape': (array_of(DOUBLE, b'A' * 8, (-1, -1)), '8 bytes for'),
    'tensor behind its storage': (tensor_of(1, (2,), (1,)), 'a storage of 2'),
    'tensor of one number': (tensor_of(0, (1 << 40,), (0,)), 'a storage of 2'),
    'tensor with a state': (
        Forged(*tensor_of(0, (2,), (1,)).__reduce__(), (False, None, {})),
        'a Tensor with a state',
    ),
    'size of bytes': (Call(bytearray, 1 << 40), 'bytes of a int'),
    'code in a storage': (
        Call(torch.storage._load_from_bytes, pickle.dumps(SYSTEM)),
        'cannot be read',
    ),
    'hidden method': (
        Forged(collections.OrderedDict, (), {'items': 1}),
        'OrderedDict with attributes',
    ),
    'a class': (np.ndarray, 'class as a value'),
}


@pytest.mark.parametrize('protocol', [0, 2, 5])
@pytest.mark.parametrize('what', HOSTILE)
def test_hostile_file_is_refused(what, protocol, tmp_path):
    value, message = HOSTILE[what]
    path = tmp_path / 'data.pkl'
    path.write_bytes(pickle.dumps([value], protocol))
    for read in (load_plain_pickle, read_annotations):
        with pytest.raises(ValueError, match=message) as error:
            read(path)
        assert str(path) in str(error.value)
    assert not os.path.exists('marker')


def test_stand_in_with_a_state_is_refused(tmp_path):
    # GLOBAL, a state, BUILD: pickle would set attributes of the function.
    for name in (b'numpy._core.multiarray\nscalar', b'numpy\nndarray'):
        path = tmp_path / 'build.pkl'
        path.write_bytes(b'c' + name + b'\n}(U\x01aK\x01ub.')
        with pytest.raises(ValueError, match='refused|cannot be read'):
            load_plain_pickle(path)


def nested(value, depth, code):
    """A pickle of tuples in tuples, and what follows them."""
    return pickle.dumps(value, 2)[:-1] + code * depth + b'.'


BOMBS = {
    # DUP, TUPLE2: 2^60 parts
    'shared': nested(1, 60, b'2\x86'),
    'shared key': b'}' + nested(1, 60, b'2\x86')[:-1] + b'Ns.',
    'shared key of DICT': b'(' + nested(1, 60, b'2\x86')[:-1] + b'Nd.',
    'shared item': b'\x8f(' + nested(1, 60, b'2\x86')[:-1] + b'\x90.',
    'shared item of a frozenset': (
        b'(' + nested(1, 60, b'2\x86')[:-1] + b'\x91.'
    ),
    'deep key': b'}' + nested(1, 200_000, b'\x85')[:-1] + b'Ns.',
    'list of itself': b']2a.',
    'keys of a call': b'ccollections\nOrderedDict\n]]K\x01aa\x85R.',
    'memo': b'Nr\xff\xff\xff\x7f0]0' + b'.',  # LONG_BINPUT
    'bytes': b'\x8e' + (1 << 40).to_bytes(8, 'little') + b'.',
    'bytearray': b'\x96' + (1 << 40).to_bytes(8, 'little') + b'.',
    'frame': b'\x80\x04\x95' + (1 << 40).to_bytes(8, 'little') + b'.',
}


@pytest.mark.parametrize('what', BOMBS)
def test_small_file_takes_no_time_and_memory(what, tmp_path):
    path = tmp_path / 'bomb.pkl'
    path.write_bytes(BOMBS[what])
    start = time.process_time()
    tracemalloc.start()
    with pytest.raises(ValueError, match=r'bomb\.pkl: (refused|cannot)'):
        load_plain_pickle(path)
    assert tracemalloc.get_traced_memory()[1] < 1e6 + 200 * len(BOMBS[what])
    tracemalloc.stop()
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    'data',
    [
        *(b'', b'no pickle at all', pickle.dumps(list(range(99)))[:-9]),
        b']' * 10**5 + b'a' * (10**5 - 1) + b'.',  # lists in lists
    ],
    ids=len,
)
def test_no_pickle(tmp_path, data):
    path = tmp_path / 'data.pkl'
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r'data\.pkl: cannot be read'):
        load_plain_pickle(path)


@pytest.mark.parametrize('protocol', range(2, 6))
@pytest.mark.parametrize('axes', [(2, 1, 0), (1, 0, 2), (1, 2, 0)])
def test_arrays_whose_axes_are_stored_in_another_order(
    tmp_path, protocol, axes
):
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(axes)
    path = tmp_path / 'a.pkl'
    path.write_bytes(pickle.dumps(array, protocol))
    np.testing.assert_array_equal(load_plain_pickle(path), array)
