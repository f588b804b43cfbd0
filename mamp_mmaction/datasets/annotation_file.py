"""The annotation file: the toolbox's pickle of splits and skeletons.

A file holds ``{'split': {name: [frame_dir, ...]}, 'annotations': [...]}``,
optionally with ``'classes'``, the class names. An annotation has at least
``frame_dir`` (its name), ``label``, ``total_frames`` (T) and ``keypoint``, a
float32 array (M, T, V, C) in the recording's units.
"""

import os
import pickle
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..utils import written_whole
from ..utils.plain_pickle import load_plain_pickle

REQUIRED_KEYS = ('frame_dir', 'label', 'total_frames', 'keypoint')


def write_annotations(
    path: str | Path,
    split: dict[str, Sequence[str]],
    annotations: Sequence[dict],
    classes: Sequence[str] | None = None,
) -> None:
    """Write an annotation file; on failure nothing is left under its name.

    Args:
        path (str or Path): The file, ending in ``.pkl``. Missing folders are
            created, an existing file is replaced.
        split (dict[str, list[str]]): The samples of each split by their
            ``frame_dir``.
        annotations (list[dict]): The samples, as the module describes them.
            More keys than those are kept.
        classes (list[str], optional): The class names in the order of the
            labels. Defaults to None.

    Raises:
        ValueError: The suffix is another, a split names an unknown sample,
            two samples bear one name, or a sample is not as described.
    """
    path = Path(path)
    if path.suffix != '.pkl':
        raise ValueError(
            f'{path}: the toolbox reads annotation files that end in .pkl; '
            f'found the suffix {path.suffix!r}.'
        )
    for annotation in annotations:
        _check_annotation(annotation, classes)
    _check_names(split, annotations)
    content = {
        'split': {name: list(samples) for name, samples in split.items()},
        'annotations': list(annotations),
    }
    if classes is not None:
        content['classes'] = list(classes)
    with written_whole(path) as temporary, open(temporary, 'wb') as file:
        pickle.dump(content, file, protocol=pickle.HIGHEST_PROTOCOL)


def read_annotations(path: str | Path) -> dict | list:
    """Read an annotation file, refusing what is no plain data in it.

    Args:
        path (str or Path): A file of the form that the module describes, or a
            pickled list of annotations without splits.

    Returns:
        dict or list: What the file holds, in either form.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no pickle, a pickle of something else, or one that
            asks for more than plain values and numpy arrays.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f'{path}: there is no such annotation file (working directory '
            f'{os.getcwd()}).'
        )
    content = load_plain_pickle(path)
    if not isinstance(content, list):
        _check_content(path, content)
    return content


def summarise(
    split: dict[str, Sequence[str]], annotations: Sequence[dict]
) -> str:
    """Say in a few lines what an annotation file holds.

    Args:
        split (dict[str, list[str]]): The samples of each split by name.
        annotations (list[dict]): The samples, at least one.

    Returns:
        str: Numbers of sequences, classes, persons, joints and frames.
    """
    shapes = [annotation['keypoint'].shape for annotation in annotations]
    labels = Counter(int(annotation['label']) for annotation in annotations)
    frames = [shape[1] for shape in shapes]
    per_class = sorted(labels.values())
    joints = sorted({f'{v} x {c}' for _, _, v, c in shapes})
    rows = [
        ('sequences', f'{len(annotations)}'),
        *((f'  {name}', f'{len(samples)}') for name, samples in split.items()),
        ('classes', f'{len(labels)}, {_span(per_class)} sequences each'),
        ('persons', _counts(Counter(shape[0] for shape in shapes))),
        ('joints x coordinates', ', '.join(joints)),
        ('frames', f'{_span(frames)}, median {np.median(frames):g}'),
    ]
    width = max(len(title) for title, _ in rows)
    return '\n'.join(f'{title:<{width}}  {text}' for title, text in rows)


def _span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f'{low}' if low == high else f'{low} to {high}'


def _counts(counter: Counter) -> str:
    return ', '.join(
        f'{k} in {n} sequences' for k, n in sorted(counter.items())
    )


def _check_annotation(annotation: dict, classes: Sequence[str] | None) -> None:
    """Raise ValueError unless an annotation is as the module describes it."""
    name = annotation.get('frame_dir')
    missing = [key for key in REQUIRED_KEYS if key not in annotation]
    if missing:
        raise ValueError(
            f'sample {name!r} lacks {missing}; every annotation has '
            f'{list(REQUIRED_KEYS)}.'
        )
    keypoint = annotation['keypoint']
    if not isinstance(keypoint, np.ndarray) or keypoint.dtype != np.float32:
        found = getattr(keypoint, 'dtype', type(keypoint).__name__)
        raise ValueError(
            f'sample {name!r}: keypoint is {found}, expected a numpy array of '
            'float32 (coarser types round away the motion between frames).'
        )
    if keypoint.ndim != 4 or 0 in keypoint.shape:
        raise ValueError(
            f'sample {name!r}: keypoint has the shape {keypoint.shape}, '
            'expected (persons, frames, joints, coordinates), none of them 0.'
        )
    if not np.isfinite(keypoint).all():
        raise ValueError(
            f'sample {name!r}: keypoint holds NaN or infinite values; write '
            'zeros for joints or persons that are absent.'
        )
    if annotation['total_frames'] != keypoint.shape[1]:
        raise ValueError(
            f'sample {name!r}: total_frames is {annotation["total_frames"]}, '
            f'but keypoint has {keypoint.shape[1]} frames.'
        )
    label = annotation['label']
    if not isinstance(label, (int, np.integer)) or label < 0:
        raise ValueError(
            f'sample {name!r}: label is {label!r}, expected an integer from 0.'
        )
    if classes is not None and label >= len(classes):
        raise ValueError(
            f'sample {name!r}: label is {label}, but there are '
            f'{len(classes)} classes (0 to {len(classes) - 1}).'
        )


def _check_names(
    split: dict[str, Sequence[str]], annotations: Sequence[dict]
) -> None:
    """Raise ValueError where names are ambiguous or name no sample."""
    names = Counter(annotation['frame_dir'] for annotation in annotations)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise ValueError(
            f'{len(twice)} frame_dir occur more than once, the first is '
            f'{twice[0]!r}; splits tell samples apart by it.'
        )
    for split_name, samples in split.items():
        unknown = [name for name in samples if name not in names]
        if unknown:
            raise ValueError(
                f'split {split_name!r} names {len(unknown)} samples that have '
                f'no annotation, the first is {unknown[0]!r}.'
            )


def _check_content(path: Path, content: object) -> None:
    """Raise ValueError unless a file's content has the toolbox's form."""
    form = "{'split': {name: [...]}, 'annotations': [...]} or a list"
    if not isinstance(content, dict):
        raise ValueError(
            f'{path}: holds a {type(content).__name__}, expected {form}.'
        )
    missing = [key for key in ('split', 'annotations') if key not in content]
    if missing:
        raise ValueError(
            f'{path}: lacks {missing} (it has {list(content)[:8]}), '
            f'expected {form}.'
        )
    for key, kind in (('split', dict), ('annotations', list)):
        if not isinstance(content[key], kind):
            raise ValueError(
                f'{path}: {key!r} is a {type(content[key]).__name__}, '
                f'expected {form}.'
            )
