"""The annotation file: the toolbox's pickle of splits and skeletons.

A file holds ``{'split': {name: [frame_dir, ...]}, 'annotations': [...]}``,
optionally with ``'classes'``, the class names. An annotation has at least
``frame_dir`` (its name), ``label``, ``total_frames`` (T) and ``keypoint``, a
float32 array (M, T, V, C) in the recording's units, no number beyond 1e6.
"""

import os
import pickle
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..utils import written_whole
from ..utils.plain_pickle import load_plain_pickle
from .sample_name import sample_name

# Larger numbers are no position in metres, millimetres or pixels, and their
# squares make losses infinite.
LARGEST_COORDINATE = 1e6
# A recording of more persons than frames is one of transposed axes, unless
# both are few.
MOST_PERSONS = 8
# Metres of a body along its longest axis, arms spread or sitting.
MIN_BODY, MAX_BODY = 0.5, 2.5
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
            two samples bear one name, or a sample, a split or the classes
            are not as described.
    """
    path = Path(path)
    if path.suffix != '.pkl':
        raise ValueError(
            f'{path}: the toolbox reads annotation files that end in .pkl; '
            f'found the suffix {path.suffix!r}.'
        )
    content = {
        'split': split,
        'annotations': list(annotations),
        'classes': classes,
    }
    _check_content(path, content)
    content['split'] = {
        name: _list_names(samples, f'{path}: split {name!r}')
        for name, samples in split.items()
    }
    known = set(sample_names(annotations, str(path)))
    num_classes = len(content.get('classes', ())) or None
    for annotation in annotations:
        where = f'{path}: {sample_name(annotation)}'
        check_annotation(annotation, where, num_classes)
        if annotation['keypoint'].dtype != np.float32:
            raise ValueError(
                f'{where} has a keypoint of {annotation["keypoint"].dtype}, '
                'expected float32 (coarser types round away the motion '
                'between frames).'
            )
    for name, samples in content['split'].items():
        unknown = [sample for sample in samples if sample not in known]
        if unknown:
            raise ValueError(
                f'{path}: split {name!r} names {len(unknown)} samples that '
                f'have no annotation, the first is {unknown[0]!r}.'
            )
    with written_whole(path) as temporary, open(temporary, 'wb') as file:
        pickle.dump(content, file, protocol=pickle.HIGHEST_PROTOCOL)


def read_annotations(path: str | Path) -> dict | list:
    """Read an annotation file, refusing what is no plain data in it.

    Args:
        path (str or Path): A file of the form that the module describes, or a
            pickled list of annotations without splits.

    Returns:
        dict or list: What the file holds, in either form; ``'classes'``, if
        there are any, is a list.

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


def check_annotation(
    annotation: dict,
    where: str,
    num_classes: int | None = None,
    multi_class: bool = False,
    keys: Sequence[str] = REQUIRED_KEYS,
) -> None:
    """Check what would fail later, or worse, be trained on, in one sample.

    Args:
        annotation (dict): The sample, as the module describes it. Any
            floating or integer type will do for its ``keypoint``. A
            ``keypoint_score`` that is None is removed, lists become an array.
        where (str): File and sample, to begin an error's message.
        num_classes (int, optional): Labels are below this number. Defaults
            to None, any.
        multi_class (bool): The label is a list of labels. Defaults to False.
        keys (Sequence[str]): What an annotation must have. Defaults to all
            that the module names.

    Raises:
        ValueError: Something is missing, of another type or shape, not
            finite, beyond :data:`LARGEST_COORDINATE`, or contradictory.
    """
    if not isinstance(annotation, dict):
        raise ValueError(
            f'{where} is a {type(annotation).__name__}, expected a dict with '
            f'{list(keys)}.'
        )
    missing = [key for key in keys if key not in annotation]
    if missing:
        raise ValueError(
            f'{where} has the keys {sorted(annotation, key=str)}, but lacks '
            f'{missing}; expected at least {list(keys)}.'
        )
    if 'keypoint' in annotation:
        _check_keypoint(annotation, where)
    if 'label' in annotation:
        label = annotation['label']
        for one in np.atleast_1d(label).tolist() if multi_class else [label]:
            _check_label(one, where, num_classes)


def body_size(keypoint: np.ndarray) -> float | None:
    """Return how long a body is along its longest axis.

    Args:
        keypoint (np.ndarray): Shape (M, T, V, C).

    Returns:
        float: The median over all bodies, in the unit of ``keypoint``; None
        where there is nobody.
    """
    bodies = keypoint[keypoint.any(axis=(2, 3))].astype(float)
    if not len(bodies):
        return None
    return float(np.median(np.ptp(bodies, axis=1).max(axis=1)))


