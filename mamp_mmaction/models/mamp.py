import torch
from mmaction.registry import MODELS
from mmaction.utils import ConfigType, SampleList
from mmengine.model import BaseModel

from .masked_prediction import (
    build_motion_prediction,
    predict_patches,
    present_persons,
    unpack_masked,
)
from .visible_tokens import visible_index


@MODELS.register_module()
class MAMP(BaseModel):
    """Masked motion prediction: the pre-training model (paper's figure).

    The visible tokens are encoded, the decoder predicts a patch for every
    token, and the head compares the masked ones with the motion. Which
    tokens are masked is decided in the data pipeline; the model is a
    function of the skeletons and ``data_sample.mask``.

    :class:`MAMPTransformer` encodes the visible tokens alone. Any other
    backbone of (N, M, T, V, C) -> (N, M, D, T', V), such as the toolbox's
    GCNs, sees a learned patch in the place of every masked one, and the
    decoder gets its features at the visible patches; the decoder's
    ``embed_dims`` (D), ``num_frames`` and ``num_joints`` must then be given.

    The trained ``backbone.*`` weights load straight into a recogniser.

    Args:
        backbone (dict): Config of the encoder.
        neck (dict): Config of the decoder, :class:`MAMPDecoder`. Arguments
            that it shares with the encoder are taken from there.
        head (dict): Config of target and loss,
            :class:`MotionPredictionHead`; ``t_patch_size`` likewise.
        data_preprocessor (dict, optional): Defaults to None, which is
            ``dict(type='SkeletonDataPreprocessor')``.
        compile_cfg (dict, optional): Arguments of ``torch.compile`` for the
            function from skeletons and masks to the losses. Defaults to
            None, which does not compile.
    """

    def __init__(
        self,
        backbone: ConfigType,
        neck: ConfigType,
        head: ConfigType,
        data_preprocessor: ConfigType | None = None,
        compile_cfg: dict | None = None,
    ) -> None:
        if data_preprocessor is None:
            data_preprocessor = dict(type='SkeletonDataPreprocessor')
        super().__init__(data_preprocessor=MODELS.build(data_preprocessor))
        self.backbone = MODELS.build(backbone)
        self.neck, self.head, self.masked_patches = build_motion_prediction(
            self.backbone, neck, head
        )
        self._tensor_losses = self._losses
        if compile_cfg is not None:
            self._tensor_losses = torch.compile(self._losses, **compile_cfg)

    def loss(
        self, inputs: torch.Tensor, data_samples: SampleList
    ) -> dict[str, torch.Tensor]:
        """Encode the visible tokens, decode, compare the masked ones.

        Args:
            inputs (torch.Tensor): Skeletons of shape (N, 1, M, T, V, C).
            data_samples (list[ActionDataSample]): N samples, each with a
                ``mask`` of shape (M, L).

        Returns:
            dict[str, torch.Tensor]: The losses of the head.
        """
        keypoint, mask = self._unpack(inputs, data_samples)
        if self.head.ignore_absent and self.masked_patches is None:
            keypoint, mask = present_persons(keypoint, mask)
        visible = visible_index(mask.flatten(0, 1))
        return self._tensor_losses(keypoint, mask, visible)

    def predict(
        self, inputs: torch.Tensor, data_samples: SampleList
    ) -> SampleList:
        """Predict the motion of every joint.

        Args:
            inputs (torch.Tensor): Skeletons of shape (N, 1, M, T, V, C).
            data_samples (list[ActionDataSample]): N samples, each with a
                ``mask`` of shape (M, L).

        Returns:
            list[ActionDataSample]: The samples with ``pred_motion`` (for
            the joint target ``pred_joint``), (M, T, V, C) in the skeleton's
            units, and ``masked_errors`` (M, 3) as summed by
            :meth:`MotionPredictionHead.errors`.
        """
        keypoint, mask = self._unpack(inputs, data_samples)
        pred = self._predict_patches(keypoint, mask)
        keypoint, mask = keypoint.flatten(0, 1), mask.flatten(0, 1)
        field = f'pred_{self.head.target}'
        shape = (len(data_samples), -1)
        motions = self.head.predict(pred, keypoint).unflatten(0, shape)
        errors = torch.stack(self.head.errors(pred, keypoint, mask), dim=1)
        errors = errors.unflatten(0, shape)
        for sample, motion, error in zip(data_samples, motions, errors):
            # Not rows of the batch, which a pickled sample would drag along.
            sample.set_field(motion.clone(), field)
            sample.set_field(error.clone(), 'masked_errors')
        return data_samples

    def forward(
        self,
        inputs: torch.Tensor,
        data_samples: SampleList,
        mode: str = 'tensor',
    ) -> dict[str, torch.Tensor] | list | torch.Tensor:
        """The entry that the runner calls.

        Args:
            inputs (torch.Tensor): Skeletons of shape (N, 1, M, T, V, C).
            data_samples (list[ActionDataSample]): N samples with a ``mask``.
            mode (str): ``'loss'``, ``'predict'``, or ``'tensor'`` for the
                predicted patches (N * M, L, u * C).

        Returns:
            dict | list | torch.Tensor: As the mode says.

        Raises:
            ValueError: If the mode is unknown, or inputs and masks do not
                fit together.
        """
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        if mode == 'tensor':
            return self._predict_patches(*self._unpack(inputs, data_samples))
        raise ValueError(
            f"mode={mode!r} is none of 'loss', 'predict' and 'tensor'."
        )

    def _unpack(
        self, inputs: torch.Tensor, data_samples: SampleList
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Skeletons (N, M, T, V, C) and masks (N, M, L)."""
        return unpack_masked(inputs, data_samples, self.neck)

    def _predict_patches(
        self,
        keypoint: torch.Tensor,
        mask: torch.Tensor,
        visible: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(N, M, T, V, C) and (N, M, L) -> (N * M, L, u * C)."""
        if visible is None:
            visible = visible_index(mask.flatten(0, 1))
        return predict_patches(
            self.backbone,
            self.masked_patches,
            self.neck,
            keypoint,
            mask,
            visible,
        )

    def _losses(
        self, keypoint: torch.Tensor, mask: torch.Tensor, visible: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """What is worth compiling: tensors in, tensors out."""
        pred = self._predict_patches(keypoint, mask, visible)
        return self.head.loss(pred, keypoint.flatten(0, 1), mask.flatten(0, 1))
