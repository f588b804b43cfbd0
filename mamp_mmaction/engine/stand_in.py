import torch.nn as nn


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
    return type(model).__name__ == 'SimpleModel'
