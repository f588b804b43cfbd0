"""What in a skeleton sequence decided a recogniser's answer."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from mmaction.models import BaseRecognizer

from .extraction import evaluating

STEPS, BATCH_SIZE = 128, 16


@dataclass
class Attribution:
    """Contributions to the score of a recogniser's answer.

    Attributes:
        answer (int): The class with the highest score.
        probability (float): Softmax of the scores, at the answer.
        contributions (torch.Tensor): Float32, (M, T, V), on the CPU; positive
            where a joint spoke for the answer. Their sum is close to
            ``rise``.
        rise (float): Score of the answer minus the score that it has where
            all joints are at zero.
    """

    answer: int
    probability: float
    contributions: torch.Tensor
    rise: float


def attribute_answer(
    model: BaseRecognizer, inputs: torch.Tensor
) -> Attribution:
    """Attribute a recogniser's answer to joints and frames.

    By integrated gradients (Sundararajan et al., *Axiomatic Attribution for
    Deep Networks*, ICML 2017) from the sequence whose joints all are at zero,
    which is how absent persons are stored: gradients of the score with regard
    to the coordinates are averaged while the bodies grow from a point to
    their size, and multiplied by the coordinates. This needs nothing of the
    model but gradients, so it serves transformers and graph convolutions
    alike.

    Args:
        model (BaseRecognizer): A recogniser of skeletons. Its modules go back
            to the mode that they were in.
        inputs (torch.Tensor): One sample as the model takes it, (1, M, T, V,
            C), on the model's device.

    Returns:
        Attribution: The answer, its probability and the contributions.

    Raises:
        ValueError: If the model is no recogniser of skeletons, or the sample
            has several clips.
    """
    if not isinstance(model, BaseRecognizer) or not model.with_cls_head:
        raise ValueError(
            f'{type(model).__name__} gives no answer: expected a recogniser '
            'with a cls_head, of RecognizerGCN for example.'
        )
    if inputs.ndim != 5 or len(inputs) != 1:
        raise ValueError(
            f'The sample has the shape {tuple(inputs.shape)}, expected (1, '
            'persons, frames, joints, coordinates): skeletons, of which the '
            'pipeline gives one clip (num_clips=1).'
        )

    def scores(x: torch.Tensor) -> torch.Tensor:  # (B, 1, M, T, V, C)
        return model.extract_feat(x, stage='head')[0]

    with evaluating(model):
        with torch.no_grad():
            # At zero, but so that what moves most is still told.
            before, after = scores(torch.stack([1e-6 * inputs, inputs]))
        answer = int(after.argmax())
        found = integrated_gradients(lambda x: scores(x)[:, answer], inputs)
    return Attribution(
        answer=answer,
        probability=float(after.softmax(0)[answer]),
        contributions=found[0].sum(-1).float().cpu(),
        rise=float(after[answer] - before[answer]),
    )


def integrated_gradients(
    function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor
) -> torch.Tensor:
    """Integrated gradients from zero, by the midpoint rule.

    Args:
        function (Callable): Maps (B, ...) to (B,), one by one.
        x (torch.Tensor): A point, of the shape without B.

    Returns:
        torch.Tensor: Of the shape of x; the sum is close to ``function`` at x
        minus ``function`` at zero.
    """
    places = (torch.arange(STEPS, device=x.device) + 0.5) / STEPS
    total = torch.zeros_like(x)
    for part in places.split(BATCH_SIZE):
        points = part.view(-1, *[1] * x.ndim) * x
        points.requires_grad_()
        with torch.enable_grad():
            value = function(points).sum()
        total += torch.autograd.grad(value, points)[0].sum(0)
    return x * total / STEPS
