# PKU-MMD, phase I. Its coordinates are not centred.
dataset = dict(
    ann_file='data/skeleton/pku1_3d.pkl',
    num_classes=51,
    layout='nturgb+d',
    num_frames=120,
    num_person=2,
    center=False,
)
