"""Encoders that need the whole skeleton, such as graph convolutions.

A transformer drops the masked tokens. For other encoders a learned patch
stands in for every masked one in what they see, and of what they give, the
features at visible patches go on to the decoder.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F

from .layers import learned_embedding


class MaskedPatches(nn.Module):
    """A learned patch in the place of every masked one.

    Args:
        t_patch_size (int): Frames of one patch, u.
        in_channels (int): Numbers per joint and frame, C.
    """

    def __init__(self, t_patch_size: int, in_channels: int) -> None:
        super().__init__()
        self.token = learned_embedding(t_patch_size, 1, in_channels)

    def forward(
        self, keypoint: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Replace masked patches.

        Args:
            keypoint (torch.Tensor): Skeletons of shape (N, M, T, V, C).
            mask (torch.Tensor): Bool, (N, M, L), True where masked.

        Returns:
            torch.Tensor: Shape (N, M, T, V, C).
        """
        N, M, T, V, C = keypoint.shape
        u = len(self.token)
        patches = keypoint.view(N, M, T // u, u, V, C)
        mask = mask.view(N, M, T // u, 1, V, 1)
        return torch.where(mask, self.token, patches).view_as(keypoint)


def features_to_tokens(
    features: torch.Tensor, keypoint: torch.Tensor, segments: int
) -> torch.Tensor:
    """Features of a backbone as one token for every patch.

    Where the backbone's stride in time is not the patch length, features
    are averaged, or repeated, over time.

    Args:
        features (torch.Tensor): Features of shape (N, M, D, T', V).
        keypoint (torch.Tensor): The skeletons that they are of, (N, M, T, V,
            C).
        segments (int): Temporal segments of a clip, T / u.

    Returns:
        torch.Tensor: Tokens of shape (N * M, T / u * V, D), time-major.

    Raises:
        ValueError: If the features are not those of a backbone that keeps
            persons and joints.
    """
    N, M, _, V, _ = keypoint.shape
    shape = tuple(features.shape)
    if len(shape) != 5 or (*shape[:2], shape[4]) != (N, M, V):
        raise ValueError(
            'Pre-training needs a backbone that maps skeletons (samples, '
            'persons, frames, joints, channels) to features (samples, '
            'persons, channels, frames, joints) and keeps persons and '
            f'joints; from {tuple(keypoint.shape)} this one made {shape}.'
        )
    if shape[3] != segments:
        features = features.flatten(0, 1)
        features = F.adaptive_avg_pool2d(features, (segments, V))
        features = features.unflatten(0, (N, M))
    return features.permute(0, 1, 3, 4, 2).flatten(2, 3).flatten(0, 1)


def refuse_volumes(backbone: nn.Module) -> None:
    """Refuse backbones of volumes, such as PoseC3D's.

    Args:
        backbone (nn.Module): The encoder.

    Raises:
        ValueError: If its first layer with weights is a 3D convolution.
    """
    layers = (m for m in backbone.modules() if [*m.parameters(False)])
    if isinstance(next(layers, None), nn.Conv3d):
        raise ValueError(
            f'{type(backbone).__name__} begins with a 3D convolution: it '
            'takes volumes (samples, channels, frames, height, width), such '
            'as the heatmaps of PoseC3D, which have no joints whose motion '
            'could be masked and predicted. Pre-train a backbone of '
            'skeletons (samples, persons, frames, joints, channels).'
        )
