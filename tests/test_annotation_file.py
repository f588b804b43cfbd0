import os

import mmengine
import numpy as np
import pytest
import synthetic
from mmaction.datasets import PoseDataset

from mamp_mmaction.datasets import SkeletonDataset, annotation_file
from mamp_mmaction.datasets.annotation_file import (
    check_annotation,
    read_annotations,
    summarise,
    write_annotations,
)
from mamp_mmaction.inference import read_recordings


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


@pytest.mark.parametrize(
    'key, value, message',
    [
        ('label', 2, 'label 2, but there are 2 classes'),
        ('keypoint_score', np.ones((1, 6, 19)), r'19\), expected \(1, 6, 20'),
        ('keypoint_score', np.full((1, 6, 20), np.nan), '120 numbers in its'),
        ('keypoint_score', [[1.0], []], 'lists of several lengths'),
    ],
)
def test_faults_are_found_before_writing(tmp_path, key, value, message):
    """What else :func:`check_annotation` finds is in test_odd_inputs.py."""
    path = tmp_path / 'data.pkl'
    with pytest.raises(ValueError, match=rf"l: sample 'a' has .*{message}"):
        write_annotations(path, {}, [broken(**{key: value})], ['a', 'b'])
    assert not path.exists()


def test_scores_that_are_no_array(tmp_path):
    path, scores = tmp_path / 'data.pkl', np.ones((1, 6, 20)).tolist()
    samples = [
        broken(keypoint_score=None, frame_dir='none'),
        broken(keypoint_score=scores, frame_dir='lists'),
    ]
    mmengine.dump(samples, path)
    none, lists = SkeletonDataset(str(path), synthetic.pipeline(8))
    assert none['inputs'].shape[-1] == 3 and lists['inputs'].shape[-1] == 4
    none, lists = read_recordings(path)
    assert 'keypoint_score' not in none.cut(0, 3).sample
    assert lists.cut(0, 3).sample['keypoint_score'].shape == (1, 3, 20)


def test_names_in_arrays_are_read_and_written(tmp_path, content):
    split, annotations = content
    path, arrays = (
        tmp_path / 'data.pkl',
        {k: np.array(split[k]) for k in split},
    )
    classes = np.array(['run', 'rest'])
    data = dict(split=arrays, annotations=annotations, classes=classes)
    mmengine.dump(data, path)
    dataset = SkeletonDataset(str(path), [], split='train')
    assert len(dataset) == 2 and dataset.metainfo['classes'] == ('run', 'rest')
    assert [r.true_class for r in read_recordings(path)][:2] == ['run', 'rest']
    write_annotations(path, arrays, annotations, classes)
    read = read_annotations(path)
    assert (read['split'], read['classes']) == (split, ['run', 'rest'])
    write_annotations(path, split, annotations, [])
    assert 'classes' not in read_annotations(path)


@pytest.mark.parametrize(
    'names', [None, 'ab', ['a', 1], [['a']], {'a': 1}, np.array([['a']])]
)
def test_what_is_no_list_of_names(tmp_path, content, names):
    _, annotations = content
    path, split = tmp_path / 'data.pkl', dict(train=names)
    mmengine.dump(dict(split=split, annotations=annotations), path)
    with pytest.raises(
        ValueError, match=r"data.pkl: split 'train' is .* list"
    ):
        SkeletonDataset(str(path), [], split='train')
    with pytest.raises(
        ValueError, match=r"data.pkl: split 'train' is .* list"
    ):
        write_annotations(path, split, annotations)
    if names is None:
        return
    mmengine.dump(dict(split={}, annotations=[], classes=names), path)
    with pytest.raises(ValueError, match=r"data.pkl: 'classes' is .* list of"):
        read_annotations(path)


def test_samples_of_several_classes():
    for label in ([0, 1], np.array([1]), []):
        check_annotation(broken(label=label), 'here', 2, multi_class=True)
    with pytest.raises(ValueError, match='label 2, but there are 2'):
        check_annotation(broken(label=[0, 2]), 'here', 2, multi_class=True)


def test_refuses_to_write_what_rounds_motion_away(tmp_path):
    for dtype in (np.float16, np.float64):
        sample = broken(keypoint=np.ones((1, 6, 20, 3), dtype))
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
