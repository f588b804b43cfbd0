_base_ = [
    '../../_base_/datasets/toy-xsub.py',
    '../../_base_/models/mamp-tiny_finetune.py',
    '../../_base_/schedules/finetune.py',
]

model = dict(
    backbone=_base_.skeleton,
    cls_head=dict(
        num_classes=_base_.num_classes, num_joints=_base_.skeleton.num_joints
    ),
)
train_dataloader = dict(batch_size=32)
train_cfg = dict(max_epochs=20, val_interval=5)
load_from = (
    'work_dirs/mamp_1xb32-pretrain-60e_toy-xsub-keypoint-3d/epoch_60.pth'
)
