_base_ = ['./mamp_pretrain.py', './small.py']

model = dict(
    backbone=_base_.small,
    neck=dict(decoder_embed_dims=_base_.small.embed_dims, depth=2),
)
