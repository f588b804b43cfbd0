# Limbs masked for several segments at a time; source: SLiM (2026).
# That it is three of them is this project's choice.
_base_ = './mamp_4xb32-pretrain-400e_ntu60-xsub-keypoint-3d.py'

from mamp_mmaction.config import use_dataset

use_dataset(_base_, layout='nturgb+d', tube=3, part='limb')
