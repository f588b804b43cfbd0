_base_ = [
    '../_base_/datasets/msr-action3d-xsub.py',
    '../_base_/models/gcn_classify.py',
    '../_base_/schedules/gcn.py',
]

model = dict(
    backbone=dict(
        type='STGCN',
        base_channels=16,
        graph_cfg=dict(layout=_base_.graph, mode='stgcn_spatial'),
    ),
    cls_head=dict(num_classes=_base_.num_classes, in_channels=64),
)
train_dataloader = dict(batch_size=32)
optim_wrapper = dict(optimizer=dict(lr=0.025))
