from collections import Counter

import numpy as np
import pytest
import torch
from mmaction.registry import DATASETS
from synthetic import data_set, pipeline, write

from mamp_mmaction.datasets import skeleton_dataset
from mamp_mmaction.datasets.skeleton_dataset import UNLABELLED


@pytest.fixture
def data():
    return data_set()


@pytest.fixture
def build(tmp_path):
    def build(data, **kwargs):
        ann_file = write(tmp_path / 'ann.pkl', data)
        cfg = dict(type='SkeletonDataset', ann_file=ann_file, pipeline=[])
        return DATASETS.build(dict(cfg, **kwargs))

    return build


def names_of(dataset):
    return [dataset.get_data_info(i)['frame_dir'] for i in range(len(dataset))]


def test_selects_the_split(build, data):
    dataset = build(data, split='xsub_val')
    assert names_of(dataset) == data['split']['xsub_val']
    assert len(build(data)) == 40
    assert len(build(data['annotations'])) == 40


def test_pipeline_ends_in_a_packed_sample(build, data):
    dataset = build(data, split='xsub_train', pipeline=pipeline(24, 2, 0.9))
    packed = dataset[3]
    assert packed['inputs'].shape == (1, 2, 24, 25, 3)
    assert packed['inputs'].dtype == torch.float32
    assert packed['data_samples'].gt_label.item() == 3
    assert packed['data_samples'].mask.shape == (2, 150)
    assert packed['data_samples'].frame_dir == 'S003'


def test_label_fraction(build, data):
    draws = [
        names_of(
            build(data, split='xsub_train', label_ratio=0.15, label_seed=seed)
        )
        for seed in (0, 0, 1)
    ]
    assert len(draws[0]) == int(0.15 * 30)
    assert draws[0] == draws[1] != draws[2]
    assert set(draws[2]) < set(data['split']['xsub_train'])


def test_balanced_label_fraction(build):
    # Class 0 has 4 samples, class 1 has 36.
    data = data_set(size=40)
    for index, sample in enumerate(data['annotations']):
        sample['label'] = int(index >= 4)

    def counts(**kwargs):
        dataset = build(data, label_balanced=True, **kwargs)
        labels = [
            dataset.get_data_info(i)['label'] for i in range(len(dataset))
        ]
        return labels.count(0), labels.count(1)

    for seed in range(5):
        assert counts(label_ratio=0.15, label_seed=seed) == (3, 3)
        assert counts(label_ratio=0.5, label_seed=seed) == (4, 16)


def test_label_fraction_does_not_depend_on_the_order(build, data):
    shuffled = dict(data, annotations=data['annotations'][::-1])
    for balanced in (False, True):
        options = dict(label_ratio=0.3, label_balanced=balanced)
        first, second = (build(d, **options) for d in (data, shuffled))
        assert names_of(first) == names_of(second)[::-1]


def test_label_fraction_that_leaves_nothing(build, data):
    with pytest.raises(ValueError, match=r'label_ratio=0.01 of the 30 .*none'):
        build(data, split='xsub_train', label_ratio=0.01)
    with pytest.raises(ValueError, match='label_ratio=0'):
        build(data, label_ratio=0)


def change(**values):
    return lambda data: data['annotations'][7].update(values)


def remove(key):
    return lambda data: data['annotations'][7].pop(key)


