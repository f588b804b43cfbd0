"""Encoder, decoder, target, loss, heads, and weights that are loaded."""

import copy
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from mmaction.models.heads import BaseHead
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.analysis import get_model_complexity_info
from mmengine.model import ExponentialMovingAverage
from mmengine.runner.checkpoint import load_state_dict
from small_models import (
    D,
    S,
    T,
    V,
    batch,
    count_encoded,
    encoder,
    finetune_head,
    linear_head,
    mamp,
    recogniser,
)

from mamp_mmaction.models import classifier_head
from mamp_mmaction.models.layers import (
    TransformerBlock,
    attend,
    transformer_blocks,
)
from mamp_mmaction.models.motion_prediction_head import MotionPredictionHead
from mamp_mmaction.patches import patchify, unpatchify

CLOSE = dict(rtol=1e-4, atol=1e-5)


# Sizes and initialisation ---------------------------------------------------


def assert_xavier(layer):
    bound = math.sqrt(6 / sum(layer.weight.shape))
    assert layer.weight.abs().max().item() == pytest.approx(bound, rel=0.05)
    assert not layer.bias.any()


def test_initialisation():
    wide = dict(embed_dims=64, num_heads=2, num_frames=120, num_joints=25)
    backbone = MODELS.build(encoder(depth=1, **wide))
    decoder = MODELS.build(
        dict(wide, type='MAMPDecoder', decoder_embed_dims=64, depth=1)
    )
    for module in (backbone, decoder):
        for name in ('spatial_embed', 'temporal_embed'):
            std = getattr(module, name).std().item()
            assert std == pytest.approx(0.02, rel=0.15)
    assert decoder.mask_token.std().item() == pytest.approx(0.02, rel=0.3)
    block, head = backbone.blocks[0], MODELS.build(finetune_head(60))
    for layer in (
        *(block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2),
        *(decoder.embed, decoder.pred, head.fc1, head.fc2),
    ):
        assert_xavier(layer)

    # torch's convolution of 4 frames x 3 coordinates
    bound = 1 / math.sqrt(12)
    weight, bias = backbone.patch_embed.weight, backbone.patch_embed.bias
    assert weight.abs().max().item() == pytest.approx(bound, rel=0.01)
    assert 0.9 * bound < bias.abs().max().item() <= bound

    probe = MODELS.build(dict(linear_head(60), in_channels=256))
    assert probe.fc.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not probe.fc.bias.any()


# Encoder ---------------------------------------------------------------------


@pytest.mark.parametrize(
    'persons, frames, joints, channels, t_patch',
    [(2, 120, 25, 3, 4), (1, 15, 20, 3, 5), (3, 8, 17, 2, 8)],
)
def test_backbone_contract_on_any_skeleton(
    persons, frames, joints, channels, t_patch
):
    backbone = MODELS.build(
        encoder(
            num_frames=frames,
            num_joints=joints,
            in_channels=channels,
            t_patch_size=t_patch,
        )
    )
    x = torch.randn(2, persons, frames, joints, channels)
    assert backbone(x).shape == (2, persons, D, frames // t_patch, joints)


def test_a_token_is_one_joint_of_one_person_at_one_time():
    backbone = MODELS.build(encoder(depth=1)).eval()
    x = torch.randn(1, 2, T, V, 3)
    y = x.clone()
    y[0, 0, 8:12, 5] += 1  # segment 2
    change = (backbone(y) - backbone(x)).norm(dim=2)[0]
    assert divmod(change[0].argmax().item(), V) == (2, 5)
    assert change[1].max() < 1e-5  # persons do not see each other


def test_drop_path_draws_per_person_and_branch():
    rates = [b.drop_path.drop_prob for b in transformer_blocks(4, 8, 2, 4, 3)]
    assert rates == pytest.approx([0, 1, 2, 3])
    block = TransformerBlock(8, 2, 4, drop_path_rate=0.5)
    x = torch.randn(1, 5, 8).expand(4000, 5, 8)
    with torch.no_grad():
        out = block.train()(x)
        branch1 = 2 * block.attn(block.norm1(x[:1]))
        outcomes = [
            y + scale * block.mlp(block.norm2(y))
            for y in (x[:1], x[:1] + branch1)
            for scale in (0, 2)
        ]
    kinds = torch.stack(
        [(out - y).abs().amax(dim=(1, 2)) < 1e-4 for y in outcomes]
    )
    assert kinds.any(dim=0).all()  # nothing but these four happens
    share = kinds.float().mean(dim=1)
    quarters = torch.full((4,), 0.25)
    torch.testing.assert_close(share, quarters, rtol=0, atol=0.04)


def test_attention_in_bfloat16_is_that_of_its_inputs():
    q, k, v = torch.randn(3, 2, 4, 30, 8).bfloat16()
    wanted = torch.softmax(q.float() @ k.float().mT / 8**0.5, dim=-1)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = attend(q.requires_grad_(), k, v)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, (wanted @ v.float()).bfloat16())
    found.float().sum().backward()
    assert q.grad.dtype == torch.bfloat16 and q.grad.isfinite().all()


