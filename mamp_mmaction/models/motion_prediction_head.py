import torch
import torch.nn.functional as F
from mmaction.registry import MODELS
from mmengine.model import BaseModule

from mamp_mmaction.motion_mask import motion_intensity
from mamp_mmaction.patches import coordinates, patchify, unpatchify

from .visible_tokens import gather_tokens

EPS = 1e-6
# How often the difference in time is taken for a target.
DIFFERENCES = dict(joint=0, motion=1, acceleration=2)


def motion(
    keypoint: torch.Tensor, stride: int, order: int = 1
) -> torch.Tensor:
    """Displacement of every joint over the next frames.

    Args:
        keypoint (torch.Tensor): Skeletons of shape (B, T, V, C).
        stride (int): Frames between the two positions, s.
        order (int): 2 for the acceleration, which is the motion of the
            motion. Defaults to 1.

    Returns:
        torch.Tensor: ``x[t + s] - x[t]`` of shape (B, T, V, C), the last s
        frames zero; of order 2 that of these differences, the last 2 s
        frames zero.
    """
    for _ in range(order):
        keypoint = keypoint[:, stride:] - keypoint[:, :-stride]
    return F.pad(keypoint, (0, 0, 0, 0, 0, order * stride))


def target_weights(target: str | dict[str, float]) -> dict[str, float]:
    """Weights of the losses of a mixture of targets.

    Args:
        target (str | dict[str, float]): A target, or several with weights.

    Returns:
        dict[str, float]: Weights that sum to 1.

    Raises:
        ValueError: If a target is unknown or a weight negative, or they do
            not sum to a positive number.
    """
    weights = {target: 1.0} if isinstance(target, str) else dict(target)
    unknown = [name for name in weights if name not in DIFFERENCES]
    if unknown:
        raise ValueError(
            f'target={unknown[0]!r} is none of '
            f'{", ".join(map(repr, DIFFERENCES))}, which may also be mixed: '
            'target=dict(motion=0.8, acceleration=0.2).'
        )
    total = sum(weights.values())
    if not total > 0 or min(weights.values()) < 0:
        raise ValueError(
            f'target={weights}: the weights must sum to a positive number, '
            'and none may be negative.'
        )
    return {name: weight / total for name, weight in weights.items()}


