_base_ = [
    '../../_base_/datasets/msr-action3d-xsub.py',
    '../../_base_/models/mamp-small_pretrain.py',
    '../../_base_/schedules/pretrain.py',
]

model = dict(backbone=_base_.skeleton)
train_dataloader = dict(
    batch_size=32, dataset=dict(pipeline=_base_.pretrain_pipeline)
)
val_dataloader = dict(dataset=dict(pipeline=_base_.pretrain_val_pipeline))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=300)
optim_wrapper = dict(type='AutoAmpOptimWrapper')
