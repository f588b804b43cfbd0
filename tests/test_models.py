import copy
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.analysis import get_model_complexity_info
from mmengine.model import ExponentialMovingAverage
from mmengine.runner.checkpoint import load_state_dict

from mamp_mmaction.models import classifier_head
from mamp_mmaction.models.layers import (
    TransformerBlock,
    attend,
    transformer_blocks,
)
from mamp_mmaction.models.motion_prediction_head import MotionPredictionHead
from mamp_mmaction.patches import patchify


def num_parameters(model):
    return sum(param.numel() for param in model.parameters())


def encoder(**kwargs):
    cfg = dict(
        type='MAMPTransformer',
        embed_dims=32,
        depth=3,
        num_heads=4,
        num_frames=24,
        num_joints=20,
    )
    return dict(cfg, **kwargs)


def mamp(backbone=None, neck=None, compile_cfg=None, **head):
    return MODELS.build(
        dict(
            type='MAMP',
            compile_cfg=compile_cfg,
            backbone=backbone or encoder(),
            neck=dict(
                dict(type='MAMPDecoder', decoder_embed_dims=16, depth=1),
                **(neck or {}),
            ),
            head=dict(type='MotionPredictionHead', **head),
        )
    )


def recognizer(head, backbone=None):
    return MODELS.build(
        dict(
            type='RecognizerGCN',
            data_preprocessor=dict(type='SkeletonDataPreprocessor'),
            backbone=backbone or encoder(),
            cls_head=head,
        )
    )


def linear_head(num_classes=6):
    return dict(
        type='LinearProbeHead', num_classes=num_classes, in_channels=32
    )


def finetune_head(num_classes=6, **kwargs):
    return dict(
        type='MAMPFinetuneHead',
        num_classes=num_classes,
        in_channels=32,
        num_joints=20,
        hidden_dims=16,
        **kwargs,
    )


def batch(model, samples=2, persons=2):
    bone = model.backbone
    inputs = torch.randn(
        samples,
        1,
        persons,
        bone.num_frames,
        bone.num_joints,
        bone.in_channels,
    )
    tokens = bone.num_frames // bone.t_patch_size * bone.num_joints
    visible = int(tokens * 0.1)
    order = torch.rand(samples, persons, tokens).argsort(dim=-1)
    masks = order.argsort(dim=-1) >= visible
    return inputs, [ActionDataSample(mask=mask) for mask in masks]


# Sizes and initialisation ---------------------------------------------------


@pytest.mark.parametrize('depth, count', [(3, 8_789_004), (5, 10_368_524)])
def test_parameters_of_the_pretraining_model(depth, count):
    model = mamp(
        backbone=dict(type='MAMPTransformer'),
        neck=dict(depth=depth, decoder_embed_dims=256),
    )
    assert num_parameters(model) == count


@pytest.mark.parametrize(
    'head, count',
    [('MAMPFinetuneHead', 19_572_284), ('LinearProbeHead', 6_351_420)],
)
def test_parameters_of_the_classifiers(head, count):
    model = recognizer(
        dict(type=head, num_classes=60, in_channels=256),
        dict(type='MAMPTransformer'),
    )
    assert num_parameters(model) == count


def test_initialisation():
    backbone = MODELS.build(dict(type='MAMPTransformer'))
    decoder = MODELS.build(dict(type='MAMPDecoder'))
    for embedding in (
        backbone.spatial_embed,
        backbone.temporal_embed,
        decoder.spatial_embed,
        decoder.temporal_embed,
        decoder.mask_token,
    ):
        assert embedding.std().item() == pytest.approx(0.02, rel=0.15)

    block = backbone.blocks[0]
    for layer in (
        block.attn.qkv,
        block.attn.proj,
        block.mlp.fc1,
        block.mlp.fc2,
        decoder.embed,
        decoder.pred,
    ):
        bound = math.sqrt(6 / sum(layer.weight.shape))
        assert layer.weight.abs().max().item() == pytest.approx(bound, 0.01)
        assert not layer.bias.any()

    # torch's convolution of 4 frames x 3 coordinates
    bound = 1 / math.sqrt(12)
    weight, bias = backbone.patch_embed.weight, backbone.patch_embed.bias
    assert weight.abs().max().item() == pytest.approx(bound, rel=0.01)
    assert 0.9 * bound < bias.abs().max().item() <= bound


