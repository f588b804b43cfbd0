_base_ = './mamp_2xb24-finetune-100e_ntu60-xsub-keypoint-3d.py'

from mamp_mmaction.config import use_dataset

use_dataset(_base_, layout='nturgb+d', stream='joint_motion')
load_from = 'work_dirs/mamp_4xb32-pretrain-motion-400e_ntu60-xsub-keypoint-3d/epoch_400.pth'
