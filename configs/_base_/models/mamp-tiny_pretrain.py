_base_ = ['./mamp_pretrain.py', './tiny.py']

model = dict(
    backbone=_base_.tiny,
    neck=dict(decoder_embed_dims=_base_.tiny.embed_dims, depth=1),
)
