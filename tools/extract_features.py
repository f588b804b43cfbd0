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
from pathlib import Path


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
        '--device', help='such as cpu or cuda:0 (default: a GPU if there is)'
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
        default=[],
        metavar='KEY=VALUE',
        help='settings that replace those of the config',
    )
    args = parser.parse_args(argv)
    if args.out.suffix != '.npz':
        parser.error(f'{args.out}: expected a name that ends in .npz')
    if args.batch_size is not None and args.batch_size < 1:
        parser.error(f'--batch-size {args.batch_size} is less than 1')
    return args


def run(args):
    """Extract and write features as the command line says."""
    import numpy as np

    from mamp_mmaction.config import load_config
    from mamp_mmaction.evaluation.extraction import (
        extract_features,
        model_with_backbone,
        split_dataloader,
    )
    from mamp_mmaction.utils import usable_device, written_whole
    from mamp_mmaction.utils.atomic import check_writable

    check_writable(args.out)
    device = usable_device(args.device)
    cfg = load_config(args.config, args.cfg_options, needed=['model'])
    checkpoint = None if args.checkpoint == 'none' else args.checkpoint
    model = model_with_backbone(cfg, checkpoint, args.seed).to(device)
    dataloader = split_dataloader(cfg, args.split, args.batch_size)
    found = extract_features(
        model, dataloader, args.per_token, show_progress=True
    )
    arrays = dict(features=found.features.numpy(), names=np.array(found.names))
    if found.labels is not None:
        arrays['labels'] = found.labels.numpy()
    with written_whole(args.out) as temporary:
        np.savez(temporary, **arrays)
    count, *shape = found.features.shape
    print(
        f'Wrote features of shape {tuple(shape)} of {count} samples to '
        f'{args.out}.'
    )


def main(argv=None):
    """Run the command."""
    args = parse_args(argv)
    from mamp_mmaction.utils import errors_as_one_line

    with errors_as_one_line():
        run(args)


if __name__ == '__main__':
    main()
