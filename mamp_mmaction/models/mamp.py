import torch
from mmaction.registry import MODELS
from mmaction.utils import ConfigType, SampleList
from mmengine.model import BaseModel

from .masked_prediction import build_motion_prediction, predict_masked


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
    """

    def __init__(
        self,
        backbone: ConfigType,
        neck: ConfigType,
        head: ConfigType,
        data_preprocessor: ConfigType | None = None,
    ) -> None:
        if data_preprocessor is None:
            data_preprocessor = dict(type='SkeletonDataPreprocessor')
        super().__init__(data_preprocessor=MODELS.build(data_preprocessor))
        self.backbone = MODELS.build(backbone)
        self.neck, self.head, self.masked_patches = build_motion_prediction(
            self.backbone, neck, head
        )

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
        pred, keypoint, mask = self._predict_masked(inputs, data_samples)
        return self.head.loss(pred, keypoint, mask)

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
        pred, keypoint, mask = self._predict_masked(inputs, data_samples)
        field = f'pred_{self.head.target}'
        shape = (len(data_samples), -1)
        motions = self.head.predict(pred, keypoint).unflatten(0, shape)
        errors = torch.stack(self.head.errors(pred, keypoint, mask), dim=1)
        errors = errors.unflatten(0, shape)
        for sample, motion, error in zip(data_samples, motions, errors):
            sample.set_field(motion, field)
            sample.set_field(error, 'masked_errors')
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
            return self._predict_masked(inputs, data_samples)[0]
        raise ValueError(
            f"mode={mode!r} is none of 'loss', 'predict' and 'tensor'."
        )

    def _predict_masked(
        self, inputs: torch.Tensor, data_samples: SampleList
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return predict_masked(
            self.backbone, self.masked_patches, self.neck, inputs, data_samples
        )
