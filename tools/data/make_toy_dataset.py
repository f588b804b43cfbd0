"""Make a small synthetic data set in the annotation format of the toolbox.

A body of 25 joints (NTU RGB+D) performs 16 actions, several of which differ
only in the direction or the speed of time, before cameras on several sides.
The splits xsub_train and xsub_val hold the subjects of odd and even number;
xview_val holds camera 1 and xview_train all others.
"""

import argparse


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument('out', help='the annotation file to write (.pkl)')
    for name, default, least, text in (
        ('--subjects', 16, 2, 'number of performers'),
        ('--repetitions', 1, 1, 'performances of each action by each'),
        ('--cameras', 2, 2, 'views of each performance'),
        ('--min-frames', 30, 2, 'length of the shortest sequences'),
        ('--max-frames', 80, 2, 'length of the longest sequences'),
        ('--seed', 0, 0, 'seed of everything that is drawn'),
    ):
        parser.add_argument(
            name,
            type=_at_least(least),
            default=default,
            metavar='N',
            help=text,
        )
    parser.add_argument(
        '--layout',
        default='nturgb+d',
        help='joints that are written, by their name in the layout table',
    )
    args = parser.parse_args(argv)
    if args.min_frames > args.max_frames:
        parser.error(
            f'--min-frames {args.min_frames} is more than --max-frames '
            f'{args.max_frames}.'
        )
    return args


def _at_least(least: int):
    def whole_number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(
                f'{value} is less than {least}, the least that makes sense'
            )
        return value

    return whole_number


def main(argv=None) -> None:
    """Write the data set and say what it holds."""
    args = vars(parse_args(argv))
    from mamp_mmaction.datasets.annotation_file import (
        summarise,
        write_annotations,
    )
    from mamp_mmaction.datasets.class_names import CLASS_NAMES
    from mamp_mmaction.datasets.toy import make_dataset
    from mamp_mmaction.utils import errors_as_one_line

    with errors_as_one_line():
        out = args.pop('out')
        split, annotations = make_dataset(**args)
        write_annotations(out, split, annotations, CLASS_NAMES['toy'])
        print(summarise(split, annotations))
        print(f'Written to {out}')


if __name__ == '__main__':
    main()
