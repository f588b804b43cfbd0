_base_ = './mamp_2xb24-finetune-100e_pku1-xsub-keypoint-3d.py'

from mamp_mmaction.config import use_dataset

use_dataset(_base_, split='xview')
load_from = (
    'work_dirs/mamp_4xb32-pretrain-400e_pku1-xview-keypoint-3d/epoch_400.pth'
)
