import argparse
import contextlib
import functools
import hashlib
import http.server
import io
import itertools
import os
import pickle
import shutil
import sys
import threading
import time
from collections import Counter, OrderedDict, defaultdict
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path, PurePath

import numpy as np
import pytest
import torch
from hostile_checkpoints import (
    KINDS,
    Call,
    Forged,
    write_hostile_checkpoints,
)
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader, Runner
from mmengine.runner import checkpoint as mmengine_checkpoint
from processes import free_port
from small_models import T, V, mamp
from synthetic import data_set, loader, pipeline, write

from mamp_mmaction.compat import (
    CheckpointError,
    checkpoint_loading,
    load_checkpoint_file,
)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A runner that trained for an epoch, validated and saved."""
    folder = tmp_path_factory.mktemp('trained')
    data = data_set(12, 8, frames=T, joints=V)
    ann_file = write(folder / 'a.pkl', dict(data, classes=list('abcde')))
    steps = pipeline(T, 1, 0.8)
    best = dict(save_best='masked_motion/mse', rule='less')
    runner = Runner(
        model=mamp(),
        work_dir=str(folder),
        train_dataloader=loader(ann_file, 'xsub_train', steps),
        val_dataloader=loader(ann_file, 'xsub_val', steps),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        val_cfg=dict(),
        val_evaluator=dict(type='MaskedMotionMetric'),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.01)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', **best)),
        default_scope='mmaction',
        experiment_name=folder.name,
    )
    runner.train()
    return runner


@pytest.fixture
def saved(trained):
    return Path(trained.work_dir, 'epoch_1.pth')


@pytest.fixture(scope='module')
def hostile(tmp_path_factory):
    """Path, name of the refused global and marker of every hostile file."""
    folder = tmp_path_factory.mktemp('hostile')
    markers = tmp_path_factory.mktemp('markers')
    return write_hostile_checkpoints(folder, markers)


OK, REST = b'HTTP/1.0 200 OK\r\n', b'\r\nPK'
# What the server sends, a hundredth of a second between two parts.
ANSWERS = {
    'truncated': [OK, b'Content-Length: 1000\r\n', REST],
    'declared': [OK, b'Content-Length: 99999999\r\n', REST],
    'endless': itertools.chain([OK, REST], itertools.repeat(b'0' * 10**5)),
    'drip': [OK, REST, *[b'0'] * 300],
    'drip_of_headers': [OK, *[b'x: y\r\n'] * 90, *[b'z'] * 300],
    'other-0a1b2c3d': [OK, REST],
    'moved': [b'HTTP/1.0 302 Found\r\nLocation: right.pth\r\n\r\n'],
    'in_circles': [b'HTTP/1.0 302 Found\r\nLocation: in_circles.pth\r\n\r\n'],
}


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves the folder ``server.folder`` at ``server.url``."""
    folder = tmp_path / 'served'
    folder.mkdir()
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.setenv('no_proxy', '*')

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            name = self.path[1:].removesuffix('.pth')
            if name not in ANSWERS:
                return super().do_GET()
            with contextlib.suppress(ConnectionError):
                for data in ANSWERS[name]:
                    self.wfile.write(data)
                    time.sleep(0.01)

    server = http.server.ThreadingHTTPServer(
        ('127.0.0.1', 0), functools.partial(Handler, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    server.folder = folder
    server.url = f'http://127.0.0.1:{server.server_port}'
    server.cache = tmp_path / 'torch' / 'hub' / 'checkpoints'
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def assert_same_state(found, expected):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


# What mmengine writes


def test_values_of_a_checkpoint_keep_their_types(trained, saved):
    checkpoint = load_checkpoint_file(saved)
    assert checkpoint['meta']['dataset_meta']['classes'] == tuple('abcde')
    best = checkpoint['message_hub']['runtime_info']['best_score']
    assert best == trained.message_hub.runtime_info['best_score']
    history = checkpoint['message_hub']['log_scalars']['train/loss']
    logged = trained.message_hub.log_scalars['train/loss']
    np.testing.assert_array_equal(history.data[0], logged.data[0])
    history.update(3000.0)
    assert history.current() == history.max() == 3000.0
    assert_same_state(checkpoint['state_dict'], trained.model.state_dict())


ARRAYS = [
    np.arange(6, dtype='>i2').reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.array([]),
    np.zeros((0, 3), dtype=np.float32),
    np.array([True, False]),
    np.array([1 + 2j]),
    np.array(['sit', 'stand up']),
    np.float32(1.5),
    np.int64(-1),
    np.bool_(True),
]


@pytest.mark.parametrize('core', ['numpy.core', 'numpy._core'])
@pytest.mark.parametrize('zipped', [True, False])
def test_numpy_values_of_both_majors_load(core, zipped, tmp_path, monkeypatch):
    # numpy 2 renamed numpy.core, so files of both names are about.
    path = tmp_path / 'numpy.pth'
    with monkeypatch.context() as patch:
        for value in (ARRAYS[0], ARRAYS[-1]):
            function = value.__reduce__()[0]
            own, name = function.__module__, f'{core}.multiarray'
            patch.setitem(
                sys.modules, name, sys.modules.get(name, sys.modules[own])
            )
            patch.setattr(function, '__module__', name)
        torch.save(
            dict(values=ARRAYS), path, _use_new_zipfile_serialization=zipped
        )

    values = load_checkpoint_file(path)['values']
    for found, expected in zip(values, ARRAYS):
        assert type(found) is type(expected)
        assert found.dtype.newbyteorder('=') == expected.dtype.newbyteorder(
            '='
        )
        np.testing.assert_array_equal(found, expected)
    values[0][0, 0] = 7  # an array of the user's own, not a view of the file
    # As mmengine reads from cloud stores.
    stream = io.BytesIO(path.read_bytes())
    assert len(mmengine_checkpoint.torch.load(stream)['values']) == len(ARRAYS)


# What nobody may write


@pytest.mark.parametrize('kind', KINDS)
def test_hostile_file_is_refused(kind, hostile):
    path, named, marker = hostile[kind]

    with pytest.raises(CheckpointError) as error:
        CheckpointLoader.load_checkpoint(str(path), map_location='cpu')
    assert str(path) in str(error.value)
    if named is not None:
        assert f'asks for {named}' in str(error.value)
        assert 'for safety' in str(error.value)
    assert not marker.exists()


@pytest.mark.upstream
def test_without_the_repair_they_run(hostile):
    for path, _, marker in hostile.values():
        with contextlib.suppress(Exception):  # no checkpoint after that
            torch.load(path, weights_only=False)
        assert marker.exists(), path
        marker.unlink()


def test_history_buffer_keeps_its_methods(tmp_path):
    statistics = dict(HistoryBuffer._statistics_methods)
    state = dict(
        _log_history=np.array([1.0, 2.0]),
        _count_history=np.array([1, 1]),
        max_length=10,
        mean=OrderedDict,
        _statistics_methods={'mean': OrderedDict},
        statistics_methods={'mean': OrderedDict, 'extra': OrderedDict},
    )
    path = tmp_path / 'forged.pth'
    torch.save(dict(history=Forged(HistoryBuffer, (), state)), path)

    history = load_checkpoint_file(path)['history']
    assert history.mean() == history.statistics('mean') == 1.5
    assert statistics == HistoryBuffer._statistics_methods


FORGED = {
    # numpy would take the eight bytes for the address of an object
    'dtype of objects': Call(
        np.float32(0).__reduce__()[0],
        Forged(
            np.dtype,
            ('O8', False, True),
            (3, '|', None, None, None, -1, -1, 0),
        ),
        b'\x41' * 8,
    ),
    'history of a dict': Forged(
        HistoryBuffer,
        (),
        dict(_log_history={}, _count_history={}, max_length=1),
    ),
    'getattr of a class': Call(getattr, OrderedDict, 'mean'),
    'bytes of a length': Call(bytes, 10),
    'list of a string': Call(list, 'abc'),
    'factory': Call(defaultdict, HistoryBuffer),
    'path of a number': Call(PurePath().__class__, 1),
    'size of bytes': Call(bytearray, 1 << 33),
    'counter of a list': Call(Counter, [1]),
    'hidden method': Forged(OrderedDict, (), {'items': OrderedDict}),
    'call of a statistic': Call(
        torch._tensor._rebuild_from_type_v2,
        Call(getattr, HistoryBuffer, 'mean'),
        OrderedDict,
        (),
        {},
    ),
}


@pytest.mark.parametrize('what', FORGED)
def test_allowed_global_takes_only_what_mmengine_writes(what, tmp_path):
    path = tmp_path / 'forged.pth'
    torch.save(dict(state_dict={}, meta=FORGED[what]), path)

    with pytest.raises(CheckpointError) as error:
        load_checkpoint_file(path)
    assert str(path) in str(error.value)


def test_harmless_metadata_is_plain_data(tmp_path):
    moment = datetime(2023, 10, 2, tzinfo=timezone(timedelta(hours=2)))
    counts = defaultdict(list, a=[1])
    config = Config(dict(model=dict(type='MAMP', depth=8)))
    values = dict(
        counts=counts,
        path=Path('work_dirs', 'run'),
        moment=moment,
        args=argparse.Namespace(lr=0.1, out=Path('out'), sizes=np.ones(2)),
        config=config,
        model=config.model,
    )
    path = tmp_path / 'meta.pth'
    torch.save(dict(state_dict={}, meta=values), path)

    meta = load_checkpoint_file(path)['meta']
    assert meta['args'].pop('sizes').tolist() == [1, 1]
    assert meta == dict(
        counts={'a': [1]},
        path=Path('work_dirs', 'run'),
        moment=moment,
        args=dict(lr=0.1, out=Path('out')),
        config=dict(model=dict(type='MAMP', depth=8)),
        model=dict(type='MAMP', depth=8),
    )
    assert type(meta['model']) is type(meta['counts']) is dict


def test_globals_that_the_user_allowed_load(tmp_path, hostile):
    path = tmp_path / 'own.pth'
    torch.save(dict(state_dict={}, meta=Fraction(1, 3)), path)
    with pytest.raises(CheckpointError, match=r'asks for fractions\.Fraction'):
        load_checkpoint_file(path)
    allowed = [Fraction, (getattr, 'builtins.getattr'), np.dtype]
    with torch.serialization.safe_globals(allowed):
        during = set(torch.serialization.get_safe_globals())
        assert load_checkpoint_file(path)['meta'] == Fraction(1, 3)
        # The names that stand-ins bear stay theirs.
        for kind in ('getattr_init', 'object_array'):
            with pytest.raises(CheckpointError, match='for safety'):
                load_checkpoint_file(hostile[kind][0])
        assert set(torch.serialization.get_safe_globals()) == during


def test_trust_names_the_file(hostile, tmp_path, monkeypatch):
    path, _, marker = hostile['os_system']
    other = tmp_path / 'other.pth'
    other.write_bytes(path.read_bytes())
    names = os.pathsep.join(['none.pth', os.path.relpath(path)])
    monkeypatch.setenv('MAMP_MMACTION_TRUST_CHECKPOINT', names)
    with pytest.raises(CheckpointError, match='TRUST_CHECKPOINT'):
        load_checkpoint_file(other)
    assert not marker.exists()
    assert load_checkpoint_file(path)['meta'] == 0  # what touch returned
    marker.unlink()


def test_weights_without_numbers_are_an_error(tmp_path):
    path = tmp_path / 'meta.pth'
    state = torch.nn.Linear(2, 2, device='meta').state_dict()
    torch.save(dict(state_dict=state), path)
    with pytest.raises(CheckpointError, match="numbers for 'weight'.*'meta'"):
        load_checkpoint_file(path)


def test_shared_parts_are_read_once(tmp_path):
    value = (np.arange(3), HistoryBuffer([1.0, 2.0], [1, 1]))
    for _ in range(60):
        value = (value, value)
    path = tmp_path / 'shared.pth'
    torch.save(dict(state_dict={}, meta=value), path)
    start = time.process_time()
    found = load_checkpoint_file(path)['meta']
    assert time.process_time() - start < 5
    assert found[0] is found[1]
    for _ in range(60):
        found = found[0]
    np.testing.assert_array_equal(found[0], np.arange(3))
    assert found[1].mean() == 1.5


# What is no checkpoint


NO_CHECKPOINT = {
    'not what torch.save writes': lambda path, saved: path.write_text('a: b'),
    'ends too early': lambda path, saved: path.touch(),
    'cut short|failed finding central directory': (
        lambda path, saved: path.write_bytes(saved.read_bytes()[:-9000])
    ),
    'not what torch.save writes|corrupt file': (
        lambda path, saved: path.write_bytes(pickle.dumps({}, protocol=2))
    ),
    'it holds a list': lambda path, saved: torch.save([torch.ones(2)], path),
    'TorchScript': lambda path, saved: torch.jit.save(
        torch.jit.trace(torch.nn.ReLU(), torch.ones(1)), str(path)
    ),
}


@pytest.mark.filterwarnings('ignore:.*torch.jit')
@pytest.mark.parametrize('reason', NO_CHECKPOINT)
def test_no_checkpoint_is_named(reason, saved, tmp_path):
    path = tmp_path / 'other.pth'
    NO_CHECKPOINT[reason](path, saved)
    with pytest.raises(CheckpointError, match=reason) as error:
        load_checkpoint_file(path)
    assert str(path) in str(error.value)
    assert 'weights_only=False' not in str(error.value)


def test_missing_file_and_folder_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'none\.pth does not exist'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'none.pth'))
    with pytest.raises(IsADirectoryError, match='is a folder'):
        CheckpointLoader.load_checkpoint(str(tmp_path))


