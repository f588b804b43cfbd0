_base_ = [
    '../../_base_/datasets/msr-action3d.py',
    '../../_base_/mamp_pretrain.py',
]

from mamp_mmaction.config import use_dataset

use_dataset(_base_, split='xsub')
# An encoder that trains on two CPU cores.
model = dict(
    backbone=dict(embed_dims=128, depth=4),
    neck=dict(decoder_embed_dims=128, depth=2),
)
train_dataloader = dict(batch_size=32)
train_cfg = dict(max_epochs=300)
optim_wrapper = dict(type='AutoAmpOptimWrapper')
auto_scale_lr = dict(base_batch_size=32)
