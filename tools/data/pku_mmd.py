"""Convert PKU-MMD I or II to the toolbox's annotation format.

The release has a folder skeleton with a text file a video, a line a frame of
150 numbers (two persons x 25 joints x xyz, zero where a person is absent); a
folder label with files of the same names, a line class,start,end,confidence
an action instance; and files that say which videos are for training. Written
are the instances, cut to their first 300 frames, with the splits xsub_train,
xsub_val, xview_train and xview_val. A person who is absent from a whole
instance is not stored, and an instance without any person is left out.
Coordinates stay as they are; there are 51 classes in both phases.
"""

import argparse
from functools import partial
from pathlib import Path

SPLITS = {'xsub': 'cross_subject', 'xview': 'cross_view'}


def read_split(raw_dir: Path, kind: str, phase: int) -> frozenset:
    """Return the names of the training videos.

    The file has a heading, the training videos on one line separated by
    commas, a heading, and the validation videos likewise. Whatever is not a
    training video counts as validation, so the latter are only checked.

    Args:
        raw_dir (Path): The folder of the release; the file is there or in its
            folder ``split``, in either spelling.
        kind (str): ``'cross_subject'`` or ``'cross_view'``.
        phase (int): 1 or 2.

    Raises:
        ValueError: There is not one file, it is of another form, or a video
            is in both parts.
    """
    name = f'{kind}{"_v2" if phase == 2 else ""}.txt'
    found = [
        path
        for folder in (raw_dir, raw_dir / 'split')
        for path in sorted(folder.glob('*.txt'))
        if path.name.replace('-', '_') == name
    ]
    if len(found) != 1:
        raise ValueError(
            f'{raw_dir}: expected one file {name} or {name.replace("_", "-")} '
            f'there or in its folder split, found {len(found)}'
            f'{": " if found else ""}{", ".join(map(str, found))}.'
        )
    text = found[0].read_bytes().decode('ascii', errors='replace')
    lines = [line for line in text.splitlines() if line.strip()]
    parts = [
        frozenset(video.strip() for video in line.split(',')) - {''}
        for line in lines[1::2]
    ]
    if len(lines) != 4 or not all(parts):
        raise ValueError(
            f'{found[0]}: found {len(lines)} lines that are not blank, '
            'expected a heading, the training videos on one line separated by '
            'commas, a heading, and the validation videos likewise.'
        )
    both = sorted(parts[0] & parts[1])
    if both:
        raise ValueError(
            f'{found[0]}: names {len(both)} videos for both training and '
            f'validation, the first is {both[0]!r}.'
        )
    return parts[0]


def find_videos(raw_dir: Path) -> list[str]:
    """List the videos that have a skeleton or a label file.

    Raises:
        FileNotFoundError: There are none.
    """
    names = {
        path.stem
        for folder in ('skeleton', 'label')
        for path in (raw_dir / folder).glob('*.txt')
    }
    if not names:
        raise FileNotFoundError(
            f'{raw_dir}: holds neither skeleton/*.txt nor label/*.txt; give '
            'the folder that has the folders skeleton and label.'
        )
    return sorted(names)


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'raw_dir',
        type=Path,
        help='folder with the folders skeleton and label; the split files, '
        'cross-subject.txt and cross-view.txt (II: cross_subject_v2.txt and '
        'cross_view_v2.txt; hyphen and underscore are the same), are there or '
        'in its folder split',
    )
    parser.add_argument('out', help='annotation file to write (.pkl)')
    parser.add_argument(
        '--phase',
        type=int,
        choices=(1, 2),
        required=True,
        help='which phase the files are of',
    )
    parser.add_argument(
        '--num-workers',
        type=int,
        metavar='N',
        help='worker processes (default: the cores available)',
    )
    parser.add_argument(
        '--strict',
        action='store_true',
        help='stop at the first broken file or instance instead of leaving it '
        'out',
    )
    return parser.parse_args(argv)


def main(argv=None) -> None:
    """Convert, and say what was kept and what was left out."""
    args = parse_args(argv)
    from mamp_mmaction.datasets.class_names import CLASS_NAMES
    from mamp_mmaction.datasets.conversion import convert
    from mamp_mmaction.datasets.raw_files.pku_mmd import read_video
    from mamp_mmaction.utils import errors_as_one_line

    with errors_as_one_line():
        videos = find_videos(args.raw_dir)
        train = {
            kind: read_split(args.raw_dir, file, args.phase)
            for kind, file in SPLITS.items()
        }

        def is_in(names: frozenset):
            return lambda instance: instance.rpartition('_')[0] in names

        convert(
            partial(read_video, raw_dir=args.raw_dir, strict=args.strict),
            videos,
            args.out,
            CLASS_NAMES['pku_mmd'],
            {kind: is_in(names) for kind, names in train.items()},
            args.num_workers,
            args.strict,
        )
        for kind, names in train.items():
            missing = len(names.difference(videos))
            if missing:
                print(
                    f'note: {missing} of the {len(names)} training videos of '
                    f'{kind} have no file'
                )


if __name__ == '__main__':
    main()
