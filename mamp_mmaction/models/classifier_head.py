import logging

import torch
from mmaction.models.heads import BaseHead
from mmaction.utils import SampleList
from mmengine.logging import print_log

from ..datasets.sample_name import sample_name
from .state_dict_checks import misfits, some_of


class ClassifierHead(BaseHead):
    """What MAMP's classification heads have in common.

    A subclass names its last linear layer in ``classifier``. Loading weights
    whose number of classes differs leaves that layer as it is initialised,
    with one warning, so that a classifier can be moved to other classes.

    Args:
        num_classes (int): Number of classes.
        in_channels (int): Channels of the features, D.
        average_clips (str, optional): How scores of several clips are
            averaged: ``'prob'``, ``'score'`` or None. Defaults to
            ``'prob'``.
        kwargs (dict): Further arguments of the toolbox's ``BaseHead``, such
            as ``label_smooth_eps`` and ``topk``.
    """

    classifier: str

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        average_clips: str = 'prob',
        **kwargs,
    ) -> None:
        super().__init__(
            num_classes, in_channels, average_clips=average_clips, **kwargs
        )

    def loss_by_feat(
        self, cls_scores: torch.Tensor, data_samples: SampleList
    ) -> dict[str, torch.Tensor]:
        """Cross-entropy and top-k accuracy.

        Args:
            cls_scores (torch.Tensor): Logits of shape (N, num_classes).
            data_samples (list[ActionDataSample]): N samples with a label.

        Returns:
            dict[str, torch.Tensor]: ``loss_cls`` and ``top{k}_acc``.

        Raises:
            ValueError: If a label is not one of the head's classes; the
                sample is named.
        """
        self._check_labels(data_samples)
        return super().loss_by_feat(cls_scores, data_samples)

    def _check_labels(self, data_samples: SampleList) -> None:
        labels = [sample.gt_label for sample in data_samples]
        if any(label.numel() != 1 for label in labels):
            return  # one-hot or soft labels
        for index, label in enumerate(torch.cat(labels).tolist()):
            if not 0 <= label < self.num_classes:
                raise ValueError(
                    f'{sample_name(data_samples[index], index)} has label '
                    f'{label}, but the head knows num_classes='
                    f'{self.num_classes} classes, 0 to '
                    f'{self.num_classes - 1}: set num_classes to that of '
                    'the data set.'
                )

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, *args, **kwargs
    ) -> None:
        keys = [f'{prefix}{self.classifier}.{n}' for n in ('weight', 'bias')]
        weight = state_dict.get(keys[0])
        if weight is not None and weight.shape[0] != self.num_classes:
            own = self.state_dict()
            for key in keys:
                state_dict[key] = own[key[len(prefix) :]]
            print_log(
                f'{keys[0]}: the checkpoint has {weight.shape[0]} classes, '
                f'this head {self.num_classes}; the layer starts from its '
                'own initialisation.',
                logger='current',
                level=logging.WARNING,
            )
        # Of other shapes mmengine would only warn, and leave them as they are.
        own = {prefix + key: x for key, x in self.state_dict().items()}
        found = {key: state_dict[key] for key in own if key in state_dict}
        problems = misfits(found, {key: own[key] for key in found})
        if problems:
            raise ValueError(
                f'The checkpoint does not fit this {type(self).__name__}: '
                f'{some_of(problems)}. Build the head with the arguments '
                'that the checkpoint was trained with.'
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
