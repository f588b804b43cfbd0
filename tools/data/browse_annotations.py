"""Show what an annotation file holds, as a table and as a picture.

The table counts splits, classes, frames, persons, joints and number types and
names the sequences that training would stumble over; the picture shows some
skeletons at several moments. The file may be broken in any way that leaves it
a pickle of annotations.
"""

import argparse
import os
import sys
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mamp_mmaction.datasets.annotation_file import (
    REQUIRED_KEYS,
    read_annotations,
)
from mamp_mmaction.datasets.progress import track
from mamp_mmaction.layouts import LAYOUTS, SkeletonLayout, get_layout

# ---------------------------------------------------------------------------
# What the file holds
# ---------------------------------------------------------------------------

Finding = tuple[str, str]  # what was found, and a detail such as its number


@dataclass
class Entry:
    """What is known of one annotation.

    Attributes:
        name (str): Its name, or its place such as ``annotation 12``.
        label (int, optional): None where it is no label.
        shape (tuple, optional): Shape (M, T, V, C); None where ``keypoint``
            is no such array.
        dtype (str): Type of the coordinates.
        low (tuple[float]): The least of each coordinate, absent persons
            aside; empty where there is none.
        high (tuple[float]): The greatest.
    """

    name: str
    label: int | None = None
    shape: tuple | None = None
    dtype: str = ''
    low: tuple = ()
    high: tuple = ()


@dataclass
class Report:
    """What was found in an annotation file.

    Attributes:
        entries (list[Entry]): One an annotation.
        splits (dict[str, list[str]]): Names by split.
        class_names (list[str]): Empty where the file has none.
        faults (dict[str, list[str]]): For each thing that stops or misleads
            training, the names it applies to, with details.
        notes (dict[str, list[str]]): Likewise what may be meant so.
    """

    entries: list[Entry]
    splits: dict[str, list[str]]
    class_names: list[str]
    faults: dict[str, list[str]]
    notes: dict[str, list[str]]


def inspect_annotations(content: dict | list) -> Report:
    """Look through the content of an annotation file.

    Args:
        content (dict | list): What ``read_annotations`` returns.

    Returns:
        Report: Counts, faults and notes.
    """
    if isinstance(content, list):
        content = {'split': {}, 'annotations': content}
    report = Report([], {}, [], defaultdict(list), defaultdict(list))
    _read_class_names(report, content.get('classes'))
    annotations = enumerate(content['annotations'])
    total = len(content['annotations'])
    for index, sample in track(annotations, total):
        entry, faults, notes = inspect_sample(
            sample, index, len(report.class_names)
        )
        report.entries.append(entry)
        for found, kept in ((faults, report.faults), (notes, report.notes)):
            for what, detail in found:
                kept[what].append(f'{entry.name} {detail}'.rstrip())
    _compare_joints(report)
    _compare_names(report, content['split'])
    _compare_classes(report)
    return report


def _read_class_names(report: Report, names: object) -> None:
    if isinstance(names, (list, tuple)):
        report.class_names = [str(name) for name in names]
    elif names is not None:
        kind = type(names).__name__
        report.faults["'classes' is no list of names"].append(kind)


def inspect_sample(
    sample: object, index: int, num_classes: int
) -> tuple[Entry, list[Finding], list[Finding]]:
    """Look at one annotation.

    Args:
        sample (object): The annotation, or what is in its place.
        index (int): Its place in the file.
        num_classes (int): Labels are below it; 0 if it is not known.

    Returns:
        tuple[Entry, list[Finding], list[Finding]]: What it is, its faults and
        notes on it.
    """
    entry = Entry(name_of(sample, index))
    if not isinstance(sample, dict):
        return entry, [('is no dict', f'({type(sample).__name__})')], []
    faults = [
        (f'lacks {key}', '') for key in REQUIRED_KEYS if key not in sample
    ]
    if 'label' in sample:
        label = sample['label']
        if not _is_count(label):
            faults.append(('label is no integer from 0', f'({label!r:.20})'))
        else:
            entry.label = int(label)
            if num_classes and label >= num_classes:
                what = f'label beyond the {num_classes} classes'
                faults.append((what, f'({label})'))
    if 'keypoint' not in sample:
        return entry, faults, []
    misfit = array_misfit(sample['keypoint'])
    if misfit:
        return entry, [*faults, misfit], []
    keypoint = sample['keypoint']
    entry.shape, entry.dtype = keypoint.shape, str(keypoint.dtype)
    entry.low, entry.high = _extent(keypoint)
    faults += _find_in_values(keypoint)
    faults += _find_in_companions(sample)
    return entry, faults, _note_values(keypoint)


