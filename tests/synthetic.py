"""Small random data sets in the toolbox's annotation format."""

import pickle

import numpy as np


def annotation(
    index, label=None, persons=1, frames=20, joints=25, channels=3, classes=5
):
    """A random walk of a skeleton; the class tilts its direction."""
    rng = np.random.default_rng(index)
    label = index % classes if label is None else label
    shape = (persons, frames, joints, channels)
    steps = rng.normal(scale=0.02, size=shape)
    steps[..., label % joints, :] += 0.02
    start = rng.normal(size=(persons, 1, joints, channels))
    return dict(
        frame_dir=f'S{index:03}',
        label=label,
        total_frames=frames,
        keypoint=(start + steps.cumsum(axis=1)).astype(np.float32),
    )


def data_set(size=40, train=30, **kwargs):
    """Splits ``xsub_train`` (the first ``train`` samples), ``xsub_val``."""
    annotations = [annotation(i, **kwargs) for i in range(size)]
    names = [a['frame_dir'] for a in annotations]
    return dict(
        split=dict(xsub_train=names[:train], xsub_val=names[train:]),
        annotations=annotations,
    )


def pixel_data(size=5, train=5, side=100):
    """Skeletons of 17 joints in a square image, with confidences."""
    data = data_set(size, train, joints=17, channels=2)
    for sample in data['annotations']:
        sample['keypoint'] = side * (0.5 + 0.1 * sample['keypoint'])
        sample['keypoint_score'] = np.ones((1, 20, 17), np.float32)
        sample['img_shape'] = sample['original_shape'] = (side, side)
    return data


def pipeline(frames, persons=2, mask_ratio=None):
    """Transforms as the configs have them; masks where there is a ratio."""
    masks = [dict(type='MotionAwareMask', mask_ratio=mask_ratio)]
    return [
        dict(type='CenterSkeleton'),
        dict(type='TemporalCropResize', num_frames=frames),
        dict(type='FormatGCNInput', num_person=persons),
        *(masks if mask_ratio else ()),
        dict(
            type='PackActionInputs',
            algorithm_keys=('mask',),
            meta_keys=('frame_dir',),
        ),
    ]


def loader(ann_file, split, pipeline, dataset='SkeletonDataset', **kwargs):
    """A data loader's config; that of a training split shuffles."""
    shuffle = split.endswith('train')
    cfg = dict(
        batch_size=4,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=shuffle),
        dataset=dict(
            type=dataset, ann_file=ann_file, split=split, pipeline=pipeline
        ),
    )
    return dict(cfg, **kwargs)


def write(path, data):
    """Pickle a data set; returns the path as a string."""
    path.write_bytes(pickle.dumps(data))
    return str(path)
