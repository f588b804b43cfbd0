"""Several processes on a machine without a GPU.

mmengine's launchers select a GPU by rank, take NCCL where a config does, and
hand a GPU index to DistributedDataParallel. None of that exists on a CPU.
And gloo's threads may abort a process that has done its work: one that drops
its last task while Python shuts down asks for the interpreter's lock, is
ended for it, and ends the process.
"""

import atexit
import functools
import time

import torch
import torch.distributed as dist
from mmengine.dist import get_rank
from mmengine.dist import utils as dist_utils
from mmengine.logging import print_log
from mmengine.model import MMDistributedDataParallel

# Taken once, so that the repair can be made twice without wrapping twice.
_LAUNCHERS = {
    name: getattr(dist_utils, name)
    for name in ('_init_dist_pytorch', '_init_dist_mpi', '_init_dist_slurm')
}
_init_wrapper = MMDistributedDataParallel.__init__
# Dropping a task takes microseconds; a loaded machine may need longer.
SECONDS_TO_SETTLE = 0.3


def is_needed() -> bool:
    """Tell whether this machine is without CUDA."""
    return not torch.cuda.is_available()


def allow_cpu_launch() -> None:
    """Let ``--launcher pytorch``, ``slurm`` and ``mpi`` run on the CPU."""
    for name, launch in _LAUNCHERS.items():
        setattr(dist_utils, name, _without_gpu(launch))
    MMDistributedDataParallel.__init__ = _init_on_parameters_device
    atexit.unregister(_let_gloo_settle)
    atexit.register(_let_gloo_settle)


def _let_gloo_settle() -> None:
    """Give the interpreter's lock away before Python shuts down."""
    if dist.is_initialized() and dist.get_backend() == 'gloo':
        time.sleep(SECONDS_TO_SETTLE)


def _without_gpu(launch):
    @functools.wraps(launch)
    def launch_on_cpu(backend, **kwargs):
        set_device = torch.cuda.set_device
        torch.cuda.set_device = lambda device: None
        try:
            launch('gloo' if backend == 'nccl' else backend, **kwargs)
        finally:
            torch.cuda.set_device = set_device
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
