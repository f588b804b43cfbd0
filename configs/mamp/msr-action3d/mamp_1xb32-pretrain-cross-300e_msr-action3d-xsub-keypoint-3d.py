# Masked tokens look at the visible ones alone; source: CrossMAE (2024).
_base_ = './mamp_1xb32-pretrain-300e_msr-action3d-xsub-keypoint-3d.py'

model = dict(neck=dict(attention='cross'))
