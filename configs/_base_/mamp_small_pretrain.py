# An encoder that trains on two CPU cores.
_base_ = './mamp_pretrain.py'

model = dict(
    backbone=dict(embed_dims=128, depth=4),
    neck=dict(decoder_embed_dims=128, depth=2),
)
optim_wrapper = dict(type='AutoAmpOptimWrapper')
auto_scale_lr = dict(base_batch_size=32)
