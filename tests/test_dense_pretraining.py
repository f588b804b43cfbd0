"""MAMP with backbones that see whole skeletons, and as an auxiliary loss."""

from pathlib import Path

import mmaction
import numpy as np
import pytest
import torch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.runner import Runner, load_checkpoint
from synthetic import data_set, write
from torch.nn.modules.batchnorm import _BatchNorm

from mamp_mmaction import motion_aware_mask
from mamp_mmaction.datasets.skeleton_dataset import UNLABELLED
from mamp_mmaction.layouts import get_layout
from mamp_mmaction.models.masked_patches import features_to_tokens
from mamp_mmaction.models.recognizer_mamp import frozen_running_statistics

ZOO = Path(mmaction.__path__[0], '.mim', 'configs', 'skeleton')
STGCNPP = (
    ZOO / 'stgcnpp' / 'stgcnpp_8xb16-joint-u100-80e_ntu60-xsub-keypoint-3d.py'
)


def gcn(name, layout='nturgb+d', **kwargs):
    """A backbone of the toolbox, small, with 16 features."""
    graph = get_layout(layout).graph()
    size = dict(base_channels=4, num_stages=10, **kwargs)
    return {
        'stgcn': dict(
            type='STGCN', graph_cfg=dict(layout=graph, mode='stgcn_spatial')
        ),
        'stgcnpp': dict(
            type='STGCN',
            gcn_adaptive='init',
            gcn_with_res=True,
            tcn_type='mstcn',
            graph_cfg=dict(layout=graph, mode='spatial'),
        ),
        'aagcn': dict(
            type='AAGCN', graph_cfg=dict(layout=graph, mode='spatial')
        ),
    }[name] | (size | dict(base_channels=8) if name == 'stgcnpp' else size)


def width(backbone):
    return 4 * backbone['base_channels']


def decoder(backbone, frames=16, joints=25, **kwargs):
    return dict(
        type='MAMPDecoder',
        embed_dims=width(backbone),
        decoder_embed_dims=16,
        depth=1,
        num_heads=2,
        num_frames=frames,
        num_joints=joints,
        **kwargs,
    )


def mamp(backbone, **kwargs):
    return MODELS.build(
        dict(
            type='MAMP',
            backbone=backbone,
            neck=decoder(backbone, **kwargs),
            head=dict(type='MotionPredictionHead'),
        )
    )


def skeletons(samples, persons, frames, joints, channels=3):
    """Joints on circles of their own speeds: motion that can be learned."""
    rng = np.random.default_rng(0)
    speed = np.linspace(0.2, 0.6, joints)[:, None]
    phase = rng.uniform(0, 6, (samples, persons, 1, 1, 1))
    time = np.arange(frames)[:, None, None]
    axis = np.arange(channels) * np.pi / 2
    return np.sin(speed * time + axis + phase).astype(np.float32)


