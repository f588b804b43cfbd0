_base_ = './mamp_1xb8-pretrain-recommended-60e_kinect-v1-keypoint-3d.py'

train_cfg = dict(max_epochs=300)