def name_of(sample: object, index: int) -> str:
    """Return the name of an annotation, or its place in the file."""
    if isinstance(sample, dict):
        for key in ('frame_dir', 'filename'):
            if key in sample:
                return _as_name(sample[key])
    return f'annotation {index}'


def _as_name(value: object) -> str:
    """Keep a text, and mark anything else, since it would equal no text."""
    if isinstance(value, str):
        return str(value)
    return f'{value!r:.40} ({type(value).__name__})'


def _is_count(value: object) -> bool:
    whole = isinstance(value, (int, np.integer))
    return whole and not isinstance(value, bool) and value >= 0


def array_misfit(keypoint: object) -> Finding | None:
    """Say why a ``keypoint`` is no array (M, T, V, C), if it is none."""
    if not isinstance(keypoint, np.ndarray):
        return 'keypoint is no array', f'({type(keypoint).__name__})'
    if keypoint.dtype.kind not in 'iuf':
        return 'keypoint holds no numbers', f'({keypoint.dtype})'
    if keypoint.ndim != 4 or 0 in keypoint.shape:
        what = 'keypoint is not (persons, frames, joints, coordinates)'
        return what, str(keypoint.shape)
    return None


def _extent(keypoint: np.ndarray) -> tuple[tuple, tuple]:
    """Return the least and the greatest of each coordinate."""
    finite = np.isfinite(keypoint).all(axis=(2, 3))
    values = keypoint[keypoint.any(axis=(2, 3)) & finite]  # (persons, V, C)
    if not len(values):
        return (), ()
    low, high = values.min(axis=(0, 1)), values.max(axis=(0, 1))
    return tuple(low.tolist()), tuple(high.tolist())


def _find_in_values(keypoint: np.ndarray) -> list[Finding]:
    faults = []
    broken = np.count_nonzero(~np.isfinite(keypoint))
    if broken:
        what = 'coordinates that are NaN or infinite'
        faults.append((what, f'({broken} of {keypoint.size})'))
    if not keypoint.any():
        faults.append(('all coordinates are zero', ''))
    return faults


def _find_in_companions(sample: dict) -> list[Finding]:
    """Look at what must agree with ``keypoint``."""
    faults = []
    shape = sample['keypoint'].shape
    frames = sample.get('total_frames', shape[1])
    if not _is_count(frames) or frames != shape[1]:
        what = 'total_frames is not the number of frames'
        faults.append((what, f'({frames!r:.20}, has {shape[1]})'))
    score = sample.get('keypoint_score')
    if score is not None:
        found = getattr(score, 'shape', type(score).__name__)
        if found != shape[:3]:
            what = 'keypoint_score is not (persons, frames, joints)'
            faults.append((what, f'({found}, expected {shape[:3]})'))
        elif score.dtype.kind not in 'iuf' or not np.isfinite(score).all():
            faults.append(('keypoint_score that is NaN or infinite', ''))
    return faults


def _note_values(keypoint: np.ndarray) -> list[Finding]:
    notes = []
    if keypoint.dtype != np.float32:
        what = 'coordinates are not float32'
        notes.append((what, f'({keypoint.dtype})'))
    present = keypoint.any(axis=(2, 3))  # (M, T)
    if not present.any():
        return notes
    for axis, what in ((0, 'frames without a person'), (1, 'unseen persons')):
        absent = ~present.any(axis=axis)
        if absent.any():
            count = np.count_nonzero(absent)
            notes.append((what, f'({count} of {absent.size})'))
    return notes


