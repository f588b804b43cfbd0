# The baseline: reconstruct the joints of random masks.
_base_ = './mamp_1xb32-pretrain-200e_utd-mhad-xsub-keypoint-3d.py'

from mamp_mmaction.config import use_dataset

use_dataset(_base_, tau=0.0)
model = dict(head=dict(target='joint'))
