import numpy as np
import torch
from mmaction.registry import TRANSFORMS

from mamp_mmaction.layouts import get_layout
from mamp_mmaction.motion_mask import motion_aware_mask, num_visible_tokens
from mamp_mmaction.patches import num_segments

from ..sample_name import sample_name
from .shown_transform import ShownTransform


@TRANSFORMS.register_module()
class MotionAwareMask(ShownTransform):
    """Draw the mask of every person by :func:`motion_aware_mask`.

    It stands between ``FormatGCNInput`` and
    ``PackActionInputs(algorithm_keys=('mask', ))``, which hands the mask to
    the model as ``data_sample.mask``.

    Source: the paper's motion-aware masking.

    Required Keys:

        - keypoint
        - sample_idx (where ``seed`` is set)

    Added Keys:

        - mask (torch.Tensor): Bool, (M, L) with L = T / t_patch_size * V;
          True where a token is hidden from the encoder.

    Args:
        mask_ratio (float): Share of the tokens that is masked, in (0, 1).
            Defaults to 0.9.
        tau (float): Temperature of the motion; 0 masks at random.
            Defaults to 0.8.
        t_patch_size (int): Frames of one patch. Defaults to 4.
        seed (int, optional): Where given, a sample's mask depends on this
            number and on the sample alone, so that validation losses can be
            compared between epochs and runs. None draws a new mask every
            time. Defaults to None.
        num_coords (int, optional): Leading channels that are coordinates
            and whose motion counts; 2 for 2D with a confidence. Defaults to
            None, all.
        tube (int): Segments of a joint that are masked together; a clip
            has T / t_patch_size. Defaults to 1.
        part (str): What is masked together: ``'joint'``, or ``'limb'`` for
            the limbs of the layout, of which the trunk with the head counts
            as one. Defaults to ``'joint'``.
        layout (str, optional): Name of the skeleton
            (:mod:`mamp_mmaction.layouts`), which says what the limbs are.
            Defaults to None.

    Raises:
        ValueError: If mask_ratio is outside (0, 1), tau negative, tube below
            1, part unknown, or the layout that limbs need unknown or absent.
    """

    def __init__(
        self,
        mask_ratio: float = 0.9,
        tau: float = 0.8,
        t_patch_size: int = 4,
        seed: int | None = None,
        num_coords: int | None = None,
        tube: int = 1,
        part: str = 'joint',
        layout: str | None = None,
    ) -> None:
        num_visible_tokens(10**9, mask_ratio)
        if not tau >= 0:
            raise ValueError(f'tau={tau} must not be negative.')
        if tube < 1:
            raise ValueError(f'tube={tube} must be at least 1.')
        if part not in ('joint', 'limb'):
            raise ValueError(f"part={part!r} is neither 'joint' nor 'limb'.")
        if part == 'limb' and layout is None:
            raise ValueError(
                "part='limb' needs layout=..., the name of the skeleton, "
                'which says what its limbs are.'
            )
        self.mask_ratio = mask_ratio
        self.tau = tau
        self.t_patch_size = t_patch_size
        self.seed = seed
        self.num_coords = num_coords
        self.tube = tube
        self.part = part
        self.layout = layout
        self.limbs = get_layout(layout).limbs if part == 'limb' else None

    def _uniform(self, results: dict, shape: tuple) -> np.ndarray:
        """Noise in [0, 1), (M, L)."""
        if self.seed is None:
            return np.random.random(shape)
        if 'sample_idx' not in results:
            raise ValueError(
                f'MotionAwareMask(seed={self.seed}) draws the mask of '
                f'{sample_name(results)} from its sample_idx, which it does '
                'not have: data sets add it; do so too where you call the '
                'pipeline yourself, or leave out the seed.'
            )
        rng = np.random.default_rng([self.seed, results['sample_idx']])
        return rng.random(shape)

    def transform(self, results: dict) -> dict:
        """Add the mask for ``keypoint`` (1, M, T, V, C).

        Returns:
            dict: The result dict with ``mask`` (M, L).

        Raises:
            ValueError: If the sample, which is named, has several clips,
                or is not laid out by ``FormatGCNInput``, or lacks
                ``sample_idx`` where there is a seed, or has not the
                layout's joints; or if a tube is longer than the clip.
        """
        keypoint = results['keypoint']
        if keypoint.ndim != 5 or keypoint.shape[0] != 1:
            raise ValueError(
                'MotionAwareMask needs one clip of shape (1, persons, frames,'
                f' joints, channels), but {sample_name(results)} has '
                f'{keypoint.shape}: put it behind FormatGCNInput and use '
                'num_clips=1.'
            )
        _, M, T, V, _ = keypoint.shape
        shape = (M, num_segments(T, self.t_patch_size) * V)
        if self.limbs is not None and sum(map(len, self.limbs)) != V:
            raise ValueError(
                f'MotionAwareMask(layout={self.layout!r}) needs '
                f'{sum(map(len, self.limbs))} joints, but '
                f'{sample_name(results)} has {V}.'
            )
        mask = motion_aware_mask(
            keypoint[0],
            self._uniform(results, shape),
            mask_ratio=self.mask_ratio,
            tau=self.tau,
            t_patch_size=self.t_patch_size,
            num_coords=self.num_coords,
            tube=self.tube,
            limbs=self.limbs,
        )
        results['mask'] = torch.from_numpy(mask)
        return results
