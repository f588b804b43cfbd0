"""Repairs of the toolbox stack, each made only where it is needed.

Two further faults are mended by the package's dependencies: the toolbox
imports ``importlib_metadata``, and mmengine reads ``mmaction::`` configs
through ``pkg_resources``, which setuptools lost in version 82.
"""

import warnings

import numpy as np

from . import (
    checkpoint_loading,
    checkpoint_saving,
    clear_errors,
    config_path,
    cpu_launch,
    drn,
)
from .checkpoint_loading import CheckpointError, load_checkpoint_file
from .mmcv_version import check_mmcv

__all__ = [
    'CheckpointError',
    'check_mmcv',
    'load_checkpoint_file',
    'repair_toolbox',
]


def repair_toolbox() -> None:
    """Mend what keeps the installed toolbox from running.

    Call it before ``mmaction.models`` is imported. A second call changes
    nothing.
    """
    # What mmcv-lite says of detectors, and mmengine of itself.
    for message in ('Fail to import ``MultiScale', 'pkg_resources is depr'):
        warnings.filterwarnings('ignore', message)
    # The mmaction2 1.2.0 wheel lacks mmaction.models.localizers.drn, without
    # which mmaction.models cannot be imported. Source installations have it,
    # but it needs torchvision.
    if drn.is_missing():
        drn.register_stand_in()
    # mmengine (0.10.7 is the last) cannot load its own checkpoints with
    # torch >= 2.6 and lets files from the web run code. Made with every
    # version: safety must not end with an upgrade.
    checkpoint_loading.register_safe_loaders()
    # mmengine writes checkpoints in place and removes the last one first.
    checkpoint_saving.lose_nothing()
    # mmengine's launchers know GPUs only; nothing to mend where there is one.
    if cpu_launch.is_needed():
        cpu_launch.allow_cpu_launch()
    # The toolbox's PoseCompact, of all PoseC3D configs, writes np.Inf, which
    # numpy 2 does not have any more.
    np.Inf = np.inf
    # mmengine finds the configs of packages that it knows by name only.
    config_path.find_own_configs()
    clear_errors.refuse_what_cannot_work()
