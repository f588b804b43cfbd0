# The baseline: reconstruct the joints of random masks.
_base_ = './mamp_1xb32-pretrain-60e_toy-xsub-keypoint-3d.py'

model = dict(head=dict(target='joint'))
train_dataloader = dict(dataset=dict(pipeline=_base_.mae_pipeline))
val_dataloader = dict(dataset=dict(pipeline=_base_.mae_val_pipeline))
test_dataloader = val_dataloader
