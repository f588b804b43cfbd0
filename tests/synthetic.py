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


def write(path, data):
    """Pickle a data set; returns the path as a string."""
    path.write_bytes(pickle.dumps(data))
    return str(path)