def batch(x, u=4, labels=None):
    samples = []
    for i, keypoint in enumerate(x):
        persons, frames, joints, _ = keypoint.shape
        noise = np.random.uniform(size=(persons, frames // u * joints))
        mask = motion_aware_mask(
            keypoint, noise, mask_ratio=0.7, tau=0.8, t_patch_size=u
        )
        sample = ActionDataSample(mask=torch.from_numpy(mask))
        samples.append(sample.set_gt_label(labels[i] if labels else 0))
    return torch.from_numpy(x)[:, None], samples


@pytest.mark.parametrize('name', ['stgcn', 'stgcnpp', 'aagcn'])
@pytest.mark.parametrize(
    'layout, persons, frames, channels, u',
    [
        ('nturgb+d', 2, 16, 3, 4),
        ('coco', 3, 20, 2, 2),
        ('msr_action3d', 1, 24, 3, 8),
    ],
)
def test_any_gcn_on_any_skeleton(name, layout, persons, frames, channels, u):
    joints = get_layout(layout).num_joints
    extra = dict(num_person=persons) if name == 'aagcn' else {}
    model = mamp(
        gcn(name, layout, in_channels=channels, **extra),
        frames=frames,
        joints=joints,
        in_channels=channels,
        t_patch_size=u,
    )
    x = skeletons(2, persons, frames, joints, channels)
    inputs, samples = batch(x, u)
    tokens = frames // u * joints
    pred = model(inputs, samples)
    assert pred.shape == (2 * persons, tokens, u * channels)
    losses = model(inputs, samples, mode='loss')
    losses['loss_motion'].backward()
    # Branches that start at zero have nothing to say yet, but are reached.
    assert all(p.grad is not None for p in model.parameters())
    assert model.masked_patches.token.grad.any()
    assert model.backbone.data_bn.weight.grad.any()
    result = model(inputs, samples, mode='predict')[0]
    assert result.pred_motion.shape == x.shape[1:]


def test_the_prediction_depends_on_visible_patches_alone():
    model = mamp(gcn('stgcnpp')).eval()
    x = skeletons(2, 2, 16, 25)
    inputs, samples = batch(x)
    mask = torch.stack([s.mask for s in samples])
    mask = mask.view(2, 1, 2, 4, 1, 25, 1).expand(-1, -1, -1, -1, 4, -1, 3)
    mask = mask.reshape(inputs.shape)
    changed = torch.where(mask, 9.0, inputs)
    before = model(inputs, samples)
    assert torch.equal(model(changed, samples), before)
    moved = torch.where(mask, inputs, inputs + 1)
    assert not torch.allclose(model(moved, samples), before)


@pytest.mark.parametrize('times', [4, 8, 3])
def test_features_become_one_token_a_patch(times):
    keypoint = torch.zeros(2, 3, 16, 5, 3)
    features = torch.randn(2, 3, 6, times, 5)
    tokens = features_to_tokens(features, keypoint, segments=4)
    assert tokens.shape == (6, 20, 6)
    if times == 4:
        assert torch.equal(
            tokens[1 * 3 + 2, 3 * 5 + 1], features[1, 2, :, 3, 1]
        )
    if times == 8:
        pair = features[1, 2, :, 6:8, 1].mean(dim=1)
        torch.testing.assert_close(tokens[1 * 3 + 2, 3 * 5 + 1], pair)
    if times == 3:
        torch.testing.assert_close(tokens[0, 2], features[0, 0, :, 0, 2])


@pytest.mark.parametrize('name', ['stgcn', 'stgcnpp', 'aagcn'])
def test_pretraining_falls_below_predicting_zero(name):
    model = mamp(gcn(name))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    x = skeletons(4, 2, 16, 25)
    for _ in range(120):
        losses = model(*batch(x), mode='loss')
        optimizer.zero_grad()
        losses['loss_motion'].backward()
        optimizer.step()
    assert losses['loss_motion'] < 0.8 * losses['mse_zero']


def stock_recognizer(**backbone):
    """ST-GCN++ as the toolbox's config has it, but for its width."""
    cfg = Config.fromfile(STGCNPP)
    cfg.merge_from_dict(
        dict(
            model=dict(
                backbone=dict(base_channels=8, **backbone),
                cls_head=dict(in_channels=32),
            )
        )
    )
    return MODELS.build(cfg.model)


def test_the_weights_load_into_the_stock_recognizer(tmp_path):
    graph = dict(layout='nturgb+d', mode='spatial')
    model = mamp(dict(gcn('stgcnpp'), graph_cfg=graph))
    for _ in range(3):
        model(*batch(skeletons(4, 2, 16, 25)), mode='loss')
    path = str(tmp_path / 'pretrained.pth')
    torch.save(dict(state_dict=model.state_dict()), path)

    recognizer = stock_recognizer()
    load_checkpoint(recognizer, path)
    init_cfg = dict(type='Pretrained', checkpoint=path, prefix='backbone.')
    other = stock_recognizer(init_cfg=init_cfg)
    other.init_weights()
    wanted = model.backbone.state_dict()
    assert wanted['data_bn.num_batches_tracked'] == 3
    for loaded in (recognizer, other):
        found = loaded.backbone.state_dict()
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(embed_dims=24), 'embed_dims=24, but the encoder gives 32'),
        (dict(num_joints=20), r'built for .* \(16, 20, 3\).*\(16, 25, 3\)'),
        (dict(t_patch_size=8), r'\(2, 100\).*needs.*\(2, 50\)'),
    ],
)
def test_a_decoder_that_does_not_fit(change, message):
    backbone = gcn('stgcnpp')
    neck = dict(decoder(backbone), **change)
    model = MODELS.build(
        dict(
            type='MAMP',
            backbone=backbone,
            neck=neck,
            head=dict(type='MotionPredictionHead'),
        )
    )
    with pytest.raises(ValueError, match=message):
        model(*batch(skeletons(2, 2, 16, 25)))


