_base_ = [
    '../../_base_/datasets/toy-xsub.py',
    '../../_base_/models/mamp-tiny_linear.py',
    '../../_base_/schedules/linear.py',
]

model = dict(
    backbone=_base_.skeleton, cls_head=dict(num_classes=_base_.num_classes)
)
train_dataloader = dict(batch_size=32)
train_cfg = dict(max_epochs=30, val_interval=5)
load_from = (
    'work_dirs/mamp_1xb32-pretrain-60e_toy-xsub-keypoint-3d/epoch_60.pth'
)
