# PKU-MMD, phase II, cross-subject. Its coordinates are not centred.
_base_ = './loaders.py'

ann_file = 'data/skeleton/pku2_3d.pkl'
num_classes = 51
skeleton = dict(num_frames=120, num_joints=25)

center = dict(type='CenterSkeleton', center_joint=None)
train_crop = dict(type='TemporalCropResize', num_frames=skeleton['num_frames'])
test_crop = dict(train_crop, test_mode=True)
rotate = dict(type='RandomRotate3D')
persons = dict(type='FormatGCNInput', num_person=2)
mask = dict(type='MotionAwareMask', mask_ratio=0.9, tau=0.8)
random_mask = dict(mask, tau=0.0)
pack = dict(
    type='PackActionInputs', meta_keys=('frame_dir',), algorithm_keys=('mask',)
)

train_pipeline = [center, train_crop, rotate, persons, pack]
val_pipeline = [center, test_crop, persons, pack]
pretrain_pipeline = [center, train_crop, rotate, persons, mask, pack]
pretrain_val_pipeline = [center, test_crop, persons, dict(mask, seed=0), pack]
mae_pipeline = [center, train_crop, rotate, persons, random_mask, pack]
mae_val_pipeline = [
    center,
    test_crop,
    persons,
    dict(random_mask, seed=0),
    pack,
]

train_dataloader = dict(
    dataset=dict(
        ann_file=ann_file,
        split='xsub_train',
        num_classes=num_classes,
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        ann_file=ann_file,
        split='xsub_val',
        num_classes=num_classes,
        pipeline=val_pipeline,
    )
)
test_dataloader = val_dataloader
