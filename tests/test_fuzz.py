"""Damaged files: every reader returns, or fails in a line with the file.

`FUZZ_TRIES=10000 python -m pytest -m long tests/test_fuzz.py` for long.
"""

import io
import json
import multiprocessing
import os
import pickle
import random
import re
import resource
import shutil
import signal
import sys
import time
import warnings
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import synthetic
import torch
from raw_files import (
    write_csv,
    write_msr,
    write_ntu,
    write_pku,
    write_ucla,
    write_utd,
)

from mamp_mmaction.compat import CheckpointError, load_checkpoint_file
from mamp_mmaction.datasets import SkeletonDataset
from mamp_mmaction.datasets.raw_files import pku_mmd
from mamp_mmaction.evaluation.extraction import read_features
from mamp_mmaction.evaluation.scores import read_scores
from mamp_mmaction.inference.recordings import read_recordings
from mamp_mmaction.layouts import get_layout

TRIES = int(os.environ.get('FUZZ_TRIES', 10_000))
SECONDS = 5  # of the processor, for one file
MEMORY = 1 << 26  # bytes that one of these files, of up to 30 kB, may take
EXTREMES = b'1e400 -1 nan inf 0 9223372036854775808 1e39 1_0 x '.split() + [
    b'9' * 5000,
    b'',
    b'\xff' * 4,
    b'\0\0\0\x80',
    b'\xff\xff\xff\x7f',
]


