_base_ = './stgcn_1xb32-scratch-100e_msr-action3d-xsub-keypoint-3d.py'

load_from = 'work_dirs/stgcn_1xb32-pretrain-100e_msr-action3d-xsub-keypoint-3d/epoch_100.pth'