def test_initialisation_of_the_heads():
    probe = MODELS.build(dict(linear_head(60), in_channels=256))
    assert probe.fc.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not probe.fc.bias.any()
    head = MODELS.build(finetune_head())
    bound = math.sqrt(6 / sum(head.fc1.weight.shape))
    assert head.fc1.weight.abs().max().item() == pytest.approx(bound, 0.05)
    assert not head.fc1.bias.any() and not head.fc2.bias.any()


# Encoder ---------------------------------------------------------------------


@pytest.mark.parametrize(
    'persons, frames, joints, channels, t_patch',
    [
        (2, 120, 25, 3, 4),
        (1, 60, 20, 3, 5),
        (3, 16, 17, 2, 2),
        (2, 8, 18, 3, 8),
    ],
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
    assert backbone(x).shape == (2, persons, 32, frames // t_patch, joints)


def test_feature_map_keeps_time_and_joint_apart():
    """A change of one joint at one time changes its own token the most."""
    backbone = MODELS.build(encoder(depth=1)).eval()
    x = torch.randn(1, 1, 24, 20, 3)
    y = x.clone()
    y[0, 0, 8:12, 5] += 1  # segment 2
    change = (backbone(y) - backbone(x)).norm(dim=2)[0, 0]
    assert divmod(change.argmax().item(), 20) == (2, 5)


def test_persons_do_not_see_each_other():
    backbone = MODELS.build(encoder()).eval()
    x = torch.randn(1, 2, 24, 20, 3)
    y = x.clone()
    y[:, 1] = 0
    torch.testing.assert_close(backbone(x)[:, 0], backbone(y)[:, 0])


def test_encoding_the_visible_tokens_is_encoding_with_the_rest_left_out():
    """Visible tokens attend to each other alone."""
    backbone = MODELS.build(encoder()).eval()
    x = torch.randn(1, 24, 20, 3)
    visible = torch.tensor([[0, 7, 33, 119]])
    y = x.clone()
    y[:, 4:8, :13] = 9  # segment 1, joints 0 to 12: tokens 20 to 32
    torch.testing.assert_close(
        backbone.encode(x, visible), backbone.encode(y, visible)
    )
    everything = torch.arange(120)[None]
    torch.testing.assert_close(
        backbone.encode(x, everything), backbone.encode(x)
    )


def test_backbone_runs_under_the_toolboxs_head():
    head = dict(type='GCNHead', num_classes=6, in_channels=32)
    model = recognizer(head)
    samples = [ActionDataSample() for _ in range(3)]
    for sample, label in zip(samples, (0, 5, 2)):
        sample.set_gt_label(label)
    inputs = torch.randn(3, 1, 2, 24, 20, 3)
    loss = model(inputs, samples, mode='loss')['loss_cls']
    loss.backward()
    assert model.backbone.patch_embed.weight.grad.abs().sum() > 0
    scores = model.eval()(inputs, samples, mode='predict')
    assert scores[0].pred_score.sum().item() == pytest.approx(1)


def test_drop_path_rates_grow_linearly():
    rates = [
        block.drop_path.drop_prob
        for block in transformer_blocks(4, 8, 2, 4, 0.3)
    ]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3])


def test_drop_path_draws_per_person_and_branch():
    block = TransformerBlock(8, 2, 4, drop_path_rate=0.5)
    x = torch.randn(1, 5, 8).expand(4000, 5, 8)
    with torch.no_grad():
        out = block.train()(x)
        branch1 = 2 * block.attn(block.norm1(x[:1]))
        after1 = [x[:1], x[:1] + branch1]
        outcomes = [
            y + scale * block.mlp(block.norm2(y))
            for y in after1
            for scale in (0, 2)
        ]
    kinds = torch.stack(
        [(out - y).abs().amax(dim=(1, 2)) < 1e-4 for y in outcomes]
    )
    assert kinds.any(dim=0).all()  # nothing but these four happens
    share = kinds.float().mean(dim=1)
    torch.testing.assert_close(
        share, torch.full((4,), 0.25), rtol=0, atol=0.04
    )


# Target and loss -------------------------------------------------------------


