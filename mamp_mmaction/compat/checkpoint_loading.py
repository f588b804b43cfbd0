"""Checkpoints are read as data: no file can run code by being loaded.

mmengine calls ``torch.load`` without a word about safety. Before torch 2.6
that runs what a file says; since then it refuses the HistoryBuffer and numpy
values in mmengine's own checkpoints, except in files from the web, which
``torch.hub`` still lets run code. Here every file is read with
``weights_only=True``, the globals of :mod:`.checkpoint_globals` and those that
the user has given to :func:`torch.serialization.add_safe_globals`.

A file that asks for more and that you trust, because you wrote it, is read as
``pickle`` reads it, code and all, if the environment variable
``MAMP_MMACTION_TRUST_CHECKPOINT`` holds its path (several are separated as in
``PATH``). There is no way to trust every file.
"""

import contextlib
import hashlib
import logging
import os
import re
import threading
import time
import uuid
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import Request, urlopen

import torch
from mmengine.dist import barrier, get_dist_info
from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as mmengine_checkpoint
from torch import serialization

from ..utils.plain_pickle import Refused, replace_stand_ins
from .checkpoint_globals import ALLOWED_GLOBALS
from .checkpoint_sizes import check_content

_torch_load = torch.load  # a launched script's may be load_checkpoint_file
_SERVER_TIMEOUT = 60  # seconds without a byte
_MOST_SECONDS = 3600  # of a download
_MOST_BYTES = 1 << 34
_TOO_SLOW = 'it takes more than {} s'
_TRUST = 'MAMP_MMACTION_TRUST_CHECKPOINT'


class CheckpointError(RuntimeError):
    """A file that is no checkpoint, or asks for more than a checkpoint may."""


