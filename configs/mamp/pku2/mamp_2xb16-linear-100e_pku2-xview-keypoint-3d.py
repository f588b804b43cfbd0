_base_ = './mamp_2xb16-linear-100e_pku2-xsub-keypoint-3d.py'

from mamp_mmaction.config import use_dataset

use_dataset(_base_, split='xview')
load_from = (
    'work_dirs/mamp_4xb32-pretrain-400e_pku2-xview-keypoint-3d/epoch_301.pth'
)
