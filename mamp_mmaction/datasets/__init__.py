from .skeleton_dataset import SkeletonDataset
from .transforms import (
    CenterSkeleton,
    DropScore,
    MapJoints,
    MotionAwareMask,
    RandomRotate3D,
    ScaleToImage,
    SkeletonStream,
    TemporalCropResize,
)

__all__ = [
    'CenterSkeleton',
    'DropScore',
    'MapJoints',
    'MotionAwareMask',
    'RandomRotate3D',
    'ScaleToImage',
    'SkeletonDataset',
    'SkeletonStream',
    'TemporalCropResize',
]
