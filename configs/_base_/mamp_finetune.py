_base_ = './schedules/finetune.py'

model = dict(
    type='RecognizerGCN',
    data_preprocessor=dict(type='SkeletonDataPreprocessor'),
    backbone=dict(type='MAMPTransformer', drop_path_rate=0.3),
    cls_head=dict(
        type='MAMPFinetuneHead', in_channels=256, label_smooth_eps=0.1
    ),
)
train_dataloader = dict(batch_size=24)
