"""Uses of the toolbox that cannot work here, refused by what to do instead."""

import functools

import torch
from mmengine.runner import Runner

_maybe_compile = Runner._maybe_compile  # the repair may be made twice


def refuse_what_cannot_work() -> None:
    """Refuse mmengine's ``compile`` with Adam, and skeletons as videos."""
    from mmaction.engine.hooks import VisualizationHook

    Runner._maybe_compile = _compile_or_refuse
    if VisualizationHook._draw_samples is not _draw_or_refuse:
        _draw_or_refuse.draw = VisualizationHook._draw_samples
        VisualizationHook._draw_samples = _draw_or_refuse


@functools.wraps(_maybe_compile)
def _compile_or_refuse(self, target):
    optimizer = getattr(self.optim_wrapper, 'optimizer', None)
    if self.cfg.get('compile') and isinstance(optimizer, torch.optim.Adam):
        raise ValueError(
            f'compile={self.cfg.compile} compiles the whole training step, '
            f"and torch fails on mmengine's parameter groups in "
            f'{type(optimizer).__name__}: remove it. MAMP compiles itself by '
            'model=dict(compile_cfg=dict()).'
        )
    _maybe_compile(self, target)


def _draw_or_refuse(self, batch_idx, data_batch, data_samples, step=0):
    shapes = {tuple(inputs.shape) for inputs in data_batch['inputs']}
    if self.enable and any(len(shape) != 4 for shape in shapes):
        raise ValueError(
            'VisualizationHook draws videos (C, T, H, W), but the inputs '
            f'have the shape {shapes.pop()}, as skeletons do (clips, '
            'persons, frames, joints, coordinates): remove the hook, and '
            'look at skeletons by tools/data/browse_annotations.py.'
        )
    _draw_or_refuse.draw(self, batch_idx, data_batch, data_samples, step)
