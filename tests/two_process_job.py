"""Starts a small job of two CPU processes again and again.

Usage: two_process_job.py STARTS SECONDS. Each process is a fork of this one,
which has imported everything, and ends as Python ends by itself, with its
exit handlers. A start that fails or takes more than SECONDS ends the script
with an error.
"""

import faulthandler
import gc
import os
import signal
import sys
import time

import torch
import torch._dynamo  # else imported anew in each fork
import torch.distributed as dist
from mmengine.dist import broadcast_object_list, init_dist
from mmengine.model import MMDistributedDataParallel
from processes import free_port

import mamp_mmaction  # noqa: F401


def work():
    """What every training does: launch, wrap, talk, free."""
    init_dist('pytorch', backend='nccl')
    model = MMDistributedDataParallel(torch.nn.Linear(2, 2), device_ids=[0])
    model(torch.ones(1, 2)).sum().backward()
    for _ in range(20):
        numbers = torch.ones(3)
        dist.all_reduce(numbers)
        assert numbers.sum() == 6
    objects = [dict(epoch=3)] if dist.get_rank() == 0 else [None]
    broadcast_object_list(objects)
    assert objects == [dict(epoch=3)]
    dist.destroy_process_group()
    del model
    gc.collect()


def start(seconds):
    """Fork both ranks; returns the rank in a fork, the statuses here."""
    os.environ.update(
        MASTER_ADDR='127.0.0.1', MASTER_PORT=free_port(), WORLD_SIZE='2'
    )
    children = []
    for rank in ('0', '1'):
        child = os.fork()
        if not child:
            os.environ.update(RANK=rank, LOCAL_RANK=rank)
            return None
        children.append(child)
    statuses = {}
    deadline = time.monotonic() + seconds
    while len(statuses) < len(children):
        for child in set(children) - set(statuses):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                statuses[child] = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                os.kill(child, signal.SIGABRT)  # shows the stacks
                os.waitpid(child, 0)
                statuses[child] = 'hangs'
        time.sleep(0.005)
    return [statuses[child] for child in children]


def main():
    starts, seconds = int(sys.argv[1]), float(sys.argv[2])
    faulthandler.enable(all_threads=True)
    for number in range(starts):
        statuses = start(seconds)
        if statuses is None:
            return work()
        if statuses != [0, 0]:
            sys.exit(f'start {number}: {statuses}')
    print(f'{starts} starts ended')


if __name__ == '__main__':
    main()