# Over http


def test_url_is_downloaded_once(saved, server):
    """Files of one name are told apart."""
    urls = []
    for name in ('first', 'second'):
        served = server.folder / name / 'w.pth'
        served.parent.mkdir()
        torch.save(dict(state_dict={}, name=name), served)
        urls.append(f'{server.url}/{name}/w.pth?download=1')
        assert CheckpointLoader.load_checkpoint(urls[-1])['name'] == name
        served.unlink()
    for url, name in zip(urls, ('first', 'second')):
        assert CheckpointLoader.load_checkpoint(url)['name'] == name
    assert all(p.name.endswith('-w.pth') for p in server.cache.iterdir())


def test_stated_checksum_and_another_place(server):
    torch.save(dict(name='right'), server.folder / 'right.pth')
    data = (server.folder / 'right.pth').read_bytes()
    name = f'toy_2023-{hashlib.sha256(data).hexdigest()[:8]}.pth'
    for copy in (name, 'toy-20231002.pth'):  # a date is no checksum
        (server.folder / copy).write_bytes(data)
    for url in (name, 'toy-20231002.pth', 'moved.pth'):
        found = CheckpointLoader.load_checkpoint(f'{server.url}/{url}')
        assert found['name'] == 'right'


@pytest.mark.parametrize('scheme', ['http', 'open-mmlab'])
def test_hostile_url_is_refused(scheme, server, hostile, monkeypatch):
    path, named, marker = hostile['os_system']
    shutil.copy(path, server.folder)
    url = source = f'{server.url}/{path.name}'
    if scheme == 'open-mmlab':
        monkeypatch.setattr(
            mmengine_checkpoint, 'get_external_models', lambda: {'toy': url}
        )
        source = 'open-mmlab://toy'

    with pytest.raises(CheckpointError) as error:
        CheckpointLoader.load_checkpoint(source)
    assert f'{url} was not loaded, for safety' in str(error.value)
    assert named in str(error.value) and not marker.exists()
    assert not list(server.cache.iterdir())


