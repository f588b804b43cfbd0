import torch
import torch.nn as nn
from mmaction.registry import MODELS
from mmengine.model import BaseModule

from mamp_mmaction.patches import num_segments, patchify

from .distinct_persons import distinct_persons
from .layers import (
    init_transformer_weights,
    learned_embedding,
    transformer_blocks,
)
from .state_dict_checks import StateDictChecksMixin
from .visible_tokens import gather_tokens, most_moving_index


@MODELS.register_module()
class MAMPTransformer(StateDictChecksMixin, BaseModule):
    """The skeleton transformer of MAMP (paper: MAMP's encoder).

    Every person is encoded alone, as L = T / t_patch_size * V tokens. As a
    backbone it takes and gives what the toolbox's GCNs do, so that
    ``RecognizerGCN`` runs it with any head; in pre-training,
    :meth:`encode` sees the visible tokens only.

    Loading weights of another number of frames interpolates the temporal
    embedding; any other difference in shape is an error.

    Args:
        in_channels (int): Numbers per joint and frame, C; 3 for 3D, or for
            2D with a confidence. Defaults to 3.
        embed_dims (int): Width of a token, D. Defaults to 256.
        depth (int): Number of blocks. Defaults to 8.
        num_heads (int): Number of attention heads. Defaults to 8.
        mlp_ratio (float): Width of the perceptrons over D. Defaults to 4.
        num_frames (int): Frames of a clip, T. Defaults to 120.
        num_joints (int): Joints of the skeleton, V. Defaults to 25.
        t_patch_size (int): Frames of one patch, u. Defaults to 4.
        drop_path_rate (float): Drop-path rate of the last block, growing
            linearly from 0 at the first. Defaults to 0.
        keep_ratio (float): Share of a joint's tokens that :meth:`forward`
            encodes, those that move most; the encoder was pre-trained on
            few tokens and does with them. Defaults to 1, all tokens.
        num_coords (int, optional): Leading channels that are coordinates,
            whose motion ``keep_ratio`` compares; 2 for 2D with a
            confidence. Defaults to None, all.
        distinct_persons (bool): In eval mode compute persons once that are
            equal within a sample, such as one body stored twice, and absent
            persons, all zero. The features are the same. While
            :meth:`forward` is traced, compiled or exported everybody is
            computed: who is equal depends on the data. Defaults to True.
        init_cfg (dict | list[dict], optional): Such as
            ``dict(type='Pretrained', checkpoint=..., prefix='backbone.')``.
            Defaults to None.

    Raises:
        ValueError: If keep_ratio is outside (0, 1], depth below 1,
            t_patch_size does not divide num_frames, or num_heads not
            embed_dims.
    """

    def __init__(
        self,
        in_channels: int = 3,
        embed_dims: int = 256,
        depth: int = 8,
        num_heads: int = 8,
        mlp_ratio: float = 4.0,
        num_frames: int = 120,
        num_joints: int = 25,
        t_patch_size: int = 4,
        drop_path_rate: float = 0.0,
        keep_ratio: float = 1.0,
        num_coords: int | None = None,
        distinct_persons: bool = True,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if not 0 < keep_ratio <= 1:
            raise ValueError(
                f'keep_ratio={keep_ratio} is outside (0, 1]: it is the share '
                'of the tokens that is encoded.'
            )
        segments = num_segments(num_frames, t_patch_size)
        self.in_channels = in_channels
        self.embed_dims = embed_dims
        self.num_heads = num_heads
        self.mlp_ratio = mlp_ratio
        self.num_frames = num_frames
        self.num_joints = num_joints
        self.t_patch_size = t_patch_size
        self.num_coords = num_coords
        self.distinct_persons = distinct_persons
        # Segments that every joint keeps.
        self.kept_segments = max(round(segments * keep_ratio), 1)

        # A convolution over (time, joint) with kernel = stride =
        # (t_patch_size, 1) is this linear layer on patches, default
        # initialisation included.
        self.patch_embed = nn.Linear(t_patch_size * in_channels, embed_dims)
        self.spatial_embed = learned_embedding(1, 1, num_joints, embed_dims)
        self.temporal_embed = learned_embedding(1, segments, 1, embed_dims)
        self.blocks = transformer_blocks(
            depth, embed_dims, num_heads, mlp_ratio, drop_path_rate
        )
        self.norm = nn.LayerNorm(embed_dims)
        init_transformer_weights(self.blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Encode all persons.

        Args:
            x (torch.Tensor): Skeletons of shape (N, M, T, V, C).

        Returns:
            torch.Tensor: Features of shape (N, M, D, T / u, V), or with
            ``keep_ratio`` that share of T / u, in order of time.
        """
        # Else what is computed depends on the data, and of equal persons one
        # would get all of the gradient.
        whole = torch.compiler.is_compiling() or torch.jit.is_tracing()
        whole |= self.training or x.requires_grad or not self.distinct_persons
        if whole:
            tokens = self._encode_kept(x.flatten(0, 1))  # (N * M, L, D)
        else:
            first, place = distinct_persons(x)
            tokens = self._encode_kept(x.flatten(0, 1)[first])[place]
        tokens = tokens.view(
            *x.shape[:2], -1, self.num_joints, tokens.shape[2]
        )
        return tokens.permute(0, 1, 4, 2, 3)

    def _encode_kept(self, keypoint: torch.Tensor) -> torch.Tensor:
        """Encode all tokens, or the share of ``keep_ratio``."""
        self._check_input(keypoint)
        if self.kept_segments == self.temporal_embed.shape[1]:
            return self.encode(keypoint)
        kept = most_moving_index(
            keypoint, self.t_patch_size, self.kept_segments, self.num_coords
        )
        return self.encode(keypoint, kept)

    def encode(
        self, keypoint: torch.Tensor, visible: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Encode the tokens of every person, or the visible ones alone.

        Args:
            keypoint (torch.Tensor): Skeletons of shape (B, T, V, C), one
                person a row.
            visible (torch.Tensor, optional): Long, (B, K), the places of
                the tokens to encode. Defaults to None, all of them.

        Returns:
            torch.Tensor: Tokens of shape (B, K, D), or (B, L, D).
        """
        return self.norm(self.blocks(self.embed_tokens(keypoint, visible)))

    def embed_tokens(
        self, keypoint: torch.Tensor, visible: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Embed patches and their places: what the first block gets.

        Args:
            keypoint (torch.Tensor): Skeletons of shape (B, T, V, C).
            visible (torch.Tensor, optional): As in :meth:`encode`.

        Returns:
            torch.Tensor: Tokens of shape (B, K, D), or (B, L, D).
        """
        self._check_input(keypoint)
        patches = patchify(keypoint, self.t_patch_size)  # (B, L, u * C)
        position = self.spatial_embed + self.temporal_embed
        position = position.flatten(1, 2)  # (1, L, D)
        if visible is not None:
            patches = gather_tokens(patches, visible)
            position = gather_tokens(position, visible)
        return self.patch_embed(patches) + position

    def _check_input(self, keypoint: torch.Tensor) -> None:
        expected = (self.num_frames, self.num_joints, self.in_channels)
        if keypoint.shape[1:] != expected:
            raise ValueError(
                'MAMPTransformer was built for (num_frames, num_joints, '
                f'in_channels) = {expected}, but got a skeleton of '
                f'{tuple(keypoint.shape[1:])}: change the pipeline (clip '
                "length, streams) or the backbone's arguments."
            )
