# Northwestern-UCLA, as tools/data/nw_ucla.py writes it: sizes as of
# MSR-Action3D.
_base_ = './msr-action3d.py'

dataset = dict(ann_file='data/nw_ucla.pkl', num_classes=10, layout='nw_ucla')
