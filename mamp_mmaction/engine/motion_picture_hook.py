from collections.abc import Sequence

from mmaction.registry import HOOKS
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..evaluation.masked_sample import (
    check_predicts_motion,
    choose_samples,
    masked_sample,
    motion_predictor,
)
from ..layouts import find_layout
from .representation_probe_hook import preserved_random_state
from .runner_model import is_stand_in, model_of


@HOOKS.register_module()
class MotionPictureHook(Hook):
    """Draws during pre-training what the model predicts.

    Every ``interval`` epochs, and after the last, samples of the validation
    data are drawn as by ``tools/show_method.py``: masked joints, masks of
    several kinds, predicted and true motion. The pictures go to all of the
    visualiser's backends, at the epoch as their step: ``LocalVisBackend``
    writes ``motion_NAME_EPOCH.png`` to ``vis_data/vis_image`` in the folder
    of the run's log, and TensorBoard shows them under ``motion_NAME``.

    The training does not notice: modes and random states are restored, and
    its result is the same bit by bit. Of several processes the first one
    draws::

        custom_hooks = [dict(type='MotionPictureHook', interval=20)]

    Args:
        interval (int): Epochs from picture to picture. Defaults to 20.
        samples (int | Sequence[str]): How many samples are drawn, which then
            lie evenly in the validation data, or their names. Defaults to 2.
        layout (str, optional): Which joints the model gets, by a name of
            :mod:`mamp_mmaction.layouts`. Defaults to None, the one that the
            config tells (``model_layout``), else the only known one of as
            many joints, else no bones are drawn.

    Raises:
        ValueError: If interval is below 1, or there are no samples.
    """

    # As RepresentationProbeHook, and for its reasons.
    priority = 'LOW'

    def __init__(
        self,
        interval: int = 20,
        samples: int | Sequence[str] = 2,
        layout: str | None = None,
    ) -> None:
        if interval < 1:
            raise ValueError(f'interval={interval} must be at least 1.')
        if not samples or (isinstance(samples, int) and samples < 0):
            raise ValueError(f'samples={samples!r} must be at least one.')
        self.interval = interval
        self.samples = [samples] if isinstance(samples, str) else samples
        self.layout = layout
        self._places = []

    def before_train(self, runner: Runner) -> None:
        """Check the model and find the samples.

        Raises:
            ValueError: If there is no validation data or no such sample, the
                model does not predict motion, or the layout does not fit.
        """
        if is_stand_in(runner.model) or not is_main_process():
            return
        model = motion_predictor(model_of(runner), 'the config')
        check_predicts_motion(model)
        given = self.layout or runner.cfg.get('model_layout')
        self._layout, _ = find_layout(given, model.neck.num_joints)
        if runner.val_loop is None:
            raise ValueError(
                'MotionPictureHook draws samples of the validation data, but '
                'the config has no val_dataloader.'
            )
        dataset = runner.val_loop.dataloader.dataset
        self._places = choose_samples(dataset, self.samples)

    def after_train_epoch(self, runner: Runner) -> None:
        """Draw the samples, if it is time.

        Raises:
            ValueError: If the pipeline gives no mask or no positions.
        """
        due = self.every_n_epochs(runner, self.interval)
        due = due or self.is_last_train_epoch(runner)
        if not due or is_stand_in(runner.model) or not is_main_process():
            return
        # matplotlib, which trainings without pictures do without.
        from ..utils.method_pictures import draw_sheet, to_image

        dataset = runner.val_loop.dataloader.dataset
        for place in self._places:
            with preserved_random_state():
                sample = masked_sample(model_of(runner), dataset, place)
            name = sample.name.replace('/', '_')
            runner.visualizer.add_image(
                f'motion_{name}',
                to_image(draw_sheet(sample, self._layout)),
                step=runner.epoch + 1,
            )
