_base_ = './stgcnpp_1xb32-scratch-100e_msr-action3d-xsub-keypoint-3d.py'

from mamp_mmaction.config import use_dataset

use_dataset(
    _base_,
    ann_file='data/utd_mhad.pkl',
    num_classes=27,
    layout='utd_mhad',
    split='xsub',
)
train_cfg = dict(max_epochs=70)
