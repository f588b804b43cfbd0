_base_ = [
    '../../_base_/datasets/ntu60-xview.py',
    '../../_base_/models/mamp_pretrain.py',
    '../../_base_/schedules/pretrain.py',
]

model = dict(backbone=_base_.skeleton, neck=dict(depth=3))
train_dataloader = dict(
    batch_size=32, dataset=dict(pipeline=_base_.pretrain_pipeline)
)
val_dataloader = dict(dataset=dict(pipeline=_base_.pretrain_val_pipeline))
test_dataloader = val_dataloader