def test_head_and_decoder_share_the_patch_length():
    backbone = gcn('stgcn')
    model = mamp(backbone, t_patch_size=8)
    assert model.head.t_patch_size == 8
    with pytest.raises(ValueError, match='head.t_patch_size=2 contradicts'):
        MODELS.build(
            dict(
                type='MAMP',
                backbone=backbone,
                neck=decoder(backbone),
                head=dict(type='MotionPredictionHead', t_patch_size=2),
            )
        )


def test_a_backbone_that_merges_joints_is_refused():
    keypoint = torch.zeros(2, 2, 16, 25, 3)
    with pytest.raises(ValueError, match=r'keeps.*\(2, 16, 4, 1, 1\)'):
        features_to_tokens(torch.zeros(2, 16, 4, 1, 1), keypoint, 4)


# -- as an auxiliary loss ---------------------------------------------------


def auxiliary(backbone=None, weight=1.0, classes=3, **head):
    backbone = backbone or gcn('stgcnpp')
    return MODELS.build(
        dict(
            type='RecognizerMAMP',
            data_preprocessor=dict(type='SkeletonDataPreprocessor'),
            backbone=backbone,
            cls_head=dict(
                type='GCNHead', num_classes=classes, in_channels=32, topk=1
            ),
            motion_neck=decoder(dict(base_channels=8)),
            motion_head=dict(type='MotionPredictionHead', **head),
            motion_weight=weight,
        )
    )


TRANSFORMER = dict(
    type='MAMPTransformer',
    embed_dims=32,
    depth=1,
    num_heads=4,
    num_frames=16,
)


@pytest.mark.parametrize('backbone', [None, TRANSFORMER])
@pytest.mark.parametrize(
    'labels',
    [
        [0, 1, 2, 0],
        [0, UNLABELLED, 2, UNLABELLED],
        [UNLABELLED, 1, UNLABELLED, UNLABELLED],
        [UNLABELLED] * 4,
    ],
)
def test_labelled_samples_alone_are_classified(backbone, labels):
    model = auxiliary(backbone).eval()
    x = skeletons(4, 2, 16, 25)
    inputs, samples = batch(x, labels=labels)
    losses = model(inputs, samples, mode='loss')
    labelled = [i for i, label in enumerate(labels) if label != UNLABELLED]
    if labelled:
        scores = model.cls_head(model.backbone(inputs[labelled, 0]))
        target = torch.tensor([labels[i] for i in labelled])
        wanted = torch.nn.functional.cross_entropy(scores, target)
        torch.testing.assert_close(losses['loss_cls'], wanted)
    else:
        assert losses['loss_cls'] == 0
    assert losses['loss_motion'] > 0
    model.parse_losses(losses)[0].backward()
    for name, param in model.named_parameters():
        reached = labelled or 'cls_head' not in name
        assert (param.grad is not None) == bool(reached), name


@pytest.mark.parametrize('backbone', [None, TRANSFORMER])
def test_a_batch_without_labels_leaves_the_classification_head(backbone):
    model = MODELS.build(
        dict(
            type='RecognizerMAMP',
            data_preprocessor=dict(type='SkeletonDataPreprocessor'),
            backbone=backbone or gcn('stgcnpp'),
            cls_head=dict(
                type='LinearProbeHead', num_classes=3, in_channels=32
            ),
            motion_neck=decoder(dict(base_channels=8)),
            motion_head=dict(type='MotionPredictionHead'),
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), 0.1, weight_decay=0.1)

    def step(labels):
        data = batch(skeletons(4, 2, 16, 25), labels=labels)
        optimizer.zero_grad()
        model.parse_losses(model(*data, mode='loss'))[0].backward()
        optimizer.step()
        return {k: v.clone() for k, v in model.cls_head.state_dict().items()}

    before = step([0, 1, 2, 0])
    after = step([UNLABELLED] * 4)
    assert all(torch.equal(after[key], before[key]) for key in before)
    after = step([0, 1, 2, 0])
    assert not torch.equal(after['bn.running_var'], before['bn.running_var'])


