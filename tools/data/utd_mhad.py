"""Convert UTD-MHAD to the toolbox's annotation format.

The skeletons (27 actions, 8 subjects, 20 joints) are a MATLAB file a sequence,
aA_sS_tT_skeleton.mat (action, subject, trial), whose d_skel holds 20 joints of
x, y and z in metres in T frames. Written are the splits xsub_train (subjects
of odd number) and xsub_val. Coordinates stay as they are.
"""

import argparse
from pathlib import Path


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'raw_dir', type=Path, help='folder of the files *_skeleton.mat'
    )
    parser.add_argument('out', help='annotation file to write (.pkl)')
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
    from mamp_mmaction.datasets.conversion import convert, find_files
    from mamp_mmaction.datasets.raw_files.utd_mhad import (
        SUFFIX,
        read_sequence,
    )
    from mamp_mmaction.utils import errors_as_one_line

    with errors_as_one_line():
        convert(
            read_sequence,
            find_files(args.raw_dir, f'*{SUFFIX}'),
            args.out,
            CLASS_NAMES['utd_mhad'],
            {
                'xsub': lambda name: (
                    int(name.split('_s')[1].split('_')[0]) % 2 == 1
                )
            },
            args.num_workers,
            args.strict,
        )


if __name__ == '__main__':
    main()
