# Loaders and pipelines of every data set. What data sets differ in is set by
# mamp_mmaction.config.use_dataset.
train_dataloader = dict(
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='SkeletonDataset',
        pipeline=[
            dict(type='CenterSkeleton'),
            dict(type='TemporalCropResize'),
            dict(type='RandomRotate3D'),
            dict(type='FormatGCNInput'),
            dict(
                type='PackActionInputs',
                meta_keys=('frame_dir',),
                algorithm_keys=('mask',),
            ),
        ],
    ),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='SkeletonDataset',
        test_mode=True,
        pipeline=[
            dict(type='CenterSkeleton'),
            dict(type='TemporalCropResize', test_mode=True),
            dict(type='FormatGCNInput'),
            dict(
                type='PackActionInputs',
                meta_keys=('frame_dir',),
                algorithm_keys=('mask',),
            ),
        ],
    ),
)
test_dataloader = val_dataloader
