from collections.abc import Sequence

import numpy as np
from mmaction.registry import TRANSFORMS

from ..sample_name import sample_name
from .shown_transform import ShownTransform


def rotation_matrix(angles: Sequence[float]) -> np.ndarray:
    """Rotation about x, then y, then z: Rz @ Ry @ Rx.

    Each factor turns clockwise when its axis points at the viewer, the
    transpose of the usual right-handed matrix.

    Args:
        angles (Sequence[float]): Angles about x, y and z in radians.

    Returns:
        np.ndarray: float32 matrix of shape (3, 3), applied as ``R @ xyz``.
    """
    cx, cy, cz = np.cos(angles).tolist()
    sx, sy, sz = np.sin(angles).tolist()
    about_x = np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]])
    about_y = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    about_z = np.array([[cz, sz, 0], [-sz, cz, 0], [0, 0, 1]])
    return (about_z @ about_y @ about_x).astype(np.float32)


@TRANSFORMS.register_module()
class RandomRotate3D(ShownTransform):
    """Turn all persons of a sample by one random rotation.

    Source: the paper's data processing.

    A confidence channel (``keypoint_score``) is left alone.

    Required Keys:

        - keypoint

    Modified Keys:

        - keypoint

    Args:
        max_angle (float | Sequence[float]): The angles about x, y and z are
            drawn from U(-max_angle, max_angle), in radians; three numbers
            are one for each. Defaults to 0.3.

    Raises:
        ValueError: If max_angle is outside [0, pi], or neither one number nor
            three.
    """

    def __init__(self, max_angle: float | Sequence[float] = 0.3) -> None:
        angles = np.asarray(max_angle, dtype=float)
        inside = ((angles >= 0) & (angles <= np.pi)).all()
        if angles.shape not in ((), (3,)) or not inside:
            raise ValueError(
                f'max_angle={max_angle} must be in [0, pi], in radians: one '
                'number, or one for each of x, y and z.'
            )
        self.max_angle = max_angle

    def transform(self, results: dict) -> dict:
        """Rotate ``keypoint`` (M, T, V, 3).

        Raises:
            ValueError: If the sample, which is named, is not 3D.
        """
        keypoint = results['keypoint']
        if keypoint.shape[-1] != 3:
            raise ValueError(
                f'RandomRotate3D needs three coordinates a joint, but '
                f'{sample_name(results)} has a keypoint of shape '
                f'{keypoint.shape}: leave the rotation out of a 2D pipeline.'
            )
        limit = np.asarray(self.max_angle)
        angles = np.random.uniform(-limit, limit, size=3)
        # One product for all; on a stack numpy makes one for each frame.
        matrix = np.ascontiguousarray(rotation_matrix(angles).T)
        rotated = keypoint.reshape(-1, 3) @ matrix
        results['keypoint'] = rotated.reshape(keypoint.shape)
        return results
