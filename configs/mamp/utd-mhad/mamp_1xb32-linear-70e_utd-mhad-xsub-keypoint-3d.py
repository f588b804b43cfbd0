_base_ = [
    '../../_base_/datasets/utd-mhad.py',
    '../../_base_/mamp_small_linear.py',
]

from mamp_mmaction.config import use_dataset

use_dataset(_base_, split='xsub')
train_cfg = dict(max_epochs=70)
load_from = 'work_dirs/mamp_1xb32-pretrain-200e_utd-mhad-xsub-keypoint-3d/epoch_200.pth'
