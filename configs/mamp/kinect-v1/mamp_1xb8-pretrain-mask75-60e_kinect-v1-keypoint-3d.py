# Three quarters of the tokens masked instead of nine tenths.
_base_ = './mamp_1xb8-pretrain-fast-60e_kinect-v1-keypoint-3d.py'

from mamp_mmaction.config import use_dataset

use_dataset(_base_, mask_ratio=0.75)
