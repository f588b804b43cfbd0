"""The transformer block that encoder and decoder are made of."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmcv.cnn.bricks import DropPath


def init_transformer_weights(module: nn.Module) -> None:
    """Xavier-uniform weights and zero biases for every linear layer.

    Args:
        module (nn.Module): Module whose linear layers are initialised in
            place; the joint query-key-value projection counts as the one
            matrix it is.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)


def learned_embedding(*shape: int) -> nn.Parameter:
    """A learned embedding, drawn from N(0, 0.02 ** 2).

    Args:
        shape (int): Shape of the parameter.

    Returns:
        nn.Parameter: The embedding.
    """
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(shape), std=0.02))


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Scaled dot-product attention through torch's fused kernel.

    Args:
        q (torch.Tensor): Queries of shape (B, heads, L, D / heads).
        k (torch.Tensor): Keys, likewise.
        v (torch.Tensor): Values, likewise.

    Returns:
        torch.Tensor: Shape (B, heads, L, D / heads).
    """
    if q.device.type == 'cpu' and q.dtype == torch.bfloat16:
        # On CPUs the kernel is slower in bfloat16 than in float32, its
        # backward pass above all.
        with torch.autocast('cpu', enabled=False):
            x = F.scaled_dot_product_attention(q.float(), k.float(), v.float())
        return x.to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v)


class Attention(nn.Module):
    """Multi-head self-attention through torch's fused kernel.

    Args:
        embed_dims (int): Width of a token, D.
        num_heads (int): Number of heads; must divide D.
    """

    def __init__(self, embed_dims: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims)
        self.proj = nn.Linear(embed_dims, embed_dims)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Attend among the tokens of each row.

        Args:
            x (torch.Tensor): Tokens of shape (B, L, D).

        Returns:
            torch.Tensor: Shape (B, L, D).
        """
        B, L, D = x.shape
        qkv = self.qkv(x).view(B, L, 3, self.num_heads, D // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, L, D / heads)
        x = attend(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(B, L, D))


class CrossAttention(nn.Module):
    """Multi-head attention to other tokens, through torch's fused kernel.

    Args:
        embed_dims (int): Width of a token, D.
        num_heads (int): Number of heads; must divide D.
    """

    def __init__(self, embed_dims: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(embed_dims, embed_dims)
        self.kv = nn.Linear(embed_dims, 2 * embed_dims)
        self.proj = nn.Linear(embed_dims, embed_dims)

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Attend to the context of each row.

        Args:
            x (torch.Tensor): Tokens that ask, (B, Q, D).
            context (torch.Tensor): Tokens that are attended to, (B, K, D).

        Returns:
            torch.Tensor: Shape (B, Q, D).
        """
        heads = (self.num_heads, -1)
        q = self.q(x).unflatten(2, heads).transpose(1, 2)
        kv = self.kv(context).unflatten(2, (2, *heads))
        k, v = kv.permute(2, 0, 3, 1, 4)  # each (B, heads, K, D / heads)
        return self.proj(attend(q, k, v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between them.

    Args:
        embed_dims (int): Width of a token, D.
        hidden_dims (int): Width of the hidden layer.
    """

    def __init__(self, embed_dims: int, hidden_dims: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(embed_dims, hidden_dims)
        self.fc2 = nn.Linear(hidden_dims, embed_dims)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Transform every token by itself.

        Args:
            x (torch.Tensor): Tokens of shape (B, L, D).

        Returns:
            torch.Tensor: Shape (B, L, D).
        """
        return self.fc2(F.gelu(self.fc1(x)))


class TransformerBlock(nn.Module):
    """Pre-norm block: attention, then a two-layer perceptron.

    Args:
        embed_dims (int): Width of a token, D.
        num_heads (int): Number of attention heads.
        mlp_ratio (float): Width of the perceptron's hidden layer over D.
        drop_path_rate (float): Probability that a row (a person) skips a
            branch while training. Defaults to 0.
        attention (type): :class:`Attention`, or :class:`CrossAttention` for
            a block that attends to a context instead of its own tokens.
            Defaults to :class:`Attention`.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        mlp_ratio: float,
        drop_path_rate: float = 0.0,
        attention: type[nn.Module] = Attention,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dims)
        self.attn = attention(embed_dims, num_heads)
        self.norm2 = nn.LayerNorm(embed_dims)
        self.mlp = Mlp(embed_dims, int(embed_dims * mlp_ratio))
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: torch.Tensor, *context: torch.Tensor) -> torch.Tensor:
        """Transform tokens.

        Args:
            x (torch.Tensor): Tokens of shape (B, L, D).
            context (torch.Tensor): What cross-attention attends to, (B, K,
                D).

        Returns:
            torch.Tensor: Shape (B, L, D).
        """
        x = x + self.drop_path(self.attn(self.norm1(x), *context))
        return x + self.drop_path(self.mlp(self.norm2(x)))


def transformer_blocks(
    depth: int,
    embed_dims: int,
    num_heads: int,
    mlp_ratio: float,
    drop_path_rate: float = 0.0,
    attention: type[nn.Module] = Attention,
) -> nn.Sequential:
    """A stack of blocks whose drop-path rate grows linearly from 0.

    Args:
        depth (int): Number of blocks.
        embed_dims (int): Width of a token, D.
        num_heads (int): Number of attention heads.
        mlp_ratio (float): Width of a perceptron's hidden layer over D.
        drop_path_rate (float): Rate of the last block. Defaults to 0.
        attention (type): Of the blocks. Defaults to :class:`Attention`.

    Returns:
        nn.Sequential: The blocks, (B, L, D) -> (B, L, D).

    Raises:
        ValueError: If depth is below 1, or num_heads does not divide the
            width.
    """
    if depth < 1:
        raise ValueError(f'depth={depth} must be at least 1.')
    if embed_dims % num_heads:
        raise ValueError(
            f'{embed_dims} channels cannot be split into num_heads='
            f'{num_heads} heads of equal width.'
        )
    rates = [drop_path_rate * i / max(depth - 1, 1) for i in range(depth)]
    return nn.Sequential(
        *(
            TransformerBlock(embed_dims, num_heads, mlp_ratio, rate, attention)
            for rate in rates
        )
    )
