# 10 % of the labels; five draws by train_dataloader.dataset.label_seed.
_base_ = './mamp_2xb24-finetune-100e_ntu60-xsub-keypoint-3d.py'

train_dataloader = dict(dataset=dict(label_ratio=0.1))
