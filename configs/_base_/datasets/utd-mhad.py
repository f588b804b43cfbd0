# UTD-MHAD, as tools/data/utd_mhad.py writes it: sizes as of MSR-Action3D.
_base_ = './msr-action3d.py'

dataset = dict(ann_file='data/utd_mhad.pkl', num_classes=27, layout='utd_mhad')