def target_by_hand(x, target, stride, norm):
    """Loops over tokens, as the definition reads."""
    frames, joints, _ = x.shape
    if target == 'motion':
        moved = torch.zeros_like(x)
        for t in range(frames - stride):
            moved[t] = x[t + stride] - x[t]
        x = moved
    rows = []
    for t in range(0, frames, 4):
        for v in range(joints):
            patch = x[t : t + 4, v].reshape(-1)
            if norm:
                spread = ((patch - patch.mean()) ** 2).sum() / (len(patch) - 1)
                patch = (patch - patch.mean()) / (spread + 1e-6).sqrt()
            rows.append(patch)
    return torch.stack(rows)


@pytest.mark.parametrize('target', ['motion', 'joint'])
@pytest.mark.parametrize('stride', [1, 3, 8])
@pytest.mark.parametrize('norm', [True, False])
@pytest.mark.parametrize('channels', [2, 3])
def test_target_and_loss(target, stride, norm, channels):
    head = MotionPredictionHead(target, stride, norm)
    x = torch.randn(2, 16, 5, channels)
    expected = torch.stack(
        [target_by_hand(p, target, stride, norm) for p in x]
    )
    torch.testing.assert_close(head.target_patches(x), expected)

    pred = torch.randn(2, 20, 4 * channels)
    mask = torch.zeros(2, 20, dtype=torch.bool)
    mask[0, [1, 5]] = mask[1, [0, 19]] = True
    losses = head.loss(pred, x, mask)
    error = (pred - expected)[mask].square().mean()
    torch.testing.assert_close(losses[f'loss_{target}'], error)
    torch.testing.assert_close(
        losses['mse_zero'], expected[mask].square().mean()
    )


def test_predicting_zero_costs_at_most_eleven_twelfths():
    head = MotionPredictionHead()
    x = torch.randn(2, 120, 25, 3)
    mask = torch.ones(2, 750, dtype=torch.bool)
    pred = torch.zeros(2, 750, 12)
    zero = head.loss(pred, x, mask)['mse_zero'].item()
    assert zero == pytest.approx(11 / 12, abs=1e-4)
    x[1] = 0
    halved = head.loss(pred, x, mask)['mse_zero'].item()
    assert halved == pytest.approx(zero / 2, rel=1e-3)


def test_absent_persons_count_unless_left_out():
    x = torch.randn(2, 16, 5, 3)
    x[1] = 0
    pred = torch.randn(2, 20, 12)
    mask = torch.ones(2, 20, dtype=torch.bool)
    both = MotionPredictionHead().loss(pred, x, mask)
    present = MotionPredictionHead(ignore_absent=True).loss(pred, x, mask)
    alone = MotionPredictionHead().loss(pred[:1], x[:1], mask[:1])
    torch.testing.assert_close(present['loss_motion'], alone['loss_motion'])
    torch.testing.assert_close(present['mse_zero'], alone['mse_zero'])
    assert both['mse_zero'] < present['mse_zero']


@pytest.mark.parametrize('norm', [True, False])
@pytest.mark.parametrize('target', ['motion', 'joint'])
def test_a_perfect_prediction_is_the_motion_in_the_skeletons_units(
    target, norm
):
    head = MotionPredictionHead(target, motion_stride=2, norm_target=norm)
    x = torch.randn(3, 16, 5, 3) * 0.1
    back = head.predict(head.target_patches(x), x)
    expected = x
    if target == 'motion':
        expected = F.pad(x[:, 2:] - x[:, :-2], (0, 0, 0, 0, 0, 2))
    torch.testing.assert_close(back, expected, rtol=1e-4, atol=1e-6)


# Pre-training model ----------------------------------------------------------


def test_predict_gives_samples_with_motion():
    model = mamp().eval()
    inputs, samples = batch(model)
    out = model(inputs, samples, mode='predict')
    assert [sample.pred_motion.shape for sample in out] == [(2, 24, 20, 3)] * 2
    errors = torch.cat([sample.masked_errors for sample in out])
    losses = model(inputs, samples, mode='loss')
    torch.testing.assert_close(
        errors[:, 0].sum() / errors[:, 2].sum(), losses['loss_motion']
    )
    assert 'pred_joint' in mamp(target='joint')(inputs, samples, 'predict')[0]


