from mmaction.registry import TRANSFORMS

from mamp_mmaction.layouts import get_layout, joint_indices

from ..sample_name import sample_name
from .shown_transform import ShownTransform


@TRANSFORMS.register_module()
class MapJoints(ShownTransform):
    """Turn a skeleton of one layout into one of another, joint by joint.

    Joints are matched by their names, so that data sets of several orders,
    or with further joints, train one model. It stands before
    :class:`CenterSkeleton`.

    Required Keys:

        - keypoint
        - keypoint_score (optional)

    Modified Keys:

        - keypoint
        - keypoint_score (optional)

    Args:
        source (str): Name of the layout that the data has
            (:mod:`mamp_mmaction.layouts`).
        target (str): Name of the layout that the model has; its joints must
            be among those of ``source``.
    """

    def __init__(self, source: str, target: str) -> None:
        self.source = source
        self.target = target
        self.num_joints = get_layout(source).num_joints
        self.indices = joint_indices(source, target)

    def transform(self, results: dict) -> dict:
        """Take the joints of ``keypoint`` (M, T, V, C) and its score.

        Returns:
            dict: The result dict; V is the target's number of joints.

        Raises:
            ValueError: If the sample, which is named, has not the source's
                number of joints.
        """
        num_joints = results['keypoint'].shape[2]
        if num_joints != self.num_joints:
            raise ValueError(
                f'{sample_name(results)} has {num_joints} joints, but '
                f'MapJoints from layout {self.source!r} to {self.target!r} '
                f'needs {self.num_joints}: name the layout that this data '
                'set is stored in.'
            )
        for key in ('keypoint', 'keypoint_score'):
            if key in results:
                results[key] = results[key][:, :, self.indices]
        return results
