_base_ = ['../../_base_/datasets/pku2.py', '../../_base_/mamp_pretrain.py']

from mamp_mmaction.config import use_dataset

use_dataset(_base_, split='xsub')
# The linear probe starts from epoch 301.
custom_hooks = [dict(type='CheckpointHook', interval=301, save_last=False)]
