_base_ = './mamp_2xb24-finetune-100e_pku2-xsub-keypoint-3d.py'

load_from = (
    'work_dirs/mamp_4xb32-pretrain-400e_ntu60-xsub-keypoint-3d/epoch_400.pth'
)
