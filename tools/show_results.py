"""Draw pictures of results, each to a PNG file.

confusion    which classes a recogniser confuses, and how often each is right
features     features in a plane, coloured by class
curves       loss and accuracies of trainings
attribution  which joints and times decided a recogniser's answers
"""

import argparse
from collections import Counter
from pathlib import Path

# What trainings are judged by, where they log it.
KEYS = ('loss', 'acc/top1', 'probe/knn_top1', 'probe/linear_top1')
SHOWN_PAIRS = 10


def parse_args(argv=None):
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest='command', required=True)

    def add(name, text):
        command = commands.add_parser(name, description=text)
        command.add_argument(
            '--out',
            type=Path,
            required=True,
            metavar='OUT.png',
            help='the picture',
        )
        return command

    def add_classes(command):
        command.add_argument(
            '--classes',
            metavar='NAME_OR_FILE',
            help='class names: a data set such as ntu60, an annotation file '
            'with them, or a text file of one a line (default: numbers)',
        )

    confusion = add(
        'confusion',
        'Draw the confusion matrix and the accuracy of each class, with its '
        'standard error, and print what is confused most.',
    )
    confusion.add_argument(
        'dump', type=Path, help='what test CONFIG CHECKPOINT --dump wrote'
    )
    add_classes(confusion)
    confusion.add_argument(
        '--most',
        type=int,
        metavar='N',
        help='draw only the N classes that take part in the most errors '
        '(default: all)',
    )
    features = add('features', 'Draw features in two dimensions.')
    features.add_argument(
        'files',
        nargs='+',
        type=Path,
        metavar='FILE.npz',
        help='what extract_features.py wrote; drawn side by side',
    )
    add_classes(features)
    features.add_argument(
        '--method',
        choices=('tsne', 'pca'),
        default='tsne',
        help='t-SNE, or the two principal components (default: %(default)s)',
    )
    curves = add('curves', 'Draw what trainings logged, over their epochs.')
    curves.add_argument('work_dirs', nargs='+', type=Path, metavar='WORK_DIR')
    curves.add_argument(
        '--keys',
        nargs='+',
        metavar='KEY',
        help='what to draw, by its name in the logs (default: those of '
        f'{", ".join(KEYS)} that there are)',
    )
    attribution = add(
        'attribution',
        'Draw which joints and frames spoke for the answer of a recogniser '
        'of skeletons, and which against it, by integrated gradients from '
        'the sequence whose joints all are at zero; and print the joints '
        'that did most.',
    )
    attribution.add_argument('config', help='config of the recogniser')
    attribution.add_argument('checkpoint', help='path or URL of its weights')
    attribution.add_argument(
        '--samples',
        nargs='+',
        default=['3'],
        metavar='N_OR_NAME',
        help='names of samples of the test data, or how many, spread over it '
        '(default: 3)',
    )
    add_classes(attribution)
    attribution.add_argument(
        '--layout',
        metavar='NAME_OR_FILE',
        help='names of joints, and bones: a name of the layout table, or a '
        "Python file that registers a layout (default: the config's, else the "
        'only known layout of as many joints, if any)',
    )
    attribution.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='settings that replace those of the config',
    )
    args = parser.parse_args(argv)
    if args.out.suffix != '.png':
        parser.error(f'--out {args.out} does not end in .png')
    words = getattr(args, 'samples', ())
    if len(words) == 1 and words[0].isdecimal():
        args.samples = max(int(words[0]), 1)
    if getattr(args, 'most', None) is not None and args.most < 1:
        parser.error(f'--most {args.most} is less than 1')
    return args


def class_names(name_or_file, number, where, is_whole=False):
    """Names of at least so many classes, or of just as many."""
    from mamp_mmaction.datasets.class_names import read_class_names

    if name_or_file is None:
        return [f'{k}' for k in range(number)]
    names = read_class_names(name_or_file)
    if len(names) < number or (is_whole and len(names) > number):
        raise ValueError(
            f'{name_or_file} has {len(names)} class names, but {where} has '
            f'{"" if is_whole else "at least "}{number} classes.'
        )
    return names


def confusion(args):
    """Draw the confusion matrix of a dump, and print the worst of it."""
    import numpy as np
    from mmaction.evaluation import ConfusionMatrix

    from mamp_mmaction.evaluation.scores import read_scores
    from mamp_mmaction.utils import markdown_table
    from mamp_mmaction.utils.plots import draw_confusion

    found = read_scores(args.dump)
    number = found.scores.shape[1]
    classes = class_names(args.classes, number, args.dump, is_whole=True)
    counts = ConfusionMatrix.calculate(found.scores, found.labels).numpy()
    errors = counts - np.diag(counts.diagonal())
    shown = None
    if args.most is not None and args.most < number:
        involved = errors.sum(axis=0) + errors.sum(axis=1)
        shown = sorted(np.argsort(-involved, kind='stable')[: args.most])
    draw_confusion(args.out, counts, classes, shown)
    order = np.argsort(-errors, axis=None, kind='stable')[:SHOWN_PAIRS]
    rows = [
        (classes[i], classes[j], errors[i, j], counts[i].sum())
        for i, j in zip(*np.unravel_index(order, errors.shape))
        if errors[i, j]
    ]
    if rows:
        header = ('true class', 'answer', '>answers', '>of samples')
        print(markdown_table(header, rows))


