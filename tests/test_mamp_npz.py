import os
import tracemalloc
import zipfile

import numpy as np
import pytest
import synthetic

from mamp_mmaction.datasets.annotation_file import (
    read_annotations,
    write_annotations,
)

ROW = (300, 150)
CLASSES = 7
LABELS = {'train': (0, 6, 3, 3, 1), 'test': (2, 0, 3)}


@pytest.fixture(scope='module')
def tool(load_tool):
    return load_tool('data/mamp_npz')


def samples(count, seed):
    """Rows (count, 300, 150) of one or two persons, padded with zeros."""
    rng = np.random.default_rng(seed)
    rows = np.zeros((count, *ROW), np.float32)
    for i, row in enumerate(rows):
        frames, columns = rng.integers(20, 300), 75 * (1 + i % 2)
        row[:frames, :columns] = rng.normal(size=(frames, columns))
    return rows


def archive(dtype=np.float64):
    arrays = {}
    for seed, (part, labels) in enumerate(LABELS.items()):
        arrays[f'x_{part}'] = samples(len(labels), seed)
        arrays[f'y_{part}'] = np.eye(CLASSES, dtype=dtype)[list(labels)]
    return arrays


def save(path, arrays):
    np.savez(path, **arrays)
    return path


def to_annotations(tool, path, *options):
    out = path.with_suffix('.pkl')
    tool.main(['to-annotations', str(path), str(out), *options])
    return read_annotations(out)


def to_npz(tool, path, *options, name='back_XSub.npz'):
    out = path.with_name(name)
    tool.main(['to-npz', str(path), str(out), *options])
    with np.load(out, allow_pickle=False) as arrays:
        return dict(arrays)


def by_name(content):
    return {a['frame_dir']: a for a in content['annotations']}


def assert_identical(got, expected):
    assert got.keys() == expected.keys()
    for key, array in expected.items():
        assert got[key].dtype == array.dtype, key
        assert got[key].shape == array.shape, key
        assert got[key].tobytes() == array.tobytes(), key


# From an archive to annotations


def test_annotations_hold_the_numbers_of_the_archive(tool, tmp_path):
    arrays = archive()
    path = save(tmp_path / 'NTU60_XSub.npz', arrays)
    content = to_annotations(tool, path)
    assert content['split'] == {
        'xsub_train': [f'train_{i:06}' for i in range(5)],
        'xsub_val': [f'test_{i:06}' for i in range(3)],
    }
    assert content['classes'] == [f'A{i:03}' for i in range(1, 8)]
    found = by_name(content)
    for part, labels in LABELS.items():
        for i, label in enumerate(labels):
            row = arrays[f'x_{part}'][i]
            sample = found[f'{part}_{i:06}']
            frames = np.flatnonzero(row.any(axis=1))[-1] + 1
            keypoint = sample['keypoint']
            assert keypoint.shape == (1 + i % 2, frames, 25, 3)
            assert keypoint.dtype == np.float32
            assert sample['total_frames'] == frames
            assert sample['label'] == label
            for person, joints in enumerate(keypoint):
                columns = row[:frames, 75 * person : 75 * (person + 1)]
                np.testing.assert_array_equal(
                    joints.reshape(frames, 75), columns
                )


def test_samples_of_zeros_are_left_out_and_named(tool, tmp_path, capsys):
    arrays = archive()
    arrays['x_train'][3] = 0
    arrays['x_test'][0] = -0.0
    content = to_annotations(tool, save(tmp_path / 'a_xset.npz', arrays))
    assert content['split'] == {
        'xset_train': [f'train_{i:06}' for i in (0, 1, 2, 4)],
        'xset_val': ['test_000001', 'test_000002'],
    }
    assert by_name(content)['train_000004']['label'] == 1
    captured = capsys.readouterr()
    assert 'left out, all zero: train_000003' in captured.err
    assert 'left out, all zero: test_000000' in captured.err
    assert 'left out, all zero    2' in captured.out


