"""The motion-aware mask: which tokens the encoder sees.

To try another mask strategy, change :func:`motion_aware_mask` or write a
transform beside :class:`MotionAwareMask` that fills ``results['mask']``;
nothing else in the package knows how a mask was made.
"""

from collections.abc import Sequence
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
    tube: int = 1,
    limbs: Sequence[Sequence[int]] | None = None,
) -> np.ndarray:
    """Mask moving joints more often than still ones.

    Source: the paper's motion-aware masking strategy.

    Every token is ranked by ``log(pi) + Gumbel noise``, where ``pi`` is a
    softmax of the motion intensity over the person's tokens at temperature
    ``tau * max intensity``; the lowest stay visible. The softmax divides all
    tokens of a person by one number, which no ranking can see, so the scores
    are taken before that division.

    With ``tube`` or ``limbs``, tokens are masked together: those of a joint,
    or of a limb, in consecutive segments. Such a group is ranked as a token
    is, by the mean intensity over its tokens and the noise of its first one.
    Of the last group that stays visible as many tokens do as are left, the
    earliest ones. Sources: Skeleton2vec (2024) for tubes, SLiM (2026) for
    limbs.

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
        tube (int): Segments that are masked together; the last tube of a
            clip may be shorter. Defaults to 1.
        limbs (Sequence[Sequence[int]], optional): Joints that are masked
            together; every joint is in one limb. Defaults to None, each
            joint by itself.

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

    groups = None
    if tube != 1 or limbs is not None:
        groups = token_groups(num_tokens // V, V, tube, limbs)
        _, first = np.unique(groups, return_index=True)
        uniform = uniform[:, first]
    if tau == 0:
        score = uniform
    else:
        intensity = motion_intensity(keypoint, t_patch_size, num_coords)
        if groups is not None:
            sums = [np.bincount(groups, tokens) for tokens in intensity]
            intensity = np.stack(sums) / np.bincount(groups)
        peak = intensity.max(axis=1, keepdims=True)
        # minus that logarithm is Gumbel noise
        score = intensity / (tau * peak + EPS)
        score = score - np.log(-np.log(uniform + EPS) + EPS)
    if groups is None:
        return _all_but_lowest(score, visible)
    lowest = score[:, groups].argsort(axis=1, kind='stable')[:, :visible]
    mask = np.ones(lowest.shape[:1] + groups.shape, bool)
    np.put_along_axis(mask, lowest, False, axis=1)
    return mask


def token_groups(
    segments: int,
    num_joints: int,
    tube: int,
    limbs: Sequence[Sequence[int]] | None = None,
) -> np.ndarray:
    """Number the groups of tokens that are masked together.

    Args:
        segments (int): Segments of a clip, T'.
        num_joints (int): Joints of the skeleton, V.
        tube (int): Consecutive segments of a group.
        limbs (Sequence[Sequence[int]], optional): Joints of a group.
            Defaults to None, each joint by itself.

    Returns:
        np.ndarray: For every token, in time-major order, the number of its
        group, (L,).

    Raises:
        ValueError: If a tube is longer than the clip, or the limbs do not
            have every joint once.
    """
    if not 1 <= tube <= segments:
        raise ValueError(
            f'tube={tube} is none of 1 to {segments}, the number of segments '
            'of a clip.'
        )
    limb = np.arange(num_joints)
    if limbs is not None:
        joints = sorted(joint for members in limbs for joint in members)
        if joints != limb.tolist() or not all(limbs):
            raise ValueError(
                f'limbs={limbs} must have each of the {num_joints} joints, '
                f'from 0 to {num_joints - 1}, once.'
            )
        for number, members in enumerate(limbs):
            limb[list(members)] = number
    tubes = np.arange(segments)[:, None] // tube
    return (tubes * (limb.max() + 1) + limb).ravel()


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
