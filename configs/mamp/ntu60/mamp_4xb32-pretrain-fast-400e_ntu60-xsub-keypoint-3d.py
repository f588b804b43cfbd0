# A quarter of the masked tokens is decoded, each from the visible ones alone;
# source: CrossMAE (2024).
_base_ = './mamp_4xb32-pretrain-400e_ntu60-xsub-keypoint-3d.py'

model = dict(decode_ratio=0.25, neck=dict(attention='cross'))
