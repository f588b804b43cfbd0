"""MAMP with backbones that see whole skeletons, and as an auxiliary loss."""

import copy
from pathlib import Path

import mmaction
import numpy as np
import pytest
import torch
import torch.nn as nn
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from small_models import (
    POSEC3D,
    SMALL_GCN,
    D,
    T,
    auxiliary_of,
    batch,
    count_encoded,
    encoder,
    gcn,
    gcn_head,
    linear_head,
    pretraining,
    recogniser,
)
from torch.nn.modules.batchnorm import _BatchNorm

from mamp_mmaction.datasets.skeleton_dataset import UNLABELLED
from mamp_mmaction.layouts import get_layout
from mamp_mmaction.models.masked_patches import features_to_tokens
from mamp_mmaction.models.recognizer_mamp import frozen_running_statistics

ZOO = Path(mmaction.__path__[0], '.mim', 'configs', 'skeleton')
STGCNPP = (
    ZOO / 'stgcnpp' / 'stgcnpp_8xb16-joint-u100-80e_ntu60-xsub-keypoint-3d.py'
)
J = 25  # joints of NTU RGB+D


@MODELS.register_module()
class ProjectGCN(nn.Module):
    """Laid out as CTR-GCN and MS-G3D in the toolbox's projects/.

    These are not in its wheel. Their normalisation is of all persons, they
    know no ``init_cfg``, and MS-G3D has 3D convolutions inside.
    """

    def __init__(self, in_channels=3, num_person=2):
        super().__init__()
        self.data_bn = nn.BatchNorm1d(num_person * in_channels * J)
        self.register_buffer('A', torch.rand(J, J).softmax(dim=1))
        self.PA = nn.Parameter(torch.full((J, J), 1e-3))
        self.net = nn.ModuleList([nn.Conv2d(in_channels, D, 1)])
        self.window = nn.Conv3d(D, D, (1, 3, 1), padding=(0, 1, 0))

    def init_weights(self):
        nn.init.constant_(self.data_bn.weight, 1)

    def forward(self, x):
        N, M, T, V, C = x.size()
        x = x.permute(0, 1, 3, 4, 2).contiguous().view(N, M * V * C, T)
        x = self.data_bn(x).view(N * M, V, C, T).permute(0, 2, 3, 1)
        x = self.net[0](x.contiguous()) @ (self.A + self.PA)
        x = self.window(x[:, :, None]).squeeze(2)[:, :, ::2]
        return x.reshape((N, M) + x.shape[1:])


def mamp_cfg(backbone, head=None, **neck):
    sizes = dict(embed_dims=D, num_frames=T, num_joints=J)
    return pretraining(backbone, dict(sizes, **neck), **(head or {}))


def mamp(*args, **kwargs):
    return MODELS.build(mamp_cfg(*args, **kwargs))


def auxiliary(backbone=None, weight=1.0, cls_head=None, **head):
    cfg = mamp_cfg(backbone or gcn(), head)
    return MODELS.build(auxiliary_of(cfg, cls_head, motion_weight=weight))


def skeletons(samples=4, persons=2, frames=T, joints=J, channels=3):
    """Joints on circles of their own speeds: motion that can be learned."""
    speed = torch.linspace(0.2, 0.6, joints)[:, None]
    phase = 6 * torch.rand(samples, 1, persons, 1, 1, 1)
    axis = torch.arange(channels) * np.pi / 2
    return torch.sin(
        speed * torch.arange(frames)[:, None, None] + axis + phase
    )


def circling(labels=None):
    _, samples = batch(4, joints=J, labels=labels)
    return skeletons(), samples


# Pre-training ----------------------------------------------------------------