@pytest.mark.parametrize('keep_ratio', [1.0, 0.4])
def test_each_distinct_person_is_computed_once(keep_ratio, monkeypatch):
    model = MODELS.build(encoder(keep_ratio=keep_ratio))
    x = torch.randn(5, 3, T, V, 3)
    x[0, 1:] = 0  # one person
    x[1, 2] = x[1, 0]  # one person twice
    x[2, 0] = 0  # the second and third alone
    x[3, 1] = x[3, 2] = x[3, 0]
    x[4, 2] = x[0, 0]  # somebody of another sample
    counts = count_encoded(model, monkeypatch)
    every = model(x)
    distinct = model.eval()(x)
    assert counts == [15, 1 + 1 + 2 + 2 + 1 + 3]
    torch.testing.assert_close(distinct, every, **CLOSE)
    nobody = model(torch.zeros(2, 2, T, V, 3))
    assert counts[-1] == 1
    torch.testing.assert_close(nobody[1, 1], every[0, 1], **CLOSE)
    model.distinct_persons = False  # the switch
    torch.testing.assert_close(model(x), every, **CLOSE)
    assert counts[-1] == 15
    x[4, 2, 5, 5] = torch.nan
    model.distinct_persons = True
    assert model(x)[4, 2].isnan().any() and not model(x)[4, 1].isnan().any()


def test_gradients_reach_a_person_once_for_every_copy():
    model = MODELS.build(encoder())
    x = torch.randn(2, 2, T, V, 3)
    x[1, 1] = x[1, 0]
    weight = torch.randn(2, 2, D, S, V)
    gradients = []
    for training in (True, False):
        model.train(training).zero_grad()
        (model(x) * weight).sum().backward()
        gradients.append(model.patch_embed.weight.grad.clone())
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning')
def test_an_exported_model_computes_everybody():
    """Who is equal depends on the data, and a trace must not."""
    model = MODELS.build(encoder(depth=1)).eval()
    absent = torch.randn(1, 2, T, V, 3)
    absent[:, 1] = 0
    both = torch.randn(1, 2, T, V, 3)
    traced = torch.jit.trace(model, absent)
    exported = torch.export.export(model, (absent,)).module()
    compiled = torch.compile(model, backend='eager', fullgraph=True)
    # What ONNX has no word for.
    assert 'unique' not in str(traced.inlined_graph) + str(exported.graph)
    for other in (traced, exported, compiled):
        torch.testing.assert_close(other(both), model(both))


def kept_places(model, x, monkeypatch):
    """Places of the tokens that the encoder keeps, (N * M, S', V)."""
    seen = []
    encode = model.encode
    monkeypatch.setattr(
        model, 'encode', lambda k, v: (seen.append(v), encode(k, v))[1]
    )
    model(x)
    return seen[0].view(len(seen[0]), -1, V)


def test_the_most_moving_tokens_of_every_joint_are_kept(monkeypatch):
    model = MODELS.build(encoder(num_frames=24, keep_ratio=0.5))
    x = torch.randn(1, 1, 1, V, 3).repeat(2, 2, 24, 1, 1)
    x[:, :, 12:, 3] += 1  # joint 3 jumps at segment 3,
    x[:, :, 20:, 3] += 2  # and farther at segment 5
    x[:, :, 4:8, 6] -= 1  # joint 6 is elsewhere in segment 1
    places = kept_places(model, x, monkeypatch)
    assert model(x).shape == (2, 2, D, 3, V)
    assert (places % V == torch.arange(V)).all()
    segments = places // V
    assert (segments.diff(dim=1) > 0).all()
    assert {3, 5} <= set(segments[0, :, 3].tolist())
    # The first segment repeats the second's motion.
    assert segments[0, :, 6].tolist() == [0, 1, 2]
    full = MODELS.build(encoder(num_frames=24, keep_ratio=1.0))
    full.load_state_dict(model.state_dict())
    assert full(x).shape == (2, 2, D, 6, V)


