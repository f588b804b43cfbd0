import copy
import math

import pytest
import torch
from mmaction.registry import (
    MODELS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    PARAM_SCHEDULERS,
)

from mamp_mmaction.engine import WarmupCosineLR

PRETRAIN = dict(lr=1e-3, min_lr=5e-4, epochs=400, warmup=20)
FINETUNE = dict(lr=3e-4, min_lr=1e-5, epochs=100, warmup=5)
PROBE = dict(lr=0.1, min_lr=0.0, epochs=100, warmup=0)


def formula(step, per_epoch, lr, min_lr, epochs, warmup):
    e = step / per_epoch
    if e < warmup:
        return lr * e / warmup
    progress = (e - warmup) / (epochs - warmup)
    return min_lr + (lr - min_lr) * (1 + math.cos(math.pi * progress)) / 2


def optimizer(lr, scales=(1.0,)):
    params = [
        dict(params=[torch.nn.Parameter(torch.zeros(1))], lr=lr * scale)
        for scale in scales
    ]
    return torch.optim.AdamW(params, lr=lr)


def learning_rates(recipe, per_epoch, scales=(1.0,)):
    """Learning rate of every group at every iteration."""
    optim = optimizer(recipe['lr'], scales)
    scheduler = PARAM_SCHEDULERS.build(
        dict(
            type='WarmupCosineLR',
            warmup=recipe['warmup'],
            min_lr=recipe['min_lr'],
            end=recipe['epochs'],
            convert_to_iter_based=True,
        ),
        default_args=dict(optimizer=optim, epoch_length=per_epoch),
    )
    rates = []
    for _ in range(recipe['epochs'] * per_epoch):
        rates.append([group['lr'] for group in optim.param_groups])
        optim.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize('recipe', [PRETRAIN, FINETUNE, PROBE])
@pytest.mark.parametrize('per_epoch', [1, 7])
def test_learning_rate_at_every_iteration(recipe, per_epoch):
    rates = learning_rates(recipe, per_epoch)
    for step, (rate,) in enumerate(rates):
        assert rate == pytest.approx(
            formula(step, per_epoch, **recipe), rel=1e-9, abs=1e-15
        )


def test_learning_rate_where_it_can_be_read_off():
    rates = [rate for (rate,) in learning_rates(PRETRAIN, 10)]
    assert rates[0] == 0
    assert rates[100] == pytest.approx(5e-4)  # half of the warm-up
    assert rates[200] == pytest.approx(1e-3)  # its end
    assert rates[2100] == pytest.approx(7.5e-4)  # half of the cosine
    assert 5e-4 < rates[-1] < 5e-4 + 1e-8
    assert learning_rates(PROBE, 10)[0] == [0.1]


def test_scaled_groups_scale_the_minimum_too():
    for base, scaled in learning_rates(FINETUNE, 2, scales=(1.0, 0.8**5)):
        assert scaled == pytest.approx(base * 0.8**5, rel=1e-9, abs=1e-15)


def test_scaling_the_learning_rate_scales_the_curve():
    """As --auto-scale-lr does, after the optimizer was built."""
    optim = optimizer(1e-3)
    optim.param_groups[0]['lr'] *= 0.25
    scheduler = WarmupCosineLR(optim, min_lr=5e-4, warmup=2, end=10)
    for step in range(9):
        expected = formula(step, 1, 1e-3, 5e-4, 10, 2) * 0.25
        assert optim.param_groups[0]['lr'] == pytest.approx(expected)
        optim.step()
        scheduler.step()


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(by_epoch=True, end=9), 'convert_to_iter_based=True'),
        (dict(), 'needs an end'),
        (dict(warmup=9, end=9), 'warmup=9'),
    ],
)
def test_schedule_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        WarmupCosineLR(optimizer(1e-3), **kwargs)


def finetuned_model(depth=3):
    return MODELS.build(
        dict(
            type='RecognizerGCN',
            data_preprocessor=dict(type='SkeletonDataPreprocessor'),
            backbone=dict(
                type='MAMPTransformer', embed_dims=16, num_heads=2, depth=depth
            ),
            cls_head=dict(
                type='MAMPFinetuneHead',
                num_classes=5,
                in_channels=16,
                hidden_dims=8,
            ),
        )
    )


