# The sizes of the paper are the components' defaults.
_base_ = './schedules/pretrain.py'

model = dict(
    type='MAMP',
    backbone=dict(type='MAMPTransformer'),
    neck=dict(type='MAMPDecoder'),
    head=dict(type='MotionPredictionHead', target='motion'),
)
