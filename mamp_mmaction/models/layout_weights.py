"""Weights of one skeleton layout for another.

A spatial embedding is a row a joint, so the rows of a layout's joints are an
encoder (or decoder) of that layout.
"""

import torch

from mamp_mmaction.layouts import get_layout, joint_indices

from .state_dict_checks import SPATIAL_EMBED

ENCODER = f'backbone.{SPATIAL_EMBED}'
HIDDEN = 'cls_head.fc1.weight'

State = dict[str, torch.Tensor]


def map_joint_weights(state: State, source: str, target: str) -> State:
    """Take the rows of a layout's joints from weights of another.

    These are the rows of all spatial embeddings and, of the fine-tuning
    head, the columns of its first layer, D a joint; every other weight serves
    any joints.

    Args:
        state (dict[str, torch.Tensor]): Weights of :class:`MAMP`, or of a
            recogniser with :class:`MAMPTransformer`.
        source (str): Name of the layout that they were trained on.
        target (str): Name of the layout that they shall serve; its joints
            must be among those of ``source``.

    Returns:
        dict[str, torch.Tensor]: The weights for ``target``; without the head,
        ``cls_head.*``, where its first layer has not D columns a joint.

    Raises:
        ValueError: If a layout is unknown, ``source`` lacks joints of
            ``target`` or has not as many as the weights, or these are of no
            transformer.
    """
    rows = joint_indices(source, target)
    num_joints = get_layout(source).num_joints
    if ENCODER not in state:
        raise ValueError(
            f'there is no {ENCODER} among the weights, the rows of which are '
            'joints: only those of a MAMPTransformer serve another layout.'
        )
    mapped = dict(state)
    for key, value in state.items():
        if key.split('.')[-1] != SPATIAL_EMBED:
            continue
        if value.ndim != 4 or value.shape[2] != num_joints:
            raise ValueError(
                f'{key} of shape {tuple(value.shape)} is not of the '
                f'{num_joints} joints of layout {source!r}: expected (1, 1, '
                f'{num_joints}, D).'
            )
        mapped[key] = value[:, :, rows].clone()
    if HIDDEN in state:
        width = state[ENCODER].shape[3]
        weight = state[HIDDEN]
        if weight.shape[1] == num_joints * width:
            weight = weight.unflatten(1, (num_joints, width))[:, rows]
            mapped[HIDDEN] = weight.flatten(1)
        else:
            mapped = {
                key: value
                for key, value in mapped.items()
                if not key.startswith('cls_head.')
            }
    return mapped
