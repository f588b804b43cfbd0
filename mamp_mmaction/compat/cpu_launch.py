"""Several processes on a machine without a GPU.

mmengine's launchers select a GPU by rank, take NCCL where a config does, and
hand a GPU index to DistributedDataParallel. None of that exists on a CPU.

And a process that has done its work may never end. A thread of gloo that
drops the last reference to a tensor that Python knows asks for the
interpreter's lock. If the main thread meanwhile frees the last owner of the
process group, DistributedDataParallel's reducer, it holds that lock and waits
for the thread. Once Python shuts down, asking for the lock aborts the
process instead. So a process group is never freed, and at exit the lock is
given away until gloo's threads have dropped what they hold.

Where a process dies or hangs, the others wait half an hour for it and then
show an error of a socket. So they wait as long as NCCL does, and say what
happened.
"""

import atexit
import ctypes
import functools
import os
import threading
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from mmengine.dist import get_dist_info, get_rank
from mmengine.dist import utils as dist_utils
from mmengine.logging import print_log
from mmengine.model import MMDistributedDataParallel
from mmengine.runner import Runner

# Taken once, so that the repair can be made twice without wrapping twice.
_LAUNCHERS = {
    name: getattr(dist_utils, name)
    for name in ('_init_dist_pytorch', '_init_dist_mpi', '_init_dist_slurm')
}
_init_wrapper = MMDistributedDataParallel.__init__
_RUNS = {name: getattr(Runner, name) for name in ('train', 'val', 'test')}
_THREADS = Path('/proc/self/task')
# Dropping a tensor takes microseconds; a loaded machine may need longer.
_POLL, _QUIET_POLLS = 0.01, 5  # seconds, polls in a row
_LONGEST_WAIT = 5.0  # seconds
# That of NCCL; gloo's own is 30 minutes.
_TIMEOUT = timedelta(minutes=10)
# In gloo's words.
_LOST = ('Connection closed by peer', 'Connection reset', 'Timed out waiting')


def is_needed() -> bool:
    """Tell whether this machine is without CUDA."""
    return not torch.cuda.is_available()


def allow_cpu_launch() -> None:
    """Let ``--launcher pytorch``, ``slurm`` and ``mpi`` run on the CPU."""
    for name, launch in _LAUNCHERS.items():
        setattr(dist_utils, name, _without_gpu(launch))
    MMDistributedDataParallel.__init__ = _init_on_parameters_device
    for name, run in _RUNS.items():
        setattr(Runner, name, _explaining_loss(run))


def _keep_for_good(group) -> None:
    """Add a reference that nothing takes away, not even Python's end."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(group))
    atexit.unregister(_let_threads_finish)
    atexit.register(_let_threads_finish)


def _let_threads_finish() -> None:
    """Give the interpreter's lock away until all other threads sleep."""
    deadline = time.monotonic() + _LONGEST_WAIT
    quiet = 0
    while quiet < _QUIET_POLLS and time.monotonic() < deadline:
        time.sleep(_POLL)
        quiet = 0 if _another_thread_runs() else quiet + 1


def _another_thread_runs() -> bool:
    own = str(threading.get_native_id())
    # Without /proc, on other systems than Linux, the polls alone must do.
    threads = os.listdir(_THREADS) if _THREADS.is_dir() else []
    for thread in set(threads) - {own}:
        try:
            stat = Path(_THREADS, thread, 'stat').read_text()
        except OSError:  # it has ended
            continue
        # "id (name) state ...", where the name may hold anything
        if stat.rpartition(')')[2].split()[0] in 'RD':
            return True
    return False


def _without_gpu(launch):
    @functools.wraps(launch)
    def launch_on_cpu(backend, **kwargs):
        set_device = torch.cuda.set_device
        torch.cuda.set_device = lambda device: None
        kwargs.setdefault('timeout', _TIMEOUT)
        try:
            launch('gloo' if backend == 'nccl' else backend, **kwargs)
        finally:
            torch.cuda.set_device = set_device
        _keep_for_good(dist.group.WORLD)
        if backend == 'nccl' and get_rank() == 0:
            print_log(
                'No GPU found: the processes talk through gloo, not nccl.',
                logger='current',
            )

    return launch_on_cpu


@functools.wraps(_init_wrapper)
def _init_on_parameters_device(self, module, *args, **kwargs):
    if all(p.device.type == 'cpu' for p in module.parameters()):
        kwargs['device_ids'] = None
    _init_wrapper(self, module, *args, **kwargs)
    _keep_for_good(self.process_group)


def _explaining_loss(run):
    @functools.wraps(run)
    def run_or_explain(self):
        try:
            return run(self)
        except RuntimeError as error:
            if not any(words in str(error) for words in _LOST):
                raise
            rank, size = get_dist_info()
            raise RuntimeError(
                f'Process {rank} of {size} has lost another one, which died, '
                'or hung for longer than env_cfg.dist_cfg.timeout (in '
                f'seconds; {_TIMEOUT.seconds} unless it is set). Look for the '
                'error of that process, then go on by --resume.'
            ) from error

    return run_or_explain
