"""Latent targets: what a slowly following encoder makes of all tokens."""

import copy
import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmaction.registry import MODELS
from mmaction.utils import ConfigType
from mmengine.logging import MessageHub

from .motion_prediction_head import MotionPredictionHead


@MODELS.register_module()
class LatentPredictionHead(MotionPredictionHead):
    """Latent target and loss: masked tokens predict a teacher's features.

    The teacher is the exponential moving average of the encoder and sees
    every token. The target of a token is the mean of the outputs of the
    teacher's last blocks (of the tokens after the block, residual included;
    the encoder's final norm is left out), and that mean is then normalised
    over its D channels. The loss is the smooth L1 distance (beta 1).
    Sources: Skeleton2vec (2024), S-JEPA (2024).

    :class:`MAMP` adds the teacher, which is saved as ``head.teacher.*``. It
    needs an encoder of blocks, :class:`MAMPTransformer`, and leaves
    recognisers no weights beside ``backbone.*``.

    Args:
        num_blocks (int, optional): Last blocks of the teacher whose outputs
            are averaged, k. Defaults to None, the upper half of them.
        momentum (float): Share of itself that the teacher keeps at a step,
            at the beginning; see :class:`Teacher`. Defaults to 0.996.
        t_patch_size (int): As in :class:`MotionPredictionHead`. Defaults to
            4.
        ignore_absent (bool): As in :class:`MotionPredictionHead`. Defaults
            to False.
        num_coords (int, optional): Leading channels that are coordinates,
            by whose motion ``loss_weight`` goes. Defaults to None, all.
        loss_weight (str, optional): As in :class:`MotionPredictionHead`.
            Defaults to None.

    Raises:
        ValueError: If momentum is outside [0, 1], or loss_weight unknown.
    """

    def __init__(
        self,
        num_blocks: int | None = None,
        momentum: float = 0.996,
        t_patch_size: int = 4,
        ignore_absent: bool = False,
        num_coords: int | None = None,
        loss_weight: str | None = None,
    ) -> None:
        super().__init__(
            t_patch_size=t_patch_size,
            ignore_absent=ignore_absent,
            num_coords=num_coords,
            loss_weight=loss_weight,
        )
        if not 0 <= momentum <= 1:
            raise ValueError(
                f'momentum={momentum} is outside [0, 1]: it is the share of '
                'itself that the teacher keeps at a step.'
            )
        self.targets = dict(latent=1.0)
        self.num_blocks = num_blocks
        self.momentum = momentum

    def add_teacher(self, encoder: nn.Module) -> None:
        """Add the teacher that gives the targets.

        Args:
            encoder (nn.Module): The encoder that it follows.

        Raises:
            ValueError: If it has fewer blocks than are averaged.
        """
        depth = len(encoder.blocks)
        k = (depth + 1) // 2 if self.num_blocks is None else self.num_blocks
        if not 0 < k <= depth:
            raise ValueError(
                f'head.num_blocks={k}: the encoder has {depth} blocks, of '
                'which the outputs of at least 1 and at most all are averaged.'
            )
        self.teacher = Teacher(encoder, k, self.momentum)

    def loss(
        self,
        pred: torch.Tensor,
        keypoint: torch.Tensor,
        mask: torch.Tensor,
        wanted: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Smooth L1 distance over all masked tokens of the batch.

        Args:
            pred (torch.Tensor): Predicted features, (B, L, D), or those of
                the wanted tokens alone, (B, Q, D).
            keypoint (torch.Tensor): Skeletons, (B, T, V, C).
            mask (torch.Tensor): Bool, (B, L), True where masked.
            wanted (torch.Tensor, optional): Long, (B, Q), places of the
                tokens that were predicted. Defaults to None, all L.

        Returns:
            dict: ``loss_latent``, and ``target_std``, the standard deviation
            of the targets among the present persons at the same token and
            channel (root of its mean square). It lies between 0 and 1: at 0
            the teacher gives all skeletons the same features, it has
            collapsed (or there is a single person).
        """
        every = self.target_patches(keypoint)
        target, weight, counted = self._compared(
            every, pred, keypoint, mask, wanted
        )
        error = F.smooth_l1_loss(pred.float(), target, reduction='none')
        error = (error.mean(dim=2) * weight).sum()
        return dict(
            loss_latent=error / counted.sum().clamp(min=1),
            target_std=std_among_persons(every, keypoint),
        )

    def target_patches(self, keypoint: torch.Tensor) -> torch.Tensor:
        """What the decoder should predict.

        Args:
            keypoint (torch.Tensor): Skeletons, (B, T, V, C).

        Returns:
            torch.Tensor: The teacher's features, (B, L, D).
        """
        return self.teacher(keypoint)

    def predict(
        self,
        pred: torch.Tensor,
        keypoint: torch.Tensor,
        target: str | None = None,
    ) -> torch.Tensor:
        """The prediction as it is: features have no units.

        Args:
            pred (torch.Tensor): Predicted features, (B, L, D).
            keypoint (torch.Tensor): Unused.
            target (str, optional): Unused, there is one target.

        Returns:
            torch.Tensor: Predicted features in float32, (B, L, D).
        """
        return pred.float()


class Teacher(nn.Module):
    """The exponential moving average of an encoder, which gives targets.

    Its weights are buffers: no optimiser, DDP or average of weights takes
    them for parameters. It is always in eval mode.

    At a training step it keeps the share m of itself and takes 1 - m of the
    encoder's weights; m goes from ``momentum`` to 1 along half a cosine over
    the runner's training, and is ``momentum`` where no runner trains. A
    teacher that comes from no checkpoint becomes a copy of the encoder at
    the first of them.

    Args:
        encoder (nn.Module): What it follows, with ``embed_tokens`` and
            ``blocks``.
        num_blocks (int): Last blocks whose outputs are averaged, k.
        momentum (float): m at the beginning.
    """

    def __init__(
        self, encoder: nn.Module, num_blocks: int, momentum: float
    ) -> None:
        super().__init__()
        self.num_blocks = num_blocks
        self.momentum = momentum
        self.encoder = frozen_copy(encoder)
        self._is_loaded = False
        self._seen = None, None  # of the encoder: version, last weight

    def train(self, mode: bool = True) -> 'Teacher':
        """Stay in eval mode, without drop path."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, keypoint: torch.Tensor) -> torch.Tensor:
        """Targets of all tokens.

        Args:
            keypoint (torch.Tensor): Skeletons of shape (B, T, V, C).

        Returns:
            torch.Tensor: Float32, (B, L, D); each token has mean 0 and
            variance 1.
        """
        tokens = self.encoder.embed_tokens(keypoint)
        blocks = self.encoder.blocks
        total = 0
        for index, block in enumerate(blocks):
            tokens = block(tokens)
            if index >= len(blocks) - self.num_blocks:
                total = total + tokens
        mean = (total / self.num_blocks).float()
        return F.layer_norm(mean, mean.shape[2:])

    @torch.no_grad()
    def follow(self, encoder: nn.Module) -> None:
        """Take over the encoder's share, once a step of the optimiser.

        Args:
            encoder (nn.Module): The encoder that trains.
        """
        if self._awaits_step(encoder):
            return
        share = 1 - self.current_momentum() if self._is_loaded else 1.0
        self._is_loaded = True
        weights = encoder.state_dict()
        for name, own in self.encoder.state_dict().items():
            if own.is_floating_point():
                own.lerp_(weights[name], share)
            else:
                own.copy_(weights[name])

    def current_momentum(self) -> float:
        """The share m at the runner's present step.

        Returns:
            float: From ``momentum`` to 1.
        """
        hub = MessageHub.get_current_instance()
        if hub.get_info('loop_stage') != 'train':
            return self.momentum
        progress = hub.get_info('iter') / hub.get_info('max_iters')
        cosine = (1 + math.cos(math.pi * progress)) / 2
        return 1 - (1 - self.momentum) * cosine

    def _awaits_step(self, encoder: nn.Module) -> bool:
        """Whether gradients are being accumulated for the next step.

        The encoder then has gradients, but the weights of the last time.
        """
        params = list(encoder.parameters())
        # torch's fused optimisers do not count versions.
        version, last = sum(p._version for p in params), params[-1].detach()
        seen, before = self._seen
        if seen == version and torch.equal(last, before.to(last)):
            return any(p.grad is not None for p in params)
        self._seen = version, last.clone()
        return False

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, *args, **kwargs
    ) -> None:
        self._is_loaded |= any(key.startswith(prefix) for key in state_dict)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def frozen_copy(encoder: nn.Module) -> nn.Module:
    """A copy in eval mode whose parameters are buffers.

    Args:
        encoder (nn.Module): The module.

    Returns:
        nn.Module: The copy. Weights without it may be loaded.
    """
    frozen = copy.deepcopy(encoder).eval()
    for module in frozen.modules():
        for name, param in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, param.detach())
    frozen.init_cfg = None
    frozen.weights_optional = True
    return frozen


