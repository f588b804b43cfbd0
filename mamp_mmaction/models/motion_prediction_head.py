import torch
import torch.nn.functional as F
from mmaction.registry import MODELS
from mmengine.model import BaseModule

from mamp_mmaction.patches import coordinates, patchify, unpatchify

EPS = 1e-6


def motion(keypoint: torch.Tensor, stride: int) -> torch.Tensor:
    """Displacement of every joint over the next frames.

    Args:
        keypoint (torch.Tensor): Skeletons of shape (B, T, V, C).
        stride (int): Frames between the two positions, s.

    Returns:
        torch.Tensor: ``x[t + s] - x[t]`` of shape (B, T, V, C), the last s
        frames zero.
    """
    displacement = keypoint[:, stride:] - keypoint[:, :-stride]
    return F.pad(displacement, (0, 0, 0, 0, 0, stride))


@MODELS.register_module()
class MotionPredictionHead(BaseModule):
    """Target and loss of masked motion prediction (paper: motion target).

    It has no parameters: the decoder's last layer gives the prediction.

    Args:
        target (str): What masked tokens predict: ``'motion'``, or
            ``'joint'`` for the masked autoencoder that reconstructs
            positions. Defaults to ``'motion'``.
        motion_stride (int): Frames between the two positions whose
            difference is the motion. Defaults to 1.
        norm_target (bool): Normalise each target patch by its own mean and
            standard deviation. Defaults to True.
        t_patch_size (int): Frames of one patch, u. Inside :class:`MAMP` it
            is the encoder's where it is not given. Defaults to 4.
        ignore_absent (bool): Leave persons whose coordinates are all zero
            out of the loss; the published results count them.
            Defaults to False.
        num_coords (int, optional): Leading channels that are coordinates,
            k: 2 for 2D with a confidence, which is no motion. They alone
            are the target; for C read k in what follows. Defaults to None,
            all C.
    """

    def __init__(
        self,
        target: str = 'motion',
        motion_stride: int = 1,
        norm_target: bool = True,
        t_patch_size: int = 4,
        ignore_absent: bool = False,
        num_coords: int | None = None,
    ) -> None:
        super().__init__()
        if target not in ('motion', 'joint'):
            raise ValueError(
                f"target={target!r} is neither 'motion' nor 'joint'."
            )
        if motion_stride < 1:
            raise ValueError(f'motion_stride={motion_stride} must be >= 1.')
        self.target = target
        self.motion_stride = motion_stride
        self.norm_target = norm_target
        self.t_patch_size = t_patch_size
        self.ignore_absent = ignore_absent
        self.num_coords = num_coords

    def loss(
        self, pred: torch.Tensor, keypoint: torch.Tensor, mask: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Mean squared error over all masked tokens of the batch.

        Args:
            pred (torch.Tensor): Predicted patches, (B, L, u * C).
            keypoint (torch.Tensor): Skeletons, (B, T, V, C).
            mask (torch.Tensor): Bool, (B, L), True where masked.

        Returns:
            dict: ``loss_motion`` (``loss_joint``), and for comparison
            ``mse_zero``, what predicting zero would cost; both scalars.
        """
        error, zero_error, count = self.errors(pred, keypoint, mask)
        total = count.sum().clamp(min=1)
        return {
            f'loss_{self.target}': error.sum() / total,
            'mse_zero': zero_error.sum() / total,
        }

    def errors(
        self, pred: torch.Tensor, keypoint: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Squared errors summed over the masked tokens of each person.

        Args:
            pred (torch.Tensor): Predicted patches, (B, L, u * C).
            keypoint (torch.Tensor): Skeletons, (B, T, V, C).
            mask (torch.Tensor): Bool, (B, L), True where masked.

        Returns:
            tuple[torch.Tensor]: Each (B,): the error of the prediction, that
            of predicting zero, and the number of tokens counted.
        """
        target = self.target_patches(keypoint)
        weight = mask.float()
        if self.ignore_absent:
            present = keypoint.flatten(1).any(dim=1)
            weight = weight * present[:, None]
        error = (pred.float() - target).square().mean(dim=2)  # (B, L)
        zero_error = target.square().mean(dim=2)
        return (
            (error * weight).sum(dim=1),
            (zero_error * weight).sum(dim=1),
            weight.sum(dim=1),
        )

    def target_patches(self, keypoint: torch.Tensor) -> torch.Tensor:
        """What the decoder should predict.

        Args:
            keypoint (torch.Tensor): Skeletons, (B, T, V, C).

        Returns:
            torch.Tensor: Patches, (B, L, u * C), normalised if so asked.
        """
        patches = self._raw_patches(keypoint)
        if self.norm_target:
            mean, std = self._patch_statistics(patches)
            patches = (patches - mean) / std
        return patches

    def predict(
        self, pred: torch.Tensor, keypoint: torch.Tensor
    ) -> torch.Tensor:
        """The prediction in the skeleton's units.

        A normalised prediction is scaled back by the mean and the standard
        deviation of the true patch, which the model cannot know.

        Args:
            pred (torch.Tensor): Predicted patches, (B, L, u * C).
            keypoint (torch.Tensor): Skeletons, (B, T, V, C).

        Returns:
            torch.Tensor: Predicted motion (or joints), (B, T, V, C).
        """
        pred = pred.float()
        if self.norm_target:
            mean, std = self._patch_statistics(self._raw_patches(keypoint))
            pred = pred * std + mean
        return unpatchify(pred, self.t_patch_size, keypoint.shape[2])

    def _raw_patches(self, keypoint: torch.Tensor) -> torch.Tensor:
        keypoint = coordinates(keypoint.float(), self.num_coords)
        if self.target == 'motion':
            if self.motion_stride >= keypoint.shape[1]:
                raise ValueError(
                    f'motion_stride={self.motion_stride} must be smaller '
                    f'than the {keypoint.shape[1]} frames of a clip.'
                )
            keypoint = motion(keypoint, self.motion_stride)
        return patchify(keypoint, self.t_patch_size)

    @staticmethod
    def _patch_statistics(
        patches: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of every patch, each (B, L, 1)."""
        var, mean = torch.var_mean(patches, dim=2, keepdim=True)
        return mean, (var + EPS).sqrt()
