"""The model of a runner, as hooks and optimisers meet it."""

import torch.nn as nn
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner


def model_of(runner: Runner) -> nn.Module:
    """The model itself, without what wraps it for several processes.

    Returns:
        nn.Module: The model.
    """
    model = runner.model
    return model.module if is_model_wrapper(model) else model


def is_stand_in(model: nn.Module) -> bool:
    """Whether a model is that of the toolbox's ``vis_scheduler.py``.

    The script draws a config's learning rates by a training with the
    config's optimiser and hooks, but a model that computes nothing and has
    no backbone.

    Args:
        model (nn.Module): The model.

    Returns:
        bool: True if there is nothing to freeze, to probe or to scale.
    """
    named = type(model).__name__ == 'SimpleModel'
    return named and not hasattr(model, 'backbone')
