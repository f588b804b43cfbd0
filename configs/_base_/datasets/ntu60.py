# NTU RGB+D 60.
dataset = dict(
    ann_file='data/skeleton/ntu60_3d.pkl',
    num_classes=60,
    layout='nturgb+d',
    num_frames=120,
    num_person=2,
)
