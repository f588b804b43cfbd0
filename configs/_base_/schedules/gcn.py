# The toolbox's recipe for graph convolutions.
_base_ = './classify.py'

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True
    ),
)
param_scheduler = dict(
    type='WarmupCosineLR', warmup=0, min_lr=0.0, convert_to_iter_based=True
)
auto_scale_lr = dict(enable=False, base_batch_size=32)
