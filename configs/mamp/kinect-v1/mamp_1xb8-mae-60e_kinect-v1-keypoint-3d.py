# The baseline: reconstruct the joints of random masks.
_base_ = './mamp_1xb8-pretrain-60e_kinect-v1-keypoint-3d.py'

from mamp_mmaction.config import use_dataset

use_dataset(_base_, tau=0.0)
model = dict(head=dict(target='joint'))