def _compare_joints(report: Report) -> None:
    """Name the annotations whose joints or coordinates are the exception."""
    kinds = Counter(e.shape[2:] for e in report.entries if e.shape)
    for usual, _ in kinds.most_common(1):
        report.faults['other joints x coordinates than most'] += [
            f'{entry.name} ({_joints(entry.shape)})'
            for entry in report.entries
            if entry.shape and entry.shape[2:] != usual
        ]


def _compare_names(report: Report, splits: dict) -> None:
    """Compare the names in the splits with those of the annotations."""
    times = Counter(entry.name for entry in report.entries)
    report.faults['name that several annotations bear'] += _repeated(times)
    for split, members in splits.items():
        if not isinstance(members, (list, tuple, set, np.ndarray)):
            kind = type(members).__name__
            report.faults['split is no list of names'].append(
                f'{split} ({kind})'
            )
            members = ()
        names = [_as_name(member) for member in members]
        report.splits[str(split)] = names
        report.faults[f'in {split}, but without annotation'] += [
            name for name in names if name not in times
        ]
        report.faults[f'several times in {split}'] += _repeated(Counter(names))
    for split, names in report.splits.items():
        other = split.removesuffix('_train') + '_val'
        if split.endswith('_train') and other in report.splits:
            shared = set(names) & set(report.splits[other])
            report.faults[f'both in {split} and {other}'] += sorted(shared)
    if report.splits:
        used = set().union(*report.splits.values())
        report.notes['in no split'] += [n for n in times if n not in used]


def _repeated(times: Counter) -> list[str]:
    return [f'{name} ({n} times)' for name, n in times.items() if n > 1]


def _compare_classes(report: Report) -> None:
    labels = {entry.label for entry in report.entries}
    report.notes['classes without a sequence'] += [
        f'{label} {name}'
        for label, name in enumerate(report.class_names)
        if label not in labels
    ]


# ---------------------------------------------------------------------------
# The table
# ---------------------------------------------------------------------------

WIDTH, TITLE_WIDTH = 79, 22
SHOWN_NAMES = 8


def format_report(report: Report, all_names: bool = False) -> str:
    """Write a report as text of at most 79 columns.

    Args:
        report (Report): What was found.
        all_names (bool): Whether all names of a finding are given rather than
            the first few. Defaults to False.

    Returns:
        str: Several lines.
    """
    blocks = [
        _split_lines(report),
        _array_lines([entry for entry in report.entries if entry.shape]),
        _class_lines(report),
        _finding_lines('Faults', report.faults, all_names),
        _finding_lines('Notes', report.notes, all_names),
    ]
    return '\n\n'.join('\n'.join(block) for block in blocks if block)


def _split_lines(report: Report) -> list[str]:
    by_name = {entry.name: entry for entry in report.entries}
    groups = {'all': report.entries}
    for split, names in report.splits.items():
        groups[split] = [by_name[name] for name in names if name in by_name]
    lines = [f'{"":<{TITLE_WIDTH}}{"sequences":>10}{"classes":>10}   frames']
    for title, entries in groups.items():
        labels = {entry.label for entry in entries} - {None}
        frames = [entry.shape[1] for entry in entries if entry.shape]
        lines.append(
            f'{_shorten(title, TITLE_WIDTH):<{TITLE_WIDTH}}'
            f'{len(entries):>10}{len(labels):>10}   {_spread(frames)}'
        )
    return lines