def test_rounding_of_float64_is_told(tool, tmp_path, capsys):
    arrays = archive()
    arrays['x_test'] = arrays['x_test'].astype(np.float64)
    path = save(tmp_path / 'a_xsub.npz', arrays)
    to_annotations(tool, path)
    assert 'rounded' not in capsys.readouterr().out
    arrays['x_test'][1, 4, 7] = 3 + 1e-7
    content = to_annotations(tool, save(path, arrays))
    assert 'rounded to float32    by at most 1e-07' in capsys.readouterr().out
    assert by_name(content)['test_000001']['keypoint'][0, 4, 2, 1] == 3


def test_only_what_is_kept_is_held(tool, tmp_path):
    rows = np.zeros((400, *ROW), np.float32)  # 72 MB
    rows[:, :10] = 1
    labels = np.eye(CLASSES)[np.arange(400) % CLASSES]
    arrays = dict(x_train=rows, y_train=labels)
    arrays.update(x_test=rows[:1], y_test=labels[:1])
    path = save(tmp_path / 'a_xsub.npz', arrays)
    tracemalloc.start()
    try:
        to_annotations(tool, path)
        back = path.with_suffix('.pkl')
        tool.main(['to-npz', str(back), str(tmp_path / 'b_xsub.npz')])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 45e6


# There and back


@pytest.mark.parametrize('dtype', ['f8', 'u1', '?'])
def test_round_trip_is_exact(tool, tmp_path, monkeypatch, dtype):
    monkeypatch.setattr(tool, 'CHUNK', 2)  # the last chunk is not full
    arrays = archive(dtype)
    x = arrays['x_train']
    x[0, :, 75:] = x[0, :, :75]
    x[1, :, :75] = 0
    x[2, 5:9] = 0
    x[3, 299, 149] = -0.0
    x[4, :3] = 0
    arrays['x_test'][0, :] = 7  # fills the row
    path = save(tmp_path / 'NTU60_XSub.npz', arrays)
    to_annotations(tool, path)
    assert_identical(to_npz(tool, path.with_suffix('.pkl')), arrays)


def test_compressed_archive_with_an_empty_part_and_another_split(
    tool, tmp_path
):
    arrays = archive()
    arrays.update(x_test=arrays['x_test'][:0], y_test=arrays['y_test'][:0])
    path = tmp_path / 'mine.npz'
    np.savez_compressed(path, **arrays)
    content = to_annotations(tool, path, '--split', 'cs')
    assert list(content['split']) == ['cs_train', 'cs_val']
    back = to_npz(
        tool, path.with_suffix('.pkl'), '--split', 'cs', name='b.npz'
    )
    assert_identical(back, arrays)


# Names


def test_split_is_what_the_name_says_or_asked_for(tool, tmp_path):
    folder = tmp_path / 'xsub'  # the folder says nothing
    for name, split in (
        ('NTU60_XSub.npz', 'xsub'),
        ('PKUv2_xview_copy.npz', 'xview'),
        ('NTU120_XSet.npz', 'xset'),
    ):
        assert tool.derive_split(folder / name) == split
    for name in ('NTU60.npz', 'XSub_XView.npz', 'subx.npz'):
        with pytest.raises(ValueError, match=f'{name}.*give --split'):
            tool.derive_split(folder / name)


@pytest.mark.parametrize(
    'arguments',
    [
        ('to-annotations', 'a_xsub.npz', 'a.npz'),
        ('to-npz', 'a.pkl', 'a_xsub.pkl'),
    ],
)
def test_suffix_is_checked_before_the_work(tool, capsys, arguments):
    with pytest.raises(SystemExit):
        tool.main(list(arguments))
    assert 'does not end in' in capsys.readouterr().err


# Broken archives


def put(key, index, value):
    def change(arrays):
        arrays[key][index] = value

    return change


def replace(key, value):
    def change(arrays):
        arrays[key] = value(arrays[key])

    return change


