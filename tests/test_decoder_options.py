"""What is decoded: cross-attention, and a share of the masked tokens."""

import copy

import pytest
import torch
import torch.nn.functional as F
from mmaction.registry import MODELS
from mmengine.runner.checkpoint import load_state_dict
from small_models import LATENT, D, S, T, V, batch, mamp, pretraining

from mamp_mmaction.models.visible_tokens import token_places

CLOSE = dict(rtol=1e-4, atol=1e-6)
CROSS = dict(attention='cross', depth=2)


def model_of(neck=None, decode_ratio=1.0, **kwargs):
    cfg = pretraining(None, neck, **kwargs)
    return MODELS.build(dict(cfg, decode_ratio=decode_ratio))


def decoder_inputs(model, persons=3):
    """Encoded visible tokens, their places and those of masked ones."""
    order = torch.rand(persons, S * V).argsort(dim=1)
    return torch.randn(persons, 5, D), order[:, :5], order[:, 5:]


# Cross-attention -------------------------------------------------------------


def test_cross_attention_is_that_of_the_formula():
    """One block, in single matrix products, for one head after the other."""
    neck = mamp(neck=dict(attention='cross')).neck
    latent, visible, wanted = decoder_inputs(neck)
    place = (neck.spatial_embed + neck.temporal_embed).view(S * V, D)
    block, attn = neck.blocks[0], neck.blocks[0].attn
    for row in range(len(latent)):
        memory = neck.embed(latent[row]) + place[visible[row]]
        x = neck.mask_token[0] + place[wanted[row]]
        q, (k, v) = attn.q(block.norm1(x)), attn.kv(memory).split(D, dim=1)
        heads = [
            (q[:, part] @ k[:, part].T / 8**0.5).softmax(dim=1) @ v[:, part]
            for part in (slice(0, 8), slice(8, 16))
        ]
        x = x + attn.proj(torch.cat(heads, dim=1))
        x = x + block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm2(x))))
        found = neck(latent, visible, wanted)[row]
        torch.testing.assert_close(found, neck.pred(neck.norm(x)), **CLOSE)


def test_tokens_of_cross_attention_do_not_see_each_other():
    neck = mamp(neck=CROSS).neck
    latent, visible, wanted = decoder_inputs(neck)
    every = neck(latent, visible)
    some = neck(latent, visible, wanted[:, [7, 2]])
    index = wanted[:, [7, 2], None].expand(-1, -1, 12)
    torch.testing.assert_close(some, every.gather(1, index), **CLOSE)
    latent[1, 3] += 1  # a visible token of the second person
    change = (neck(latent, visible) - every).abs().amax(dim=2)
    assert change[1].min() > 1e-6 and not change[[0, 2]].any()


def test_tokens_of_self_attention_see_those_that_are_decoded():
    neck = mamp(neck=dict(depth=2)).neck
    latent, visible, wanted = decoder_inputs(neck)
    every, masked = neck(latent, visible), neck(latent, visible, wanted)
    index = wanted[:, :, None].expand(-1, -1, 12)
    torch.testing.assert_close(masked, every.gather(1, index), **CLOSE)
    assert not torch.allclose(
        neck(latent, visible, wanted[:, :9]), masked[:, :9]
    )


@pytest.mark.parametrize('attention', ['self', 'cross'])
def test_a_checkpoint_of_the_other_decoder_is_refused(attention):
    other = dict(self='cross', cross='self')[attention]
    state = mamp(neck=dict(attention=other)).state_dict()
    model = mamp(neck=dict(attention=attention))
    message = rf"neck.blocks.*trained with attention='{other}', this.*Set"
    with pytest.raises(ValueError, match=message):
        load_state_dict(model, state)
    encoder_alone = {k: v for k, v in state.items() if 'backbone' in k}
    load_state_dict(model, encoder_alone)
    load_state_dict(mamp(neck=dict(attention=other)), state)


@pytest.mark.parametrize('head, numbers', [(dict(), 12), (LATENT, 16)])
def test_a_checkpoint_of_another_target_is_refused(head, numbers):
    other = LATENT if numbers == 12 else dict()
    message = (
        rf'predicts {28 - numbers} numbers for a token, this one {numbers}'
    )
    with pytest.raises(ValueError, match=message):
        load_state_dict(mamp(**head), mamp(**other).state_dict())


# A share of the masked tokens ------------------------------------------------


