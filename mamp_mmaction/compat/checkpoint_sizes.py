"""What a checkpoint would cost, found before torch reads it.

torch takes what a file declares: it hashes any key, allocates any size and,
before 2.13, reads behind the numbers that are there. So the file's pickles are
gone through first, with nothing in the place of every object.
"""

import io
import mmap
import zipfile
from pathlib import Path

from torch import serialization

from ..utils.npz import check_declared
from ..utils.plain_pickle import GuardedUnpickler, Refused, check_keys


class _Nothing:
    """In the place of a global and of all that is made of it."""

    def __new__(cls, *args, **kwargs):
        return object.__new__(_Nothing)  # also where ``cls`` is none

    def _do_nothing(self, *args, **kwargs):
        return self

    __call__ = __setitem__ = __setstate__ = _do_nothing
    add = append = extend = _do_nothing


def _itemsize(storage):
    if storage == 'UntypedStorage':
        return 1
    return serialization.StorageType(storage).dtype.itemsize


def _ordered_dict(pairs=()):
    check_keys([key for key, _ in pairs], _Nothing)
    return _Nothing()


def _counter(counts=None):
    if counts is not None and type(counts) is not dict:
        raise Refused(f'collections.Counter of a {type(counts).__name__}')
    return _Nothing()


def _set(items=()):
    check_keys(items, _Nothing)
    return set(items)


def _bytearray(data=b'', *_encoding):
    if isinstance(data, int):
        raise Refused('builtins.bytearray of a size')
    return _Nothing()


_FUNCTIONS = {
    'collections.OrderedDict': _ordered_dict,
    'collections.Counter': _counter,
    'builtins.set': _set,
    'builtins.bytearray': _bytearray,
}


class _Unpickler(GuardedUnpickler):
    other_keys = _Nothing

    def __init__(self, file, most_bytes):
        super().__init__(file, encoding='bytes')
        self._most_bytes = most_bytes
        self.names = set()

    def find_class(self, module, name):
        if module == 'torch' and name.endswith('Storage'):
            storage = _Nothing()
            storage.itemsize = _itemsize(name)
            return storage
        self.names.add(f'{module}.{name}')
        key = f'{module}.{name}'.replace('__builtin__.', 'builtins.')
        return _FUNCTIONS.get(key) or _Nothing()

    def persistent_load(self, pid):
        check_keys([pid], _Nothing)
        if isinstance(pid, tuple) and len(pid) >= 5:
            _, storage, key, _, numel = pid[:5]
            size = numel * getattr(storage, 'itemsize', 1)
            most = self._most_bytes(key)
            if not 0 <= size <= most:
                raise EOFError
        return _Nothing()


def check_content(file) -> set:
    """Go through a checkpoint's pickles.

    Args:
        file (str, Path or binary stream): The file, zipped or not.

    Returns:
        set[str]: The globals that it names, in the words of pickle.

    Raises:
        Refused: It asks for what would take long or much memory.
        Exception: It is no checkpoint, or declares more than it holds.
    """
    if isinstance(file, (str, Path)):
        with open(file, 'rb') as stream:
            return check_content(stream)
    start = file.tell()
    is_zip = serialization._is_zipfile(file)
    try:
        return _check_zip(file) if is_zip else _check_old(file)
    finally:
        file.seek(start)


def _check_zip(file):
    with zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        check_declared(archive)
        sizes = {info.filename.lower(): info.file_size for info in infos}
        if len(sizes) < len(infos):
            raise zipfile.BadZipFile('a name occurs twice')
        folder = infos[0].filename.split('/')[0]
        data = io.BytesIO(archive.read(f'{folder}/data.pkl'))

    def most_bytes(key):
        return sizes[f'{folder}/data/{key}'.lower()]

    unpickler = _Unpickler(data, most_bytes)
    unpickler.load()
    return unpickler.names


def _check_old(file):
    """Check a file of torch before 1.6: pickles, then numbers."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    try:
        # Reading from it takes no more memory than there are bytes.
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except io.UnsupportedOperation:
        data = file  # bytes in memory
    except ValueError:
        raise EOFError from None
    unpickler = _Unpickler(data, lambda key: size)
    begin = [serialization.MAGIC_NUMBER, serialization.PROTOCOL_VERSION]
    if all(unpickler.load() == expected for expected in begin):
        for _content in ('system', 'checkpoint', 'keys of storages'):
            unpickler.load()
    return unpickler.names  # torch says what else is wrong
