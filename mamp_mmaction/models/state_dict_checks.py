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


def misfits(
    state: dict[str, torch.Tensor], own: dict[str, torch.Tensor]
) -> list[str]:
    """What keeps weights from being those of a module.

    Args:
        state (dict[str, torch.Tensor]): The weights.
        own (dict[str, torch.Tensor]): Those of the module.

    Returns:
        list[str]: A message on each one that is missing, unknown or of
        another shape.
    """
    return [
        *(f'missing {key}' for key in own if key not in state),
        *(f'unknown {key}' for key in state if key not in own),
        *(
            f'{key}: {tuple(state[key].shape)} instead of {tuple(x.shape)}'
            for key, x in own.items()
            if key in state and state[key].shape != x.shape
        ),
    ]


def load_weights(
    module: nn.Module, checkpoint: str | dict, prefix: str = ''
) -> dict:
    """Load all weights of a module.

    Args:
        module (nn.Module): The module, to be thrown away after an error.
        checkpoint (str | dict): Path or URL, or what was read there; it may
            have weights of other modules.
        prefix (str): What stands before the module's names there. Defaults
            to ``''``.

    Returns:
        dict: The checkpoint.

    Raises:
        ValueError: Weights are missing or do not fit.
    """
    where = 'The checkpoint'
    if not isinstance(checkpoint, dict):
        where = checkpoint
        checkpoint = CheckpointLoader.load_checkpoint(where, 'cpu')
    weights = checkpoint.get('state_dict', checkpoint)
    weights = {k.removeprefix('module.'): x for k, x in weights.items()}
    weights = {
        key.removeprefix(prefix): x
        for key, x in weights.items()
        if key.startswith(prefix)
    }
    try:
        module.load_state_dict(weights, strict=False)
    except (RuntimeError, ValueError) as error:
        reason = ' '.join(str(error).split())
        reason = reason.removeprefix('The checkpoint ')
        raise ValueError(f'{where}: {reason}') from error
    own = module.state_dict()
    parts = {key.split('.')[0] for key in own}
    problems = misfits(
        {key: x for key, x in weights.items() if key.split('.')[0] in parts},
        # What was interpolated fits.
        {
            key: weights.get(key, x) if key.endswith(TEMPORAL_EMBED) else x
            for key, x in own.items()
        },
    )
    if problems:
        raise ValueError(
            f'{where} does not fit this {type(module).__name__}: '
            f'{some_of(problems)}: use the config that it was trained with.'
        )
    return checkpoint


def some_of(problems: list[str], most: int = 8) -> str:
    """The first messages, and how many more there are."""
    more = [f'and {len(problems) - most} more'] if problems[most:] else []
    return '; '.join(problems[:most] + more)


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
        found = {
            prefix + k: state_dict[prefix + k]
            for k in own
            if prefix + k in state_dict
        }
        problems = misfits(found, {prefix + k: x for k, x in own.items()})
        if problems and (found or not self.weights_optional):
            hint = ''
            if any(f'{SPATIAL_EMBED}: ' in problem for problem in problems):
                hint = (
                    ' The spatial embedding belongs to one skeleton layout: '
                    'tools/convert_checkpoint.py --from-layout --to-layout '
                    'makes weights for other joints.'
                )
            raise ValueError(
                f'The checkpoint does not fit this {type(self).__name__}: '
                f'{some_of(problems)}. Build the model with the arguments '
                f'that the checkpoint was trained with.{hint}'
            )
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
