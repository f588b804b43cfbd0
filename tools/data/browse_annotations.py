"""Show what an annotation file holds, as a table and as a picture.

The table counts sequences by split and class, persons, joints and number
types; below it stand faults, which stop or mislead training, and warnings, of
what may be meant so, with the names of the sequences. The picture shows a few
skeletons at several moments. The file may be broken in any way that leaves it
a pickle of annotations.
"""

import argparse
import textwrap
from collections import Counter, defaultdict
from pathlib import Path

WIDTH, SHOWN_NAMES, MAX_SAMPLES = 79, 8, 100
MIN_FRAMES = 10
# Bones of real recordings: at most 0.34 of the body's length in three data
# sets of Kinect v1; in another order of joints the longest is 0.44 to 1.
MAX_BONE = 0.4
# Median change of a bone's length. Of the same recordings up to 0.12, but 0.2
# from wrist to hand; in another order of joints it is up to 0.23.
MAX_CHANGE = 0.15

# Faults and warnings


def name_of(sample, index: int) -> str:
    """Return the name of an annotation, or its place in the file."""
    if not isinstance(sample, dict) or 'frame_dir' not in sample:
        return f'annotation {index}'
    return _as_name(sample['frame_dir'])


def _as_name(value) -> str:
    """Keep a text, and mark anything else, since it would equal no text."""
    if isinstance(value, str):
        return str(value)
    return f'{value!r:.40} ({type(value).__name__})'


def find_fault(sample, name: str, classes: list | None) -> str | None:
    """Return what the data set would refuse in an annotation, else None."""
    from mamp_mmaction.datasets.annotation_file import check_annotation

    try:
        check_annotation(sample, name, classes and len(classes))
    except ValueError as error:
        return str(error).removeprefix(name).lstrip()
    return None


def find_warnings(keypoint):
    """Yield what is odd in a sound ``keypoint``, and a detail.

    Args:
        keypoint (np.ndarray): Shape (M, T, V, C).
    """
    persons, frames, _, coords = keypoint.shape
    if keypoint.dtype != 'float32':
        yield 'coordinates are not float32', f'{keypoint.dtype}'
    if persons > frames or coords > 4:
        yield (
            'the axes may be in another order than (persons, frames, joints, '
            'coordinates)',
            f'{keypoint.shape}',
        )
    if persons > 2:
        yield 'more than two persons, of whom two are kept', f'{persons}'
    if frames < MIN_FRAMES:
        yield f'fewer than {MIN_FRAMES} frames', f'{frames}'
    joints = keypoint.any(axis=3)  # (M, T, V)
    present = joints.any(axis=2)
    for axis, what in ((0, 'frames without a person'), (1, 'unseen persons')):
        absent = ~present.any(axis=axis)
        if absent.any():
            yield what, f'{absent.sum()} of {absent.size}'
    seen = joints[present]
    # A joint that always is at zero is the origin of a centred body.
    zeros = (~seen[:, seen.any(axis=0)]).sum()
    if zeros:
        yield 'joints at exactly zero', f'{zeros} of {seen.size}'


def measure_bodies(keypoints: list, layout):
    """Yield what cannot be of a body in metres, over a whole file.

    Args:
        keypoints (list[np.ndarray]): Sound ones (M, T, V, 3) of one V.
        layout (SkeletonLayout, optional): Names the bones.
    """
    import numpy as np

    from mamp_mmaction.datasets.annotation_file import (
        MAX_BODY,
        MIN_BODY,
        body_size,
    )

    lengths, changes, sizes = [], [], []
    bones = np.array(layout.inward if layout else np.zeros((0, 2), int))
    for keypoint in keypoints:
        bodies = keypoint[keypoint.any(axis=(2, 3))].astype(float)
        if not len(bodies):
            continue
        sizes.append(body_size(keypoint))
        ends = bodies[:, bones]  # (bodies, B, 2, 3)
        length = np.linalg.norm(ends[:, :, 0] - ends[:, :, 1], axis=2)
        usual = np.maximum(np.median(length, axis=0), 1e-9)
        lengths.append(usual / max(sizes[-1], 1e-9))
        changes.append(np.median(abs(length - usual), axis=0) / usual)
    if not sizes:
        return
    size = np.median(sizes)
    if not MIN_BODY <= size <= MAX_BODY:
        yield (
            'units that cannot be metres',
            f'a body measures {size:.4g}, expected {MIN_BODY} to {MAX_BODY}',
        )
    for what, values, most in (
        ('bones that change their length', changes, MAX_CHANGE),
        ('bones too long for the body', lengths, MAX_BONE),
    ):
        for bone, share in zip(bones, np.median(values, axis=0)):
            if share > most:
                ends = '-'.join(layout.joint_names[i] for i in bone)
                yield what, f'{ends} ({share:.0%})'