@MODELS.register_module()
class MotionPredictionHead(BaseModule):
    """Target and loss of masked motion prediction (paper: motion target).

    It has no parameters: the decoder's last layer gives the prediction.

    Args:
        target (str | dict[str, float]): What masked tokens predict:
            ``'motion'``, ``'joint'`` for the masked autoencoder that
            reconstructs positions, or ``'acceleration'``, the motion of the
            motion. Or several and the weights of their losses, which are
            divided by their sum, such as ``dict(motion=0.8,
            acceleration=0.2)``; each is normalised by itself. Source:
            MaskSem (2025). Defaults to ``'motion'``.
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
        loss_weight (str, optional): ``'motion'`` lets a person's masked
            tokens count by their motion intensity, the one that the mask
            goes by, over its mean among them; all alike if none moves.
            Source: AMR (CVPR 2026). Defaults to None, all alike.

    Raises:
        ValueError: If target, norm_target or loss_weight is unknown, a weight
            negative, or motion_stride below 1.
    """

    def __init__(
        self,
        target: str | dict[str, float] = 'motion',
        motion_stride: int = 1,
        norm_target: str | bool = 'patch',
        t_patch_size: int = 4,
        ignore_absent: bool = False,
        num_coords: int | None = None,
        loss_weight: str | None = None,
    ) -> None:
        super().__init__()
        norm_target = 'patch' if norm_target is True else norm_target
        if norm_target not in ('patch', 'clip', False):
            raise ValueError(
                f"norm_target={norm_target!r} is none of 'patch', 'clip' and "
                'False.'
            )
        if motion_stride < 1:
            raise ValueError(f'motion_stride={motion_stride} must be >= 1.')
        if loss_weight not in (None, 'motion'):
            raise ValueError(
                f"loss_weight={loss_weight!r} is neither 'motion' nor None."
            )
        self.targets = target_weights(target)
        self.motion_stride = motion_stride
        self.norm_target = norm_target
        self.t_patch_size = t_patch_size
        self.ignore_absent = ignore_absent
        self.num_coords = num_coords
        self.loss_weight = loss_weight
        self.teacher = None  # only a latent target needs one

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
            dict: ``loss_motion`` (``loss_joint``, ``loss_acceleration``), in
            a mixture each times its weight, and for comparison with their
            sum ``mse_zero``, what predicting zero would cost; all scalars.
        """
        error, zero_error, count = self._errors(pred, keypoint, mask, wanted)
        total = count.sum().clamp(min=1)
        losses = (error.sum(dim=0) / total).unbind()
        return {
            **{f'loss_{name}': x for name, x in zip(self.targets, losses)},
            'mse_zero': zero_error.sum() / total,
        }

    def errors(
        self,
        pred: torch.Tensor,
        keypoint: torch.Tensor,
        mask: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Squared errors summed over the masked tokens of each person.

        Args:
            pred (torch.Tensor): Predicted patches, (B, L, u * C).
            keypoint (torch.Tensor): Skeletons, (B, T, V, C).
            mask (torch.Tensor): Bool, (B, L), True where masked.

        Returns:
            tuple[torch.Tensor]: Each (B,): the error of the prediction, that
            of predicting zero, both weighted as the loss is, and the number
            of tokens counted.

        Raises:
            ValueError: If the decoder predicts more or fewer numbers for a
                token than the target has.
        """
        *errors, count = self._errors(pred, keypoint, mask)
        error, zero_error = (x.sum(dim=1) for x in errors)
        return error, zero_error, count

    def _errors(
        self,
        pred: torch.Tensor,
        keypoint: torch.Tensor,
        mask: torch.Tensor,
        wanted: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The errors of each of the n targets, (B, n) twice and (B,)."""
        target, weight, counted = self._compared(
            self.target_patches(keypoint), pred, keypoint, mask, wanted
        )

        def summed(difference: torch.Tensor) -> torch.Tensor:
            parts = difference.chunk(len(self.targets), dim=2)
            return torch.stack(
                [
                    share * (part.square().mean(dim=2) * weight).sum(dim=1)
                    for share, part in zip(self.targets.values(), parts)
                ],
                dim=1,
            )

        error, zero_error = summed(pred.float() - target), summed(target)
        return error, zero_error, counted.sum(dim=1)

    def _compared(
        self,
        target: torch.Tensor,
        pred: torch.Tensor,
        keypoint: torch.Tensor,
        mask: torch.Tensor,
        wanted: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Targets of what is predicted, their weights, and which count."""
        if pred.shape[2] != target.shape[2]:
            raise ValueError(
                f'The decoder predicts {pred.shape[2]} numbers for a token, '
                f'but the target has {target.shape[2]}: its t_patch_size, '
                'num_coords, num_targets and pred_dims must be those of the '
                'head.'
            )
        counted = mask.float()
        if self.ignore_absent:
            present = keypoint.flatten(1).any(dim=1)
            counted = counted * present[:, None]
        weight = counted
        if self.loss_weight == 'motion':
            weight = weight * self._motion_share(keypoint, mask)
        if wanted is not None:
            target = gather_tokens(target, wanted)
            weight = weight.gather(1, wanted)
            counted = counted.gather(1, wanted)
        return target, weight, counted

    def _motion_share(
        self, keypoint: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Motion of every token over the masked ones' mean, (B, L)."""
        intensity = motion_intensity(
            keypoint.float(), self.t_patch_size, self.num_coords
        )
        mean = (intensity * mask).sum(dim=1) / mask.sum(dim=1)
        still = mean[:, None] == 0
        return torch.where(still, 1.0, intensity / mean[:, None])

    def target_patches(self, keypoint: torch.Tensor) -> torch.Tensor:
        """What the decoder should predict.

        Args:
            keypoint (torch.Tensor): Skeletons, (B, T, V, C).

        Returns:
            torch.Tensor: Patches, (B, L, u * C), normalised if so asked;
            of n targets one after the other, (B, L, n * u * C).
        """
        every = []
        for name in self.targets:
            patches = self._raw_patches(keypoint, name)
            if self.norm_target:
                mean, std = self._statistics(patches, keypoint.shape[2])
                patches = (patches - mean) / std
            every.append(patches)
        return every[0] if len(every) == 1 else torch.cat(every, dim=2)

    def predict(
        self,
        pred: torch.Tensor,
        keypoint: torch.Tensor,
        target: str | None = None,
    ) -> torch.Tensor:
        """The prediction in the skeleton's units.

        A normalised prediction is scaled back by the true mean and standard
        deviation, which the model cannot know.

        Args:
            pred (torch.Tensor): Predicted patches, (B, L, u * C), of n
                targets (B, L, n * u * C).
            keypoint (torch.Tensor): Skeletons, (B, T, V, C).
            target (str, optional): Which one of several. Defaults to None,
                the first.

        Returns:
            torch.Tensor: Predicted motion (joints, acceleration), (B, T, V,
            C).
        """
        names, num_joints = list(self.targets), keypoint.shape[2]
        target = target or names[0]
        pred = pred.float().chunk(len(names), dim=2)[names.index(target)]
        if self.norm_target:
            patches = self._raw_patches(keypoint, target)
            mean, std = self._statistics(patches, num_joints)
            pred = pred * std + mean
        return unpatchify(pred, self.t_patch_size, num_joints)

    def _raw_patches(
        self, keypoint: torch.Tensor, target: str
    ) -> torch.Tensor:
        keypoint = coordinates(keypoint.float(), self.num_coords)
        order = DIFFERENCES[target]
        if order * self.motion_stride >= keypoint.shape[1]:
            raise ValueError(
                f'target={target!r} at motion_stride={self.motion_stride} '
                f'needs more than the {keypoint.shape[1]} frames of a clip.'
            )
        if order:
            keypoint = motion(keypoint, self.motion_stride, order)
        return patchify(keypoint, self.t_patch_size)

    def _statistics(
        self, patches: torch.Tensor, num_joints: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation that go with every patch.

        Each (B, L, 1), or (B, L, u * C) of the clip.
        """
        if self.norm_target == 'patch':
            if patches.shape[2] < 2:
                raise ValueError(
                    "norm_target='patch' needs patches of two numbers or "
                    'more, but each has one: use a larger t_patch_size, or '
                    "norm_target='clip'."
                )
            var, mean = torch.var_mean(patches, dim=2, keepdim=True)
        else:
            clip = unpatchify(patches, self.t_patch_size, num_joints)
            var, mean = (
                patchify(x.expand_as(clip), self.t_patch_size)
                for x in torch.var_mean(clip, dim=1, keepdim=True)
            )
        return mean, (var + EPS).sqrt()
