"""Other targets than the motion, mixtures of them, and weighted losses."""

import copy

import numpy as np
import pytest
import torch
from mmaction.registry import MODELS
from small_models import (
    D,
    S,
    T,
    V,
    auxiliary_of,
    batch,
    encoder,
    gcn,
    mamp,
    pretraining,
)

from mamp_mmaction.models import MotionPredictionHead
from mamp_mmaction.patches import patchify

MIXTURE = dict(motion=0.6, acceleration=0.2, joint=0.2)
CLOSE = dict(rtol=1e-4, atol=1e-5)


def clips(persons=3, channels=3):
    return torch.randn(persons, T, V, channels)


def difference(x, order, stride):
    """Frame by frame, zero where a frame of the future is missing."""
    out = torch.zeros_like(x)
    for t in range(x.shape[1] - order * stride):
        if order == 1:
            out[:, t] = x[:, t + stride] - x[:, t]
        else:
            later, middle = x[:, t + 2 * stride], x[:, t + stride]
            out[:, t] = later - 2 * middle + x[:, t]
    return out


def normalised(patches):
    mean, std = patches.mean(-1, keepdim=True), patches.var(-1, keepdim=True)
    return (patches - mean) / (std + 1e-6).sqrt()


@pytest.mark.parametrize('stride', [1, 3])
@pytest.mark.parametrize('coords', [None, 2])
def test_acceleration_is_the_motion_of_the_motion(stride, coords):
    head = MotionPredictionHead('acceleration', stride, num_coords=coords)
    x = clips()
    acceleration = difference(x[..., :coords], 2, stride)
    target = head.target_patches(x)
    expected = normalised(patchify(acceleration, 4))
    torch.testing.assert_close(target, expected, **CLOSE)
    torch.testing.assert_close(head.predict(target, x), acceleration, **CLOSE)
    steady = torch.arange(T)[:, None, None] * torch.ones(1, 1, V, 3)
    assert not head.target_patches(steady).any()


@pytest.mark.parametrize('options', [dict(), dict(ignore_absent=True)])
def test_a_mixture_is_the_weighted_sum_of_its_parts(options):
    scaled = {name: 5 * weight for name, weight in MIXTURE.items()}
    head = MotionPredictionHead(scaled, num_coords=2, **options)
    x, pred = clips(), torch.randn(3, S * V, 3 * 8)
    x[1] = 0
    mask = torch.rand(3, S * V) < 0.8
    losses = head.loss(pred, x, mask)
    zero = 0
    for index, (name, weight) in enumerate(MIXTURE.items()):
        alone = MotionPredictionHead(name, num_coords=2, **options)
        part = pred[..., 8 * index : 8 * index + 8]
        wanted = alone.loss(part, x, mask)
        zero = zero + weight * wanted['mse_zero']
        found = losses[f'loss_{name}']
        torch.testing.assert_close(found, weight * wanted[f'loss_{name}'])
        torch.testing.assert_close(
            head.predict(pred, x, name), alone.predict(part, x)
        )
    assert len(losses) == 4
    torch.testing.assert_close(losses['mse_zero'], zero)
    error, zero_error, count = head.errors(pred, x, mask)
    total = sum(losses[f'loss_{name}'] for name in MIXTURE)
    torch.testing.assert_close(error.sum() / count.sum(), total)
    torch.testing.assert_close(zero_error.sum() / count.sum(), zero)


@pytest.mark.parametrize('coords', [None, 2])
def test_tokens_count_by_their_motion(coords):
    head = MotionPredictionHead(loss_weight='motion', num_coords=coords)
    x, mask = clips(), torch.rand(3, S * V) < 0.8
    x[2] = 0.7  # a person who stands still
    patches = patchify(x[..., :coords], 4)
    pred = torch.randn_like(patches)
    error = (pred - head.target_patches(x)).square().mean(dim=2)
    change = (patches[:, V:] - patches[:, :-V]).abs().mean(dim=2)
    change = torch.cat([change[:, :V], change], dim=1)
    expected, weights = [], []
    for person in range(3):
        moved, masked = change[person], mask[person]
        weight = moved / moved[masked].mean() if person < 2 else moved + 1
        weights += weight[masked].tolist()
        expected.append((weight * error[person])[masked].sum())
    assert np.mean(weights) == pytest.approx(1)
    found, _, count = head.errors(pred, x, mask)
    torch.testing.assert_close(found, torch.stack(expected))
    assert count.tolist() == mask.sum(dim=1).tolist()
    loss = head.loss(pred, x, mask)['loss_motion']
    torch.testing.assert_close(loss, sum(expected) / mask.sum())