def features(args):
    """Draw features in a plane."""
    from mamp_mmaction.evaluation.embedding import embed
    from mamp_mmaction.evaluation.extraction import read_features
    from mamp_mmaction.utils.plots import draw_embeddings

    panels = {}
    for path in args.files:
        x, y, _ = read_features(path)
        try:
            panels[f'{path}' if path.stem in panels else path.stem] = (
                embed(x, args.method),
                y,
            )
        except ValueError as error:
            raise ValueError(f'{path}: {error}') from error
    tops = {
        int(y.max()) + 1: path
        for path, (_, y) in zip(args.files, panels.values())
    }
    classes = class_names(args.classes, max(tops), tops[max(tops)])
    draw_embeddings(args.out, panels, dict(enumerate(classes)))


def curves(args):
    """Draw the curves of trainings."""
    from mamp_mmaction.evaluation.run_log import read_curve
    from mamp_mmaction.utils.plots import draw_curves

    panels = {}
    for folder in args.work_dirs:
        found = {
            key: curve
            for key in args.keys or KEYS
            if (curve := read_curve(folder, key))
        }
        if not found:
            raise ValueError(
                f'{folder}: no training below it has logged any of '
                f'{", ".join(args.keys or KEYS)}; expected a work directory, '
                'with logs in */vis_data.'
            )
        for key, curve in found.items():
            points = [(step, value, None) for step, value in curve.items()]
            panels.setdefault(key, {})[f'{folder}'] = points
    missing = [key for key in args.keys or () if key not in panels]
    if missing:
        raise ValueError(f'none of the trainings has logged {missing[0]!r}.')
    order = [key for key in args.keys or KEYS if key in panels]
    draw_curves(
        args.out,
        {key: panels[key] for key in order},
        'epoch',
        '',
        'training',
        is_log=False,
    )


def attribution(args):
    """Draw what decided a recogniser's answers."""
    from mmaction.registry import MODELS
    from mmengine.dataset import pseudo_collate

    from mamp_mmaction.config import load_config
    from mamp_mmaction.datasets.positions import positions_seen
    from mamp_mmaction.evaluation.attribution import attribute_answer
    from mamp_mmaction.evaluation.extraction import split_dataloader
    from mamp_mmaction.evaluation.masked_sample import choose_samples
    from mamp_mmaction.layouts import find_layout
    from mamp_mmaction.models.state_dict_checks import load_weights
    from mamp_mmaction.utils import markdown_table
    from mamp_mmaction.utils.pictures import draw_contributions

    cfg = load_config(args.config, args.cfg_options, needed=['model'])
    model = MODELS.build(cfg.model)
    load_weights(model, args.checkpoint)
    dataset = split_dataloader(cfg, 'test').dataset
    samples, rows = [], []
    given = args.layout or cfg.get('model_layout')
    for place in choose_samples(dataset, args.samples):
        batch = model.data_preprocessor(
            pseudo_collate([dataset[place]]), training=False
        )
        found = attribute_answer(model, batch['inputs'][0])
        weights = found.contributions.numpy()
        layout, _ = find_layout(given, weights.shape[2])
        joints = layout.joint_names if layout else range(weights.shape[2])
        info = dataset.get_data_info(place)
        name = str(info.get('frame_dir', info.get('filename', place)))
        label = batch['data_samples'][0].get('gt_label')
        known = [found.answer, *([] if label is None else label.tolist())]
        classes = class_names(args.classes, max(known) + 1, args.config)
        answer = f'{classes[found.answer]} ({found.probability:.0%})'
        truth = ', '.join(classes[k] for k in known[1:]) or '-'
        title = f'{name[-40:]}   answer: {answer}   true class: {truth}'
        samples.append((title, positions_seen(dataset, place), weights))
        shares = Counter(dict(zip(joints, weights.sum(axis=(0, 1)))))
        most = [f'{j} {x:+.2f}' for j, x in shares.most_common(3)]
        rise = f'{found.rise:+.2f} ({weights.sum():+.2f})'
        rows.append((name, truth, answer, rise, ', '.join(most)))
    draw_contributions(args.out, samples, layout)
    header = (
        'sample',
        'true class',
        'answer',
        'score above zero input (sum of contributions)',
        'joints that contributed most',
    )
    print(markdown_table(header, rows))


def main(argv=None):
    """Run the command."""
    args = parse_args(argv)
    from mamp_mmaction.utils import errors_as_one_line
    from mamp_mmaction.utils.atomic import check_writable

    draw = dict(
        confusion=confusion,
        features=features,
        curves=curves,
        attribution=attribution,
    )
    with errors_as_one_line():
        check_writable(args.out)
        draw[args.command](args)
        print(f'Drawn in {args.out}')


if __name__ == '__main__':
    main()
