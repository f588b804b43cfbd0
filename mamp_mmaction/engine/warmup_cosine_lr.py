import math

from mmaction.registry import PARAM_SCHEDULERS
from mmengine.optim import _ParamScheduler
from mmengine.optim.scheduler.param_scheduler import INF, OptimizerType


@PARAM_SCHEDULERS.register_module()
class WarmupCosineLR(_ParamScheduler):
    """Linear warm-up from zero, then half a cosine (paper: training).

    With e the time since ``begin``, W the warm-up and E the whole length::

        lr(e) = lr * e / W                                        for e < W
        lr(e) = min + (lr - min) * (1 + cos(pi * (e - W) / (E - W))) / 2

    It is set before every iteration, so the first step of a warm-up has a
    learning rate of exactly zero. Whatever scales a parameter group's
    learning rate against the optimiser's ``lr`` (layer decay,
    ``--auto-scale-lr``) scales the whole curve, minimum included.

    In a config, give epochs and let them be converted::

        dict(type='WarmupCosineLR', warmup=20, min_lr=5e-4,
             convert_to_iter_based=True)

    Args:
        optimizer (BaseOptimWrapper | Optimizer): Wrapped optimizer.
        min_lr (float): Learning rate at ``end``. Defaults to 0.
        warmup (int): Length of the warm-up. Defaults to 0.
        begin (int): Step at which the schedule begins. Defaults to 0.
        end (int): Step at which it ends; the runner fills in the length of
            the training. Defaults to mmengine's ``INF``, which is refused.
        last_step (int): Index of the last step. Defaults to -1.
        by_epoch (bool): Must be False: the schedule moves every iteration.
            Defaults to True, as the runner counts where a config does not
            say, so that epochs are never taken for iterations.
        verbose (bool): Whether to print every value. Defaults to False.

    Raises:
        ValueError: If by_epoch is True, there is no end, or the warm-up is not
            shorter than the whole.
    """

    def __init__(
        self,
        optimizer: OptimizerType,
        min_lr: float = 0.0,
        warmup: int = 0,
        begin: int = 0,
        end: int = INF,
        last_step: int = -1,
        by_epoch: bool = True,
        verbose: bool = False,
    ) -> None:
        if by_epoch:
            raise ValueError(
                'WarmupCosineLR moves every iteration: keep its lengths in '
                'epochs and add convert_to_iter_based=True, or give them in '
                'iterations with by_epoch=False.'
            )
        if end == INF or not 0 <= warmup < end - begin:
            raise ValueError(
                'WarmupCosineLR needs an end, and a warm-up shorter than the '
                f'whole: got warmup={warmup}, begin={begin}, end={end}.'
            )
        self.min_lr = min_lr
        self.warmup = warmup
        optimizer_itself = getattr(optimizer, 'optimizer', optimizer)
        self.base_lr = optimizer_itself.defaults['lr']
        super().__init__(
            optimizer, 'lr', begin, end, last_step, by_epoch, verbose
        )

    @classmethod
    def build_iter_from_epoch(
        cls,
        *args,
        warmup: int = 0,
        begin: int = 0,
        end: int = INF,
        by_epoch: bool = True,
        epoch_length: int | None = None,
        **kwargs,
    ) -> 'WarmupCosineLR':
        """Build the schedule from lengths in epochs.

        Args:
            args (tuple): As of the constructor.
            warmup (int): Epochs of warm-up. Defaults to 0.
            begin (int): Epoch at which it begins. Defaults to 0.
            end (int): Epoch at which it ends.
            by_epoch (bool): Must be True here. Defaults to True.
            epoch_length (int): Iterations of an epoch.
            kwargs (dict): As of the constructor.

        Returns:
            WarmupCosineLR: The schedule in iterations.

        Raises:
            ValueError: If an epoch has no iterations, by_epoch is False, or
                as of the constructor.
        """
        if epoch_length == 0:
            raise ValueError(
                'an epoch has no batch: the training set is smaller than '
                'train_dataloader.batch_size, and drop_last=True leaves it '
                'out. Set a smaller batch_size, such as '
                'train_dataloader=dict(batch_size=8) in the config.'
            )
        if not by_epoch or not epoch_length:
            raise ValueError(
                'Converting WarmupCosineLR to iterations needs by_epoch=True '
                f'and a positive epoch_length, got by_epoch={by_epoch}, '
                f'epoch_length={epoch_length}.'
            )
        return cls(
            *args,
            warmup=round(warmup * epoch_length),
            begin=round(begin * epoch_length),
            end=end if end == INF else round(end * epoch_length),
            by_epoch=False,
            **kwargs,
        )

    def load_state_dict(self, state_dict: dict) -> None:
        """Go on at a checkpoint's step, with this training's own lengths.

        mmengine would take the checkpoint's, and a training that is resumed
        to become longer would stay at its last learning rate.

        Args:
            state_dict (dict): Of another schedule's ``state_dict()``.
        """
        own = dict(begin=self.begin, end=self.end, warmup=self.warmup)
        # Behind its end the checkpoint's has stood still.
        own['last_step'] = max(state_dict['_global_step'] - self.begin, -1)
        super().load_state_dict({**state_dict, **own})

    def _lr(self) -> float:
        """Learning rate of a group that nothing scales."""
        step, total = self.last_step, self.end - self.begin
        if step < self.warmup:
            return self.base_lr * step / self.warmup
        progress = (step - self.warmup) / (total - self.warmup)
        cosine = (1 + math.cos(math.pi * progress)) / 2
        return self.min_lr + (self.base_lr - self.min_lr) * cosine

    def _get_value(self) -> list[float]:
        """Learning rate of every parameter group."""
        lr, base = self._lr(), self.base_lr
        return [lr * (x / base if base else 1.0) for x in self.base_values]
