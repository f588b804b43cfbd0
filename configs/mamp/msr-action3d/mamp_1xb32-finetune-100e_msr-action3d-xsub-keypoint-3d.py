_base_ = [
    '../../_base_/datasets/msr-action3d.py',
    '../../_base_/mamp_finetune.py',
]

from mamp_mmaction.config import use_dataset

use_dataset(_base_, split='xsub')
model = dict(
    backbone=dict(embed_dims=128, depth=4), cls_head=dict(in_channels=128)
)
train_dataloader = dict(batch_size=32)
# At the paper's rate of 3e-4 the encoder stays what it was pre-trained to be.
optim_wrapper = dict(type='AutoAmpOptimWrapper', optimizer=dict(lr=1e-3))
param_scheduler = dict(min_lr=3e-5)
auto_scale_lr = dict(base_batch_size=32)
load_from = 'work_dirs/mamp_1xb32-pretrain-300e_msr-action3d-xsub-keypoint-3d/epoch_300.pth'
