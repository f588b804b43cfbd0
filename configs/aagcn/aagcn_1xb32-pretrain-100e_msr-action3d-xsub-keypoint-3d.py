_base_ = '../stgcn/stgcn_1xb32-pretrain-100e_msr-action3d-xsub-keypoint-3d.py'

model = dict(
    backbone=dict(type='AAGCN', num_person=1, graph_cfg=dict(mode='spatial'))
)
