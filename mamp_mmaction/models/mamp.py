import torch
from mmaction.registry import MODELS
from mmaction.utils import ConfigType, SampleList
from mmengine.model import BaseModel

from ..datasets.sample_name import sample_name
from .visible_tokens import visible_index

# What decoder and head must have in common with the encoder ...
DECODER_SHARES = (
    'in_channels',
    'embed_dims',
    'num_frames',
    'num_joints',
    't_patch_size',
)
HEAD_SHARES = ('t_patch_size',)
# ... and what the decoder takes over unless it is told otherwise.
DECODER_DEFAULTS = ('num_heads', 'mlp_ratio')


@MODELS.register_module()
class MAMP(BaseModel):
    """Masked motion prediction: the pre-training model (paper's figure).

    The visible tokens are encoded, the decoder predicts a patch for every
    token, and the head compares the masked ones with the motion. Which
    tokens are masked is decided in the data pipeline; the model is a
    function of the skeletons and ``data_sample.mask``.

    The trained ``backbone.*`` weights load straight into a recogniser.

    Args:
        backbone (dict): Config of the encoder, :class:`MAMPTransformer`.
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
        neck = self._share('neck', neck, DECODER_SHARES)
        for key in DECODER_DEFAULTS:
            neck.setdefault(key, getattr(self.backbone, key))
        self.neck = MODELS.build(neck)
        self.head = MODELS.build(self._share('head', head, HEAD_SHARES))

    def _share(
        self, name: str, cfg: ConfigType, keys: tuple[str, ...]
    ) -> ConfigType:
        """Fill a config with the encoder's values; refuse contradictions."""
        cfg = dict(cfg)
        for key in keys:
            own = getattr(self.backbone, key)
            if cfg.setdefault(key, own) != own:
                raise ValueError(
                    f'{name}.{key}={cfg[key]} contradicts the encoder, whose '
                    f'{key} is {own}: leave it out of the {name}.'
                )
        return cfg

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
        pred = self._predict_patches(keypoint, mask)
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
        keypoint, mask = self._unpack(inputs, data_samples)
        pred = self._predict_patches(keypoint, mask)
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
            return self._predict_patches(*self._unpack(inputs, data_samples))
        raise ValueError(
            f"mode={mode!r} is none of 'loss', 'predict' and 'tensor'."
        )

    def _predict_patches(
        self, keypoint: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """(B, T, V, C) and (B, L) -> (B, L, u * C)."""
        visible = visible_index(mask)  # (B, K)
        latent = self.backbone.encode(keypoint, visible)  # (B, K, D)
        return self.neck(latent, visible)

    def _unpack(
        self, inputs: torch.Tensor, data_samples: SampleList
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Skeletons (N * M, T, V, C) and masks (N * M, L), one a person."""
        if inputs.ndim != 6 or inputs.shape[1] != 1:
            raise ValueError(
                'Pre-training needs inputs of shape (samples, 1 clip, '
                'persons, frames, joints, channels), got '
                f'{tuple(inputs.shape)}: use num_clips=1.'
            )
        M, T, V = inputs.shape[2:5]
        expected = (M, T // self.head.t_patch_size * V)
        for index, sample in enumerate(data_samples):
            name = sample_name(sample, index)
            if 'mask' not in sample:
                raise ValueError(
                    f'There is no mask with {name}: end the pipeline with '
                    'FormatGCNInput, MotionAwareMask and PackActionInputs('
                    "algorithm_keys=('mask', ))."
                )
            if tuple(sample.mask.shape) != expected:
                raise ValueError(
                    f'The mask of {name} has shape '
                    f'{tuple(sample.mask.shape)}, but its skeleton needs '
                    f'(persons, tokens) = {expected}: MotionAwareMask and '
                    'the model must agree on t_patch_size.'
                )
        mask = torch.stack([sample.mask for sample in data_samples])
        return inputs.flatten(0, 2), mask.flatten(0, 1).to(inputs.device)
