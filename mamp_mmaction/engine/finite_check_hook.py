import math

import torch
from mmaction.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..datasets.sample_name import sample_name
from .runner_model import model_of


@HOOKS.register_module()
class FiniteCheckHook(Hook):
    """Stops a training whose loss or weights are not finite.

    NaN spreads from one sample to all weights in a single step, and nothing
    brings them back. The error comes before a hook saves such weights: the
    last checkpoint is sound, and training goes on from there once the
    samples are mended.
    """

    # Before the hooks that save weights: RepresentationProbeHook (LOW) and
    # CheckpointHook (VERY_LOW).
    priority = 'BELOW_NORMAL'

    def before_train(self, runner: Runner) -> None:
        """Check the weights, which are initialised or loaded by now.

        Raises:
            ValueError: If a parameter or buffer, which is named, is not
                finite.
        """
        weights = model_of(runner).state_dict()
        _check_weights(weights, 'The training starts from')

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Check the loss.

        Raises:
            ValueError: If the loss is not finite; the samples of the batch
                are named.
        """
        # Waits for the device, but RuntimeInfoHook has already done so.
        loss = torch.as_tensor((outputs or {}).get('loss', 0.0)).item()
        if math.isfinite(loss):
            return
        samples = (data_batch or {}).get('data_samples', [])
        names = ', '.join(sample_name(x, i) for i, x in enumerate(samples))
        raise ValueError(
            f'The loss is {loss} at iteration {runner.iter + 1} (epoch '
            f'{runner.epoch + 1}). The batch of this process was: {names}. '
            'Look for coordinates that are huge or not finite; if there are '
            'none, lower the learning rate. No checkpoint was written since.'
        )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check the weights that are about to be saved.

        Raises:
            ValueError: If a parameter or buffer, which is named, is not
                finite.
        """
        _check_weights(checkpoint['state_dict'], 'A checkpoint would hold')


def _check_weights(weights: dict[str, torch.Tensor], beginning: str) -> None:
    for name, value in weights.items():
        if not torch.isfinite(value).all():
            raise ValueError(
                f'{beginning} weights that are not finite: the first is '
                f'{name}. Use an earlier checkpoint.'
            )
