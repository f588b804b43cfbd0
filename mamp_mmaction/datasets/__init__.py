from .skeleton_dataset import SkeletonDataset
from .transforms import (
    CenterSkeleton,
    MotionAwareMask,
    RandomRotate3D,
    SkeletonStream,
    TemporalCropResize,
)

__all__ = [
    'CenterSkeleton',
    'MotionAwareMask',
    'RandomRotate3D',
    'SkeletonDataset',
    'SkeletonStream',
    'TemporalCropResize',
]