@pytest.mark.parametrize(
    'name, reason',
    [
        ('none.pth', '404'),
        ('truncated.pth', 'after 2 of 1000 bytes'),
        ('declared.pth', 'more than 1000000 bytes'),
        ('endless.pth', 'more than 1000000 bytes'),
        ('drip.pth', 'more than 1 s'),
        ('drip_of_headers.pth', 'more than 1 s'),
        ('other-0a1b2c3d.pth', 'begins with .*, its name says 0a1b2c3d'),
        ('in_circles.pth', 'redirect error'),
        (None, 'refused'),
    ],
)
def test_failed_download_names_the_url(name, reason, server, monkeypatch):
    """The first process lets the others go on."""
    monkeypatch.setattr(checkpoint_loading, '_MOST_BYTES', 10**6)
    monkeypatch.setattr(checkpoint_loading, '_MOST_SECONDS', 1)
    waited = []
    monkeypatch.setattr(checkpoint_loading, 'get_dist_info', lambda: (0, 2))
    monkeypatch.setattr(
        checkpoint_loading, 'barrier', lambda: waited.append(True)
    )
    url = f'{server.url}/{name}'
    if name is None:
        url = f'http://127.0.0.1:{free_port()}/model.pth'
    with pytest.raises(OSError, match=reason) as error:
        CheckpointLoader.load_checkpoint(url)
    assert url in str(error.value) and waited == [True]
    assert not list(server.cache.iterdir())


