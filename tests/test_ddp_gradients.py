"""Several processes compute what one does."""

import subprocess
import sys
from pathlib import Path

import ddp_gradients
import torch


def test_two_processes_have_the_gradients_of_one(tmp_path):
    out = tmp_path / 'gradients.pt'
    script = Path(ddp_gradients.__file__)
    command = [sys.executable, '-m', 'torch.distributed.run']
    command += ['--nproc_per_node=2', '--master_port=29633']
    run = subprocess.run(
        [*command, str(script), str(out)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    found = torch.load(out)
    wanted = ddp_gradients.gradients(
        ddp_gradients.build(), *ddp_gradients.batch()
    )
    assert found.keys() == wanted.keys()
    assert all(grad.any() for grad in wanted.values())
    for name in wanted:
        torch.testing.assert_close(
            found[name], wanted[name], rtol=1e-4, atol=1e-6, msg=name
        )
