_base_ = [
    '../../_base_/datasets/kinect-v1.py',
    '../../_base_/mamp_small_recommended.py',
]

from mamp_mmaction.config import use_dataset

use_dataset(_base_, mask_ratio=0.75)
train_cfg = dict(max_epochs=60)
