from .amp_optim_wrapper import AutoAmpOptimWrapper
from .check_settings_hook import CheckSettingsHook
from .finite_check_hook import FiniteCheckHook
from .layer_decay_constructor import MAMPLayerDecayConstructor
from .linear_probe_hook import LinearProbeHook
from .motion_picture_hook import MotionPictureHook
from .representation_probe_hook import RepresentationProbeHook
from .seed_hook import SeedHook
from .warmup_cosine_lr import WarmupCosineLR

__all__ = [
    'AutoAmpOptimWrapper',
    'CheckSettingsHook',
    'FiniteCheckHook',
    'LinearProbeHook',
    'MAMPLayerDecayConstructor',
    'MotionPictureHook',
    'RepresentationProbeHook',
    'SeedHook',
    'WarmupCosineLR',
]
