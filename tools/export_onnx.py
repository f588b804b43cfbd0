"""Write a skeleton recogniser to an ONNX file, and check it against torch.

CONFIG and CHECKPOINT are of a recogniser that was fine-tuned, probed or
trained from scratch: of this project's transformer, or of a graph
convolution. OUT.onnx takes ``input_tensor``, (N, M, T, V, C) as the config's
test pipeline ends, one clip a sample, for any N, and gives ``cls_score``, the
logits (N, classes).

Its metadata say what goes in and what comes out: num_persons, num_frames,
num_joints, num_channels, and classes, a JSON list of names, where the
checkpoint knows them.

The file is written only if onnxruntime gives what torch gives, to 1e-4 (of
the largest logit, where that is above 1), for batches of 1 and 5 and for every
number of persons who are there, the others being zero.
"""

import argparse
import json
import logging
import warnings
from pathlib import Path

INPUT, OUTPUT = 'input_tensor', 'cls_score'  # as the toolbox's script
BATCHES = (1, 5)
TOLERANCE = 1e-4


def parse_args(argv=None):
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='config of the recogniser')
    parser.add_argument('checkpoint', help='path or URL of its weights')
    parser.add_argument('out', type=Path, help='.onnx file to write')
    parser.add_argument(
        '--shape',
        nargs=4,
        type=int,
        metavar=('M', 'T', 'V', 'C'),
        help='persons, frames, joints and coordinates of the samples made '
        'for the pipeline (default: read off the config)',
    )
    args = parser.parse_args(argv)
    if args.out.suffix != '.onnx':
        parser.error(f'{args.out}: expected a name that ends in .onnx')
    if args.shape and min(args.shape) < 1:
        parser.error(f'--shape {args.shape}: expected numbers from 1')
    return args


def build_recogniser(args):
    """The config, its recogniser with the weights, and their metadata."""
    from mmaction.models import RecognizerGCN
    from mmaction.registry import MODELS

    from mamp_mmaction.config import load_config
    from mamp_mmaction.models.state_dict_checks import load_weights

    cfg = load_config(args.config, needed=['model'])
    model = MODELS.build(cfg.model).eval()
    if not isinstance(model, RecognizerGCN) or not model.with_cls_head:
        raise ValueError(
            f'{args.config} is of a {type(model).__name__}, which is not '
            'exported: expected a recogniser of skeletons (RecognizerGCN), '
            'as the finetune, linear and scratch configs have.'
        )
    if cfg.model.backbone.get('keep_ratio', 1) < 1:
        raise ValueError(
            f'{args.config}: keep_ratio={cfg.model.backbone.keep_ratio} is '
            'not exported, as torch and onnxruntime choose differently among '
            'tokens that move alike: set model.backbone.keep_ratio=1.'
        )
    checkpoint = load_weights(model, args.checkpoint)
    return cfg, model, checkpoint.get('meta') or {}


def export(model, example, path, metadata):
    """Write the ONNX file.

    ``example`` are skeletons (N, M, T, V, C) with N > 1, as torch takes a 1
    for a constant.
    """
    import torch

    class Scores(torch.nn.Module):
        """From skeletons of one clip to logits."""

        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, keypoint):
            return self.model.extract_feat(keypoint[:, None], stage='head')[0]

    # They tell of torchvision, which nothing here needs.
    logging.getLogger('torch.onnx').setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        program = torch.onnx.export(
            Scores().eval(),
            (example,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: 'batch'},),
            dynamo=True,
            verbose=False,
        )
    # Else every operation bears the paths and the code that it came from.
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()
    program.model.metadata_props.update(metadata)
    program.save(path)


def largest_difference(model, samples, path):
    """The largest difference between torch's logits and the file's."""
    import onnxruntime
    import torch
    from mmengine.dataset import pseudo_collate

    session = onnxruntime.InferenceSession(
        path, providers=['CPUExecutionProvider']
    )
    worst = 0.0
    for count in BATCHES:
        data = pseudo_collate(samples[:count])
        inputs = torch.stack(data['inputs'])  # (N, 1, M, T, V, C)
        for present in range(1, inputs.shape[2] + 1):
            x = inputs.clone()
            x[:, :, present:] = 0
            batch = model.data_preprocessor(
                dict(data, inputs=list(x)), training=False
            )
            with torch.no_grad():
                expected = model.extract_feat(batch['inputs'], stage='head')[0]
            (found,) = session.run([OUTPUT], {INPUT: x[:, 0].numpy()})
            difference = (expected - torch.from_numpy(found)).abs().max()
            allowed = TOLERANCE * max(1, expected.abs().max().item())
            # A comparison with NaN is never true.
            if not difference <= allowed:
                raise ValueError(
                    f'the ONNX file gives other logits than torch, by '
                    f'{difference:.2g} for a batch of {count} with {present} '
                    f'persons; allowed are {allowed:.2g}. Nothing was '
                    'written.'
                )
            worst = max(worst, difference.item())
    return worst


def run(args):
    """Export and check as the command line says."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f'ONNX export needs {error.name}: '
            "pip install 'mamp-mmaction[onnx]'."
        ) from error
    import torch

    from mamp_mmaction.datasets.made_samples import make_samples
    from mamp_mmaction.utils import written_whole
    from mamp_mmaction.utils.atomic import check_writable

    check_writable(args.out)
    cfg, model, meta = build_recogniser(args)
    samples = make_samples(cfg, model, max(BATCHES), args.shape)
    example = torch.cat([sample['inputs'] for sample in samples])
    classes = (meta.get('dataset_meta') or {}).get('classes') or ()
    names = 'num_persons', 'num_frames', 'num_joints', 'num_channels'
    metadata = dict(zip(names, map(str, example.shape[1:])))
    if len(classes) == model.cls_head.num_classes:
        metadata['classes'] = json.dumps(list(classes), ensure_ascii=False)
    with written_whole(args.out) as temporary:
        export(model, example, temporary, metadata)
        worst = largest_difference(model, samples, temporary)
    sizes = ', '.join(map(str, example.shape[1:]))
    print(
        f'Wrote {args.out}: (N, {sizes}) to {model.cls_head.num_classes} '
        f'classes, {"with" if "classes" in metadata else "without"} their '
        f'names. Largest difference from torch: {worst:.2g}.'
    )


def main(argv=None):
    """Run the command."""
    args = parse_args(argv)
    from mamp_mmaction.utils import errors_as_one_line

    with errors_as_one_line():
        run(args)


if __name__ == '__main__':
    main()