def test_visible_and_masked_tokens_play_their_parts():
    """The prediction depends on visible tokens, never on masked ones."""
    model = mamp().eval()
    inputs, samples = batch(model, samples=1, persons=1)
    mask = samples[0].mask[0]
    pred = model(inputs, samples, mode='tensor')

    def with_noise_at(tokens):
        patches = patchify(inputs, 4)
        patches[..., tokens, :] += 1
        noisy = patches.reshape(1, 1, 1, 6, 20, 4, 3).transpose(4, 5)
        return model(noisy.reshape(inputs.shape), samples, mode='tensor')

    torch.testing.assert_close(with_noise_at(mask), pred)
    assert (with_noise_at(~mask) - pred).abs().max() > 1e-3


def test_decoder_takes_what_it_shares_from_the_encoder():
    model = mamp(backbone=encoder(num_frames=16, num_joints=17, in_channels=2))
    assert model.neck.spatial_embed.shape == (1, 1, 17, 16)
    assert model.neck.pred.out_features == 8
    with pytest.raises(ValueError, match='neck.num_joints=25 contradicts'):
        mamp(neck=dict(num_joints=25))
    with pytest.raises(ValueError, match='head.t_patch_size=2 contradicts'):
        mamp(t_patch_size=2)


@pytest.mark.parametrize('depth', [1, 5])
def test_decoder_may_be_deeper_than_the_encoder(depth):
    model = mamp(neck=dict(depth=depth))
    losses = model(*batch(model), mode='loss')
    losses['loss_motion'].backward()
    assert all(p.grad is not None for p in model.neck.parameters())


# Heads -----------------------------------------------------------------------


def labelled(labels):
    samples = [ActionDataSample() for _ in labels]
    for index, (sample, label) in enumerate(zip(samples, labels)):
        sample.set_gt_label(label)
        sample.set_metainfo(dict(frame_dir=f'S{index:03}'))
    return samples


@pytest.mark.parametrize('labels', [[3], [0, 5, 2]])
def test_label_smoothing_is_torchs(labels):
    head = MODELS.build(finetune_head(label_smooth_eps=0.1))
    scores = torch.randn(len(labels), 6)
    loss = head.loss_by_feat(scores, labelled(labels))['loss_cls']
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
    head(torch.ones(4, 2, 32, 6, 20))
    assert seen['out'].shape == (4, 2, 32, 6, 20)
    dropped = (seen['out'] == 0).float().mean().item()
    assert dropped == pytest.approx(0.3, abs=0.02)


# Loading weights -------------------------------------------------------------


def test_pretrained_encoder_loads_into_a_recognizer():
    model = mamp()
    target = recognizer(linear_head())
    load_state_dict(target, model.state_dict())
    x = torch.randn(1, 2, 24, 20, 3)
    torch.testing.assert_close(target.backbone(x), model.backbone(x))


def test_temporal_embedding_is_interpolated():
    short, long = MODELS.build(encoder()), MODELS.build(encoder(num_frames=48))
    load_state_dict(long, short.state_dict())
    source = short.temporal_embed[:, :, 0].transpose(1, 2)
    expected = F.interpolate(source, 12, mode='linear', align_corners=False)
    torch.testing.assert_close(
        long.temporal_embed[:, :, 0].transpose(1, 2), expected
    )
    torch.testing.assert_close(long.spatial_embed, short.spatial_embed)


def test_pretraining_goes_on_with_other_frames():
    source, target = mamp(), mamp(backbone=encoder(num_frames=48))
    load_state_dict(target, source.state_dict())
    assert target.neck.temporal_embed.shape[1] == 12
    torch.testing.assert_close(
        target.neck.pred.weight, source.neck.pred.weight
    )


@pytest.mark.parametrize(
    'other, message',
    [
        (
            dict(num_joints=25),
            r'spatial_embed: \(1, 1, 25, 32\) in the.*'
            r'\(1, 1, 20, 32\) in the model.*joints',
        ),
        (dict(embed_dims=64), r'\(64,\) in the checkpoint, \(32,\) in'),
        (dict(depth=2), r'missing backbone.blocks.2'),
        (dict(t_patch_size=2), r'patch_embed.weight: \(32, 6\)'),
    ],
)
def test_weights_of_another_shape_are_refused(other, message):
    state = mamp(backbone=encoder(**other)).state_dict()
    with pytest.raises(ValueError, match=message):
        load_state_dict(recognizer(linear_head()), state)


def test_weights_of_another_model_are_refused():
    with pytest.raises(ValueError, match='missing backbone.spatial_embed'):
        load_state_dict(
            recognizer(linear_head()), {'conv1.weight': torch.ones(1)}
        )