def test_an_auxiliary_loss_encodes_no_absent_person(monkeypatch):
    model = auxiliary(dict(TRANSFORMER), ignore_absent=True)
    x = skeletons(3, 2, 16, 25)
    x[0, 1] = x[2, 0] = 0
    inputs, samples = batch(x, labels=[0, 1, 2])
    counts = []
    encode = model.backbone.encode
    monkeypatch.setattr(
        model.backbone,
        'encode',
        lambda x, visible=None: (counts.append(len(x)), encode(x, visible))[1],
    )
    model(inputs, samples, mode='loss')
    assert counts == [6, 4]  # classified, predicted


def test_the_motion_loss_is_that_of_mamp_times_its_weight():
    model = auxiliary(weight=0.5).eval()
    plain = mamp(gcn('stgcnpp')).eval()
    state = {
        key: value
        for key, value in model.state_dict().items()
        if 'cls_head' not in key
    }
    plain.load_state_dict(state)
    inputs, samples = batch(skeletons(4, 2, 16, 25), labels=[0, 1, 2, 0])
    found = model(inputs, samples, mode='loss')['loss_motion']
    wanted = plain(inputs, samples, mode='loss')['loss_motion']
    torch.testing.assert_close(found, 0.5 * wanted)


def test_running_statistics_are_those_of_whole_skeletons():
    model = auxiliary()
    twin = auxiliary()
    twin.load_state_dict(model.state_dict())
    inputs, samples = batch(skeletons(4, 2, 16, 25), labels=[0, 1, 2, 0])
    model(inputs, samples, mode='loss')
    twin.backbone(inputs[:, 0])
    for name, buffer in twin.backbone.named_buffers():
        assert torch.equal(buffer, model.backbone.get_buffer(name)), name
    with pytest.raises(KeyError), frozen_running_statistics(model):
        raise KeyError
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    assert norms and all(m.track_running_stats for m in norms)


def test_the_auxiliary_loss_trains(tmp_path):
    path = write(
        tmp_path / 'train.pkl', data_set(size=24, train=24, classes=3)
    )
    pipeline = [
        dict(type='CenterSkeleton'),
        dict(type='TemporalCropResize', num_frames=16),
        dict(type='FormatGCNInput', num_person=2),
        dict(type='MotionAwareMask', mask_ratio=0.7, tau=0.8),
        dict(type='PackActionInputs', algorithm_keys=('mask',)),
    ]
    runner = Runner(
        model=auxiliary(dict(TRANSFORMER)),
        work_dir=str(tmp_path),
        train_dataloader=dict(
            batch_size=8,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=True),
            dataset=dict(
                type='SkeletonDataset',
                ann_file=path,
                split='xsub_train',
                pipeline=pipeline,
                label_ratio=0.5,
                label_balanced=True,
                unlabelled='keep',
            ),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=30),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-2)),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
        default_scope='mmaction',
        experiment_name='auxiliary',
    )
    runner.train()
    hub = runner.message_hub
    for name in ('loss_cls', 'loss_motion'):
        values, _ = hub.get_scalar(f'train/{name}').data
        assert np.mean(values[-3:]) < 0.9 * np.mean(values[:3]), name


def test_an_auxiliary_recognizer_is_a_plain_one_in_evaluation():
    model = auxiliary().eval()
    plain = MODELS.build(
        dict(
            type='RecognizerGCN',
            backbone=gcn('stgcnpp'),
            cls_head=dict(type='GCNHead', num_classes=3, in_channels=32),
        )
    ).eval()
    missing = plain.load_state_dict(model.state_dict(), strict=False)
    assert not missing.missing_keys
    inputs, samples = batch(skeletons(4, 2, 16, 25))
    found = model(inputs, samples, mode='predict')
    wanted = plain(inputs, [s.clone() for s in samples], mode='predict')
    for a, b in zip(found, wanted):
        assert torch.equal(a.pred_score, b.pred_score)


def test_a_negative_weight_is_refused():
    with pytest.raises(ValueError, match='motion_weight=-1'):
        auxiliary(weight=-1)
