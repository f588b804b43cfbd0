import torch
import torch.nn as nn
from mmaction.registry import MODELS
from mmengine.model import BaseModule

from mamp_mmaction.patches import num_segments

from .layers import (
    init_transformer_weights,
    learned_embedding,
    transformer_blocks,
)
from .state_dict_checks import StateDictChecksMixin
from .visible_tokens import scatter_tokens


@MODELS.register_module()
class MAMPDecoder(StateDictChecksMixin, BaseModule):
    """The decoder of MAMP, its last linear layer included (paper: decoder).

    A learned mask token stands in for every masked token; the blocks then
    predict one patch for each token. It serves pre-training alone.

    Inside :class:`MAMP`, every argument that describes the encoder, the
    skeleton or the target is taken from encoder and head where it is not
    given.

    Args:
        in_channels (int): Numbers per joint and frame, C. Defaults to 3.
        embed_dims (int): Width of the encoder's tokens, D. Defaults to 256.
        decoder_embed_dims (int): Width of the decoder's tokens.
            Defaults to 256.
        depth (int): Number of blocks. Defaults to 5.
        num_heads (int): Number of attention heads. Defaults to 8.
        mlp_ratio (float): Width of the perceptrons over
            ``decoder_embed_dims``. Defaults to 4.
        num_frames (int): Frames of a clip, T. Defaults to 120.
        num_joints (int): Joints of the skeleton, V. Defaults to 25.
        t_patch_size (int): Frames of one patch, u. Defaults to 4.
        drop_path_rate (float): Drop-path rate of the last block, growing
            linearly from 0 at the first. Defaults to 0.
        num_coords (int, optional): Leading channels that are coordinates,
            k, of which alone patches are predicted. Defaults to None, all
            ``in_channels``.
        init_cfg (dict | list[dict], optional): Defaults to None.
    """

    # An encoder's weights alone can be trained further.
    weights_optional = True

    def __init__(
        self,
        in_channels: int = 3,
        embed_dims: int = 256,
        decoder_embed_dims: int = 256,
        depth: int = 5,
        num_heads: int = 8,
        mlp_ratio: float = 4.0,
        num_frames: int = 120,
        num_joints: int = 25,
        t_patch_size: int = 4,
        drop_path_rate: float = 0.0,
        num_coords: int | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        D = decoder_embed_dims
        segments = num_segments(num_frames, t_patch_size)
        self.in_channels = in_channels
        self.num_frames = num_frames
        self.num_joints = num_joints
        self.t_patch_size = t_patch_size
        self.num_coords = num_coords
        self.num_tokens = segments * num_joints

        self.embed = nn.Linear(embed_dims, D)
        self.mask_token = learned_embedding(1, 1, D)
        self.spatial_embed = learned_embedding(1, 1, num_joints, D)
        self.temporal_embed = learned_embedding(1, segments, 1, D)
        self.blocks = transformer_blocks(
            depth, D, num_heads, mlp_ratio, drop_path_rate
        )
        self.norm = nn.LayerNorm(D)
        self.pred = nn.Linear(D, t_patch_size * (num_coords or in_channels))
        init_transformer_weights(self)

    def forward(
        self, latent: torch.Tensor, visible: torch.Tensor
    ) -> torch.Tensor:
        """Predict a patch for every token from the encoded visible ones.

        Args:
            latent (torch.Tensor): Encoded visible tokens, (B, K, D).
            visible (torch.Tensor): Long, (B, K), their places among the L.

        Returns:
            torch.Tensor: Predicted patches, (B, L, u * C), or (B, L,
            u * k).

        Raises:
            ValueError: If the tokens have another width than D.
        """
        if latent.shape[2] != self.embed.in_features:
            raise ValueError(
                f'The decoder was built for embed_dims='
                f'{self.embed.in_features}, but the encoder gives '
                f'{latent.shape[2]} channels.'
            )
        latent = self.embed(latent)
        masked = self.mask_token.expand(len(latent), self.num_tokens, -1)
        tokens = scatter_tokens(masked, latent, visible)  # (B, L, D)
        position = self.spatial_embed + self.temporal_embed
        tokens = tokens + position.flatten(1, 2)
        return self.pred(self.norm(self.blocks(tokens)))
