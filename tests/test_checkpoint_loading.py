import argparse
import functools
import http.server
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import OrderedDict, defaultdict
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path, PurePath

import mmengine
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
from mmengine.evaluator import BaseMetric
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.runner import CheckpointLoader, Runner
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.utils import digit_version
from torch.utils.data import Dataset

from mamp_mmaction.compat import (
    CheckpointError,
    checkpoint_loading,
    load_checkpoint_file,
)

METAINFO = dict(classes=['left', 'right'], weights=np.array([0.5, 1.5]))


class Points(Dataset):
    """Points of the plane, labelled by side."""

    def __init__(self):
        self.metainfo = METAINFO

    def __len__(self):
        return 16

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        point = torch.randn(2, generator=generator)
        return dict(point=point, label=(point[0] > 0).long())


class Classifier(BaseModel):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(2)
        self.linear = torch.nn.Linear(2, 2)

    def forward(self, point, label, mode='tensor'):
        logits = self.linear(self.norm(torch.stack(point)))
        label = torch.stack(label)
        if mode == 'loss':
            return dict(loss=torch.nn.functional.cross_entropy(logits, label))
        return list((logits.argmax(1) == label).float())


class Accuracy(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results += [float(hit) for hit in data_samples]

    def compute_metrics(self, results):
        return dict(accuracy=np.mean(results))


def make_runner(work_dir, **kwargs):
    loader = dict(
        dataset=Points(),
        batch_size=4,
        sampler=dict(type='DefaultSampler', shuffle=True),
    )
    return Runner(
        model=Classifier(),
        work_dir=str(work_dir),
        train_dataloader=loader,
        val_dataloader=loader,
        test_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=2, val_interval=1),
        val_cfg=dict(),
        test_cfg=dict(),
        val_evaluator=[Accuracy()],
        test_evaluator=[Accuracy()],
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.01)),
        param_scheduler=[
            dict(type='LinearLR', by_epoch=False, start_factor=0.1, end=4),
            dict(type='CosineAnnealingLR', T_max=2),
        ],
        default_hooks=dict(
            checkpoint=dict(
                type='CheckpointHook', interval=1, save_best='accuracy'
            )
        ),
        randomness=dict(seed=0),
        default_scope='mmaction',
        experiment_name=work_dir.name,
        **kwargs,
    )


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A runner that trained for two epochs and saved after each."""
    runner = make_runner(tmp_path_factory.mktemp('trained'))
    runner.train()
    return runner


@pytest.fixture
def saved(trained):
    return Path(trained.work_dir, 'epoch_2.pth')


@pytest.fixture(scope='module')
def hostile(tmp_path_factory):
    """Path, name of the refused global and marker of every hostile file."""
    folder = tmp_path_factory.mktemp('hostile')
    markers = tmp_path_factory.mktemp('markers')
    return write_hostile_checkpoints(folder, markers)


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
            if self.path != '/truncated.pth':
                return super().do_GET()
            self.send_response(200)
            self.send_header('Content-Length', '1000')
            self.end_headers()
            self.wfile.write(b'PK')

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


def test_resumed_run_ends_as_the_uninterrupted_one(trained, tmp_path):
    first = Path(trained.work_dir, 'epoch_1.pth')
    runner = make_runner(tmp_path, resume=True, load_from=str(first))
    runner.train()

    assert_same_state(runner.model.state_dict(), trained.model.state_dict())
    found, expected = (
        r.message_hub.log_scalars['train/loss'] for r in (runner, trained)
    )
    assert type(found) is HistoryBuffer
    np.testing.assert_array_equal(found.data[0], expected.data[0])
    assert found.mean(4) == expected.mean(4)
    assert (
        runner.optim_wrapper.state_dict()['param_groups']
        == trained.optim_wrapper.state_dict()['param_groups']
    )


def test_trained_checkpoint_passes_testing(trained, saved, tmp_path):
    runner = make_runner(tmp_path, load_from=str(saved))
    accuracy = runner.test()['accuracy']

    scalars = trained.message_hub.log_scalars
    assert accuracy == scalars['val/accuracy'].current()


def test_values_of_a_checkpoint_keep_their_types(trained, saved):
    checkpoint = load_checkpoint_file(saved)

    weights = checkpoint['meta']['dataset_meta']['weights']
    np.testing.assert_array_equal(weights, METAINFO['weights'])
    best = checkpoint['message_hub']['runtime_info']['best_score']
    assert type(best) is np.float64
    assert best == trained.message_hub.runtime_info['best_score']
    history = checkpoint['message_hub']['log_scalars']['train/loss']
    history.update(3.0)
    assert history.current() == history.max() == 3.0
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
    for value in (ARRAYS[0], ARRAYS[-1]):
        function = value.__reduce__()[0]
        monkeypatch.setattr(function, '__module__', f'{core}.multiarray')
    path = tmp_path / 'numpy.pth'
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


def test_shared_and_nested_values_are_restored(tmp_path):
    array = np.arange(3)
    history = HistoryBuffer([1.0, 2.0], [1, 1])
    path = tmp_path / 'nested.pth'
    nested = OrderedDict(a=[(array, {'b': history})], c=np.dtype('>f4'))
    torch.save(dict(first=nested, second=nested), path)

    checkpoint = load_checkpoint_file(path)
    assert checkpoint['first'] is checkpoint['second']
    found, inner = checkpoint['first']['a'][0]
    np.testing.assert_array_equal(found, array)
    assert inner['b'].mean() == 1.5
    assert checkpoint['first']['c'] == np.dtype('>f4')


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


UNREPAIRED = """
import json
import sys