@pytest.mark.parametrize('ratio, count', [(0.5, 12), (0.25, 6), (0.01, 1)])
def test_a_share_is_drawn_for_every_person(ratio, count):
    _, samples = batch(samples=300)
    mask = torch.cat([sample.mask for sample in samples])
    visible, wanted = token_places(mask, 5, ratio)
    assert visible.shape == (600, 5) and wanted.shape == (600, count)
    assert not mask.gather(1, visible).any() and mask.gather(1, wanted).all()
    assert (visible.diff(dim=1) > 0).all()
    assert all(len(set(row.tolist())) == count for row in wanted)
    # Every masked token is as likely.
    drawn = torch.zeros(600, S * V).scatter(1, wanted, 1.0)
    rate = drawn.sum(dim=0) / mask.sum(dim=0)
    assert (rate - count / 23).abs().max() < 0.12


# Normalised tokens would all cost the same before training.
UNEQUAL = dict(norm_target=False)


@pytest.mark.parametrize(
    'head', [UNEQUAL, dict(UNEQUAL, ignore_absent=True), LATENT]
)
def test_the_mean_over_draws_is_the_full_loss(head):
    """With cross-attention; evaluation decodes everything."""
    model = model_of(CROSS, decode_ratio=0.3, **head)
    inputs, samples = batch(samples=4)
    inputs[1, 0, 1] = 0
    with torch.no_grad():
        full = model.eval()(inputs, samples, mode='loss')
        model.train()
        draws = [model(inputs, samples, mode='loss') for _ in range(300)]
    for key in set(full) - {'target_std'}:
        values = torch.stack([draw[key] for draw in draws])
        assert values.std() > 1e-3
        assert values.mean().item() == pytest.approx(full[key].item(), 0.01)


@pytest.mark.parametrize('neck', [dict(), CROSS])
def test_the_loss_is_that_of_the_drawn_tokens(neck):
    model = model_of(neck, decode_ratio=0.5)
    calls, widths = [], []
    model.neck.register_forward_hook(lambda _, *call: calls.append(call))
    model.neck.blocks[0].mlp.register_forward_hook(
        lambda module, args, out: widths.append(out.shape[1])
    )
    inputs, samples = batch()
    losses = model(inputs, samples, mode='loss')
    losses['loss_motion'].backward()
    assert all(p.grad is not None for p in model.parameters())
    (((_, _, wanted), pred),) = calls
    assert widths == [12 if neck else 5 + 12]  # tokens that are computed
    target = model.head.target_patches(inputs.flatten(0, 2))
    error = pred - target[torch.arange(4)[:, None], wanted]
    torch.testing.assert_close(losses['loss_motion'], error.square().mean())


def test_prediction_decodes_all():
    model = model_of(CROSS, decode_ratio=0.25).eval()
    inputs, samples = batch()
    assert model(inputs, samples, mode='tensor').shape == (4, S * V, 12)
    out = model(inputs, samples, mode='predict')
    loss = model(inputs, samples, mode='loss')['loss_motion']
    errors = torch.cat([sample.masked_errors for sample in out])
    assert out[0].pred_motion.shape == (2, T, V, 3)
    torch.testing.assert_close(errors[:, 0].sum() / errors[:, 2].sum(), loss)


def test_no_draw_unless_asked_for():
    """The noise of a run stays that of the paper's method."""
    model, data = model_of(), batch()
    before = torch.get_rng_state()
    model(*data, mode='loss')
    assert torch.equal(torch.get_rng_state(), before)


def test_masks_are_counted_before_they_move():
    """The meta device, as a GPU, cannot be asked for a number."""
    model = model_of(CROSS, decode_ratio=0.5)
    inputs, samples = batch()
    meta = copy.deepcopy(model).to('meta')
    data = meta.data_preprocessor(dict(inputs=inputs, data_samples=samples))
    assert data['data_samples'][0].num_visible == 5
    assert meta(**data, mode='loss')['loss_motion'].device.type == 'meta'
    samples[1].mask = torch.ones_like(samples[1].mask)
    data = meta.data_preprocessor(dict(inputs=inputs, data_samples=samples))
    assert 'num_visible' not in data['data_samples'][0]
    # Where they do not move, nothing is noted.
    data = model.data_preprocessor(dict(inputs=inputs, data_samples=samples))
    with pytest.raises(ValueError, match='between 0 and 5'):
        model(**data, mode='loss')


@pytest.mark.parametrize('ratio', [0, 1.5, -0.1])
def test_shares_and_kinds_that_do_not_exist(ratio):
    message = rf'decode_ratio={ratio} is outside \(0, 1\]'
    with pytest.raises(ValueError, match=message):
        model_of(decode_ratio=ratio)
    with pytest.raises(ValueError, match="attention='both' is neither"):
        model_of(dict(attention='both'))
    with pytest.raises(ValueError, match='num_heads=3'):
        model_of(dict(attention='cross', num_heads=3))
