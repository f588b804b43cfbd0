# MAMP with a graph convolution as encoder and a light decoder.
model = dict(
    type='MAMP',
    neck=dict(type='MAMPDecoder', depth=1),
    head=dict(type='MotionPredictionHead', target='motion'),
)
