"""Latent targets: the teacher, what it gives, and what goes with it."""

import copy
import math

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.logging import MessageHub
from mmengine.optim import build_optim_wrapper
from mmengine.runner.checkpoint import load_state_dict
from small_models import (
    LATENT,
    D,
    T,
    V,
    auxiliary_of,
    batch,
    encoder,
    mamp,
    pretraining,
    recogniser,
)

from mamp_mmaction.engine import amp_optim_wrapper
from mamp_mmaction.patches import patchify

TEACHER = 'head.teacher.encoder.'


def latent(backbone=None, neck=None, decode_ratio=1.0, **kwargs):
    cfg = pretraining(backbone, neck, **LATENT, **kwargs)
    return MODELS.build(dict(cfg, decode_ratio=decode_ratio))


def teacher_of(model):
    return model.head.teacher.encoder.state_dict()


@pytest.fixture
def hub(monkeypatch):
    """What a runner says; nothing, as without one."""
    hub = MessageHub('hub of a test')
    current = classmethod(lambda cls: hub)
    monkeypatch.setattr(MessageHub, 'get_current_instance', current)
    return hub


def report(hub, step, steps):
    """Say what the runner's hooks do."""
    for key, value in dict(
        loop_stage='train', iter=step, max_iters=steps
    ).items():
        hub.update_info(key, value)


def assert_close(found, wanted, **kwargs):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, msg=name, **kwargs)


# The teacher -----------------------------------------------------------------


@pytest.mark.parametrize('zero_grad', ['before', 'after'])
@pytest.mark.parametrize('steps', [None, 5])
def test_the_teacher_is_the_moving_average(hub, steps, zero_grad):
    """With and without a runner, in loops of either order."""
    model = latent(momentum=0.9)
    sgd = torch.optim.SGD(model.parameters(), lr=0.5)
    expected = None
    for step in range(5):
        if steps:
            report(hub, step, steps)
        progress = step / steps if steps else 0
        m = 1 - (1 - 0.9) * (1 + math.cos(math.pi * progress)) / 2
        student = copy.deepcopy(model.backbone.state_dict())
        expected = {
            k: m * expected[k] + (1 - m) * v if expected else v
            for k, v in student.items()
        }
        if zero_grad == 'before':
            sgd.zero_grad()
        loss = model(*batch(), mode='loss')['loss_latent']
        assert_close(teacher_of(model), expected)
        if zero_grad == 'after':
            sgd.zero_grad()
        loss.backward()
        sgd.step()
    model.eval()(*batch(), mode='loss')
    assert_close(teacher_of(model), expected)
    moved = (teacher_of(model)[k] - student[k] for k in student)
    assert max(x.abs().max() for x in moved) > 1e-3


def trained(accumulative_counts, samples):
    torch.manual_seed(0)
    model = latent(momentum=0.5)
    wrapper = build_optim_wrapper(
        model,
        dict(
            optimizer=dict(type='SGD', lr=0.5),
            accumulative_counts=accumulative_counts,
        ),
    )
    torch.manual_seed(1)
    inputs, data_samples = batch(samples=12)
    for start in range(0, 12, samples):
        part = slice(start, start + samples)
        data = dict(inputs=[*inputs[part]], data_samples=data_samples[part])
        model.train_step(data, wrapper)
    return teacher_of(model)


def test_the_teacher_waits_while_gradients_are_accumulated(hub):
    assert_close(trained(2, 2), trained(1, 4), rtol=1e-4, atol=1e-6)


def test_the_teacher_sees_steps_of_fused_optimisers():
    """They leave the versions of weights, and gradients may stay zeros."""
    teachers = []
    for fused in (True, False):
        torch.manual_seed(0)
        model = latent(momentum=0.5)
        sgd = torch.optim.SGD(model.parameters(), lr=0.5, fused=fused)
        for seed in range(3):
            torch.manual_seed(seed)
            model.parse_losses(model(*batch(), mode='loss'))[0].backward()
            sgd.step()
            sgd.zero_grad(set_to_none=False)
        teachers.append(teacher_of(model))
    assert_close(*teachers)


def test_the_teacher_is_no_parameter():
    model, plain = latent(), mamp()
    names = [name for name, _ in model.named_parameters()]
    assert names == [name for name, _ in plain.named_parameters()]
    assert set(model.state_dict()) - set(plain.state_dict()) == {
        TEACHER + name for name in plain.backbone.state_dict()
    }
    assert not any(m.training for m in model.train().head.teacher.modules())


# Target and loss -------------------------------------------------------------


