"""Features that a backbone gives for a data set."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
from mmaction.models import MMRecognizer3D, Recognizer2D, Recognizer3D
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset, DefaultSampler
from mmengine.dist import all_gather_object
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner, set_random_seed
from torch.utils.data import DataLoader, SequentialSampler

from ..datasets.made_samples import find_dataset, type_name
from ..datasets.progress import track
from ..models.state_dict_checks import load_weights
from ..utils.npz import read_arrays

# Recognisers whose backbones give (clips, D, ...); all others give skeletons.
VOLUME_RECOGNIZERS = (Recognizer2D, Recognizer3D, MMRecognizer3D)
# Wrappers that give a sample several times.
REPEATING_DATASETS = ('RepeatDataset', 'ClassBalancedDataset')
# What names a sample, the first that it has.
NAME_KEYS = ('frame_dir', 'filename')


@dataclass
class Features:
    """Features of a data set, in its order.

    Attributes:
        names (list[str]): N names, ``frame_dir`` or ``filename``.
        labels (torch.Tensor, optional): Long, (N,), or (N, classes) where a
            sample may have several; None where the data set has none.
        features (torch.Tensor): Float32, (N, D), or one vector a token: (N,
            M, T', V, D) of skeletons, (N, 1, T', H', W', D) of volumes.
    """

    names: list[str]
    labels: torch.Tensor | None
    features: torch.Tensor


def ordered_dataloader(
    cfg: dict, pipeline: list[dict] | None = None
) -> DataLoader:
    """Build a loader that gives every sample once, in the data set's order.

    Args:
        cfg (dict): Config of a dataloader in the toolbox's style. Its
            sampler and ``drop_last`` are replaced, and a data set that is
            repeated or rebalanced by a wrapper is taken out of it.
        pipeline (list[dict], optional): Replaces the pipeline of the data
            set, or of the members of a union, but for ``MapJoints``, which
            tells the joints of their files. Defaults to None.

    Returns:
        DataLoader: The loader; of several processes each has its share.

    Raises:
        ValueError: If there is no data set, or nothing in it.
    """
    cfg = ConfigDict(cfg)
    if 'dataset' not in cfg:
        raise ValueError(
            f'The dataloader config has the keys {sorted(cfg)}, but lacks '
            "'dataset'."
        )
    for key in ('batch_sampler', 'num_batch_per_epoch'):
        cfg.pop(key, None)
    cfg.sampler = dict(type='DefaultSampler', shuffle=False)
    cfg.drop_last = False
    cfg.dataset = _plain_dataset(cfg.dataset, pipeline)
    try:
        # The seed lets worker processes draw the same numbers every time.
        dataloader = Runner.build_dataloader(cfg, seed=0)
        is_empty = len(dataloader.dataset) == 0
    except ValueError as error:
        is_empty = 'need at least one array' in str(error)  # mmengine's words
        if not is_empty:
            raise
    if is_empty:
        source = cfg.dataset.get('ann_file', cfg.dataset['type'])
        split = cfg.dataset.get('split')
        raise ValueError(
            f'There is no sample in {source}'
            f'{f", split {split!r}" if split else ""}: check its ann_file '
            'and split.'
        )
    return dataloader


def split_dataloader(
    cfg: Config, split: str, batch_size: int | None = None
) -> DataLoader:
    """Build the loader of a split, of training data as for validation.

    Args:
        cfg (Config): The whole config.
        split (str): ``'train'``, ``'val'`` or ``'test'``.
        batch_size (int, optional): Replaces that of the config. Defaults to
            None.

    Returns:
        DataLoader: As of :func:`ordered_dataloader`.

    Raises:
        ValueError: If the config has no such loader, or nothing is in it.
    """
    loader = cfg.get(f'{split}_dataloader')
    if loader is None:
        found = [key for key in cfg if key.endswith('_dataloader')]
        raise ValueError(
            f'{cfg.filename} has no {split}_dataloader; it has '
            f'{", ".join(found) or "none at all"}.'
        )
    if batch_size is not None:
        loader = dict(loader, batch_size=batch_size)
    pipeline = None
    if split == 'train':
        pipeline = find_dataset(cfg, 'val_dataloader')['pipeline']
    return ordered_dataloader(loader, pipeline)


def unwrap_dataset(cfg: dict) -> dict:
    """Config of the data set inside wrappers that repeat its samples."""
    while type_name(cfg) in REPEATING_DATASETS:
        cfg = cfg['dataset']
    return cfg


def _plain_dataset(cfg: dict, pipeline: list[dict] | None) -> ConfigDict:
    """Config of a data set as validation uses it."""
    cfg = ConfigDict(unwrap_dataset(cfg))
    if 'datasets' in cfg:  # ConcatDataset
        cfg.datasets = [_plain_dataset(c, pipeline) for c in cfg.datasets]
        return cfg
    # Else a sample that its pipeline refuses is replaced by another one.
    cfg.test_mode = True
    if pipeline is not None:
        own = [s for s in cfg.pipeline if type_name(s) == 'MapJoints']
        others = [s for s in pipeline if type_name(s) != 'MapJoints']
        cfg.pipeline = own + others
    return cfg


def model_with_backbone(
    cfg: Config, checkpoint: str | None, seed: int = 0
) -> nn.Module:
    """Build a model whose backbone has the weights of a checkpoint.

    The other parts need not be there, so that pre-trained weights fit a
    recogniser's config.

    Args:
        cfg (Config): The whole config.
        checkpoint (str, optional): The file; None for random weights.
        seed (int): Of the random weights. Defaults to 0.

    Returns:
        nn.Module: The model, on the CPU.

    Raises:
        ValueError: If it has no backbone, or one that does not fit.
    """
    set_random_seed(seed)
    model = MODELS.build(cfg.model)
    check_backbone(model)
    if checkpoint is None:
        # mmengine would tell of each parameter how it began.
        logger = MMLogger.get_current_instance()
        level = logger.level
        logger.setLevel('WARNING')
        model.init_weights()
        logger.setLevel(level)
        return model
    load_weights(model.backbone, checkpoint, 'backbone.')
    return model


@torch.no_grad()
def extract_features(
    model: nn.Module,
    dataloader: DataLoader,
    per_token: bool = False,
    show_progress: bool = False,
) -> Features:
    """Run a model's backbone over a data set, in eval mode.

    The model is a recogniser of the toolbox, or any other model with a
    ``data_preprocessor`` and a ``backbone`` (N, M, T, V, C) -> (N, M, D, T',
    V), such as :class:`MAMP`, which sees unmasked skeletons here. It stays on
    its device, and all of its modules go back to the mode that they were in.

    Pooled features are averaged over the clips of a sample and over persons,
    time and joints, or over time, height and width: what the linear probe
    classifies. Of several feature maps (SlowFast) the averages are joined.

    Of several processes each takes its share of the samples, and all return
    the features of all samples, whatever padding the sampler added.

    Args:
        model (nn.Module): The model, perhaps wrapped for several processes.
        dataloader (DataLoader): As of :func:`ordered_dataloader`.
        per_token (bool): Give every token's vector instead of the average;
            needs one clip a sample. Defaults to False.
        show_progress (bool): Draw a progress bar on a terminal. Defaults to
            False.

    Returns:
        Features: Names, labels and features.

    Raises:
        ValueError: If the model has no backbone or one of another form, if
            the loader leaves samples out or mixes them, or if names are
            missing, or some of the labels.
    """
    if is_model_wrapper(model):
        model = model.module
    check_backbone(model)
    indices = iter(_sample_order(dataloader))
    reduce = _tokens if per_token else _pool
    batches = dataloader
    if show_progress:
        batches = track(dataloader, len(dataloader))
    rows = {}  # of this process: index -> (name, label, feature)
    with evaluating(model):
        for batch in batches:
            batch = model.data_preprocessor(batch, training=False)
            samples = batch['data_samples']
            maps = _feature_maps(model, batch['inputs'], len(samples))
            features = reduce(maps).float().cpu().numpy()
            for sample, feature, index in zip(samples, features, indices):
                name = _name(sample, index, dataloader.dataset)
                label = sample.get('gt_label')
                label = None if label is None else label.tolist()
                rows[index] = name, label, feature
    for part in all_gather_object(rows):
        rows.update(part)
    names, labels, features = zip(*(rows[index] for index in sorted(rows)))
    return Features(
        names=list(names),
        labels=_stack_labels(names, labels),
        features=torch.from_numpy(np.stack(features)),
    )


def check_backbone(model: nn.Module) -> None:
    """Check that a model has a backbone.

    Args:
        model (nn.Module): The model.

    Raises:
        ValueError: If it has none.
    """
    if not isinstance(getattr(model, 'backbone', None), nn.Module):
        raise ValueError(
            f'{type(model).__name__} has no backbone to take features from: '
            'expected a recogniser, or a model with an attribute backbone.'
        )


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model in eval mode, and each of its modules back afterwards.

    Args:
        model (nn.Module): The model.

    Yields:
        Nothing.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _sample_order(dataloader: DataLoader) -> list[int]:
    """Indices of the samples that this process's loader will give."""
    sampler = dataloader.sampler
    is_ordered = isinstance(sampler, SequentialSampler) or (
        isinstance(sampler, DefaultSampler) and not sampler.shuffle
    )
    if not is_ordered or dataloader.drop_last:
        raise ValueError(
            'Features need a dataloader that gives every sample in order, '
            f'got the sampler {type(sampler).__name__} with shuffle='
            f'{getattr(sampler, "shuffle", None)} and drop_last='
            f'{dataloader.drop_last}: build it by ordered_dataloader.'
        )
    return list(sampler)


