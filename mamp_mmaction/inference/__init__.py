"""From a skeleton file to an answer."""

from .inferencer import SkeletonInferencer
from .recordings import Recording, find_recordings, read_recordings

__all__ = [
    'Recording',
    'SkeletonInferencer',
    'find_recordings',
    'read_recordings',
]
