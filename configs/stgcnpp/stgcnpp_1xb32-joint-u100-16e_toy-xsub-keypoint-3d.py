# The toolbox's own ST-GCN++, on the toy data: how its configs are used here.
_base_ = 'mmaction::skeleton/stgcnpp/stgcnpp_8xb16-joint-u100-80e_ntu60-xsub-keypoint-3d.py'
custom_imports = dict(imports=['mamp_mmaction'], allow_failed_imports=False)

ann_file = 'data/toy.pkl'

model = dict(
    backbone=dict(base_channels=16),
    cls_head=dict(num_classes=16, in_channels=64),
)
train_dataloader = dict(
    batch_size=32, dataset=dict(times=1, dataset=dict(ann_file=ann_file))
)
val_dataloader = dict(dataset=dict(ann_file=ann_file))
test_dataloader = dict(dataset=dict(ann_file=ann_file))
auto_scale_lr = dict(base_batch_size=32)
