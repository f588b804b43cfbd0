"""Show how fast the package is, one optimisation after the other.

Prints Markdown tables; without names of sections all of them:

  pipeline   a sample through the transforms, beside the toolbox's ST-GCN++
  step       a pre-training step, its optimisations switched on one by one
  inference  equal persons computed once, and fewer tokens by keep_ratio
  absent     a pre-training step that leaves out persons who are not there
  scale      how a step grows with frames and persons
  processes  a step on one and on two processes of the CPU
  runner     pre-training through mmengine's Runner, loading of data included

No data is needed: skeletons are made that have the size and the lengths of
NTU RGB+D 60. What is compared is timed in turns, so that a machine that
changes its pace favours nothing.
"""

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
import torch
from made_samples import find_dataset, load_config
from mmengine.dataset import BaseDataset
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from speed_cases import (
    SIZES,
    TIME_COLUMNS,
    Table,
    add_speed_up,
    build_dataset,
    one_line,
    recipe,
    summarise_times,
    time_in_turns,
    write_skeletons,
)
from speed_of_inference import bench_inference
from speed_of_training import (
    bench_absent,
    bench_processes,
    bench_runner,
    bench_scale,
    bench_step,
    run_rank,
)
from training_runs import describe_machine, write_text

from mamp_mmaction.datasets.conversion import available_cores

TOOLBOX_CONFIG = (
    'mmaction::skeleton/stgcnpp/'
    'stgcnpp_8xb16-joint-u100-80e_ntu60-xsub-keypoint-3d.py'
)


def bench_pipeline(ann_file: str, args: argparse.Namespace) -> list[Table]:
    """Time the training pipelines, as a whole and by transform."""
    toolbox = find_dataset(load_config(TOOLBOX_CONFIG), 'train_dataloader')
    pipelines = {
        'ST-GCN++ of the toolbox': ('PoseDataset', toolbox.pipeline),
        'MAMP pre-training': (
            'SkeletonDataset',
            recipe('pretrain_pipeline', args),
        ),
    }
    rows, calls, parts = [], {}, {}
    for name, (kind, pipeline) in pipelines.items():
        dataset = build_dataset(ann_file, pipeline, kind)
        rows.append(dict(name=name))
        try:
            dataset[0]
        except Exception as error:  # the toolbox's is for certain joints
            rows[-1]['error'] = one_line(error)
            continue
        parts[name] = []
        calls[name] = partial(take_all, dataset)
        calls[name, 'parts'] = partial(take_in_parts, dataset, parts[name])
    times = time_in_turns(calls, args)
    for row in rows:
        if row['name'] in times:
            taken = times[row['name']]['times_ms']
            row.update(summarise_times([ms / args.samples for ms in taken]))
            row['samples_per_s'] = 1000 / row['median_ms']
    add_speed_up(rows)
    whole = Table(
        'One sample through a training pipeline',
        {
            'pipeline': 'name',
            **TIME_COLUMNS,
            'samples/s and core': 'samples_per_s',
            'speed-up': 'speed_up',
        },
        rows,
        [
            f'{args.samples} sequences, in one process, from the annotation '
            'in memory to tensors; neither sent to another process nor '
            'collated.',
            f"MAMP's makes clips of {args.frames} frames with masks, the "
            "toolbox's is as its config says, without masks.",
        ],
    )
    shares = Table(
        'The same by transform',
        {
            'pipeline': 'pipeline',
            'transform': 'name',
            'ms a sample': 'ms',
            'share, %': 'percent',
        },
        [
            row
            for name in parts
            for row in _share_rows(name, parts[name][-args.repeats :], args)
        ],
        ['The first is the reading of the annotation. Medians.'],
    )
    return [whole, shares]


def take_all(dataset: BaseDataset) -> None:
    """Take every sample through the pipeline."""
    for index in range(len(dataset)):
        dataset[index]


def take_in_parts(
    dataset: BaseDataset, passes: list[dict[str, float]]
) -> None:
    """The same, with a clock behind every transform.

    Args:
        dataset (BaseDataset): The data set.
        passes (list[dict]): Gets one more: seconds by transform.
    """
    taken = dict.fromkeys([type(dataset).__name__], 0.0)
    for index in range(len(dataset)):
        start = time.perf_counter()
        results = dataset.get_data_info(index)
        stop = time.perf_counter()
        taken[type(dataset).__name__] += stop - start
        for transform in dataset.pipeline.transforms:
            start = time.perf_counter()
            results = transform(results)
            stop = time.perf_counter()
            name = type(transform).__name__
            taken[name] = taken.get(name, 0.0) + stop - start
    passes.append(taken)


