"""Uses of the toolbox that cannot work here, refused by what to do instead."""

import difflib
import functools
import inspect
import re

import torch
from mmengine.registry import Registry
from mmengine.runner import Runner

# The repair may be made twice.
_maybe_compile = Runner._maybe_compile
_build = Registry.build


def refuse_what_cannot_work() -> None:
    """Refuse mmengine's ``compile`` with Adam, and skeletons as videos.

    And say what was meant by a word of a config that is misspelt.
    """
    from mmaction.engine.hooks import VisualizationHook

    Registry.build = _build_or_suggest
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
    # Of several modalities there is a dictionary, none of a skeleton alone.
    tensors = [x for x in data_batch['inputs'] if not isinstance(x, str)]
    shapes = {tuple(x.shape) for x in tensors}
    if self.enable and any(len(shape) != 4 for shape in shapes):
        raise ValueError(
            'VisualizationHook draws videos (C, T, H, W), but the inputs '
            f'have the shape {shapes.pop()}, as skeletons do (clips, '
            'persons, frames, joints, coordinates): remove the hook, and '
            'look at skeletons by tools/data/browse_annotations.py.'
        )
    _draw_or_refuse.draw(self, batch_idx, data_batch, data_samples, step)


@functools.wraps(_build)
def _build_or_suggest(self, cfg, *args, **kwargs):
    try:
        return _build(self, cfg, *args, **kwargs)
    except (TypeError, KeyError) as error:
        # Where mmengine's own registry is asked, the toolbox's has found it.
        with self.switch_scope_and_registry(None) as registry:
            advice = _advice(registry, cfg, str(error))
        if advice is None:
            raise
        raise type(error)(advice) from None


def _advice(registry, cfg, message):
    """What is wrong with a component's config, if that is a word."""
    if not isinstance(cfg, dict):
        return None
    kind = cfg.get('type')
    if message.startswith(f"'{kind} is not in the "):
        known = {
            *registry.module_dict,
            *getattr(registry.parent, 'module_dict', ()),
        }
        close = difflib.get_close_matches(kind, known, n=1)
        what = f'{registry.name.capitalize()} {kind!r} is unknown'
        return f'{what}: did you mean {close[0]!r}?' if close else None
    found = re.search(r"unexpected keyword argument '(\w+)'$", message)
    if not found or found[1] not in cfg:
        return None
    component = registry.get(kind) if isinstance(kind, str) else kind
    if component is None:
        return None
    others = _arguments(component) - {*cfg}
    close = difflib.get_close_matches(found[1], others, n=1)
    return f'{component.__name__} has no argument {found[1]!r}: ' + (
        f'did you mean {close[0]!r}?'
        if close
        else f'it also takes {", ".join(sorted(others)) or "nothing"}.'
    )


def _arguments(component):
    """Names of all arguments, also of those that go to base classes."""
    functions = [component]
    if inspect.isclass(component):
        functions = [base.__init__ for base in component.__mro__]
    names = {
        name
        for function in filter(inspect.isfunction, functions)
        for name in inspect.signature(function).parameters
    }
    return names - {'self', 'args', 'kwargs'}
