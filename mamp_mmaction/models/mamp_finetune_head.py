import torch
import torch.nn as nn
from mmaction.registry import MODELS

from .classifier_head import ClassifierHead
from .layers import init_transformer_weights


@MODELS.register_module()
class MAMPFinetuneHead(ClassifierHead):
    """The classifier of fine-tuned models (paper: fine-tuned evaluation).

    Features are averaged over time, the joints' features joined, the
    persons averaged, and classified by a perceptron with one hidden layer.

    Args:
        num_classes (int): Number of classes.
        in_channels (int): Channels of the features, D.
        num_joints (int): Joints of the skeleton, V. Defaults to 25.
        hidden_dims (int): Width of the hidden layer. Defaults to 2048.
        dropout (float): Probability that an element of the features is
            dropped while training. Defaults to 0.3.
        kwargs (dict): Further arguments of :class:`ClassifierHead`.
    """

    classifier = 'fc2'

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        num_joints: int = 25,
        hidden_dims: int = 2048,
        dropout: float = 0.3,
        **kwargs,
    ) -> None:
        super().__init__(num_classes, in_channels, **kwargs)
        self.num_joints = num_joints
        self.dropout = nn.Dropout(dropout)
        self.fc1 = nn.Linear(num_joints * in_channels, hidden_dims)
        self.bn = nn.BatchNorm1d(hidden_dims)
        self.fc2 = nn.Linear(hidden_dims, num_classes)
        init_transformer_weights(self)

    def forward(self, x: torch.Tensor, **kwargs) -> torch.Tensor:
        """Classify features.

        Args:
            x (torch.Tensor): Features of shape (N, M, D, T', V).
            kwargs (dict): Unused; part of the toolbox's signature.

        Returns:
            torch.Tensor: Logits of shape (N, num_classes).
        """
        x = self.dropout(x).mean(dim=3)  # (N, M, D, V)
        x = x.transpose(2, 3).flatten(2).mean(dim=1)  # (N, V * D)
        return self.fc2(self.bn(self.fc1(x)).relu())
