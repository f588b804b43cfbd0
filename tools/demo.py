"""Recognise the action in a skeleton file, a recording or a folder of them.

INPUT is a file of NTU RGB+D (.skeleton), PKU-MMD (.txt), MSR-Action3D
(_skeleton3D.txt), Northwestern-UCLA (.json) or UTD-MHAD (.mat); an array
(frames, joints, coordinates) or (persons, frames, joints, coordinates) in a
.npy or .npz file; a .csv file with a row a frame and columns JOINT_x, JOINT_y
and so on; a folder of OpenPose's JSON files; or an annotation file (.pkl). The
five most probable classes are printed. A folder of such files, or an
annotation file of several samples, gives a table, whole as CSV with --out. Of
a long recording --window says what happens when.

The config may be that of any recogniser of skeletons, of this project or of
the toolbox. The joints of another layout are mapped to the model's by name.
The time that is printed at the end is that of reading, preparing and
computing, without loading the model; compare --batch-size 1 and 32.
"""

import argparse
import csv
import sys
import time
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

TOP = 5
SHOWN = 20  # answers that are printed
CHUNK = 8  # batches whose files are held in memory


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('input', type=Path, help='file or folder, see above')
    parser.add_argument(
        '--config',
        required=True,
        help='config of the recogniser; it may begin with mamp_mmaction:: or '
        'mmaction::',
    )
    parser.add_argument(
        '--checkpoint', required=True, help='path or URL of its weights'
    )
    parser.add_argument(
        '--out',
        type=Path,
        nargs='+',
        default=[],
        metavar='FILE',
        help='what to write: .gif or .mp4, the moving skeleton with the '
        'prediction so far; .csv, the answers, or with --window those of all '
        'windows; .png, with --window, what happens when',
    )
    parser.add_argument(
        '--sample',
        nargs='+',
        metavar='NAME',
        help='samples of an annotation file (default: all)',
    )
    parser.add_argument(
        '--layout',
        metavar='NAME_OR_FILE',
        help='the joints of INPUT: a name of the layout table, or a Python '
        "file that registers a layout (default: the format's, else that of "
        "the config's own data set)",
    )
    parser.add_argument(
        '--image-size',
        nargs=2,
        type=int,
        metavar=('W', 'H'),
        help='width and height in pixels, for 2D',
    )
    parser.add_argument(
        '--window',
        type=int,
        metavar='FRAMES',
        help='look at this many frames at a time (default: the whole '
        'recording at once)',
    )
    parser.add_argument(
        '--stride',
        type=int,
        metavar='FRAMES',
        help='from one window to the next (default: half a window)',
    )
    parser.add_argument(
        '--classes',
        metavar='NAME_OR_FILE',
        help='names of the classes: a data set such as ntu60, or a file of '
        'one a line (default: those in the checkpoint or of the data set that '
        'the config names)',
    )
    parser.add_argument(
        '--any-units',
        action='store_true',
        help='take skeletons in 3D that cannot be in metres; for models that '
        'were trained on such',
    )
    parser.add_argument(
        '--batch-size',
        type=int,
        default=32,
        metavar='N',
        help='recordings computed at once (default: %(default)s)',
    )
    parser.add_argument(
        '--device', help='such as cpu or cuda:0 (default: a GPU if there is)'
    )
    args = parser.parse_args(argv)
    if args.stride and not args.window:
        parser.error('--stride is for --window; give it.')
    for name in ('window', 'stride', 'batch_size'):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} is less than 1.')
    suffixes = ('.gif', '.mp4', '.csv', *(('.png',) if args.window else ()))
    for path in args.out:
        if path.suffix not in suffixes:
            parser.error(
                f'--out: {path} ends in none of {", ".join(suffixes)}'
                + ('' if args.window else ' (.png needs --window)')
            )
    return args


def write_csv(path: Path, header: list[str], rows: list[list]) -> None:
    """Write a table, whole or not at all."""
    from mamp_mmaction.utils import written_whole

    with (
        written_whole(path) as temporary,
        open(temporary, 'w', newline='', encoding='utf-8') as file,
    ):
        csv.writer(file).writerows([header, *rows])
    print(f'Written to {path}')


def top_classes(scores: list[float], classes: list[str]) -> list[tuple]:
    """Return names and probabilities of the most probable classes."""
    order = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)
    return [(classes[label], scores[label]) for label in order[:TOP]]


def answers(found: list[tuple], classes: list[str]) -> tuple[list, list]:
    """Return header and rows of the table of answers.

    Args:
        found (list[tuple]): File, recording and prediction of each.
        classes (list[str]): The names of the classes.
    """
    header = ['file', 'name', 'true']
    for place in range(1, min(TOP, len(classes)) + 1):
        header += [f'top{place}', f'probability{place}']
    rows = []
    for file, recording, prediction in found:
        row = [file, recording.name, true_class(recording, classes)]
        for name, score in top_classes(prediction['pred_scores'], classes):
            row += [name, f'{score:.6f}']
        rows.append(row)
    return header, rows


def true_class(recording, classes: list[str]) -> str:
    """Return the name of a recording's own class, empty if unknown."""
    true = recording.true_class
    if isinstance(true, str) or true is None:
        return true or ''
    return classes[true] if 0 <= true < len(classes) else f'{true}'