def mutate(data, other, rng):
    """Change bytes in one to four ways."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        size = len(data)
        start = rng.randint(0, size)
        # Small changes mostly, and those near the start, where headers are.
        if rng.random() < 0.3:
            start = min(start, rng.randint(0, 300))
        stop = min(size, start + rng.choice([1, 2, 4, 8, 50, size]))
        way = rng.randrange(8)
        if way == 0:
            del data[start:]
        elif way == 1:
            for place in range(start, min(stop, start + 8)):
                data[place] ^= 1 << rng.randrange(8)
        elif way == 2:
            data[start:start] = data[start:stop]
        elif way == 3:
            del data[start:stop]
        elif way == 4:
            data[start:] = other[rng.randint(0, len(other)) :]
        elif way == 5:
            data[start : start + 4] = rng.choice(EXTREMES)
        elif way == 6:
            data[start:stop] = rng.randbytes(stop - start)
        else:
            number = re.compile(rb'-?\d+(\.\d+)?(e-?\d+)?').search(data, start)
            if number:
                data[slice(*number.span())] = rng.choice(EXTREMES)
    return bytes(data)


def walk(index, joints=25, frames=6):
    sample = synthetic.annotation(index, joints=joints, frames=frames)
    return sample['keypoint'][0]


def write_openpose(path, index):
    person = [*walk(index, 18, 1).clip(0.1).ravel().tolist()]
    people = [dict(pose_keypoints_2d=person)] * 2
    path.write_text(json.dumps(dict(people=people)))


def write_named(path, index, persons=None, frames=6):
    names = get_layout('coco').joint_names
    x = walk(index, len(names), frames)
    extra = dict(frame=range(frames), **(persons or {}))
    write_csv(path, x, names, extra=extra)


def write_archive(path, index):
    x = np.zeros((2, 300, 150), np.float32)
    x[:, :6, :75] = walk(index).reshape(6, 75)
    y = np.eye(3)[:2]
    np.savez_compressed(path, x_train=x, x_test=x, y_train=y, y_test=y)


def write_checkpoint(path, index, **options):
    from mmengine.logging import HistoryBuffer

    state = {f'layer.{i}': torch.ones(3, index + 2) for i in range(3)}
    meta = dict(history=HistoryBuffer([1.0], [1]), seed=np.int64(index))
    torch.save(dict(state_dict=state, meta=meta), path, **options)


def write_scores(path, index):
    samples = [
        dict(
            pred_score=torch.rand(5),
            gt_label=torch.tensor([i]),
            frame_dir=f'S{i + index}',
        )
        for i in range(3)
    ]
    path.write_bytes(pickle.dumps(samples, 4 + index))


def write_features(path, index):
    x, y = np.ones((4, 8)), np.arange(4) + index
    write = (np.savez, np.savez_compressed)[index]
    write(path, features=x, labels=y, names=np.array(['a', 'b', 'c', 'd']))


def write_annotations(path, index):
    data = synthetic.data_set(4, 3, frames=6)
    data['classes'] = list('abcde')
    path.write_bytes(pickle.dumps(data, (2, 5)[index]))


def read_data_set(path):
    SkeletonDataset(ann_file=str(path), split='xsub_train', pipeline=[])


def read_samples(path):
    read_recordings(path, samples=['S000'])
    read_recordings(path)


def read_archive(load_tool, path):
    out = path.with_suffix('.pkl')
    load_tool('data/mamp_npz').to_annotations(path, out, 'xsub')


def read_video(path):
    pku_mmd.read_video(path.stem, path.parents[1], strict=True)


def write_labels(path, index):
    skeleton = path.parents[1] / 'skeleton' / path.name
    skeleton.parent.mkdir(exist_ok=True)
    write_pku(skeleton, np.ones((20, 150)))
    path.write_text(f'1,0,{9 + index},1\n2,10,19,1\n')


# By reader: the file's name, how it is written and read.
READERS = {
    'ntu': (
        'S001C001P001R001A001.skeleton',
        lambda path, i: write_ntu(path, [[(7, x)] for x in walk(i)]),
        read_recordings,
    ),
    'pku': (
        'a.txt',
        lambda path, i: write_pku(path, walk(i, 50)),
        read_recordings,
    ),
    'pku labels': ('label/a.txt', write_labels, read_video),
    'msr': (
        'a01_s01_e01_skeleton3D.txt',
        lambda path, i: write_msr(path, walk(i, 20)),
        read_recordings,
    ),
    'nw-ucla': (
        'a01_s01_e01_v01.json',
        lambda path, i: write_ucla(path, walk(i, 20)),
        read_recordings,
    ),
    'utd-mhad': (
        'a1_s1_t1_skeleton.mat',
        lambda path, i: write_utd(path, walk(i, 20), do_compression=bool(i)),
        read_recordings,
    ),
    'openpose': (
        'a_keypoints.json',
        write_openpose,
        lambda path: read_recordings(path.parent, image_size=(9, 9)),
    ),
    'npy': (
        'a.npy',
        lambda path, i: np.save(path, walk(i)),
        lambda path: read_recordings(path, 'nturgb+d'),
    ),
    'npz': (
        'a.npz',
        lambda path, i: (np.savez, np.savez_compressed)[i](
            path, keypoint=walk(i), keypoint_score=np.ones((6, 25))
        ),
        read_recordings,
    ),
    'csv': ('a.csv', write_named, read_recordings),
    'annotations': ('a.pkl', write_annotations, read_data_set),
    'annotations of the demo': ('a.pkl', write_annotations, read_samples),
    'archive': ('a_xsub.npz', write_archive, read_archive),
    'checkpoint': ('a.pth', write_checkpoint, load_checkpoint_file),
    'checkpoint, unzipped': (
        'a.pth',
        partial(write_checkpoint, _use_new_zipfile_serialization=False),
        load_checkpoint_file,
    ),
    'scores': ('a.pkl', write_scores, read_scores),
    'features': ('a.npz', write_features, read_features),
}  # fmt: skip


def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def fuzz(name, folder, read, tries, last):
    """Run in a process of its own, which a bad file may end."""
    path = folder / name
    resource.setrlimit(resource.RLIMIT_AS, (1 << 34, 1 << 34))
    sys.stdout = sys.stderr = io.StringIO()
    warnings.simplefilter('ignore')
    originals = [(folder / f'{i}').read_bytes() for i in range(2)]
    most = peak() + MEMORY
    for seed in range(tries):
        last.value = seed
        rng = random.Random(seed)
        data, other = rng.sample(originals, 2)
        path.write_bytes(mutate(data, other, rng))
        # Its default action ends the process.
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            read(path)
        except (ValueError, OSError, CheckpointError) as error:
            message = str(error)
            if str(path.parent) not in message or '\n' in message:
                os.write(2, f'{type(error).__name__}: {message}\n'.encode())
                os._exit(3)
        except BaseException:
            import traceback

            os.write(2, traceback.format_exc().encode())
            os._exit(4)
        if peak() > most:
            os._exit(5)
    os._exit(0)


def check(reader, tries, folder, load_tool):
    name, write, read = READERS[reader]
    path = folder / 'files' / name
    path.parent.mkdir(parents=True)
    folder = path.parents[len(Path(name).parts) - 1]
    if read is read_archive:
        read = partial(read, load_tool)
    for index in range(2):
        write(path, index)
        read(path)  # as it should be
        shutil.copy(path, folder / f'{index}')
    context = multiprocessing.get_context('fork')
    last = context.Value('q', -1)
    process = context.Process(
        target=fuzz, args=(name, folder, read, tries, last)
    )
    process.start()
    process.join()
    how = {3: 'fails with other than a line with the file', 4: 'crashes',
           5: f'takes more than {MEMORY} bytes',
           -signal.SIGPROF: f'takes more than {SECONDS} s'}  # fmt: skip
    code = process.exitcode
    assert not code, (
        f'{reader}, mutation {last.value}: {how.get(code, code)}; {path}'
    )


@pytest.mark.parametrize('reader', READERS)
def test_damaged_file(reader, tmp_path, load_tool):
    check(reader, 100, tmp_path, load_tool)


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize('reader', READERS)
def test_many_damaged_files(reader, tmp_path, load_tool):
    check(reader, TRIES, tmp_path, load_tool)


# Small files that declare or hold much


def forged_npz(path):
    """One whose directory and header declare, in accord, a terabyte."""
    header = io.BytesIO()
    shape = dict(descr='<f8', fortran_order=False, shape=(1 << 34, 8))
    np.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(path, 'w') as archive:
        for name in ('x_train', 'x_test', 'y_train', 'y_test', 'features'):
            archive.writestr(f'{name}.npy', header.getvalue())
            archive.infolist()[-1].file_size += 1 << 40


def crowd(path):
    write_named(path, 0, dict(person=range(999)), 999)


def rewritten(change, method=zipfile.ZIP_STORED):
    """A checkpoint whose members are changed."""

    def write(path):
        torch.save(dict(weight=torch.zeros(7)), path)
        with zipfile.ZipFile(path) as archive:
            members = {n: archive.read(n) for n in archive.namelist()}
        with zipfile.ZipFile(path, 'w', method) as archive:
            for name, data in members.items():
                archive.writestr(name, change(name.partition('/')[2], data))

    return write


# A dict with a key of 2^60 parts: DUP, TUPLE2.
KEY = b'\x80\x02}K\x01' + b'2\x86' * 60 + b'Ns.'


def key_in_old_checkpoint(path):
    numbers = torch.serialization.MAGIC_NUMBER, 1001, {}
    path.write_bytes(b''.join([pickle.dumps(n, 2) for n in numbers] + [KEY]))


def zeros_in_matlab(path):
    write_utd(path, np.zeros((300_000, 20, 3)), do_compression=True)


BOMBS = {
    'zeros': (
        'a.npz',
        lambda path: np.savez_compressed(path, np.zeros(10**8, 'u1')),
        read_recordings,
    ),
    'npz': ('a.npz', forged_npz, read_recordings),
    'features': ('a.npz', forged_npz, read_features),
    'archive': ('a_xsub.npz', forged_npz, read_archive),
    'mat': ('a1_s1_t1_skeleton.mat', zeros_in_matlab, read_recordings),
    'csv': ('a.csv', crowd, read_recordings),
    'count': (
        'S001C001P001R001A001.skeleton',
        lambda path: path.write_text('9' * 5000),
        read_recordings,
    ),
    'json': (
        'a01_s01_e01_v01.json',
        lambda path: path.write_text('{"skeletons": [1%s]}' % ('0' * 400)),
        read_recordings,
    ),
    'compressed checkpoint': (
        'a.pth',
        rewritten(
            lambda name, data: bytes(10**8) if name == 'data/0' else data,
            zipfile.ZIP_DEFLATED,
        ),
        load_checkpoint_file,
    ),
    'numbers that are not there': (
        'a.pth',
        rewritten(lambda name, data: data.replace(b'K\x07', b'J\0\0\0\x10')),
        load_checkpoint_file,
    ),
    'key in a checkpoint': (
        'a.pth',
        rewritten(lambda name, data: KEY if name == 'data.pkl' else data),
        load_checkpoint_file,
    ),
    'key in an old checkpoint': (
        'a.pth',
        key_in_old_checkpoint,
        load_checkpoint_file,
    ),
}


@pytest.mark.parametrize('bomb', BOMBS)
def test_bomb(bomb, tmp_path, load_tool):
    name, write, read = BOMBS[bomb]
    path = tmp_path / name
    write(path)
    if read is read_archive:
        read = partial(read, load_tool)
    start, most = time.process_time(), peak() + MEMORY
    with pytest.raises((ValueError, CheckpointError)) as error:
        read(path)
    assert str(path) in str(error.value) and '\n' not in str(error.value)
    assert time.process_time() - start < SECONDS and peak() < most