def _share_rows(
    pipeline: str, passes: list[dict[str, float]], args: argparse.Namespace
) -> list[dict]:
    seconds = {
        name: float(np.median([taken[name] for taken in passes]))
        for name in passes[0]
    }
    total = sum(seconds.values())
    return [
        dict(
            pipeline=pipeline,
            name=name,
            ms=1000 * value / args.samples,
            percent=100 * value / total,
        )
        for name, value in seconds.items()
    ]


# The command

SECTIONS = dict(
    pipeline=bench_pipeline,
    step=bench_step,
    inference=bench_inference,
    absent=bench_absent,
    scale=bench_scale,
    processes=bench_processes,
    runner=bench_runner,
)


def run_section(
    name: str, ann_file: str, args: argparse.Namespace
) -> dict[str, object]:
    """Run a section; what others print goes to stderr.

    Args:
        name (str): Its name.
        ann_file (str): The annotation file.
        args (Namespace): The command line.

    Returns:
        dict: ``name`` and ``tables`` or, where it failed, ``error``.
    """
    print(f'{name} ...', file=sys.stderr, flush=True)
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('ERROR')
    try:
        with redirect_stdout(sys.stderr):
            return dict(name=name, tables=SECTIONS[name](ann_file, args))
    except (ValueError, OSError) as error:
        return dict(name=name, tables=[], error=str(error))
    except Exception as error:  # the other sections are worth having
        traceback.print_exc()
        return dict(name=name, tables=[], error=one_line(error))
    finally:
        logger.setLevel(level)


def format_section(section: dict) -> str:
    """A section in Markdown."""
    parts = [f'## {section["name"]}', *map(str, section['tables'])]
    if 'error' in section:
        parts.append(f'Failed: {section["error"]}')
    return '\n\n'.join(parts)


def format_header(args: argparse.Namespace) -> str:
    """Say what the figures were measured with."""
    precision = torch.get_float32_matmul_precision()
    sizes = ', '.join(
        f'{key} {getattr(args, key)}'
        for key in ('batch_size', *SIZES, 'samples', 'single_person')
    )
    lines = [
        f'{datetime.now().astimezone().isoformat(" ", "seconds")}; '
        f'{describe_machine()}; load {os.getloadavg()[0]:.1f}.',
        f'Device {args.device}; threads {torch.get_num_threads()}; precision '
        f'of float32 matrix products: {precision}'
        f'{" (no TF32)" if precision == "highest" else ""}.',
        f'{sizes.replace("_", " ")}.',
        'Times: medians with quartiles, after a warm-up, the rows of a table '
        'in turns.',
    ]
    return '\n'.join(f'- {line}' for line in lines)


