_base_ = './schedules/gcn.py'

model = dict(
    type='RecognizerGCN',
    data_preprocessor=dict(type='SkeletonDataPreprocessor'),
    backbone=dict(
        type='STGCN',
        base_channels=16,
        graph_cfg=dict(mode='stgcn_spatial'),
    ),
    cls_head=dict(type='GCNHead', in_channels=64),
)
