_base_ = ['../_base_/datasets/msr-action3d.py', '../_base_/stgcn_classify.py']

from mamp_mmaction.config import use_dataset

use_dataset(_base_, split='xsub')
optim_wrapper = dict(optimizer=dict(lr=0.025))
