import inspect

from mmcv.transforms import BaseTransform


class ShownTransform(BaseTransform):
    """A transform that is shown with its arguments.

    It keeps each of them in an attribute of the same name.
    """

    def __repr__(self) -> str:
        names = inspect.signature(type(self)).parameters
        arguments = [f'{name}={getattr(self, name)!r}' for name in names]
        return f'{type(self).__name__}({", ".join(arguments)})'