def _check_keypoint(annotation: dict, where: str) -> None:
    keypoint = annotation['keypoint']
    form = '(persons, frames, joints, coordinates)'
    if (
        not isinstance(keypoint, np.ndarray)
        or keypoint.dtype.kind not in 'fiu'
    ):
        found = getattr(keypoint, 'dtype', type(keypoint).__name__)
        raise ValueError(
            f'{where} has a keypoint of {found}, expected a numpy array of '
            'floats.'
        )
    if keypoint.ndim != 4 or 0 in keypoint.shape:
        raise ValueError(
            f'{where} has a keypoint of the shape {keypoint.shape}, expected '
            f'{form}, none of them 0.'
        )
    persons, frames = keypoint.shape[:2]
    stated = annotation.get('total_frames', frames)
    if isinstance(stated, bool) or stated != frames:
        raise ValueError(
            f'{where} has total_frames {stated!r}, but its keypoint of the '
            f'shape {keypoint.shape} has {frames} frames: it is {form}.'
        )
    if persons > max(frames, MOST_PERSONS):
        raise ValueError(
            f'{where} has {persons} persons in {frames} frames, by the shape '
            f'{keypoint.shape} of its keypoint: it is {form}; transpose it.'
        )
    largest = _check_numbers(keypoint, where, 'keypoint')
    if largest == 0:
        raise ValueError(
            f'{where} has no valid frame: all coordinates of its keypoint of '
            f'the shape {keypoint.shape} are zero. Remove it.'
        )
    score = annotation.pop('keypoint_score', None)
    if score is not None:
        try:
            score = np.asarray(score)
        except ValueError:
            raise ValueError(
                f'{where} has a keypoint_score of lists of several lengths, '
                f'expected an array of the shape {keypoint.shape[:3]}.'
            ) from None
        if score.shape != keypoint.shape[:3]:
            raise ValueError(
                f'{where} has a keypoint_score of the shape '
                f'{score.shape}, expected {keypoint.shape[:3]}.'
            )
        _check_numbers(score, where, 'keypoint_score')
        annotation['keypoint_score'] = score


def _check_numbers(values: np.ndarray, where: str, key: str) -> float:
    """Return the largest magnitude, which must be within the limit."""
    if values.dtype.kind not in 'fiu':
        raise ValueError(f'{where} has a {key} of {values.dtype}.')
    # NaN passes through max and min, so that one comparison finds it, too.
    largest = max(abs(float(values.max())), abs(float(values.min())))
    if largest <= LARGEST_COORDINATE:
        return largest
    magnitude = np.abs(values.astype(float))
    bad = ~(magnitude <= LARGEST_COORDINATE)
    person, frame, joint = np.argwhere(bad)[0][:3]
    raise ValueError(
        f'{where} has {bad.sum()} numbers in its {key} that are NaN, infinite '
        f'or beyond {LARGEST_COORDINATE:g}, the first for person {person}, '
        f'frame {frame}, joint {joint}. Repair or remove the sample; joints '
        'and persons that are absent are zeros.'
    )


def _check_label(label: object, where: str, num_classes: int | None) -> None:
    is_integer = isinstance(label, (int, np.integer))
    # torch's integers have 64 bits.
    if not is_integer or isinstance(label, bool) or not 0 <= label < 2**63:
        raise ValueError(
            f'{where} has label {label!r}, expected an integer from 0, below '
            '2**63.'
        )
    if num_classes is not None and label >= num_classes:
        raise ValueError(
            f'{where} has label {label}, but there are {num_classes} classes '
            f'(0 to {num_classes - 1}).'
        )


def sample_names(annotations: Sequence[dict], where: str) -> list[str]:
    """The names by which splits tell annotations apart.

    Args:
        annotations (list[dict]): The samples.
        where (str): File, to begin an error's message.

    Returns:
        list[str]: Their ``frame_dir``, else their ``filename``, as the
        toolbox has it.

    Raises:
        ValueError: One is no dict or has no name, or two have one name.
    """
    names = []
    for index, annotation in enumerate(annotations):
        if not isinstance(annotation, dict):
            raise ValueError(
                f'{where}: sample {index} is a {type(annotation).__name__}, '
                'expected a dict.'
            )
        name = annotation.get('frame_dir', annotation.get('filename'))
        if not isinstance(name, str):
            raise ValueError(
                f'{where}: sample {index} with the keys '
                f"{sorted(annotation, key=str)} lacks 'frame_dir', a string, "
                'the name by which splits select it.'
            )
        names.append(name)
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(
            f'{where}: {len(twice)} names of samples occur more than once, '
            f'the first is {twice[0]!r}; splits tell samples apart by them.'
        )
    return names


def select_split(content: dict, name: str, where: str) -> list[dict]:
    """The annotations of a split, in the order of the file.

    Args:
        content (dict): What :func:`read_annotations` gave.
        name (str): Name of the split.
        where (str): File, to begin an error's message.

    Returns:
        list[dict]: Its samples.

    Raises:
        ValueError: There is no such split, it is no list of names or lists
            a sample without annotation, or as :func:`sample_names`.
    """
    if name not in content['split']:
        raise ValueError(
            f'{where} has no split {name!r}; it has '
            f'{sorted(content["split"])}.'
        )
    listed = _list_names(content['split'][name], f'{where}: split {name!r}')
    wanted = set(listed)
    names = sample_names(content['annotations'], where)
    absent = wanted.difference(names)
    if absent:
        raise ValueError(
            f'{where}: split {name!r} lists {len(absent)} samples without '
            f'annotation, such as {min(absent, key=str)!r}.'
        )
    every = zip(names, content['annotations'])
    return [sample for name, sample in every if name in wanted]


def _check_content(path: Path, content: object) -> None:
    """Raise ValueError unless a file's content has the toolbox's form.

    Classes become a list; where there are none, the key is taken out.
    """
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
    classes = content.pop('classes', None)
    if classes is not None:
        classes = _list_names(classes, f"{path}: 'classes'")
    if classes:
        content['classes'] = classes


def _list_names(names: object, what: str) -> list[str]:
    if isinstance(names, np.ndarray):
        names = names.tolist()
    if not isinstance(names, (list, tuple)) or not all(
        isinstance(name, str) for name in names
    ):
        raise ValueError(
            f'{what} is {str(names)[:60]!r}, expected a list of names.'
        )
    return list(names)
