"""Convert Northwestern-UCLA to the toolbox's annotation format.

The skeletons (10 actions, 10 subjects, 3 views, 20 joints) are a JSON file a
sequence, aAA_sSS_eEE_vVV.json (action, subject, repetition, view), whose
skeletons are T frames of 20 joints of x, y and z in metres. Written are the
splits xview_train (views 1 and 2) and xview_val (view 3). Coordinates stay as
they are; sequences of a single frame stay, too.
"""

import argparse
from pathlib import Path

NAME = r'a(\d\d)_s(\d\d)_e\d\d_v(\d\d)'
MOST = {'action': 12, 'subject': 10, 'view': 3}
ACTIONS = (1, 2, 3, 4, 5, 6, 8, 9, 11, 12)  # in the order of the labels


def read_sequence(path: Path):
    """Read one file, ``keypoint`` (1, T, 20, 3) in metres.

    Raises:
        ValueError: The file is not of the form of the others.
    """
    import json

    import numpy as np

    from mamp_mmaction.datasets.conversion import (
        RawFile,
        make_annotation,
        parse_name,
    )
    from mamp_mmaction.layouts import get_layout

    action = parse_name(path, NAME, MOST)['action']
    if action not in ACTIONS:
        raise ValueError(f'{path}: no action {action}, expected {ACTIONS}.')
    joints = get_layout('nw_ucla').num_joints
    try:
        content = json.loads(path.read_bytes())
        frames = np.array(content['skeletons'], np.float64)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(
            f'{path}: has no skeletons that could be read ('
            f'{type(error).__name__}: {error}).'
        ) from error
    if frames.shape[1:] != (joints, 3):
        raise ValueError(
            f'{path}: skeletons have the shape {frames.shape}, expected '
            f'(frames, {joints}, 3).'
        )
    return RawFile(
        [make_annotation(path.stem, ACTIONS.index(action), frames[None])]
    )


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
