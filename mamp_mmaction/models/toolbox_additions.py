"""What the toolbox's heads and recognisers get from this package.

Heads hand their scores to numpy, for losses and metrics, which has no
bfloat16: such scores become float32. ``RecognizerGCN`` refuses to be built
from a head that does not fit MAMP's encoder, where the toolbox fails at the
first batch.
"""

from collections.abc import Callable
from functools import wraps

import torch
from mmaction.models import RecognizerGCN
from mmaction.models.heads import BaseHead, GCNHead

from .classifier_head import ClassifierHead

# Arguments of this package's heads and GCNHead, as the encoder calls them.
HEAD_ARGUMENTS = dict(in_channels='embed_dims', num_joints='num_joints')


def extend_toolbox() -> None:
    """Make the additions; a second call makes none."""
    if RecognizerGCN.__init__ is not RecognizerGCN.__base__.__init__:
        return
    RecognizerGCN.__init__ = _checked(RecognizerGCN.__init__)
    for name in ('loss_by_feat', 'predict_by_feat'):
        method = getattr(BaseHead, name)
        setattr(BaseHead, name, _with_float32_scores(method))


def _checked(init: Callable) -> Callable:
    @wraps(init)
    def init_and_check(self: RecognizerGCN, *args, **kwargs) -> None:
        init(self, *args, **kwargs)
        head = self.cls_head if self.with_cls_head else None
        if not isinstance(head, (GCNHead, ClassifierHead)):
            return  # another's may mean something else
        for name, attribute in HEAD_ARGUMENTS.items():
            own = getattr(head, name, None)
            wanted = getattr(self.backbone, attribute, None)
            if None not in (own, wanted) and own != wanted:
                raise ValueError(
                    f'cls_head.{name}={own} does not fit the backbone '
                    f'{type(self.backbone).__name__}, whose {attribute} is '
                    f'{wanted}: set cls_head.{name}={wanted}.'
                )

    return init_and_check


def _with_float32_scores(method: Callable) -> Callable:
    @wraps(method)
    def convert(self: BaseHead, cls_scores: torch.Tensor, *args, **kwargs):
        if cls_scores.dtype == torch.bfloat16:
            cls_scores = cls_scores.float()
        return method(self, cls_scores, *args, **kwargs)

    return convert
