"""One sample as a masked motion predictor meets it, for pictures."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
from mmaction.registry import DATASETS
from mmengine.config import ConfigDict
from mmengine.dataset import BaseDataset, pseudo_collate

from ..datasets.transforms import SkeletonStream
from ..models import MAMP
from ..models.motion_prediction_head import motion
from ..motion_mask import motion_aware_mask
from ..patches import num_segments
from .extraction import evaluating, unwrap_dataset

# Segments that are masked together where kinds of masks are compared, and
# the paper's temperature.
TUBE, TAU = 3, 0.8


@dataclass
class MaskedSample:
    """A sample behind the pipeline, and what a model predicts of it.

    Attributes:
        name (str): Its name.
        keypoint (np.ndarray): Skeletons (M, T, V, C).
        mask (np.ndarray): Bool, (M, L), True where a token is masked.
        t_patch_size (int): Frames of one patch, u.
        num_coords (int, optional): Channels that are coordinates, None for
            all.
        true_motion (np.ndarray, optional): What is to be predicted, (M, T, V,
            C) in the skeleton's units; None where nothing was predicted.
        pred_motion (np.ndarray, optional): The prediction, likewise. Where
            the target is normalised it has the true mean and spread.
        mse (float, optional): Error over the masked tokens, as the loss has
            it.
        zero_mse (float, optional): That of predicting zero.
    """

    name: str
    keypoint: np.ndarray
    mask: np.ndarray
    t_patch_size: int
    num_coords: int | None = None
    true_motion: np.ndarray | None = None
    pred_motion: np.ndarray | None = None
    mse: float | None = None
    zero_mse: float | None = None

    @property
    def persons(self) -> list[int]:
        """The persons that are there in any frame."""
        return np.flatnonzero(self.keypoint.any(axis=(1, 2, 3))).tolist()

    @property
    def masked_joints(self) -> np.ndarray:
        """The mask by frames, bool, (M, T, V)."""
        return self.by_segment(self.mask).repeat(self.t_patch_size, axis=1)

    def by_segment(self, tokens: np.ndarray) -> np.ndarray:
        """Tokens (M, L) by segment and joint, (M, T', V)."""
        M, _, V, _ = self.keypoint.shape
        return tokens.reshape(M, -1, V)


def motion_predictor(model: nn.Module, config: str) -> MAMP:
    """Check that a model is pre-trained by masked prediction.

    Args:
        model (nn.Module): The model.
        config (str): What the error says it comes from.

    Returns:
        MAMP: The model.

    Raises:
        ValueError: It is another one.
    """
    if not isinstance(model, MAMP):
        raise ValueError(
            f'{config} is no pre-training: its model is '
            f'{type(model).__name__}, expected MAMP, as in the configs with '
            "'pretrain' in their names."
        )
    return model


def check_predicts_motion(model: MAMP) -> None:
    """Check that a model's predictions can be drawn as arrows.

    Args:
        model (MAMP): The model.

    Raises:
        ValueError: It predicts something else than motion.
    """
    targets = getattr(model.head, 'targets', [type(model.head).__name__])
    if 'motion' not in targets:
        raise ValueError(
            f'the model predicts {" and ".join(targets)}, but arrows show '
            "motion: take a model whose head has the target 'motion', or "
            'draw without predictions.'
        )


def build_dataset(cfg: dict, ann_file: str | Path) -> BaseDataset:
    """Build a data set of a whole annotation file.

    Args:
        cfg (dict): Config of a data set, whose pipeline is used.
        ann_file (str | Path): The file. Of several data sets in the config
            the one whose file has this name is taken.

    Returns:
        BaseDataset: All samples of the file.

    Raises:
        ValueError: There are several data sets, none of this name, or the
            file is broken.
        OSError: There is no such file.
    """
    cfg = ConfigDict(unwrap_dataset(cfg))
    if 'datasets' in cfg:
        names = [Path(member.ann_file).name for member in cfg.datasets]
        if Path(ann_file).name not in names:
            raise ValueError(
                f'{ann_file} has the name of none of the data sets of the '
                f'config, which are {", ".join(names)}: rename it, or take a '
                'config of one data set.'
            )
        cfg = ConfigDict(cfg.datasets[names.index(Path(ann_file).name)])
    cfg.pop('num_classes', None)
    cfg.update(ann_file=str(ann_file), split=None, test_mode=True)
    return DATASETS.build(cfg)


def find_sample(dataset: BaseDataset, name: str) -> int:
    """The place of a sample in a data set.

    Args:
        dataset (BaseDataset): The data set.
        name (str): The sample's ``frame_dir``, else its ``filename``.

    Returns:
        int: Its place.

    Raises:
        ValueError: There is no such sample; similar names are listed.
    """
    names = []
    for place in range(len(dataset)):
        info = dataset.get_data_info(place)
        names.append(str(info.get('frame_dir', info.get('filename'))))
        if names[-1] == name:
            return place
    similar = difflib.get_close_matches(name, names, 3, cutoff=0)
    raise ValueError(
        f'there is no sample {name!r} among {len(names)}; similar names are '
        f'{", ".join(map(repr, similar))}.'
    )


def choose_samples(
    dataset: BaseDataset, wanted: int | Sequence[str]
) -> list[int]:
    """Places of samples in a data set.

    Args:
        dataset (BaseDataset): The data set.
        wanted (int | Sequence[str]): How many, which then lie evenly in it,
            or their names.

    Returns:
        list[int]: Their places.

    Raises:
        ValueError: There is no sample of a name.
    """
    if not isinstance(wanted, int):
        return [find_sample(dataset, name) for name in wanted]
    places = np.linspace(0, len(dataset) - 1, min(wanted, len(dataset)))
    return places.round().astype(int).tolist()


def masked_sample(
    model: MAMP, dataset: BaseDataset, place: int, predict: bool = True
) -> MaskedSample:
    """Put a sample through the pipeline, and a model.

    The model goes back to the mode that it was in.

    Args:
        model (MAMP): The model.
        dataset (BaseDataset): The data set, whose pipeline masks.
        place (int): The sample's place.
        predict (bool): Whether the model predicts, or only says what its
            patches are. Defaults to True.

    Returns:
        MaskedSample: The sample.

    Raises:
        ValueError: The pipeline gives no mask or no positions of joints, or
            the model is to predict and predicts no motion.
    """
    plain = getattr(dataset, 'datasets', [dataset])[0]
    for step in plain.pipeline.transforms:
        if isinstance(step, SkeletonStream) and step.stream != 'joint':
            raise ValueError(
                f'the pipeline makes the stream {step.stream!r}, whose '
                'numbers are no positions that could be drawn: take a config '
                'of joints.'
            )
    if predict:
        check_predicts_motion(model)
    packed = dataset[place]
    sample = packed['data_samples']
    if 'mask' not in sample:
        raise ValueError(
            "the pipeline gives no 'mask': it needs MotionAwareMask and "
            "PackActionInputs(algorithm_keys=('mask',))."
        )
    keypoint = packed['inputs'][0].float()  # (M, T, V, C)
    found = MaskedSample(
        name=str(dataset.get_data_info(place).get('frame_dir', place)),
        keypoint=keypoint.numpy(),
        mask=np.asarray(sample.mask),
        t_patch_size=model.neck.t_patch_size,
        num_coords=getattr(model.head, 'num_coords', None),
    )
    if predict:
        with evaluating(model), torch.no_grad():
            predicted = model.test_step(pseudo_collate([packed]))[0]
        found.pred_motion = predicted.pred_motion.cpu().numpy()
        true = motion(keypoint, model.head.motion_stride).numpy()
        found.true_motion = true[..., : found.pred_motion.shape[-1]]
        error, zero_error, count = predicted.masked_errors.sum(dim=0).tolist()
        found.mse, found.zero_mse = error / count, zero_error / count
    return found


def compare_masks(
    sample: MaskedSample, taus: list[float], limbs: tuple | None
) -> dict[str, np.ndarray]:
    """Masks of several kinds, all of the same noise.

    Args:
        sample (MaskedSample): The sample, which says how many tokens stay
            visible.
        taus (list[float]): Temperatures of the motion-aware mask.
        limbs (tuple, optional): The joints of each limb; None leaves out
            that kind.

    Returns:
        dict[str, np.ndarray]: Bool, (M, L), by their kind. Tubes and limbs
        are masked for some segments, at the paper's temperature.
    """
    _, T, _, _ = sample.keypoint.shape
    L = sample.mask.shape[1]
    uniform = np.random.default_rng(0).random(sample.mask.shape)
    tube = min(TUBE, num_segments(T, sample.t_patch_size))
    kinds = {'random\n(tau 0)': dict(tau=0)}
    kinds |= {f'motion-aware\ntau {tau:g}': dict(tau=tau) for tau in taus}
    tubes = dict(tau=TAU, tube=tube)
    kinds[f'tubes of {tube}\ntau {TAU}'] = tubes
    if limbs is not None:
        kinds[f'limbs, tubes of {tube}\ntau {TAU}'] = dict(tubes, limbs=limbs)
    # Half a token more than stays visible, against the truncation.
    visible = np.count_nonzero(~sample.mask[0]) + 0.5
    return {
        kind: motion_aware_mask(
            sample.keypoint,
            uniform,
            mask_ratio=1 - visible / L,
            t_patch_size=sample.t_patch_size,
            num_coords=sample.num_coords,
            **options,
        )
        for kind, options in kinds.items()
    }