def test_an_encoder_alone_starts_a_pretraining():
    state = recognizer(linear_head()).state_dict()
    model = mamp()
    load_state_dict(model, state)
    torch.testing.assert_close(
        model.backbone.norm.weight, state['backbone.norm.weight']
    )


@pytest.mark.parametrize(
    'make, layer', [(linear_head, 'fc'), (finetune_head, 'fc2')]
)
def test_a_head_with_other_classes_starts_anew(make, layer, monkeypatch):
    logged = []
    monkeypatch.setattr(
        classifier_head, 'print_log', lambda text, **_: logged.append(text)
    )
    state = recognizer(make(6)).state_dict()
    model = recognizer(make(4))
    before = getattr(model.cls_head, layer).weight.clone()
    load_state_dict(model, state)
    torch.testing.assert_close(getattr(model.cls_head, layer).weight, before)
    torch.testing.assert_close(
        model.backbone.norm.weight, state['backbone.norm.weight']
    )
    assert len(logged) == 1
    assert 'has 6 classes, this head 4' in logged[0]


# Bad input -------------------------------------------------------------------


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(num_frames=22), 'num_frames=22 .* t_patch_size=4'),
        (dict(num_heads=5), 'num_heads=5'),
        (dict(depth=0), 'depth=0'),
    ],
)
def test_encoder_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(encoder(**kwargs))


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(target='bone'), "target='bone'"),
        (dict(motion_stride=0), 'motion_stride=0'),
    ],
)
def test_head_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        MotionPredictionHead(**kwargs)


def test_stride_beyond_the_clip():
    head = MotionPredictionHead(motion_stride=16)
    with pytest.raises(ValueError, match='motion_stride=16.* 16 frames'):
        head.target_patches(torch.randn(1, 16, 5, 3))


def test_input_of_another_shape():
    model = recognizer(linear_head())
    with pytest.raises(ValueError, match=r'\(24, 20, 3\).*\(24, 25, 3\)'):
        model(torch.randn(1, 1, 2, 24, 25, 3))


def test_masks_that_do_not_fit():
    model = mamp()
    inputs, samples = batch(model)
    samples[1].set_metainfo(dict(frame_dir='S007'))
    samples[1].mask = samples[1].mask[:, :60]
    with pytest.raises(ValueError, match=r"'S007' has shape \(2, 60\).*120"):
        model(inputs, samples, mode='loss')
    del samples[1].mask
    with pytest.raises(ValueError, match="no mask with sample 'S007'"):
        model(inputs, samples, mode='loss')


def test_masks_of_unequal_length_are_refused():
    model = mamp()
    inputs, samples = batch(model)
    samples[0].mask[0] = True
    with pytest.raises(ValueError, match='between 0 and 12'):
        model(inputs, samples, mode='loss')


def test_several_clips_are_refused():
    model = mamp()
    _, samples = batch(model)
    with pytest.raises(ValueError, match='num_clips=1'):
        model(torch.randn(2, 3, 2, 24, 20, 3), samples, mode='loss')


@pytest.mark.parametrize('label', [6, 99])
def test_label_outside_the_heads_classes(label):
    head = MODELS.build(linear_head())
    with pytest.raises(
        ValueError, match=f"'S001' has label {label}.*num_classes=6"
    ):
        head.loss_by_feat(torch.randn(2, 6), labelled([0, label]))


def test_ragged_batch():
    preprocessor = MODELS.build(dict(type='SkeletonDataPreprocessor'))
    inputs = [torch.zeros(1, 2, 24, 20, 3), torch.zeros(1, 1, 24, 20, 3)]
    with pytest.raises(ValueError, match=r"Ragged.*'S001' has \(1, 1, 24"):
        preprocessor(dict(inputs=inputs, data_samples=labelled([0, 1])))


def test_batches_are_stacked_as_float32():
    preprocessor = MODELS.build(dict(type='SkeletonDataPreprocessor'))
    inputs = [torch.ones(1, 2, 24, 20, 3).double() * i for i in range(3)]
    data = preprocessor(dict(inputs=inputs, data_samples=labelled([0, 1, 2])))
    assert data['inputs'].dtype == torch.float32
    assert data['inputs'][:, 0, 0, 0, 0, 0].tolist() == [0, 1, 2]


