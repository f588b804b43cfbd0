# PKU-MMD, phase II, cross-view.
_base_ = './pku2-xsub.py'

train_dataloader = dict(dataset=dict(split='xview_train'))
val_dataloader = dict(dataset=dict(split='xview_val'))
test_dataloader = val_dataloader
