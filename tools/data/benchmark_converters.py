"""Time the NTU RGB+D and PKU-MMD converters on synthetic raw files.

Writes files in the releases' forms to a temporary folder, converts them, the
NTU files with the toolbox's converter too, and prints a Markdown table. Each
conversion runs in one process of its own, so that the figures are those of
one core. Time is counted from when the modules have been imported.
"""

import argparse
import importlib.util
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np

# ---------------------------------------------------------------------------
# Synthetic files
# ---------------------------------------------------------------------------

# Formatting numbers takes far longer than converting them: files are put
# together from this many blocks of text.
POOL_SIZE = 500
TRAIN_SHARE = 0.9  # of the videos
INSTANCES = 20  # actions in a video


def write_ntu_files(folder: Path, num_files: int, num_frames: int) -> None:
    """Write ``.skeleton`` files; two bodies in every third file."""
    rng = np.random.default_rng(0)
    pools = [_ntu_bodies(rng, body) for body in range(2)]
    folder.mkdir(parents=True)
    for i in range(num_files):
        names = np.unravel_index(i, (32, 3, 40, 2, 60))
        name = 'S{:03}C{:03}P{:03}R{:03}A{:03}'.format(*np.add(names, 1))
        bodies = 2 if i % 3 == 0 else 1
        with open(folder / f'{name}.skeleton', 'w', newline='\r\n') as file:
            file.write(f'{num_frames}\n')
            for _ in range(num_frames):
                file.write(f'{bodies}\n')
                for pool in pools[:bodies]:
                    file.write(pool[rng.integers(POOL_SIZE)])


def _ntu_bodies(rng: np.random.Generator, number: int) -> list[str]:
    """Return texts of one body in one frame."""
    values = rng.normal(size=(POOL_SIZE, 25, 11))
    values[..., 2] += 3
    values[..., 3:7] = 100 * values[..., 3:7] + 500
    head = f'{72057594037930000 + number} 0 1 1 1 1 0 0.0276 0.0575 2\n25\n'
    return [
        head
        + ''.join(
            ' '.join(f'{v:.7g}' for v in joint) + ' 2\n' for joint in body
        )
        for body in values
    ]


def write_pku_files(folder: Path, num_videos: int, num_frames: int) -> None:
    """Write the files of phase I; a second person in every third action."""
    rng = np.random.default_rng(0)
    pools = [_pku_frames(rng, persons) for persons in (1, 2)]
    for part in ('skeleton', 'label'):
        (folder / part).mkdir(parents=True)
    bounds = np.linspace(0, num_frames, INSTANCES + 1).astype(int)
    labels = [
        # An action fills the first half of its share of the video.
        f'{rng.integers(1, 52)},{start},{(start + end) // 2},2\n'
        for start, end in pairwise(bounds)
    ]
    names = [f'{i:04}-L' for i in range(num_videos)]
    for name in names:
        (folder / 'label' / f'{name}.txt').write_text(''.join(labels))
        with open(folder / 'skeleton' / f'{name}.txt', 'w') as file:
            for i, num_lines in enumerate(np.diff(bounds)):
                pool = pools[i % 3 == 0]
                for line in rng.integers(POOL_SIZE, size=num_lines):
                    file.write(pool[line])
    train = int(TRAIN_SHARE * num_videos)
    for kind in ('cross-subject', 'cross-view'):
        (folder / f'{kind}.txt').write_text(
            f'Training videos:\n{", ".join(names[:train])}\n'
            f'Validation videos:\n{", ".join(names[train:])}\n'
        )


def _pku_frames(rng: np.random.Generator, persons: int) -> list[str]:
    """Return texts of one frame."""
    values = rng.normal(size=(POOL_SIZE, 2, 75))
    values[:, persons:] = 0
    return [
        ' '.join(f'{v:.7f}' for v in frame) + '\n'
        for frame in values.reshape(POOL_SIZE, -1)
    ]


# ---------------------------------------------------------------------------
# Measuring
# ---------------------------------------------------------------------------


class Figures(NamedTuple):
    """What one conversion took: seconds, and MiB of memory.

    Attributes:
        wall (float): Time passed.
        cpu (float): Time on the processor.
        before (float): Memory once the modules are imported.
        peak (float): The most memory at any time.
    """

    wall: float
    cpu: float
    before: float
    peak: float


def measure(script: Path, function: str, *args: object) -> Figures:
    """Call a script's function in a fresh process."""
    context = get_context('spawn')
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_measure, script, function, args).result()


def _measure(script: Path, function: str, args: Sequence) -> Figures:
    spec = importlib.util.spec_from_file_location(script.stem, script)
    module = importlib.util.module_from_spec(spec)
    sys.modules[script.stem] = module
    spec.loader.exec_module(module)
    # The table is all that belongs on stdout, and the toolbox's progress bar
    # has taken hold of that already.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    before = _peak_memory()
    wall, cpu = time.perf_counter(), time.process_time()
    getattr(module, function)(*args)
    return Figures(
        time.perf_counter() - wall,
        time.process_time() - cpu,
        before,
        _peak_memory(),
    )


