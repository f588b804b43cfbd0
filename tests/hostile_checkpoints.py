"""Checkpoint files that create a marker file when they are unpickled."""

import functools
import importlib
import os
import pickle
import shlex
import tarfile
from io import BytesIO

import numpy as np
import torch
from mmengine.logging import HistoryBuffer


class Call:
    """Pickles as a call of ``function`` on ``args``, which may be calls."""

    def __init__(self, function, *args):
        self.function = function
        self.args = args

    def __reduce__(self):
        return self.function, self.args

    def __call__(self):
        """Lets pickle take a call for a function."""


class Forged:
    """Pickles as what ``function`` gives for ``args``, with a state."""

    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


def write_hostile_checkpoints(folder, markers):
    """Write one file of every kind.

    Returns:
        dict: For each kind the path of its file, the global that a refusal
        must name (None where the format itself is refused) and the marker.
    """
    written = {}
    for kind, (write, named) in KINDS.items():
        path, marker = folder / f'{kind}.pth', markers / kind
        write(path, marker)
        written[kind] = (path, named, marker)
    return written


def _system(marker):
    return Call(os.system, f'touch {shlex.quote(str(marker))}')


def _python(marker):
    return f'open({str(marker)!r}, "w").close()'


def _checkpoint(make):
    """Save what ``make`` returns as a value of a checkpoint."""

    def write(path, marker):
        torch.save({'state_dict': {}, 'meta': make(marker)}, path)

    return write


def _through_getattr(attribute):
    """Reach eval from a method of HistoryBuffer, by getattr alone."""

    def make(marker):
        method = Call(getattr, HistoryBuffer, attribute)
        module = Call(getattr, method, '__globals__')
        found = Call(Call(getattr, module, 'get'), '__builtins__')
        eval_ = Call(Call(getattr, found, 'get'), 'eval')
        return Call(eval_, _python(marker))

    return make


def _object_array(marker):
    array = np.empty(2, dtype=object)
    array[:] = [1.0, _system(marker)]
    return array


def _torch_load(path, marker):
    inner = path.with_name('inner.pkl')
    inner.write_bytes(pickle.dumps(_system(marker), protocol=2))
    module = Call(importlib.import_module, 'pickle')
    torch.save({'meta': Call(torch.load, str(inner), None, module)}, path)


def _unzipped(path, marker):
    torch.save(
        {'state_dict': {'weight': torch.ones(2)}, 'meta': _system(marker)},
        path,
        _use_new_zipfile_serialization=False,
    )


def _plain(protocol):
    def write(path, marker):
        path.write_bytes(pickle.dumps(_system(marker), protocol))

    return write


def _instance_opcode(path, marker):
    command = _system(marker).args[0]
    path.write_bytes(b'(S' + repr(command).encode() + b'\nios\nsystem\n.')


def _tar(path, marker):
    data = pickle.dumps(_system(marker), protocol=2)
    with tarfile.open(path, 'w') as archive:
        for name in ('storages', 'tensors', 'pickle'):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, BytesIO(data))


_SYSTEM = f'{os.system.__module__}.system'  # posix or nt
KINDS = {
    'os_system': (_checkpoint(_system), _SYSTEM),
    'eval': (
        _checkpoint(lambda m: Call(eval, _python(m))),
        'builtins.eval',
    ),
    'getattr_statistic': (
        _checkpoint(_through_getattr('mean')),
        'builtins.getattr',
    ),
    'getattr_init': (
        _checkpoint(_through_getattr('__init__')),
        'builtins.getattr',
    ),
    'partial': (
        _checkpoint(
            lambda m: Call(
                Call(functools.partial, os.system, _system(m).args[0])
            )
        ),
        'functools.partial',
    ),
    'torch_load': (_torch_load, 'torch.serialization.load'),
    'object_array': (_checkpoint(_object_array), 'numpy.dtype'),
    'unzipped': (_unzipped, _SYSTEM),
    'plain_protocol_0': (_plain(0), _SYSTEM),
    'plain_protocol_4': (_plain(4), _SYSTEM),
    'instance_opcode': (_instance_opcode, 'os.system'),
    'tar': (_tar, None),
}
