_base_ = './mamp_1xb32-finetune-70e_utd-mhad-xsub-keypoint-3d.py'

load_from = None