def test_second_process_reads_what_the_first_downloaded(
    saved, server, monkeypatch
):
    served = Path(shutil.copy(saved, server.folder))
    url = f'{server.url}/{served.name}'
    CheckpointLoader.load_checkpoint(url)
    (cached,) = server.cache.iterdir()
    cached.unlink()
    served.unlink()
    monkeypatch.setattr(checkpoint_loading, 'get_dist_info', lambda: (1, 2))
    monkeypatch.setattr(
        checkpoint_loading, 'barrier', lambda: shutil.copy(saved, cached)
    )
    # The server has the file no more: only the first process's copy is there.
    found = CheckpointLoader.load_checkpoint(url)
    expected = load_checkpoint_file(saved)
    assert_same_state(found['state_dict'], expected['state_dict'])


def test_other_stores_are_read_safely(hostile, monkeypatch, tmp_path):
    # Forces loads that leave the choice to torch to run what files say.
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    path, _, marker = hostile['os_system']
    monkeypatch.setenv('MMENGINE_HOME', str(path.parent))
    monkeypatch.setattr(
        mmengine_checkpoint, 'get_external_models', lambda: {'toy': path.name}
    )
    with pytest.raises(CheckpointError, match='for safety'):
        CheckpointLoader.load_checkpoint('open-mmlab://toy')
    assert not marker.exists()
