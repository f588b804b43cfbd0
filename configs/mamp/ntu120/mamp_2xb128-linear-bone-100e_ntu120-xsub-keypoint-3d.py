_base_ = './mamp_2xb128-linear-100e_ntu120-xsub-keypoint-3d.py'

from mamp_mmaction.config import use_dataset

use_dataset(_base_, layout='nturgb+d', stream='bone')
load_from = 'work_dirs/mamp_4xb32-pretrain-bone-400e_ntu120-xsub-keypoint-3d/epoch_400.pth'
