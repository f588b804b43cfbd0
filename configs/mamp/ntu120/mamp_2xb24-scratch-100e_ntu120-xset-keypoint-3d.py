_base_ = './mamp_2xb24-finetune-100e_ntu120-xset-keypoint-3d.py'

optim_wrapper = dict(paramwise_cfg=dict(layer_decay=1.0))
load_from = None
