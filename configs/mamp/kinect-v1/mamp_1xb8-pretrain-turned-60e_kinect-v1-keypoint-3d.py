# Turned by up to 57 degrees about the vertical axis, as other cameras see it.
_base_ = './mamp_1xb8-pretrain-recommended-60e_kinect-v1-keypoint-3d.py'

from mamp_mmaction.config import use_dataset

use_dataset(_base_, max_angle=(0.3, 1.0, 0.3))
