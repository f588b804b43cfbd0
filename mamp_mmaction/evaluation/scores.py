"""The scores that a recogniser gave for a data set, as dumped by a test."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..utils.plain_pickle import load_plain_pickle


@dataclass
class Scores:
    """What ``test.py CONFIG CHECKPOINT --dump PATH`` wrote.

    Attributes:
        path (Path): The file.
        samples (list[dict]): Its content, N samples.
        names (list[str], optional): Their ``frame_dir``; None where one has
            none.
        labels (np.ndarray): Integers, (N,).
        scores (np.ndarray): Float64, (N, classes).
    """

    path: Path
    samples: list[dict]
    names: list[str] | None
    labels: np.ndarray
    scores: np.ndarray


def read_scores(path: str | Path) -> Scores:
    """Read and check such a file.

    Args:
        path (str | Path): The file.

    Returns:
        Scores: Its samples, names, labels and scores.

    Raises:
        OSError: It cannot be opened.
        ValueError: It holds something else, a score that is not finite, a
            label beyond the classes or several, or other numbers of classes.
    """
    samples = load_plain_pickle(path)
    if not isinstance(samples, list) or not samples:
        raise ValueError(
            f'{path}: holds {type(samples).__name__}, expected a list of '
            'samples as test.py --dump writes it.'
        )
    for index, sample in enumerate(samples):
        where = f'{path}: sample {index}'
        for key in ('pred_score', 'gt_label'):
            if not isinstance(sample, dict) or not torch.is_tensor(
                sample.get(key)
            ):
                raise ValueError(
                    f'{where} has no tensor {key!r}, which recognisers give '
                    'to every sample.'
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
                f'{where} has the label {label.tolist()}, expected one class '
                f'of 0 to {len(score) - 1}.'
            )
    sizes = sorted({len(sample['pred_score']) for sample in samples})
    if len(sizes) > 1:
        raise ValueError(
            f'{path}: the samples have {sizes} scores, expected the same '
            'number of classes for all.'
        )
    names = [sample.get('frame_dir') for sample in samples]
    scores = torch.stack([sample['pred_score'] for sample in samples])
    return Scores(
        path=Path(path),
        samples=samples,
        names=None if None in names else names,
        labels=np.array([sample['gt_label'].item() for sample in samples]),
        scores=scores.double().numpy(),
    )
