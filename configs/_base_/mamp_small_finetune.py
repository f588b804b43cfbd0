_base_ = './mamp_finetune.py'

model = dict(
    backbone=dict(embed_dims=128, depth=4, drop_path_rate=0.1),
    cls_head=dict(in_channels=128),
)
train_dataloader = dict(batch_size=32)
# At the paper's rates, lower for the first layers, the encoder stays what it
# was pre-trained to be.
optim_wrapper = dict(
    type='AutoAmpOptimWrapper',
    paramwise_cfg=dict(layer_decay=1.0),
    optimizer=dict(lr=1e-3, fused=True),
)
param_scheduler = dict(min_lr=3e-5)
auto_scale_lr = dict(base_batch_size=32)
