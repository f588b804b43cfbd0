"""The places of the tokens that the encoder sees."""

import torch

from mamp_mmaction.patches import patchify


def visible_index(mask: torch.Tensor) -> torch.Tensor:
    """Places of the visible tokens of every person, in time-major order.

    Args:
        mask (torch.Tensor): Bool, (B, L), True where a token is masked.

    Returns:
        torch.Tensor: Long, (B, K), K tokens visible in every row.

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
    return mask.to(torch.uint8).argsort(dim=1, stable=True)[:, :most]


def most_moving_index(
    keypoint: torch.Tensor, t_patch_size: int, segments: int
) -> torch.Tensor:
    """Places of the tokens in which every joint moves most.

    The motion of a token is its mean absolute change since the segment
    before, as in the motion-aware mask. Each joint keeps as many, so that
    heads still find joints in their places.

    Args:
        keypoint (torch.Tensor): Skeletons of shape (B, T, V, C).
        t_patch_size (int): Frames of one patch, u.
        segments (int): Segments that each joint keeps, at most T / u.

    Returns:
        torch.Tensor: Long, (B, segments * V), in order of time for each
        joint, which is ``place % V`` as always.
    """
    V = keypoint.shape[2]
    patches = patchify(keypoint, t_patch_size).unflatten(1, (-1, V))
    motion = patches.diff(dim=1).abs().mean(dim=3)  # (B, T / u - 1, V)
    motion = torch.cat([motion[:, :1], motion], dim=1)
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


def scatter_tokens(
    background: torch.Tensor, tokens: torch.Tensor, index: torch.Tensor
) -> torch.Tensor:
    """Put tokens back to their places on a background.

    Args:
        background (torch.Tensor): Shape (B, L, D).
        tokens (torch.Tensor): Shape (B, K, D).
        index (torch.Tensor): Long, (B, K).

    Returns:
        torch.Tensor: Shape (B, L, D).
    """
    index = index[:, :, None].expand(-1, -1, tokens.shape[2])
    return background.scatter(1, index, tokens.to(background.dtype))
