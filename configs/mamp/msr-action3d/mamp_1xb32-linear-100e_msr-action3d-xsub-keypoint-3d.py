_base_ = [
    '../../_base_/datasets/msr-action3d.py',
    '../../_base_/mamp_linear.py',
]

from mamp_mmaction.config import use_dataset

use_dataset(_base_, split='xsub')
model = dict(
    backbone=dict(embed_dims=128, depth=4), cls_head=dict(in_channels=128)
)
train_dataloader = dict(batch_size=32)
auto_scale_lr = dict(base_batch_size=32)
load_from = 'work_dirs/mamp_1xb32-pretrain-300e_msr-action3d-xsub-keypoint-3d/epoch_300.pth'
