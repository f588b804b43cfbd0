"""Say what features are worth: nearest neighbours and logistic regression.

Each TRAIN.npz is what ``extract_features.py --split train`` wrote. With
``--val``, one file of ``--split val`` for each, the classifiers are trained
on the one and tried on the other; so a probe takes seconds where training one
through the network takes epochs.

Without ``--val`` one subject at a time is left out: the classifiers are
trained on all others and tried on that one, and the table gives the share of
all samples that comes out right. So pre-trainings can be compared, and
settings chosen, without a look at the validation set. The subject is read
off a sample's name: ``P001`` in NTU RGB+D's, ``s01`` in MSR-Action3D's;
--subject takes other names.
"""

import argparse
import re
from pathlib import Path


def parse_args(argv=None):
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('files', nargs='+', type=Path, metavar='TRAIN.npz')
    parser.add_argument(
        '--val',
        nargs='+',
        type=Path,
        metavar='VAL.npz',
        help='validation features, one file for each TRAIN.npz',
    )
    parser.add_argument(
        '--subject',
        default=r'(?:P|_s)(\d+)',
        help='regular expression whose group is the subject in a name '
        '(default: %(default)s)',
    )
    parser.add_argument(
        '--neighbours', type=int, default=1, help='that vote (default: 1)'
    )
    parser.add_argument(
        '--weight-decay',
        type=float,
        default=1e-2,
        help='of the logistic regression (default: %(default)s)',
    )
    args = parser.parse_args(argv)
    if args.val and len(args.val) != len(args.files):
        parser.error(
            f'--val has {len(args.val)} files for {len(args.files)} of '
            'training features; expected one each'
        )
    try:
        groups = re.compile(args.subject).groups
    except re.error as error:
        parser.error(f'--subject {args.subject!r}: {error}')
    if groups != 1:
        parser.error(f'--subject {args.subject!r} has not one group')
    return args


def subjects(path, names, pattern):
    """The subject of every sample, as names tell."""
    matches = [re.search(pattern, name) for name in names]
    for name, match in zip(names, matches):
        if match is None:
            raise ValueError(
                f'{path}: nothing in the name {name!r} matches {pattern!r}: '
                'tell by --subject where its subject stands.'
            )
    found = [match.group(1) for match in matches]
    if len(set(found)) < 2:
        raise ValueError(
            f"{path}: all {len(names)} samples are of subject '{found[0]}'; "
            'to leave one out there must be two or more.'
        )
    return found


def leave_one_out(x, y, groups):
    """Training and validation sets, one pair for each group."""
    try:
        from sklearn.model_selection import LeaveOneGroupOut
    except ImportError as error:
        raise ValueError(
            'Leaving out one subject at a time needs scikit-learn: '
            "pip install 'mamp-mmaction[probes]', or give --val."
        ) from error
    splits = LeaveOneGroupOut().split(x, y, groups)
    return ((x[a], y[a], x[b], y[b]) for a, b in splits)


def accuracies(sets, neighbours, weight_decay):
    """Shares of all validation samples that both classifiers get right."""
    import torch

    from mamp_mmaction.evaluation.probes import knn_accuracy, linear_accuracy

    right, count = [0, 0], 0
    for arrays in sets:
        tensors = [torch.from_numpy(array) for array in arrays]
        right[0] += len(arrays[-1]) * knn_accuracy(*tensors, k=neighbours)
        right[1] += len(arrays[-1]) * linear_accuracy(*tensors, weight_decay)
        count += len(arrays[-1])
    return count, [share / count for share in right]


def run(args):
    """Print the table."""
    from mamp_mmaction.evaluation.extraction import read_features
    from mamp_mmaction.utils import markdown_table

    rows = []
    for place, path in enumerate(args.files):
        x, y, names = read_features(path)
        if args.val:
            val_x, val_y, _ = read_features(args.val[place])
            sets = [(x, y, val_x, val_y)]
        else:
            groups = subjects(path, names, args.subject)
            sets = leave_one_out(x, y, groups)
        try:
            count, shares = accuracies(
                sets, args.neighbours, args.weight_decay
            )
        except ValueError as error:
            raise ValueError(f'{path}: {error}') from error
        rows.append((path.stem, count, *(f'{100 * x:.1f} %' for x in shares)))
    header = ('features', 'samples', 'nearest neighbours', 'linear')
    print(markdown_table(header, rows))


def main(argv=None):
    """Run the command."""
    args = parse_args(argv)
    from mamp_mmaction.utils import errors_as_one_line

    with errors_as_one_line():
        run(args)


if __name__ == '__main__':
    main()
