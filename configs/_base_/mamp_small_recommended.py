# For data sets of some hundred sequences, found on subjects of training data
# who were left out: a quarter of the masked tokens is decoded, each from the
# visible ones alone, and counts by its share of the motion; few samples a
# step, many steps.
_base_ = './mamp_small_pretrain.py'

model = dict(
    decode_ratio=0.25,
    neck=dict(attention='cross'),
    head=dict(loss_weight='motion'),
)
train_dataloader = dict(batch_size=8)
auto_scale_lr = dict(base_batch_size=8)
param_scheduler = dict(warmup=3, min_lr=1e-5)
