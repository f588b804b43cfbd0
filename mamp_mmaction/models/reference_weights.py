"""How the reference implementation names and shapes the same weights.

The tables are the one place where the parameter layout of a checkpoint is
written down; conversion works either way and changes no number.
"""

import torch
import torch.nn as nn
from mmaction.registry import MODELS

from .state_dict_checks import misfits

State = dict[str, torch.Tensor]

# (this project's prefix, the reference's prefix)
ENCODER = [
    ('backbone.patch_embed', 'joints_embed.proj'),
    ('backbone.spatial_embed', 'pos_embed'),
    ('backbone.temporal_embed', 'temp_embed'),
    ('backbone.blocks', 'blocks'),
    ('backbone.norm', 'norm'),
]
DECODER = [
    ('neck.embed', 'decoder_embed'),
    ('neck.mask_token', 'mask_token'),
    ('neck.spatial_embed', 'decoder_pos_embed'),
    ('neck.temporal_embed', 'decoder_temp_embed'),
    ('neck.blocks', 'decoder_blocks'),
    ('neck.norm', 'decoder_norm'),
    ('neck.pred', 'decoder_pred'),
]
LINEAR_HEAD = [('cls_head.bn', 'head.fc.0'), ('cls_head.fc', 'head.fc.1')]
FINETUNE_HEAD = [
    ('cls_head.fc1', 'head.fc1'),
    ('cls_head.bn', 'head.bn'),
    ('cls_head.fc2', 'head.fc2'),
]

# kind of checkpoint: (layout, a key that only this kind has, in either naming)
KINDS = {
    'pre-training': (
        ENCODER + DECODER,
        ('neck.mask_token', 'mask_token'),
    ),
    'fine-tuned': (
        ENCODER + FINETUNE_HEAD,
        ('cls_head.fc2.weight', 'head.fc2.weight'),
    ),
    'linear probe': (
        ENCODER + LINEAR_HEAD,
        ('cls_head.fc.weight', 'head.fc.1.weight'),
    ),
}
OURS, THEIRS = 0, 1
PATCH_WEIGHT = ('backbone.patch_embed.weight', 'joints_embed.proj.weight')


def checkpoint_kind(state: State, naming: int) -> str:
    """Recognise what a state dict holds by its keys.

    Returns:
        str: A key of ``KINDS``.

    Raises:
        ValueError: If they are no MAMP weights.
    """
    for kind, (_, marks) in KINDS.items():
        if marks[naming] in state:
            return kind
    known = ', '.join(marks[naming] for _, marks in KINDS.values())
    raise ValueError(
        'These are no MAMP weights of a known kind: none of the keys '
        f'{known} is among the {len(state)} found, such as '
        f'{", ".join(list(state)[:4]) or "none"}.'
    )


def from_reference(state: State) -> State:
    """Rename and reshape the reference's weights to this project's.

    Args:
        state (dict[str, torch.Tensor]): Weights of the pre-training model,
            the linear probe or the fine-tuned model.

    Returns:
        dict[str, torch.Tensor]: The same numbers for :class:`MAMP` or a
        ``RecognizerGCN``.

    Raises:
        ValueError: If a key is unknown or missing, or a shape does not fit;
            all of them are listed.
    """
    kind = checkpoint_kind(state, THEIRS)
    renamed, unknown = _rename(state, KINDS[kind][0], THEIRS, OURS)
    weight = renamed.get(PATCH_WEIGHT[OURS])
    if weight is None or weight.ndim != 4 or weight.shape[3] != 1:
        found = 'missing' if weight is None else f'{tuple(weight.shape)}'
        raise ValueError(
            f'{PATCH_WEIGHT[THEIRS]} must have shape (channels, coordinates, '
            f't_patch_size, 1), found {found}.'
        )
    _, in_channels, t_patch_size, _ = weight.shape
    renamed[PATCH_WEIGHT[OURS]] = weight.transpose(1, 2).flatten(1)
    _check(renamed, unknown, kind, in_channels, t_patch_size)
    return renamed