FAULTS = {
    'no keypoint': (remove('keypoint'), r"'S007' .*lacks \['keypoint'\]"),
    'no dict': (
        lambda data: data['annotations'].insert(7, 'text'),
        'sample 7 is a str, expected a dict',
    ),
    'nothing': (lambda data: data['annotations'].clear(), 'no annotations'),
    'one name': (change(frame_dir='S006'), "more than once.*'S006'"),
    'frames': (change(total_frames=19), "'S007' has total_frames 19.*20"),
    'label': (change(label=5), "'S007' has label 5.*5 classes"),
    'split': (
        lambda data: data['split']['xsub_train'].append('S999'),
        "xsub_train' lists 1 .*such as 'S999'",
    ),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_broken_file_is_refused(build, data, fault):
    spoil, message = FAULTS[fault]
    spoil(data)
    with pytest.raises(ValueError, match=rf'ann\.pkl: .*{message}'):
        build(data, split='xsub_train', num_classes=5)


def test_unknown_split(build, data):
    with pytest.raises(
        ValueError, match=r"no split 'xsub'.*\['xsub_train', 'xsub_val'\]"
    ):
        build(data, split='xsub')
    with pytest.raises(ValueError, match='plain list'):
        build(data['annotations'], split='xsub_train')
    with pytest.raises(FileNotFoundError, match='nowhere.pkl'):
        build(data, ann_file='nowhere.pkl')


def test_integers_of_numpy_are_labels(build, data):
    for sample in data['annotations']:
        sample['label'] = np.int64(sample['label'])
    packed = build(data, pipeline=[dict(type='PackActionInputs')])
    info = packed.get_data_info(3)
    assert type(info['label']) is int
    assert packed.prepare_data(3)['data_samples'].gt_label.item() == 3


def test_class_names_become_metainfo(build, data):
    data['classes'] = ['sit', 'stand', 'wave', 'nod', 'rest']
    assert build(data).metainfo['classes'] == tuple(data['classes'])
    named = build(data, metainfo=dict(classes=['a', 'b']))
    assert named.metainfo['classes'] == ['a', 'b']


def test_skeletons_and_videos_in_folders(build, data, tmp_path):
    for sample in data['annotations']:
        skeleton = dict(keypoint=sample.pop('keypoint'))
        write(tmp_path / f'{sample["frame_dir"]}.pkl', skeleton)
    prefix = dict(skeleton=str(tmp_path))
    dataset = build(data, split='xsub_val', data_prefix=prefix)
    assert dataset.get_data_info(0)['keypoint'].shape == (1, 20, 25, 3)

    # A label in such a file is no label.
    info = dataset.get_data_info(0)
    write(tmp_path / 'S030.pkl', dict(info, label=info['label'] + 1))
    assert dataset.get_data_info(0)['label'] == info['label']
    # Compressed, for DecompressPose.
    compressed = dict(keypoint=np.ones((9, 17, 3)), frame_inds=np.arange(9))
    write(tmp_path / 'S030.pkl', compressed)
    assert dataset.get_data_info(0)['keypoint'].shape == (9, 17, 3)

    path = write(tmp_path / 'S031.pkl', dict(keypoint=np.full(3, np.nan)))
    with pytest.raises(ValueError, match=rf'{path} has a keypoint of the sh'):
        dataset.get_data_info(1)

    for sample in data['annotations']:
        sample['keypoint'] = np.ones((1, 20, 25, 3), np.float32)
    videos = build(data, split='xsub_val', data_prefix=dict(video='videos'))
    assert videos.get_data_info(0)['frame_dir'] == 'videos/S030'


@pytest.fixture
def logged(monkeypatch):
    logged = []
    monkeypatch.setattr(
        skeleton_dataset, 'print_log', lambda text, **_: logged.append(text)
    )
    return logged


def test_float16_is_warned_of_once(build, data, logged):
    build(data)
    assert not logged
    for sample in data['annotations'][:3]:
        sample['keypoint'] = np.full((1, 20, 25, 3), 900, np.float16)
    build(data)
    (text,) = logged  # the steps of numbers in pixels are told in pixels
    assert (
        '3 samples as float16. At their largest, 900, its steps are 0.5'
        in text
    )


def test_dropped_persons_are_warned_of(build, data, logged):
    sample = data['annotations'][7]
    sample['keypoint'] = sample['keypoint'].repeat(3, axis=0)
    build(data, pipeline=[dict(type='FormatGCNInput', num_person=3)])
    assert not logged
    build(data, pipeline=[dict(type='FormatGCNInput', num_person=2)])
    (text,) = logged
    assert (
        "1 samples of more than 2 persons, the first is sample 'S007'" in text
    )


def test_scores_of_some_samples_are_warned_of(build, data, logged):
    sample = data['annotations'][7]
    sample['keypoint_score'] = np.ones(sample['keypoint'].shape[:3])
    build(data, pipeline=[dict(type='DropScore')])
    assert not logged
    build(data)
    (text,) = logged
    number = len(data['annotations'])
    assert f"in 1 of {number} samples, such as sample 'S007'" in text


def test_another_number_of_classes_is_warned_of(build, data, logged):
    data['classes'] = ['sit', 'stand', 'wave', 'nod', 'rest']
    build(data, num_classes=5)
    assert not logged
    build(data, num_classes=6)
    (text,) = logged
    assert 'names 5 classes, but num_classes=6' in text


def test_unlabelled_samples_may_stay(build, data):
    options = dict(split='xsub_train', label_ratio=0.2, label_seed=3)
    drawn = build(data, **options)
    every = build(data, **options, unlabelled='keep')
    labels = {s['frame_dir']: s['label'] for s in every.load_data_list()}
    drawn = {s['frame_dir']: s['label'] for s in drawn.load_data_list()}
    assert list(labels) == data['split']['xsub_train']
    assert {k: v for k, v in labels.items() if v != UNLABELLED} == drawn
    assert all(s['label'] >= 0 for s in data['annotations'])
    more = build(data, **options, unlabelled='keep', labelled_share=0.6)
    found = Counter(s['frame_dir'] for s in more.load_data_list())
    # Six labelled samples and 24 others: 36 are 0.6 of 60.
    assert found == {name: 6 if name in drawn else 1 for name in labels}


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(labelled_share=0.5), "labelled_share=0.5 .*unlabelled='keep'"),
        (dict(unlabelled='keep', labelled_share=1), r'must be in \[0, 1\)'),
        (dict(unlabelled='hide'), "neither 'drop' nor 'keep'"),
        (dict(unlabelled='keep', multi_class=True), 'one class a sample'),
        (dict(label_balanced=True, multi_class=True), 'one class a sample'),
    ],
)
def test_bad_use_of_unlabelled_samples(build, data, options, message):
    with pytest.raises(ValueError, match=message):
        build(data, **options, num_classes=5)