@pytest.mark.parametrize(
    'name, layout, persons, frames, channels, u',
    [
        ('stgcn', 'nturgb+d', 2, 16, 3, 4),
        ('stgcnpp', 'coco', 3, 20, 2, 2),
        ('aagcn', 'msr_action3d', 1, 24, 3, 8),
    ],
)
def test_any_gcn_on_any_skeleton(name, layout, persons, frames, channels, u):
    joints = get_layout(layout).num_joints
    extra = dict(num_person=persons) if name == 'aagcn' else {}
    model = mamp(
        gcn(name, layout, in_channels=channels, **extra),
        num_frames=frames,
        num_joints=joints,
        in_channels=channels,
        t_patch_size=u,
    )
    assert model.head.t_patch_size == u
    inputs, samples = batch(2, persons, frames, joints, channels, u)
    pred = model(inputs, samples)
    assert pred.shape == (2 * persons, frames // u * joints, u * channels)
    model(inputs, samples, mode='loss')['loss_motion'].backward()
    # Branches that start at zero have nothing to say yet, but are reached.
    assert all(p.grad is not None for p in model.parameters())
    assert model.masked_patches.token.grad.any()
    assert model.backbone.data_bn.weight.grad.any()
    result = model(inputs, samples, mode='predict')[0]
    assert result.pred_motion.shape == inputs.shape[2:]


def test_the_prediction_depends_on_visible_patches_alone():
    model = mamp(gcn()).eval()
    inputs, samples = circling()
    mask = torch.stack([s.mask for s in samples])
    mask = mask.view(4, 1, 2, T // 4, 1, J, 1).expand(-1, -1, -1, -1, 4, -1, 3)
    mask = mask.reshape(inputs.shape)
    before = model(inputs, samples)
    changed = torch.where(mask, 9.0, inputs)
    assert torch.equal(model(changed, samples), before)
    moved = torch.where(mask, inputs, inputs + 1)
    assert not torch.allclose(model(moved, samples), before)


@pytest.mark.parametrize('times', [4, 8, 3])
def test_features_become_one_token_a_patch(times):
    keypoint = torch.zeros(2, 3, 16, 5, 3)
    features = torch.randn(2, 3, 6, times, 5)
    tokens = features_to_tokens(features, keypoint, segments=4)
    assert tokens.shape == (6, 20, 6)
    if times == 8:
        features = features.unflatten(3, (4, 2)).mean(dim=4)
    if times == 3:
        features = features[:, :, :, [0, 0, 2, 2]]  # the ends, at least
    for segment in (0, 3):
        torch.testing.assert_close(
            tokens[1 * 3 + 2, segment * 5 + 1], features[1, 2, :, segment, 1]
        )


def stock_recogniser(**backbone):
    """ST-GCN++ as the toolbox's config has it, but small."""
    cfg = Config.fromfile(STGCNPP)
    cfg.model.backbone.update(SMALL_GCN, **backbone)
    cfg.model.cls_head.update(in_channels=D)
    return MODELS.build(cfg.model)


@pytest.mark.parametrize('name', ['ST-GCN++', 'CTR-GCN and MS-G3D'])
def test_the_weights_load_into_the_stock_recogniser(tmp_path, name):
    graph = dict(layout='nturgb+d', mode='spatial')
    if name == 'ST-GCN++':
        model = mamp(dict(gcn(), graph_cfg=graph))
        loaded = stock_recogniser()
    else:
        model = mamp(dict(type='ProjectGCN'))
        loaded = recogniser(gcn_head(), dict(type='ProjectGCN'))
    model.init_weights()
    for _ in range(3):
        model(*circling(), mode='loss')['loss_motion'].backward()
    path = str(tmp_path / 'pretrained.pth')
    torch.save(dict(state_dict=model.state_dict()), path)

    loaded.init_weights()
    load_checkpoint(loaded, path)  # as load_from does
    recognisers = [loaded]
    if name == 'ST-GCN++':
        init_cfg = dict(type='Pretrained', checkpoint=path, prefix='backbone.')
        recognisers.append(stock_recogniser(init_cfg=init_cfg))
        recognisers[-1].init_weights()
    wanted = model.backbone.state_dict()
    assert wanted['data_bn.num_batches_tracked'] == 3
    for other in recognisers:
        found = other.backbone.state_dict()
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(embed_dims=24), 'embed_dims=24, but the encoder gives 16'),
        (dict(num_joints=20), r'built for .* \(16, 20, 3\).*\(16, 25, 3\)'),
        (dict(t_patch_size=8), r'\(2, 100\).*needs.*\(2, 50\)'),
        (dict(head=dict(t_patch_size=2)), 'head.t_patch_size=2 contradicts'),
    ],
)
def test_a_decoder_that_does_not_fit(change, message):
    with pytest.raises(ValueError, match=message):
        mamp(gcn('stgcn'), **change)(*circling())
    with pytest.raises(ValueError, match=r'keeps.*\(2, 16, 4, 1, 1\)'):
        features_to_tokens(
            torch.zeros(2, 16, 4, 1, 1), torch.zeros(2, 2, 16, 25, 3), 4
        )


@pytest.mark.parametrize('kind', ['MAMP', 'RecognizerMAMP'])
def test_posec3d_is_refused_for_what_it_is(kind):
    build = auxiliary if kind == 'RecognizerMAMP' else mamp
    with pytest.raises(ValueError, match='SlowOnly begins .*of PoseC3D'):
        build(POSEC3D)


# As an auxiliary loss --------------------------------------------------------


TRANSFORMER = encoder(num_joints=J)
BACKBONES = pytest.mark.parametrize('backbone', [None, TRANSFORMER])