# Target and loss -------------------------------------------------------------


def target_by_hand(x, target, stride, norm):
    """Loops over tokens, as the definition reads."""
    frames, joints, _ = x.shape
    if target == 'motion':
        moved = torch.zeros_like(x)
        for t in range(frames - stride):
            moved[t] = x[t + stride] - x[t]
        x = moved
    if norm == 'clip':
        mean = sum(x) / frames
        var = sum((pose - mean) ** 2 for pose in x) / (frames - 1)
        x = (x - mean) / (var + 1e-6).sqrt()
    rows = []
    for t in range(0, frames, 4):
        for v in range(joints):
            patch = x[t : t + 4, v].reshape(-1)
            if norm in (True, 'patch'):
                spread = ((patch - patch.mean()) ** 2).sum() / (len(patch) - 1)
                patch = (patch - patch.mean()) / (spread + 1e-6).sqrt()
            rows.append(patch)
    return torch.stack(rows)


@pytest.mark.parametrize('target', ['motion', 'joint'])
@pytest.mark.parametrize('stride', [1, 3])
@pytest.mark.parametrize('norm', [True, 'patch', 'clip', False])
@pytest.mark.parametrize('channels, coords', [(2, None), (3, None), (3, 2)])
def test_target_loss_and_prediction(target, stride, norm, channels, coords):
    head = MotionPredictionHead(target, stride, norm, num_coords=coords)
    x = torch.randn(2, 8, 5, channels)
    points = x[..., :coords]
    expected = torch.stack(
        [target_by_hand(p, target, stride, norm) for p in points]
    )
    torch.testing.assert_close(head.target_patches(x), expected)

    pred = torch.randn_like(expected)
    mask = torch.zeros(2, 10, dtype=torch.bool)
    mask[0, [1, 5]] = mask[1, [0, 9]] = True
    losses = head.loss(pred, x, mask)
    error = (pred - expected)[mask].square().mean()
    torch.testing.assert_close(losses[f'loss_{target}'], error)
    zero = expected[mask].square().mean()
    torch.testing.assert_close(losses['mse_zero'], zero)

    # A perfect prediction is the motion in the skeleton's units.
    if target == 'motion':
        moved = points[:, stride:] - points[:, :-stride]
        points = F.pad(moved, (0, 0, 0, 0, 0, stride))
    torch.testing.assert_close(head.predict(expected, x), points, **CLOSE)


def test_absent_persons_count_unless_left_out(monkeypatch):
    model = mamp()
    inputs, samples = batch(samples=3)
    inputs[0, 0, 1] = inputs[2, 0, 0] = 0
    mask = torch.cat([sample.mask for sample in samples])
    pred, x = model(inputs, samples), inputs.flatten(0, 2)
    there = [0, 2, 3, 5]
    wanted = model.head.loss(pred[there], x[there], mask[there])
    assert model.head.loss(pred, x, mask)['mse_zero'] < wanted['mse_zero']

    model.head.ignore_absent = True
    torch.testing.assert_close(model.head.loss(pred, x, mask), wanted)
    counts = count_encoded(model.backbone, monkeypatch)
    found = model(inputs, samples, mode='loss')
    assert counts == [4]
    torch.testing.assert_close(found, wanted, **CLOSE)
    nobody = model(torch.zeros_like(inputs), samples, mode='loss')
    assert nobody['loss_motion'] == 0
    nobody['loss_motion'].backward()


# Pre-training model ----------------------------------------------------------


def test_predict_gives_samples_with_motion():
    model = mamp().eval()
    inputs, samples = batch(samples=3)
    out = model(inputs, samples, mode='predict')
    assert [sample.pred_motion.shape for sample in out] == [(2, T, V, 3)] * 3
    errors = torch.cat([sample.masked_errors for sample in out])
    loss = model(inputs, samples, mode='loss')['loss_motion']
    torch.testing.assert_close(errors[:, 0].sum() / errors[:, 2].sum(), loss)
    motion = out[0].pred_motion  # holds no more than itself
    assert motion.untyped_storage().nbytes() == motion.nbytes
    assert 'pred_joint' in mamp(target='joint')(inputs, samples, 'predict')[0]


