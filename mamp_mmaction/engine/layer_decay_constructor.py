import re
from collections import defaultdict

import torch.nn as nn
from mmaction.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.optim import DefaultOptimWrapperConstructor

from .runner_model import is_stand_in

EMBEDDINGS = ('patch_embed', 'spatial_embed', 'temporal_embed')


def layer_index(name: str, depth: int) -> int:
    """Layer that a parameter of a recogniser belongs to.

    Returns:
        int: 0 for the encoder's embeddings, i + 1 for its block i, and
        depth + 1 for its last norm and everything outside.
    """
    block = re.match(r'backbone\.blocks\.(\d+)\.', name)
    if block:
        return int(block.group(1)) + 1
    if any(name.startswith(f'backbone.{part}') for part in EMBEDDINGS):
        return 0
    return depth + 1


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MAMPLayerDecayConstructor(DefaultOptimWrapperConstructor):
    """Parameter groups with layer-wise learning rates (paper: fine-tuning).

    The learning rate of layer i is scaled by
    ``layer_decay ** (depth + 1 - i)``: the embeddings are layer 0, block i
    is layer i + 1, the final norm and the head are layer depth + 1. One-
    dimensional parameters (biases, norms) have no weight decay; embeddings
    and mask tokens do.

    Parameters that share both are merged into one group: two in all where
    ``layer_decay`` is 1, which suits any model, else at most
    ``2 * (depth + 2)``; values below 1 need :class:`MAMPTransformer` as the
    backbone. So few groups are what makes ``fused=True`` of torch's AdamW
    worth while.

    Args:
        optim_wrapper_cfg (dict): Config of the optimizer wrapper; its
            ``optimizer`` gives the base ``lr`` and may give the
            ``weight_decay``, else it is the optimizer's own.
        paramwise_cfg (dict, optional): ``dict(layer_decay=0.8)``.
            Defaults to None, a layer decay of 1.

    Raises:
        ValueError: If layer_decay is outside (0, 1], paramwise_cfg has another
            key, or the optimizer no lr.
    """

    def __init__(
        self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None
    ) -> None:
        paramwise_cfg = dict(paramwise_cfg or {})
        self.layer_decay = paramwise_cfg.pop('layer_decay', 1.0)
        if paramwise_cfg or not 0 < self.layer_decay <= 1:
            raise ValueError(
                'MAMPLayerDecayConstructor takes paramwise_cfg=dict('
                'layer_decay=...) with a value in (0, 1], got layer_decay='
                f'{self.layer_decay} and {paramwise_cfg}.'
            )
        super().__init__(optim_wrapper_cfg, dict(layer_decay=self.layer_decay))
        if self.base_lr is None:
            raise ValueError(
                "MAMPLayerDecayConstructor scales the optimizer's lr, but "
                f'optim_wrapper.optimizer={self.optimizer_cfg} has none: add '
                'lr=....'
            )

    def add_params(
        self, params: list[dict], module: nn.Module, **kwargs
    ) -> None:
        """Sort a model's trainable parameters into groups."""
        depth = self._encoder_depth(module)
        groups = defaultdict(list)
        for name, param in module.named_parameters():
            if param.requires_grad:
                layer = layer_index(name, depth)
                scale = self.layer_decay ** (depth + 1 - layer)
                groups[scale, param.ndim > 1].append(param)
        for (scale, decays), members in sorted(groups.items(), reverse=True):
            group = dict(params=members, lr=self.base_lr * scale)
            if not decays:
                group['weight_decay'] = 0.0
            elif self.base_wd is not None:
                group['weight_decay'] = self.base_wd
            params.append(group)

    def _encoder_depth(self, module: nn.Module) -> int:
        blocks = getattr(getattr(module, 'backbone', None), 'blocks', None)
        if blocks is None and self.layer_decay < 1 and not is_stand_in(module):
            raise ValueError(
                f'layer_decay={self.layer_decay} needs a model whose backbone '
                f'is a MAMPTransformer; {type(module).__name__} has none. '
                'Use layer_decay=1.'
            )
        return 0 if blocks is None else len(blocks)
