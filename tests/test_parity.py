"""Agreement with numbers that the reference implementation gave."""

import numpy as np
import pytest
import torch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample

from mamp_mmaction import motion_aware_mask
from mamp_mmaction.datasets.transforms.random_rotate_3d import rotation_matrix
from mamp_mmaction.datasets.transforms.temporal_crop_resize import (
    TemporalCropResize,
    resize_frames,
)
from mamp_mmaction.engine import MAMPLayerDecayConstructor
from mamp_mmaction.models.reference_weights import from_reference

MASKS = {'mamp': None, 'random': 0.0, 'mae': 0.0}  # name: tau, None = config's


def encoder_cfg(config):
    return dict(
        type='MAMPTransformer',
        embed_dims=config.dim_feat,
        depth=config.depth,
        num_heads=config.num_heads,
        mlp_ratio=config.mlp_ratio,
        num_frames=config.num_frames,
        num_joints=config.num_joints,
        t_patch_size=config.t_patch_size,
    )


def build_mamp(parity, target='motion'):
    config = parity.config
    model = MODELS.build(
        dict(
            type='MAMP',
            backbone=encoder_cfg(config),
            neck=dict(
                type='MAMPDecoder',
                decoder_embed_dims=config.decoder_dim_feat,
                depth=config.decoder_depth,
            ),
            head=dict(
                type='MotionPredictionHead',
                target=target,
                motion_stride=config.motion_stride,
                norm_target=config.norm_target,
            ),
        )
    )
    model.load_state_dict(from_reference(parity.state))
    return model


def build_recognizer(parity, name, head):
    config = parity.config
    num_classes = parity.arrays[f'{name}.logits'].shape[1]
    model = MODELS.build(
        dict(
            type='RecognizerGCN',
            backbone=encoder_cfg(config),
            cls_head=dict(
                num_classes=num_classes, in_channels=config.dim_feat, **head
            ),
        )
    )
    encoder = {
        key: value
        for key, value in parity.state.items()
        if 'decoder' not in key and key != 'mask_token'
    }
    state = {**encoder, **parity.tensors(f'{name}.state.')}
    model.load_state_dict(from_reference(state))
    return model.eval()


def samples(masks, num_persons):
    masks = torch.as_tensor(masks).bool().unflatten(0, (-1, num_persons))
    return [ActionDataSample(mask=mask) for mask in masks]


def draw_masks(parity, uniform, tau):
    config = parity.config
    masks = [
        motion_aware_mask(
            x[0].numpy(),
            noise,
            mask_ratio=config.mask_ratio,
            tau=tau,
            t_patch_size=config.t_patch_size,
        )
        for x, noise in zip(
            parity.inputs, np.split(uniform, len(parity.inputs))
        )
    ]
    return np.concatenate(masks)


@pytest.mark.parametrize('name', MASKS)
def test_masks_are_identical(parity, name):
    tau = parity.config.tau if MASKS[name] is None else MASKS[name]
    masks = draw_masks(parity, parity.arrays['uniform'], tau)
    np.testing.assert_array_equal(masks, parity.arrays[f'{name}.mask'] == 1)


@pytest.mark.parametrize('name', MASKS)
def test_loss(parity, name):
    model = build_mamp(parity, 'joint' if name == 'mae' else 'motion')
    data = samples(parity.arrays[f'{name}.mask'], parity.config.num_persons)
    losses = model(parity.inputs, data, mode='loss')
    loss = losses['loss_joint' if name == 'mae' else 'loss_motion'].item()
    assert loss == pytest.approx(float(parity.arrays[f'{name}.loss']), 1e-5)


def test_prediction_and_gradients(parity):
    model = build_mamp(parity)
    data = samples(parity.arrays['mamp.mask'], parity.config.num_persons)

    pred = model(parity.inputs, data, mode='tensor').detach().numpy()
    expected = parity.arrays['mamp.pred']
    np.testing.assert_allclose(
        pred, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max()
    )

    model(parity.inputs, data, mode='loss')['loss_motion'].backward()
    grad = from_reference(parity.grad)
    for key, param in model.named_parameters():
        limit = 1e-4 * grad[key].abs().max().item()
        difference = (param.grad - grad[key]).abs().max().item()
        assert difference <= limit, key


