"""Compare features by leaving out one performer at a time.

Each FEATURES.npz is what ``extract_features.py --split train`` wrote. For
every performer, nearest neighbours and logistic regression are trained on all
others and tried on that one; the table gives the share of all samples that
comes out right. So pre-trainings can be compared, and settings chosen,
without a look at the validation set.

The performer is read off a sample's name: ``P001`` in NTU RGB+D's, ``s01`` in
MSR-Action3D's; --performer takes other names.
"""

import argparse
import re
from pathlib import Path

import numpy as np
import torch

from mamp_mmaction.evaluation.probes import knn_accuracy, linear_accuracy

PERFORMER = r'(?:P|_s)(\d+)'


def parse_args(argv=None):
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('files', nargs='+', type=Path, metavar='FEATURES.npz')
    parser.add_argument(
        '--performer',
        default=PERFORMER,
        help='regular expression whose group is the performer in a name '
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
    return parser.parse_args(argv)


def read_features(
    path: Path,
) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Read pooled features with labels and names.

    Args:
        path (Path): File by ``extract_features.py``.

    Returns:
        tuple: Features (N, D), labels (N,), N names.

    Raises:
        ValueError: If the file has no such arrays.
    """
    with np.load(path) as file:
        absent = {'features', 'labels', 'names'} - set(file.files)
        if absent:
            raise ValueError(
                f'{path} has the arrays {sorted(file.files)}, but lacks '
                f'{sorted(absent)}: write it by tools/extract_features.py '
                'from a data set with labels.'
            )
        features, labels = file['features'], file['labels']
        names = file['names'].tolist()
    if features.ndim != 2 or labels.ndim != 1:
        raise ValueError(
            f'{path} has features {features.shape} and labels '
            f'{labels.shape}; expected one vector and one label a sample '
            '(no --per-token).'
        )
    return torch.from_numpy(features), torch.from_numpy(labels), names


def performers(names: list[str], pattern: str) -> np.ndarray:
    """The performer of every sample.

    Args:
        names (list[str]): N names.
        pattern (str): Regular expression with one group.

    Returns:
        np.ndarray: Strings, (N,).

    Raises:
        ValueError: If a name does not tell, or all tell the same.
    """
    matches = [re.search(pattern, name) for name in names]
    for name, match in zip(names, matches):
        if match is None:
            raise ValueError(
                f'Nothing in the name {name!r} matches {pattern!r}: tell by '
                '--performer where its performer stands.'
            )
    found = np.array([match.group(1) for match in matches])
    if len(set(found)) < 2:
        raise ValueError(
            f"All {len(names)} samples are of performer '{found[0]}'; to "
            'leave one out there must be two or more.'
        )
    return found


def leave_one_out(
    x: torch.Tensor,
    y: torch.Tensor,
    groups: np.ndarray,
    neighbours: int = 1,
    weight_decay: float = 1e-2,
) -> tuple[float, float]:
    """Accuracies on each group of classifiers trained on all others.

    Args:
        x (torch.Tensor): Features, (N, D).
        y (torch.Tensor): Labels, (N,).
        groups (np.ndarray): Group of each sample, (N,).
        neighbours (int): Neighbours that vote. Defaults to 1.
        weight_decay (float): Of the logistic regression. Defaults to 1e-2.

    Returns:
        tuple[float]: Shares of all samples that nearest neighbours and
        logistic regression classify correctly.
    """
    correct = np.zeros(2)
    for group in np.unique(groups):
        out = torch.from_numpy(groups == group)
        sets = x[~out], y[~out], x[out], y[out]
        accuracies = (
            knn_accuracy(*sets, k=neighbours),
            linear_accuracy(*sets, weight_decay=weight_decay),
        )
        correct += out.sum().item() * np.array(accuracies)
    return tuple(correct / len(y))


def main(argv=None):
    """Run the command."""
    args = parse_args(argv)
    lines = ['| features | samples | nearest neighbours | linear |']
    lines.append('| --- | --- | --- | --- |')
    for path in args.files:
        try:
            x, y, names = read_features(path)
            groups = performers(names, args.performer)
            knn, linear = leave_one_out(
                x, y, groups, args.neighbours, args.weight_decay
            )
        except (ValueError, OSError) as error:
            raise SystemExit(f'error: {path}: {error}') from error
        lines.append(
            f'| {path.stem} | {len(y)} | {100 * knn:.1f} % | '
            f'{100 * linear:.1f} % |'
        )
    print('\n'.join(lines))


if __name__ == '__main__':
    main()
