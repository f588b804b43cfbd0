_base_ = [
    '../../_base_/datasets/kinect-v1.py',
    '../../_base_/mamp_small_pretrain.py',
]

from mamp_mmaction.config import use_dataset

use_dataset(_base_)
# Few samples a step, many steps: for the same cost the features are better.
train_dataloader = dict(batch_size=8)
auto_scale_lr = dict(base_batch_size=8)
train_cfg = dict(max_epochs=60)
param_scheduler = dict(warmup=3, min_lr=1e-5)
