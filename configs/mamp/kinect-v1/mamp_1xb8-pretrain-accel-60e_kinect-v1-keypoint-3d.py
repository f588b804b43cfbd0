# Motion and its own motion as the target; source: MaskSem (2025).
_base_ = './mamp_1xb8-pretrain-fast-60e_kinect-v1-keypoint-3d.py'

model = dict(
    head=dict(target=dict(_delete_=True, motion=0.8, acceleration=0.2))
)
