_base_ = ['../default_runtime.py', '../loaders.py']

from mamp_mmaction.config import use_dataset

use_dataset(_base_, masked=True)

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='MAMPLayerDecayConstructor',
    optimizer=dict(
        type='AdamW', lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05
    ),
)
param_scheduler = dict(
    type='WarmupCosineLR', warmup=20, min_lr=5e-4, convert_to_iter_based=True
)
auto_scale_lr = dict(enable=False, base_batch_size=128)

train_cfg = dict(
    type='EpochBasedTrainLoop', max_epochs=400, val_begin=1, val_interval=20
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

val_evaluator = dict(type='MaskedMotionMetric')
test_evaluator = val_evaluator

# Average the loss of predicting zero like the loss it is compared with.
log_processor = dict(
    custom_cfg=[dict(data_src='mse_zero', method_name='mean', window_size=20)]
)
