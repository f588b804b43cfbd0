_base_ = './mamp_1xb32-finetune-30e_nw-ucla-xview-keypoint-3d.py'

optim_wrapper = dict(paramwise_cfg=dict(layer_decay=1.0))
load_from = None
