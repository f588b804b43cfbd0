import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from mmaction.registry import HOOKS
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner

from ..compat import load_checkpoint_file
from ..evaluation.extraction import (
    Features,
    check_backbone,
    extract_features,
    ordered_dataloader,
)
from ..evaluation.probes import knn_accuracy, linear_accuracy
from ..utils import written_whole
from .runner_model import is_stand_in, model_of

SCORES = ('knn_top1', 'linear_top1')


@HOOKS.register_module()
class RepresentationProbeHook(Hook):
    """Says during pre-training what the features are worth.

    Every ``interval`` epochs, and after the last, the backbone's features of
    a labelled training and validation set are classified by their nearest
    neighbours and by logistic regression
    (:mod:`mamp_mmaction.evaluation.probes`).
    ``probe/knn_top1`` and ``probe/linear_top1``, fractions like the
    toolbox's ``acc/top1``, go to the log, to the visualiser's scalars at the
    epoch as their step, and to the message hub.

    The training does not notice: modes and random states are restored, and
    its result is the same bit by bit. It works with any model that
    :func:`extract_features` takes, on one process or several. The data is
    read at the first probe and kept::

        custom_hooks = [
            dict(
                type='RepresentationProbeHook',
                interval=20,
                save_best='linear_top1',
                train_dataloader=dict(
                    batch_size=64,
                    num_workers=2,
                    dataset=dict(
                        type='SkeletonDataset',
                        ann_file='data/toy.pkl',
                        split='xsub_train',
                        pipeline=_base_.test_pipeline,
                    ),
                ),
                val_dataloader=dict(...),
            )
        ]

    Args:
        train_dataloader (dict): Config of the loader of the labelled
            training set. Its pipeline should be that of validation: without
            random crops and rotations, and no mask is needed. Every sample
            is used once, in order, whatever its sampler says.
        val_dataloader (dict): The same of the validation set.
        interval (int): Epochs from probe to probe. Defaults to 10.
        k (int): Nearest neighbours that vote. Defaults to 1.
        weight_decay (float): Of the logistic regression, see
            :func:`linear_accuracy`. Defaults to 1e-3.
        save_best (str, optional): ``'knn_top1'`` or ``'linear_top1'``: keep
            the weights that scored best as
            ``best_probe_{name}_epoch_{epoch}.pth`` in the working directory,
            the earlier of equals. A resumed run goes on from the best file
            that it finds there. Defaults to None.

    Raises:
        ValueError: If interval is below 1, or save_best unknown.
    """

    # Behind the hooks that change weights and buffers after an epoch
    # (SyncBuffersHook, LinearProbeHook), and before CheckpointHook (VERY_LOW).
    priority = 'LOW'

    def __init__(
        self,
        train_dataloader: dict,
        val_dataloader: dict,
        interval: int = 10,
        k: int = 1,
        weight_decay: float = 1e-3,
        save_best: str | None = None,
    ) -> None:
        if interval < 1:
            raise ValueError(f'interval={interval} must be at least 1.')
        if save_best not in (None, *SCORES):
            raise ValueError(
                f'save_best={save_best!r} is none of {SCORES} and None.'
            )
        self.interval = interval
        self.k = k
        self.weight_decay = weight_decay
        self.save_best = save_best
        self._loader_cfgs = dict(
            training=train_dataloader, validation=val_dataloader
        )
        self._loaders = {}
        self._best_score = -1.0
        self._best_path = None

    def before_train(self, runner: Runner) -> None:
        """Check the model, and find the best weights of a resumed run.

        Raises:
            ValueError: If the model has no backbone, or an ``EMAHook`` would
                save other weights than those that are probed.
        """
        if is_stand_in(runner.model):
            return
        check_backbone(model_of(runner))
        if self.save_best is None:
            return
        if any(isinstance(hook, EMAHook) for hook in runner.hooks):
            raise ValueError(
                'RepresentationProbeHook probes the weights that train, but '
                'EMAHook puts their average into checkpoints: leave out '
                'save_best, or EMAHook.'
            )
        self._best_score, self._best_path = -1.0, None
        if runner.iter > 0:
            self._find_best(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Probe, log, and keep the weights if they are the best so far.

        Raises:
            ValueError: If a data set is empty, lacks labels, or cannot be
                classified, or the backbone's output has another form than
                :func:`extract_features` needs.
        """
        due = self.every_n_epochs(runner, self.interval)
        due = due or self.is_last_train_epoch(runner)
        if due and not is_stand_in(runner.model):
            with preserved_random_state():
                scores = self._probe(runner)
            self._log(runner, scores)
            if self.save_best:
                self._save_if_best(runner, scores)

    def _probe(self, runner: Runner) -> dict[str, float]:
        """The two accuracies, the same numbers on all processes."""
        train, val = (
            self._features(runner, part) for part in ('training', 'validation')
        )
        sets = train.features, train.labels, val.features, val.labels
        if torch.cuda.is_available():
            sets = tuple(x.cuda() for x in sets)
        # By every process, so that all of them stop at an error; the first
        # one's count, should rounding differ.
        accuracies = [
            knn_accuracy(*sets, k=self.k),
            linear_accuracy(*sets, weight_decay=self.weight_decay),
        ]
        broadcast_object_list(accuracies)
        return dict(zip(SCORES, accuracies))

    def _features(self, runner: Runner, part: str) -> Features:
        if part not in self._loaders:
            self._loaders[part] = ordered_dataloader(self._loader_cfgs[part])
        features = extract_features(model_of(runner), self._loaders[part])
        if features.labels is None or features.labels.ndim > 1:
            found = 'none' if features.labels is None else 'several'
            raise ValueError(
                f'RepresentationProbeHook needs one label a sample, but its '
                f'{part} set has {found}, as at sample '
                f'{features.names[0]!r}.'
            )
        return features

    @staticmethod
    def _log(runner: Runner, scores: dict[str, float]) -> None:
        """Log as LoggerHook does after a validation.

        ``LogProcessor`` gathers what begins with train, val or test, and
        would repeat the last value in every line of training.
        """
        epoch = runner.epoch + 1
        scores = {f'probe/{name}': score for name, score in scores.items()}
        for name, score in scores.items():
            runner.message_hub.update_scalar(name, score)
        line = '  '.join(f'{name}: {x:.4f}' for name, x in scores.items())
        runner.logger.info(f'Epoch(probe) [{epoch}]  {line}')
        runner.visualizer.add_scalars(
            scores, step=epoch, file_path=f'{runner.timestamp}.json'
        )

    def _save_if_best(self, runner: Runner, scores: dict[str, float]) -> None:
        score = scores[self.save_best]
        if score <= self._best_score:
            return
        epoch = runner.epoch + 1
        path = Path(runner.work_dir, self._file_name(epoch))
        if is_main_process():
            with written_whole(path) as temporary:
                runner.save_checkpoint(
                    str(temporary.parent),
                    temporary.name,
                    save_optimizer=False,
                    save_param_scheduler=False,
                    meta=dict(probe=scores),
                )
            if self._best_path not in (None, path):
                self._best_path.unlink(missing_ok=True)
        self._best_score, self._best_path = score, path
        runner.logger.info(
            f'The weights that scored best in {self.save_best}, {score:.4f} '
            f'at epoch {epoch}, are saved to {path.name}.'
        )

    def _find_best(self, runner: Runner) -> None:
        """Take up the best file of the working directory.

        Not the message hub: its checkpoint may be older than the best file.
        """
        best = [(self._best_score, None)]
        if is_main_process():
            for path in Path(runner.work_dir).glob(self._file_name('*')):
                meta = load_checkpoint_file(path).get('meta', {})
                score = meta.get('probe', {}).get(self.save_best, -1.0)
                if score > best[0][0]:
                    best = [(score, path)]
        broadcast_object_list(best)
        self._best_score, self._best_path = best[0]
        if self._best_path:
            runner.logger.info(
                f'The best {self.save_best} so far is {self._best_score:.4f}, '
                f'that of {self._best_path.name}.'
            )

    def _file_name(self, epoch: int | str) -> str:
        return f'best_probe_{self.save_best}_epoch_{epoch}.pth'


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """Put the random states of torch, numpy and Python back afterwards.

    Yields:
        Nothing.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()
    devices = []
    if torch.cuda.is_available():
        devices = [torch.cuda.current_device()]
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
