"""Checks on weights that are loaded into MAMP's modules.

The toolbox loads every state dict non-strictly and only warns about a wrong
shape, which leaves a module half random. The mixin makes that an error.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader

SPATIAL_EMBED, TEMPORAL_EMBED = 'spatial_embed', 'temporal_embed'


def resize_temporal_embed(
    embed: torch.Tensor, num_segments: int
) -> torch.Tensor:
    """Interpolate a temporal embedding to another number of segments.

    Args:
        embed (torch.Tensor): Shape (1, T', 1, D).
        num_segments (int): Segments wanted.

    Returns:
        torch.Tensor: Shape (1, num_segments, 1, D), linear in time with
        half-pixel centres.
    """
    curve = embed[:, :, 0].transpose(1, 2)  # (1, D, T')
    curve = F.interpolate(
        curve.float(), num_segments, mode='linear', align_corners=False
    )
    return curve.transpose(1, 2)[:, :, None].to(embed.dtype)


def load_weights(module: nn.Module, checkpoint: str, prefix: str = '') -> None:
    """Load all weights of a module, or none.

    Args:
        module (nn.Module): The module.
        checkpoint (str): Path or URL; it may have further weights.
        prefix (str): What stands before the module's names there. Defaults
            to ``''``.

    Raises:
        ValueError: Weights are missing or do not fit.
    """
    weights = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
    weights = weights.get('state_dict', weights)
    weights = {
        key.removeprefix('module.').removeprefix(prefix): value
        for key, value in weights.items()
        if key.removeprefix('module.').startswith(prefix)
    }
    try:
        missing = module.load_state_dict(weights, strict=False)[0]
    except (RuntimeError, ValueError) as error:
        reason = ' '.join(str(error).split())
        raise ValueError(f'{checkpoint}: {reason}') from error
    if missing:
        raise ValueError(
            f'{checkpoint} lacks {len(missing)} weights of the '
            f"{type(module).__name__}, such as '{prefix}{missing[0]}': use "
            'the config that it was trained with.'
        )


class StateDictChecksMixin:
    """Refuses weights that do not fit; interpolates the temporal embedding.

    All of the module's parameters must be in the loaded weights and have
    its shapes, but for ``temporal_embed``, whose number of segments follows
    the clip length and is interpolated. A module may do without weights
    altogether if its ``weights_optional`` is set.
    """

    weights_optional = False

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, *args, **kwargs
    ) -> None:
        own = self.state_dict()
        self._fit_temporal_embed(state_dict, prefix)
        found = {k for k in own if prefix + k in state_dict}
        if found or not self.weights_optional:
            missing = [prefix + k for k in own if k not in found]
            misshapen = [
                f'{prefix + k}: {tuple(state_dict[prefix + k].shape)} in the '
                f'checkpoint, {tuple(own[k].shape)} in the model'
                for k in own
                if k in found and state_dict[prefix + k].shape != own[k].shape
            ]
            self._raise_unless_fits(missing, misshapen)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _fit_temporal_embed(self, state_dict: dict, prefix: str) -> None:
        key = prefix + TEMPORAL_EMBED
        embed, own = state_dict.get(key), self.temporal_embed
        if embed is None or embed.ndim != own.ndim:
            return
        segments, wanted = embed.shape[1], own.shape[1]
        if segments != wanted and embed.shape[2:] == own.shape[2:]:
            print_log(
                f'{key}: interpolated from {segments} to {wanted} segments.',
                logger='current',
            )
            state_dict[key] = resize_temporal_embed(embed, wanted)

    def _raise_unless_fits(
        self, missing: list[str], misshapen: list[str]
    ) -> None:
        if not missing and not misshapen:
            return
        problems = [f'missing {key}' for key in missing] + misshapen
        hint = ''
        if any(SPATIAL_EMBED in problem for problem in misshapen):
            hint = (
                ' The spatial embedding belongs to one skeleton layout: '
                'tools/convert_checkpoint.py --from-layout --to-layout makes '
                'weights for other joints.'
            )
        raise ValueError(
            f'The checkpoint does not fit this {type(self).__name__}: '
            + '; '.join(problems[:8])
            + (f'; and {len(problems) - 8} more' if problems[8:] else '')
            + '. Build the model with the arguments that the checkpoint was '
            'trained with.' + hint
        )
