# PKU-MMD, phase II.
_base_ = './pku1.py'

dataset = dict(ann_file='data/skeleton/pku2_3d.pkl')
