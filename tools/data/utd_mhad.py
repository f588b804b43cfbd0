"""Convert UTD-MHAD to the toolbox's annotation format.

The skeletons (27 actions, 8 subjects, 20 joints) are a MATLAB file a sequence,
aA_sS_tT_skeleton.mat (action, subject, trial), whose d_skel holds 20 joints of
x, y and z in metres in T frames. Written are the splits xsub_train (subjects
of odd number) and xsub_val. Coordinates stay as they are.
"""

import argparse
from pathlib import Path

SUFFIX = '_skeleton.mat'
NAME = r'a(\d+)_s(\d+)_t(\d+)_skeleton'
MOST = {'action': 27, 'subject': 8, 'trial': 4}


def read_sequence(path: Path):
    """Read one file, ``keypoint`` (1, T, 20, 3) in metres.

    Raises:
        ValueError: The file is not of the release's form.
        OSError: It cannot be opened.
    """
    from scipy.io import loadmat

    from mamp_mmaction.datasets.conversion import (
        RawFile,
        make_annotation,
        parse_name,
    )
    from mamp_mmaction.layouts import get_layout

    action = parse_name(path, NAME, MOST)['action']
    joints = get_layout('utd_mhad').num_joints
    with open(path, 'rb') as file:
        try:
            values = loadmat(file, variable_names=['d_skel'])['d_skel']
        except Exception as error:  # what a broken file raises is anything
            raise ValueError(
                f'{path}: has no d_skel that could be read ('
                f'{type(error).__name__}: {error}).'
            ) from error
    if values.ndim != 3 or values.shape[:2] != (joints, 3):
        raise ValueError(
            f'{path}: d_skel has the shape {values.shape}, expected ({joints},'
            ' 3, frames).'
        )
    if values.dtype.kind not in 'iuf':
        raise ValueError(f'{path}: d_skel is {values.dtype}, no numbers.')
    name = path.name.removesuffix(SUFFIX)
    keypoint = values.transpose(2, 0, 1)[None]
    return RawFile([make_annotation(name, action - 1, keypoint)])


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'raw_dir', type=Path, help=f'folder of the files *{SUFFIX}'
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
