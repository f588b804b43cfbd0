_base_ = [
    '../../_base_/datasets/nw-ucla.py',
    '../../_base_/mamp_small_pretrain.py',
]

from mamp_mmaction.config import use_dataset

use_dataset(_base_, split='xview')
train_cfg = dict(max_epochs=80)
param_scheduler = dict(warmup=5)
