# Joints masked for several segments at a time; source: Skeleton2vec (2024).
_base_ = './mamp_1xb8-pretrain-fast-60e_kinect-v1-keypoint-3d.py'

from mamp_mmaction.config import use_dataset

use_dataset(_base_, tube=3)
