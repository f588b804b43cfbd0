"""Convert Northwestern-UCLA to the toolbox's annotation format.

The skeletons (10 actions, 10 subjects, 3 views, 20 joints) are a JSON file a
sequence, aAA_sSS_eEE_vVV.json (action, subject, repetition, view), whose
skeletons are T frames of 20 joints of x, y and z in metres. Written are the
splits xview_train (views 1 and 2) and xview_val (view 3). Coordinates stay as
they are; sequences of a single frame stay, too.
"""

import argparse
from pathlib import Path


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'raw_dir', type=Path, help='folder of the files *.json (all_sqe)'
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
    from mamp_mmaction.datasets.raw_files.nw_ucla import read_sequence
    from mamp_mmaction.utils import errors_as_one_line

    with errors_as_one_line():
        convert(
            read_sequence,
            find_files(args.raw_dir, '*.json'),
            args.out,
            CLASS_NAMES['nw_ucla'],
            {'xview': lambda name: name[-3:] in ('v01', 'v02')},
            args.num_workers,
            args.strict,
        )


if __name__ == '__main__':
    main()
