"""Convert the MSR-Action3D release to the toolbox's annotation format.

The release is a text file a sequence, ``aAA_sSS_eEE_skeleton3D.txt`` (action,
subject, repetition): a line a joint, ``x y z confidence`` in metres, 20 lines
a frame.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mamp_mmaction.datasets.annotation_file import (
    summarise,
    write_annotations,
)
from mamp_mmaction.datasets.progress import track
from mamp_mmaction.layouts import get_layout

NUM_JOINTS = get_layout('msr_action3d').num_joints
COLUMNS = ('x', 'y', 'z', 'confidence')
SUFFIX = '_skeleton3D.txt'
SEQUENCE_NAME = re.compile(r'a(\d\d)_s(\d\d)_e(\d\d)')
NUM_SUBJECTS = 10

CLASSES = (
    'high arm wave',
    'horizontal arm wave',
    'hammer',
    'hand catch',
    'forward punch',
    'high throw',
    'draw X',
    'draw tick',
    'draw circle',
    'hand clap',
    'two hand wave',
    'side boxing',
    'bend',
    'forward kick',
    'side kick',
    'jogging',
    'tennis swing',
    'tennis serve',
    'golf swing',
    'pickup and throw',
)


def convert(
    files: Sequence[Path], strict: bool = False
) -> tuple[dict, list, list, list]:
    """Read sequences.

    Args:
        files (list[Path]): The files of the release.
        strict (bool): Whether a broken file stops the conversion rather than
            being left out. Defaults to False.

    Returns:
        tuple[dict, list, list, list]: Names by split, annotations, messages
        on broken files, names of sequences without a tracked frame.

    Raises:
        ValueError: With ``strict``, a file is broken; names file and line.
    """
    split = {'xsub_train': [], 'xsub_val': []}
    annotations, broken, untracked = [], [], []
    for path in track(files, len(files)):
        try:
            annotation, subject = read_sequence(path)
        except (ValueError, OSError) as error:
            if strict:
                raise
            broken.append(str(error))
            continue
        if not annotation['total_frames']:
            untracked.append(annotation['frame_dir'])
            continue
        annotations.append(annotation)
        part = 'xsub_train' if subject % 2 else 'xsub_val'
        split[part].append(annotation['frame_dir'])
    return split, annotations, broken, untracked


def read_sequence(path: Path) -> tuple[dict, int]:
    """Read one sequence without the frames in which tracking failed.

    Args:
        path (Path): A file of the release.

    Returns:
        tuple[dict, int]: The annotation, ``keypoint`` (1, T, 20, 3) in metres,
        and the subject's number.

    Raises:
        ValueError: The name or a line of the file is not the release's.
    """
    name = path.name[: -len(SUFFIX)]
    action, subject = parse_name(name, path)
    frames = read_frames(path)
    # A failed frame has all its coordinates, not its confidences, at zero.
    keypoint = frames[frames[..., :3].any(axis=(1, 2)), :, :3]
    annotation = {
        'frame_dir': name,
        'label': action - 1,
        'total_frames': len(keypoint),
        'keypoint': keypoint[None].astype(np.float32),
    }
    return annotation, subject


def parse_name(name: str, where: Path) -> tuple[int, int]:
    """Return action and subject of a name such as ``a01_s01_e01``."""
    match = SEQUENCE_NAME.fullmatch(name)
    action, subject, _ = map(int, match.groups()) if match else (0, 0, 0)
    if not (1 <= action <= len(CLASSES) and 1 <= subject <= NUM_SUBJECTS):
        raise ValueError(
            f'{where}: {name!r} names no sequence, expected aAA_sSS_eEE with '
            f'an action 01 to {len(CLASSES)} and a subject 01 to '
            f'{NUM_SUBJECTS}.'
        )
    return action, subject


def read_frames(path: Path) -> np.ndarray:
    """Read the numbers (T, 20, 4) of one file.

    Raises:
        ValueError: Names the first line that does not hold four finite
            numbers, or says that the last frame is incomplete.
    """
    text = path.read_text(encoding='ascii', errors='replace')
    lines = text.rstrip().splitlines()
    if not lines or len(lines) % NUM_JOINTS:
        raise ValueError(
            f'{path}: {len(lines)} lines are no whole number of frames of '
            f'{NUM_JOINTS} lines; the file is truncated or of another format.'
        )
    try:
        values = _parse(lines)
    except ValueError:
        fault = next(i for i, line in enumerate(lines) if not _parses(line))
        raise ValueError(
            f'{path}, line {fault + 1}: {lines[fault][:60]!r}, expected '
            f'{len(COLUMNS)} finite numbers ({" ".join(COLUMNS)}).'
        ) from None
    return values.reshape(-1, NUM_JOINTS, len(COLUMNS))


def _parse(lines: Sequence[str]) -> np.ndarray:
    values = np.array([line.split() for line in lines], dtype=np.float64)
    if values.shape[1:] != (len(COLUMNS),) or not np.isfinite(values).all():
        raise ValueError('other columns, or not finite')
    return values


def _parses(line: str) -> bool:
    try:
        return bool(len(_parse([line])))
    except ValueError:
        return False


def find_files(raw_dir: Path, sequences: Path | None = None) -> list:
    """List the files of the release, or those of them that a list names.

    Args:
        raw_dir (Path): The folder of the files, or the one above.
        sequences (Path, optional): A file with a sequence's name a line.

    Raises:
        ValueError: There are none, or the list names one that is not there.
    """
    folder = raw_dir / 'real_world_coordinates'
    folder = folder if folder.is_dir() else raw_dir
    files = sorted(folder.glob('*' + SUFFIX))
    if not files:
        raise ValueError(
            f'{raw_dir}: holds no *{SUFFIX}, neither directly nor in '
            'real_world_coordinates; give the folder of the release.'
        )
    if sequences is None:
        return files
    names = sequences.read_text(encoding='ascii', errors='replace').split()
    present = {path.name[: -len(SUFFIX)]: path for path in files}
    missing = [name for name in names if name not in present]
    if missing or not names:
        raise ValueError(
            f'{sequences}: names {len(names)} sequences, of which '
            f'{len(missing)} are not in {folder}: {missing[:5]}; expected '
            'lines such as a01_s01_e01.'
        )
    return [present[name] for name in dict.fromkeys(names)]


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=(
            'Convert the MSR-Action3D skeletons (20 actions, 10 subjects, '
            '20 joints) to an annotation file with the splits xsub_train '
            '(subjects of odd number) and xsub_val. Frames in which tracking '
            'failed, all joints at 0 0 0, are left out. Coordinates stay as '
            'they are, in metres; the fourth column, the confidence, is not '
            'stored.'
        )
    )
    parser.add_argument(
        'raw_dir',
        type=Path,
        help=f'folder of the files aAA_sSS_eEE{SUFFIX}, or the folder that '
        'holds it as real_world_coordinates',
    )
    parser.add_argument('out', help='annotation file to write (.pkl)')
    parser.add_argument(
        '--sequences',
        type=Path,
        metavar='FILE',
        help='convert only the sequences that this file names, one a line as '
        'a01_s01_e01 (the standard list has 557 of the 567); default: all',
    )
    parser.add_argument(
        '--strict',
        action='store_true',
        help='stop at the first broken file instead of leaving it out',
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Convert, and say what was kept and what was left out."""
    args = parse_args(argv)
    try:
        files = find_files(args.raw_dir, args.sequences)
        split, annotations, broken, untracked = convert(files, args.strict)
        for message in broken:
            print(f'left out, broken: {message}', file=sys.stderr)
        for name in untracked:
            print(f'left out, no frame tracked: {name}', file=sys.stderr)
        if not annotations:
            raise ValueError(f'{args.raw_dir}: no usable sequence is left.')
        write_annotations(args.out, split, annotations, classes=CLASSES)
    except (ValueError, OSError) as error:
        sys.exit(f'\nerror: {error}')
    print(summarise(split, annotations))
    print(
        f'left out              {len(broken)} broken, {len(untracked)} '
        f'without a tracked frame\nWritten to {args.out}'
    )


if __name__ == '__main__':
    main()
