import pickle

import pytest
import torch
from mmaction.registry import MODELS, TRANSFORMS
from mmaction.structures import ActionDataSample
from mmengine.dataset import default_collate, pseudo_collate
from small_models import S, T, V
from torch.utils._python_dispatch import TorchDispatchMode

needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason='needs a GPU'
)


class CountCopies(TorchDispatchMode):
    """Shapes of all that is copied to another device."""

    def __init__(self, device):
        super().__init__()
        self.device = device
        self.shapes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        device = kwargs.get('device')
        if func is torch.ops.aten._to_copy.default and device is not None:
            assert torch.device(device).type == self.device
            self.shapes.append(tuple(args[0].shape))
        return func(*args, **kwargs)


def preprocessor(device='cpu', **kwargs):
    cfg = dict(type='SkeletonDataPreprocessor', **kwargs)
    return MODELS.build(cfg).to(device)


def items(samples=5, persons=2, mask=True, label=True, dtype=torch.float32):
    """What the pipeline gives for each sample."""
    pack = TRANSFORMS.build(
        dict(
            type='PackActionInputs',
            algorithm_keys=('mask',),
            meta_keys=('frame_dir', 'sample_idx'),
        )
    )
    results = []
    for i in range(samples):
        keypoint = torch.randn(1, persons, T, V, 3).to(dtype)
        result = dict(keypoint=keypoint, frame_dir=f'S{i}', sample_idx=i)
        if mask:
            result['mask'] = torch.rand(persons, S * V) < 0.8
        if label:
            result['label'] = i % 3
        results.append(pack(result))
    return results


def one_by_one(data, device='cpu'):
    """Every sample moved on its own."""
    return dict(
        inputs=torch.stack(list(data['inputs'])).to(device).float(),
        data_samples=[sample.to(device) for sample in data['data_samples']],
    )


def assert_same(data, expected):
    torch.testing.assert_close(
        data['inputs'], expected['inputs'], rtol=0, atol=0
    )
    assert type(data['data_samples']) is list
    for sample, other in zip(
        data['data_samples'], expected['data_samples'], strict=True
    ):
        assert type(sample) is ActionDataSample
        assert sample.metainfo == other.metainfo
        assert set(sample.keys()) == set(other.keys())
        for key, value in other.items():
            torch.testing.assert_close(sample.get(key), value, rtol=0, atol=0)


@pytest.mark.parametrize(
    'mask, label, persons, dtype',
    [
        (True, False, 1, torch.float64),
        (False, True, 2, torch.float32),
        (True, True, 2, torch.float32),
    ],
)
@pytest.mark.parametrize(
    'device', ['cpu', pytest.param('cuda', marks=needs_gpu)]
)
def test_batch_is_that_of_samples_moved_one_by_one(
    mask, label, persons, dtype, device
):
    data = pseudo_collate(
        items(persons=persons, mask=mask, label=label, dtype=dtype)
    )
    for training in (True, False):
        result = preprocessor(device)(data, training)
        assert_same(result, one_by_one(data, device))
        assert result['inputs'].dtype == torch.float32
        assert result['inputs'].shape == (5, 1, persons, T, V, 3)


@needs_gpu
def test_batches_in_flight_do_not_overwrite_each_other():
    """While the GPU is busy, copies wait, and pinned memory with them."""
    model = preprocessor('cuda')
    batches = [pseudo_collate(items(samples=64)) for _ in range(20)]
    work = torch.randn(4096, 4096, device='cuda')
    for _ in range(50):
        work = work @ work / 64
    results = [model(data, True) for data in batches]
    torch.cuda.synchronize()
    for data, result in zip(batches, results):
        assert_same(result, one_by_one(data, 'cuda'))


@pytest.mark.parametrize('samples', [1, 40])
def test_a_batch_is_moved_in_three_copies(samples):
    """The meta device takes what is not on it, as a GPU does."""
    data = pseudo_collate(items(samples))
    with CountCopies('meta') as copies:
        moved = preprocessor('meta')(data, True)
    assert copies.shapes == [
        (samples, 1, 2, T, V, 3),
        (samples, 2, S * V),
        (samples, 1),
    ]
    for key, shape in (('mask', (2, S * V)), ('gt_label', (1,))):
        rows = [sample.get(key) for sample in moved['data_samples']]
        assert {row._base.shape for row in rows} == {(samples, *shape)}
        assert len({id(row._base) for row in rows}) == 1
        steps = [row.storage_offset() for row in rows]
        assert steps == [i * rows[0].numel() for i in range(samples)]


def test_samples_given_are_left_as_they_were():
    data = pseudo_collate(items())
    before = [dict(sample.items()) for sample in data['data_samples']]
    moved = preprocessor('meta')(data, True)
    for sample in moved['data_samples']:
        sample.set_pred_score(torch.ones(3))
    for sample, fields in zip(data['data_samples'], before):
        assert dict(sample.items()).keys() == fields.keys()
        assert all(sample.get(key) is fields[key] for key in fields)


def test_a_sample_is_stored_without_its_batch():
    """As test.py --dump does."""
    batches = [preprocessor()(pseudo_collate(items(n))) for n in (1, 40)]
    sizes = [len(pickle.dumps(batch['data_samples'][0])) for batch in batches]
    assert sizes[1] < 1.1 * sizes[0]


def test_batches_that_come_stacked():
    """And masks of numpy, as motion_aware_mask gives them."""
    stacked = default_collate([item['inputs'] for item in items()])
    samples = pseudo_collate(items())['data_samples']
    data = dict(inputs=stacked.double(), data_samples=samples)
    expected = one_by_one(data)
    for sample in samples:
        sample.set_field(sample.mask.numpy(), 'mask')
    assert_same(preprocessor(non_blocking=True)(data), expected)
    bare = preprocessor()(dict(inputs=stacked, data_samples=None))
    assert bare['data_samples'] is None
    assert torch.equal(bare['inputs'], stacked)


@pytest.mark.parametrize('device', ['cpu', 'meta'])
def test_samples_that_differ_are_moved_on_their_own(device):
    data = pseudo_collate(items())
    labels = [torch.tensor(range(i + 1)) for i in range(5)]
    for sample, label in zip(data['data_samples'], labels):
        sample.set_gt_label(label)
    del data['data_samples'][2].mask
    moved = preprocessor(device)(data)['data_samples']
    assert [len(sample.gt_label) for sample in moved] == [1, 2, 3, 4, 5]
    assert ['mask' in sample for sample in moved] == [1, 1, 0, 1, 1]
    for sample in moved:
        assert {x.device.type for x in sample.values()} == {device}


@pytest.mark.parametrize('what', ['masks', 'batch'])
def test_ragged_batches_name_the_samples(what):
    data = pseudo_collate(items(2) + items(1, persons=3))
    data['data_samples'][2].set_metainfo(dict(frame_dir='S7'))
    before, after, hint = r'1, 2, 16, 7, 3', r'1, 3, 16, 7, 3', 'FormatGCN'
    if what == 'masks':
        data['inputs'][2] = data['inputs'][0]
        before, after, hint = '2, 28', '3, 28', 'MotionAwareMask'
    with pytest.raises(
        ValueError,
        match=rf"Ragged {what}: sample 'S0' has shape \({before}\), "
        rf"sample 'S7' has \({after}\).*{hint}",
    ):
        preprocessor()(data)
    if what == 'batch':
        with pytest.raises(ValueError, match='sample 0 has .* sample 2 has'):
            preprocessor()(dict(data, data_samples=None))
