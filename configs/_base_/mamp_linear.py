_base_ = './schedules/linear.py'

model = dict(
    type='RecognizerGCN',
    data_preprocessor=dict(type='SkeletonDataPreprocessor'),
    backbone=dict(type='MAMPTransformer'),
    cls_head=dict(type='LinearProbeHead', in_channels=256),
)
train_dataloader = dict(batch_size=128)
