"""Convert weights to this project's names, or to another skeleton.

SRC is a checkpoint of the reference's code (a dict with the weights under
``model``, beside the optimizer and the arguments of the run) of a pre-trained
model, a linear probe or a fine-tuned model, which are told apart
by their keys; DST can be given to a config as ``load_from``. With
``--to-reference`` it goes the other way. No number is changed.

With ``--from-layout`` and ``--to-layout`` SRC is a checkpoint of this project
that was trained on one skeleton layout, and DST the same for another layout,
whose joints are all among the first one's, matched by their names:
``--from-layout nturgb+d --to-layout kinect_v1``. A layout of your own is given
by the Python file that registers it.
"""

import argparse
from pathlib import Path


def parse_args(argv=None):
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('src', type=Path, help='checkpoint to read')
    parser.add_argument('dst', type=Path, help='checkpoint to write')
    parser.add_argument(
        '--to-reference',
        action='store_true',
        help="write the reference's names instead of reading them",
    )
    parser.add_argument(
        '--t-patch-size',
        type=int,
        default=4,
        help='frames of one patch; only --to-reference needs it (default: 4)',
    )
    parser.add_argument(
        '--from-layout',
        metavar='NAME_OR_FILE',
        help='skeleton layout that SRC was trained on',
    )
    parser.add_argument(
        '--to-layout',
        metavar='NAME_OR_FILE',
        help='skeleton layout that DST is to serve',
    )
    args = parser.parse_args(argv)
    if (args.from_layout is None) != (args.to_layout is None):
        parser.error('--from-layout and --to-layout need each other')
    if args.to_layout and args.to_reference:
        parser.error('--to-reference and --to-layout are two steps')
    return args


def convert(args: argparse.Namespace) -> str:
    """Convert one file.

    Args:
        args (argparse.Namespace): The command line.

    Returns:
        str: What was done.

    Raises:
        OSError: If a file cannot be read or written.
        CheckpointError: If SRC is no checkpoint, or not a safe one.
        ValueError: If it holds no weights that fit.
    """
    import torch

    from mamp_mmaction import __version__
    from mamp_mmaction.compat import load_checkpoint_file
    from mamp_mmaction.layouts import load_layout
    from mamp_mmaction.models.layout_weights import map_joint_weights
    from mamp_mmaction.models.reference_weights import (
        from_reference,
        to_reference,
    )
    from mamp_mmaction.utils import written_whole

    src, dst = args.src, args.dst
    ours = args.to_reference or args.to_layout
    key = 'state_dict' if ours else 'model'
    checkpoint = load_checkpoint_file(src)
    if key not in checkpoint:
        raise ValueError(
            f'{src} has no {key!r}, where the weights of '
            f'{"this project" if ours else "the reference"} lie; it has '
            f'{", ".join(map(str, list(checkpoint)[:6])) or "nothing"}.'
        )
    given = checkpoint[key]
    try:
        if args.to_reference:
            state = to_reference(given, args.t_patch_size)
        elif args.to_layout:
            layouts = map(load_layout, (args.from_layout, args.to_layout))
            state = map_joint_weights(given, *(v.name for v in layouts))
        else:
            state = from_reference(given)
    except ValueError as error:
        raise ValueError(f'{src}: {error}') from error
    if args.to_reference:
        converted = dict(model=state)
    else:
        meta = dict(mamp_mmaction_version=__version__, source=src.name)
        converted = dict(meta=meta, state_dict=state)
    with written_whole(dst) as temporary:
        torch.save(converted, temporary)
    told = f'Wrote {len(state)} tensors to {dst}.'
    if args.to_layout and len(state) < len(given):
        told += (
            f' Left out is the head, {len(given) - len(state)} tensors of '
            'cls_head, whose first layer does not go by joints.'
        )
    return told


def main(argv=None):
    """Run the command."""
    args = parse_args(argv)
    from mamp_mmaction.utils import errors_as_one_line

    with errors_as_one_line():
        print(convert(args))


if __name__ == '__main__':
    main()
