_base_ = './classify.py'

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='MAMPLayerDecayConstructor',
    paramwise_cfg=dict(layer_decay=0.8),
    optimizer=dict(
        type='AdamW', lr=3e-4, betas=(0.9, 0.999), weight_decay=0.05
    ),
)
param_scheduler = dict(
    type='WarmupCosineLR', warmup=5, min_lr=1e-5, convert_to_iter_based=True
)
auto_scale_lr = dict(enable=False, base_batch_size=48)