def test_trajectory(parity):
    model = build_mamp(parity)
    constructor = MAMPLayerDecayConstructor(
        dict(
            type='OptimWrapper',
            optimizer=dict(
                type='AdamW', lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05
            ),
        )
    )
    optim_wrapper = constructor(model)
    losses = []
    for uniform in parity.arrays['traj.uniform']:
        masks = draw_masks(parity, uniform, parity.config.tau)
        data = samples(masks, parity.config.num_persons)
        loss = model(parity.inputs, data, mode='loss')['loss_motion']
        losses.append(loss.item())
        optim_wrapper.update_params(loss)
    np.testing.assert_allclose(losses, parity.arrays['traj.loss'], rtol=1e-5)


@pytest.mark.parametrize(
    'name, head',
    [
        ('linprobe', dict(type='LinearProbeHead')),
        ('finetune', dict(type='MAMPFinetuneHead', hidden_dims=32)),
    ],
)
def test_logits(parity, name, head):
    if name == 'finetune':
        head = dict(head, num_joints=parity.config.num_joints)
    model = build_recognizer(parity, name, head)
    logits = model(parity.inputs, stage='head').detach().numpy()
    np.testing.assert_allclose(
        logits, parity.arrays[f'{name}.logits'], rtol=1e-5, atol=1e-6
    )


def test_training_crop_and_resize(parity, monkeypatch):
    arrays, config = parity.arrays, parity.config
    monkeypatch.setattr(
        np.random, 'uniform', lambda *_: float(arrays['pipe.crop_ratio'])
    )
    monkeypatch.setattr(
        np.random, 'randint', lambda *_: int(arrays['pipe.crop_start'])
    )
    raw = arrays['pipe.raw'].transpose(3, 1, 2, 0)  # (M, T_raw, V, C)
    crop = TemporalCropResize(config.num_frames)
    start, stop = crop._train_crop(raw.shape[1])
    assert stop - start == arrays['pipe.crop_length']
    clip = crop(dict(keypoint=raw))['keypoint']
    expected = arrays['pipe.train'].transpose(3, 1, 2, 0)
    np.testing.assert_allclose(clip, expected, atol=1e-5)


def test_test_crop_and_resize(parity):
    raw = parity.arrays['pipe.raw'].transpose(3, 1, 2, 0)
    crop = TemporalCropResize(parity.config.num_frames, test_mode=True)
    clip = crop(dict(keypoint=raw))['keypoint']
    expected = parity.arrays['pipe.test'].transpose(3, 1, 2, 0)
    np.testing.assert_allclose(clip, expected, atol=1e-5)


def test_rotation(parity):
    arrays = parity.arrays
    matrix = rotation_matrix(arrays['pipe.rot_angles'])
    np.testing.assert_allclose(matrix, arrays['pipe.rot_matrix'], atol=1e-6)
    clip = arrays['pipe.train'].transpose(3, 1, 2, 0)
    expected = arrays['pipe.rotated'].transpose(3, 1, 2, 0)
    np.testing.assert_allclose(clip @ matrix.T, expected, atol=1e-5)


@pytest.mark.parametrize('length', [5, 16, 40, 83])
def test_resize_is_torchs_interpolation(length):
    x = np.random.default_rng(0).normal(size=(2, length, 3, 3))
    x = x.astype(np.float32)
    curves = torch.from_numpy(x).double()
    curves = curves.permute(0, 2, 3, 1).flatten(1, 2)
    expected = torch.nn.functional.interpolate(
        curves, 24, mode='linear', align_corners=False
    )
    expected = expected.unflatten(1, (3, 3)).permute(0, 3, 1, 2).numpy()
    np.testing.assert_allclose(resize_frames(x, 24), expected, atol=1e-5)
