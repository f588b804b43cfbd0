import torch.nn as nn
from mmaction.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner


@HOOKS.register_module()
class LinearProbeHook(Hook):
    """Freezes the backbone of any recogniser (paper: linear evaluation).

    The backbone's parameters get no gradient and leave the optimiser, and
    it stays in eval mode (BatchNorm statistics, dropout), so that after
    training its weights and buffers are what they were. Everything else,
    the head, trains as usual, on one process or several.
    """

    priority = 'HIGH'

    def before_run(self, runner: Runner) -> None:
        """Freeze the backbone, in training also for optimiser and DDP.

        The optimiser exists by now and lists all parameters, and a
        distributed wrapper expects a gradient for each of them.

        Args:
            runner (Runner): The runner.

        Raises:
            ValueError: If the model has no backbone, or nothing is left to
                train.
        """
        backbone = self._backbone(runner)
        backbone.requires_grad_(False)
        optim_wrapper = getattr(runner, 'optim_wrapper', None)
        if isinstance(optim_wrapper, OptimWrapper):
            self._forget_frozen(optim_wrapper)
            if is_model_wrapper(runner.model):
                runner.model = runner.wrap_model(
                    runner.cfg.get('model_wrapper_cfg'), runner.model.module
                )

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Put the backbone back into eval mode, which the loop had left.

        Args:
            runner (Runner): The runner.
            batch_idx (int): Index of the batch.
            data_batch (dict, optional): The batch. Defaults to None.
        """
        backbone = self._backbone(runner)
        if backbone.training:
            backbone.eval()

    @staticmethod
    def _backbone(runner: Runner) -> nn.Module:
        model = runner.model
        if is_model_wrapper(model):
            model = model.module
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
