"""Pre-train, probe and fine-tune on made data, and print a table.

Makes the toy data set, pre-trains MAMP and the reconstruction baseline,
probes both and random weights, fine-tunes MAMP, all with the toolbox's own
train.py and the configs of this repository. Finished steps are skipped, so
an interrupted run can be taken up again.
"""

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from training_runs import (
    ROOT,
    data_options,
    make_toy_data,
    read_curve,
    train_and_tell,
)

from mamp_mmaction.datasets.conversion import available_cores

CONFIGS = ROOT / 'configs' / 'mamp' / 'toy'
NAME = 'mamp_1xb32-{protocol}_toy-xsub-keypoint-3d'
METRIC = 'acc/top1'


@dataclass
class Run:
    """One training: a protocol's config, and the run it starts from."""

    title: str
    protocol: str
    start: 'Run | None' = None

    @property
    def config(self) -> Path:
        """The config file."""
        return CONFIGS / f'{NAME.format(protocol=self.protocol)}.py'

    @property
    def folder(self) -> str:
        """Name of the working directory."""
        return self.title.lower().replace(' ', '-').replace(',', '')


MAMP = Run('Pre-training, MAMP', 'pretrain-60e')
MAE = Run('Pre-training, reconstruction', 'mae-60e')
PROBE_RANDOM = Run('Linear probe, random weights', 'linear-30e')
PROBE_MAE = Run('Linear probe, reconstruction', 'linear-30e', MAE)
PROBE_MAMP = Run('Linear probe, MAMP', 'linear-30e', MAMP)
FINETUNE = Run('Fine-tuned, MAMP', 'finetune-20e', MAMP)
# Runs of one stage need nothing of each other and share the cores.
STAGES = ((MAMP, MAE), (PROBE_RANDOM, PROBE_MAE), (PROBE_MAMP, FINETUNE))


def parse_args(argv=None):
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=ROOT / 'work_dirs' / 'quick_start',
        help='folder for data, logs and weights (default: %(default)s)',
    )
    parser.add_argument('--seed', type=int, default=0, help='default: 0')
    return parser.parse_args(argv)


def train_run(run: Run, args, threads: int) -> None:
    """Train one run, unless it is finished.

    Args:
        run (Run): The run.
        args (Namespace): The command line.
        threads (int): Threads that it may compute with.
    """
    train_and_tell(
        run.title,
        run.config,
        args.work_dir / run.folder,
        data_options(args.work_dir / 'toy.pkl'),
        args.seed,
        threads,
        run.start and args.work_dir / run.start.folder,
    )


def print_table(work_dir: Path) -> None:
    """Print losses and accuracies of all runs.

    Args:
        work_dir (Path): Folder of the runs' folders.
    """
    print('\n| pre-training | validation loss | of predicting zero |')
    print('| --- | --- | --- |')
    for run in (MAMP, MAE):
        folder = work_dir / run.folder
        mse, zero = (
            read_curve(folder, f'masked_motion/{name}')[-1]
            for name in ('mse', 'zero_mse')
        )
        print(f'| {run.title} | {mse:.3f} | {zero:.3f} |')
    print('\n| classification | top-1, last epoch | best epoch |')
    print('| --- | --- | --- |')
    for run in (PROBE_RANDOM, PROBE_MAE, PROBE_MAMP, FINETUNE):
        curve = read_curve(work_dir / run.folder, METRIC)
        last, best = 100 * curve[-1], 100 * max(curve)
        print(f'| {run.title} | {last:.1f} % | {best:.1f} % |')


def main(argv=None):
    """Run the command."""
    args = parse_args(argv)
    args.work_dir = args.work_dir.resolve()
    cores = available_cores()
    print('Making the toy data set ...', flush=True)
    make_toy_data(args.work_dir / 'toy.pkl')
    began = time.monotonic()
    print(f'Training on {cores} cores ...', flush=True)
    for stage in STAGES:
        threads = max(cores // len(stage), 1)
        with ThreadPoolExecutor(len(stage)) as pool:
            list(pool.map(lambda run: train_run(run, args, threads), stage))  # noqa: B023
    print(f'Trained for {time.monotonic() - began:.0f} s.')
    print_table(args.work_dir)
    print(f'\nLogs and weights are in {args.work_dir}.')


if __name__ == '__main__':
    main()
