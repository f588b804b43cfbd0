_base_ = ['../_base_/datasets/msr-action3d.py', '../_base_/stgcn_pretrain.py']

from mamp_mmaction.config import use_dataset

use_dataset(_base_, split='xsub', mask_ratio=0.9)
train_cfg = dict(max_epochs=100)
auto_scale_lr = dict(base_batch_size=32)
