# MSR-Action3D, Northwestern-UCLA and UTD-MHAD, whose joints are the same in
# three orders, as one data set without labels.
dataset = dict(
    union=[
        dict(
            ann_file='data/msr_action3d.pkl',
            stored_layout='msr_action3d',
            split='xsub',
        ),
        dict(
            ann_file='data/nw_ucla.pkl',
            stored_layout='nw_ucla',
            split='xview',
        ),
        dict(
            ann_file='data/utd_mhad.pkl',
            stored_layout='utd_mhad',
            split='xsub',
        ),
    ],
    layout='kinect_v1',
    num_frames=40,
    num_person=1,
    min_crop_frames=16,
    mask_ratio=0.9,
)
