_base_ = './mamp_1xb32-finetune-100e_msr-action3d-xsub-keypoint-3d.py'

load_from = None