def recognise_one(inferencer, file: str, recording, args) -> tuple:
    """Say what is in one recording, whole or by windows.

    Returns:
        tuple: Header and rows of its table, and the windows or None.
    """
    classes = inferencer.classes
    true = true_class(recording, classes)
    print(f'{recording.name}' + (f', true class: {true}' if true else ''))
    parts = None
    if args.window:
        parts = inferencer.predict_windows(
            recording,
            args.window,
            args.stride or max(args.window // 2, 1),
            args.batch_size,
        )
        header, rows = ['from', 'to', 'class', 'probability'], []
        print(f'{"from":>7} {"to":>7}  probability  class')
        for part in parts:
            name, share, cell = 'nobody', '', ''
            if part.scores is not None:
                name, score = top_classes(part.scores.tolist(), classes)[0]
                share, cell = f'{100 * score:.2f} %', f'{score:.6f}'
            print(f'{part.start + 1:>7} {part.stop:>7}  {share:>11}  {name}')
            rows.append([part.start + 1, part.stop, name, cell])
    else:
        (prediction,) = inferencer([recording])['predictions']
        for name, score in top_classes(prediction['pred_scores'], classes):
            print(f'{100 * score:9.2f} %  {name}')
        header, rows = answers([(file, recording, prediction)], classes)
    return header, rows, parts


def draw(path: Path, inferencer, recording, parts, batch_size: int) -> None:
    """Draw one recording: its timeline, or the moving skeleton."""
    from mamp_mmaction.inference import drawing
    from mamp_mmaction.layouts import get_layout

    classes, name = inferencer.classes, recording.name
    if path.suffix == '.png':
        drawing.draw_timeline(path, parts, classes, name)
    else:
        keypoint = recording.sample['keypoint']
        layout = inferencer.joints.stored
        if recording.layout:
            layout = get_layout(recording.layout)
        if parts is None:
            frames = drawing.animation_frames(keypoint.shape[1])
            parts = inferencer.predict_so_far(
                recording, frames + 1, batch_size
            )
        drawing.draw_animation(path, keypoint, layout, parts, classes, name)
    print(f'Drawn in {path}')


def read_sound(files: list[Path], inferencer, args) -> Iterator[tuple]:
    """Yield name and recording of each file, and leave out broken ones."""
    from mamp_mmaction.inference import read_recordings

    faults, count = [], 0
    for path in files:
        file = path.name
        if path != args.input:
            file = path.relative_to(args.input).as_posix()
        try:
            recordings = read_recordings(
                path, args.layout, args.image_size, args.sample, faults.append
            )
        except (ValueError, OSError) as error:
            faults.append(error)
            recordings = []
        for recording in recordings:
            try:
                inferencer.check(recording)
            except ValueError as error:
                faults.append(error)
                continue
            count += 1
            yield file, recording
    if not count:
        raise faults[0]
    for fault in faults:
        print(f'left out: {fault}', file=sys.stderr)


def recognise_many(inferencer, recordings: Iterator, args) -> tuple:
    """Print the answers on many recordings.

    Returns:
        tuple: Header and rows of their table.
    """
    classes, rows, right, known = inferencer.classes, [], 0, 0
    while chunk := list(islice(recordings, CHUNK * args.batch_size)):
        predictions = inferencer(
            [recording for _, recording in chunk], batch_size=args.batch_size
        )['predictions']
        found = [(*pair, told) for pair, told in zip(chunk, predictions)]
        header, more = answers(found, classes)
        rows += more
    for row in rows:
        if len(rows) <= SHOWN:
            print(f'{100 * float(row[4]):9.2f} %  {row[3]:<30}  {row[1]}')
        if row[2] in classes:
            known += 1
            right += row[2] == row[3]
    if known:
        print(
            f'accuracy: {right / known:.2%} ({right} of {known} whose '
            'class is known)'
        )
    return header, rows


def run(args) -> None:
    """Load the model, and recognise."""
    from mamp_mmaction.datasets.class_names import read_class_names
    from mamp_mmaction.inference import SkeletonInferencer, find_recordings
    from mamp_mmaction.utils.animation import check_animation_path
    from mamp_mmaction.utils.atomic import check_writable

    files = find_recordings(args.input)
    for path in args.out:
        if path.suffix not in ('.csv', '.png'):
            check_animation_path(path)
        check_writable(path)
    classes = args.classes and read_class_names(args.classes)
    inferencer = SkeletonInferencer(
        args.config,
        args.checkpoint,
        args.device,
        classes,
        check_units=not args.any_units,
    )
    layout = inferencer.joints.layout
    print(
        f'{type(inferencer.model).__name__}, {len(inferencer.classes)} '
        'classes, layout '
        + (layout.name if layout else 'unknown: joints stay as they come')
    )
    start = time.perf_counter()
    recordings = read_sound(files, inferencer, args)
    first = list(islice(recordings, 2))
    names = inferencer.joints.mapping(first[0][1])
    if names:
        print(
            f'Joints are mapped from layout {names[0]} to {names[1]} by '
            'MapJoints.'
        )
    parts, is_one = None, len(first) == 1 and args.input == files[0]
    if is_one:
        header, rows, parts = recognise_one(inferencer, *first[0], args)
    else:
        other = [path for path in args.out if path.suffix != '.csv']
        if args.window or other:
            raise ValueError(
                f'{args.input}: has several recordings; '
                f'{"--window" if args.window else other[0]} is for one (of '
                'an annotation file --sample chooses it).'
            )
        header, rows = recognise_many(
            inferencer, chain(first, recordings), args
        )
    seconds, count = time.perf_counter() - start, 1 if is_one else len(rows)
    print(
        f'{count} recordings in {seconds:.2f} s, {1000 * seconds / count:.1f} '
        f'ms each, by {args.batch_size} at once on '
        f'{next(inferencer.model.parameters()).device}'
    )
    for path in args.out:
        if path.suffix == '.csv':
            write_csv(path, header, rows)
        else:
            draw(path, inferencer, first[0][1], parts, args.batch_size)


def main(argv=None) -> None:
    """Run the command."""
    args = parse_args(argv)
    from mamp_mmaction.utils import errors_as_one_line

    with errors_as_one_line():
        run(args)


if __name__ == '__main__':
    main()