def test_the_prediction_depends_on_visible_tokens_alone():
    model = mamp().eval()
    inputs, samples = batch(samples=1, persons=1)
    mask = samples[0].mask[0]
    pred = model(inputs, samples, mode='tensor')

    def with_noise_at(tokens):
        patches = patchify(inputs, 4)
        patches[..., tokens, :] += 1
        return model(unpatchify(patches, 4, V), samples, mode='tensor')

    torch.testing.assert_close(with_noise_at(mask), pred)
    assert (with_noise_at(~mask) - pred).abs().max() > 1e-3


def test_decoder_and_head_take_what_they_share_from_the_encoder():
    other = dict(num_frames=24, num_joints=9, in_channels=2, t_patch_size=3)
    model = mamp(encoder(**other))
    assert model.neck.spatial_embed.shape == (1, 1, 9, D)
    assert model.neck.pred.out_features == 6
    assert model.head.t_patch_size == 3
    for cfg, message in (
        (dict(neck=dict(num_joints=25)), 'neck.num_joints=25 contradicts'),
        (dict(t_patch_size=2), 'head.t_patch_size=2 contradicts'),
        (
            dict(backbone=encoder(num_coords=1), num_coords=2),
            'head.num_coords=2 contradicts',
        ),
    ):
        with pytest.raises(ValueError, match=message):
            mamp(**cfg)


def test_a_confidence_is_no_motion(monkeypatch):
    """Neither of the target nor of the tokens that ``keep_ratio`` keeps."""
    model = mamp(num_coords=2).eval()
    assert model.neck.pred.out_features == 4 * 2
    inputs, samples = batch()
    other = inputs.clone()
    other[..., 2] = torch.rand_like(other[..., 2])
    target = model.head.target_patches(inputs.flatten(0, 2))
    assert target.shape == (4, S * V, 8)
    assert torch.equal(model.head.target_patches(other.flatten(0, 2)), target)
    model(inputs, samples, mode='loss')['loss_motion'].backward()
    (first, _) = model(inputs, samples, mode='predict')
    assert first.pred_motion.shape == (2, T, V, 2)
    # The encoder does see it.
    assert not torch.equal(model(other, samples), model(inputs, samples))

    places = [
        kept_places(
            MODELS.build(encoder(keep_ratio=0.5, num_coords=2)),
            x.squeeze(1),
            monkeypatch,
        )
        for x in (inputs, other)
    ]
    assert torch.equal(*places)
    with pytest.raises(ValueError, match='num_coords=4 is none of 1 to 3'):
        mamp(num_coords=4)(inputs, samples, mode='loss')


def test_features_of_a_pretraining_model():
    """Whole skeletons, as from a recogniser of the toolbox."""
    model = mamp().eval()
    x = torch.randn(2, 3, 2, T, V, 3)
    features, kwargs = model.extract_feat(x)
    assert kwargs == {} and features.shape == (6, 2, D, S, V)
    plain = recogniser().eval()
    plain.backbone.load_state_dict(model.backbone.state_dict())
    torch.testing.assert_close(features, plain.extract_feat(x)[0])
    with pytest.raises(ValueError, match="stage='head'"):
        model.extract_feat(x, stage='head')
    model.forward = model.extract_feat  # as get_flops.py does
    found = get_model_complexity_info(model, (1, 2, T, V, 3))
    # qkv and proj 4 D ** 2, the perceptron 8 D ** 2: a block and token
    assert found['flops'] > 2 * 2 * S * V * 12 * D**2


# Compiled --------------------------------------------------------------------

COMPILED = dict(backend='eager', fullgraph=True)


@pytest.mark.parametrize(
    'copied', [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))]
)
def test_a_copy_of_a_compiled_model_computes_with_its_own_weights(copied):
    """Both as models that are not compiled, and so their gradients."""
    model, plain, data = mamp(compile_cfg=COMPILED), mamp(), batch()
    model(*data, mode='loss')
    other = copied(model)
    with torch.no_grad():
        for param in other.parameters():
            param.mul_(0.5)
    losses = []
    for compiled in (other, model):
        plain.load_state_dict(compiled.state_dict())
        plain.zero_grad()
        found, wanted = (
            m(*data, mode='loss')['loss_motion'] for m in (compiled, plain)
        )
        torch.testing.assert_close(found, wanted)
        (found + wanted).backward()
        for a, b in zip(compiled.parameters(), plain.parameters()):
            torch.testing.assert_close(a.grad, b.grad)
        losses.append(wanted.item())
    assert abs(losses[1] - losses[0]) > 1e-3


