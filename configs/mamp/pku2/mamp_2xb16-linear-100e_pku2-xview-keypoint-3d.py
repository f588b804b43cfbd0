_base_ = [
    '../../_base_/datasets/pku2-xview.py',
    '../../_base_/models/mamp_linear.py',
    '../../_base_/schedules/linear.py',
]

model = dict(
    backbone=_base_.skeleton, cls_head=dict(num_classes=_base_.num_classes)
)
train_dataloader = dict(batch_size=16)
optim_wrapper = dict(optimizer=dict(lr=0.01))
auto_scale_lr = dict(base_batch_size=32)
load_from = (
    'work_dirs/mamp_4xb32-pretrain-400e_pku2-xview-keypoint-3d/epoch_301.pth'
)
