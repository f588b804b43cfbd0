_base_ = [
    '../_base_/datasets/kinect-v1.py',
    '../_base_/stgcn_pretrain.py',
]

from mamp_mmaction.config import use_dataset

# With nine tenths masked a graph convolution sees little but mask tokens.
use_dataset(_base_, mask_ratio=0.5)
model = dict(
    backbone=dict(
        gcn_adaptive='init',
        gcn_with_res=True,
        tcn_type='mstcn',
        graph_cfg=dict(mode='spatial'),
    )
)
train_cfg = dict(max_epochs=60)
auto_scale_lr = dict(base_batch_size=32)