def write_report(
    folder: Path, header: str, sections: list[dict], args: argparse.Namespace
) -> None:
    """Write ``benchmark_speed.md`` and ``benchmark_speed.json``.

    Args:
        folder (Path): Where; it is made if need be.
        header (str): What was measured with.
        sections (list[dict]): What :func:`run_section` returned.
        args (Namespace): The command line.
    """
    parts = ['# Speed', header, *map(format_section, sections)]
    write_text(folder / 'benchmark_speed.md', '\n\n'.join(parts) + '\n')
    report = dict(
        header=header.splitlines(),
        settings=vars(args),
        sections=[
            dict(section, tables=list(map(asdict, section['tables'])))
            for section in sections
        ],
    )
    text = json.dumps(report, indent=1, default=str)
    write_text(folder / 'benchmark_speed.json', f'{text}\n')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'sections',
        nargs='*',
        type=_section,
        metavar='SECTION',
        help='what to measure (default: everything)',
    )
    parser.add_argument(
        '--short',
        action='store_true',
        help='tiny sizes and one repeat, to see that all runs; without '
        'torch.compile and, unless it is named, without processes',
    )
    parser.add_argument(
        '--out',
        type=Path,
        metavar='FOLDER',
        help='write benchmark_speed.md and benchmark_speed.json (every '
        'single time) there',
    )
    parser.add_argument(
        '--device',
        choices=('cpu', 'cuda'),
        default='cuda' if torch.cuda.is_available() else 'cpu',
        help='default here: %(default)s',
    )
    options = dict(
        threads="threads of the CPU (default: torch's choice)",
        batch_size='samples of a batch (default: 128 on a GPU, else 4)',
        samples='sequences that are made (default: 4096 on a GPU, else 256)',
        iterations='measured iterations of the Runner, rounded up to whole '
        'epochs (default: 200 on a GPU, else as --repeats)',
    )
    for key, (default, short, text) in SIZES.items():
        options[key] = f'{text} (default: {default}, with --short {short})'
    for key, text in options.items():
        parser.add_argument(
            f'--{key.replace("_", "-")}', type=_natural, metavar='N', help=text
        )
    parser.add_argument(
        '--single-person',
        type=_share,
        default=0.8,
        metavar='SHARE',
        help='of the samples that hold one person (default: %(default)s)',
    )
    parser.add_argument(
        '--compile',
        action=argparse.BooleanOptionalAction,
        help='torch.compile as the last row of step (default: unless '
        '--short), and in runner (default: no)',
    )
    parser.add_argument(
        '--workers',
        type=int,
        metavar='N',
        help="processes of runner's data loader (default: up to 8 with a "
        'GPU, else none)',
    )
    parser.add_argument(
        '--pin-memory',
        action=argparse.BooleanOptionalAction,
        help="whether runner's data loader pins memory (default: with a GPU)",
    )
    parser.add_argument(
        '--config',
        type=Path,
        metavar='FILE',
        help='a recogniser of this repository whose accuracies inference '
        'adds for each keep_ratio',
    )
    parser.add_argument(
        '--checkpoint', type=Path, metavar='FILE', help='its trained weights'
    )
    parser.add_argument(
        '--ann-file',
        type=Path,
        metavar='FILE',
        help="annotations of its test set (default: the config's)",
    )
    # Where the first of the two processes writes its times.
    parser.add_argument('--rank-result', type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    _set_defaults(args)
    _check(args, parser)
    return args


def _set_defaults(args: argparse.Namespace) -> None:
    on_gpu = args.device == 'cuda'
    # With --short the same everywhere.
    batch_size, samples = (128, 4096) if on_gpu else (4, 256)
    workers = min(available_cores(), 8) if on_gpu else 0
    defaults = {key: sizes[args.short] for key, sizes in SIZES.items()}
    defaults.update(
        batch_size=5 if args.short else batch_size,
        samples=10 if args.short else samples,
        workers=0 if args.short else workers,
        pin_memory=on_gpu,
    )
    for key, value in defaults.items():
        if getattr(args, key) is None:
            setattr(args, key, value)
    if args.iterations is None:
        full = on_gpu and not args.short
        args.iterations = 200 if full else args.repeats
    args.compile_step = args.compile
    if args.compile is None:
        args.compile_step = not args.short
    if not args.sections:
        args.sections = list(SECTIONS)
        if args.short:
            args.sections.remove('processes')


def _check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    on_gpu = torch.cuda.is_available()
    if args.device == 'cuda' and not on_gpu:
        parser.error('--device cuda: torch finds no GPU here.')
    if (
        args.device == 'cpu'
        and on_gpu
        and ('runner' in args.sections or args.config)
    ):
        parser.error(
            "--device cpu: mmengine's Runner takes the GPU where there is "
            'one; set CUDA_VISIBLE_DEVICES= to hide it.'
        )
    if args.workers < 0:
        parser.error(f'--workers {args.workers} is less than 0.')
    if args.samples < args.batch_size:
        parser.error(
            f'--samples {args.samples} is less than a batch of '
            f'{args.batch_size}.'
        )
    if bool(args.config) != bool(args.checkpoint):
        parser.error('--config and --checkpoint belong together.')
    if args.config and 'inference' not in args.sections:
        parser.error('--config belongs to the section inference.')
    if args.ann_file and not (args.config or args.rank_result):
        parser.error('--ann-file belongs to --config.')
    for name in ('config', 'checkpoint', 'ann_file'):
        path = getattr(args, name)
        if path and not path.is_file():
            option = name.replace('_', '-')
            parser.error(f'--{option} {path}: there is no such file.')


def _section(text: str) -> str:
    if text not in SECTIONS:
        raise argparse.ArgumentTypeError(
            f'{text!r} is none of {", ".join(SECTIONS)}'
        )
    return text


def _natural(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'{value} is less than 1')
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f'{value} is outside of 0 to 1')
    return value


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print the tables."""
    args = parse_args(argv)
    init_default_scope('mmaction')
    if args.rank_result:
        run_rank(args)
        return
    if args.threads:
        torch.set_num_threads(args.threads)
    header = format_header(args)
    print(header, flush=True)
    sections = []
    with tempfile.TemporaryDirectory() as folder:
        ann_file = write_skeletons(Path(folder, 'skeletons.pkl'), args)
        for name in args.sections:
            sections.append(run_section(name, ann_file, args))
            print(f'\n{format_section(sections[-1])}', flush=True)
            if args.out:
                write_report(args.out, header, sections, args)
    failed = [section for section in sections if 'error' in section]
    for section in failed:
        print(f'error: {section["name"]}: {section["error"]}', file=sys.stderr)
    if failed:
        sys.exit(1)


if __name__ == '__main__':
    main()
