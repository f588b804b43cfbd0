import torch
import torch.nn as nn
from mmaction.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from .runner_model import is_stand_in, model_of


@HOOKS.register_module()
class LinearProbeHook(Hook):
    """Freezes the backbone of any recogniser (paper: linear evaluation).

    The backbone's parameters get no gradient and leave the optimiser, and
    it stays in eval mode (BatchNorm statistics, dropout), so that after
    training its weights and buffers are what they were. Everything else,
    the head, trains as usual, on one process or several.
    """

    # Behind SyncBuffersHook (NORMAL), which changes buffers, and before
    # CheckpointHook (VERY_LOW), which saves them.
    priority = 'BELOW_NORMAL'

    def __init__(self) -> None:
        self._buffers = {}

    def before_run(self, runner: Runner) -> None:
        """Freeze the backbone, in training also for optimiser and DDP.

        The optimiser exists by now and lists all parameters, and a
        distributed wrapper expects a gradient for each of them.

        Raises:
            ValueError: If the model has no backbone, or nothing is left to
                train.
        """
        self._buffers = {}
        self._backbone(runner).requires_grad_(False)
        optim_wrapper = getattr(runner, 'optim_wrapper', None)
        if isinstance(optim_wrapper, OptimWrapper):
            self._forget_frozen(optim_wrapper)
            if is_model_wrapper(runner.model):
                runner.model = runner.wrap_model(
                    runner.cfg.get('model_wrapper_cfg'), runner.model.module
                )

    def before_train(self, runner: Runner) -> None:
        """Remember the backbone's buffers, which are loaded by now."""
        buffers = self._backbone(runner).named_buffers()
        self._buffers = {name: buffer.clone() for name, buffer in buffers}

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Put the backbone back into eval mode, which the loop had left."""
        backbone = self._backbone(runner)
        if any(module.training for module in backbone.modules()):
            backbone.eval()
            # A backbone's own train() may keep some of its layers training.
            for module in backbone.modules():
                module.training = False

    @torch.no_grad()
    def after_train_epoch(self, runner: Runner) -> None:
        """Restore the backbone's buffers.

        ``SyncBuffersHook`` averages all buffers over the processes, here and
        before a validation. Of equal numbers that is the number itself only
        up to rounding.
        """
        backbone = self._backbone(runner)
        for name, value in self._buffers.items():
            backbone.get_buffer(name).copy_(value)

    before_val_epoch = after_train_epoch

    @staticmethod
    def _backbone(runner: Runner) -> nn.Module:
        model = model_of(runner)
        if is_stand_in(model):
            return nn.Module()
        if not isinstance(getattr(model, 'backbone', None), nn.Module):
            raise ValueError(
                'LinearProbeHook freezes model.backbone, but '
                f'{type(model).__name__} has none.'
            )
        return model.backbone

    @staticmethod
    def _forget_frozen(optim_wrapper: OptimWrapper) -> None:
        """Drop frozen parameters from the optimiser.

        Groups stay, even empty: schedulers count on their number.
        """
        groups = optim_wrapper.optimizer.param_groups
        for group in groups:
            group['params'][:] = [
                param for param in group['params'] if param.requires_grad
            ]
        if not any(group['params'] for group in groups):
            raise ValueError(
                'Nothing is left to train once the backbone is frozen: '
                'LinearProbeHook needs a model with a trainable head.'
            )