import torch
from mmengine.runner import CheckpointLoader

saved, url, hostile = json.loads(sys.argv[1])
try:
    CheckpointLoader.load_checkpoint(saved, map_location='cpu')
except Exception as error:
    print('own checkpoint:', type(error).__name__)
try:
    CheckpointLoader.load_checkpoint(url)
except Exception as error:
    print('url:', type(error).__name__)
for path in hostile:
    try:
        torch.load(path, weights_only=False)
    except Exception:
        pass  # some run their code and are no checkpoint after that
"""


@pytest.mark.upstream
def test_without_repair_files_run_and_own_ones_fail(saved, server, tmp_path):
    markers = tmp_path / 'markers'
    markers.mkdir()
    hostile = write_hostile_checkpoints(tmp_path, markers)
    served = write_hostile_checkpoints(server.folder, server.folder)['eval']
    paths = [str(path) for path, _, _ in hostile.values()]
    arguments = [str(saved), f'{server.url}/eval.pth', paths]
    # Users may set torch's own override; the fault is without it.
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith('TORCH_FORCE_')
    }
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', UNREPAIRED]
        + [json.dumps(arguments)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )

    dead = [k for k, (_, _, marker) in hostile.items() if not marker.exists()]
    assert not dead, done.stderr
    if digit_version(mmengine.__version__) <= digit_version('0.10.7'):
        assert 'own checkpoint: UnpicklingError' in done.stdout
        assert served[2].exists()


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
    path, _, marker = hostile['subprocess']
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
    value = (np.arange(3),)
    for _ in range(60):
        value = (value, value)
    path = tmp_path / 'shared.pth'
    torch.save(dict(state_dict={}, meta=value), path)
    start = time.process_time()
    found = load_checkpoint_file(path)['meta']
    assert time.process_time() - start < 5
    assert found[0] is found[1]


# What is no checkpoint


def _write_text(path, saved):
    path.write_text('checkpoint: none\nweights: none\n')


def _write_empty(path, saved):
    path.touch()


def _write_truncated(path, saved):
    content = saved.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _write_pickle(path, saved):
    path.write_bytes(pickle.dumps({'state_dict': {}}, protocol=2))


def _write_list(path, saved):
    torch.save([torch.zeros(2)], path)


def _write_script(path, saved):
    torch.jit.save(torch.jit.trace(torch.nn.ReLU(), torch.ones(1)), str(path))


@pytest.mark.filterwarnings('ignore:.*torch.jit')
@pytest.mark.parametrize(
    'write, reason',
    [
        (_write_text, 'not what torch.save writes'),
        (_write_empty, 'ends too early'),
        (_write_truncated, 'cut short|failed finding central directory'),
        (_write_pickle, 'not what torch.save writes|corrupt file'),
        (_write_list, 'it holds a list'),
        (_write_script, 'TorchScript'),
    ],
)
def test_no_checkpoint_is_named(write, reason, saved, tmp_path):
    path = tmp_path / 'other.pth'
    write(path, saved)
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
    served = server.folder / 'model-1234.pth'
    served.write_bytes(saved.read_bytes())
    url = f'{server.url}/model-1234.pth?download=1'

    first = CheckpointLoader.load_checkpoint(url, map_location='cpu')
    served.unlink()
    second = CheckpointLoader.load_checkpoint(url, map_location='cpu')
    for checkpoint in (first, second):
        assert_same_state(
            checkpoint['state_dict'],
            load_checkpoint_file(saved)['state_dict'],
        )
    (path,) = server.cache.iterdir()
    assert path.name.endswith('-model-1234.pth')


def test_files_of_one_name_are_told_apart(server):
    for name in ('first', 'second'):
        folder = server.folder / name
        folder.mkdir()
        torch.save(dict(state_dict={}, name=name), folder / 'w.pth')
    for name in ('first', 'second'):
        url = f'{server.url}/{name}/w.pth'
        assert CheckpointLoader.load_checkpoint(url)['name'] == name


@pytest.mark.parametrize('scheme', ['http', 'open-mmlab'])
def test_hostile_url_is_refused(scheme, server, tmp_path, monkeypatch):
    hostile = write_hostile_checkpoints(server.folder, tmp_path)
    url = source = f'{server.url}/os_system.pth'
    if scheme == 'open-mmlab':
        monkeypatch.setattr(
            mmengine_checkpoint, 'get_external_models', lambda: {'toy': url}
        )
        source = 'open-mmlab://toy'

    with pytest.raises(CheckpointError) as error:
        CheckpointLoader.load_checkpoint(source)
    assert f'{url} was not loaded, for safety' in str(error.value)
    assert hostile['os_system'][1] in str(error.value)
    assert not hostile['os_system'][2].exists()
    assert not list(server.cache.iterdir())


@pytest.mark.parametrize(
    'name, reason',
    [('none.pth', '404'), ('truncated.pth', 'after 2 of 1000 bytes')],
)
def test_failed_download_names_the_url(name, reason, server):
    url = f'{server.url}/{name}'
    with pytest.raises(OSError, match=reason) as error:
        CheckpointLoader.load_checkpoint(url)
    assert url in str(error.value)
    assert not list(server.cache.iterdir())


def test_refused_connection_names_the_url(server):
    with socket.socket() as unused:
        unused.bind(('127.0.0.1', 0))
        port = unused.getsockname()[1]
    url = f'http://127.0.0.1:{port}/model.pth'
    with pytest.raises(OSError, match='refused') as error:
        CheckpointLoader.load_checkpoint(url)
    assert url in str(error.value)
    assert not list(server.cache.iterdir())


def test_second_process_reads_what_the_first_downloaded(
    saved, server, monkeypatch
):
    url = f'{server.url}/model.pth'
    served = Path(shutil.copy(saved, server.folder / 'model.pth'))
    CheckpointLoader.load_checkpoint(url)
    (cached,) = server.cache.iterdir()
    content = cached.read_bytes()
    cached.unlink()
    served.unlink()

    def wait_for_the_first():
        cached.write_bytes(content)

    monkeypatch.setattr(checkpoint_loading, 'get_dist_info', lambda: (1, 2))
    monkeypatch.setattr(checkpoint_loading, 'barrier', wait_for_the_first)
    # The server has the file no more: only the first process's copy is there.
    found = CheckpointLoader.load_checkpoint(url)
    expected = load_checkpoint_file(saved)
    assert_same_state(found['state_dict'], expected['state_dict'])


def test_failed_first_process_lets_the_second_go_on(server, monkeypatch):
    waited = []
    monkeypatch.setattr(checkpoint_loading, 'get_dist_info', lambda: (0, 2))
    monkeypatch.setattr(
        checkpoint_loading, 'barrier', lambda: waited.append(True)
    )
    with pytest.raises(OSError, match='404'):
        CheckpointLoader.load_checkpoint(f'{server.url}/none.pth')
    assert waited == [True]


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
