_base_ = ['../../_base_/datasets/toy.py', '../../_base_/mamp_linear.py']

from mamp_mmaction.config import use_dataset

use_dataset(_base_, split='xsub')
model = dict(
    backbone=dict(embed_dims=64, depth=3, num_heads=4),
    cls_head=dict(in_channels=64),
)
train_dataloader = dict(batch_size=32)
train_cfg = dict(max_epochs=30, val_interval=5)
auto_scale_lr = dict(base_batch_size=32)
load_from = (
    'work_dirs/mamp_1xb32-pretrain-60e_toy-xsub-keypoint-3d/epoch_60.pth'
)
