import torch
import torch.nn.functional as F
from mmaction.registry import MODELS
from mmengine.model import BaseModule

from mamp_mmaction.patches import coordinates, patchify, unpatchify

from .visible_tokens import gather_tokens

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
        norm_target (str | bool): What a target is normalised by, its mean
            subtracted and divided by its standard deviation: ``'patch'`` for
            those of its own patch (the paper's; True means it), ``'clip'``
            for those of its joint and coordinate over the clip's T frames
            (the normalisation among timestamps of AAAI 2025, there with
            ``target='joint'``), or False for neither. Defaults to
            ``'patch'``.
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
        norm_target: str | bool = 'patch',
        t_patch_size: int = 4,
        ignore_absent: bool = False,
        num_coords: int | None = None,
    ) -> None:
        super().__init__()
        if target not in ('motion', 'joint'):
            raise ValueError(
                f"target={target!r} is neither 'motion' nor 'joint'."
            )
        norm_target = 'patch' if norm_target is True else norm_target
        if norm_target not in ('patch', 'clip', False):
            raise ValueError(
                f"norm_target={norm_target!r} is none of 'patch', 'clip' and "
                'False.'
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
        self,
        pred: torch.Tensor,
        keypoint: torch.Tensor,
        mask: torch.Tensor,
        wanted: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Mean squared error over all masked tokens of the batch.

        Args:
            pred (torch.Tensor): Predicted patches, (B, L, u * C), or those
                of the wanted tokens alone, (B, Q, u * C).
            keypoint (torch.Tensor): Skeletons, (B, T, V, C).
            mask (torch.Tensor): Bool, (B, L), True where masked.
            wanted (torch.Tensor, optional): Long, (B, Q), places of the
                tokens that were predicted. Defaults to None, all L.

        Returns:
            dict: ``loss_motion`` (``loss_joint``), and for comparison
            ``mse_zero``, what predicting zero would cost; both scalars.
        """
        error, zero_error, count = self.errors(pred, keypoint, mask, wanted)
        total = count.sum().clamp(min=1)
        return {
            f'loss_{self.target}': error.sum() / total,
            'mse_zero': zero_error.sum() / total,
        }

    def errors(
        self,
        pred: torch.Tensor,
        keypoint: torch.Tensor,
        mask: torch.Tensor,
        wanted: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Squared errors summed over the masked tokens of each person.

        Args:
            pred (torch.Tensor): Predicted patches, (B, L, u * C), or those
                of the wanted tokens alone, (B, Q, u * C).
            keypoint (torch.Tensor): Skeletons, (B, T, V, C).
            mask (torch.Tensor): Bool, (B, L), True where masked.
            wanted (torch.Tensor, optional): Long, (B, Q), places of the
                tokens that were predicted. Defaults to None, all L.

        Returns:
            tuple[torch.Tensor]: Each (B,): the error of the prediction, that
            of predicting zero, and the number of tokens counted.
        """
        target = self.target_patches(keypoint)
        weight = mask.float()
        if self.ignore_absent:
            present = keypoint.flatten(1).any(dim=1)
            weight = weight * present[:, None]
        if wanted is not None:
            target = gather_tokens(target, wanted)
            weight = weight.gather(1, wanted)
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
            mean, std = self._statistics(patches, keypoint.shape[2])
            patches = (patches - mean) / std
        return patches

    def predict(
        self, pred: torch.Tensor, keypoint: torch.Tensor
    ) -> torch.Tensor:
        """The prediction in the skeleton's units.

        A normalised prediction is scaled back by the true mean and standard
        deviation, which the model cannot know.

        Args:
            pred (torch.Tensor): Predicted patches, (B, L, u * C).
            keypoint (torch.Tensor): Skeletons, (B, T, V, C).

        Returns:
            torch.Tensor: Predicted motion (or joints), (B, T, V, C).
        """
        pred, num_joints = pred.float(), keypoint.shape[2]
        if self.norm_target:
            patches = self._raw_patches(keypoint)
            mean, std = self._statistics(patches, num_joints)
            pred = pred * std + mean
        return unpatchify(pred, self.t_patch_size, num_joints)

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

    def _statistics(
        self, patches: torch.Tensor, num_joints: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation that go with every patch.

        Each (B, L, 1), or (B, L, u * C) of the clip.
        """
        if self.norm_target == 'patch':
            var, mean = torch.var_mean(patches, dim=2, keepdim=True)
        else:
            clip = unpatchify(patches, self.t_patch_size, num_joints)
            var, mean = (
                patchify(x.expand_as(clip), self.t_patch_size)
                for x in torch.var_mean(clip, dim=1, keepdim=True)
            )
        return mean, (var + EPS).sqrt()
