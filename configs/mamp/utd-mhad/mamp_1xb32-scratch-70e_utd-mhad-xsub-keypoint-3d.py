_base_ = './mamp_1xb32-finetune-70e_utd-mhad-xsub-keypoint-3d.py'

optim_wrapper = dict(paramwise_cfg=dict(layer_decay=1.0))
load_from = None
