# Tokens count by their share of the motion; source: AMR (CVPR 2026).
_base_ = './mamp_1xb8-pretrain-fast-60e_kinect-v1-keypoint-3d.py'

model = dict(head=dict(loss_weight='motion'))