def inspect(content: dict, layout) -> tuple[dict, dict, dict]:
    """Look through the content of an annotation file.

    Args:
        content (dict): ``split``, ``annotations`` and perhaps ``classes``.
        layout (Callable): Returns the layout of a number of joints.

    Returns:
        tuple[dict, dict, dict]: The sound samples by name; faults and
        warnings, what was found with the names it applies to.
    """
    from mamp_mmaction.datasets.progress import track
    from mamp_mmaction.utils.pictures import is_image

    faults, warnings = defaultdict(list), defaultdict(list)
    classes = content.get('classes')
    sound, names = {}, Counter()
    annotations = content['annotations']
    for index, sample in enumerate(track(annotations, len(annotations))):
        name = name_of(sample, index)
        names[name] += 1
        fault = find_fault(sample, name, classes)
        if fault:
            faults[fault].append(name)
            continue
        sound[name] = sample
        for what, detail in find_warnings(sample['keypoint']):
            warnings[what].append(f'{name} ({detail})')
    kinds = Counter(s['keypoint'].shape[2:] for s in sound.values())
    for usual, _ in kinds.most_common(1):
        faults['other joints x coordinates than most'] += [
            f'{name} {sample["keypoint"].shape[2:]}'
            for name, sample in sound.items()
            if sample['keypoint'].shape[2:] != usual
        ]
        found = layout(usual[0])
        keypoints = [s['keypoint'] for s in sound.values()]
        fitting = [k for k in keypoints if k.shape[2:] == usual]
        if usual[1] == 3 and not is_image(fitting[0], found):
            for what, detail in measure_bodies(fitting, found):
                warnings[what].append(detail)
    _compare_names(content['split'], names, faults, warnings)
    labels = {sample['label'] for sample in sound.values()}
    warnings['classes without a sequence'] += [
        f'{label} {name}'
        for label, name in enumerate(classes or ())
        if label not in labels
    ]
    return sound, faults, warnings


def _compare_names(split: dict, names: Counter, faults, warnings) -> None:
    """Compare the names in the splits with those of the annotations."""

    def repeated(times: Counter) -> list[str]:
        return [f'{name} ({n} times)' for name, n in times.items() if n > 1]

    faults['name that several annotations bear'] += repeated(names)
    members = {}
    for part, listed in split.items():
        if isinstance(listed, (str, bytes)) or not hasattr(listed, '__len__'):
            kind = type(listed).__name__
            faults['split is no list of names'].append(f'{part} ({kind})')
            continue
        members[part] = Counter(_as_name(name) for name in listed)
        faults[f'several times in {part}'] += repeated(members[part])
        faults[f'in {part}, but without annotation'] += [
            name for name in members[part] if name not in names
        ]
    for part, listed in members.items():
        other = str(part).removesuffix('_train') + '_val'
        if str(part).endswith('_train') and other in members:
            shared = sorted(listed.keys() & members[other].keys())
            faults[f'both in {part} and {other}'] += shared
    if members:
        used = set().union(*members.values())
        warnings['in no split'] += [name for name in names if name not in used]


# The table


def describe(content: dict, sound: dict) -> str:
    """Count sound samples by split, shape, type and class."""
    import numpy as np

    from mamp_mmaction.utils import markdown_table

    def counts(values) -> str:
        times = Counter(map(str, values)).most_common(4)
        return ', '.join(f'{value} in {n}' for value, n in times) or '-'

    groups = {'all': list(sound.values())}
    for part, names in content['split'].items():
        names = set(map(str, names)) if np.iterable(names) else ()
        groups[part] = [s for name, s in sound.items() if name in names]
    rows = []
    for title, samples in groups.items():
        frames = [s['total_frames'] for s in samples]
        span = frames and (
            f'{min(frames)} to {max(frames)}, median {np.median(frames):g}'
        )
        labels = {s['label'] for s in samples}
        rows.append((f'{title:.30}', len(samples), len(labels), span or '-'))
    table = markdown_table(('', '> sequences', '> classes', 'frames'), rows)
    keypoints = [sample['keypoint'] for sample in sound.values()]
    facts = [
        ('persons', counts(k.shape[0] for k in keypoints)),
        (
            'joints x coordinates',
            counts(' x '.join(map(str, k.shape[2:])) for k in keypoints),
        ),
        ('number type', counts(k.dtype for k in keypoints)),
    ]
    low, high = defaultdict(list), defaultdict(list)
    for keypoint in keypoints:
        present = keypoint[keypoint.any(axis=(2, 3))]  # (persons, V, C)
        for axis in range(present.shape[2] if len(present) else 0):
            low[axis].append(present[..., axis].min())
            high[axis].append(present[..., axis].max())
    for axis in low:
        name = 'xyz'[axis] if axis < 3 else f'coordinate {axis}'
        span = f'{min(low[axis]):.4g} to {max(high[axis]):.4g}'
        facts.append((f'range of {name}', span))
    times = Counter(int(sample['label']) for sample in sound.values())
    classes = content.get('classes') or ()
    lines = [f'{title:<22}{text}' for title, text in facts]
    lines += ['', 'Classes: label, name, number of sequences']
    for label in sorted({*times, *range(len(classes))}):
        name = f'{classes[label]}' if label < len(classes) else ''
        lines.append(f'  {label:>4} {name:<60.60} {times[label]:>6}')
    return '\n'.join([table, '', *lines])


