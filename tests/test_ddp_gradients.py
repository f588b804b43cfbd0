"""Several processes compute what one does."""

import ddp_gradients
import torch
from processes import TORCHRUN, run_successfully


def test_two_processes_have_the_gradients_of_one(tmp_path):
    out = tmp_path / 'gradients.pt'
    run_successfully(*TORCHRUN, ddp_gradients.__file__, out)
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
