_base_ = [
    '../../_base_/datasets/msr-action3d.py',
    '../../_base_/mamp_small_recommended.py',
]

from mamp_mmaction.config import use_dataset

use_dataset(_base_, split='xsub', mask_ratio=0.75)
train_cfg = dict(max_epochs=300)
