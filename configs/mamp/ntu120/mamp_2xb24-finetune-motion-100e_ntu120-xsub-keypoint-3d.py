_base_ = './mamp_2xb24-finetune-100e_ntu120-xsub-keypoint-3d.py'

stream = dict(type='SkeletonStream', stream='joint_motion')
train, val = _base_.train_pipeline, _base_.val_pipeline
train_dataloader = dict(
    dataset=dict(pipeline=[*train[:3], stream, *train[3:]])
)
val_dataloader = dict(dataset=dict(pipeline=[*val[:2], stream, *val[2:]]))
test_dataloader = val_dataloader
load_from = 'work_dirs/mamp_4xb32-pretrain-motion-400e_ntu120-xsub-keypoint-3d/epoch_400.pth'