def std_among_persons(
    target: torch.Tensor, keypoint: torch.Tensor
) -> torch.Tensor:
    """How much targets differ from person to person.

    Args:
        target (torch.Tensor): Shape (B, L, D).
        keypoint (torch.Tensor): Skeletons, (B, T, V, C); those of absent
            persons are all zero and do not count.

    Returns:
        torch.Tensor: Root of the variance over persons, averaged over tokens
        and channels; a scalar.
    """
    present = keypoint.flatten(1).any(dim=1).float()
    share = (present / present.sum().clamp(min=1))[:, None, None]
    mean = (share * target).sum(dim=0)
    variance = (share * (target - mean).square()).sum(dim=0)
    return variance.mean().sqrt()


def is_latent(head: ConfigType) -> bool:
    """Whether a head's config is that of a latent target.

    Args:
        head (dict): Config of the head.

    Returns:
        bool: True for :class:`LatentPredictionHead`.
    """
    kind = head.get('type')
    if isinstance(kind, str):
        kind = MODELS.get(kind)
    return isinstance(kind, type) and issubclass(kind, LatentPredictionHead)


def width_of_blocks(encoder: nn.Module) -> int:
    """Numbers in a token between the blocks of an encoder.

    Args:
        encoder (nn.Module): The encoder.

    Returns:
        int: D.

    Raises:
        ValueError: If it has no blocks of tokens.
    """
    if not hasattr(encoder, 'embed_tokens') or not hasattr(encoder, 'blocks'):
        raise ValueError(
            "LatentPredictionHead predicts the outputs of an encoder's "
            f'blocks, but the backbone {type(encoder).__name__} has no '
            'blocks of tokens: use MAMPTransformer, or MotionPredictionHead.'
        )
    return encoder.embed_dims
