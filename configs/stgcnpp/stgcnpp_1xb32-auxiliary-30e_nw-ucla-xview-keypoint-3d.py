_base_ = './stgcnpp_1xb32-auxiliary-100e_msr-action3d-xsub-keypoint-3d.py'

from mamp_mmaction.config import use_dataset

use_dataset(
    _base_,
    ann_file='data/nw_ucla.pkl',
    num_classes=10,
    layout='nw_ucla',
    split='xview',
)
train_cfg = dict(max_epochs=30)
