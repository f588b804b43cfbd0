_base_ = [
    '../../_base_/datasets/msr-action3d-xsub.py',
    '../../_base_/models/mamp-small_finetune.py',
    '../../_base_/schedules/finetune.py',
]

model = dict(
    backbone=_base_.skeleton,
    cls_head=dict(
        num_classes=_base_.num_classes, num_joints=_base_.skeleton.num_joints
    ),
)
train_dataloader = dict(batch_size=32)
train_cfg = dict(max_epochs=100)
# At the paper's rate of 3e-4 the encoder stays what it was pre-trained to be.
optim_wrapper = dict(type='AutoAmpOptimWrapper', optimizer=dict(lr=1e-3))
param_scheduler = dict(min_lr=3e-5)
load_from = 'work_dirs/mamp_1xb32-pretrain-300e_msr-action3d-xsub-keypoint-3d/epoch_300.pth'
