_base_ = [
    '../_base_/datasets/msr-action3d-xsub.py',
    '../_base_/models/gcn_pretrain.py',
    '../_base_/schedules/pretrain.py',
]

model = dict(
    backbone=dict(
        type='STGCN',
        base_channels=16,
        graph_cfg=dict(layout=_base_.graph, mode='stgcn_spatial'),
    ),
    neck=dict(**_base_.skeleton, embed_dims=64, decoder_embed_dims=64),
)
train_dataloader = dict(
    batch_size=32, dataset=dict(pipeline=_base_.dense_pipeline)
)
val_dataloader = dict(dataset=dict(pipeline=_base_.dense_val_pipeline))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=100)
