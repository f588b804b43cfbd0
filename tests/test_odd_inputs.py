"""Whatever a file holds: an error that names it, or finite weights."""

import copy
import functools

import numpy as np
import pytest
import torch
from mmaction.registry import DATASETS, MODELS
from mmengine.dataset import pseudo_collate
from mmengine.optim import OptimWrapper
from small_models import T, V, finetune_head, pretraining, recognition
from synthetic import data_set, pipeline, write

SHAPE = (2, T + 3, V, 3)
CONFIGS = dict(pretrain=pretraining(), finetune=recognition(finetune_head(5)))


def poses(dtype=np.float32, factor=1.0):
    """A random skeleton that moves."""
    steps = np.random.default_rng(0).normal(size=SHAPE)
    keypoint = factor * steps.cumsum(axis=1)
    unsigned = np.dtype(dtype).kind == 'u'
    return (np.abs(keypoint) if unsigned else keypoint).astype(dtype)


def with_value(value, place=(0, 5, 2, 1), dtype=np.float32):
    keypoint = poses(dtype)
    keypoint[place] = value
    return keypoint


def read_only():
    keypoint = poses()
    keypoint.flags.writeable = False
    return keypoint


FINITE = {
    'largest': with_value(1e6),
    'tiny': poses(factor=1e-30),
    'constant': np.ones(SHAPE),
    'still': poses()[:, :1].repeat(SHAPE[1], axis=1),
    'one frame': poses()[:, :1],
    'two frames': poses()[:, :2],
    'many frames': poses().repeat(50, axis=1),
    'first person absent': with_value(0, 0),
    'second person absent': with_value(0, 1),
    'first frames absent': with_value(0, np.s_[:, :4]),
    'last frames absent': with_value(0, np.s_[:, -4:]),
    'all but one frame absent': with_value(0, np.s_[:, 1:]),
    'frames absent within': with_value(0, np.s_[:, 3:9:2]),
    'joint absent': with_value(0, np.s_[:, :, 0]),
    'one point': with_value(0, np.s_[:, :, :, :2]),
    'one person': poses()[:1],
    'eight persons': poses().repeat(4, axis=0),
    **{
        dtype: poses(dtype, 9)
        for dtype in (
            *('i1', 'u1', 'i2', 'i4', 'i8', 'u8', 'f2', 'f8', 'longdouble'),
            *('>f4', '>f8', '>i2'),
        )
    },
    'negative strides': poses()[:, ::-1],
    'Fortran order': np.asfortranarray(poses()),
    'transposed': poses().transpose(3, 2, 1, 0).copy().T,
    'every other frame': poses()[:, ::2],
    'read-only': read_only(),
}
REFUSED = {
    'NaN': (with_value(np.nan), '1 numbers .* frame 5, joint 2'),
    'all NaN': (with_value(np.nan, np.s_[:]), 'NaN'),
    'infinite': (with_value(np.inf), 'infinite'),
    'minus infinite': (with_value(-np.inf), 'infinite'),
    **{
        f'{value:g}': (with_value(value, dtype=float), r'beyond 1e\+06')
        for value in (1.1e6, 1e19, -1e19, 1e38, 1e39, 1e200, 1e300)
    },
    'NaN of float16': (with_value(np.nan, dtype=np.float16), 'NaN'),
    'zero in float32': (poses(float, 1e-310), 'no valid frame'),
    'absent': (np.zeros(SHAPE), 'no valid frame'),
    'bool': (poses() > 0, 'of bool'),
    'complex': (poses(complex), 'of complex'),
    'text': (poses().astype(str), 'of <U'),
    'objects': (poses(object), 'numpy.dtype'),
    'list': (poses().tolist(), 'of list'),
    'None': (None, 'of NoneType'),
    'no frame': (poses()[:, :0], 'none of them 0'),
    'nobody': (poses()[:0], 'none of them 0'),
    'one person without an axis': (poses()[0], 'of the shape'),
    'number': (np.float32(1), 'of float32'),
    'joints missing': (poses()[:, :, 1:], 'has 6 joints of 3'),
    'coordinates missing': (poses()[..., :2], 'has 7 joints of 2'),
    'axes swapped': (poses().transpose(1, 0, 2, 3), 'transpose it'),
}
LABELS = [2, *(np.dtype(t).type(2) for t in ('i1', 'u1', '>i4', 'i8', 'u8'))]
BAD_LABELS = [True, np.True_, '2', b'2', 2.0, np.float32(2), np.nan, None]
BAD_LABELS += [[2], [], (2,), {}, -1, np.int8(-1), np.ones(2, int), 10**30]
TOO_LARGE = [5, np.uint8(255), 2**40]


@functools.cache
def built(name):
    """A model and the weights that it begins with."""
    model = MODELS.build(CONFIGS[name])
    return model, copy.deepcopy(model.state_dict())


@pytest.fixture(params=CONFIGS)
def train(request, tmp_path):
    """Two steps on a batch with one odd sample; returns the weights."""
    model, weights = built(request.param)
    masks = 0.8 if request.param == 'pretrain' else None

    def train(**odd):
        data = data_set(4, 4, persons=2, joints=V)
        sample = data['annotations'][2]
        sample.update(odd)
        shape = np.shape(sample['keypoint'])
        sample['total_frames'] = shape[1] if len(shape) == 4 else 20
        steps = pipeline(T, 2, masks)
        steps.insert(2, dict(type='RandomRotate3D'))
        ann_file = write(tmp_path / 'data.pkl', data)
        dataset = DATASETS.build(
            dict(type='SkeletonDataset', ann_file=ann_file, pipeline=steps)
        )
        model.load_state_dict(weights)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        wrapper = OptimWrapper(optimizer, clip_grad=dict(max_norm=1))
        for _ in range(2):
            batch = pseudo_collate([dataset[i] for i in range(4)])
            model.train_step(batch, wrapper)
        return model.state_dict()

    return train


def check_finite(weights):
    for name, value in weights.items():
        assert torch.isfinite(value).all(), name


@pytest.mark.parametrize('kind', FINITE)
def test_odd_skeletons_give_finite_weights(train, kind):
    check_finite(train(keypoint=FINITE[kind]))


@pytest.mark.parametrize('kind', REFUSED)
def test_bad_skeletons_are_refused(train, kind):
    """By the sample's name, or the file's where that cannot be read."""
    keypoint, message = REFUSED[kind]
    with pytest.raises(ValueError, match=f'(S002|data.pkl: ref).*{message}'):
        train(keypoint=keypoint)


@pytest.mark.parametrize('label', LABELS, ids=repr)
def test_integers_are_labels(train, label):
    check_finite(train(label=label))


@pytest.mark.parametrize('label', BAD_LABELS, ids=repr)
def test_bad_labels_are_refused_by_name(train, label):
    with pytest.raises(ValueError, match='S002.* expected an integer from 0'):
        train(label=label)


@pytest.mark.parametrize('label', TOO_LARGE, ids=repr)
@pytest.mark.parametrize('train', ['finetune'], indirect=True)
def test_classes_that_the_head_lacks_are_refused_by_name(train, label):
    with pytest.raises(ValueError, match='S002.* num_classes=5'):
        train(label=label)