def _peak_memory() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == 'darwin' else 2**10)


def toolbox_script() -> Path:
    """Return the toolbox's NTU converter, which its package carries."""
    package = importlib.util.find_spec('mmaction').submodule_search_locations
    return Path(
        package[0], '.mim', 'tools', 'data', 'skeleton', 'gen_ntu_rgbd_raw.py'
    )


def measure_ntu(
    folder: Path, num_files: int, num_frames: int
) -> dict[str, Figures]:
    """Measure both NTU converters on the same files, one after the other."""
    raw = folder / 'ntu'
    write_ntu_files(raw, num_files, num_frames)
    args = [raw, folder / 'ntu.pkl', '--task', 'ntu60', '--keep-all']
    command = [str(arg) for arg in (*args, '--num-workers', 1, '--strict')]
    script = Path(__file__).with_name('ntu_rgbd.py')
    return {
        'NTU, ntu_rgbd.py': measure(script, 'main', command),
        f'NTU, toolbox ({toolbox_script().name})': measure(
            toolbox_script(), 'gendata', str(raw), str(folder), None, 'ntu60'
        ),
    }


def measure_pku(
    folder: Path, num_videos: int, num_frames: int
) -> dict[str, Figures]:
    """Measure the PKU converter."""
    raw = folder / 'pku'
    write_pku_files(raw, num_videos, num_frames)
    args = [raw, folder / 'pku.pkl', '--phase', 1]
    command = [str(arg) for arg in (*args, '--num-workers', 1, '--strict')]
    script = Path(__file__).with_name('pku_mmd.py')
    return {'PKU, pku_mmd.py': measure(script, 'main', command)}


# ---------------------------------------------------------------------------
# The command
# ---------------------------------------------------------------------------


def report(figures: dict[str, Figures], num_files: dict[str, int]) -> str:
    """Return the Markdown table.

    Args:
        figures (dict[str, Figures]): What each conversion took.
        num_files (dict[str, int]): For each the number of its files.
    """
    rows = [
        '| converter | files | CPU s | wall s | ms a file (CPU) '
        '| files a minute and core | MiB after import | peak MiB |',
        '| --- | --- | --- | --- | --- | --- | --- | --- |',
    ]
    for name, (wall, cpu, before, peak) in figures.items():
        files = num_files[name]
        rows.append(
            f'| {name} | {files:,} | {cpu:.1f} | {wall:.1f} '
            f'| {1000 * cpu / files:.2f} | {60 * files / cpu:,.0f} '
            f'| {before:.0f} | {peak:.0f} |'
        )
    return '\n'.join(rows)


def describe_machine() -> str:
    """Say in one line what the figures were measured on."""
    processor = platform.processor() or platform.machine()
    info = Path('/proc/cpuinfo')
    if info.is_file():
        models = [
            line.partition(':')[2].strip()
            for line in info.read_text().splitlines()
            if line.startswith('model name')
        ]
        processor = (models or [processor])[0]
    packages = ('numpy', 'mmengine', 'mmaction2')
    return ', '.join(
        (
            f'{processor}, {os.cpu_count()} cores',
            f'load {os.getloadavg()[0]:.1f}',
            f'{platform.system()} {platform.release()}',
            f'Python {platform.python_version()}',
            *(f'{package} {version(package)}' for package in packages),
        )
    )


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, default, text in (
        ('--ntu-files', 2000, 'number of NTU files (0: none)'),
        ('--ntu-frames', 80, 'frames of each'),
        ('--pku-videos', 1000, 'number of PKU videos (0 or at least 2)'),
        ('--pku-frames', 3000, 'frames of each, 1.4 KB a frame'),
    ):
        parser.add_argument(
            name,
            type=int,
            default=default,
            metavar='N',
            help=f'{text} (default: {default})',
        )
    parser.add_argument(
        '--folder',
        type=Path,
        help="where the temporary folder is made (default: the system's)",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print the table."""
    args = parse_args(argv)
    figures, num_files = {}, {}
    for kind, files, frames in (
        (measure_ntu, args.ntu_files, args.ntu_frames),
        (measure_pku, args.pku_videos, args.pku_frames),
    ):
        if not files:
            continue
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            taken = kind(Path(folder), files, frames)
        figures.update(taken)
        num_files.update(dict.fromkeys(taken, files))
    print(f'{describe_machine()}\n\n{report(figures, num_files)}')
    cpu = [f.cpu for name, f in figures.items() if name.startswith('NTU')]
    if cpu:
        print(f'\nThe toolbox takes {cpu[1] / cpu[0]:.1f} times as long.')


if __name__ == '__main__':
    main()
