import torch
import torch.nn as nn
from mmaction.registry import MODELS
from mmengine.model import BaseModule

from mamp_mmaction.patches import num_segments

from .layers import (
    Attention,
    CrossAttention,
    init_transformer_weights,
    learned_embedding,
    transformer_blocks,
)
from .state_dict_checks import StateDictChecksMixin
from .visible_tokens import gather_tokens

ATTENTIONS = dict(self=Attention, cross=CrossAttention)
# A weight that only the blocks of one kind have.
KIND_KEYS = {
    'self': 'blocks.0.attn.qkv.weight',
    'cross': 'blocks.0.attn.q.weight',
}


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
        num_targets (int): Patches that are predicted for a token, one after
            the other: a mixture has several. Defaults to 1.
        pred_dims (int, optional): Numbers to predict for a token, where they
            are no patches. Defaults to None, those of its patches.
        attention (str): ``'self'``, the paper's: all tokens attend to each
            other. Or ``'cross'``: mask tokens attend to the encoded visible
            ones alone, which costs less, since what a token predicts does
            not depend on which others are predicted. Source: CrossMAE
            (2024). Defaults to ``'self'``.
        init_cfg (dict | list[dict], optional): Defaults to None.

    Raises:
        ValueError: If attention is unknown, depth below 1, t_patch_size does
            not divide num_frames, or num_heads not the width.
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
        num_targets: int = 1,
        pred_dims: int | None = None,
        attention: str = 'self',
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if attention not in ATTENTIONS:
            raise ValueError(
                f"attention={attention!r} is neither 'self' nor 'cross'."
            )
        D = decoder_embed_dims
        segments = num_segments(num_frames, t_patch_size)
        self.in_channels = in_channels
        self.num_frames = num_frames
        self.num_joints = num_joints
        self.t_patch_size = t_patch_size
        self.num_coords = num_coords
        self.num_tokens = segments * num_joints
        self.attention = attention

        self.embed = nn.Linear(embed_dims, D)
        self.mask_token = learned_embedding(1, 1, D)
        self.spatial_embed = learned_embedding(1, 1, num_joints, D)
        self.temporal_embed = learned_embedding(1, segments, 1, D)
        self.blocks = transformer_blocks(
            *(depth, D, num_heads, mlp_ratio, drop_path_rate),
            attention=ATTENTIONS[attention],
        )
        self.norm = nn.LayerNorm(D)
        patch = t_patch_size * (num_coords or in_channels)
        self.pred = nn.Linear(D, pred_dims or num_targets * patch)
        init_transformer_weights(self)

    def forward(
        self,
        latent: torch.Tensor,
        visible: torch.Tensor,
        wanted: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Predict patches from the encoded visible tokens.

        Args:
            latent (torch.Tensor): Encoded visible tokens, (B, K, D).
            visible (torch.Tensor): Long, (B, K), their places among the L.
            wanted (torch.Tensor, optional): Long, (B, Q), places of masked
                tokens to predict; the other masked ones are not computed.
                Defaults to None, all L tokens.

        Returns:
            torch.Tensor: Predicted patches, (B, Q, u * C), or (B, L, u *
            C); with ``num_coords`` read k for C, with ``pred_dims`` that for
            u * C.

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
        position = self.spatial_embed + self.temporal_embed
        position = position.flatten(1, 2)  # (1, L, D)
        if wanted is None and self.attention == 'self':
            masked = self.mask_token.expand(len(latent), self.num_tokens, -1)
            place = visible[:, :, None].expand_as(latent)
            latent = latent.to(masked.dtype)  # of AMP
            tokens = masked.scatter(1, place, latent)  # (B, L, D)
            return self.pred(self.norm(self.blocks(tokens + position)))

        latent = latent + gather_tokens(position, visible)
        if wanted is None:
            masked = position.expand(len(latent), -1, -1)
        else:
            masked = gather_tokens(position, wanted)
        tokens = self.mask_token + masked  # (B, Q, D)
        if self.attention == 'cross':
            for block in self.blocks:
                tokens = block(tokens, latent)
        else:
            tokens = self.blocks(torch.cat([latent, tokens], dim=1))
            tokens = tokens[:, latent.shape[1] :]
        return self.pred(self.norm(tokens))

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, *args, **kwargs
    ) -> None:
        backbone_alone = (
            "or load the backbone alone by init_cfg=dict(type='Pretrained', "
            "prefix='backbone.', checkpoint=...)."
        )
        for kind, key in KIND_KEYS.items():
            if kind != self.attention and prefix + key in state_dict:
                raise ValueError(
                    f'The checkpoint has {prefix}{key}: its decoder was '
                    f"trained with attention='{kind}', this one has "
                    f"attention='{self.attention}'. Set attention='{kind}', "
                    + backbone_alone
                )
        found = state_dict.get(prefix + 'pred.weight', self.pred.weight)
        if len(found) != len(self.pred.weight):
            raise ValueError(
                f'The checkpoint has {prefix}pred.weight: its decoder '
                f'predicts {len(found)} numbers for a token, this one '
                f'{len(self.pred.weight)}. Set the head that it was trained '
                'with, ' + backbone_alone
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
