_base_ = ['../../_base_/datasets/ntu60.py', '../../_base_/mamp_pretrain.py']

from mamp_mmaction.config import use_dataset

use_dataset(_base_, split='xsub')
model = dict(neck=dict(depth=3))
