_base_ = [
    '../../_base_/datasets/msr-action3d.py',
    '../../_base_/mamp_small_linear.py',
]

from mamp_mmaction.config import use_dataset

use_dataset(_base_, split='xsub')
load_from = 'work_dirs/mamp_1xb32-pretrain-300e_msr-action3d-xsub-keypoint-3d/epoch_300.pth'
