"""Masks of a batch, and the places of the tokens that the encoder sees."""

import torch
from mmaction.utils import SampleList

from mamp_mmaction.motion_mask import motion_intensity

from ..datasets.sample_name import sample_name


def stack_masks(
    data_samples: SampleList, shape: tuple[int, int]
) -> torch.Tensor:
    """The masks of a batch.

    Args:
        data_samples (list[ActionDataSample]): N samples with a ``mask``.
        shape (tuple[int]): Shape that each must have, (M, L).

    Returns:
        torch.Tensor: Bool, (N, M, L), True where a token is masked.

    Raises:
        ValueError: If a mask is absent, not bool or of another shape; its
            sample is named.
    """
    masks = []
    for index, sample in enumerate(data_samples):
        name = sample_name(sample, index)
        if 'mask' not in sample:
            raise ValueError(
                f'There is no mask with {name}: end the pipeline with '
                'FormatGCNInput, MotionAwareMask and PackActionInputs('
                "algorithm_keys=('mask', ))."
            )
        mask = torch.as_tensor(sample.mask)
        if mask.dtype != torch.bool:
            raise ValueError(
                f'The mask of {name} is of {mask.dtype}; expected torch.bool, '
                'True where a token is masked.'
            )
        if tuple(mask.shape) != shape:
            raise ValueError(
                f'The mask of {name} has shape {tuple(mask.shape)}, '
                f'but its skeleton needs (persons, tokens) = {shape}: '
                'MotionAwareMask and the model must agree on t_patch_size.'
            )
        masks.append(mask)
    return torch.stack(masks)


def count_visible(mask: torch.Tensor) -> int:
    """Number of tokens that masks leave visible for every person.

    Args:
        mask (torch.Tensor): Bool, (B, L), True where a token is masked; on
            a GPU the answer has to be waited for.

    Returns:
        int: K, the same for all rows.

    Raises:
        ValueError: If rows differ in their number of visible tokens, or
            there is nothing to see or nothing to predict.
    """
    counts = (~mask).sum(dim=1)
    least, most = torch.stack(torch.aminmax(counts)).tolist()
    if not 0 < least == most < mask.shape[1]:
        raise ValueError(
            'Masks must leave the same number of tokens visible for every '
            f'person, more than none and fewer than all {mask.shape[1]}; '
            f'these leave between {least} and {most}.'
        )
    return most


def token_places(
    mask: torch.Tensor, num_visible: int, decode_ratio: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Places of the visible and of the masked tokens of every person.

    Args:
        mask (torch.Tensor): Bool, (B, L), True where a token is masked.
        num_visible (int): Tokens visible in every row, K.
        decode_ratio (float): Share of the masked ones that is drawn at
            random, for every row anew, in (0, 1]. Defaults to 1, all.

    Returns:
        tuple[torch.Tensor]: Long; visible places (B, K), in time-major
        order, and masked ones (B, Q) with Q = (L - K) * decode_ratio
        rounded, at least 1; all of them in time-major order too.
    """
    num_wanted = mask.shape[1] - num_visible
    if decode_ratio < 1:
        num_wanted = max(round(num_wanted * decode_ratio), 1)
        rank = mask * (1 + torch.rand(mask.shape, device=mask.device))
    else:
        rank = mask.to(torch.uint8)
    order = rank.argsort(dim=1, stable=True)
    return order[:, :num_visible], order[:, num_visible:][:, :num_wanted]


def most_moving_index(
    keypoint: torch.Tensor,
    t_patch_size: int,
    segments: int,
    num_coords: int | None = None,
) -> torch.Tensor:
    """Places of the tokens in which every joint moves most.

    Each joint keeps as many, so that heads still find joints in their
    places.

    Args:
        keypoint (torch.Tensor): Skeletons of shape (B, T, V, C).
        t_patch_size (int): Frames of one patch, u.
        segments (int): Segments that each joint keeps, at most T / u.
        num_coords (int, optional): Leading channels whose motion counts.
            Defaults to None, all.

    Returns:
        torch.Tensor: Long, (B, segments * V), in order of time for each
        joint, which is ``place % V`` as always.
    """
    V = keypoint.shape[2]
    keypoint = keypoint.detach()  # places have no gradient
    motion = motion_intensity(keypoint, t_patch_size, num_coords)
    motion = motion.unflatten(1, (-1, V))  # (B, T / u, V)
    kept = motion.topk(segments, dim=1).indices.sort(dim=1).values
    return (kept * V + torch.arange(V, device=kept.device)).flatten(1)


def gather_tokens(tokens: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Pick tokens by their places.

    Args:
        tokens (torch.Tensor): Shape (B, L, D), or (1, L, D) for all rows.
        index (torch.Tensor): Long, (B, K).

    Returns:
        torch.Tensor: Shape (B, K, D).
    """
    D = tokens.shape[2]
    tokens = tokens.expand(index.shape[0], -1, -1)
    return tokens.gather(1, index[:, :, None].expand(-1, -1, D))
