"""The names that a pickle asks for, found without unpickling it."""

import contextlib
import pickletools
import re
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from io import BytesIO
from pathlib import Path

_DOTTED_NAME = re.compile(r'[^\W\d]\w*(\.[^\W\d]\w*)+')


def globals_named_in(file) -> list:
    """List the globals that a checkpoint file names, to report them.

    Serves error messages alone: a file can be made to confuse it.

    Args:
        file (str, Path or binary stream): The file, zipped or not.

    Returns:
        list[str]: Dotted names, sorted; those up to the first byte that is
        no pickle.
    """
    names = set()
    # Whatever the bytes are, what was found before they went wrong is told.
    with contextlib.suppress(Exception), _opened(file) as stream:
        stream = _unzipped(stream)
        while True:  # old torch files hold several pickles in a row
            _add_names(stream, names)
    return sorted(filter(_DOTTED_NAME.fullmatch, map(current_name, names)))


def current_name(dotted_name) -> str:
    """Translate a name that pickle writes as Python 2 had it.

    Protocol 2, torch's, calls ``subprocess.call`` ``commands.call``.

    Args:
        dotted_name (str): Module and name.

    Returns:
        str: The same object's name in Python 3.
    """
    module, _, name = dotted_name.rpartition('.')
    unless_moved = IMPORT_MAPPING.get(module, module), name
    return '.'.join(NAME_MAPPING.get((module, name), unless_moved))


def _opened(file):
    if isinstance(file, (str, Path)):
        return open(file, 'rb')
    return contextlib.nullcontext(file)


def _unzipped(stream):
    stream.seek(0)
    if not zipfile.is_zipfile(stream):
        stream.seek(0)
        return stream
    with zipfile.ZipFile(stream) as archive:
        pickled = [n for n in archive.namelist() if n.endswith('data.pkl')]
        return BytesIO(archive.read(pickled[0]))


def _add_names(stream, names):
    strings, memo = [], []
    for opcode, arg, _position in pickletools.genops(stream):
        if opcode.name in ('GLOBAL', 'INST'):
            names.add(arg.replace(' ', '.'))
        elif opcode.name == 'STACK_GLOBAL':
            names.add('.'.join(strings[-2:]))
        elif opcode.name == 'MEMOIZE':
            memo.append(strings[-1] if strings else '')
        elif opcode.name in ('BINGET', 'LONG_BINGET'):
            strings.append(memo[arg])
        elif isinstance(arg, str):
            strings.append(arg)
