# MAMP with a graph convolution as encoder and a light decoder.
_base_ = './schedules/pretrain.py'

model = dict(
    type='MAMP',
    backbone=dict(
        type='STGCN',
        base_channels=16,
        graph_cfg=dict(mode='stgcn_spatial'),
    ),
    neck=dict(
        type='MAMPDecoder', embed_dims=64, decoder_embed_dims=64, depth=1
    ),
    head=dict(type='MotionPredictionHead', target='motion'),
)
