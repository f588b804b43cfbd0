# Joints normalised over the clip; source: normalisation among timestamps (AAAI
# 2025).
_base_ = './mamp_1xb8-pretrain-fast-60e_kinect-v1-keypoint-3d.py'

model = dict(head=dict(target='joint', norm_target='clip'))