def test_a_compiled_model_has_a_moving_average():
    """As EMAHook keeps it."""
    model, data = mamp(compile_cfg=COMPILED), batch()
    model(*data, mode='loss')
    average = ExponentialMovingAverage(model, momentum=0.5)
    average.update_parameters(model)
    token = model.neck.mask_token.clone()
    with torch.no_grad():
        model.neck.mask_token.zero_()
    average.update_parameters(model)
    torch.testing.assert_close(average.module.neck.mask_token, token / 2)
    plain = mamp()
    plain.load_state_dict(average.module.state_dict())
    losses = [m(*data, mode='loss') for m in (average, plain)]
    torch.testing.assert_close(*losses)


# Heads -----------------------------------------------------------------------


@pytest.mark.parametrize('head', [linear_head(), finetune_head()])
def test_heads_take_the_kept_tokens(head):
    model = recogniser(head, encoder(keep_ratio=0.3))
    inputs, samples = batch()
    model(inputs, samples, mode='loss')['loss_cls'].backward()
    model.eval()(inputs, samples, mode='predict')
    assert samples[0].pred_score.shape == (6,)


@pytest.mark.parametrize('labels', [[3], [0, 5, 2]])
def test_label_smoothing_is_torchs(labels):
    head = MODELS.build(finetune_head(label_smooth_eps=0.1))
    scores = torch.randn(len(labels), 6)
    samples = [ActionDataSample().set_gt_label(label) for label in labels]
    loss = head.loss_by_feat(scores, samples)['loss_cls']
    expected = F.cross_entropy(
        scores, torch.tensor(labels), label_smoothing=0.1
    )
    torch.testing.assert_close(loss, expected)


def test_finetune_head_drops_elements_of_the_features():
    head = MODELS.build(finetune_head(dropout=0.3)).train()
    seen = {}
    head.dropout.register_forward_hook(
        lambda module, args, out: seen.update(out=out)
    )
    head(torch.ones(16, 2, D, S, V))
    assert seen['out'].shape == (16, 2, D, S, V)
    dropped = (seen['out'] == 0).float().mean().item()
    assert dropped == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(
    'head, message',
    [
        (dict(finetune_head(), num_joints=25), r'num_joints=25.*set .*=7'),
        (
            dict(finetune_head(), in_channels=256),
            r'in_channels=256.*set .*=16',
        ),
        (dict(linear_head(), in_channels=8), r'in_channels=8'),
        (
            dict(type='GCNHead', num_classes=6, in_channels=64),
            'cls_head.in_channels=64 does not fit .* MAMPTransformer',
        ),
    ],
)
def test_a_head_that_does_not_fit_is_refused_at_building(head, message):
    with pytest.raises(ValueError, match=message):
        recogniser(head)


def test_a_head_of_other_arguments_is_taken():
    @MODELS.register_module(force=True)
    class FlatHead(BaseHead):
        """Whose channels are all numbers of a sample."""

        def forward(self, x):
            return x.flatten(1)[:, : self.num_classes]

    head = dict(type='FlatHead', num_classes=6, in_channels=V * D)
    assert recogniser(head).cls_head.in_channels == V * D


def test_label_outside_the_heads_classes():
    head, (_, samples) = MODELS.build(linear_head()), batch(labels=[0, 6])
    with pytest.raises(ValueError, match="'S001' has label 6.*num_classes=6"):
        head.loss_by_feat(torch.randn(2, 6), samples)


# Loading weights -------------------------------------------------------------


def test_pretrained_encoder_loads_into_a_recogniser_and_back():
    model, target = mamp(), recogniser()
    load_state_dict(target, model.state_dict())
    x = torch.randn(1, 2, T, V, 3)
    torch.testing.assert_close(target.backbone(x), model.backbone(x))
    other = mamp()  # an encoder alone starts a pre-training
    load_state_dict(other, target.state_dict())
    torch.testing.assert_close(other.backbone(x), model.backbone(x))


