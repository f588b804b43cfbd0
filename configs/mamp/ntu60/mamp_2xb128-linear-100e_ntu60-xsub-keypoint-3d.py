_base_ = ['../../_base_/datasets/ntu60.py', '../../_base_/mamp_linear.py']

from mamp_mmaction.config import use_dataset

use_dataset(_base_, split='xsub')
load_from = (
    'work_dirs/mamp_4xb32-pretrain-400e_ntu60-xsub-keypoint-3d/epoch_400.pth'
)
