from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn as nn
from mmaction.models import RecognizerGCN
from mmaction.registry import MODELS
from mmaction.utils import ConfigType, SampleList
from mmengine.dist import get_world_size
from torch.nn.modules.batchnorm import _BatchNorm

from ..datasets.skeleton_dataset import UNLABELLED
from .mamp import MaskedMotionPrediction


@MODELS.register_module()
class RecognizerMAMP(MaskedMotionPrediction, RecognizerGCN):
    """The toolbox's ``RecognizerGCN`` with MAMP as an auxiliary loss.

    In training the backbone classifies the whole skeletons and also predicts
    the motion of masked patches, as :class:`MAMP` does with it. Samples
    without a label (``SkeletonDataset(unlabelled='keep')``) count in the
    auxiliary loss alone, but a BatchNorm takes its statistics from all. In
    evaluation it is a plain recogniser, and its ``backbone`` and ``cls_head``
    weights are those of one; ``backbone``, ``neck`` and ``head`` are those of
    :class:`MAMP`.

    Args:
        backbone (dict): Config of the backbone, any that :class:`MAMP`
            takes.
        cls_head (dict): Config of the classification head.
        motion_neck (dict): Config of the decoder, :class:`MAMPDecoder`.
        motion_head (dict): Config of target and loss,
            :class:`MotionPredictionHead` or :class:`LatentPredictionHead`.
        motion_weight (float): Weight of the auxiliary loss. Defaults to 1.
        decode_ratio (float): Share of the masked tokens that is decoded, as
            in :class:`MAMP`. Defaults to 1, all of them.
        kwargs (dict): Further arguments of ``RecognizerGCN``.

    Raises:
        ValueError: If motion_weight is negative, or the parts do not fit
            together.
    """

    def __init__(
        self,
        backbone: ConfigType,
        cls_head: ConfigType,
        motion_neck: ConfigType,
        motion_head: ConfigType,
        motion_weight: float = 1.0,
        decode_ratio: float = 1.0,
        **kwargs,
    ) -> None:
        if motion_weight < 0:
            raise ValueError(
                f'motion_weight={motion_weight} must not be negative.'
            )
        super().__init__(backbone, cls_head=cls_head, **kwargs)
        self.build_motion_prediction(motion_neck, motion_head, decode_ratio)
        self.motion_weight = motion_weight

    @property
    def with_neck(self) -> bool:
        """bool: False, since no features go through MAMP's decoder."""
        return False

    def loss(
        self, inputs: torch.Tensor, data_samples: SampleList, **kwargs
    ) -> dict[str, torch.Tensor]:
        """Classification loss of labelled samples, motion loss of all.

        Args:
            inputs (torch.Tensor): Skeletons of shape (N, 1, M, T, V, C).
            data_samples (list[ActionDataSample]): N samples, each with a
                ``mask`` of shape (M, L), and a label or -1.
            kwargs (dict): Unused; part of the toolbox's signature.

        Returns:
            dict[str, torch.Tensor]: What both heads return; motion losses
            and ``mse_zero``, which they are compared with, are weighted.
            Without any labelled sample ``loss_cls`` is 0.
        """
        losses = self._classification_loss(inputs, data_samples)
        with frozen_running_statistics(self.backbone):
            motion = super().loss(inputs, data_samples)
        for name in motion:
            if name.startswith('loss_') or name == 'mse_zero':
                motion[name] = self.motion_weight * motion[name]
        return {**losses, **motion}

    def _classification_loss(
        self, inputs: torch.Tensor, data_samples: SampleList
    ) -> dict[str, torch.Tensor]:
        labelled = [
            i
            for i, sample in enumerate(data_samples)
            if (sample.gt_label != UNLABELLED).all()
        ]
        if not labelled:
            # DDP waits for a gradient of every parameter.
            waiting = get_world_size() > 1
            params = self.cls_head.parameters() if waiting else ()
            none = inputs.new_zeros(())
            return dict(loss_cls=sum((0 * p.sum() for p in params), none))
        if any(training_norms(self.backbone, self.cls_head)):
            # The few labelled ones make statistics of no use.
            scores = self.cls_head(self.extract_feat(inputs)[0])[labelled]
        else:
            scores = self.cls_head(self.extract_feat(inputs[labelled])[0])
        return self.cls_head.loss_by_feat(
            scores, [data_samples[i] for i in labelled]
        )


@contextmanager
def frozen_running_statistics(module: nn.Module) -> Iterator[None]:
    """Keep the running statistics of every BatchNorm as they are.

    Those that evaluation uses should come from whole skeletons alone.

    Args:
        module (nn.Module): The module; its BatchNorms still normalise by the
            batch where they train.
    """
    norms = [m for m in training_norms(module) if m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


def training_norms(*modules: nn.Module) -> Iterator[_BatchNorm]:
    """Find each BatchNorm that normalises by the batch.

    Args:
        modules (nn.Module): Where to look.

    Yields:
        _BatchNorm: One in training mode.
    """
    for module in modules:
        for part in module.modules():
            if isinstance(part, _BatchNorm) and part.training:
                yield part
