_base_ = [
    '../../_base_/datasets/nw-ucla.py',
    '../../_base_/mamp_small_finetune.py',
]

from mamp_mmaction.config import use_dataset

# The test camera stands elsewhere: turn up to 57 degrees about the vertical.
use_dataset(_base_, split='xview', max_angle=(0.3, 1.0, 0.3))
train_cfg = dict(max_epochs=30)
load_from = (
    'work_dirs/mamp_1xb32-pretrain-80e_nw-ucla-xview-keypoint-3d/epoch_80.pth'
)
