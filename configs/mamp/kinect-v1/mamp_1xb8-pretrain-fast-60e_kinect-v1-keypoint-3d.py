# A quarter of the masked tokens is decoded, each from the visible ones alone;
# source: CrossMAE (2024).
_base_ = './mamp_1xb8-pretrain-60e_kinect-v1-keypoint-3d.py'

model = dict(decode_ratio=0.25, neck=dict(attention='cross'))
