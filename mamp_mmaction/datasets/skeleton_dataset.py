import logging
import os.path as osp
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from mmaction.datasets import PoseDataset
from mmaction.registry import DATASETS
from mmengine.logging import print_log

from .annotation_file import read_annotations
from .sample_name import sample_name

REQUIRED_KEYS = ('keypoint', 'label')
UNLABELLED = -1


@DATASETS.register_module()
class SkeletonDataset(PoseDataset):
    """The toolbox's ``PoseDataset`` with checked annotations.

    The annotation file is the toolbox's: a pickle of ``dict(split=dict(name
    =[frame_dir, ...]), annotations=[dict(frame_dir=, label=, keypoint=(M,
    T, V, C), keypoint_score=(M, T, V) optional, ...), ...])``, or a list of
    such annotations. Everything in it that would fail later, or worse, train
    on nonsense, is an error that names the sample when the data set is
    built.

    Args:
        ann_file (str): Path to the annotation file, ``.pkl``.
        pipeline (list[dict | callable]): A sequence of data transforms.
        split (str, optional): Name of the split to use. Defaults to None,
            all samples.
        num_classes (int, optional): Labels must be below this number.
            Defaults to None, which leaves that check to the head.
        label_ratio (float): Share of the samples that is used, for
            semi-supervised evaluation (paper: semi-supervised): the first
            ``int(label_ratio * n)`` of a random order. Defaults to 1.
        label_balanced (bool): Draw that share evenly from the classes, as
            far as they have samples. Defaults to False.
        label_seed (int): Seed of that order; the draw depends on it and on
            the split alone, so that all processes share it. Defaults to 0.
        unlabelled (str): What becomes of the other samples: ``'drop'``, or
            ``'keep'`` with label -1, for :class:`RecognizerMAMP`, which
            trains on them without labels. Defaults to ``'drop'``.
        kwargs (dict): Further arguments of ``PoseDataset``.
    """

    def __init__(
        self,
        ann_file: str,
        pipeline: list[dict | Callable],
        split: str | None = None,
        num_classes: int | None = None,
        label_ratio: float = 1.0,
        label_balanced: bool = False,
        label_seed: int = 0,
        unlabelled: str = 'drop',
        **kwargs,
    ) -> None:
        if unlabelled not in ('drop', 'keep'):
            raise ValueError(
                f"unlabelled={unlabelled!r} is neither 'drop' nor 'keep'."
            )
        if unlabelled == 'keep' and kwargs.get('multi_class'):
            raise ValueError(
                "unlabelled='keep' marks samples by label -1, which samples "
                'of several classes cannot have: use one class a sample.'
            )
        if not 0 < label_ratio <= 1:
            raise ValueError(f'label_ratio={label_ratio} must be in (0, 1].')
        self.label_ratio = label_ratio
        self.label_balanced = label_balanced
        self.label_seed = label_seed
        self.unlabelled = unlabelled
        super().__init__(
            ann_file, pipeline, split=split, num_classes=num_classes, **kwargs
        )

    def load_data_list(self) -> list[dict]:
        """Read, check and select the annotations.

        Returns:
            list[dict]: One annotation a sample.

        Raises:
            FileNotFoundError: If the annotation file does not exist.
            ValueError: If the file, the split or an annotation is broken.
        """
        data = read_annotations(self.ann_file)
        samples = self._select_split(data)
        for index, sample in enumerate(samples):
            self._check_sample(sample, index)
        self._warn_of_float16(samples)
        if self.label_ratio < 1:
            samples = self._draw_labelled(samples)
        return samples

    def _select_split(self, data: dict | list) -> list[dict]:
        if isinstance(data, list):
            if self.split is not None:
                raise ValueError(
                    f'{self.ann_file} is a plain list of annotations without '
                    f'splits, but split={self.split!r} is asked for: use '
                    'split=None.'
                )
            return data
        if self.split is None:
            return data['annotations']
        if self.split not in data['split']:
            raise ValueError(
                f'{self.ann_file} has no split {self.split!r}; it has '
                f'{sorted(data["split"])}.'
            )
        wanted = data['split'][self.split]
        names = Counter(
            self._frame_dir(annotation) for annotation in data['annotations']
        )
        absent = [name for name in wanted if name not in names]
        if absent:
            raise ValueError(
                f'{self.ann_file}: split {self.split!r} lists {len(absent)} '
                f'samples without annotation, such as {absent[0]!r}.'
            )
        wanted = set(wanted)
        samples = [
            annotation
            for annotation in data['annotations']
            if self._frame_dir(annotation) in wanted
        ]
        if not samples:
            raise ValueError(
                f'{self.ann_file}: split {self.split!r} is empty.'
            )
        return samples

    def _frame_dir(self, annotation: dict) -> str:
        for key in ('frame_dir', 'filename'):
            if key in annotation:
                return annotation[key]
        raise ValueError(
            f'{self.ann_file}: an annotation with the keys '
            f"{sorted(annotation)} lacks 'frame_dir', the name by which "
            'splits select it.'
        )

    def _check_sample(self, sample: dict, index: int) -> None:
        where = f'{self.ann_file}: {sample_name(sample, index)}'
        for key in REQUIRED_KEYS:
            if key not in sample:
                raise ValueError(
                    f'{where} has the keys {sorted(sample)}, but lacks '
                    f'{key!r}.'
                )
        keypoint = sample['keypoint']
        if not isinstance(keypoint, np.ndarray) or keypoint.ndim != 4:
            found = getattr(keypoint, 'shape', type(keypoint).__name__)
            raise ValueError(
                f'{where} needs a keypoint array of shape (persons, frames, '
                f'joints, coordinates), found {found}.'
            )
        self._check_values(where, 'keypoint', keypoint)
        if not keypoint.any():
            raise ValueError(
                f'{where} has no valid frame: all coordinates of its keypoint '
                f'of shape {keypoint.shape} are zero. Remove it.'
            )
        score = sample.get('keypoint_score')
        if score is not None:
            if score.shape != keypoint.shape[:3]:
                raise ValueError(
                    f'{where} has a keypoint_score of shape {score.shape}, '
                    f'expected {keypoint.shape[:3]}.'
                )
            self._check_values(where, 'keypoint_score', score)
        self._check_label(where, sample['label'])

    @staticmethod
    def _check_values(where: str, key: str, values: np.ndarray) -> None:
        finite = np.isfinite(values)
        if not finite.all():
            person, frame, joint = np.argwhere(~finite)[0][:3]
            raise ValueError(
                f'{where} has {np.size(finite) - finite.sum()} numbers in '
                f'its {key} that are NaN or infinite, the first for person '
                f'{person}, frame {frame}, joint {joint}. Repair or remove '
                'the sample.'
            )

    def _check_label(self, where: str, label) -> None:
        if self.multi_class:
            return
        if not isinstance(label, (int, np.integer)) or label < 0:
            raise ValueError(
                f'{where} has label {label!r}, expected an integer from 0.'
            )
        if self.num_classes is not None and label >= self.num_classes:
            raise ValueError(
                f'{where} has label {label}, but num_classes='
                f'{self.num_classes} allows 0 to {self.num_classes - 1}.'
            )

    def _warn_of_float16(self, samples: Sequence[dict]) -> None:
        count = sum(s['keypoint'].dtype == np.float16 for s in samples)
        if count:
            print_log(
                f'{self.ann_file} stores the coordinates of {count} samples '
                'as float16. At 3 m that is a step of 2 mm, as large as real '
                'motion between frames, and pre-training would learn to '
                'predict rounding noise: convert the raw data again to '
                'float32.',
                logger='current',
                level=logging.WARNING,
            )

    def _draw_labelled(self, samples: list[dict]) -> list[dict]:
        count = int(self.label_ratio * len(samples))
        if count == 0:
            raise ValueError(
                f'label_ratio={self.label_ratio} of the {len(samples)} '
                f'samples of {osp.basename(self.ann_file)} is none.'
            )
        rng = np.random.default_rng(self.label_seed)
        order = rng.permutation(len(samples))
        if self.label_balanced:
            order = self._take_turns(order, [s['label'] for s in samples])
        if self.unlabelled == 'drop':
            return [samples[i] for i in np.sort(order[:count])]
        labelled = set(order[:count].tolist())
        return [
            sample if i in labelled else dict(sample, label=UNLABELLED)
            for i, sample in enumerate(samples)
        ]

    @staticmethod
    def _take_turns(order: np.ndarray, labels: list[int]) -> np.ndarray:
        """Rearrange a random order so that the classes take turns in it."""
        turn = Counter()
        turns = np.empty(len(order), dtype=int)
        for place, index in enumerate(order):
            turns[place] = turn[labels[index]]
            turn[labels[index]] += 1
        return order[np.argsort(turns, kind='stable')]
