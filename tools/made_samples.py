"""Samples that are made to go through a config's own pipelines."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch.nn as nn
from mmaction.registry import TRANSFORMS
from mmengine.config import Config, ConfigDict

# What tells that a pipeline takes positions in an image, with confidences.
IMAGE_TRANSFORMS = {
    'PreNormalize2D',
    'PoseCompact',
    'DecompressPose',
    'GeneratePoseTarget',
}
IMAGE_SIZE = (1080, 1920)
NUM_FRAMES = 100  # of a made sequence; pipelines resample it


def load_config(name: str) -> Config:
    """Read a config.

    Args:
        name (str): A file, or ``package::path`` below a package's configs.

    Returns:
        Config: The config.
    """
    if '::' in name:
        # Config.fromfile knows this form in `_base_` only.
        return Config.fromstring(f'_base_ = {name!r}\n', '.py')
    return Config.fromfile(name)


def config_name(name: str) -> str:
    """The file name of a config without ``.py``."""
    return Path(name.rpartition('::')[2]).stem


def type_name(cfg: dict) -> str:
    """The name of a component's class, without its registry's scope."""
    kind = cfg['type']
    return kind.rpartition('.')[2] if isinstance(kind, str) else kind.__name__


def find_dataset(cfg: Config, loader: str) -> ConfigDict:
    """Return the data set of a loader, inside of what repeats or joins it.

    Args:
        cfg (Config): The config.
        loader (str): Such as ``'test_dataloader'``.

    Raises:
        ValueError: If there is none with a pipeline.
    """
    dataset = (cfg.get(loader) or {}).get('dataset')
    while dataset and 'pipeline' not in dataset:
        parts = dataset.get('datasets') or [None]
        dataset = dataset.get('dataset') or parts[0]
    if not dataset:
        raise ValueError(f'{loader} has no data set with a pipeline.')
    return dataset


def annotation_shape(
    cfg: Config, model: nn.Module, pipeline: Sequence[dict]
) -> tuple[int, int, int, int]:
    """Read off the annotations that a config is made for.

    Args:
        cfg (Config): The config.
        model (nn.Module): Its model.
        pipeline (list[dict]): The pipeline that takes the annotations.

    Returns:
        tuple[int]: Persons, frames, joints and coordinates.

    Raises:
        ValueError: If nothing tells the number of joints.
    """
    steps = {type_name(step): step for step in pipeline}
    persons = steps.get('FormatGCNInput', {}).get('num_person', 1)
    backbone = cfg.model.get('backbone', {})
    if 'GeneratePoseTarget' in steps:
        heatmap = TRANSFORMS.build(steps['GeneratePoseTarget'])
        joints = 1 + max(max(limb) for limb in heatmap.skeletons)
        if heatmap.with_kp and not heatmap.with_limb:
            joints = backbone.get('in_channels', joints)
    elif hasattr(getattr(model, 'backbone', None), 'num_joints'):
        joints = model.backbone.num_joints
    elif 'graph_cfg' in backbone:
        # The toolbox's models can be imported behind the package only.
        from mmaction.models.utils import Graph

        joints = Graph(**backbone.graph_cfg).num_node
    else:
        raise ValueError(
            f'the backbone {backbone.get("type")} has neither num_joints nor '
            'graph_cfg, and no GeneratePoseTarget is in the pipeline: give '
            'persons, frames, joints and coordinates by --shape.'
        )
    if IMAGE_TRANSFORMS.intersection(steps):
        coordinates = 2
    else:
        # Streams side by side, joints and bones say, are more channels.
        coordinates = min(backbone.get('in_channels', 3), 3)
    return persons, NUM_FRAMES, joints, coordinates


def make_annotation(
    index: int, shape: Sequence[int], pipeline: Sequence[dict]
) -> dict:
    """Make an annotation as the toolbox's data sets hand it to a pipeline.

    Args:
        index (int): Number of the sample; another gives other positions.
        shape (tuple[int]): Persons M, frames T, joints V, coordinates C.
        pipeline (list[dict]): The pipeline that is to take it.

    Returns:
        dict: With ``keypoint`` (M, T, V, C): a random walk of the joints in
        metres or, where the pipeline takes those, pixels and
        ``keypoint_score`` (M, T, V).
    """
    M, T, V, C = shape
    types = set(map(type_name, pipeline))
    rng = np.random.default_rng(index)
    start = rng.normal(size=(M, 1, V, C))
    walk = rng.normal(scale=0.02, size=(M, T, V, C)).cumsum(axis=1)
    annotation = dict(
        frame_dir=f'sample{index}',
        sample_idx=index,
        label=0,
        total_frames=T,
        start_index=0,
        modality='Pose',
        img_shape=IMAGE_SIZE,
        original_shape=IMAGE_SIZE,
        keypoint=(start + walk).astype(np.float32),
    )
    if types & IMAGE_TRANSFORMS:
        height, width = IMAGE_SIZE
        pixels = annotation['keypoint'] * height / 10
        pixels += np.resize((width / 2, height / 2), C).astype(np.float32)
        score = rng.uniform(0.5, 1, size=(M, T, V)).astype(np.float32)
        annotation.update(keypoint=pixels, keypoint_score=score)
    if 'DecompressPose' in types:
        scored = np.append(pixels, score[..., None], axis=-1)
        annotation.update(
            keypoint=scored.swapaxes(0, 1).reshape(T * M, V, C + 1),
            frame_inds=np.repeat(np.arange(T), M),
        )
        del annotation['keypoint_score']
    return annotation


def run_pipeline(pipeline: Sequence[dict], annotation: dict) -> dict:
    """Take an annotation through a pipeline.

    Args:
        pipeline (list[dict]): Configs of the transforms.
        annotation (dict): The annotation.

    Returns:
        dict: ``inputs`` (clips, ...) and ``data_samples``.

    Raises:
        ValueError: If a transform, which is named, cannot take it.
    """
    shape = annotation['keypoint'].shape
    results = annotation
    for step in pipeline:
        try:
            results = TRANSFORMS.build(step)(results)
        except Exception as error:  # whatever somebody's transform raises
            raise ValueError(
                f'{type_name(step)} of the pipeline fails on a made sample, '
                f'whose keypoint has shape {shape}: {type(error).__name__}: '
                f'{error} This tool makes skeletons only; --shape changes '
                'their sizes.'
            ) from error
    return results


def make_samples(
    cfg: Config, model: nn.Module, args: argparse.Namespace, training: bool
) -> list[dict]:
    """Make a batch of samples as a config's model gets them.

    Args:
        cfg (Config): The config.
        model (nn.Module): Its model.
        args (Namespace): The command line, with the number of samples and,
            where they are not to be read off the config, the persons,
            frames, joints and coordinates of their annotations.
        training (bool): Through the training pipeline as it is, instead of
            one clip of the test pipeline.

    Returns:
        list[dict]: Each with ``inputs`` (clips, ...) and ``data_samples``.
    """
    loader = 'train_dataloader' if training else 'test_dataloader'
    pipeline = [dict(step) for step in find_dataset(cfg, loader).pipeline]
    if not training:
        for step in pipeline:
            if 'num_clips' in step:
                step['num_clips'] = 1
    shape = args.shape or annotation_shape(cfg, model, pipeline)
    samples = [
        run_pipeline(pipeline, make_annotation(index, shape, pipeline))
        for index in range(args.batch_size)
    ]
    if not training:
        for sample in samples:
            # A clip and its mirror image count as two.
            sample['inputs'] = sample['inputs'][:1].clone()
    return samples
