_base_ = './mamp_1xb32-finetune-30e_nw-ucla-xview-keypoint-3d.py'

load_from = None
