"""Draw what the method makes of one sample of an annotation file.

The sample goes through the validation pipeline of CONFIG, the config of a
pre-training. A picture OUT.png shows the skeleton over time, masked joints
faded; the motion intensity, joints by time, beside masks of several kinds;
and, with a CHECKPOINT, the motion that is predicted at masked joints and the
true one, as arrows. OUT.gif and OUT.mp4 show the skeleton moving. Of three
coordinates x and y are drawn.
"""

import argparse
from pathlib import Path

SUFFIXES = ('.png', '.gif', '.mp4')


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('file', type=Path, help='annotation file (.pkl)')
    parser.add_argument('config', help='config of a pre-training')
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='path or URL of its weights (default: nothing is predicted)',
    )
    parser.add_argument(
        '--sample', metavar='NAME', required=True, help='its frame_dir'
    )
    parser.add_argument(
        '--out',
        type=Path,
        required=True,
        help='the picture (.png) or animation (.gif, .mp4) to write',
    )
    parser.add_argument(
        '--layout',
        metavar='NAME_OR_FILE',
        help='which joints the model gets: a name of the layout table, or a '
        'Python file that registers a layout (default: the one that the '
        'config tells, else the only known one of as many joints, else no '
        'bones)',
    )
    parser.add_argument(
        '--tau',
        type=float,
        nargs='+',
        metavar='TAU',
        help='temperatures of the motion-aware masks that are compared '
        '(default: 0.1 0.8 3.2)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='settings that replace those of the config',
    )
    args = parser.parse_args(argv)
    if args.out.suffix not in SUFFIXES:
        parser.error(
            f'--out: {args.out} ends in none of {", ".join(SUFFIXES)}'
        )
    if args.tau and min(args.tau) <= 0:
        parser.error(f'--tau: {min(args.tau):g} is not above 0')
    return args


def run(args) -> None:
    """Read the sample, predict, and draw."""
    from mmaction.registry import MODELS

    from mamp_mmaction.config import load_config
    from mamp_mmaction.evaluation.masked_sample import (
        build_dataset,
        find_sample,
        masked_sample,
        motion_predictor,
    )
    from mamp_mmaction.layouts import find_layout
    from mamp_mmaction.models.state_dict_checks import load_weights
    from mamp_mmaction.utils import method_pictures, written_whole
    from mamp_mmaction.utils.atomic import check_writable

    check_writable(args.out)
    needed = ['model', 'val_dataloader']
    cfg = load_config(args.config, args.cfg_options, needed)
    model = motion_predictor(MODELS.build(cfg.model), args.config)
    if args.checkpoint:
        load_weights(model, args.checkpoint)
    dataset = build_dataset(cfg.val_dataloader.dataset, args.file)
    place = find_sample(dataset, args.sample)
    sample = masked_sample(model, dataset, place, bool(args.checkpoint))
    given = args.layout or cfg.get('model_layout')
    layout, told = find_layout(given, sample.keypoint.shape[2])
    print(f'Layout: {told}')
    if args.out.suffix == '.png':
        figure = method_pictures.draw_sheet(
            sample, layout, args.tau or method_pictures.TAUS
        )
        with written_whole(args.out) as temporary:
            figure.savefig(temporary, format='png')
    else:
        method_pictures.animate_sample(args.out, sample, layout)
    print(f'Drawn in {args.out}')


def main(argv=None) -> None:
    """Run the command."""
    args = parse_args(argv)
    from mamp_mmaction.utils import errors_as_one_line

    with errors_as_one_line():
        run(args)


if __name__ == '__main__':
    main()
