import numpy as np
from mmaction.registry import TRANSFORMS

from mamp_mmaction.layouts import get_layout

from ..sample_name import sample_name
from .shown_transform import ShownTransform

STREAMS = ('joint', 'bone', 'joint_motion', 'bone_motion')


@TRANSFORMS.register_module()
class SkeletonStream(ShownTransform):
    """Turn joint positions into another input stream.

    ``bone`` is every joint minus its parent in the skeleton, ``*_motion``
    the difference to the next frame (the last frame zero). A confidence
    channel (``keypoint_score``) is left alone.

    Required Keys:

        - keypoint

    Modified Keys:

        - keypoint

    Args:
        stream (str): ``'joint'``, ``'bone'``, ``'joint_motion'`` or
            ``'bone_motion'``.
        layout (str): Name of the skeleton layout that says which joint is
            whose parent (:mod:`mamp_mmaction.layouts`). Defaults to
            ``'nturgb+d'``.

    Raises:
        ValueError: If the stream or the layout is unknown.
    """

    def __init__(self, stream: str, layout: str = 'nturgb+d') -> None:
        if stream not in STREAMS:
            raise ValueError(f'stream={stream!r} is none of {STREAMS}.')
        self.stream = stream
        self.layout = layout
        self._skeleton = get_layout(layout)

    def transform(self, results: dict) -> dict:
        """Replace ``keypoint`` (M, T, V, C) by the stream, same shape.

        Raises:
            ValueError: If the sample, which is named, has not the layout's
                number of joints.
        """
        keypoint = results['keypoint']
        num_joints = keypoint.shape[2]
        if num_joints != self._skeleton.num_joints:
            raise ValueError(
                f'{sample_name(results)} has {num_joints} joints, but the '
                f'layout {self.layout!r} has {self._skeleton.num_joints}: '
                'name the layout of this data set.'
            )
        if self.stream.startswith('bone'):
            keypoint = keypoint - keypoint[:, :, list(self._skeleton.parents)]
        if self.stream.endswith('motion'):
            motion = np.zeros_like(keypoint)
            motion[:, :-1] = np.diff(keypoint, axis=1)
            keypoint = motion
        results['keypoint'] = keypoint
        return results
