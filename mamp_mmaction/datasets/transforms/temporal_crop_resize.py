from functools import lru_cache

import numpy as np
from mmaction.registry import TRANSFORMS

from ..sample_name import sample_name
from .shown_transform import ShownTransform


def resize_frames(x: np.ndarray, num_frames: int) -> np.ndarray:
    """Resize a sequence along time, linearly, with half-pixel centres.

    The same as ``torch.nn.functional.interpolate(mode='linear',
    align_corners=False)`` over the frames.

    Args:
        x (np.ndarray): Floating-point array of shape (M, T, ...).
        num_frames (int): Frames wanted, T'.

    Returns:
        np.ndarray: Shape (M, T', ...), of the same dtype.
    """
    before, after, weight = _neighbours(x.shape[1], num_frames)
    weight = weight.astype(x.dtype).reshape((-1,) + (1,) * (x.ndim - 2))
    start = x.take(before, axis=1)
    result = x.take(after, axis=1)
    result -= start
    result *= weight
    result += start
    return result


@lru_cache(maxsize=1024)
def _neighbours(
    length: int, num_frames: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames between which each new frame lies, and the second's weight."""
    position = (np.arange(num_frames) + 0.5) * (length / num_frames) - 0.5
    position = position.clip(0, length - 1)
    before = position.astype(np.intp)
    after = np.minimum(before + 1, length - 1)
    return before, after, position - before


@TRANSFORMS.register_module()
class TemporalCropResize(ShownTransform):
    """Cut out a stretch of time and resize it to a fixed number of frames.

    Training draws the stretch: a share p ~ U(crop_ratio) of the n frames,
    ``min(max(floor(p * n), min_crop_frames), n)`` of them, starting anywhere
    they fit. Testing keeps the middle: ``int((1 - test_crop_ratio) * n / 2)``
    frames are dropped at either end. Either is then resized by
    :func:`resize_frames`.

    Source: the paper's data processing.

    Required Keys:

        - keypoint
        - keypoint_score (optional)

    Modified Keys:

        - keypoint
        - keypoint_score (optional)
        - total_frames

    Args:
        num_frames (int): Frames of the result, T. Defaults to 120.
        crop_ratio (tuple[float, float]): Range of the share of the frames
            that a training crop keeps. Defaults to ``(0.5, 1.0)``.
        min_crop_frames (int): Frames that a training crop keeps at least,
            where the sequence has them. Defaults to 64.
        test_crop_ratio (float): Share of the frames that the test crop
            keeps. Defaults to 0.95.
        test_mode (bool): Take the test crop. Defaults to False.

    Raises:
        ValueError: If a share is outside (0, 1], crop_ratio falls, or a number
            of frames is below 1.
    """

    def __init__(
        self,
        num_frames: int = 120,
        crop_ratio: tuple[float, float] = (0.5, 1.0),
        min_crop_frames: int = 64,
        test_crop_ratio: float = 0.95,
        test_mode: bool = False,
    ) -> None:
        low, high = crop_ratio
        if not 0 < low <= high <= 1:
            raise ValueError(
                f'crop_ratio={crop_ratio} must satisfy 0 < low <= high <= 1.'
            )
        if not 0 < test_crop_ratio <= 1:
            raise ValueError(
                f'test_crop_ratio={test_crop_ratio} must be in (0, 1].'
            )
        if num_frames < 1 or min_crop_frames < 1:
            raise ValueError(
                f'num_frames={num_frames} and min_crop_frames='
                f'{min_crop_frames} must be positive.'
            )
        self.num_frames = num_frames
        self.crop_ratio = (low, high)
        self.min_crop_frames = min_crop_frames
        self.test_crop_ratio = test_crop_ratio
        self.test_mode = test_mode

    def _train_crop(self, total: int) -> tuple[int, int]:
        """Draw the first frame of the crop and the one behind its last."""
        share = np.random.uniform(*self.crop_ratio)
        length = min(max(int(share * total), self.min_crop_frames), total)
        start = np.random.randint(total - length + 1)
        return start, start + length

    def _test_crop(self, total: int) -> tuple[int, int]:
        """First frame of the central crop and the one behind its last."""
        margin = int((1 - self.test_crop_ratio) * total / 2)
        return margin, total - margin

    def transform(self, results: dict) -> dict:
        """Crop and resize ``keypoint`` (M, T_raw, V, C) to (M, T, V, C).

        Raises:
            ValueError: If the sample, which is named, has no frames.
        """
        total = results['keypoint'].shape[1]
        if total == 0:
            raise ValueError(f'{sample_name(results)} has no frames.')
        crop = self._test_crop if self.test_mode else self._train_crop
        start, stop = crop(total)
        for key in ('keypoint', 'keypoint_score'):
            if key in results:
                clip = results[key][:, start:stop]
                clip = clip.astype(np.float32, copy=False)
                results[key] = resize_frames(clip, self.num_frames)
        results['total_frames'] = self.num_frames
        return results
