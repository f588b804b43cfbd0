import os

import mmengine
import numpy as np
import pytest
import synthetic
from mmaction.datasets import PoseDataset

from mamp_mmaction.datasets import annotation_file
from mamp_mmaction.datasets.annotation_file import (
    check_annotation,
    read_annotations,
    summarise,
    write_annotations,
)


def annotation(name, seed=0, **kwargs):
    kwargs = dict(dict(label=0, frames=6, joints=20), **kwargs)
    return dict(synthetic.annotation(seed, **kwargs), frame_dir=name)


@pytest.fixture
def content():
    annotations = [
        annotation('a', seed=1),
        annotation('b', seed=2, frames=9, persons=2, label=1),
        annotation('c', seed=3, frames=7, label=1),
    ]
    return {'train': ['a', 'b'], 'val': ['c']}, annotations


def test_round_trip_is_exact(tmp_path, content):
    """And the toolbox reads it."""
    split, annotations = content
    path = tmp_path / 'new' / 'folder' / 'data.pkl'
    write_annotations(path, split, annotations, classes=('run', 'rest'))
    read = read_annotations(path)
    assert read['split'] == split
    assert read['classes'] == ['run', 'rest']
    for got, expected in zip(read['annotations'], annotations, strict=True):
        assert got['keypoint'].dtype == np.float32
        np.testing.assert_array_equal(
            got.pop('keypoint'), expected['keypoint']
        )
        assert got == {k: v for k, v in expected.items() if k != 'keypoint'}
    assert os.listdir(path.parent) == ['data.pkl']
    dataset = PoseDataset(str(path), pipeline=[], split='train')
    names = [dataset.get_data_info(i)['frame_dir'] for i in (0, 1)]
    assert names == ['a', 'b']


def test_failure_leaves_the_old_file_and_no_other(
    tmp_path, content, monkeypatch
):
    path = tmp_path / 'data.pkl'
    write_annotations(path, *content)
    before = path.read_bytes()

    def full_disk(value, file, **kwargs):
        file.write(b'half of it')
        raise OSError('no space left on device')

    monkeypatch.setattr(annotation_file.pickle, 'dump', full_disk)
    with pytest.raises(OSError, match='no space'):
        write_annotations(path, {}, [annotation('new')])
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ['data.pkl']


def broken(**changes):
    return {**annotation('a'), **changes}


def keypoint(value=1.0, dtype=np.float32, shape=(1, 6, 20, 3)):
    array = np.ones(shape, dtype)
    array[(0, *[-1] * (len(shape) - 1))] = value
    return array


