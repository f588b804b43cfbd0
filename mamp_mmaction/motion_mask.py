"""The motion-aware mask: which tokens the encoder sees.

To try another mask strategy, change :func:`motion_aware_mask` or write a
transform beside :class:`MotionAwareMask` that fills ``results['mask']``;
nothing else in the package knows how a mask was made.
"""

from functools import reduce
from operator import add

import numpy as np
import torch

from .patches import ArrayOrTensor, coordinates, num_segments

EPS = 1e-10


def num_visible_tokens(num_tokens: int, mask_ratio: float) -> int:
    """Number of tokens per person that stay visible, int(L * (1 - ratio)).

    The truncation acts on the floating-point product, as in the published
    results: 750 tokens at a ratio of 0.9 keep 74.

    Args:
        num_tokens (int): Tokens per person, L.
        mask_ratio (float): Share of the tokens that is masked.

    Returns:
        int: Tokens that stay visible.

    Raises:
        ValueError: If the ratio is outside (0, 1), or leaves nothing to see
            or nothing to predict.
    """
    if not 0 < mask_ratio < 1:
        raise ValueError(
            f'mask_ratio={mask_ratio} is outside (0, 1): it is the share of '
            'the tokens that is hidden from the encoder, 0.9 in the paper.'
        )
    visible = int(num_tokens * (1 - mask_ratio))
    if not 0 < visible < num_tokens:
        raise ValueError(
            f'mask_ratio={mask_ratio} keeps {visible} of {num_tokens} tokens '
            'per person: choose a ratio that leaves tokens both to see and '
            'to predict.'
        )
    return visible


def motion_intensity(
    keypoint: ArrayOrTensor, t_patch_size: int, num_coords: int | None = None
) -> ArrayOrTensor:
    """Mean absolute change of every token since the segment before.

    Args:
        keypoint (np.ndarray | torch.Tensor): Skeletons of shape (M, T, V,
            C).
        t_patch_size (int): Frames of one patch, u.
        num_coords (int, optional): Leading channels that are coordinates;
            the others do not count. Defaults to None, all of them.

    Returns:
        np.ndarray | torch.Tensor: Intensities of shape (M, T / u * V), in
        the skeleton's units; the first segment repeats the second.

    Raises:
        ValueError: If T is no multiple of u, or a single segment, or there
            are fewer than ``num_coords`` channels.
    """
    keypoint = coordinates(keypoint, num_coords)
    M, T, V, C = keypoint.shape
    segments = num_segments(T, t_patch_size)
    if segments < 2:
        raise ValueError(
            f'{T} frames are a single segment of t_patch_size={t_patch_size}:'
            ' motion needs at least two; use longer clips, a smaller patch, '
            'or tau=0 for a random mask.'
        )
    library = np if isinstance(keypoint, np.ndarray) else torch
    change = keypoint[:, t_patch_size:] - keypoint[:, :-t_patch_size]
    library.abs(change, out=change)
    # Whole frames first, then coordinate by coordinate: numpy is slow at
    # adding up the short axes of one mean(axis=(2, 4)).
    change = change.reshape(M, segments - 1, t_patch_size, V * C).sum(2)
    change = change.reshape(M, segments - 1, V, C)
    intensity = reduce(add, [change[..., c] for c in range(C)])
    intensity = intensity / (t_patch_size * C)
    intensity = library.concatenate([intensity[:, :1], intensity], 1)
    return intensity.reshape(M, segments * V)


def motion_aware_mask(
    keypoint: np.ndarray,
    uniform: np.ndarray,
    *,
    mask_ratio: float,
    tau: float,
    t_patch_size: int,
    num_coords: int | None = None,
) -> np.ndarray:
    """Mask moving joints more often than still ones.

    Source: the paper's motion-aware masking strategy.

    Every token is ranked by ``log(pi) + Gumbel noise``, where ``pi`` is a
    softmax of the motion intensity over the person's tokens at temperature
    ``tau * max intensity``; the lowest stay visible. The softmax divides all
    tokens of a person by one number, which no ranking can see, so the scores
    are taken before that division.

    Args:
        keypoint (np.ndarray): Skeletons of shape (M, T, V, C).
        uniform (np.ndarray): Noise in [0, 1) of shape (M, L), where L is
            T / t_patch_size * V.
        mask_ratio (float): Share of the tokens that is masked, in (0, 1).
        tau (float): Temperature; small values follow the motion strictly.
            0 ignores the motion: a uniformly random mask.
        t_patch_size (int): Frames of one patch.
        num_coords (int, optional): Leading channels that are coordinates,
            2 for 2D with a confidence. Defaults to None, all of them.

    Returns:
        np.ndarray: Bool, (M, L), True where a token is masked. Every person
        keeps ``int(L * (1 - mask_ratio))`` tokens.

    Raises:
        ValueError: If an argument is out of range or a shape does not fit.
    """
    keypoint, uniform = np.asarray(keypoint), np.asarray(uniform)
    if keypoint.ndim != 4:
        raise ValueError(
            'keypoint must have shape (persons, frames, joints, channels), '
            f'got {keypoint.shape}.'
        )
    M, T, V, _ = keypoint.shape
    num_tokens = num_segments(T, t_patch_size) * V
    if uniform.shape != (M, num_tokens):
        raise ValueError(
            f'uniform must have shape (persons, tokens) = {(M, num_tokens)} '
            f'for a keypoint of shape {keypoint.shape} and '
            f't_patch_size={t_patch_size}, got {uniform.shape}.'
        )
    if not tau >= 0:
        raise ValueError(f'tau={tau} must not be negative.')
    visible = num_visible_tokens(num_tokens, mask_ratio)

    if tau == 0:
        score = uniform
    else:
        intensity = motion_intensity(keypoint, t_patch_size, num_coords)
        peak = intensity.max(axis=1, keepdims=True)
        # minus that logarithm is Gumbel noise
        score = intensity / (tau * peak + EPS)
        score = score - np.log(-np.log(uniform + EPS) + EPS)
    return _all_but_lowest(score, visible)


def _all_but_lowest(score: np.ndarray, count: int) -> np.ndarray:
    """Bool array that is False at the ``count`` lowest scores of each row."""
    limit = np.partition(score, count - 1, axis=1)[:, count - 1 : count]
    mask = score > limit
    if np.count_nonzero(~mask) > count * len(mask):
        # Several scores equal the limit, and some of those must go.
        lowest = np.argpartition(score, count - 1, axis=1)[:, :count]
        mask = np.ones_like(mask)
        np.put_along_axis(mask, lowest, False, axis=1)
    return mask
