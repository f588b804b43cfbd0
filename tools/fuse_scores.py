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
import codecs
import io
import os
import pickle
import sys
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import mmengine
import numpy as np
import torch
from mmaction.evaluation.functional import (
    get_weighted_score,
    mean_class_accuracy,
    softmax,
    top_k_accuracy,
)

SUFFIXES = ('.pkl', '.pickle')


@dataclass
class Stream:
    """The scores in one dump.

    Attributes:
        path (Path): The dump.
        samples (list[dict]): Its N samples as they were dumped.
        names (list[str], optional): Their names; None where any lacks one.
        labels (np.ndarray): Their labels, (N,).
        scores (np.ndarray): Their scores, (N, num_classes).
    """

    path: Path
    samples: list[dict]
    names: list[str] | None
    labels: np.ndarray
    scores: np.ndarray

    def take(self, order: Sequence[int]) -> 'Stream':
        """Return the stream with its samples in another order."""
        return replace(
            self,
            samples=[self.samples[i] for i in order],
            names=[self.names[i] for i in order],
            labels=self.labels[order],
            scores=self.scores[order],
        )

    @property
    def are_probabilities(self) -> bool:
        """Whether the scores of every sample are positive and sum to 1."""
        total = self.scores.sum(axis=1)
        return bool(
            (self.scores >= 0).all() and np.allclose(total, 1, atol=1e-3)
        )


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
        if args.out.suffix not in SUFFIXES:
            parser.error(f'--out {args.out} does not end in .pkl')
        if args.out.resolve() in [dump.resolve() for dump in args.dumps]:
            parser.error(f'--out {args.out} is one of the dumps')
    return args


def read_stream(path: Path) -> Stream:
    """Read one dump.

    Args:
        path (Path): The dump.

    Returns:
        Stream: Its scores, labels and names.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no dump of a classifier's scores.
    """
    samples = _unpickle(path)
    if not isinstance(samples, list) or not samples:
        raise ValueError(
            f'{path}: holds {type(samples).__name__}, expected a list of '
            'samples as test.py --dump writes it.'
        )
    for index, sample in enumerate(samples):
        _check_sample(f'{path}: sample {index}', sample)
    sizes = Counter(len(sample['pred_score']) for sample in samples)
    if len(sizes) > 1:
        raise ValueError(
            f'{path}: the samples have {sorted(sizes)} scores, expected the '
            'same number of classes for all.'
        )
    names = [sample.get('frame_dir') for sample in samples]
    return Stream(
        path=path,
        samples=samples,
        names=None if None in names else names,
        labels=np.array([sample['gt_label'].item() for sample in samples]),
        scores=np.array(
            [sample['pred_score'].numpy() for sample in samples], np.float64
        ),
    )


def match(streams: Sequence[Stream]) -> tuple[list[Stream], str]:
    """Bring the samples of all streams into the order of the first.

    Args:
        streams (list[Stream]): The streams.

    Returns:
        tuple[list[Stream], str]: The streams, and by what their samples were
        matched.

    Raises:
        ValueError: They hold different samples, labels or classes.
    """
    first = streams[0]
    for other in streams[1:]:
        if other.scores.shape[1] != first.scores.shape[1]:
            raise ValueError(
                f'{other.path} has {other.scores.shape[1]} classes, '
                f'{first.path} {first.scores.shape[1]}; expected dumps of '
                'one data set.'
            )
    nameless = [stream for stream in streams if stream.names is None]
    if nameless:
        how = (
            f'place in the file, as {nameless[0].path} has no names '
            "(PackActionInputs(meta_keys=('frame_dir',)) adds them)"
        )
        matched = [_match_by_place(first, other) for other in streams]
    else:
        how = 'name'
        matched = [_match_by_name(first, other) for other in streams]
    for other in matched[1:]:
        _check_labels(matched[0], other)
    return matched, how


def fuse(
    streams: Sequence[Stream], weights: Sequence[float], apply_softmax: bool
) -> np.ndarray:
    """Add up the scores of matched streams.

    Args:
        streams (list[Stream]): The streams, samples in the same order.
        weights (list[float]): A weight for each.
        apply_softmax (bool): Turn scores into probabilities first.

    Returns:
        np.ndarray: Fused scores of shape (N, num_classes).

    Raises:
        ValueError: Some streams hold probabilities, others raw scores.
    """
    kinds = {}
    for stream in streams:
        kinds.setdefault(stream.are_probabilities, stream.path)
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


def accuracies(scores: np.ndarray, labels: np.ndarray) -> list[float]:
    """Top-1, top-5 and mean class accuracy of scores (N, num_classes)."""
    return [
        *top_k_accuracy(scores, labels, (1, 5)),
        mean_class_accuracy(scores, labels),
    ]


def print_table(
    streams: Sequence[Stream], weights: Sequence[float], fused: np.ndarray
) -> None:
    """Print the accuracy of each stream and of the fused scores.

    Args:
        streams (list[Stream]): The streams.
        weights (list[float]): Their weights.
        fused (np.ndarray): Fused scores of shape (N, num_classes).
    """
    rows = [
        (str(stream.path), f'{weight:g}', stream.scores)
        for stream, weight in zip(streams, weights)
    ]
    rows.append(('fused', '', fused))
    width = max(len(title) for title, _, _ in rows)
    heads = ('weight', 'top-1', 'top-5', 'mean class')
    print(' ' * width, *(f'{head:>10}' for head in heads))
    for title, weight, scores in rows:
        rates = accuracies(scores, streams[0].labels)
        cells = [weight, *(f'{100 * rate:.2f} %' for rate in rates)]
        print(f'{title:<{width}}', *(f'{cell:>10}' for cell in cells))