FAULTS = {
    'list': (broken(keypoint=[[0.0]]), 'keypoint of list'),
    'complex': (broken(keypoint=keypoint(dtype=complex)), 'of complex128'),
    'boolean': (broken(keypoint=keypoint(dtype=bool)), 'keypoint of bool'),
    'axes': (
        broken(keypoint=keypoint(shape=(6, 20, 3))),
        r'shape \(6, 20, 3\), expected \(persons',
    ),
    'nobody': (
        broken(keypoint=np.ones((0, 6, 20, 3))),
        r'\(0, 6, 20, 3\)',
    ),
    'NaN': (broken(keypoint=keypoint(np.nan)), '1 numbers.*frame 5, joint 19'),
    'infinite': (broken(keypoint=keypoint(np.inf)), '1 numbers in its keyp'),
    'huge': (broken(keypoint=keypoint(-1e30)), '1 numbers.*beyond 1e.06'),
    'huge float64': (
        broken(keypoint=keypoint(1e300, float)),
        '1 numbers.*beyond 1e.06, the first for person 0, frame 5',
    ),
    'zeros': (broken(keypoint=keypoint() * 0), 'no valid frame'),
    'frames': (broken(total_frames=5), 'total_frames 5.* 6 frames'),
    'transposed': (
        broken(keypoint=keypoint(shape=(9, 1, 20, 3)), total_frames=1),
        '9 persons in 1 frames.*transpose',
    ),
    'score': (
        broken(keypoint_score=np.ones((1, 6, 19))),
        r'\(1, 6, 19\), expected \(1, 6, 20\)',
    ),
    'score of NaN': (
        broken(keypoint_score=np.full((1, 6, 20), np.nan)),
        '120 numbers in its keypoint_score',
    ),
    'text': (broken(label='run'), "label 'run', expected an integer"),
    'boolean label': (broken(label=True), 'label True, expected an integer'),
    'negative label': (broken(label=-1), '-1, expected an integer from 0'),
    'label beyond': (broken(label=2), 'label 2, but there are 2 classes'),
    'keys': (dict(frame_dir='a', label=0), 'lacks.*total_frames.*keypoint'),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_fault_is_found(tmp_path, fault):
    sample, message = FAULTS[fault]
    with pytest.raises(ValueError, match=f'^here has .*{message}'):
        check_annotation(sample, 'here', num_classes=2)
    path = tmp_path / 'data.pkl'
    with pytest.raises(
        ValueError, match=rf"data\.pkl: sample 'a' .*{message}"
    ):
        write_annotations(path, {}, [sample], classes=['run', 'rest'])
    assert not path.exists()


@pytest.mark.parametrize(
    'sample',
    [
        broken(keypoint=keypoint(8000)),  # pixels, millimetres
        broken(keypoint=keypoint(3, np.float16)),
        broken(keypoint=keypoint(1920, np.int32)),
        broken(label=np.int64(1)),
        broken(keypoint=keypoint(shape=(2, 1, 20, 3)), total_frames=1),
    ],
)
def test_sound_sample_passes(sample):
    check_annotation(sample, 'here', num_classes=2)


def test_samples_of_several_classes():
    for label in ([0, 1], np.array([1]), []):
        check_annotation(broken(label=label), 'here', 2, multi_class=True)
    with pytest.raises(ValueError, match='label 2, but there are 2'):
        check_annotation(broken(label=[0, 2]), 'here', 2, multi_class=True)


def test_refuses_to_write_what_rounds_motion_away(tmp_path):
    for dtype in (np.float16, np.float64):
        sample = broken(keypoint=keypoint(dtype=dtype))
        with pytest.raises(ValueError, match="'a' .*float.*expected float32"):
            write_annotations(tmp_path / 'data.pkl', {}, [sample])


def test_refuses_ambiguous_and_unknown_names(tmp_path, content):
    path = tmp_path / 'data.pkl'
    split, annotations = content
    for extra, message in (
        ([annotation('a')], "more than once.*'a'"),
        ([broken(frame_dir=7)], "sample 3 .*lacks 'frame_dir', a string"),
        (['text'], 'sample 3 is a str, expected a dict'),
    ):
        with pytest.raises(ValueError, match=rf'data\.pkl: .*{message}'):
            write_annotations(path, split, annotations + extra)
    with pytest.raises(ValueError, match="split 'val' names 1.*'d'"):
        write_annotations(path, {'val': ['c', 'd']}, annotations)


def test_refuses_a_suffix_that_the_toolbox_does_not_read(tmp_path, content):
    with pytest.raises(ValueError, match=r"\.pkl.*'\.npz'"):
        write_annotations(tmp_path / 'data.npz', *content)


def test_reads_the_bare_list_form(tmp_path, content):
    path = tmp_path / 'data.pkl'
    mmengine.dump(content[1], path)
    assert [a['frame_dir'] for a in read_annotations(path)] == list('abc')


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'none\.pkl: there is no'):
        read_annotations(tmp_path / 'none.pkl')


@pytest.mark.parametrize(
    ('value', 'message'),
    [
        ('text', r'data\.pkl: holds a str'),
        ({'annotations': []}, r"data\.pkl: lacks \['split'\]"),
        ({'split': [], 'annotations': []}, r"data\.pkl: 'split' is a list"),
    ],
)
def test_pickle_of_something_else(tmp_path, value, message):
    path = tmp_path / 'data.pkl'
    mmengine.dump(value, path)
    with pytest.raises(ValueError, match=message):
        read_annotations(path)


def test_summary_counts(content):
    lines = summarise(*content).splitlines()
    summary = {line[:22].strip(): line[22:].strip() for line in lines}
    assert summary == {
        'sequences': '3',
        'train': '2',
        'val': '1',
        'classes': '2, 1 to 2 sequences each',
        'persons': '1 in 2 sequences, 2 in 1 sequences',
        'joints x coordinates': '20 x 3',
        'frames': '6 to 9, median 7',
    }
