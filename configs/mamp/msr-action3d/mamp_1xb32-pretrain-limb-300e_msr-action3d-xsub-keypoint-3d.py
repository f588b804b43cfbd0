# Limbs masked for several segments at a time; source: SLiM (2026).
# That it is three of them is this project's choice.
_base_ = './mamp_1xb32-pretrain-300e_msr-action3d-xsub-keypoint-3d.py'

from mamp_mmaction.config import use_dataset

use_dataset(_base_, layout='msr_action3d', tube=3, part='limb')