def write_dump(path: Path, stream: Stream, scores: np.ndarray) -> None:
    """Write fused scores as a dump, complete or not at all.

    Args:
        path (Path): The file.
        stream (Stream): Whose samples these are.
        scores (np.ndarray): Scores of shape (N, num_classes).
    """
    fused = torch.from_numpy(scores).float()
    samples = [
        dict(
            sample,
            pred_score=score.clone(),  # else each would drag all along
            pred_label=score.argmax(dim=0, keepdim=True),
        )
        for sample, score in zip(stream.samples, fused)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        mmengine.dump(samples, str(temporary), file_format='pkl')
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def main(argv=None):
    """Run the command."""
    args = parse_args(argv)
    try:
        streams, how = match([read_stream(path) for path in args.dumps])
        fused = fuse(streams, args.weights, args.apply_softmax)
        print(f'{len(fused)} samples, matched by {how}')
        print_table(streams, args.weights, fused)
        if args.out is not None:
            write_dump(args.out, streams[0], fused)
            print(f'Wrote {args.out}.')
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from error


def _check_sample(where: str, sample: object) -> None:
    """Raise ValueError unless it has scores of classes and one label."""
    for key in ('pred_score', 'gt_label'):
        if not isinstance(sample, dict) or not torch.is_tensor(
            sample.get(key)
        ):
            raise ValueError(
                f'{where} has no tensor {key!r}, which recognisers give to '
                'every sample.'
            )
    score, label = sample['pred_score'], sample['gt_label']
    if score.ndim != 1:
        raise ValueError(
            f'{where} has scores of shape {tuple(score.shape)}, expected '
            "(classes,): set the head's average_clips to 'prob'."
        )
    if not score.isfinite().all():
        raise ValueError(f'{where} has scores that are NaN or infinite.')
    if label.numel() != 1 or not 0 <= label.item() < len(score):
        raise ValueError(
            f'{where} has the label {label.tolist()}, expected one class of '
            f'0 to {len(score) - 1}.'
        )


def _match_by_place(first: Stream, other: Stream) -> Stream:
    if len(other.samples) != len(first.samples):
        raise ValueError(
            f'{other.path} has {len(other.samples)} samples, {first.path} '
            f'{len(first.samples)}; expected dumps of the same split.'
        )
    return other


def _match_by_name(first: Stream, other: Stream) -> Stream:
    places = {name: place for place, name in enumerate(other.names)}
    if len(places) < len(other.names):
        twice = Counter(other.names).most_common(1)[0][0]
        raise ValueError(f'{other.path} has more than one sample {twice!r}.')
    for one, two in ((first, other), (other, first)):
        missing = set(one.names) - set(two.names)
        if missing:
            raise ValueError(
                f'{two.path} lacks {len(missing)} of the samples of '
                f'{one.path}, such as {min(missing)!r}; expected dumps of '
                'the same split.'
            )
    return other.take([places[name] for name in first.names])


def _check_labels(first: Stream, other: Stream) -> None:
    """Raise ValueError where two streams disagree about a label."""
    differ = np.flatnonzero(first.labels != other.labels)
    if differ.size:
        place = differ[0]
        names = first.names or range(len(first.labels))
        raise ValueError(
            f'{differ.size} samples have other labels in {other.path} than '
            f'in {first.path}: sample {names[place]!r} has '
            f'{other.labels[place]} and {first.labels[place]}. The dumps are '
            'of different samples, orders or labels.'
        )


def _unpickle(path: Path) -> object:
    with open(path, 'rb') as file:
        try:
            return _DumpUnpickler(file).load()
        except _RefusedGlobalError as error:
            raise ValueError(
                f'{path}: refused, since it asks for {error}. A dump of '
                'scores holds tensors, strings and numbers only.'
            ) from None
        except Exception as error:  # what a broken pickle raises is anything
            raise ValueError(
                f'{path}: cannot be read as a pickle '
                f'({type(error).__name__}: {error}).'
            ) from error


class _RefusedGlobalError(Exception):
    """A pickle names something that no dump of scores needs."""


def _storage_from_bytes(data: bytes) -> torch.UntypedStorage:
    return torch.load(io.BytesIO(data), weights_only=True)


# torch's own _load_from_bytes would run what the bytes say.
_ALLOWED_GLOBALS = {
    'torch._utils._rebuild_tensor_v2': torch._utils._rebuild_tensor_v2,
    'torch.storage._load_from_bytes': _storage_from_bytes,
    'collections.OrderedDict': OrderedDict,
    '_codecs.encode': codecs.encode,  # bytes, below pickle protocol 3
}


class _DumpUnpickler(pickle.Unpickler):
    """Unpickles tensors and plain values, refuses everything else."""

    def find_class(self, module: str, name: str) -> object:
        """Look a global up in the allowed ones instead of importing it."""
        key = f'{module}.{name}'
        if key not in _ALLOWED_GLOBALS:
            raise _RefusedGlobalError(key)
        return _ALLOWED_GLOBALS[key]


if __name__ == '__main__':
    main()
