import logging
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn as nn
from mmaction.registry import OPTIM_WRAPPERS
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper


def supports_bfloat16(device: torch.device) -> bool:
    """Whether a device is faster in bfloat16 than in float32.

    Args:
        device (torch.device): The device.

    Returns:
        bool: True for a GPU that computes in it without emulation, and a CPU
        that has instructions for matrices of it.
    """
    if device.type == 'cuda':
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != 'cpu':
        return False
    if platform.machine().lower() in ('x86_64', 'amd64'):
        # oneDNN accepts any processor with AVX-512. Without matrix units even
        # those that compute with vectors of bfloat16 are slower in it.
        return torch.cpu._is_amx_tile_supported()
    return (
        torch.backends.mkldnn.is_available()
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


@OPTIM_WRAPPERS.register_module()
class AutoAmpOptimWrapper(OptimWrapper):
    """Trains in bfloat16 where the device can, otherwise in float32.

    It works on CPUs too, which the toolbox's ``AmpOptimWrapper`` refuses. A
    device without bfloat16 is named once in the log, and all is then as with
    ``OptimWrapper``. In a config, or by ``--cfg-options``::

        optim_wrapper=dict(type='AutoAmpOptimWrapper')

    Parameters, gradients, the optimiser's state, class scores and losses
    stay float32, and bfloat16 has the range of float32, so that no loss
    scaler is needed. Checkpoints are those of ``OptimWrapper``: each of the
    two resumes what the other has saved.

    Validation and testing stay float32. Their loops' own ``fp16=True`` is
    mmengine's: float16 on a GPU, bfloat16 on a CPU.

    Args:
        optimizer (Optimizer): The optimiser; the runner fills it in.
        dtype (str | torch.dtype): ``'bfloat16'``, the only one. Defaults to
            ``'bfloat16'``.
        kwargs (dict): Further arguments of ``OptimWrapper``:
            ``accumulative_counts`` and ``clip_grad``.

    Raises:
        ValueError: If dtype is another one.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        dtype: str | torch.dtype = 'bfloat16',
        **kwargs,
    ) -> None:
        if dtype not in ('bfloat16', torch.bfloat16):
            raise ValueError(
                f'AutoAmpOptimWrapper got dtype={dtype!r}, but trains in '
                "bfloat16 alone: leave dtype out, use type='OptimWrapper' "
                'for float32, or for float16, which needs a GPU and a loss '
                "scaler, type='AmpOptimWrapper'."
            )
        super().__init__(optimizer, **kwargs)
        self._enabled: bool | None = None

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Context of the forward pass, in which matrices are bfloat16.

        Args:
            model (nn.Module): The model; where its parameters are at the
                first call decides.
        """
        if self._enabled is None:
            device = next(model.parameters()).device
            self._device = device.type
            self._enabled = supports_bfloat16(device)
            if not self._enabled:
                print_log(
                    'AutoAmpOptimWrapper found no fast bfloat16 instructions '
                    f'on {device}: training in float32.',
                    logger='current',
                    level=logging.WARNING,
                )
        precision = torch.autocast(
            self._device, torch.bfloat16, enabled=self._enabled
        )
        with super().optim_context(model), precision:
            yield
