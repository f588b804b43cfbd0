from .masked_motion_metric import MaskedMotionMetric

__all__ = ['MaskedMotionMetric']