def format_findings(title: str, findings: dict, all_names: bool) -> str:
    """Write findings and the names they apply to as lines of 79 columns."""
    lines = []
    for what, names in findings.items():
        if not names:
            continue
        shown = names if all_names else names[:SHOWN_NAMES]
        text = ', '.join(shown)
        if len(shown) < len(names):
            text += f' and {len(names) - len(shown)} more (see --all-names)'
        for indent, part in (
            ('  ', f'{what}: {len(names)}'),
            ('      ', text),
        ):
            lines += textwrap.wrap(
                part,
                WIDTH,
                initial_indent=indent,
                subsequent_indent=indent,
                break_on_hyphens=False,
            )
    return '\n'.join([f'{title}:', *lines] if lines else [f'{title}: none'])


# The picture


def choose_samples(annotations: list, wanted: int | list[str]) -> dict:
    """Choose the annotations to be drawn, by name.

    Args:
        annotations (list): All annotations.
        wanted (int | list[str]): Their names; or how many, which are then
            taken from classes far apart.

    Raises:
        ValueError: There is no annotation of a name, or none can be drawn.
    """
    import numpy as np

    drawable, labels = {}, defaultdict(list)
    for index, sample in enumerate(annotations):
        keypoint = sample.get('keypoint') if isinstance(sample, dict) else None
        if (
            getattr(keypoint, 'ndim', 0) != 4
            or keypoint.dtype.kind not in 'iuf'
        ):
            continue
        if 0 in keypoint.shape or keypoint.shape[3] < 2:
            continue
        name = name_of(sample, index)
        drawable.setdefault(name, sample)
        if np.isfinite(keypoint).all() and keypoint.any():
            labels[str(sample.get('label'))].append(name)
    if not isinstance(wanted, int):
        missing = [name for name in wanted if name not in drawable]
        if missing:
            raise ValueError(
                f'no annotation that could be drawn is named {missing[0]!r}; '
                f'names are such as {list(drawable)[:3]}.'
            )
        return {name: drawable[name] for name in wanted}
    if not labels:
        raise ValueError('there is no annotation that could be drawn.')
    # The first of each class, then the second of each.
    order = sorted(
        (turn, len(label), label, name)
        for label, names in labels.items()
        for turn, name in enumerate(names)
    )
    pool = order[: max(len(labels), wanted)]
    places = np.linspace(0, len(pool) - 1, min(wanted, len(pool)))
    chosen = [pool[place][-1] for place in places.round().astype(int)]
    return {name: drawable[name] for name in chosen}


# The command


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('file', type=Path, help='annotation file (.pkl)')
    parser.add_argument(
        '--layout',
        metavar='NAME_OR_FILE',
        help='which joints the bones join: a name of the layout table, or a '
        'Python file that registers a layout (default: the only known layout '
        'of as many joints; where there are several, no bones)',
    )
    parser.add_argument(
        '--all-names',
        action='store_true',
        help=f'give all names of a fault, not only the first {SHOWN_NAMES}',
    )
    parser.add_argument(
        '--picture',
        type=Path,
        metavar='OUT.png',
        help='draw sequences at several moments each',
    )
    parser.add_argument(
        '--samples',
        nargs='+',
        metavar='N_OR_NAME',
        help='which sequences are drawn: their names, or how many (default: '
        '6, of classes far apart)',
    )
    args = parser.parse_args(argv)
    if args.picture is None and args.samples:
        parser.error('--samples is for --picture; give it.')
    if args.picture is not None and args.picture.suffix != '.png':
        parser.error(f'--picture: {args.picture} does not end in .png')
    words = args.samples or ['6']
    args.samples = words
    if len(words) == 1 and words[0].isdecimal():
        args.samples = int(words[0])
    count = args.samples if isinstance(args.samples, int) else len(words)
    if not 1 <= count <= MAX_SAMPLES:
        parser.error(f'--samples: {count}, expected 1 to {MAX_SAMPLES}.')
    return args


def main(argv=None) -> None:
    """Print the table and draw the picture."""
    args = parse_args(argv)
    from mamp_mmaction.datasets.annotation_file import read_annotations
    from mamp_mmaction.layouts import find_layout
    from mamp_mmaction.utils import errors_as_one_line

    layouts = {}

    def layout_of(num_joints: int):
        if num_joints not in layouts:
            layouts[num_joints] = find_layout(args.layout, num_joints)
        return layouts[num_joints][0]

    with errors_as_one_line():
        content = read_annotations(args.file)
        if isinstance(content, list):
            content = {'split': {}, 'annotations': content}
        sound, faults, warnings = inspect(content, layout_of)
        print(f'{args.file}\n\n{describe(content, sound)}\n')
        for _, text in layouts.values():
            print(f'Layout: {text}')
        print(format_findings('Faults', faults, args.all_names))
        print(format_findings('Warnings', warnings, args.all_names))
        if args.picture:
            from mamp_mmaction.utils.pictures import draw_picture

            draw_picture(
                args.picture,
                choose_samples(content['annotations'], args.samples),
                content.get('classes') or (),
                layout_of,
            )
            print(f'\nDrawn in {args.picture}')


if __name__ == '__main__':
    main()
