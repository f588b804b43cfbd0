# 5 % of the labels, 51 sequences, about five of a class; draws by
# train_dataloader.dataset.label_seed.
_base_ = './mamp_1xb32-finetune-30e_nw-ucla-xview-keypoint-3d.py'

train_dataloader = dict(
    batch_size=8, dataset=dict(label_ratio=0.05, label_balanced=True)
)
train_cfg = dict(max_epochs=100, val_interval=5)
auto_scale_lr = dict(base_batch_size=8)
