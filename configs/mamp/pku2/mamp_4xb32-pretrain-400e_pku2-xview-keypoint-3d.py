_base_ = './mamp_4xb32-pretrain-400e_pku2-xsub-keypoint-3d.py'

from mamp_mmaction.config import use_dataset

use_dataset(_base_, split='xview')