@pytest.mark.parametrize('blocks', [1, 3])
@pytest.mark.parametrize(
    'options', [{}, dict(ignore_absent=True), dict(loss_weight='motion')]
)
def test_target_and_loss_are_those_of_the_formula(blocks, options):
    backbone = encoder(depth=3, drop_path_rate=0.9)
    head = latent(backbone, num_blocks=blocks, **options).train().head
    model = head.teacher.encoder
    x, mask = torch.randn(5, T, V, 3), torch.rand(5, 28) < 0.8
    x[1] = 0
    present = torch.tensor([0, 2, 3, 4])
    tokens = model.patch_embed(patchify(x, 4)) + (
        model.spatial_embed + model.temporal_embed
    ).view(28, D)
    outputs = []
    for block in model.blocks:
        tokens = tokens + block.attn(block.norm1(tokens))
        tokens = tokens + block.mlp(block.norm2(tokens))
        outputs.append(tokens)
    mean = sum(outputs[-blocks:]) / blocks
    centred = mean - mean.mean(dim=2, keepdim=True)
    variance = centred.square().mean(dim=2, keepdim=True)
    target = centred / (variance + 1e-5).sqrt()

    pred = torch.randn(5, 28, D, requires_grad=True)
    distance = (pred - target).abs()
    far = distance - 0.5
    error = torch.where(distance < 1, distance.square() / 2, far).mean(dim=2)
    counted = mask.float()
    if 'ignore_absent' in options:
        counted[1] = 0
    if 'loss_weight' in options:
        error = error * head._motion_share(x, mask)
    expected = (error * counted).sum() / counted.sum()
    losses = head.loss(pred, x, mask)
    torch.testing.assert_close(losses['loss_latent'], expected)
    std = target[present].var(dim=0, correction=0).mean().sqrt()
    torch.testing.assert_close(losses['target_std'], std)
    losses['loss_latent'].backward()
    assert pred.grad[2:].any() and not losses['target_std'].requires_grad


def test_a_collapsed_teacher_shows():
    model = latent()
    data = batch(samples=4)
    assert 0.3 < model(*data, mode='loss')['target_std'] < 1
    torch.nn.init.zeros_(model.head.teacher.encoder.patch_embed.weight)
    assert model.eval()(*data, mode='loss')['target_std'] < 1e-3


def test_prediction_is_of_features():
    model = latent().eval()
    inputs, samples = batch(samples=3)
    with torch.no_grad():
        out = model(inputs, samples, mode='predict')
    pred = torch.stack([sample.pred_latent for sample in out])
    assert pred.shape == (3, 2, 28, D)
    mask = torch.stack([sample.mask for sample in samples])
    target = model.head.teacher(inputs.flatten(0, 2)).view(pred.shape)
    error, zero, count = torch.cat([s.masked_errors for s in out]).sum(dim=0)
    squared = (pred - target).square().mean(dim=3)[mask]
    torch.testing.assert_close(error / count, squared.mean())
    assert zero / count == pytest.approx(1, abs=1e-3)


# With other options ----------------------------------------------------------


@pytest.mark.parametrize('kind', ['compiled', 'auxiliary'])
def test_all_options_in_bfloat16(kind, monkeypatch):
    monkeypatch.setattr(
        amp_optim_wrapper, 'supports_bfloat16', lambda device: True
    )
    head = dict(ignore_absent=True, loss_weight='motion', num_coords=2)
    neck = dict(attention='cross')
    if kind == 'compiled':
        compiled = dict(backend='eager', fullgraph=True)
        model = latent(None, neck, 0.5, compile_cfg=compiled, **head)
    else:
        cfg = pretraining(None, neck, **LATENT, **head)
        options = dict(motion_weight=2.0, decode_ratio=0.5)
        model = MODELS.build(auxiliary_of(cfg, **options))
    inputs, samples = batch(4, labels=[0, 1, 2, 0])
    inputs[0, 0, 1] = 0
    torch.manual_seed(3)
    exact = model(inputs, samples, mode='loss')
    wrapper = build_optim_wrapper(
        model,
        dict(
            type='AutoAmpOptimWrapper', optimizer=dict(type='AdamW', lr=1e-3)
        ),
    )
    torch.manual_seed(3)
    data = dict(inputs=[*inputs], data_samples=samples)
    logged = model.train_step(data, wrapper)
    for key in ('loss_latent', 'target_std'):
        value = exact[key]
        assert logged[key].dtype == torch.float32
        torch.testing.assert_close(logged[key], value, rtol=0.03, atol=1e-3)


# Weights ---------------------------------------------------------------------


def test_a_recogniser_loads_the_encoder():
    model = latent()
    for value in teacher_of(model).values():
        value.zero_()
    other = recogniser()
    load_state_dict(other, model.state_dict())
    assert_close(other.backbone.state_dict(), model.backbone.state_dict())


def test_a_teacher_starts_from_what_is_loaded():
    """The encoder's weights alone, or its own, also for other clips."""
    source, model = latent(), latent()
    plain = {k: v for k, v in source.state_dict().items() if 'backbone' in k}
    load_state_dict(model, plain)
    model(*batch(), mode='loss')
    assert_close(teacher_of(model), source.backbone.state_dict())

    torch.nn.init.ones_(source.head.teacher.encoder.norm.bias)
    longer = latent(encoder(num_frames=2 * T), momentum=1.0)
    load_state_dict(longer, source.state_dict())
    longer(*batch(frames=2 * T), mode='loss')
    bias = teacher_of(longer)['norm.bias']
    assert (bias == 1).all() and not longer.backbone.norm.bias.any()


@pytest.mark.parametrize(
    'head, message',
    [
        (dict(num_blocks=0), 'num_blocks=0: the encoder has 2 blocks'),
        (dict(num_blocks=3), 'num_blocks=3: the encoder has 2 blocks'),
        (dict(momentum=1.5), r'momentum=1.5 is outside \[0, 1\]'),
        (dict(neck=dict(pred_dims=5)), 'predicts 5 numbers .* has 16'),
        (
            dict(
                backbone=dict(type='STGCN', graph_cfg=dict(layout='coco')),
                neck=dict(embed_dims=256, num_frames=T, num_joints=17),
            ),
            'LatentPredictionHead .* backbone STGCN has no blocks',
        ),
    ],
)
def test_what_does_not_fit(head, message):
    with pytest.raises(ValueError, match=message):
        latent(**head)(*batch(), mode='loss')