BROKEN = {
    'missing key': (
        lambda arrays: arrays.pop('y_test'),
        r"lacks \['y_test'\] \(it has",
    ),
    'another number of labels': (
        replace('y_test', lambda y: y[:2]),
        r'x_test: has the shape \(3, 300, 150\), expected \(2, 300, 150\)',
    ),
    'labels that are numbers': (
        replace('y_train', lambda y: y.argmax(axis=1)),
        r'y_train: has the shape \(5,\), expected \(samples, classes\)',
    ),
    'two labels': (
        put('y_train', (3, 0), 1),
        'y_train: 1 rows are not one-hot; row 3 has 2 ones and 5 zeros',
    ),
    'other classes': (
        replace('y_test', lambda y: np.pad(y, ((0, 0), (0, 1)))),
        'y_train has 7 columns, y_test 8',
    ),
    'NaN': (
        put('x_train', (2, 17, 3), np.nan),
        r'x_train: row 2 holds NaN.*frame 17\)',
    ),
    'beyond float32': (
        replace('x_test', lambda x: np.where(x > 2, 1e300, x.astype(float))),
        'x_test: row . holds NaN, infinity or a number beyond float32',
    ),
    'float16': (
        replace('x_train', lambda x: x.astype(np.float16)),
        'x_train: holds float16, expected float32 or float64',
    ),
    'objects': (
        replace('y_train', lambda y: y.astype(object)),
        'y_train: holds object, expected numbers',
    ),
    'column by column': (
        replace('x_train', np.asfortranarray),
        'x_train: is stored column by column.*ascontiguousarray',
    ),
    'nothing but zeros': (
        lambda arrays: [arrays[f'x_{part}'].fill(0) for part in LABELS],
        'no sample holds anything but zeros',
    ),
}


@pytest.mark.parametrize('fault', BROKEN)
def test_broken_archive(tool, tmp_path, fault):
    change, message = BROKEN[fault]
    arrays = archive()
    change(arrays)
    path = save(tmp_path / 'NTU60_XSub.npz', arrays)
    with pytest.raises(SystemExit, match=f'NTU60_XSub.npz.*{message}'):
        to_annotations(tool, path)
    assert os.listdir(tmp_path) == [path.name]


def damaged(data, kind):
    if kind == 'truncated':
        return data[:-5000]
    if kind == 'other format':
        return b'no archive'
    middle = len(data) // 2  # amid the numbers: the checksum tells
    return data[:middle] + bytes(9) + data[middle + 9 :]


@pytest.mark.parametrize('kind', ['truncated', 'other format', 'changed'])
@pytest.mark.parametrize('write', [np.savez, np.savez_compressed])
def test_damaged_file(tool, tmp_path, kind, write):
    arrays = archive()
    for part in LABELS:
        arrays[f'x_{part}'] += 1  # no zeros, which a change could equal
    path = tmp_path / 'NTU60_XSub.npz'
    write(path, **arrays)
    path.write_bytes(damaged(path.read_bytes(), kind))
    with pytest.raises(SystemExit, match=r'NTU60_XSub\.npz: cannot be read'):
        to_annotations(tool, path)


def test_member_that_is_no_array(tool, tmp_path):
    path = save(tmp_path / 'a_xsub.npz', archive())
    with zipfile.ZipFile(path) as source:
        members = {name: source.read(name) for name in source.namelist()}
    for name, data, message in (
        ('x_train', b'text', 'x_train: is no numpy array'),
        ('x_train', members['x_train.npy'][:-40], 'has 899960 bytes of numb'),
    ):
        with zipfile.ZipFile(path, 'w') as target:
            for member, content in {**members, f'{name}.npy': data}.items():
                target.writestr(member, content)
        with pytest.raises(SystemExit, match=message):
            to_annotations(tool, path)


# From annotations to an archive


@pytest.fixture
def annotations():
    """Three samples in the splits, and one of another class in none."""
    sizes = dict(a=(2, 1, 30), b=(1, 2, 30), c=(4, 1, 300), unused=(5, 1, 30))
    samples = [
        synthetic.annotation(i, label, persons, frames)
        for i, (label, persons, frames) in enumerate(sizes.values())
    ]
    return [dict(s, frame_dir=name) for s, name in zip(samples, sizes)]


