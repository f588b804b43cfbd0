_base_ = ['./mamp_finetune.py', './tiny.py']

model = dict(
    backbone=_base_.tiny, cls_head=dict(in_channels=_base_.tiny.embed_dims)
)
