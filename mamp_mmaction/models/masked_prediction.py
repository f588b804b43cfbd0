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
from ..patches import num_segments
from .layers import learned_embedding
from .visible_tokens import gather_tokens, visible_index

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


def predict_masked(
    backbone: nn.Module,
    masked_patches: MaskedPatches | None,
    neck: nn.Module,
    inputs: torch.Tensor,
    data_samples: SampleList,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Encode what is visible, and predict a patch for every token.

    Args:
        backbone (nn.Module): The encoder.
        masked_patches (MaskedPatches, optional): As
            :func:`build_motion_prediction` gave it.
        neck (nn.Module): The decoder.
        inputs (torch.Tensor): Skeletons of shape (N, 1, M, T, V, C).
        data_samples (list[ActionDataSample]): N samples, each with a
            ``mask`` of shape (M, L).

    Returns:
        tuple[torch.Tensor]: Predicted patches (N * M, L, u * C), and one row
        a person, skeletons (N * M, T, V, C) and masks (N * M, L).

    Raises:
        ValueError: If inputs, masks and model do not fit together.
    """
    keypoint, mask = unpack_masked(inputs, data_samples, neck.t_patch_size)
    _, _, T, V, C = keypoint.shape
    if (neck.num_frames, neck.num_joints, neck.in_channels) != (T, V, C):
        raise ValueError(
            'The decoder was built for (num_frames, num_joints, in_channels) '
            f'= {(neck.num_frames, neck.num_joints, neck.in_channels)}, but '
            f'got skeletons of {(T, V, C)}: change the pipeline (clip '
            "length, streams) or the neck's arguments."
        )
    latent, visible = encode_visible(backbone, masked_patches, keypoint, mask)
    pred = neck(latent, visible)
    return pred, keypoint.flatten(0, 1), mask.flatten(0, 1)


def encode_visible(
    backbone: nn.Module,
    masked_patches: MaskedPatches | None,
    keypoint: torch.Tensor,
    mask: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Encode the visible tokens of every person.

    Args:
        backbone (nn.Module): The encoder; (N, M, T, V, C) -> (N, M, D, T',
            V) if it does not drop tokens.
        masked_patches (MaskedPatches, optional): What an encoder that does
            not drop tokens sees instead of masked patches, else None.
        keypoint (torch.Tensor): Skeletons of shape (N, M, T, V, C).
        mask (torch.Tensor): Bool, (N, M, L), True where masked.

    Returns:
        tuple[torch.Tensor]: Latent tokens (N * M, K, D), and their places
        among the L, long, (N * M, K).

    Raises:
        ValueError: If the features of the encoder have another shape.
    """
    visible = visible_index(mask.flatten(0, 1))
    if masked_patches is None:
        return backbone.encode(keypoint.flatten(0, 1), visible), visible
    features = backbone(masked_patches(keypoint, mask))
    segments = keypoint.shape[2] // len(masked_patches.token)
    tokens = features_to_tokens(features, keypoint, segments)
    return gather_tokens(tokens, visible), visible


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
    inputs: torch.Tensor, data_samples: SampleList, t_patch_size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Skeletons and masks of a batch.

    Args:
        inputs (torch.Tensor): Skeletons of shape (N, 1, M, T, V, C).
        data_samples (list[ActionDataSample]): N samples, each with a
            ``mask`` of shape (M, L).
        t_patch_size (int): Frames of one patch, u.

    Returns:
        tuple[torch.Tensor]: Skeletons (N, M, T, V, C), masks (N, M, L).

    Raises:
        ValueError: If there are several clips, or a mask is absent or does
            not fit; its sample is named.
    """
    if inputs.ndim != 6 or inputs.shape[1] != 1:
        raise ValueError(
            'Masked motion prediction needs inputs of shape (samples, 1 '
            'clip, persons, frames, joints, channels), got '
            f'{tuple(inputs.shape)}: use num_clips=1.'
        )
    M, T, V = inputs.shape[2:5]
    expected = (M, num_segments(T, t_patch_size) * V)
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
