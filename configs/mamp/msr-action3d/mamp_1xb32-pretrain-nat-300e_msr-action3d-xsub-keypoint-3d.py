# Joints normalised over the clip; source: normalisation among timestamps (AAAI
# 2025).
_base_ = './mamp_1xb32-pretrain-300e_msr-action3d-xsub-keypoint-3d.py'

model = dict(head=dict(target='joint', norm_target='clip'))
