# Features of a slow copy of the encoder as the target; source: Skeleton2vec
# (2024), S-JEPA (2024).
_base_ = './mamp_1xb8-pretrain-fast-60e_kinect-v1-keypoint-3d.py'

model = dict(head=dict(_delete_=True, type='LatentPredictionHead'))