def optimizer_of(model, layer_decay, **kwargs):
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(
        dict(
            type='MAMPLayerDecayConstructor',
            optim_wrapper_cfg=dict(
                type='OptimWrapper',
                optimizer=dict(
                    type='AdamW', lr=3e-4, weight_decay=0.05, **kwargs
                ),
            ),
            paramwise_cfg=dict(layer_decay=layer_decay),
        )
    )
    return constructor(model).optimizer


def groups_of(model, layer_decay):
    names = {id(param): name for name, param in model.named_parameters()}
    found = {}
    groups = optimizer_of(model, layer_decay).param_groups
    for group in groups:
        for param in group['params']:
            found[names[id(param)]] = (group['lr'], group['weight_decay'])
    return found, len(groups)


def expected_layer(name, depth):
    """Embeddings are layer 0, then the blocks, then all behind them."""
    if 'embed' in name:
        return 0
    if 'blocks' in name:
        return int(name.split('.')[2]) + 1
    return depth + 1


@pytest.mark.parametrize('depth', [3, 8])
def test_layer_decay_groups(depth):
    model = finetuned_model(depth)
    found, count = groups_of(model, 0.8)
    assert len(found) == len(list(model.parameters()))
    for name, param in model.named_parameters():
        scale = 0.8 ** (depth + 1 - expected_layer(name, depth))
        lr, weight_decay = found[name]
        assert lr == pytest.approx(3e-4 * scale), name
        assert weight_decay == (0.05 if param.ndim > 1 else 0), name
    # Each layer has parameters that decay and some that do not.
    assert count == 2 * (depth + 2)


def test_without_layer_decay_two_groups_remain():
    model = MODELS.build(
        dict(
            type='MAMP',
            backbone=dict(
                type='MAMPTransformer', embed_dims=16, num_heads=2, depth=2
            ),
            neck=dict(type='MAMPDecoder', decoder_embed_dims=16, depth=1),
            head=dict(type='MotionPredictionHead'),
        )
    )
    found, count = groups_of(model, 1.0)
    assert count == 2
    assert {lr for lr, _ in found.values()} == {3e-4}
    for name in (
        'backbone.spatial_embed',
        'backbone.temporal_embed',
        'neck.mask_token',
        'neck.spatial_embed',
        'neck.temporal_embed',
    ):
        assert found[name][1] == 0.05
    assert found['backbone.norm.weight'][1] == 0
    assert found['neck.pred.bias'][1] == 0


def test_recognisers_too_have_two_groups_without_layer_decay():
    model = finetuned_model()
    found, count = groups_of(model, 1.0)
    assert count == 2
    assert len(found) == len(list(model.parameters()))


@pytest.mark.parametrize('kind', ['fused', 'foreach'])
@pytest.mark.parametrize('layer_decay', [1.0, 0.8])
def test_fast_kinds_of_adamw_take_the_steps_of_the_plain_one(
    kind, layer_decay
):
    model = finetuned_model()
    fast_model = copy.deepcopy(model)
    start = copy.deepcopy(model)
    plain = optimizer_of(model, layer_decay, fused=False, foreach=False)
    fast = optimizer_of(fast_model, layer_decay, **{kind: True})
    assert all(group[kind] for group in fast.param_groups)
    for _ in range(10):
        for a, b in zip(model.parameters(), fast_model.parameters()):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        plain.step()
        fast.step()
    triples = zip(
        model.parameters(), fast_model.parameters(), start.parameters()
    )
    for a, b, old in triples:
        torch.testing.assert_close(b, a, rtol=0, atol=1e-6)
        assert (a - old).abs().max() > 1e-4


def test_frozen_parameters_are_left_out():
    model = finetuned_model()
    model.backbone.requires_grad_(False)
    found, _ = groups_of(model, 0.8)
    heads = {name for name, _ in model.named_parameters() if 'head' in name}
    assert set(found) == heads


@pytest.mark.parametrize(
    'paramwise', [dict(layer_decay=1.5), dict(decay_rate=0.8)]
)
def test_layer_decay_bad_arguments(paramwise):
    with pytest.raises(ValueError, match='layer_decay'):
        OPTIM_WRAPPER_CONSTRUCTORS.build(
            dict(
                type='MAMPLayerDecayConstructor',
                optim_wrapper_cfg=dict(optimizer=dict(type='AdamW', lr=3e-4)),
                paramwise_cfg=paramwise,
            )
        )


def test_layer_decay_needs_our_encoder():
    with pytest.raises(ValueError, match='MAMPTransformer'):
        groups_of(torch.nn.Linear(3, 3), 0.8)