def test_temporal_embeddings_are_interpolated():
    short, long = mamp(), mamp(encoder(num_frames=48))
    load_state_dict(long, short.state_dict())
    for part in ('backbone', 'neck'):
        source = getattr(short, part).temporal_embed[:, :, 0].mT
        expected = F.interpolate(
            source, 12, mode='linear', align_corners=False
        )
        found = getattr(long, part).temporal_embed[:, :, 0].mT
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(long.neck.pred.weight, short.neck.pred.weight)


@pytest.mark.parametrize(
    'other, message',
    [
        (
            dict(num_joints=25),
            r'spatial_embed: \(1, 1, 25, 16\) instead of '
            r'\(1, 1, 7, 16\).*joints',
        ),
        (dict(embed_dims=32), r'\(32,\) instead of \(16,\)'),
        (dict(depth=1), r'missing backbone.blocks.1'),
        (dict(t_patch_size=2), r'patch_embed.weight: \(16, 6\)'),
    ],
)
def test_weights_of_another_shape_are_refused(other, message):
    state = mamp(encoder(**other)).state_dict()
    with pytest.raises(ValueError, match=message):
        load_state_dict(recogniser(), state)


@pytest.mark.parametrize(
    'make, layer', [(linear_head, 'fc'), (finetune_head, 'fc2')]
)
def test_a_head_with_other_classes_starts_anew(make, layer, monkeypatch):
    logged = []
    monkeypatch.setattr(
        classifier_head, 'print_log', lambda text, **_: logged.append(text)
    )
    state = recogniser(make(6)).state_dict()
    model = recogniser(make(4))
    before = getattr(model.cls_head, layer).weight.clone()
    load_state_dict(model, state)
    torch.testing.assert_close(getattr(model.cls_head, layer).weight, before)
    torch.testing.assert_close(
        model.backbone.norm.weight, state['backbone.norm.weight']
    )
    (text,) = logged
    assert 'has 6 classes, this head 4' in text


def test_a_head_of_another_size_is_refused():
    """Not left at random, with a warning."""
    state = recogniser(finetune_head(6)).state_dict()
    head = dict(finetune_head(6), hidden_dims=9)
    message = 'not fit this MAMPFinetuneHead: cls_head.fc1.weight: .* instead'
    with pytest.raises(ValueError, match=message):
        load_state_dict(recogniser(head), state)


# Bad input -------------------------------------------------------------------


@pytest.mark.parametrize(
    'cfg, message',
    [
        (encoder(num_frames=22), 'num_frames=22 .* t_patch_size=4'),
        (encoder(num_heads=5), 'num_heads=5'),
        (encoder(depth=0), 'depth=0'),
        (encoder(keep_ratio=0), r'keep_ratio=0 is outside \(0, 1\]'),
        (dict(type='MotionPredictionHead', target='bone'), "target='bone'"),
        (
            dict(type='MotionPredictionHead', norm_target='joint'),
            "norm_target='joint' is none of 'patch', 'clip'",
        ),
        (
            dict(type='MotionPredictionHead', motion_stride=0),
            'motion_stride=0',
        ),
    ],
)
def test_bad_arguments(cfg, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(cfg)


@pytest.mark.parametrize(
    'shape, mode, message',
    [
        ((2, 1, 2, T, 9, 3), 'loss', r'built for.*\(16, 7, 3\).*\(16, 9, 3'),
        ((2, 3, 2, T, V, 3), 'loss', 'num_clips=1'),
        ((2, 1, 2, T, V, 3), 'train', "mode='train'"),
    ],
)
def test_inputs_that_do_not_fit(shape, mode, message):
    with pytest.raises(ValueError, match=message):
        mamp()(torch.randn(shape), batch()[1], mode=mode)
    with pytest.raises(ValueError, match='motion_stride=16.* 16 frames'):
        mamp(motion_stride=16)(*batch(), mode='loss')


@pytest.mark.parametrize(
    'mask, message',
    [
        (torch.ones(2, 20).bool(), r"'S001' has shape \(2, 20\).*28"),
        (None, "no mask with sample 'S001'"),
        (torch.ones(2, 28).bool(), 'between 0 and 5'),
        (torch.ones(2, 28), "'S001' is of torch.float32; expected .*bool"),
    ],
)
def test_masks_that_do_not_fit(mask, message):
    inputs, samples = batch()
    del samples[1].mask
    if mask is not None:
        samples[1].mask = mask
    with pytest.raises(ValueError, match=message):
        mamp()(inputs, samples, mode='loss')