def test_a_share_of_the_tokens_keeps_the_weights_of_all():
    """So that the mean over draws is the loss of all."""
    head = MotionPredictionHead(loss_weight='motion', norm_target=False)
    x, mask = clips(), torch.ones(3, S * V, dtype=torch.bool)
    pred = torch.randn(3, S * V, 12)
    order = torch.stack([torch.randperm(S * V) for _ in range(3)])
    halves = [
        head.loss(
            pred.gather(1, index[..., None].expand(-1, -1, 12)), x, mask, index
        )
        for index in order.chunk(2, dim=1)
    ]
    for key, full in head.loss(pred, x, mask).items():
        mean = (halves[0][key] + halves[1][key]) / 2
        torch.testing.assert_close(mean, full)
        assert abs(halves[0][key] - full) > 1e-3


def everything(kind, attention):
    """All options of target, loss and decoder in one model."""
    joints = 25 if kind in ('gcn', 'auxiliary') else V
    skeleton = dict(embed_dims=D, num_frames=T, num_joints=joints)
    compiled = dict(backend='eager', fullgraph=True)
    cfg = pretraining(
        gcn() if kind == 'gcn' else encoder(num_joints=joints),
        dict(attention=attention, **skeleton),
        compiled if kind == 'compiled' else None,
        target=MIXTURE,
        loss_weight='motion',
        ignore_absent=True,
        num_coords=2,
    )
    if kind == 'auxiliary':
        cfg = auxiliary_of(cfg, motion_weight=2.0)
    return MODELS.build(dict(cfg, decode_ratio=0.5)), joints


@pytest.mark.parametrize('attention', ['self', 'cross'])
@pytest.mark.parametrize(
    'kind', ['transformer', 'compiled', 'gcn', 'auxiliary']
)
def test_all_options_together(kind, attention):
    model, joints = everything(kind, attention)
    assert model.neck.pred.out_features == 3 * 4 * 2
    inputs, samples = batch(3, joints=joints, labels=[0, 1, 2])
    inputs[0, 0, 1] = 0
    twin = copy.deepcopy(model)
    losses = []
    for m in (model, twin):
        torch.manual_seed(2)
        losses.append(m(inputs, samples, mode='loss'))
        m.parse_losses(losses[-1])[0].backward()
    torch.testing.assert_close(*losses)
    assert model.neck.pred.weight.grad.any(dim=1).all()
    for p, q in zip(model.parameters(), twin.parameters()):
        torch.testing.assert_close(p.grad, q.grad)
    names = {f'loss_{name}' for name in MIXTURE} | {'mse_zero'}
    if kind == 'auxiliary':
        names.add('loss_cls')
        plain = copy.deepcopy(twin)
        plain.motion_weight = 1.0
        torch.manual_seed(2)
        single = plain(inputs, samples, mode='loss')
        for name in MIXTURE:
            key = f'loss_{name}'
            torch.testing.assert_close(losses[0][key], 2 * single[key])
    assert names <= set(losses[0])
    if kind != 'auxiliary':
        sample = model.eval()(inputs, samples, mode='predict')[0]
        for name in MIXTURE:
            assert sample.get(f'pred_{name}').shape == (2, T, joints, 2)
        assert sample.masked_errors.shape == (2, 3)


@pytest.mark.parametrize(
    'head, message',
    [
        (dict(target='speed'), "target='speed' is none of 'joint', 'motion'"),
        (dict(target=dict(motion=1, jerk=1)), "target='jerk' is none of"),
        (dict(target=dict(motion=0, joint=0)), 'sum to a positive number'),
        (dict(target=dict()), 'sum to a positive number'),
        (dict(target=dict(motion=2, joint=-1)), 'none may be negative'),
        (dict(loss_weight='mask'), "loss_weight='mask' is neither 'motion'"),
    ],
)
def test_targets_and_weights_that_do_not_exist(head, message):
    with pytest.raises(ValueError, match=message):
        mamp(**head)


def test_targets_that_do_not_fit():
    data = batch()
    message = "'acceleration' at motion_stride=8 needs more than the 16 fr"
    with pytest.raises(ValueError, match=message):
        mamp(target='acceleration', motion_stride=8)(*data, mode='loss')
    model = mamp(neck=dict(num_targets=2))
    with pytest.raises(ValueError, match='predicts 24 numbers .* has 12'):
        model(*data, mode='loss')
    head = MotionPredictionHead(t_patch_size=1)
    with pytest.raises(ValueError, match='patches of two numbers or more'):
        head.target_patches(torch.randn(2, 8, 3, 1))
