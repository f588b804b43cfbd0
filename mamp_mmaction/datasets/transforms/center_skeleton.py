import numpy as np
from mmaction.registry import TRANSFORMS

from ..sample_name import sample_name
from .shown_transform import ShownTransform


@TRANSFORMS.register_module()
class CenterSkeleton(ShownTransform):
    """Move the origin to one joint of the first person.

    Source: the paper's data processing.

    Frames in which nobody is present are dropped. The origin is the centre
    joint of person 1 in the first frame where person 1 is present (of the
    first person who ever is, should person 1 never be); it is subtracted
    from every present person. A person is present in a frame where any
    coordinate differs from zero; absent persons stay exactly zero. Nothing
    is rotated and persons keep their order.

    Required Keys:

        - keypoint
        - keypoint_score (optional)

    Modified Keys:

        - keypoint
        - keypoint_score (optional)
        - total_frames

    Args:
        center_joint (int, optional): The joint that becomes the origin; 1,
            the middle of the spine, for NTU RGB+D. None leaves the
            coordinates as they are and only drops empty frames, as
            the recipes for PKU-MMD do. Defaults to 1.
    """

    def __init__(self, center_joint: int = 1) -> None:
        self.center_joint = center_joint

    def transform(self, results: dict) -> dict:
        """Center ``keypoint`` (M, T, V, C) and drop its empty frames.

        Returns:
            dict: The result dict; ``keypoint`` is a new float32 array.

        Raises:
            ValueError: If no frame holds a person, or the centre joint does
                not exist. The sample is named.
        """
        keypoint = results['keypoint'].astype(np.float32)  # (M, T, V, C)
        num_joints = keypoint.shape[2]
        present = keypoint.any(axis=(2, 3))  # (M, T)
        occupied = present.any(axis=0)  # (T,)
        if not occupied.any():
            raise ValueError(
                f'{sample_name(results)} has no valid frame: all coordinates '
                f'of its keypoint of shape {keypoint.shape} are zero. Remove '
                'it from the annotation file.'
            )
        if not occupied.all():
            keypoint, present = keypoint[:, occupied], present[:, occupied]
            if 'keypoint_score' in results:
                score = results['keypoint_score']
                results['keypoint_score'] = score[:, occupied]

        if self.center_joint is not None:
            if not 0 <= self.center_joint < num_joints:
                raise ValueError(
                    f'center_joint={self.center_joint} does not exist in '
                    f'{sample_name(results)}, which has {num_joints} joints '
                    f'(0 to {num_joints - 1}).'
                )
            person = present.any(axis=1).argmax()
            frame = present[person].argmax()
            origin = keypoint[person, frame, self.center_joint]
            # Repeated for every joint: numpy is slow at rows of three.
            keypoint -= origin[None].repeat(num_joints, axis=0)
            if not present.all():
                keypoint[~present] = 0

        results['keypoint'] = keypoint
        results['total_frames'] = keypoint.shape[1]
        return results
