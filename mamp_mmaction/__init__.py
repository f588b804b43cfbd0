"""MAMP, masked motion prediction for skeletons, inside MMAction2.

Importing the package mends what keeps today's toolbox from running
(:mod:`mamp_mmaction.compat`) and registers every component. Import it
before ``mmaction.apis`` or ``mmaction.models``; configs do so through
``custom_imports``.
"""

import sys

from .version import __version__

# ``python -m mamp_mmaction`` runs this file, too, and its help needs nothing.
if sys.argv[:1] != ['-m']:
    from .compat import check_mmcv, repair_toolbox

    check_mmcv()
    repair_toolbox()

    from . import datasets, engine, evaluation, models
    from .motion_mask import motion_aware_mask

__all__ = [
    '__version__',
    'datasets',
    'engine',
    'evaluation',
    'models',
    'motion_aware_mask',
]
