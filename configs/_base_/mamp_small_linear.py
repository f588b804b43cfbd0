_base_ = './mamp_linear.py'

model = dict(
    backbone=dict(embed_dims=128, depth=4), cls_head=dict(in_channels=128)
)
train_dataloader = dict(batch_size=32)
auto_scale_lr = dict(base_batch_size=32)
