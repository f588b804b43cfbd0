"""Pre-train, probe and fine-tune on made data, and print a table.

Makes the toy data set, pre-trains MAMP and the reconstruction baseline,
probes both and random weights, fine-tunes MAMP, all with the toolbox's own
train.py and the configs of this repository. Finished steps are skipped, so
an interrupted run can be taken up again.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import mmaction

ROOT = Path(__file__).resolve().parents[1]
TRAIN = Path(mmaction.__path__[0], '.mim', 'tools', 'train.py')
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


def run_command(command, log: Path, threads: int) -> None:
    """Run a command with its output in a file.

    Args:
        command (list[str]): The command.
        log (Path): File of the output.
        threads (int): Threads that it may compute with.

    Raises:
        SystemExit: If it fails; the end of its output is shown.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
    with log.open('w') as output:
        code = subprocess.run(
            [sys.executable, *map(str, command)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        ).returncode
    if code:
        tail = '\n'.join(log.read_text().splitlines()[-15:])
        raise SystemExit(
            f'{command[0]} failed (exit status {code}):\n{tail}\n'
            f'The whole output is in {log}.'
        )


def train(run: Run, args, threads: int) -> None:
    """Train one run, unless it is finished.

    Args:
        run (Run): The run.
        args (Namespace): The command line.
        threads (int): Threads that it may compute with.
    """
    folder = args.work_dir / run.folder
    if (folder / 'finished').exists():
        print(f'  {run.title}: finished before', flush=True)
        return
    began = time.monotonic()
    start = None
    if run.start:
        pointer = args.work_dir / run.start.folder / 'last_checkpoint'
        start = pointer.read_text().strip()
    data = args.work_dir / 'toy.pkl'
    loaders = ('train_dataloader', 'val_dataloader')
    command = [TRAIN, run.config, '--work-dir', folder, '--seed', args.seed]
    command += ['--cfg-options', f'load_from={start}']
    command += [f'{loader}.dataset.ann_file={data}' for loader in loaders]
    run_command(command, folder / 'console.log', threads)
    (folder / 'finished').touch()
    print(f'  {run.title}: {time.monotonic() - began:.0f} s', flush=True)


def read_scalars(folder: Path) -> list[dict]:
    """The lines that mmengine logged in the newest run of a folder."""
    logs = sorted(folder.glob('*/vis_data/scalars.json'))
    return [json.loads(line) for line in logs[-1].read_text().splitlines()]


def print_table(work_dir: Path) -> None:
    """Print losses and accuracies of all runs.

    Args:
        work_dir (Path): Folder of the runs' folders.
    """
    print('\n| pre-training | validation loss | of predicting zero |')
    print('| --- | --- | --- |')
    for run in (MAMP, MAE):
        last = [
            line
            for line in read_scalars(work_dir / run.folder)
            if 'masked_motion/mse' in line
        ][-1]
        mse, zero = last['masked_motion/mse'], last['masked_motion/zero_mse']
        print(f'| {run.title} | {mse:.3f} | {zero:.3f} |')
    print('\n| classification | top-1, last epoch | best epoch |')
    print('| --- | --- | --- |')
    for run in (PROBE_RANDOM, PROBE_MAE, PROBE_MAMP, FINETUNE):
        scalars = read_scalars(work_dir / run.folder)
        curve = [100 * line[METRIC] for line in scalars if METRIC in line]
        print(f'| {run.title} | {curve[-1]:.1f} % | {max(curve):.1f} % |')


def main(argv=None):
    """Run the command."""
    args = parse_args(argv)
    args.work_dir = args.work_dir.resolve()
    cores = len(os.sched_getaffinity(0))
    data = args.work_dir / 'toy.pkl'
    if not data.exists():
        print('Making the toy data set ...', flush=True)
        maker = ROOT / 'tools' / 'data' / 'make_toy_dataset.py'
        run_command([maker, data], args.work_dir / 'data.log', cores)
    began = time.monotonic()
    print(f'Training on {cores} cores ...', flush=True)
    for stage in STAGES:
        threads = max(cores // len(stage), 1)
        with ThreadPoolExecutor(len(stage)) as pool:
            list(pool.map(lambda run: train(run, args, threads), stage))  # noqa: B023
    print(f'Trained for {time.monotonic() - began:.0f} s.')
    print_table(args.work_dir)
    print(f'\nLogs and weights are in {args.work_dir}.')


if __name__ == '__main__':
    main()
