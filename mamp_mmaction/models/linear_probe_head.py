import torch
import torch.nn as nn
from mmaction.registry import MODELS

from .classifier_head import ClassifierHead


@MODELS.register_module()
class LinearProbeHead(ClassifierHead):
    """Linear evaluation of frozen features (paper: linear evaluation).

    Features are averaged over persons, time and joints, normalised by a
    BatchNorm without scale and shift, and classified by one linear layer.
    Use it with :class:`LinearProbeHook`, which freezes the backbone.

    Args:
        num_classes (int): Number of classes.
        in_channels (int): Channels of the features, D.
        kwargs (dict): Further arguments of :class:`ClassifierHead`.
    """

    classifier = 'fc'

    def __init__(self, num_classes: int, in_channels: int, **kwargs) -> None:
        super().__init__(num_classes, in_channels, **kwargs)
        self.bn = nn.BatchNorm1d(in_channels, eps=1e-6, affine=False)
        self.fc = nn.Linear(in_channels, num_classes)
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: torch.Tensor, **kwargs) -> torch.Tensor:
        """Classify features.

        Args:
            x (torch.Tensor): Features of shape (N, M, D, T', V).
            kwargs (dict): Unused; part of the toolbox's signature.

        Returns:
            torch.Tensor: Logits of shape (N, num_classes).
        """
        return self.fc(self.bn(x.mean(dim=(1, 3, 4))))
