"""Small models, and batches that fit them."""

import torch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample

from mamp_mmaction.layouts import get_layout

# Sizes of a small skeleton: frames, joints, segments of 4 frames.
T, V, S = 16, 7, 4
# Width of the small encoder's tokens.
D = 16
# Of a GCN of the toolbox with D features.
SMALL_GCN = dict(
    base_channels=8, num_stages=3, inflate_stages=[2], down_stages=[2, 3]
)
# Of PoseC3D, with 16 features, and what turns skeletons into its volumes.
POSEC3D = dict(
    type='ResNet3dSlowOnly',
    depth=50,
    pretrained=None,
    in_channels=17,
    base_channels=4,
    num_stages=1,
    out_indices=(0,),
    stage_blocks=(1,),
    conv1_stride_s=1,
    pool1_stride_s=1,
    inflate=(1,),
    spatial_strides=(2,),
    temporal_strides=(1,),
    dilations=(1,),
)
HEATMAPS = [
    dict(type='UniformSampleFrames', clip_len=4, num_clips=2, test_mode=True),
    dict(type='PoseDecode'),
    dict(type='Resize', scale=(8, 8), keep_ratio=False),
    dict(type='GeneratePoseTarget', sigma=0.6, use_score=True),
    dict(type='FormatShape', input_format='NCTHW_Heatmap'),
    dict(type='PackActionInputs'),
]
LATENT = dict(type='LatentPredictionHead')
# Options beyond the paper that models have: of the head, the decoder or MAMP.
OPTIONS = {
    'nat': dict(head=dict(target='joint', norm_target='clip')),
    'accel': dict(head=dict(target=dict(motion=0.8, acceleration=0.2))),
    'weight': dict(head=dict(loss_weight='motion')),
    'cross': dict(neck=dict(attention='cross')),
    'share': dict(decode_ratio=0.5),
    'latent': dict(head=LATENT),
}


def encoder(**kwargs):
    cfg = dict(
        type='MAMPTransformer',
        embed_dims=D,
        depth=2,
        num_heads=2,
        num_frames=T,
        num_joints=V,
    )
    return dict(cfg, **kwargs)


def gcn(name='stgcnpp', layout='nturgb+d', **kwargs):
    """Config of a backbone of the toolbox with D features."""
    graph = dict(layout=get_layout(layout).graph(), mode='spatial')
    return {
        'stgcn': dict(
            type='STGCN', graph_cfg=dict(graph, mode='stgcn_spatial')
        ),
        'stgcnpp': dict(
            type='STGCN',
            gcn_adaptive='init',
            gcn_with_res=True,
            tcn_type='mstcn',
            graph_cfg=graph,
        ),
        'aagcn': dict(type='AAGCN', graph_cfg=graph),
    }[name] | dict(SMALL_GCN, **kwargs)


def pretraining(backbone=None, neck=None, compile_cfg=None, **head):
    """Config of a MAMP."""
    return dict(
        type='MAMP',
        backbone=backbone or encoder(),
        neck=dict(
            dict(
                type='MAMPDecoder',
                decoder_embed_dims=D,
                depth=1,
                num_heads=2,
            ),
            **(neck or {}),
        ),
        head=dict(dict(type='MotionPredictionHead'), **head),
        compile_cfg=compile_cfg,
    )


def mamp(*args, **kwargs):
    return MODELS.build(pretraining(*args, **kwargs))


def with_option(option=None, joints=V):
    """Config of a MAMP with one of the ``OPTIONS``, or without."""
    option = dict(option or {})
    head, neck = (option.pop(part, {}) for part in ('head', 'neck'))
    return dict(
        pretraining(encoder(num_joints=joints), neck, **head), **option
    )


def linear_head(num_classes=6):
    return dict(type='LinearProbeHead', num_classes=num_classes, in_channels=D)


def finetune_head(num_classes=6, **kwargs):
    return dict(
        type='MAMPFinetuneHead',
        num_classes=num_classes,
        in_channels=D,
        num_joints=V,
        hidden_dims=8,
        **kwargs,
    )


def gcn_head(num_classes=6, **kwargs):
    sizes = dict(num_classes=num_classes, in_channels=D)
    return dict(type='GCNHead', **sizes, **kwargs)


def recognition(head=None, backbone=None):
    """Config of a recogniser."""
    return dict(
        type='RecognizerGCN',
        data_preprocessor=dict(type='SkeletonDataPreprocessor'),
        backbone=backbone or encoder(),
        cls_head=head or linear_head(),
    )


def recogniser(*args, **kwargs):
    return MODELS.build(recognition(*args, **kwargs))


def posec3d(num_classes=6, backbone=None, **kwargs):
    """Config of a PoseC3D."""
    sizes = dict(num_classes=num_classes, in_channels=16)
    return dict(
        type='Recognizer3D',
        backbone=backbone or POSEC3D,
        cls_head=dict(type='I3DHead', **sizes, **kwargs),
    )


def auxiliary_of(cfg, cls_head=None, **kwargs):
    """Config of a recogniser that has a MAMP as its auxiliary loss."""
    return dict(
        recognition(cls_head or gcn_head(3), cfg['backbone']),
        type='RecognizerMAMP',
        motion_neck=cfg['neck'],
        motion_head=cfg['head'],
        **kwargs,
    )


def batch(
    samples=2, persons=2, frames=T, joints=V, channels=3, u=4, labels=None
):
    """Random skeletons (N, 1, M, T, V, C), and samples with masks."""
    inputs = torch.randn(samples, 1, persons, frames, joints, channels)
    tokens = frames // u * joints
    order = torch.rand(samples, persons, tokens).argsort(dim=-1)
    masks = order.argsort(dim=-1) >= int(tokens * 0.2)
    data_samples = [
        ActionDataSample(mask=mask, metainfo=dict(frame_dir=f'S{i:03}'))
        for i, mask in enumerate(masks)
    ]
    for sample, label in zip(data_samples, labels or range(samples)):
        sample.set_gt_label(label)
    return inputs, data_samples


def count_encoded(backbone, monkeypatch):
    """Notes how many persons every call of the encoder computes."""
    counts = []
    encode = backbone.encode

    def count(keypoint, visible=None):
        counts.append(len(keypoint))
        return encode(keypoint, visible)

    monkeypatch.setattr(backbone, 'encode', count)
    return counts
