# MSR-Action3D, as tools/data/msr_action3d.py writes it: one person, 20 joints
# of a Kinect v1, some 40 frames a sequence.
dataset = dict(
    ann_file='data/msr_action3d.pkl',
    num_classes=20,
    layout='msr_action3d',
    num_frames=40,
    num_person=1,
    # By default a crop keeps 64 frames, which is more than most have.
    min_crop_frames=16,
    # A tenth of these clips' 200 tokens is too little to learn much from.
    mask_ratio=0.75,
)
