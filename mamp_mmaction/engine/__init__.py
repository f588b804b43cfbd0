from .layer_decay_constructor import MAMPLayerDecayConstructor
from .linear_probe_hook import LinearProbeHook
from .warmup_cosine_lr import WarmupCosineLR

__all__ = [
    'LinearProbeHook',
    'MAMPLayerDecayConstructor',
    'WarmupCosineLR',
]
