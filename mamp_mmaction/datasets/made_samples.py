"""Samples for a config's model without its data."""

import numpy as np
import torch.nn as nn
from mmaction.models.utils import Graph
from mmaction.registry import TRANSFORMS

# What tells that a pipeline takes positions in an image, with confidences.
IMAGE_TRANSFORMS = {
    'ScaleToImage',
    'PreNormalize2D',
    'PoseCompact',
    'DecompressPose',
    'GeneratePoseTarget',
}
IMAGE_SIZE = (1080, 1920)
NUM_FRAMES = 100  # of a made sequence; pipelines resample it


def type_name(cfg: dict) -> str:
    """The name of a component's class, without its registry's scope.

    Args:
        cfg (dict): Its config.

    Returns:
        str: The name.
    """
    kind = cfg['type']
    return kind.rpartition('.')[2] if isinstance(kind, str) else kind.__name__


def find_dataset(cfg: dict, loader: str) -> dict:
    """The data set of a loader, inside of what repeats or joins it.

    Args:
        cfg (dict): The config.
        loader (str): Such as ``'test_dataloader'``.

    Returns:
        dict: Its config, which has a pipeline.

    Raises:
        ValueError: If there is none.
    """
    dataset = (cfg.get(loader) or {}).get('dataset')
    while dataset and 'pipeline' not in dataset:
        parts = dataset.get('datasets') or [None]
        dataset = dataset.get('dataset') or parts[0]
    if not dataset:
        raise ValueError(f'{loader} has no data set with a pipeline.')
    return dataset


def make_samples(
    cfg: dict,
    model: nn.Module | None,
    count: int,
    shape: tuple[int, int, int, int] | None = None,
    training: bool = False,
) -> list[dict]:
    """Samples as a config's model gets them, of random walks.

    Training samples go through the training pipeline as it is, others give
    one clip of the test pipeline.

    Args:
        cfg (dict): The config.
        model (nn.Module, optional): Its model, if it is built; may tell how
            many joints there are.
        count (int): Number of samples.
        shape (tuple[int], optional): Persons, frames, joints and coordinates
            of the sequences. Defaults to None, as the config tells.
        training (bool): Whether for training. Defaults to False.

    Returns:
        list[dict]: ``inputs`` (clips, M, T, V, C), or a volume, and
        ``data_samples`` each.

    Raises:
        ValueError: If the config has no pipeline, does not tell the shape,
            or a transform fails; it is named.
    """
    loader = 'train_dataloader' if training else 'test_dataloader'
    pipeline = [dict(step) for step in find_dataset(cfg, loader)['pipeline']]
    for step in pipeline:
        if not training and 'num_clips' in step:
            step['num_clips'] = 1
    shape = shape or _annotation_shape(cfg, model, pipeline)
    samples = []
    for index in range(count):
        sample = _random_walk(index, shape, pipeline)
        for step in pipeline:
            try:
                sample = TRANSFORMS.build(step)(sample)
            except Exception as error:  # whatever somebody's transform raises
                raise ValueError(
                    f'{type_name(step)} of the pipeline fails on a made '
                    f'sample, whose keypoint has shape {tuple(shape)}: '
                    f'{type(error).__name__}: {error} This tool makes '
                    'skeletons only; --shape changes their sizes.'
                ) from error
        if not training:
            # A clip and its mirror image count as two.
            sample['inputs'] = sample['inputs'][:1].clone()
        samples.append(sample)
    return samples


def _annotation_shape(
    cfg: dict, model: nn.Module | None, pipeline: list[dict]
) -> tuple[int, int, int, int]:
    """Persons, frames, joints and coordinates that a config is made for."""
    steps = {type_name(step): step for step in pipeline}
    persons = steps.get('FormatGCNInput', {}).get('num_person', 1)
    backbone = cfg['model'].get('backbone', {})
    if 'GeneratePoseTarget' in steps:
        heatmap = TRANSFORMS.build(steps['GeneratePoseTarget'])
        joints = 1 + max(max(limb) for limb in heatmap.skeletons)
        if heatmap.with_kp and not heatmap.with_limb:
            joints = backbone.get('in_channels', joints)
    elif 'MapJoints' in steps:
        joints = TRANSFORMS.build(steps['MapJoints']).num_joints
    elif hasattr(getattr(model, 'backbone', None), 'num_joints'):
        joints = model.backbone.num_joints
    elif 'graph_cfg' in backbone:
        joints = Graph(**backbone['graph_cfg']).num_node
    else:
        raise ValueError(
            f'the backbone {backbone.get("type")} has neither num_joints nor '
            'graph_cfg, and no GeneratePoseTarget is in the pipeline: give '
            'persons, frames, joints and coordinates by --shape.'
        )
    # Streams side by side, joints and bones say, are more channels.
    coordinates = min(backbone.get('in_channels', 3), 3)
    if IMAGE_TRANSFORMS.intersection(steps):
        coordinates = 2
    return persons, NUM_FRAMES, joints, coordinates


def _random_walk(
    index: int, shape: tuple[int, int, int, int], pipeline: list[dict]
) -> dict:
    """An annotation (M, T, V, C), in metres or in pixels."""
    M, T, V, C = shape
    types = set(map(type_name, pipeline))
    rng = np.random.default_rng(index)
    keypoint = rng.normal(size=(M, 1, V, C))
    keypoint = keypoint + rng.normal(scale=0.02, size=shape).cumsum(axis=1)
    annotation = dict(
        frame_dir=f'sample{index}',
        sample_idx=index,
        label=0,
        total_frames=T,
        start_index=0,
        modality='Pose',
        img_shape=IMAGE_SIZE,
        original_shape=IMAGE_SIZE,
        keypoint=keypoint.astype(np.float32),
    )
    if types & IMAGE_TRANSFORMS:
        height, width = IMAGE_SIZE
        centre = np.resize((width / 2, height / 2), C)
        keypoint = (keypoint * height / 10 + centre).astype(np.float32)
        score = rng.uniform(0.5, 1, size=(M, T, V)).astype(np.float32)
        annotation.update(keypoint=keypoint, keypoint_score=score)
    if 'DecompressPose' in types:
        scored = np.append(keypoint, score[..., None], axis=-1)
        annotation.update(
            keypoint=scored.swapaxes(0, 1).reshape(T * M, V, C + 1),
            frame_inds=np.repeat(np.arange(T), M),
        )
        del annotation['keypoint_score']
    return annotation
