from .center_skeleton import CenterSkeleton
from .motion_aware_mask import MotionAwareMask
from .random_rotate_3d import RandomRotate3D
from .skeleton_stream import SkeletonStream
from .temporal_crop_resize import TemporalCropResize

__all__ = [
    'CenterSkeleton',
    'MotionAwareMask',
    'RandomRotate3D',
    'SkeletonStream',
    'TemporalCropResize',
]
