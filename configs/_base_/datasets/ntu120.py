# NTU RGB+D 120. A single body is given twice, as in the data that the published
# results rest on.
dataset = dict(
    ann_file='data/skeleton/ntu120_3d.pkl',
    num_classes=120,
    layout='nturgb+d',
    num_frames=120,
    num_person=2,
    fill='loop',
    tau=0.75,
)
