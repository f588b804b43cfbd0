"""Run by torchrun: what each of several processes computes, for test_ddp."""
# ruff: noqa: I001

import sys
from pathlib import Path

import mamp_mmaction  # noqa: F401  # before the toolbox
import torch
from mmengine.dist import get_dist_info, init_dist
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import init_default_scope

import test_linear_probe_hook as linear
import test_representation_probe_hook as representation
from mamp_mmaction.evaluation.extraction import (
    extract_features,
    ordered_dataloader,
)
from small_models import batch, mamp

# One with and one without BatchNorm.
PROBED = ('MAMP', 'ST-GCN')
SEVERAL = dict(launcher='pytorch', env_cfg=dict(dist_cfg=dict(backend='gloo')))


def build():
    """A model and a batch, the same in every process."""
    init_default_scope('mmaction')
    torch.manual_seed(0)
    return mamp(), *batch(samples=8)


def gradients(model, inputs, samples):
    """Gradients of the loss by parameter name."""
    losses = model(inputs, samples, mode='loss')
    losses['loss_motion'].backward()
    return {
        name.removeprefix('module.'): param.grad
        for name, param in model.named_parameters()
    }


def pretrain(folder, **kwargs):
    """With RepresentationProbeHook; 15 and 5 samples, so that both sets
    are padded.
    """
    probe = dict(interval=1, k=3, weight_decay=1.0, save_best='knn_top1')
    cfg = representation.config(folder, probe, **kwargs)
    runner = representation.train(cfg)
    dataset = representation.loader(str(folder / 'ann.pkl'), 'xsub_train')
    return runner, extract_features(runner.model, ordered_dataloader(dataset))


def main():
    folder = Path(sys.argv[1])
    init_dist('pytorch')
    rank, size = get_dist_info()
    model, inputs, samples = build()
    model = MMDistributedDataParallel(model)
    found = dict(
        gradients=gradients(model, inputs[rank::size], samples[rank::size])
    )

    for name in PROBED:
        cfg = linear.config(folder / f'{rank}{name}', linear.BACKBONES[name])
        runner = linear.build_runner(cfg.merge_from_dict(SEVERAL) or cfg)
        runner.train()
        linear.check_that_only_the_head_trained(runner)
        found[name] = runner.model.module.state_dict()

    if rank == 0:
        representation.config(folder)  # writes the annotations
    torch.distributed.barrier()
    runner, features = pretrain(folder, **SEVERAL)
    hook = linear.hook_of(runner, representation.RepresentationProbeHook)
    found.update(
        features=features.__dict__,
        best=(hook._best_score, str(hook._best_path)),
        weights=runner.model.module.state_dict(),
    )
    torch.save(found, folder / f'{rank}.pth')


if __name__ == '__main__':
    main()
