import numpy as np
from mmaction.registry import TRANSFORMS

from ..sample_name import sample_name
from .shown_transform import ShownTransform


@TRANSFORMS.register_module()
class ScaleToImage(ShownTransform):
    """Scale pixels to the image, whose sides become -1 and 1.

    The toolbox's ``PreNormalize2D``, except that joints and persons that are
    absent, whose coordinates are all zero, stay exactly zero, where those
    that come later look for them; there they become -1. A confidence channel
    (``keypoint_score``) is left alone.

    Required Keys:

        - keypoint
        - img_shape (unless given)

    Modified Keys:

        - keypoint

    Args:
        img_shape (tuple[int, int], optional): Height and width in pixels of
            images that do not tell theirs. Defaults to None.
    """

    def __init__(self, img_shape: tuple[int, int] | None = None) -> None:
        self.img_shape = img_shape

    def transform(self, results: dict) -> dict:
        """Scale ``keypoint`` (M, T, V, 2).

        Returns:
            dict: The result dict; ``keypoint`` is a new float32 array.

        Raises:
            ValueError: If the sample, which is named, is not 2D or its image
                has no size.
        """
        keypoint = results['keypoint'].astype(np.float32)
        if keypoint.shape[-1] != 2:
            raise ValueError(
                f'ScaleToImage needs two coordinates a joint, in pixels, but '
                f'{sample_name(results)} has a keypoint of shape '
                f'{keypoint.shape}.'
            )
        shape = results.get('img_shape')
        if shape is None:
            shape = self.img_shape
        if shape is None or min(shape) <= 0:
            raise ValueError(
                f'{sample_name(results)} has img_shape={shape}: give the '
                "image's (height, width) in its annotation, or one for all "
                'by ScaleToImage(img_shape=).'
            )
        present = keypoint.any(axis=-1, keepdims=True)
        half = np.float32([shape[1] / 2, shape[0] / 2])
        results['keypoint'] = np.where(present, keypoint / half - 1, 0)
        return results
