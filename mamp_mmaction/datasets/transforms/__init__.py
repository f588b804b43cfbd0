from .center_skeleton import CenterSkeleton
from .drop_score import DropScore
from .map_joints import MapJoints
from .motion_aware_mask import MotionAwareMask
from .random_rotate_3d import RandomRotate3D
from .scale_to_image import ScaleToImage
from .skeleton_stream import SkeletonStream
from .temporal_crop_resize import TemporalCropResize

__all__ = [
    'CenterSkeleton',
    'DropScore',
    'MapJoints',
    'MotionAwareMask',
    'RandomRotate3D',
    'ScaleToImage',
    'SkeletonStream',
    'TemporalCropResize',
]