def counted(model, monkeypatch):
    """Notes how many persons the encoder computes."""
    counts = []
    encode = model.encode

    def count(keypoint, visible=None):
        counts.append(len(keypoint))
        return encode(keypoint, visible)

    monkeypatch.setattr(model, 'encode', count)
    return counts


@pytest.mark.parametrize('keep_ratio', [1.0, 0.4])
def test_each_distinct_person_is_computed_once(keep_ratio, monkeypatch):
    model = MODELS.build(encoder(keep_ratio=keep_ratio))
    x = torch.randn(5, 3, 24, 20, 3)
    x[0, 1:] = 0  # one person
    x[1, 2] = x[1, 0]  # one person twice
    x[2, 0] = 0  # the second and third alone
    x[3, 1] = x[3, 2] = x[3, 0]
    x[4, 2] = x[0, 0]  # somebody of another sample
    counts = counted(model, monkeypatch)
    every = model(x)
    assert counts == [15]
    distinct = model.eval()(x)
    assert counts == [15, 1 + 1 + 2 + 2 + 1 + 3]
    torch.testing.assert_close(distinct, every, rtol=1e-6, atol=1e-6)
    nobody = model(torch.zeros(2, 2, 24, 20, 3))
    assert counts[-1] == 1
    torch.testing.assert_close(nobody[1, 1], every[0, 1])
    x[4, 2, 5, 5] = torch.nan
    assert model(x)[4, 2].isnan().any() and not model(x)[4, 1].isnan().any()


def test_gradients_reach_a_person_once_for_every_copy():
    model = MODELS.build(encoder())
    x = torch.randn(2, 2, 24, 20, 3)
    x[1, 1] = x[1, 0]
    weight = torch.randn(2, 2, 32, 6, 20)
    gradients = []
    for training in (True, False):
        model.train(training).zero_grad()
        (model(x) * weight).sum().backward()
        gradients.append(model.patch_embed.weight.grad.clone())
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


def test_the_most_moving_tokens_of_every_joint_are_kept(monkeypatch):
    model = MODELS.build(encoder(keep_ratio=0.5)).eval()
    assert model.kept_segments == 3
    x = torch.randn(1, 1, 1, 20, 3).repeat(2, 2, 24, 1, 1)
    x[:, :, 12:, 7] += 1  # joint 7 jumps at segment 3,
    x[:, :, 20:, 7] += 2  # and farther at segment 5
    x[:, :, 4:8, 9] -= 1  # joint 9 is elsewhere in segment 1
    seen = []
    encode = model.encode
    monkeypatch.setattr(
        model, 'encode', lambda k, v: (seen.append(v), encode(k, v))[1]
    )
    features = model(x)
    assert features.shape == (2, 2, 32, 3, 20)
    places = seen[0].view(-1, 3, 20)
    assert (places % 20 == torch.arange(20)).all()
    segments = places // 20
    assert (segments.diff(dim=1) > 0).all()
    assert {3, 5} <= set(segments[0, :, 7].tolist())
    # The first segment repeats the second's motion.
    assert segments[0, :, 9].tolist() == [0, 1, 2]
    full = MODELS.build(encoder(keep_ratio=1.0))
    full.load_state_dict(model.state_dict())
    assert full.eval()(x).shape == (2, 2, 32, 6, 20)


@pytest.mark.parametrize('head', [linear_head(), finetune_head()])
def test_heads_take_the_kept_tokens(head):
    model = recognizer(head, encoder(keep_ratio=0.2))
    inputs, samples = batch(model)
    for sample in samples:
        sample.set_gt_label(1)
    losses = model(inputs, samples, mode='loss')
    losses['loss_cls'].backward()
    model.eval()(inputs, samples, mode='predict')
    assert samples[0].pred_score.shape == (6,)


def test_absent_persons_can_be_left_out_of_everything(monkeypatch):
    counting = mamp(ignore_absent=True)
    inputs, samples = batch(counting, samples=3)
    inputs[0, 0, 1] = 0
    inputs[2, 0, 0] = 0
    wanted = counting.head.loss(
        counting(inputs, samples),
        inputs.flatten(0, 2),
        torch.cat([s.mask for s in samples]),
    )
    counts = counted(counting.backbone, monkeypatch)
    found = counting(inputs, samples, mode='loss')
    assert counts == [4]
    torch.testing.assert_close(found, wanted)
    nobody = counting(torch.zeros_like(inputs), samples, mode='loss')
    assert nobody['loss_motion'] == 0
    nobody['loss_motion'].backward()


