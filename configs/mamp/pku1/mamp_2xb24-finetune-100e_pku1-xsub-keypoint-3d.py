_base_ = [
    '../../_base_/datasets/pku1-xsub.py',
    '../../_base_/models/mamp_finetune.py',
    '../../_base_/schedules/finetune.py',
]

model = dict(
    backbone=_base_.skeleton,
    cls_head=dict(
        num_classes=_base_.num_classes, num_joints=_base_.skeleton.num_joints
    ),
)
train_dataloader = dict(batch_size=24)
load_from = (
    'work_dirs/mamp_4xb32-pretrain-400e_pku1-xsub-keypoint-3d/epoch_400.pth'
)
