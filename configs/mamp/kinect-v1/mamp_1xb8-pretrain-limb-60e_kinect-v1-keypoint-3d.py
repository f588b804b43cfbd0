# Limbs masked for several segments at a time; source: SLiM (2026).
_base_ = './mamp_1xb8-pretrain-fast-60e_kinect-v1-keypoint-3d.py'

from mamp_mmaction.config import use_dataset

use_dataset(_base_, layout='kinect_v1', tube=3, part='limb')
