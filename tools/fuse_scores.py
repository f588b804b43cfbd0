"""Fuse the scores of several models, such as the streams of a skeleton.

DUMP is what the toolbox's ``test.py CONFIG CHECKPOINT --dump DUMP`` writes.
Scores of one sample are added with the weights given.

The toolbox's ``report_accuracy.py`` does that for dumps that list the same
samples in the same order and prints the accuracy of the sum. This tool is for
dumps of different configs and preparations: it brings the samples into one
order by their names, makes sure that their labels agree, prints every
stream's accuracy beside that of the sum, and can write the sum as a dump.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path


def parse_args(argv=None):
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'dumps',
        nargs='+',
        type=Path,
        metavar='DUMP',
        help='scores of one model each',
    )
    parser.add_argument(
        '--weights',
        nargs='+',
        type=float,
        metavar='W',
        help='one number a dump (default: 1 each)',
    )
    parser.add_argument(
        '--apply-softmax',
        action='store_true',
        help='make probabilities of the scores first: for dumps of raw '
        "scores (average_clips='score')",
    )
    parser.add_argument(
        '--out',
        type=Path,
        help='file, .pkl, for the fused scores, in the form of a dump',
    )
    args = parser.parse_args(argv)
    args.weights = args.weights or [1.0] * len(args.dumps)
    if len(args.weights) != len(args.dumps):
        parser.error(
            f'--weights has {len(args.weights)} numbers for '
            f'{len(args.dumps)} dumps; expected one each'
        )
    if args.out is not None:
        if args.out.suffix not in ('.pkl', '.pickle'):
            parser.error(f'--out {args.out} does not end in .pkl')
        if args.out.resolve() in [dump.resolve() for dump in args.dumps]:
            parser.error(f'--out {args.out} is one of the dumps')
    return args


def match(streams):
    """Bring all samples into the order of the first stream.

    Returns by what they were matched. Raises ValueError where samples, labels
    or classes differ.
    """
    first, *others = streams
    nameless = [stream for stream in streams if stream.names is None]
    for other in others:
        if other.scores.shape[1] != first.scores.shape[1]:
            raise ValueError(
                f'{other.path} has {other.scores.shape[1]} classes, '
                f'{first.path} {first.scores.shape[1]}; expected dumps of '
                'one data set.'
            )
        if not nameless:
            match_by_name(first, other)
        elif len(other.samples) != len(first.samples):
            raise ValueError(
                f'{other.path} has {len(other.samples)} samples, {first.path} '
                f'{len(first.samples)}; expected dumps of the same split.'
            )
        (differ,) = (first.labels != other.labels).nonzero()
        if differ.size:
            place = differ[0]
            name = first.names[place] if first.names else place
            raise ValueError(
                f'{differ.size} samples have other labels in {other.path} '
                f'than in {first.path}: sample {name!r} has '
                f'{other.labels[place]} and {first.labels[place]}. The dumps '
                'are of different samples, orders or labels.'
            )
    if nameless:
        return (
            f'place in the file, as {nameless[0].path} has no names '
            "(PackActionInputs(meta_keys=('frame_dir',)) adds them)"
        )
    return 'name'


def match_by_name(first, other):
    """Bring a stream's samples into the order of another's names."""
    for stream in (first, other):
        (name, count), *_ = Counter(stream.names).most_common(1)
        if count > 1:
            raise ValueError(
                f'{stream.path} has more than one sample {name!r}.'
            )
    for one, two in ((first, other), (other, first)):
        missing = set(one.names) - set(two.names)
        if missing:
            raise ValueError(
                f'{two.path} lacks {len(missing)} of the samples of '
                f'{one.path}, such as {min(missing)!r}; expected dumps of '
                'the same split.'
            )
    places = {name: place for place, name in enumerate(other.names)}
    order = [places[name] for name in first.names]
    other.labels, other.scores = other.labels[order], other.scores[order]


def fuse(streams, weights, apply_softmax):
    """Add up the scores of matched streams, to (N, classes)."""
    import numpy as np
    from mmaction.evaluation.functional import get_weighted_score, softmax

    kinds = {}  # whether they are probabilities: such a file
    for stream in streams:
        is_one = np.allclose(stream.scores.sum(axis=1), 1, atol=1e-3)
        is_one = bool(is_one and (stream.scores >= 0).all())
        kinds.setdefault(is_one, stream.path)
    if len(kinds) > 1:
        raise ValueError(
            f'{kinds[True]} holds probabilities, {kinds[False]} raw scores, '
            'which are of another size: dump all with the same '
            "average_clips of the head, such as 'prob'."
        )
    scores = [stream.scores for stream in streams]
    if apply_softmax:
        if True in kinds:
            print(
                f'Note: {kinds[True]} holds probabilities already; '
                '--apply-softmax makes them nearly equal.',
                file=sys.stderr,
            )
        scores = [softmax(score) for score in scores]
    return np.array(get_weighted_score(scores, weights))


def accuracies(scores, labels):
    """Top-1, top-5 and mean class accuracy, as cells of the table."""
    from mmaction.evaluation.functional import (
        mean_class_accuracy,
        top_k_accuracy,
    )

    rates = (
        *top_k_accuracy(scores, labels, (1, 5)),
        mean_class_accuracy(scores, labels),
    )
    return [f'{100 * rate:.2f} %' for rate in rates]


def write_dump(path, samples, scores):
    """Write fused scores as a dump of these samples."""
    import mmengine
    import torch

    from mamp_mmaction.utils import written_whole

    fused = [
        dict(
            sample,
            pred_score=score.clone(),  # else each would drag all along
            pred_label=score.argmax(dim=0, keepdim=True),
        )
        for sample, score in zip(samples, torch.from_numpy(scores).float())
    ]
    with written_whole(path) as temporary:
        mmengine.dump(fused, str(temporary), file_format='pkl')


def run(args):
    """Fuse, and print the accuracy of each stream and of the sum."""
    from mamp_mmaction.evaluation.scores import read_scores
    from mamp_mmaction.utils import markdown_table

    streams = [read_scores(path) for path in args.dumps]
    how = match(streams)
    fused = fuse(streams, args.weights, args.apply_softmax)
    labels = streams[0].labels
    print(f'{len(fused)} samples, matched by {how}\n')
    rows = [
        (stream.path, f'{weight:g}', *accuracies(stream.scores, labels))
        for stream, weight in zip(streams, args.weights)
    ]
    rows.append(('fused', None, *accuracies(fused, labels)))
    header = ('scores', '>weight', '>top-1', '>top-5', '>mean class')
    print(markdown_table(header, rows))
    if args.out is not None:
        write_dump(args.out, streams[0].samples, fused)
        print(f'\nWrote {args.out}.')


def main(argv=None):
    """Run the command."""
    args = parse_args(argv)
    from mamp_mmaction.utils import errors_as_one_line

    with errors_as_one_line():
        run(args)


if __name__ == '__main__':
    main()
