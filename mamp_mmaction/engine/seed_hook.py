import functools
import hashlib
import random
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from mmaction.registry import HOOKS
from mmengine.dist import get_rank
from mmengine.hooks import DistSamplerSeedHook
from mmengine.runner import Runner
from torch.utils.data import Dataset, Sampler


@HOOKS.register_module()
class SeedHook(DistSamplerSeedHook):
    """Lets a training depend on its seed alone, and not on its history.

    What the pipeline draws for a sample comes from (seed, epoch, sample), what
    the model draws in an iteration from (seed, iteration, rank). So there is
    no random state to save: a run that is resumed after an epoch goes on as if
    it had never stopped, and the number of workers does not matter. mmengine
    seeds each worker by its number instead, and anew in every epoch where
    ``persistent_workers`` is False, so that crops and masks repeat.

    The seed is that of the run, or of the checkpoint that is resumed. The
    order of the samples comes from (seed, epoch) too, as in mmengine, unless
    ``sampler`` has a seed of its own. It takes the place of mmengine's hook::

        default_hooks = dict(sampler_seed=dict(type='SeedHook'))

    Transforms may draw from ``numpy.random``, ``torch`` and ``random``; the
    last depends on the batch instead of the sample.
    """

    def before_train(self, runner: Runner) -> None:
        """Seed what the training's loader draws."""
        loop = runner.train_loop
        batches = loop.dataloader.batch_sampler
        seed = self._seed(runner)
        sampler = getattr(batches, 'sampler', None)
        if sampler is None:  # somebody's own way to make batches
            return
        if isinstance(sampler, _Keyed):
            sampler = sampler.sampler
        given = runner.cfg.get('train_dataloader') or {}
        if 'seed' not in (given.get('sampler') or {}):
            sampler.seed = seed
        batches.sampler = _Keyed(sampler, seed)
        dataset = loop.dataloader.dataset
        dataset.__getitems__ = functools.partial(_get_items, dataset)
        if hasattr(loop, 'dataloader_iterator'):
            # IterBasedTrainLoop has read the first batches already.
            if hasattr(sampler, '_indices_of_rank'):
                sampler.indices = sampler._indices_of_rank()
            loop.dataloader._iterator = None
            restarted = type(loop.dataloader_iterator)(loop.dataloader)
            loop.dataloader_iterator = restarted

    def before_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
    ) -> None:
        """Seed what the model draws."""
        number = _number(self._seed(runner), runner.iter, get_rank())
        random.seed(number)
        _seed_numpy_and_torch(number)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed(number)

    @staticmethod
    def _seed(runner: Runner) -> int:
        """The seed that all processes share."""
        differs = runner._randomness_cfg.get('diff_rank_seed', False)
        return runner.seed - (get_rank() if differs else 0)


class _Keyed(Sampler):
    """The indices of a sampler, each with what its draws depend on."""

    def __init__(self, sampler: Sampler, seed: int) -> None:
        self.sampler = sampler
        self.seed = seed

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        epoch = getattr(self.sampler, 'epoch', None)
        for place, index in enumerate(self.sampler):
            # A sampler without epochs never ends.
            yield self.seed, place if epoch is None else epoch, index

    def __len__(self) -> int:
        return len(self.sampler)

    def __getattr__(self, name):
        return getattr(self.sampler, name)


def _get_items(dataset: Dataset, keys: Sequence) -> list:
    """What a loader's worker does to make a batch."""
    items = []
    for place, key in enumerate(keys):
        if isinstance(key, tuple):  # else of another loader
            number = _number(*key)
            if place == 0:
                random.seed(number)  # takes as long as all else
            _seed_numpy_and_torch(number)
            key = key[-1]
        items.append(dataset[key])
    return items


def _number(*key: int) -> int:
    """A number of 32 bits that stands for a few others."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=4).digest()
    return int.from_bytes(digest, 'big')


def _seed_numpy_and_torch(number: int) -> None:
    np.random.seed(number)
    # torch.manual_seed takes a hundred times as long.
    torch.default_generator.manual_seed(number)
