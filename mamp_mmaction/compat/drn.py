"""A stand-in for the localizer that the mmaction2 1.2.0 wheel lacks.

``mmaction.models.localizers`` imports ``DRN`` from a subpackage that the
published wheel was built without, so importing ``mmaction.models`` fails.
"""

import sys
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec, module_from_spec

_LOCALIZERS = 'mmaction.models.localizers'


class DRN:
    """Takes the missing class's place; cannot be built.

    Raises:
        ImportError: Always, saying how to get the real one.
    """

    def __init__(self, *args, **kwargs):
        raise ImportError(
            'DRN is not part of the installed mmaction2: its wheel lacks '
            f'{_LOCALIZERS}.drn. To use DRN, install mmaction2 from its '
            'source repository: pip install '
            'git+https://github.com/open-mmlab/mmaction2.git'
        )


def is_missing() -> bool:
    """Tell whether mmaction lacks DRN, without importing mmaction.models."""
    if f'{_LOCALIZERS}.drn.drn' in sys.modules:
        return False
    toolbox = find_spec('mmaction')
    if toolbox is None:
        return False
    folders = [
        f'{root}/models/localizers/drn'
        for root in toolbox.submodule_search_locations
    ]
    return PathFinder.find_spec('drn', folders) is None


def register_stand_in() -> None:
    """Put :class:`DRN` where the toolbox imports and looks it up."""
    from mmaction.registry import MODELS

    for name, is_package in (('drn', True), ('drn.drn', False)):
        spec = ModuleSpec(f'{_LOCALIZERS}.{name}', None, is_package=is_package)
        sys.modules[spec.name] = module_from_spec(spec)
    sys.modules[f'{_LOCALIZERS}.drn.drn'].DRN = DRN
    MODELS.register_module(module=DRN)