def write(path, annotations, split=None, classes=None):
    split = split or {'xsub_train': ['b', 'a'], 'xsub_val': ['c']}
    write_annotations(path, split, annotations, classes)
    return path


def test_what_does_not_fit_stops_or_is_cut(
    tool, tmp_path, annotations, capsys
):
    a, b, c, _ = annotations
    b['keypoint'] = np.ones((4, 301, 25, 3), np.float32)
    b['keypoint'][1] = 2
    b['total_frames'] = 301
    path = write(tmp_path / 'a.pkl', annotations)
    told = 'more than 300 frames in 1 samples, more than 2 persons in 1 '
    with pytest.raises(SystemExit, match=f'{told}.*--cut'):
        to_npz(tool, path)
    assert not (tmp_path / 'back_XSub.npz').exists()
    arrays = to_npz(tool, path, '--cut')
    printed = capsys.readouterr().out
    assert told in printed and '1 annotations in neither split' in printed
    # Labels go up to 5, also in samples that are in neither split.
    np.testing.assert_array_equal(arrays['y_train'], np.eye(6)[[2, 1]])
    np.testing.assert_array_equal(arrays['y_test'], np.eye(6)[[4]])
    rows = np.zeros((3, *ROW), np.float32)
    rows[0, :30, :75] = a['keypoint'].reshape(30, 75)
    rows[1] = [1] * 75 + [2] * 75
    rows[2, :, :75] = c['keypoint'].reshape(300, 75)
    np.testing.assert_array_equal(arrays['x_train'], rows[:2])
    np.testing.assert_array_equal(arrays['x_test'], rows[2:])
    write(path, annotations, classes=list('abcdefgh'))
    assert to_npz(tool, path, '--cut')['y_train'].shape == (2, 8)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(keypoint=np.ones((1, 30, 17, 3), 'f4')), r"'b'.*\(1, 30, 17, 3"),
        (
            dict(keypoint=np.ones((1, 30, 25, 3), int)),
            "'b': keypoint is int64",
        ),
        (dict(keypoint=np.full((1, 30, 25, 3), np.nan)), "'b'.*NaN"),
        (dict(frame_dir='a'), "more than once, the first is 'a'"),
        (dict(frame_dir='other'), "lists 1 samples without.* 'b'"),
        (dict(filename='b'), r"'b' has the keys .* lacks \['frame_dir'\]"),
        (dict(one_hot_dtype='no type'), r"one_hot_dtype is \['no type'\]"),
    ],
)
def test_broken_annotation(tool, tmp_path, annotations, changes, message):
    annotations[1].update(changes)
    if 'filename' in changes:
        del annotations[1]['frame_dir']
    path = tmp_path / 'a.pkl'
    split = {'xsub_train': ['a', 'b'], 'xsub_val': ['c']}
    synthetic.write(path, dict(split=split, annotations=annotations))
    with pytest.raises(SystemExit, match=f'a.pkl.*({message})'):
        to_npz(tool, path)
    assert os.listdir(tmp_path) == ['a.pkl']


def test_other_forms_and_splits(tool, tmp_path, annotations):
    path = tmp_path / 'a.pkl'
    split = {'xsub_train': ['a'], 'xsub_val': ['b']}
    broken = dict(split=split, annotations=[*annotations, 'e'])
    for content, name, message in (
        (annotations, 'b_XSub', r'a\.pkl.*without splits'),
        (broken, 'b_XSub', r'a\.pkl.*: sample 4 is a str'),
        (
            dict(split=split, annotations=annotations),
            'b_XSet',
            "no split 'xset_train'.*'xsub_train', 'xsub_val'",
        ),
        (dict(split=split, annotations=annotations), 'b', 'give --split'),
    ):
        synthetic.write(path, content)
        with pytest.raises(SystemExit, match=message):
            to_npz(tool, path, name=f'{name}.npz')
