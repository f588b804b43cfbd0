import os

import mmengine
import numpy as np
import pytest
from mmaction.datasets import PoseDataset

from mamp_mmaction.datasets import annotation_file
from mamp_mmaction.datasets.annotation_file import (
    read_annotations,
    summarise,
    write_annotations,
)


def annotation(name, frames=6, persons=1, label=0, seed=0):
    rng = np.random.default_rng(seed)
    shape = (persons, frames, 20, 3)
    return dict(
        frame_dir=name,
        label=label,
        total_frames=frames,
        keypoint=rng.normal(size=shape).astype(np.float32),
    )


@pytest.fixture
def content():
    annotations = [
        annotation('a', frames=6, seed=1),
        annotation('b', frames=9, persons=2, label=1, seed=2),
        annotation('c', frames=7, label=1, seed=3),
    ]
    return {'train': ['a', 'b'], 'val': ['c']}, annotations


def test_round_trip_is_exact(tmp_path, content):
    split, annotations = content
    path = tmp_path / 'new' / 'folder' / 'data.pkl'
    write_annotations(path, split, annotations, classes=('run', 'rest'))
    read = read_annotations(path)
    assert read['split'] == split
    assert read['classes'] == ['run', 'rest']
    for got, expected in zip(read['annotations'], annotations):
        assert got['keypoint'].dtype == np.float32
        np.testing.assert_array_equal(got['keypoint'], expected['keypoint'])
        assert {k: v for k, v in got.items() if k != 'keypoint'} == {
            k: v for k, v in expected.items() if k != 'keypoint'
        }
    assert os.listdir(path.parent) == ['data.pkl']


def test_toolbox_reads_what_was_written(tmp_path, content):
    path = str(tmp_path / 'data.pkl')
    write_annotations(path, *content, classes=['run', 'rest'])
    dataset = PoseDataset(path, pipeline=[], split='train')
    assert [dataset.get_data_info(i)['frame_dir'] for i in (0, 1)] == [
        'a',
        'b',
    ]


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
    ('sample', 'message'),
    [
        (broken(keypoint=np.ones((1, 6, 20, 3))), "'a'.*float64.*float32"),
        (broken(keypoint=[[0.0]]), "'a'.*list.*float32"),
        (
            broken(keypoint=np.ones((6, 20, 3), np.float32)),
            r"'a'.*\(6, 20, 3\)",
        ),
        (
            broken(keypoint=np.ones((0, 6, 20, 3), np.float32)),
            r"'a'.*\(0, 6, 20, 3\)",
        ),
        (
            broken(keypoint=np.full((1, 6, 20, 3), np.nan, np.float32)),
            "'a'.*NaN",
        ),
        (broken(total_frames=5), "'a'.*total_frames is 5.*6 frames"),
        (broken(label='run'), "'a'.*'run'.*integer"),
        (broken(label=-1), "'a'.*-1.*integer from 0"),
        (broken(label=2), "'a'.*label is 2.*2 classes"),
        ({'frame_dir': 'a', 'label': 0}, "'a' lacks.*total_frames.*keypoint"),
    ],
)
def test_refuses_to_write_a_broken_sample(tmp_path, sample, message):
    path = tmp_path / 'data.pkl'
    with pytest.raises(ValueError, match=message):
        write_annotations(path, {}, [sample], classes=['run', 'rest'])
    assert not path.exists()


def test_refuses_ambiguous_and_unknown_names(tmp_path, content):
    path = tmp_path / 'data.pkl'
    split, annotations = content
    with pytest.raises(ValueError, match="more than once.*'a'"):
        write_annotations(path, split, annotations + [annotation('a')])
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