def load_checkpoint_file(path, map_location='cpu') -> dict:
    """Read a checkpoint without running anything in it.

    Args:
        path (str or Path): File written by ``torch.save`` or mmengine.
        map_location: Where the tensors go, as in :func:`torch.load`; None
            for the devices that they were saved from.

    Returns:
        dict: The checkpoint.

    Raises:
        FileNotFoundError: If there is no such file.
        IsADirectoryError: If the path is a folder.
        CheckpointError: If the file is no checkpoint, its tensors hold no
            numbers, or it asks for a global that checkpoints have no use
            for.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise IsADirectoryError(
            f'Checkpoint {path} is a folder; expected a file in it, such as '
            'epoch_100.pth.'
        )
    if not path.exists():
        raise FileNotFoundError(f'Checkpoint {path} does not exist.')
    return _load(path, map_location, source=path)


def register_safe_loaders() -> None:
    """Let mmengine load every checkpoint by the functions of this module."""
    CheckpointLoader.register_scheme('', load_from_local, force=True)
    CheckpointLoader.register_scheme(
        ['http://', 'https://'], load_from_http, force=True
    )
    # The schemes of model zoos call mmengine's function by its name, those
    # of cloud stores call torch.load.
    mmengine_checkpoint.load_from_http = load_from_http
    mmengine_checkpoint.torch = _SafeTorch()


def load_from_local(filename, map_location=None) -> dict:
    """:func:`load_checkpoint_file` by the name that mmengine logs."""
    return load_checkpoint_file(filename, map_location)


def load_from_http(filename, map_location=None, model_dir=None) -> dict:
    """Download a checkpoint once and load it; mmengine's loader for URLs.

    Of several processes rank 0 downloads and the others read its file.

    Args:
        filename (str): URL.
        map_location: As in :func:`torch.load`.
        model_dir (str or Path, optional): Folder of downloaded files.
            Defaults to ``checkpoints`` in torch's hub folder.

    Returns:
        dict: The checkpoint.

    Raises:
        OSError: If the URL cannot be downloaded: in an hour, with at most 16
            GiB, and with the checksum that its name may state.
        CheckpointError: See :func:`load_checkpoint_file`. Such a file is
            not kept.
    """
    rank, _ = get_dist_info()
    try:
        if rank == 0:
            checkpoint = _load_cached_url(filename, map_location, model_dir)
    finally:
        # Reached after an error too, else the others would wait for ever.
        barrier()
    if rank != 0:
        checkpoint = _load_cached_url(filename, map_location, model_dir)
    return checkpoint


def _load_cached_url(url, map_location, model_dir):
    folder = Path(model_dir or Path(torch.hub.get_dir(), 'checkpoints'))
    name = Path(urlparse(url).path).name
    if not name:
        raise OSError(f'{url} names no file; expected a URL of a checkpoint.')
    # Two servers, or two queries, may give one name to different files.
    name = f'{hashlib.sha256(url.encode()).hexdigest()[:12]}-{name}'
    cached = folder / name
    if cached.exists():
        print_log(f'{url} was downloaded before: {cached}', logger='current')
        return _load(cached, map_location, source=f'{url} (in {cached})')
    folder.mkdir(parents=True, exist_ok=True)
    print_log(f'Downloading {url} to {cached}', logger='current')
    partial = folder / f'{name}.{uuid.uuid4().hex}.partial'
    try:
        _download(url, partial)
        checkpoint = _load(partial, map_location, source=url)
        os.replace(partial, cached)
    finally:
        partial.unlink(missing_ok=True)
    return checkpoint


def _download(url, path):
    """Fetch a file, in a thread: no call of a socket ends in a given time."""
    fault = []

    def fetch():
        try:
            fault.append(_fetch(url, path))
        except Exception as error:
            fault.append(error)

    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    thread.join(_MOST_SECONDS)
    if thread.is_alive():
        fault.append(_TOO_SLOW.format(_MOST_SECONDS))
    if fault[0] is not None:
        raise OSError(
            f'Checkpoint {url} could not be downloaded: {fault[0]}. Try '
            'again, or download it by other means and give its path.'
        )


def _fetch(url, path):
    """Return what went wrong, if anything."""
    request = Request(url, headers={'User-Agent': 'mamp-mmaction'})
    end = time.monotonic() + _MOST_SECONDS
    found, digest = 0, hashlib.sha256()
    # Opened before, so that what comes too late is no file's any more.
    with (
        open(path, 'wb') as file,
        urlopen(request, timeout=_SERVER_TIMEOUT) as response,
    ):
        expected = response.length
        while data := response.read1(1 << 20):
            found += len(data)
            if max(found, expected or 0) > _MOST_BYTES:
                return f'it has more than {_MOST_BYTES} bytes'
            if time.monotonic() > end:
                return _TOO_SLOW.format(_MOST_SECONDS)
            digest.update(data)
            file.write(data)
    if expected not in (None, found):
        return f'the connection closed after {found} of {expected} bytes'
    # The toolbox names a file for the begin of its checksum; digits alone
    # may be a date.
    stated = re.search(r'-(?!\d+\.)([0-9a-f]{8,64})\.pth$', urlparse(url).path)
    if stated and not digest.hexdigest().startswith(stated[1]):
        return (
            f'its SHA-256 begins with {digest.hexdigest()[:8]}, its name says '
            f'{stated[1]}'
        )
    return None


class _SafeTorch:
    """What ``torch`` means inside ``mmengine.runner.checkpoint``."""

    def __getattr__(self, name):
        return getattr(torch, name)

    def load(self, file, map_location=None):
        return _load(file, map_location, source=file)


def _load(file, map_location, source):
    if _is_trusted(file):
        print_log(
            f'{file} may run code: {_TRUST} names it.',
            logger='current',
            level=logging.WARNING,
        )
        return _torch_load(file, map_location, weights_only=False)
    names = ()
    try:
        names = check_content(file)
        with _stand_ins(), warnings.catch_warnings():
            # torch warns of odd formats too; one clear error is enough.
            warnings.simplefilter('ignore')
            checkpoint = _torch_load(file, map_location, weights_only=True)
        checkpoint = replace_stand_ins(checkpoint)
    except (PermissionError, MemoryError):
        raise
    except Refused as refused:
        raise CheckpointError(_refusal(source, refused)) from None
    except Exception as error:
        # A broken or forged file can make torch fail in any way.
        raise CheckpointError(_explanation(error, names, source)) from None
    if not isinstance(checkpoint, dict):
        what = f'it holds a {type(checkpoint).__name__}'
        raise CheckpointError(_unreadable(source, what))
    if str(map_location) != 'meta':
        _check_numbers(checkpoint, source)
    return checkpoint


def _is_trusted(file):
    if not isinstance(file, (str, os.PathLike)):
        return False
    trusted = filter(None, os.environ.get(_TRUST, '').split(os.pathsep))
    return os.path.realpath(file) in map(os.path.realpath, trusted)


def _check_numbers(checkpoint, source):
    states = [v for v in checkpoint.values() if isinstance(v, dict)]
    for state in (checkpoint, *states):
        for key, value in state.items():
            if isinstance(value, torch.Tensor) and value.is_meta:
                raise CheckpointError(
                    f'Checkpoint {source} holds no numbers for {key!r}: it '
                    "was saved from a model on the device 'meta'. Save it "
                    'again after the weights were loaded or initialised.'
                )


@contextlib.contextmanager
def _stand_ins():
    # What the user allowed is allowed here, but no name of a stand-in.
    before = serialization.get_safe_globals()
    named = dict(map(_named, before)) | ALLOWED_GLOBALS
    serialization.clear_safe_globals()
    try:
        with serialization.safe_globals([(g, n) for n, g in named.items()]):
            yield
    finally:
        serialization.clear_safe_globals()
        serialization.add_safe_globals(before)


def _named(safe_global):
    if isinstance(safe_global, tuple):
        return safe_global[1], safe_global[0]
    name = f'{safe_global.__module__}.{safe_global.__qualname__}'
    return name, safe_global


def _explanation(error, names, source):
    message = str(error)
    refused = re.search(r'GLOBAL (\S+) (was not|whose module)', message)
    if refused:
        # torch leaves out the module where it is builtins.
        name = refused[1] if '.' in refused[1] else f'builtins.{refused[1]}'
        return _refusal(source, _current_name(name))
    # torch stops at the first opcode above protocol 2, before any name.
    if 'Unsupported operand' in message and names:
        return _refusal(source, ', '.join(sorted(map(_current_name, names))))
    return _unreadable(source, _reason(error))


def _current_name(dotted_name):
    """Protocol 2, torch's, has Python 2's names: commands.call."""
    module, _, name = dotted_name.rpartition('.')
    unless_moved = IMPORT_MAPPING.get(module, module), name
    return '.'.join(NAME_MAPPING.get((module, name), unless_moved))


def _reason(error):
    if isinstance(error, EOFError):
        return 'it ends too early'
    if isinstance(error, (OSError, zipfile.BadZipFile)):
        return f'it is damaged or cut short ({error})'
    if isinstance(error, RuntimeError):
        # Without what follows: advice to load the file unsafely.
        return re.split(r'\.\s|\n', str(error))[0]
    return 'its bytes are not what torch.save writes'


def _refusal(source, what):
    return (
        f'Checkpoint {source} was not loaded, for safety: it asks for {what}, '
        'which weights do not need and which could run code. Nothing in it '
        'was run. If you trust its author, have the weights saved alone, '
        "torch.save({'state_dict': model.state_dict()}, 'weights.pth'), or "
        f'name the file in the environment variable {_TRUST}.'
    )


def _unreadable(source, reason):
    return (
        f'{source} cannot be read as a checkpoint: {reason}. Expected a dict '
        'of weights that torch.save or mmengine wrote.'
    )
