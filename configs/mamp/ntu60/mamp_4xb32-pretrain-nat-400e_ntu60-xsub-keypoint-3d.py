# Joints normalised over the clip; source: normalisation among timestamps (AAAI
# 2025).
_base_ = './mamp_4xb32-pretrain-400e_ntu60-xsub-keypoint-3d.py'

model = dict(head=dict(target='joint', norm_target='clip'))
