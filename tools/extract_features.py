"""Write the features that a model's backbone gives for a data set.

CONFIG is any config of this project or the toolbox: of a recogniser, or of
pre-training (whose mask is not applied). OUT.npz gets the arrays ``features``
(N, D), averaged over clips, persons, time and joints; ``names`` (N,), the
samples' frame_dir or filename; and ``labels`` (N,), where the data has
labels, -1 for one that its data set withholds. The samples are those of one
of the config's dataloaders, each once and in the order of the data set.

Features of the training split are made with the validation pipeline, without
random crops and rotations; data sets that are repeated within an epoch
(RepeatDataset) are taken once.
"""

import argparse
import os
from pathlib import Path

import numpy as np
import torch.nn as nn
from mmaction.registry import MODELS
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from mmengine.runner import CheckpointLoader, set_random_seed
from torch.utils.data import DataLoader

from mamp_mmaction.compat import CheckpointError
from mamp_mmaction.evaluation.extraction import (
    Features,
    check_backbone,
    extract_features,
    ordered_dataloader,
    unwrap_dataset,
)


def parse_args(argv=None):
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='config of model and data')
    parser.add_argument(
        'checkpoint',
        help="path or URL of the weights; 'none' for random ones",
    )
    parser.add_argument('out', type=Path, help='.npz file to write')
    parser.add_argument(
        '--split',
        choices=('train', 'val', 'test'),
        default='val',
        help='which dataloader of the config (default: %(default)s)',
    )
    parser.add_argument(
        '--per-token',
        action='store_true',
        help='write one vector a token, (N, persons, segments, joints, D), '
        'instead of their average; all of them are held in memory',
    )
    parser.add_argument(
        '--device',
        default=get_device(),
        help='such as cpu or cuda:0 (default here: %(default)s)',
    )
    parser.add_argument(
        '--batch-size', type=int, help="default: the dataloader's"
    )
    parser.add_argument(
        '--seed',
        type=int,
        default=0,
        help='seed of random weights (default: %(default)s)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='settings that replace those of the config',
    )
    return parser.parse_args(argv)


def build_model(cfg: Config, checkpoint: str) -> nn.Module:
    """Build a model whose backbone has the weights of a checkpoint.

    The other parts of the model need not be in the checkpoint, so that
    pre-trained weights fit a recogniser's config.

    Args:
        cfg (Config): The config.
        checkpoint (str): Path or URL, or ``'none'`` for weights as the
            config initialises them.

    Returns:
        nn.Module: The model.

    Raises:
        CheckpointError: If the file is no checkpoint, or not a safe one.
        ValueError: If a weight of the backbone is missing in the checkpoint
            or of another shape, or the model has no backbone.
    """
    model = MODELS.build(cfg.model)
    check_backbone(model)
    if checkpoint == 'none':
        model.init_weights()
        return model
    weights = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
    weights = weights.get('state_dict', weights)
    weights = {
        key.removeprefix('module.').removeprefix('backbone.'): value
        for key, value in weights.items()
        if key.removeprefix('module.').startswith('backbone.')
    }
    try:
        missing = model.backbone.load_state_dict(weights, strict=False)[0]
    except (RuntimeError, ValueError) as error:
        reason = ' '.join(str(error).split())
        raise ValueError(f'{checkpoint}: {reason}') from error
    if missing:
        raise ValueError(
            f'{checkpoint} lacks {len(missing)} weights of the '
            f"{type(model.backbone).__name__}, such as 'backbone.{missing[0]}'"
            ': use the config that it was trained with.'
        )
    return model


def build_dataloader(cfg: Config, split: str, batch_size: int) -> DataLoader:
    """Build the dataloader of a split for features.

    Args:
        cfg (Config): The config.
        split (str): ``'train'``, with the pipeline of validation, ``'val'``
            or ``'test'``.
        batch_size (int, optional): None for the dataloader's own.

    Returns:
        DataLoader: Every sample once, in order.

    Raises:
        ValueError: If the config has no such dataloader, or no sample is in
            its data set.
    """
    loader = _loader_config(cfg, split)
    if batch_size is not None:
        loader = dict(loader, batch_size=batch_size)
    pipeline = None
    if split == 'train':
        dataset = unwrap_dataset(_loader_config(cfg, 'val')['dataset'])
        pipeline = dataset.get('datasets', [dataset])[0]['pipeline']
    return ordered_dataloader(loader, pipeline)


def _loader_config(cfg: Config, split: str) -> dict:
    loader = cfg.get(f'{split}_dataloader')
    if loader is None:
        found = [key for key in cfg if key.endswith('_dataloader')]
        raise ValueError(
            f'{cfg.filename} has no {split}_dataloader; it has '
            f'{", ".join(found) or "none at all"}.'
        )
    return loader


def write(path: Path, features: Features) -> None:
    """Write features, atomically.

    Args:
        path (Path): File to write.
        features (Features): The features.
    """
    arrays = dict(
        features=features.features.numpy(), names=np.array(features.names)
    )
    if features.labels is not None:
        arrays['labels'] = features.labels.numpy()
    temporary = path.with_name(f'{path.name}.{os.getpid()}.tmp')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open('wb') as file:
            np.savez(file, **arrays)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def run(args: argparse.Namespace) -> Features:
    """Extract and write features as the command line says.

    Args:
        args (Namespace): The command line.

    Returns:
        Features: What was written.
    """
    if args.out.suffix != '.npz':
        raise ValueError(f'{args.out}: expected a name that ends in .npz.')
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmaction'))
    set_random_seed(args.seed)
    model = build_model(cfg, args.checkpoint).to(args.device)
    dataloader = build_dataloader(cfg, args.split, args.batch_size)
    features = extract_features(
        model, dataloader, args.per_token, show_progress=True
    )
    write(args.out, features)
    return features


def main(argv=None):
    """Run the command."""
    args = parse_args(argv)
    try:
        features = run(args)
    except (CheckpointError, ValueError, KeyError, OSError) as error:
        # What fails in a worker process brings its traceback along.
        message = error.args[0] if isinstance(error, KeyError) else str(error)
        raise SystemExit(message.strip().splitlines()[-1]) from error
    count, *shape = features.features.shape
    print(
        f'Wrote features of shape {tuple(shape)} of {count} samples to '
        f'{args.out}.'
    )


if __name__ == '__main__':
    main()
