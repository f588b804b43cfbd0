_base_ = [
    '../../_base_/datasets/ntu120-xset.py',
    '../../_base_/models/mamp_linear.py',
    '../../_base_/schedules/linear.py',
]

model = dict(
    backbone=_base_.skeleton, cls_head=dict(num_classes=_base_.num_classes)
)
train_dataloader = dict(batch_size=128)
load_from = (
    'work_dirs/mamp_4xb32-pretrain-400e_ntu120-xset-keypoint-3d/epoch_400.pth'
)