def _feature_maps(
    model: nn.Module, inputs: torch.Tensor | dict, count: int
) -> list[torch.Tensor]:
    """Features of a batch, each (N, clips, M, D, ...), M of volumes 1."""
    is_volume = isinstance(model, VOLUME_RECOGNIZERS)
    if not is_volume and getattr(inputs, 'ndim', None) != 6:
        raise ValueError(
            f'The backbone of {type(model).__name__} needs skeletons of shape '
            '(samples, clips, persons, frames, joints, channels), got '
            f'{tuple(getattr(inputs, "shape", ())) or type(inputs).__name__}.'
        )
    if hasattr(model, 'extract_feat'):
        maps = model.extract_feat(inputs, stage='backbone')
        if isinstance(maps, tuple) and isinstance(maps[-1], dict):
            maps = maps[0]
    else:
        maps = model.backbone(inputs.flatten(0, 1))
    maps = list(maps) if isinstance(maps, (tuple, list)) else [maps]
    if is_volume:
        maps = [x.unsqueeze(1) for x in maps]
    else:
        _check_skeleton_maps(model, inputs, maps)
    return [x.unflatten(0, (count, -1)) for x in maps]


def _check_skeleton_maps(
    model: nn.Module, inputs: torch.Tensor, maps: list[torch.Tensor]
) -> None:
    clips_and_persons = (inputs.shape[0] * inputs.shape[1], inputs.shape[2])
    for x in maps:
        shape = getattr(x, 'shape', ())
        if len(shape) != 5 or shape[:2] != clips_and_persons:
            raise ValueError(
                f'The backbone of {type(model).__name__} made '
                f'{tuple(shape) or type(x).__name__} of inputs '
                f'{tuple(inputs.shape)}; expected (samples * clips, persons) '
                f'= {clips_and_persons}, then channels, frames and joints, '
                "as of the toolbox's GCNs."
            )