def _array_lines(entries: Sequence[Entry]) -> list[str]:
    """Count the annotations (those that have a shape) by what they hold."""
    if not entries:
        return []
    rows = [
        ('persons', _counts(entry.shape[0] for entry in entries)),
        ('joints x coordinates', _counts(_joints(e.shape) for e in entries)),
        ('number type', _counts(entry.dtype for entry in entries)),
    ]
    for coord in range(max(len(entry.low) for entry in entries)):
        low = min(e.low[coord] for e in entries if len(e.low) > coord)
        high = max(e.high[coord] for e in entries if len(e.low) > coord)
        rows.append(
            (f'range of {_axis_name(coord)}', f'{low:.4g} to {high:.4g}')
        )
    return [
        line
        for title, text in rows
        for line in textwrap.wrap(
            text,
            WIDTH,
            initial_indent=f'{title:<{TITLE_WIDTH}}',
            subsequent_indent=' ' * TITLE_WIDTH,
        )
    ]


def _class_lines(report: Report) -> list[str]:
    """Write label, name and count of the classes in as many columns as fit."""
    counts = Counter(entry.label for entry in report.entries)
    del counts[None]
    labels = sorted({*counts, *range(len(report.class_names))})
    if not labels:
        return []
    known = dict(enumerate(report.class_names))
    names = [_shorten(known.get(label, ''), 40) for label in labels]
    digits = len(str(labels[-1]))
    width = max(map(len, names))
    places = max(len(str(count)) for count in (0, *counts.values()))
    cells = [
        f'{label:>{digits}} {name:<{width}} {counts[label]:>{places}}'
        for label, name in zip(labels, names)
    ]
    columns = max((WIDTH - 2 + 4) // (len(cells[0]) + 4), 1)
    height = -(-len(cells) // columns)
    title = f'Classes: label{", name" if known else ""}, number of sequences'
    return [
        title,
        *('  ' + '    '.join(cells[i::height]) for i in range(height)),
    ]


def _finding_lines(
    title: str, findings: dict[str, list[str]], all_names: bool
) -> list[str]:
    findings = {what: names for what, names in findings.items() if names}
    if not findings:
        return [f'{title}: none']
    lines = [f'{title}:']
    for what, names in findings.items():
        shown = names if all_names else names[:SHOWN_NAMES]
        text = ', '.join(shown)
        if len(shown) < len(names):
            text += f' and {len(names) - len(shown)} more (see --all-names)'
        lines += textwrap.wrap(
            f'{what}: {len(names)}',
            WIDTH,
            initial_indent='  ',
            subsequent_indent='  ',
        )
        lines += textwrap.wrap(
            text,
            WIDTH,
            initial_indent='      ',
            subsequent_indent='      ',
            break_on_hyphens=False,
        )
    return lines


def _spread(values: Sequence[int]) -> str:
    if not values:
        return '-'
    return f'{min(values)} to {max(values)}, median {np.median(values):g}'


def _counts(values: Iterable) -> str:
    """Write how often each value occurs, the most frequent first."""
    counts = Counter(values).most_common()
    if len(counts) == 1:
        return f'{counts[0][0]}'
    shown = [f'{value} in {count}' for value, count in counts[:4]]
    rest = sum(count for _, count in counts[4:])
    if rest:
        shown.append(f'others in {rest}')
    return f'{", ".join(shown)} of the sequences'


def _number(count: int, what: str) -> str:
    return f'{count} {what}' if count == 1 else f'{count} {what}s'


def _joints(shape: tuple) -> str:
    return f'{shape[2]} x {shape[3]}'


def _axis_name(coord: int) -> str:
    return 'xyz'[coord] if coord < 3 else f'coordinate {coord}'


def _shorten(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + '...'


# ---------------------------------------------------------------------------
# The picture
# ---------------------------------------------------------------------------

NUM_MOMENTS = 8
IMAGE_LAYOUTS = ('coco', 'openpose')
# Blue and vermilion stay apart for colour-blind eyes. Then for other persons.
COLORS = {
    'left': ('#0072b2', '#8cc3e6'),
    'right': ('#d55e00', '#f5b78a'),
    'middle': ('#333333', '#aaaaaa'),
}

# All in inches.
PAGE_WIDTH, MARGIN, HEADER = 10.0, 0.3, 0.6
ROW_HEIGHT, TITLE_HEIGHT, LABEL_HEIGHT, ROW_GAP = 1.7, 0.3, 0.22, 0.2
MOMENT_WIDTH = (PAGE_WIDTH - 2 * MARGIN) / NUM_MOMENTS
SKELETON_WIDTH = 0.9 * MOMENT_WIDTH
DPI = 110


def choose_samples(
    annotations: Sequence, wanted: int | Sequence[str]
) -> dict[str, object]:
    """Choose the annotations to be drawn.

    Args:
        annotations (list): All annotations.
        wanted (int | list[str]): Their names; or how many, which are then
            taken from classes far apart and can all be drawn.

    Returns:
        dict[str, object]: Annotations by name.

    Raises:
        ValueError: There is no annotation of a name, or none can be drawn.
    """
    named = {}
    for index, sample in enumerate(annotations):
        named.setdefault(name_of(sample, index), sample)
    if not isinstance(wanted, int):
        missing = [name for name in wanted if name not in named]
        if missing:
            raise ValueError(
                f'no annotation is named {missing[0]!r}; names are such as '
                f'{", ".join(map(repr, list(named)[:3]))}.'
            )
        return {name: named[name] for name in wanted}
    turns = Counter()
    order = []
    for name, sample in named.items():
        if _undrawable(sample) is None and any(_extent(sample['keypoint'])):
            label = str(sample.get('label'))
            order.append((turns[label], len(label), label, name))
            turns[label] += 1
    if not order:
        raise ValueError('there is no annotation that could be drawn.')
    order.sort()
    pool = order[: max(len(turns), wanted)]
    places = np.linspace(0, len(pool) - 1, min(wanted, len(pool)))
    return {
        pool[place][-1]: named[pool[place][-1]]
        for place in places.round().astype(int)
    }


def _undrawable(sample: object) -> str | None:
    """Say why an annotation cannot be drawn, if it cannot."""
    if not isinstance(sample, dict) or 'keypoint' not in sample:
        return 'has no keypoint'
    misfit = array_misfit(sample['keypoint'])
    if misfit:
        return ', '.join(misfit)
    if sample['keypoint'].shape[3] < 2:
        return 'has no second coordinate'
    return None


def layout_of(
    name: str, keypoint: np.ndarray, layout: SkeletonLayout | None
) -> SkeletonLayout | None:
    """Return the layout given, else one of as many joints, else None.

    Raises:
        ValueError: The layout given has another number of joints.
    """
    num_joints = keypoint.shape[2]
    if layout is None:
        fitting = (v for v in LAYOUTS.values() if v.num_joints == num_joints)
        return next(fitting, None)
    if layout.num_joints != num_joints:
        raise ValueError(
            f'sample {name!r} has {num_joints} joints, but the layout '
            f'{layout.name!r} has {layout.num_joints}.'
        )
    return layout


@dataclass
class Strip:
    """Skeletons side by side, in inches from the lower left corner.

    Attributes:
        lines (np.ndarray): Both ends (K, 2, 2) of the bones.
        line_colors (list[str]): Their colours (K,).
        points (np.ndarray): The joints (P, 2).
        point_colors (list[str]): Their colours (P,).
        labels (list[str]): What stands below each moment.
        height (float): Height of all.
    """

    lines: np.ndarray
    line_colors: list[str]
    points: np.ndarray
    point_colors: list[str]
    labels: list[str]
    height: float


def make_strip(keypoint: np.ndarray, layout: SkeletonLayout | None) -> Strip:
    """Lay out several moments of a sequence side by side.

    The x axis leads to the right and the y axis up, in images down. All
    moments have one scale and one floor; each stands in the middle of its
    place, so that skeletons stay large where persons walk. A person all of
    whose joints are zero is absent, in images a joint at zero, too.

    Args:
        keypoint (np.ndarray): Shape (M, T, V, C).
        layout (SkeletonLayout, optional): None draws no bones.

    Returns:
        Strip: Lines, points and labels, a moment every ``MOMENT_WIDTH``.
    """
    num_frames, num_joints = keypoint.shape[1:3]
    moments = np.linspace(0, num_frames - 1, min(NUM_MOMENTS, num_frames))
    moments = moments.round().astype(int)
    places, height = _fit(_visible(keypoint[:, moments], layout))
    side_of = _sides(layout, num_joints)
    lines, line_colors, points, point_colors = [], [], [], []
    for person, skeletons in enumerate(places):
        color_of = [COLORS[side][person > 0] for side in side_of]
        for skeleton in skeletons:
            drawn = np.isfinite(skeleton).all(axis=1)
            points.append(skeleton[drawn])
            point_colors += [color_of[v] for v in np.flatnonzero(drawn)]
            for bone in layout.inward if layout else ():
                if drawn[list(bone)].all():
                    lines.append(skeleton[list(bone)])
                    line_colors.append(color_of[bone[0]])
    seen = np.isfinite(places).any(axis=(0, 2, 3))
    return Strip(
        lines=np.array(lines).reshape(-1, 2, 2),
        line_colors=line_colors,
        points=np.concatenate(points),
        point_colors=point_colors,
        labels=[
            f'{moment}' if drawn else f'{moment}: nobody'
            for moment, drawn in zip(moments, seen)
        ],
        height=height,
    )


def _visible(
    keypoint: np.ndarray, layout: SkeletonLayout | None
) -> np.ndarray:
    """Return x to the right and y up (M, F, V, 2), NaN where there is none."""
    places = keypoint[..., :2].astype(np.float64)
    is_image = keypoint.shape[3] == 2 or (
        layout is not None and layout.name in IMAGE_LAYOUTS
    )
    if is_image:
        places[..., 1] *= -1
        absent = ~places.any(axis=3)
    else:
        absent = ~keypoint.any(axis=(2, 3))[..., None]
    places[absent | ~np.isfinite(places).all(axis=3)] = np.nan
    return places


def _fit(places: np.ndarray) -> tuple[np.ndarray, float]:
    """Scale moments to inches and put them side by side.

    Args:
        places (np.ndarray): Positions (M, F, V, 2), NaN where there is none.

    Returns:
        tuple[np.ndarray, float]: Positions (M, F, V, 2) in inches, and their
        height.
    """
    x, y = places[..., 0], places[..., 1]
    known = np.isfinite(x)
    if not known.any():
        return places, 0.0
    lefts = np.min(x, axis=(0, 2), where=known, initial=np.inf)  # (F,)
    rights = np.max(x, axis=(0, 2), where=known, initial=-np.inf)
    seen = known.any(axis=(0, 2))
    lefts, rights = np.where(seen, (lefts, rights), 0)
    width = max((rights - lefts).max(), 1e-9)
    floor, height = y[known].min(), max(np.ptp(y[known]), 1e-9)
    scale = min(SKELETON_WIDTH / width, ROW_HEIGHT / height)
    centers = (lefts + rights) / 2
    x = (x - centers[:, None]) * scale + _middles(len(centers))[:, None]
    return np.stack((x, (y - floor) * scale), axis=-1), height * scale


def _middles(num_moments: int) -> np.ndarray:
    return MOMENT_WIDTH * (np.arange(num_moments) + 0.5)


def _sides(layout: SkeletonLayout | None, num_joints: int) -> list[str]:
    sides = ['middle'] * num_joints
    if layout is not None:
        for left, right in zip(layout.left, layout.right):
            sides[left], sides[right] = 'left', 'right'
    return sides


def draw_picture(
    path: Path,
    samples: dict[str, object],
    class_names: Sequence[str],
    layout: SkeletonLayout | None = None,
) -> None:
    """Draw annotations, one below the other, to a PNG file.

    Args:
        path (Path): The picture; on failure nothing is left under its name.
        samples (dict[str, object]): Annotations by name. Of one that cannot
            be drawn it says why.
        class_names (list[str]): For the titles; may be empty.
        layout (SkeletonLayout, optional): Defaults to None, a known one with
            as many joints.

    Raises:
        ValueError: ``layout`` has another number of joints.
    """
    rows = [plan_row(*item, class_names, layout) for item in samples.items()]
    total = HEADER + MARGIN + sum(row.height for row in rows)
    page = _Page(total)
    page.write_legend()
    top = total - HEADER
    for row in rows:
        page.draw_row(row, top)
        top -= row.height
    page.save(path)


@dataclass
class Row:
    """A title and, where the annotation can be drawn, a strip."""

    title: str
    strip: Strip | None

    @property
    def height(self) -> float:
        """Height on the page in inches."""
        if self.strip is None:
            return TITLE_HEIGHT + ROW_GAP
        return TITLE_HEIGHT + self.strip.height + LABEL_HEIGHT + ROW_GAP


def plan_row(
    name: str,
    sample: object,
    class_names: Sequence[str],
    layout: SkeletonLayout | None,
) -> Row:
    """Prepare the row of one annotation.

    Args:
        name (str): Its name.
        sample (object): The annotation, or what is in its place.
        class_names (list[str]): May be empty.
        layout (SkeletonLayout, optional): As for ``draw_picture``.

    Returns:
        Row: What is drawn, or in the title why nothing is.

    Raises:
        ValueError: ``layout`` has another number of joints.
    """
    reason = _undrawable(sample)
    if reason:
        return Row(f'{_shorten(name, 60)}: {reason}', None)
    keypoint = sample['keypoint']
    layout = layout_of(name, keypoint, layout)
    strip = make_strip(keypoint, layout)
    label = sample.get('label')
    if _is_count(label) and label < len(class_names):
        label = f'{label} {class_names[label]}'
    persons, frames, joints = keypoint.shape[:3]
    title = (
        f'{_shorten(name, 36)}   class {_shorten(str(label), 36)}   '
        f'{_number(persons, "person")}, {_number(frames, "frame")}, '
        f'{layout.name if layout else f"{joints} joints of no known layout"}'
    )
    return Row(title, strip)


class _Page:
    """A figure that is drawn on in inches from its lower left corner."""

    def __init__(self, height: float) -> None:
        self.height = height
        self.figure = Figure((PAGE_WIDTH, height), dpi=DPI)
        FigureCanvasAgg(self.figure)

    def write_legend(self) -> None:
        """Say what the colours mean and where the axes lead."""
        handles = [
            Line2D([], [], color=color, linewidth=3, label=side)
            for side, (color, _) in COLORS.items()
        ]
        self.figure.legend(
            handles=handles,
            loc='upper left',
            bbox_to_anchor=self._fraction(MARGIN, self.height - 0.1),
            borderaxespad=0,
            borderpad=0,
            ncols=len(handles),
            frameon=False,
            fontsize=9,
        )
        self._write(
            PAGE_WIDTH - MARGIN,
            self.height - 0.1,
            'further persons paler; x to the right, y up (image rows down); '
            'numbers are frames',
            fontsize=8,
            horizontalalignment='right',
            color='#555555',
        )

    def draw_row(self, row: Row, top: float) -> None:
        """Draw a row that begins at this height."""
        self._write(MARGIN, top, row.title, fontsize=9)
        if row.strip is None:
            return
        bottom = top - TITLE_HEIGHT - row.strip.height
        axes = self._add_axes(bottom, row.strip.height)
        axes.add_collection(
            LineCollection(
                row.strip.lines,
                colors=row.strip.line_colors,
                linewidths=1.6,
                capstyle='round',
                clip_on=False,
            )
        )
        axes.scatter(
            *row.strip.points.T, s=5, c=row.strip.point_colors, clip_on=False
        )
        labels = row.strip.labels
        for middle, label in zip(_middles(len(labels)), labels):
            axes.plot(
                (middle - SKELETON_WIDTH / 2, middle + SKELETON_WIDTH / 2),
                (-0.06, -0.06),
                color='#dddddd',
                linewidth=1,
                clip_on=False,
            )
            self._write(
                MARGIN + middle,
                bottom - 0.1,
                label,
                fontsize=8,
                horizontalalignment='center',
                color='#555555',
            )

    def _add_axes(self, bottom: float, height: float) -> Axes:
        """Return axes across the page whose unit is an inch."""
        width = PAGE_WIDTH - 2 * MARGIN
        height = max(height, 0.01)
        corner = self._fraction(MARGIN, bottom)
        axes = self.figure.add_axes((*corner, *self._fraction(width, height)))
        axes.set_axis_off()
        axes.set_autoscale_on(False)
        axes.set_xlim(0, width)
        axes.set_ylim(0, height)
        return axes

    def save(self, path: Path) -> None:
        """Write the figure as a PNG file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
        try:
            self.figure.savefig(temporary, format='png')
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def _write(self, x: float, top: float, text: str, **style) -> None:
        self.figure.text(
            *self._fraction(x, top),
            text,
            verticalalignment='top',
            parse_math=False,
            **style,
        )

    def _fraction(self, x: float, y: float) -> tuple[float, float]:
        return x / PAGE_WIDTH, y / self.height


# ---------------------------------------------------------------------------
# The command
# ---------------------------------------------------------------------------

DEFAULT_SAMPLES, MAX_SAMPLES = 6, 100


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=(
            'Show what an annotation file holds: sequences by split, class, '
            'persons, joints and number type; sequences that are broken, by '
            'name; and, with --picture, a few of the skeletons.'
        )
    )
    parser.add_argument('file', type=Path, help='annotation file (.pkl)')
    parser.add_argument(
        '--all-names',
        action='store_true',
        help=f'give all names of a fault, not only the first {SHOWN_NAMES}',
    )
    parser.add_argument(
        '--picture',
        type=_png,
        metavar='OUT.png',
        help=f'draw sequences at {NUM_MOMENTS} moments each',
    )
    parser.add_argument(
        '--samples',
        nargs='+',
        metavar='N_OR_NAME',
        help='which sequences are drawn: their names, or how many (default: '
        f'{DEFAULT_SAMPLES}, of classes far apart)',
    )
    parser.add_argument(
        '--layout',
        choices=list(LAYOUTS),
        help='which joints the bones join (default: the layout with as many '
        'joints)',
    )
    args = parser.parse_args(argv)
    if args.picture is None and (args.samples or args.layout):
        parser.error('--samples and --layout are for --picture; give it.')
    args.samples = _names_or_number(parser, args.samples)
    return args


def _png(text: str) -> Path:
    if not text.endswith('.png'):
        raise argparse.ArgumentTypeError(f'{text!r} does not end in .png')
    return Path(text)


def _names_or_number(
    parser: argparse.ArgumentParser, words: list[str] | None
) -> int | list[str]:
    if words is None:
        return DEFAULT_SAMPLES
    number = int(words[0]) if words[0].isdecimal() else None
    count = len(words) if len(words) > 1 or number is None else number
    if not 1 <= count <= MAX_SAMPLES:
        parser.error(f'--samples: {count}, expected 1 to {MAX_SAMPLES}.')
    return words if len(words) > 1 or number is None else number


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table and draw the picture."""
    args = parse_args(argv)
    try:
        content = read_annotations(args.file)
        report = inspect_annotations(content)
        print(f'{args.file}\n')
        print(format_report(report, args.all_names))
        if args.picture:
            annotations = (
                content
                if isinstance(content, list)
                else content['annotations']
            )
            draw_picture(
                args.picture,
                choose_samples(annotations, args.samples),
                report.class_names,
                args.layout and get_layout(args.layout),
            )
            print(f'\nDrawn in {args.picture}')
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
