"""Run by torchrun: one pre-training step on this process's share."""

import sys

import torch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.dist import get_dist_info, init_dist
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import init_default_scope

import mamp_mmaction  # noqa: F401


def build():
    """A small pre-training model, the same in every process."""
    init_default_scope('mmaction')
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type='MAMP',
            backbone=dict(
                type='MAMPTransformer',
                embed_dims=32,
                depth=2,
                num_heads=4,
                num_frames=16,
                num_joints=9,
            ),
            neck=dict(type='MAMPDecoder', decoder_embed_dims=16, depth=1),
            head=dict(type='MotionPredictionHead'),
        )
    )


def batch():
    """Eight samples of two persons, the same in every process."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(8, 1, 2, 16, 9, 3, generator=generator)
    scores = torch.rand(8, 2, 36, generator=generator)
    masks = scores.argsort(dim=2) >= 5
    return inputs, [ActionDataSample(mask=mask) for mask in masks]


def gradients(model, inputs, samples):
    """Gradients of the loss by parameter name."""
    losses = model(inputs, samples, mode='loss')
    losses['loss_motion'].backward()
    return {
        name.removeprefix('module.'): param.grad
        for name, param in model.named_parameters()
    }


if __name__ == '__main__':
    init_dist('pytorch')
    rank, size = get_dist_info()
    inputs, samples = batch()
    model = MMDistributedDataParallel(build())
    found = gradients(model, inputs[rank::size], samples[rank::size])
    if rank == 0:
        torch.save(found, sys.argv[1])
