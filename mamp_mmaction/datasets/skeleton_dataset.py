import logging
import math
import os.path as osp
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from mmaction.datasets import PoseDataset
from mmaction.datasets.transforms import FormatGCNInput
from mmaction.registry import DATASETS
from mmengine.logging import print_log

from ..utils.plain_pickle import load_plain_pickle
from .annotation_file import (
    check_annotation,
    read_annotations,
    sample_names,
    select_split,
)
from .sample_name import sample_name
from .transforms import DropScore

UNLABELLED = -1


@DATASETS.register_module()
class SkeletonDataset(PoseDataset):
    """The toolbox's ``PoseDataset`` with checked annotations.

    The annotation file is the toolbox's: a pickle of ``dict(split=dict(name
    =[frame_dir, ...]), annotations=[dict(frame_dir=, label=, keypoint=(M,
    T, V, C), keypoint_score=(M, T, V) optional, ...), ...])``, or a list of
    such annotations. Everything in it that would fail later, or worse, train
    on nonsense, is an error that names the sample when the data set is
    built. Class names in it (``classes``) become ``metainfo['classes']``.
    ``data_prefix=dict(skeleton=folder)`` reads each sample's skeleton from
    ``folder/NAME.pkl`` when it is used, ``data_prefix=dict(video=folder)``
    puts a folder before the names.

    Args:
        ann_file (str): Path to the annotation file, ``.pkl``.
        pipeline (list[dict | callable]): A sequence of data transforms.
        split (str, optional): Name of the split to use. Defaults to None,
            all samples.
        num_classes (int, optional): Labels must be below this number.
            Defaults to None, which leaves that check to the head.
        label_ratio (float): Share of the samples that is used, for
            semi-supervised evaluation (paper: semi-supervised): the first
            ``int(label_ratio * n)`` of a random order of the sorted names.
            Defaults to 1.
        label_balanced (bool): Draw that share evenly from the classes, as
            far as they have samples. Defaults to False.
        label_seed (int): Seed of that order; the draw depends on it and on
            the names in the split alone, not on their order in the file, so
            that all processes share it. Defaults to 0.
        unlabelled (str): What becomes of the other samples: ``'drop'``, or
            ``'keep'`` with label -1, for :class:`RecognizerMAMP`, which
            trains on them without labels. Defaults to ``'drop'``.
        labelled_share (float): With ``unlabelled='keep'``, labelled samples
            are repeated until they are at least this share of all, so that
            a batch has enough of them to learn from. Defaults to 0: none is
            repeated.
        kwargs (dict): Further arguments of ``PoseDataset``.

    Raises:
        ValueError: If label_ratio is outside (0, 1], labelled_share outside
            [0, 1) or without unlabelled='keep', unlabelled is unknown,
            several classes a sample are to be balanced or kept without a
            label, or the file is broken (:meth:`load_data_list`).
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
        labelled_share: float = 0.0,
        **kwargs,
    ) -> None:
        if unlabelled not in ('drop', 'keep'):
            raise ValueError(
                f"unlabelled={unlabelled!r} is neither 'drop' nor 'keep'."
            )
        if label_balanced and kwargs.get('multi_class'):
            raise ValueError(
                'label_balanced=True draws evenly from classes, which needs '
                'one class a sample, but multi_class=True.'
            )
        if unlabelled == 'keep' and kwargs.get('multi_class'):
            raise ValueError(
                "unlabelled='keep' marks samples by label -1, which samples "
                'of several classes cannot have: use one class a sample.'
            )
        if not 0 < label_ratio <= 1:
            raise ValueError(f'label_ratio={label_ratio} must be in (0, 1].')
        if not 0 <= labelled_share < 1 or (
            labelled_share and unlabelled != 'keep'
        ):
            raise ValueError(
                f'labelled_share={labelled_share} must be in [0, 1), and '
                "needs unlabelled='keep'."
            )
        self.label_ratio = label_ratio
        self.label_balanced = label_balanced
        self.label_seed = label_seed
        self.unlabelled = unlabelled
        self.labelled_share = labelled_share
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
        every = data if isinstance(data, list) else data['annotations']
        if not every:
            raise ValueError(f'{self.ann_file}: holds no annotations.')
        if isinstance(data, dict) or self.label_ratio < 1:
            sample_names(every, self.ann_file)
        samples = self._select_split(data)
        classes = data.get('classes') if isinstance(data, dict) else None
        if classes:
            # What the config says about the data set comes first.
            self._metainfo.setdefault('classes', tuple(classes))
            if self.num_classes not in (None, len(classes)):
                self._warn(
                    f'names {len(classes)} classes, but num_classes='
                    f'{self.num_classes}: is it the right number?'
                )
        for index, sample in enumerate(samples):
            self._check_sample(sample, self._where(sample, index))
        if 'skeleton' not in self.data_prefix:
            self._compare(samples)
        if self.label_ratio < 1:
            samples = self._draw_labelled(samples)
        if 'video' in self.data_prefix:
            samples = [self._with_video_prefix(s) for s in samples]
        return samples

    def get_data_info(self, idx: int) -> dict:
        """Get one annotation, with its skeleton if that has its own file.

        Args:
            idx (int): Place of the sample.

        Returns:
            dict: The annotation; the toolbox's ``modality`` and
            ``start_index``.

        Raises:
            OSError: If the skeleton's file cannot be read.
            ValueError: If it is broken.
        """
        # Past PoseDataset, which would run what the skeleton's file says.
        info = super(PoseDataset, self).get_data_info(idx)
        if 'skeleton' in self.data_prefix:
            name = info.get('filename', info.get('frame_dir'))
            path = osp.join(self.data_prefix['skeleton'], f'{name}.pkl')
            skeleton = load_plain_pickle(path)
            if 'frame_inds' not in skeleton:  # else for DecompressPose
                check_annotation(skeleton, path, keys=['keypoint'])
            # Its label is unchecked, or may have been withheld.
            info.update(skeleton, label=info['label'])
        return info

    def _where(self, sample: dict, index: int) -> str:
        named = isinstance(sample, dict)
        name = sample_name(sample, index) if named else f'sample {index}'
        return f'{self.ann_file}: {name}'

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
        samples = select_split(data, self.split, self.ann_file)
        if not samples:
            raise ValueError(
                f'{self.ann_file}: split {self.split!r} is empty.'
            )
        return samples

    def _check_sample(self, sample: dict, where: str) -> None:
        keys = ['label']
        if 'skeleton' not in self.data_prefix:
            keys += ['keypoint']
        check_annotation(
            sample, where, self.num_classes, self.multi_class, keys
        )
        if not self.multi_class:
            # numpy's integers are no labels to the toolbox.
            sample['label'] = int(sample['label'])

    def _compare(self, samples: Sequence[dict]) -> None:
        """Compare the samples' sizes, among themselves and to the pipeline."""
        shapes = [sample['keypoint'].shape for sample in samples]
        common, _ = Counter(shape[2:] for shape in shapes).most_common(1)[0]
        for index, shape in enumerate(shapes):
            if shape[2:] != common:
                raise ValueError(
                    f'{self._where(samples[index], index)} has '
                    f'{shape[2]} joints of {shape[3]} coordinates, by the '
                    f'shape {shape} of its keypoint (persons, frames, '
                    'joints, coordinates), but most samples have '
                    f'{common[0]} of {common[1]}.'
                )
        scored = [s for s in samples if 'keypoint_score' in s]
        steps = self.pipeline.transforms
        drops = any(isinstance(step, DropScore) for step in steps)
        if 0 < len(scored) < len(samples) and not drops:
            self._warn(
                f'has a keypoint_score in {len(scored)} of {len(samples)} '
                f'samples, such as {sample_name(scored[0])}, and a batch '
                'needs it in all or none: give it to all, or drop it by '
                'DropScore.'
            )
        for step in steps:
            if isinstance(step, FormatGCNInput):
                self._warn_of_dropped(samples, shapes, step.num_person)
        coarse = [s for s in samples if s['keypoint'].dtype == np.float16]
        if coarse:
            largest = max(np.abs(s['keypoint']).max() for s in coarse)
            self._warn(
                f'stores the coordinates of {len(coarse)} samples as float16. '
                f'At their largest, {largest:.4g}, its steps are '
                f'{np.spacing(largest):.2g}, maybe as large as real motion '
                'between frames, and pre-training would learn to predict '
                'rounding noise: convert the raw data again to float32.'
            )

    def _warn_of_dropped(self, samples, shapes, num_person: int) -> None:
        many = [i for i, shape in enumerate(shapes) if shape[0] > num_person]
        if many:
            self._warn(
                f'has {len(many)} samples of more than {num_person} persons, '
                f'the first is {sample_name(samples[many[0]], many[0])} with '
                f'{shapes[many[0]][0]}: the pipeline drops all but the first '
                f'{num_person} (FormatGCNInput, num_person).'
            )

    def _warn(self, text: str) -> None:
        print_log(
            f'{self.ann_file} {text}', logger='current', level=logging.WARNING
        )

    def _with_video_prefix(self, sample: dict) -> dict:
        folder = self.data_prefix['video']
        paths = {
            key: osp.join(folder, sample[key])
            for key in ('filename', 'frame_dir')
            if key in sample
        }
        return {**sample, **paths}

    def _draw_labelled(self, samples: list[dict]) -> list[dict]:
        count = int(self.label_ratio * len(samples))
        if count == 0:
            raise ValueError(
                f'label_ratio={self.label_ratio} of the {len(samples)} '
                f'samples of {osp.basename(self.ann_file)} is none.'
            )
        rng = np.random.default_rng(self.label_seed)
        # Over sorted names, so that the order in the file does not matter.
        names = sample_names(samples, self.ann_file)
        order = np.argsort(names)[rng.permutation(len(samples))]
        if self.label_balanced:
            order = self._take_turns(order, [s['label'] for s in samples])
        if self.unlabelled == 'drop':
            return [samples[i] for i in np.sort(order[:count])]
        labelled = set(order[:count].tolist())
        others = len(samples) - count
        wanted = others * self.labelled_share / (1 - self.labelled_share)
        times = max(math.ceil(wanted / count), 1)
        kept = []
        for index, sample in enumerate(samples):
            if index in labelled:
                kept += [sample] * times
            else:
                kept.append(dict(sample, label=UNLABELLED))
        return kept

    @staticmethod
    def _take_turns(order: np.ndarray, labels: list[int]) -> np.ndarray:
        """Rearrange a random order so that the classes take turns in it."""
        turn = Counter()
        turns = np.empty(len(order), dtype=int)
        for place, index in enumerate(order):
            turns[place] = turn[labels[index]]
            turn[labels[index]] += 1
        return order[np.argsort(turns, kind='stable')]
