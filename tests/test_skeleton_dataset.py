import numpy as np
import pytest
import torch
from mmaction.registry import DATASETS
from synthetic import data_set, write

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
    dataset = build(
        data,
        split='xsub_train',
        pipeline=[
            dict(type='CenterSkeleton'),
            dict(type='TemporalCropResize', num_frames=24),
            dict(type='RandomRotate3D'),
            dict(type='FormatGCNInput', num_person=2),
            dict(type='MotionAwareMask'),
            dict(
                type='PackActionInputs',
                meta_keys=('frame_dir',),
                algorithm_keys=('mask',),
            ),
        ],
    )
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


def test_label_fraction_that_leaves_nothing(build, data):
    with pytest.raises(ValueError, match=r'label_ratio=0.01 of the 30 .*none'):
        build(data, split='xsub_train', label_ratio=0.01)
    with pytest.raises(ValueError, match='label_ratio=0'):
        build(data, label_ratio=0)


def test_unknown_split(build, data):
    with pytest.raises(
        ValueError, match=r"no split 'xsub'.*\['xsub_train', 'xsub_val'\]"
    ):
        build(data, split='xsub')
    with pytest.raises(ValueError, match='plain list'):
        build(data['annotations'], split='xsub_train')


def test_split_without_annotation(build, data):
    data['split']['xsub_val'].append('S999')
    with pytest.raises(ValueError, match="such as 'S999'"):
        build(data, split='xsub_val')


def test_missing_file():
    with pytest.raises(FileNotFoundError, match='nowhere.pkl'):
        DATASETS.build(
            dict(type='SkeletonDataset', ann_file='nowhere.pkl', pipeline=[])
        )


@pytest.mark.parametrize('key', ['keypoint', 'label'])
def test_missing_key(build, data, key):
    del data['annotations'][7][key]
    with pytest.raises(ValueError, match=f"'S007' .*lacks '{key}'"):
        build(data)


def test_missing_name(build, data):
    del data['annotations'][7]['frame_dir']
    with pytest.raises(ValueError, match="lacks 'frame_dir'"):
        build(data, split='xsub_train')


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda k: k[0], r'found \(20, 25, 3\)'),
        (lambda k: k.tolist(), 'found list'),
        (lambda k: k * 0, 'has no valid frame'),
    ],
)
def test_broken_keypoint(build, data, change, message):
    sample = data['annotations'][7]
    sample['keypoint'] = change(sample['keypoint'])
    with pytest.raises(ValueError, match=f"'S007' .*{message}"):
        build(data)


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_not_a_number(build, data, value):
    data['annotations'][7]['keypoint'][0, 4, 9, 1] = value
    with pytest.raises(ValueError, match=r"'S007' .*frame 4, joint 9"):
        build(data)


def test_broken_score(build, data):
    sample = data['annotations'][7]
    sample['keypoint_score'] = np.ones((1, 20, 24))
    with pytest.raises(ValueError, match=r"'S007' .*\(1, 20, 24\).*25"):
        build(data)


@pytest.mark.parametrize('label', [5, -1, 1.5, 'wave'])
def test_label_out_of_range(build, data, label):
    data['annotations'][7]['label'] = label
    with pytest.raises(ValueError, match=f"'S007' has label '?{label}"):
        build(data, num_classes=5)


def test_float16_is_warned_of_once(build, data, monkeypatch):
    logged = []
    monkeypatch.setattr(
        skeleton_dataset, 'print_log', lambda text, **_: logged.append(text)
    )
    build(data)
    assert not logged
    for sample in data['annotations'][:3]:
        sample['keypoint'] = sample['keypoint'].astype(np.float16)
    build(data)
    assert len(logged) == 1 and '3 samples as float16' in logged[0]


def test_unlabelled_samples_may_stay(build, data):
    options = dict(split='xsub_train', label_ratio=0.2, label_seed=3)
    drawn = build(data, **options)
    every = build(data, **options, unlabelled='keep')
    labels = {s['frame_dir']: s['label'] for s in every.load_data_list()}
    drawn = {s['frame_dir']: s['label'] for s in drawn.load_data_list()}
    assert list(labels) == data['split']['xsub_train']
    assert {k: v for k, v in labels.items() if v != UNLABELLED} == drawn
    assert all(s['label'] >= 0 for s in data['annotations'])


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(unlabelled='hide'), "neither 'drop' nor 'keep'"),
        (dict(unlabelled='keep', multi_class=True), 'one class a sample'),
    ],
)
def test_bad_use_of_unlabelled_samples(build, data, options, message):
    with pytest.raises(ValueError, match=message):
        build(data, **options, num_classes=5)
