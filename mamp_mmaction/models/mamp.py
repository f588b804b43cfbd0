import torch
import torch.nn as nn
from mmaction.registry import MODELS
from mmaction.utils import ConfigType, SampleList
from mmengine.model import BaseModel

from .latent_prediction_head import is_latent, width_of_blocks
from .masked_patches import (
    MaskedPatches,
    features_to_tokens,
    refuse_volumes,
)
from .visible_tokens import (
    count_visible,
    gather_tokens,
    stack_masks,
    token_places,
)

# What decoder and head must have in common with the encoder, as far as that
# has the attribute ...
DECODER_SHARES = (
    'in_channels',
    'embed_dims',
    'num_frames',
    'num_joints',
    't_patch_size',
    'num_coords',
)
HEAD_SHARES = ('t_patch_size', 'num_coords')
# ... and what the decoder takes over unless it is told otherwise.
DECODER_DEFAULTS = ('num_heads', 'mlp_ratio')


class MaskedMotionPrediction:
    """The method: what a model needs to predict masked motion.

    A mixin for models with a ``backbone`` (encoder). It adds the ``neck``
    (decoder) and the ``head`` (target and loss), and :meth:`loss` is the
    paper's figure. Which tokens are masked is decided in the data pipeline;
    the loss is a function of the skeletons and ``data_sample.mask``.
    """

    def loss(
        self, inputs: torch.Tensor, data_samples: SampleList
    ) -> dict[str, torch.Tensor]:
        """Encode what is visible, decode, compare what is masked.

        Args:
            inputs (torch.Tensor): Skeletons of shape (N, 1, M, T, V, C).
            data_samples (list[ActionDataSample]): N samples, each with a
                ``mask`` of shape (M, L).

        Returns:
            dict[str, torch.Tensor]: The losses of the head.
        """
        # (N, M, T, V, C) and (N, M, L), fewer persons if absent ones go
        keypoint, mask = self.counted(*self.unpack(inputs, data_samples))
        # Places of K tokens a person, and of Q or None for all
        visible, wanted = self.choose(mask, data_samples)
        latent = self.encode(keypoint, mask, visible)  # (N * M, K, D)
        pred = self.neck(latent, visible, wanted)  # (N * M, Q, u * C)
        keypoint, mask = keypoint.flatten(0, 1), mask.flatten(0, 1)
        if self.head.teacher is not None and self.training:
            self.head.teacher.follow(self.backbone)
        return self.head.loss(pred, keypoint, mask, wanted)

    def build_motion_prediction(
        self, neck: ConfigType, head: ConfigType, decode_ratio: float = 1.0
    ) -> None:
        """Add decoder and head that fit the ``backbone``.

        Args:
            neck (dict): Config of the decoder.
            head (dict): Config of target and loss.
            decode_ratio (float): Share of the masked tokens that is decoded
                in training. Defaults to 1.

        Raises:
            ValueError: If decoder or head contradict the encoder or each
                other, the backbone is none of skeletons, or has no blocks
                for a latent target, or the share is outside (0, 1].
        """
        if not 0 < decode_ratio <= 1:
            raise ValueError(
                f'decode_ratio={decode_ratio} is outside (0, 1]: it is the '
                'share of the masked tokens that is decoded in training.'
            )
        self.decode_ratio = decode_ratio
        refuse_volumes(self.backbone)
        neck = share('neck', neck, self.backbone, DECODER_SHARES)
        for key in DECODER_DEFAULTS:
            if hasattr(self.backbone, key):
                neck.setdefault(key, getattr(self.backbone, key))
        if head.get('num_coords') is not None:
            neck.setdefault('num_coords', head['num_coords'])
        if isinstance(head.get('target'), dict):
            neck.setdefault('num_targets', max(len(head['target']), 1))
        latent = is_latent(head)
        if latent:
            neck.setdefault('pred_dims', width_of_blocks(self.backbone))
        self.neck = MODELS.build(neck)
        self.head = MODELS.build(share('head', head, self.neck, HEAD_SHARES))
        if latent:
            self.head.add_teacher(self.backbone)
        # What an encoder that cannot drop tokens sees of the masked ones.
        self.masked_patches = None
        if not hasattr(self.backbone, 'encode'):
            self.masked_patches = MaskedPatches(
                self.neck.t_patch_size, self.neck.in_channels
            )

    def unpack(
        self, inputs: torch.Tensor, data_samples: SampleList
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Skeletons and masks of a batch.

        Args:
            inputs (torch.Tensor): Skeletons of shape (N, 1, M, T, V, C).
            data_samples (list[ActionDataSample]): N samples, each with a
                ``mask`` of shape (M, L).

        Returns:
            tuple[torch.Tensor]: Skeletons (N, M, T, V, C), masks (N, M, L).

        Raises:
            ValueError: If there are several clips, the decoder was built for
                other skeletons, or a mask is absent or does not fit; its
                sample is named.
        """
        if inputs.ndim != 6 or inputs.shape[1] != 1:
            raise ValueError(
                'Masked motion prediction needs inputs of shape (samples, 1 '
                'clip, persons, frames, joints, channels), got '
                f'{tuple(inputs.shape)}: use num_clips=1.'
            )
        neck = self.neck
        M, *shape = inputs.shape[2:]
        built = [neck.num_frames, neck.num_joints, neck.in_channels]
        if shape != built:
            raise ValueError(
                'The decoder was built for (num_frames, num_joints, '
                f'in_channels) = {tuple(built)}, but got skeletons of '
                f'{tuple(shape)}: change the pipeline (clip length, streams) '
                "or the model's arguments."
            )
        mask = stack_masks(data_samples, (M, neck.num_tokens))
        return inputs.squeeze(1), mask.to(inputs.device)

    def counted(
        self, keypoint: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Leave out absent persons, if the loss does and the encoder can.

        Args:
            keypoint (torch.Tensor): Skeletons of shape (N, M, T, V, C).
            mask (torch.Tensor): Bool, (N, M, L).

        Returns:
            tuple[torch.Tensor]: The same, or those of the P present persons
            alone (the first one, if nobody is), (P, 1, T, V, C) and (P, 1,
            L).
        """
        if not self.head.ignore_absent or self.masked_patches is not None:
            return keypoint, mask
        keypoint, mask = keypoint.flatten(0, 1), mask.flatten(0, 1)
        present = keypoint.flatten(1).any(dim=1)
        present[0] |= ~present.any()
        return keypoint[present][:, None], mask[present][:, None]

    def choose(
        self, mask: torch.Tensor, data_samples: SampleList
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Choose the tokens to encode, and those to decode.

        Args:
            mask (torch.Tensor): Bool, (N, M, L), True where masked.
            data_samples (list[ActionDataSample]): The batch, whose
                ``num_visible`` says how many are visible; without it they
                are counted, for which a GPU has to be waited for.

        Returns:
            tuple: Long, the places of the visible tokens, (N * M, K), and of
            the masked ones to decode, (N * M, Q). None for the latter lets
            the decoder compute all tokens, the visible ones too.

        Raises:
            ValueError: If persons differ in their number of visible tokens,
                or there is nothing to see or nothing to predict.
        """
        mask = mask.flatten(0, 1)
        ratio = self.decode_ratio if self.training else 1.0
        count = data_samples[0].get('num_visible')
        if count is None:
            count = count_visible(mask)
        visible, masked = token_places(mask, count, ratio)
        if ratio == 1 and self.neck.attention == 'self':
            masked = None  # the visible ones take part anyhow
        return visible, masked

    def encode(
        self,
        keypoint: torch.Tensor,
        mask: torch.Tensor,
        visible: torch.Tensor,
    ) -> torch.Tensor:
        """Encode the visible tokens of every person.

        Args:
            keypoint (torch.Tensor): Skeletons of shape (N, M, T, V, C).
            mask (torch.Tensor): Bool, (N, M, L), True where masked.
            visible (torch.Tensor): Long, (N * M, K), places of the visible
                ones.

        Returns:
            torch.Tensor: Tokens of shape (N * M, K, D).

        Raises:
            ValueError: If the backbone's features have another shape than
                (N, M, D, T', V).
        """
        if self.masked_patches is None:
            return self.backbone.encode(keypoint.flatten(0, 1), visible)
        features = self.backbone(self.masked_patches(keypoint, mask))
        segments = keypoint.shape[2] // self.neck.t_patch_size
        tokens = features_to_tokens(features, keypoint, segments)
        return gather_tokens(tokens, visible)


@MODELS.register_module()
class MAMP(MaskedMotionPrediction, BaseModel):
    """Masked motion prediction: the pre-training model (paper's figure).

    The visible tokens are encoded, the decoder predicts a patch for every
    token, and the head compares the masked ones with the motion: see
    :meth:`MaskedMotionPrediction.loss`.

    :class:`MAMPTransformer` encodes the visible tokens alone. Any other
    backbone of (N, M, T, V, C) -> (N, M, D, T', V), such as the toolbox's
    GCNs, sees a learned patch in the place of every masked one, and the
    decoder gets its features at the visible patches; the decoder's
    ``embed_dims`` (D), ``num_frames`` and ``num_joints`` must then be given.

    With a ``decode_ratio`` below 1 the decoder computes a random share of
    the masked tokens in training, drawn at every step and for every person,
    as many for each. The loss is that of these tokens, which costs less. With
    a decoder of cross-attention its mean over draws is the loss of all; with
    self-attention a token also sees fewer of the others, which changes its
    prediction a little. Source: CrossMAE (2024), VideoMAE V2 (2023).

    The trained ``backbone.*`` weights load straight into a recogniser.

    Args:
        backbone (dict): Config of the encoder.
        neck (dict): Config of the decoder, :class:`MAMPDecoder`. Arguments
            that it shares with encoder and head are taken from there.
        head (dict): Config of target and loss,
            :class:`MotionPredictionHead` or :class:`LatentPredictionHead`;
            ``t_patch_size`` and ``num_coords`` likewise.
        data_preprocessor (dict, optional): Defaults to None, which is
            ``dict(type='SkeletonDataPreprocessor')``.
        compile_cfg (dict, optional): Arguments of ``torch.compile`` for
            decoder, teacher and encoder, of a transformer its blocks. They are
            compiled when they first run; copies, pickled ones too, compile
            anew. Defaults to None, which does not compile.
        decode_ratio (float): Share of the masked tokens that is decoded in
            training, in (0, 1]. Defaults to 1, all of them.
    """

    def __init__(
        self,
        backbone: ConfigType,
        neck: ConfigType,
        head: ConfigType,
        data_preprocessor: ConfigType | None = None,
        compile_cfg: dict | None = None,
        decode_ratio: float = 1.0,
    ) -> None:
        if data_preprocessor is None:
            data_preprocessor = dict(type='SkeletonDataPreprocessor')
        super().__init__(data_preprocessor=MODELS.build(data_preprocessor))
        self.backbone = MODELS.build(backbone)
        self.build_motion_prediction(neck, head, decode_ratio)
        self.compile_cfg = compile_cfg
        self._compile_modules()

    def _compile_modules(self) -> None:
        if self.compile_cfg is not None:
            encoder = self.backbone
            if self.masked_patches is None:
                encoder = getattr(encoder, 'blocks', encoder)
            for module in (encoder, self.neck, self.head.teacher):
                if module is not None:
                    module.compile(**self.compile_cfg)

    def __setstate__(self, state: dict) -> None:
        # The state of a module has no compiled functions.
        super().__setstate__(state)
        self._compile_modules()

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
            other targets ``pred_joint``, ``pred_acceleration``), (M, T, V,
            C) in the skeleton's units (with ``num_coords``, so many
            channels), or of a latent target ``pred_latent``, (M, L, D); and
            ``masked_errors`` (M, 3) as summed by
            :meth:`MotionPredictionHead.errors`.
        """
        keypoint, mask = self.unpack(inputs, data_samples)
        pred = self._predict_patches(keypoint, mask, data_samples)
        keypoint, mask = keypoint.flatten(0, 1), mask.flatten(0, 1)
        errors = torch.stack(self.head.errors(pred, keypoint, mask), dim=1)
        fields = dict(masked_errors=errors)
        for name in self.head.targets:
            fields[f'pred_{name}'] = self.head.predict(pred, keypoint, name)
        for field, values in fields.items():
            values = values.unflatten(0, (len(data_samples), -1))
            for sample, value in zip(data_samples, values):
                # No row of the batch, which a pickled sample would drag
                # along.
                sample.set_field(value.clone(), field)
        return data_samples

    def extract_feat(
        self, inputs: torch.Tensor, stage: str = 'backbone', **kwargs
    ) -> tuple[torch.Tensor, dict]:
        """Features of whole skeletons, as the toolbox's recognisers give.

        Args:
            inputs (torch.Tensor): Skeletons of shape (N, clips, M, T, V, C).
            stage (str): ``'backbone'``, the only one. Defaults to
                ``'backbone'``.
            kwargs (dict): Unused; part of the toolbox's signature.

        Returns:
            tuple: Features of shape (N * clips, M, D, T', V), and an empty
            dict.

        Raises:
            ValueError: If another stage is asked for.
        """
        if stage != 'backbone':
            raise ValueError(
                f"stage={stage!r} is not 'backbone': a pre-training model "
                'has no classification head.'
            )
        return self.backbone(inputs.flatten(0, 1)), {}

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
            keypoint, mask = self.unpack(inputs, data_samples)
            return self._predict_patches(keypoint, mask, data_samples)
        raise ValueError(
            f"mode={mode!r} is none of 'loss', 'predict' and 'tensor'."
        )

    def _predict_patches(
        self,
        keypoint: torch.Tensor,
        mask: torch.Tensor,
        data_samples: SampleList,
    ) -> torch.Tensor:
        """(N, M, T, V, C) and (N, M, L) -> (N * M, L, u * C)."""
        visible, _ = self.choose(mask, data_samples)
        return self.neck(self.encode(keypoint, mask, visible), visible)


def share(
    name: str, cfg: ConfigType, owner: nn.Module, keys: tuple[str, ...]
) -> dict:
    """Fill a config with a module's values; refuse contradictions.

    Args:
        name (str): Name of the config, for the error.
        cfg (dict): The config.
        owner (nn.Module): The module.
        keys (tuple[str]): Attributes to take over, where it has them.

    Returns:
        dict: The config with these keys.

    Raises:
        ValueError: If the config says otherwise than the module.
    """
    cfg = dict(cfg)
    for key in keys:
        own = getattr(owner, key, None)
        if own is not None and cfg.setdefault(key, own) != own:
            raise ValueError(
                f'{name}.{key}={cfg[key]} contradicts the '
                f'{type(owner).__name__}, whose {key} is {own}: leave it out '
                f'of the {name}.'
            )
    return cfg
