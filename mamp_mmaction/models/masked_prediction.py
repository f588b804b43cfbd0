"""Masked prediction with any encoder: what is seen, what is predicted.

A transformer drops the masked tokens. A graph convolution needs the whole
skeleton: a learned patch stands in for every masked one in what it sees, and
of what it gives, the features at visible patches go on to the decoder.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmaction.registry import MODELS
from mmaction.utils import ConfigType, SampleList

from ..datasets.sample_name import sample_name
from .layers import learned_embedding
from .visible_tokens import gather_tokens

# What decoder and head must have in common with the encoder, as far as that
# has the attribute ...
DECODER_SHARES = (
    'in_channels',
    'embed_dims',
    'num_frames',
    'num_joints',
    't_patch_size',
)
HEAD_SHARES = ('t_patch_size',)
# ... and what the decoder takes over unless it is told otherwise.
DECODER_DEFAULTS = ('num_heads', 'mlp_ratio')


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


def build_motion_prediction(
    backbone: nn.Module, neck: ConfigType, head: ConfigType
) -> tuple[nn.Module, nn.Module, MaskedPatches | None]:
    """Build what predicts motion from an encoder's features.

    Args:
        backbone (nn.Module): The encoder. One with a method
            ``encode(keypoint, visible)`` like :class:`MAMPTransformer`'s is
            given the visible tokens alone.
        neck (dict): Config of the decoder.
        head (dict): Config of target and loss.

    Returns:
        tuple: Decoder, head, and what other encoders see in the place of
        masked patches, or None.

    Raises:
        ValueError: If decoder or head contradict the encoder.
    """
    neck = _share('neck', neck, backbone, DECODER_SHARES)
    for key in DECODER_DEFAULTS:
        if hasattr(backbone, key):
            neck.setdefault(key, getattr(backbone, key))
    neck = MODELS.build(neck)
    head = MODELS.build(_share('head', head, neck, HEAD_SHARES))
    if hasattr(backbone, 'encode'):
        return neck, head, None
    return neck, head, MaskedPatches(neck.t_patch_size, neck.in_channels)


def _share(
    name: str, cfg: ConfigType, source: nn.Module, keys: tuple[str, ...]
) -> ConfigType:
    """Fill a config with a module's values; refuse contradictions."""
    cfg = dict(cfg)
    for key in keys:
        own = getattr(source, key, cfg.get(key))
        if own is not None and cfg.setdefault(key, own) != own:
            raise ValueError(
                f'{name}.{key}={cfg[key]} contradicts the '
                f'{type(source).__name__}, whose {key} is {own}: leave it '
                f'out of the {name}.'
            )
    return cfg


def predict_patches(
    backbone: nn.Module,
    masked_patches: MaskedPatches | None,
    neck: nn.Module,
    keypoint: torch.Tensor,
    mask: torch.Tensor,
    visible: torch.Tensor,
) -> torch.Tensor:
    """Encode what is visible, and predict a patch for every token.

    Args:
        backbone (nn.Module): The encoder; (N, M, T, V, C) -> (N, M, D, T',
            V) if it does not drop tokens.
        masked_patches (MaskedPatches, optional): As
            :func:`build_motion_prediction` gave it.
        neck (nn.Module): The decoder.
        keypoint (torch.Tensor): Skeletons of shape (N, M, T, V, C).
        mask (torch.Tensor): Bool, (N, M, L), True where masked.
        visible (torch.Tensor): Long, (N * M, K), places of the visible ones.

    Returns:
        torch.Tensor: Predicted patches, (N * M, L, u * C).

    Raises:
        ValueError: If the features of the encoder have another shape.
    """
    if masked_patches is None:
        latent = backbone.encode(keypoint.flatten(0, 1), visible)
    else:
        features = backbone(masked_patches(keypoint, mask))
        segments = keypoint.shape[2] // neck.t_patch_size
        tokens = features_to_tokens(features, keypoint, segments)
        latent = gather_tokens(tokens, visible)
    return neck(latent, visible)


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


def unpack_masked(
    inputs: torch.Tensor, data_samples: SampleList, neck: nn.Module
) -> tuple[torch.Tensor, torch.Tensor]:
    """Skeletons and masks of a batch.

    Args:
        inputs (torch.Tensor): Skeletons of shape (N, 1, M, T, V, C).
        data_samples (list[ActionDataSample]): N samples, each with a
            ``mask`` of shape (M, L).
        neck (nn.Module): The decoder, which knows the shapes.

    Returns:
        tuple[torch.Tensor]: Skeletons (N, M, T, V, C), masks (N, M, L).

    Raises:
        ValueError: If there are several clips, the decoder was built for
            other skeletons, or a mask is absent or does not fit; its sample
            is named.
    """
    if inputs.ndim != 6 or inputs.shape[1] != 1:
        raise ValueError(
            'Masked motion prediction needs inputs of shape (samples, 1 '
            'clip, persons, frames, joints, channels), got '
            f'{tuple(inputs.shape)}: use num_clips=1.'
        )
    M, *shape = inputs.shape[2:]
    built = [neck.num_frames, neck.num_joints, neck.in_channels]
    if shape != built:
        raise ValueError(
            'The decoder was built for (num_frames, num_joints, in_channels) '
            f'= {tuple(built)}, but got skeletons of {tuple(shape)}: change '
            "the pipeline (clip length, streams) or the model's arguments."
        )
    expected = (M, neck.num_tokens)
    for index, sample in enumerate(data_samples):
        name = sample_name(sample, index)
        if 'mask' not in sample:
            raise ValueError(
                f'There is no mask with {name}: end the pipeline with '
                'FormatGCNInput, MotionAwareMask and PackActionInputs('
                "algorithm_keys=('mask', ))."
            )
        if tuple(sample.mask.shape) != expected:
            raise ValueError(
                f'The mask of {name} has shape {tuple(sample.mask.shape)}, '
                f'but its skeleton needs (persons, tokens) = {expected}: '
                'MotionAwareMask and the model must agree on t_patch_size.'
            )
    mask = torch.stack([sample.mask for sample in data_samples])
    return inputs.squeeze(1), mask.to(inputs.device)


def present_persons(
    keypoint: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Leave out absent persons, whose coordinates are all zero.

    Args:
        keypoint (torch.Tensor): Skeletons of shape (N, M, T, V, C).
        mask (torch.Tensor): Bool, (N, M, L).

    Returns:
        tuple[torch.Tensor]: Skeletons (P, 1, T, V, C) and masks (P, 1, L) of
        the P present persons, of the first one if nobody is present.
    """
    keypoint, mask = keypoint.flatten(0, 1), mask.flatten(0, 1)
    present = keypoint.flatten(1).any(dim=1)
    present[0] |= ~present.any()
    return keypoint[present][:, None], mask[present][:, None]
