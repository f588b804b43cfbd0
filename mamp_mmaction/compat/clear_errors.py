"""Uses of the toolbox that cannot work here, refused by what to do instead."""

import functools

from mmengine.runner import Runner

_maybe_compile = Runner._maybe_compile  # the repair may be made twice


def refuse_what_cannot_work() -> None:
    """Refuse mmengine's ``compile`` for MAMP, drawing videos of skeletons."""
    from mmaction.engine.hooks import VisualizationHook

    Runner._maybe_compile = _compile_or_refuse
    if VisualizationHook._draw_samples is not _draw_or_refuse:
        _draw_or_refuse.draw = VisualizationHook._draw_samples
        VisualizationHook._draw_samples = _draw_or_refuse


@functools.wraps(_maybe_compile)
def _compile_or_refuse(self, target):
    if self.cfg.get('compile') and hasattr(self.model, 'compile_cfg'):
        raise ValueError(
            f'compile={self.cfg.compile} compiles the whole training step, '
            'optimizer and all, which fails with parameter groups: remove '
            'it and compile the model alone by '
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
