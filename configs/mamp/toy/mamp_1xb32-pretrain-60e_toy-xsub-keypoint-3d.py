_base_ = ['../../_base_/datasets/toy.py', '../../_base_/mamp_pretrain.py']

from mamp_mmaction.config import use_dataset

use_dataset(_base_, split='xsub')
# An encoder that is pre-trained within minutes.
model = dict(
    backbone=dict(embed_dims=64, depth=3, num_heads=4),
    neck=dict(decoder_embed_dims=64, depth=1),
)
train_cfg = dict(max_epochs=60)
param_scheduler = dict(warmup=5)
auto_scale_lr = dict(base_batch_size=32)
