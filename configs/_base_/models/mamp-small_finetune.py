_base_ = ['./mamp_finetune.py', './small.py']

model = dict(
    backbone=_base_.small, cls_head=dict(in_channels=_base_.small.embed_dims)
)
