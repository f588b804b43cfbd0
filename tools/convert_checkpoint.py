"""Convert weights between the reference implementation and this project.

SRC holds the reference's weights (a dict with the key ``model``) of a
pre-trained model, a linear probe or a fine-tuned model, which are told apart
by their keys; DST can be given to a config as ``load_from``. With
``--to-reference`` it goes the other way. No number is changed.
"""

import argparse
import os
from pathlib import Path

import torch

from mamp_mmaction import __version__
from mamp_mmaction.compat import CheckpointError, load_checkpoint_file
from mamp_mmaction.reference_weights import from_reference, to_reference


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
    return parser.parse_args(argv)


def convert(src: Path, dst: Path, back: bool, t_patch_size: int) -> int:
    """Convert one file.

    Args:
        src (Path): Checkpoint to read.
        dst (Path): Checkpoint to write, atomically.
        back (bool): From this project to the reference.
        t_patch_size (int): Frames of one patch.

    Returns:
        int: Number of tensors converted.

    Raises:
        CheckpointError: If SRC is no checkpoint, or not a safe one.
        ValueError: If it holds no weights that fit.
    """
    key = 'state_dict' if back else 'model'
    checkpoint = load_checkpoint_file(src)
    if key not in checkpoint:
        raise ValueError(
            f'{src} has no {key!r}, where the weights of '
            f'{"this project" if back else "the reference"} lie; it has '
            f'{", ".join(map(str, list(checkpoint)[:6])) or "nothing"}.'
        )
    if back:
        state = to_reference(checkpoint[key], t_patch_size)
        converted = dict(model=state)
    else:
        state = from_reference(checkpoint[key])
        meta = dict(mamp_mmaction_version=__version__, source=src.name)
        converted = dict(meta=meta, state_dict=state)
    temporary = dst.with_name(f'{dst.name}.{os.getpid()}.tmp')
    try:
        dst.parent.mkdir(parents=True, exist_ok=True)
        torch.save(converted, temporary)
        os.replace(temporary, dst)
    finally:
        temporary.unlink(missing_ok=True)
    return len(state)


def main(argv=None):
    """Run the command."""
    args = parse_args(argv)
    try:
        count = convert(
            args.src, args.dst, args.to_reference, args.t_patch_size
        )
    except (CheckpointError, ValueError, OSError) as error:
        raise SystemExit(f'{args.src}: {error}') from error
    print(f'Wrote {count} tensors to {args.dst}.')


if __name__ == '__main__':
    main()
