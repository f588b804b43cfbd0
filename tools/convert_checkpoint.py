"""Convert weights between the reference implementation and this project.

SRC is a checkpoint of the reference's code (a dict with the weights under
``model``, beside the optimizer and the arguments of the run) of a pre-trained
model, a linear probe or a fine-tuned model, which are told apart
by their keys; DST can be given to a config as ``load_from``. With
``--to-reference`` it goes the other way. No number is changed.
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
        OSError: If a file cannot be read or written.
        CheckpointError: If SRC is no checkpoint, or not a safe one.
        ValueError: If it holds no weights that fit.
    """
    import torch

    from mamp_mmaction import __version__
    from mamp_mmaction.compat import load_checkpoint_file
    from mamp_mmaction.models.reference_weights import (
        from_reference,
        to_reference,
    )
    from mamp_mmaction.utils import written_whole

    key = 'state_dict' if back else 'model'
    checkpoint = load_checkpoint_file(src)
    if key not in checkpoint:
        raise ValueError(
            f'{src} has no {key!r}, where the weights of '
            f'{"this project" if back else "the reference"} lie; it has '
            f'{", ".join(map(str, list(checkpoint)[:6])) or "nothing"}.'
        )
    try:
        if back:
            state = to_reference(checkpoint[key], t_patch_size)
        else:
            state = from_reference(checkpoint[key])
    except ValueError as error:
        raise ValueError(f'{src}: {error}') from error
    if back:
        converted = dict(model=state)
    else:
        meta = dict(mamp_mmaction_version=__version__, source=src.name)
        converted = dict(meta=meta, state_dict=state)
    with written_whole(dst) as temporary:
        torch.save(converted, temporary)
    return len(state)


def main(argv=None):
    """Run the command."""
    args = parse_args(argv)
    from mamp_mmaction.utils import errors_as_one_line

    with errors_as_one_line():
        count = convert(
            args.src, args.dst, args.to_reference, args.t_patch_size
        )
    print(f'Wrote {count} tensors to {args.dst}.')


if __name__ == '__main__':
    main()
