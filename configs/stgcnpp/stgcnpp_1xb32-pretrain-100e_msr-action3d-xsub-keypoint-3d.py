_base_ = '../stgcn/stgcn_1xb32-pretrain-100e_msr-action3d-xsub-keypoint-3d.py'

model = dict(
    backbone=dict(
        gcn_adaptive='init',
        gcn_with_res=True,
        tcn_type='mstcn',
        graph_cfg=dict(mode='spatial'),
    )
)