def to_reference(state: State, t_patch_size: int = 4) -> State:
    """Rename and reshape this project's weights to the reference's.

    Args:
        state (dict[str, torch.Tensor]): Weights of :class:`MAMP` or of a
            ``RecognizerGCN`` with one of MAMP's heads.
        t_patch_size (int): Frames of one patch, which these weights do not
            tell. Defaults to 4.

    Returns:
        dict[str, torch.Tensor]: The same numbers under the reference's
        names.

    Raises:
        ValueError: If a key is unknown or missing, or a shape does not fit;
            all of them are listed.
    """
    kind = checkpoint_kind(state, OURS)
    renamed, unknown = _rename(state, KINDS[kind][0], OURS, THEIRS)
    weight = state.get(PATCH_WEIGHT[OURS])
    if weight is None or weight.ndim != 2 or weight.shape[1] % t_patch_size:
        found = 'missing' if weight is None else f'{tuple(weight.shape)}'
        raise ValueError(
            f'{PATCH_WEIGHT[OURS]} must have shape (channels, t_patch_size * '
            f'coordinates) with t_patch_size={t_patch_size}, found {found}.'
        )
    in_channels = weight.shape[1] // t_patch_size
    _check(state, unknown, kind, in_channels, t_patch_size)
    weight = weight.unflatten(1, (t_patch_size, in_channels))
    renamed[PATCH_WEIGHT[THEIRS]] = weight.transpose(1, 2)[..., None]
    return {key: value.contiguous() for key, value in renamed.items()}


def _rename(
    state: State, layout: list[tuple[str, str]], source: int, target: int
) -> tuple[State, list[str]]:
    """Swap prefixes; returns the renamed state and the unknown keys."""
    renamed, unknown = {}, []
    for key, value in state.items():
        for names in layout:
            prefix, rest = names[source], key[len(names[source]) :]
            if key.startswith(prefix) and rest[:1] in ('', '.'):
                renamed[names[target] + rest] = value
                break
        else:
            unknown.append(key)
    return renamed, unknown


def _check(
    state: State,
    unknown: list[str],
    kind: str,
    in_channels: int,
    t_patch_size: int,
) -> None:
    """Compare a state in this project's naming with the model it is for."""
    expected = _build(state, kind, in_channels, t_patch_size).state_dict()
    problems = [f'unknown {key}' for key in unknown]
    problems += misfits(state, expected)
    if problems:
        raise ValueError(
            f'These {kind} weights do not fit the model that their sizes '
            'tell of: ' + '; '.join(problems)
        )


def _build(
    state: State, kind: str, in_channels: int, t_patch_size: int
) -> nn.Module:
    """The model that weights in this project's naming belong to."""

    def size(key: str, dim: int) -> int:
        if key not in state or state[key].ndim <= dim:
            raise ValueError(f'These {kind} weights lack {key}, or its size.')
        return state[key].shape[dim]

    def depth(prefix: str) -> int:
        blocks = [key for key in state if key.startswith(f'{prefix}.blocks.')]
        return 1 + max((int(key.split('.')[2]) for key in blocks), default=0)

    D = size('backbone.norm.weight', 0)
    num_joints = size('backbone.spatial_embed', 2)
    backbone = dict(
        type='MAMPTransformer',
        in_channels=in_channels,
        embed_dims=D,
        depth=depth('backbone'),
        num_heads=1,  # no weight depends on it
        # Half a channel more, as the block rounds down.
        mlp_ratio=(size('backbone.blocks.0.mlp.fc1.weight', 0) + 0.5) / D,
        num_frames=size('backbone.temporal_embed', 1) * t_patch_size,
        num_joints=num_joints,
        t_patch_size=t_patch_size,
    )
    if kind == 'pre-training':
        neck = dict(
            type='MAMPDecoder',
            depth=depth('neck'),
            decoder_embed_dims=size('neck.embed.weight', 0),
        )
        head = dict(type='MotionPredictionHead')
        return MODELS.build(
            dict(type='MAMP', backbone=backbone, neck=neck, head=head)
        )
    if kind == 'linear probe':
        head = dict(
            type='LinearProbeHead', num_classes=size('cls_head.fc.weight', 0)
        )
    else:
        head = dict(
            type='MAMPFinetuneHead',
            num_classes=size('cls_head.fc2.weight', 0),
            hidden_dims=size('cls_head.fc1.weight', 0),
            num_joints=num_joints,
        )
    model = nn.Module()
    model.backbone = MODELS.build(backbone)
    model.cls_head = MODELS.build(dict(head, in_channels=D))
    return model
