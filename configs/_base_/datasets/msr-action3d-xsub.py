# MSR-Action3D, cross-subject, as tools/data/msr_action3d.py writes it: one
# person, 20 joints of a Kinect v1, some 40 frames a sequence.
_base_ = './loaders.py'

from mamp_mmaction.layouts import get_layout  # noqa: E402

ann_file = 'data/msr_action3d.pkl'
num_classes = 20
skeleton = dict(num_frames=60, num_joints=20)
graph = get_layout('msr_action3d').graph()

center = dict(type='CenterSkeleton', center_joint=3)
# By default a crop keeps 64 frames, which is more than most sequences have.
train_crop = dict(
    type='TemporalCropResize',
    num_frames=skeleton['num_frames'],
    min_crop_frames=16,
)
test_crop = dict(train_crop, test_mode=True)
rotate = dict(type='RandomRotate3D')
persons = dict(type='FormatGCNInput', num_person=1)
# A tenth of these clips' 300 tokens is too little to learn much from.
mask = dict(type='MotionAwareMask', mask_ratio=0.75, tau=0.8)
random_mask = dict(mask, tau=0.0)
# For graph convolutions, which see the masked skeleton whole.
dense_mask = dict(mask, mask_ratio=0.9)
pack = dict(
    type='PackActionInputs', meta_keys=('frame_dir',), algorithm_keys=('mask',)
)

train_pipeline = [center, train_crop, rotate, persons, pack]
val_pipeline = [center, test_crop, persons, pack]
# What comes before the mask.
train_steps, val_steps = train_pipeline[:-1], val_pipeline[:-1]
pretrain_pipeline = [*train_steps, mask, pack]
pretrain_val_pipeline = [*val_steps, dict(mask, seed=0), pack]
dense_pipeline = [*train_steps, dense_mask, pack]
dense_val_pipeline = [*val_steps, dict(dense_mask, seed=0), pack]
mae_pipeline = [*train_steps, random_mask, pack]
mae_val_pipeline = [*val_steps, dict(random_mask, seed=0), pack]

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
