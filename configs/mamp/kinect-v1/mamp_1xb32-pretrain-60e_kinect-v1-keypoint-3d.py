_base_ = [
    '../../_base_/datasets/kinect-v1.py',
    '../../_base_/mamp_small_pretrain.py',
]

from mamp_mmaction.config import use_dataset

use_dataset(_base_)
train_cfg = dict(max_epochs=60)
param_scheduler = dict(warmup=4)
