# Joints masked for several segments at a time; source: Skeleton2vec (2024).
# That it is three of them is this project's choice.
_base_ = './mamp_4xb32-pretrain-400e_ntu60-xsub-keypoint-3d.py'

from mamp_mmaction.config import use_dataset

use_dataset(_base_, tube=3)
