"""A stand-in for the localizer that the mmaction2 1.2.0 wheel lacks.

``mmaction.models.localizers`` imports ``DRN`` from a subpackage that the
published wheel was built without, so importing ``mmaction.models`` fails. So
it does where the subpackage is there, but torchvision, which it needs, not.
"""

import ast
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec, module_from_spec
from pathlib import Path

_LOCALIZERS = 'mmaction.models.localizers'


class DRN:
    """Takes the missing class's place; cannot be built.

    Raises:
        ImportError: Always, saying how to get the real one.
    """

    def __init__(self, *args, **kwargs):
        raise ImportError(
            'DRN is not part of the installed mmaction2: its wheel lacks '
            f'{_LOCALIZERS}.drn, or torchvision is missing. To use DRN, '
            'install torchvision, and mmaction2 from its source repository: '
            'pip install git+https://github.com/open-mmlab/mmaction2.git'
        )


def is_missing() -> bool:
    """Tell whether DRN cannot be imported, without importing mmaction."""
    if f'{_LOCALIZERS}.drn.drn' in sys.modules:
        return False
    toolbox = find_spec('mmaction')
    if toolbox is None:
        return False
    folders = [
        f'{root}/models/localizers/drn'
        for root in toolbox.submodule_search_locations
    ]
    found = PathFinder.find_spec('drn', folders)
    return found is None or not all(map(_can_import, _needed_by(found)))


def _needed_by(module):
    """Top-level packages that the files beside a module import."""
    for path in Path(module.origin).parent.rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.ImportFrom) and not node.level:
                yield node.module.partition('.')[0]
            elif isinstance(node, ast.Import):
                yield from (a.name.partition('.')[0] for a in node.names)


def _can_import(package):
    if package == 'mmaction':  # what needs it is asked about here
        return True
    try:
        import_module(package)
    except Exception:  # a broken package raises anything
        return False
    return True


def register_stand_in() -> None:
    """Put :class:`DRN` where the toolbox imports and looks it up."""
    from mmaction.registry import MODELS

    for name, is_package in (('drn', True), ('drn.drn', False)):
        spec = ModuleSpec(f'{_LOCALIZERS}.{name}', None, is_package=is_package)
        sys.modules[spec.name] = module_from_spec(spec)
    sys.modules[f'{_LOCALIZERS}.drn.drn'].DRN = DRN
    MODELS.register_module(module=DRN)
