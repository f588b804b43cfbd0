_base_ = './mamp_1xb32-linear-30e_nw-ucla-xview-keypoint-3d.py'

from mamp_mmaction.config import use_dataset

use_dataset(_base_, stored_layout='nw_ucla', layout='kinect_v1')
load_from = '{{ fileDirname }}/../kinect-v1/mamp_1xb8-pretrain-long-300e_kinect-v1-keypoint-3d.pth'
