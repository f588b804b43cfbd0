"""Convert MSR-Action3D to the toolbox's annotation format.

The release (20 actions, 10 subjects, 20 joints) is a text file a sequence,
aAA_sSS_eEE_skeleton3D.txt (action, subject, repetition): a line a joint,
x y z confidence, in metres, 20 lines a frame. Written are the splits
xsub_train (subjects of odd number) and xsub_val. Frames in which tracking
failed, all joints at 0 0 0, are left out. Coordinates stay as they are; the
confidence is not stored.
"""

import argparse
from pathlib import Path


def find_sequences(raw_dir: Path, wanted: Path | None) -> list[Path]:
    """List the files of the release, or those that a list names.

    Raises:
        ValueError: The list names no sequence, or one that is not there.
        OSError: There are no files, or no such list.
    """
    from mamp_mmaction.datasets.conversion import find_files
    from mamp_mmaction.datasets.raw_files.msr_action3d import SUFFIX

    inner = raw_dir / 'real_world_coordinates'
    folder = inner if inner.is_dir() else raw_dir
    files = find_files(folder, f'*{SUFFIX}')
    if wanted is None:
        return files
    names = wanted.read_text(encoding='ascii', errors='replace').split()
    present = {path.name.removesuffix(SUFFIX): path for path in files}
    missing = [name for name in names if name not in present]
    if missing or not names:
        raise ValueError(
            f'{wanted}: names {len(names)} sequences, of which '
            f'{len(missing)} are not in {folder}: {missing[:5]}; expected '
            'lines such as a01_s01_e01.'
        )
    return [present[name] for name in dict.fromkeys(names)]


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'raw_dir',
        type=Path,
        help='folder of the files *_skeleton3D.txt, or the folder that '
        'holds it as real_world_coordinates',
    )
    parser.add_argument('out', help='annotation file to write (.pkl)')
    parser.add_argument(
        '--sequences',
        type=Path,
        metavar='FILE',
        help='convert only the sequences that this file names, one a line as '
        'a01_s01_e01 (the standard list has 557 of the 567); default: all',
    )
    parser.add_argument(
        '--num-workers',
        type=int,
        metavar='N',
        help='worker processes (default: the cores available)',
    )
    parser.add_argument(
        '--strict',
        action='store_true',
        help='stop at the first broken file instead of leaving it out',
    )
    return parser.parse_args(argv)


def main(argv=None) -> None:
    """Convert, and say what was kept and what was left out."""
    args = parse_args(argv)
    from mamp_mmaction.datasets.class_names import CLASS_NAMES
    from mamp_mmaction.datasets.conversion import convert
    from mamp_mmaction.datasets.raw_files.msr_action3d import read_sequence
    from mamp_mmaction.utils import errors_as_one_line

    with errors_as_one_line():
        convert(
            read_sequence,
            find_sequences(args.raw_dir, args.sequences),
            args.out,
            CLASS_NAMES['msr_action3d'],
            {'xsub': lambda name: int(name[5:7]) % 2 == 1},
            args.num_workers,
            args.strict,
        )


if __name__ == '__main__':
    main()
