# The sizes of the paper are the components' defaults; the decoder of the
# NTU RGB+D 60 models has 3 blocks instead of 5.
model = dict(
    type='MAMP',
    backbone=dict(type='MAMPTransformer'),
    neck=dict(type='MAMPDecoder'),
    head=dict(type='MotionPredictionHead', target='motion'),
)