@BACKBONES
@pytest.mark.parametrize(
    'labels',
    [
        [0, 1, 2, 0],
        [UNLABELLED, 1, UNLABELLED, UNLABELLED],
        [UNLABELLED] * 4,
    ],
)
def test_labelled_samples_alone_are_classified(backbone, labels):
    model = auxiliary(backbone).eval()
    inputs, samples = circling(labels)
    losses = model(inputs, samples, mode='loss')
    labelled = [i for i, label in enumerate(labels) if label != UNLABELLED]
    if labelled:
        scores = model.cls_head(model.backbone(inputs[labelled, 0]))
        target = torch.tensor([labels[i] for i in labelled])
        wanted = nn.functional.cross_entropy(scores, target)
        torch.testing.assert_close(losses['loss_cls'], wanted)
    else:
        assert losses['loss_cls'] == 0
    assert losses['loss_motion'] > 0
    model.parse_losses(losses)[0].backward()
    for name, param in model.named_parameters():
        reached = bool(labelled) or 'cls_head' not in name
        assert (param.grad is not None) == reached, name


def test_norms_are_those_of_the_whole_batch():
    """Also where one sample alone has a label."""
    inputs, samples = circling([UNLABELLED, 1, UNLABELLED, UNLABELLED])
    model = auxiliary(cls_head=gcn_head(3)).train()
    twin = copy.deepcopy(model)
    losses = model(inputs, samples, mode='loss')
    scores = twin.cls_head(twin.backbone(inputs[:, 0]))
    wanted = nn.functional.cross_entropy(scores[1:2], torch.tensor([1]))
    torch.testing.assert_close(losses['loss_cls'], wanted)
    for found, expected in zip(model.buffers(), twin.buffers()):
        torch.testing.assert_close(found, expected)


@BACKBONES
def test_a_batch_without_labels_leaves_the_classification_head(backbone):
    model = auxiliary(backbone, cls_head=linear_head(3))
    optimizer = torch.optim.AdamW(model.parameters(), 0.1, weight_decay=0.1)

    def step(labels):
        optimizer.zero_grad()
        losses = model(*circling(labels), mode='loss')
        model.parse_losses(losses)[0].backward()
        optimizer.step()
        return {k: v.clone() for k, v in model.cls_head.state_dict().items()}

    before = step([0, 1, 2, 0])
    after = step([UNLABELLED] * 4)
    assert all(torch.equal(after[key], before[key]) for key in before)
    after = step([0, 1, 2, 0])
    assert not any(torch.equal(after[key], before[key]) for key in before)


def test_an_auxiliary_loss_encodes_no_absent_person(monkeypatch):
    model = auxiliary(TRANSFORMER, ignore_absent=True)
    inputs, samples = circling([0, 1, 2, 0])
    inputs[0, 0, 1] = inputs[2, 0, 0] = 0
    counts = count_encoded(model.backbone, monkeypatch)
    model(inputs, samples, mode='loss')
    assert counts == [8, 6]  # classified, predicted


@BACKBONES
def test_the_motion_loss_is_that_of_mamp_times_its_weight(backbone):
    model = auxiliary(backbone, weight=0.5).eval()
    plain = mamp(backbone or gcn()).eval()
    state = model.state_dict().items()
    plain.load_state_dict({k: v for k, v in state if 'cls_head' not in k})
    data = circling([0, 1, 2, 0])
    found, wanted = model(*data, mode='loss'), plain(*data, mode='loss')
    for name in ('loss_motion', 'mse_zero'):
        torch.testing.assert_close(found[name], 0.5 * wanted[name])
    with pytest.raises(ValueError, match='motion_weight=-1'):
        auxiliary(weight=-1)


def test_running_statistics_are_those_of_whole_skeletons():
    model, twin = auxiliary(), auxiliary()
    twin.load_state_dict(model.state_dict())
    inputs, samples = circling([0, 1, 2, 0])
    model(inputs, samples, mode='loss')
    twin.backbone(inputs[:, 0])
    for name, buffer in twin.backbone.named_buffers():
        assert torch.equal(buffer, model.backbone.get_buffer(name)), name
    with pytest.raises(KeyError), frozen_running_statistics(model):
        raise KeyError
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    assert norms and all(m.track_running_stats for m in norms)


def test_an_auxiliary_recogniser_is_a_plain_one_in_evaluation():
    model = auxiliary().eval()
    assert not model.with_neck
    plain = recogniser(gcn_head(3), gcn()).eval()
    missing = plain.load_state_dict(model.state_dict(), strict=False)
    assert not missing.missing_keys
    inputs, samples = circling()
    found = model(inputs, samples, mode='predict')
    wanted = plain(inputs, [s.clone() for s in samples], mode='predict')
    for a, b in zip(found, wanted):
        assert torch.equal(a.pred_score, b.pred_score)