def _pool(maps: list[torch.Tensor]) -> torch.Tensor:
    """Maps (N, clips, M, D, ...) -> (N, D), D of all maps together."""
    means = [x.flatten(4).mean(4) if x.ndim > 4 else x for x in maps]
    return torch.cat(means, dim=3).mean(dim=(1, 2))


def _tokens(maps: list[torch.Tensor]) -> torch.Tensor:
    """One map (N, 1, M, D, T', V) -> (N, M, T', V, D)."""
    clips = maps[0].shape[1]
    if len(maps) > 1 or clips > 1:
        raise ValueError(
            'Features of every token need one clip a sample and one feature '
            f'map, got {clips} clips and {len(maps)} maps: set num_clips=1 '
            'in the pipeline, or average them (pooled features).'
        )
    return maps[0].squeeze(1).movedim(2, -1)


def _name(sample: ActionDataSample, index: int, dataset: BaseDataset) -> str:
    for key in NAME_KEYS:
        if sample.get(key) is not None:
            return str(sample.get(key))
    # PackActionInputs carries along only what it is told to.
    info = dataset.get_data_info(index)
    for key in NAME_KEYS:
        if info.get(key) is not None:
            return str(info[key])
    raise ValueError(
        f'Sample {index} of {type(dataset).__name__} has no name: its '
        f'annotation has the keys {sorted(info)}, but neither of '
        f'{list(NAME_KEYS)}.'
    )


def _stack_labels(
    names: list[str], labels: list[list[int] | None]
) -> torch.Tensor | None:
    unlabelled = [name for name, y in zip(names, labels) if y is None]
    if len(unlabelled) == len(labels):
        return None
    if unlabelled:
        raise ValueError(
            f'{len(unlabelled)} of {len(labels)} samples have no label, such '
            f'as sample {unlabelled[0]!r}: label or remove them.'
        )
    stacked = torch.tensor(labels).long()
    return stacked[:, 0] if stacked.shape[1] == 1 else stacked


def read_features(
    path: str | Path,
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Read a file of ``tools/extract_features.py``, of labelled data.

    Args:
        path (str | Path): The file.

    Returns:
        tuple: Features (N, D), labels (N,) and N names.

    Raises:
        OSError: It cannot be opened.
        ValueError: It is no such file, lacks labels, holds one vector a
            token, or something else than numbers and names.
    """
    arrays = read_arrays(path)
    absent = {'features', 'labels', 'names'} - set(arrays)
    if absent:
        raise ValueError(
            f'{path} has the arrays {sorted(arrays)}, but lacks '
            f'{sorted(absent)}: write it by tools/extract_features.py from a '
            'data set with labels.'
        )
    x, y, names = (arrays[key] for key in ('features', 'labels', 'names'))
    if x.ndim != 2 or not len(x) == len(names) or y.shape != x.shape[:1]:
        raise ValueError(
            f'{path} has features {x.shape}, labels {y.shape} and '
            f'{len(names)} names; expected one vector, label and name a '
            'sample (no --per-token).'
        )
    kinds = [array.dtype.kind for array in (x, y, names)]
    if kinds[0] != 'f' or kinds[1] not in 'iu' or kinds[2] != 'U':
        raise ValueError(
            f'{path} has features of {x.dtype}, labels of {y.dtype} and names '
            f'of {names.dtype}; expected floats, integers and text.'
        )
    return x, y, names.tolist()