def test_a_predicted_sample_holds_no_more_than_itself():
    model = mamp()
    inputs, samples = batch(model, samples=3)
    for sample in model(inputs, samples, mode='predict'):
        motion = sample.pred_motion
        assert motion.untyped_storage().nbytes() == motion.nbytes


COMPILED = dict(fullgraph=True, backend='aot_eager')


def test_compiled_losses_are_the_same():
    model = mamp()
    compiled = mamp(compile_cfg=COMPILED)
    compiled.load_state_dict(model.state_dict())
    inputs, samples = batch(model)
    losses = [m(inputs, samples, mode='loss') for m in (model, compiled)]
    torch.testing.assert_close(*losses)
    for loss in losses:
        loss['loss_motion'].backward()
    for a, b in zip(model.parameters(), compiled.parameters()):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize(
    'copied', [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))]
)
def test_a_copy_of_a_compiled_model_computes_with_its_own_weights(copied):
    model = mamp(compile_cfg=COMPILED)
    data = batch(model)
    before = model(*data, mode='loss')['loss_motion']
    other, plain = copied(model), mamp()
    with torch.no_grad():
        for param in other.parameters():
            param.mul_(0.5)
    plain.load_state_dict(other.state_dict())
    wanted = plain(*data, mode='loss')['loss_motion']
    assert abs(wanted - before) > 1e-3
    for m, loss in ((other, wanted), (model, before)):
        found = m(*data, mode='loss')['loss_motion']
        torch.testing.assert_close(found, loss)


def test_a_compiled_model_has_a_moving_average():
    model = mamp(compile_cfg=COMPILED)
    data = batch(model)
    first = model(*data, mode='loss')['loss_motion']
    average = ExponentialMovingAverage(model, momentum=0.5)
    average.update_parameters(model)
    token = model.neck.mask_token.clone()
    with torch.no_grad():
        for param in model.parameters():
            param.zero_()
    average.update_parameters(model)
    torch.testing.assert_close(average.module.neck.mask_token, token / 2)
    moved = average(*data, mode='loss')['loss_motion']
    assert abs(moved - first) > 1e-4


def test_features_of_a_pretraining_model():
    """Whole skeletons, as from a recogniser of the toolbox."""
    model = mamp().eval()
    x = torch.randn(2, 3, 2, 24, 20, 3)
    features, kwargs = model.extract_feat(x)
    assert kwargs == {} and features.shape == (6, 2, 32, 6, 20)
    plain = recognizer(linear_head()).eval()
    plain.backbone.load_state_dict(model.backbone.state_dict())
    torch.testing.assert_close(features, plain.extract_feat(x)[0])
    with pytest.raises(ValueError, match="stage='head'"):
        model.extract_feat(x, stage='head')


def test_the_toolboxs_flop_counter_takes_a_pretraining_model():
    model = mamp().eval()
    model.forward = model.extract_feat  # as get_flops.py does
    found = get_model_complexity_info(model, (1, 2, 24, 20, 3))
    encoder = num_parameters(model.backbone.blocks)
    linear = 3 * 4 * 3 * 32 * 32  # depth, qkv + proj + two of the perceptron
    assert found['params'] >= encoder
    assert found['flops'] >= 2 * 120 * linear


def test_an_exported_model_computes_everybody():
    """Who is equal depends on the data, and a trace must not."""
    model = MODELS.build(encoder()).eval()
    absent = torch.randn(1, 2, 24, 20, 3)
    absent[:, 1] = 0
    both = torch.randn(1, 2, 24, 20, 3)
    traced = torch.jit.trace(model, absent)
    exported = torch.export.export(model, (absent,)).module()
    compiled = torch.compile(model, backend='eager', fullgraph=True)
    for other in (traced, exported, compiled):
        torch.testing.assert_close(other(both), model(both))


def test_attention_in_bfloat16_is_that_of_its_inputs():
    q, k, v = torch.randn(3, 2, 4, 30, 8).bfloat16()
    wanted = torch.softmax(q.float() @ k.float().mT / 8**0.5, dim=-1)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = attend(q.requires_grad_(), k, v)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, (wanted @ v.float()).bfloat16())
    found.float().sum().backward()
    assert q.grad.dtype == torch.bfloat16 and q.grad.isfinite().all()
