_base_ = [
    '../../_base_/datasets/msr-action3d.py',
    '../../_base_/mamp_small_pretrain.py',
]

from mamp_mmaction.config import use_dataset

use_dataset(_base_, split='xsub')
train_cfg = dict(max_epochs=300)
