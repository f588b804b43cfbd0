"""What features are worth: nearest neighbours and logistic regression.

No network is trained; :mod:`.extraction` makes the features.
"""

import torch
import torch.nn.functional as F

EPS = 1e-6  # of the variance, as torch's BatchNorm
# Validation samples that are compared with all training samples at once.
CHUNK = 256


def knn_accuracy(
    train_x: torch.Tensor,
    train_y: torch.Tensor,
    val_x: torch.Tensor,
    val_y: torch.Tensor,
    k: int,
) -> float:
    """Accuracy of a vote among the k nearest training samples.

    Nearest by the cosine of standardised features, in float64; of equally
    near ones the first. Of classes with equally many votes that of the
    nearest sample wins.

    Args:
        train_x (torch.Tensor): Training features, (n, D).
        train_y (torch.Tensor): Their labels, long, (n,).
        val_x (torch.Tensor): Validation features, (N, D).
        val_y (torch.Tensor): Their labels, long, (N,).
        k (int): Samples that vote.

    Returns:
        float: Share of the validation samples that is classified correctly.

    Raises:
        ValueError: If features or labels cannot be used, or k is not in
            [1, n].
    """
    _check_sets(train_x, train_y, val_x, val_y)
    if not 1 <= k <= len(train_x):
        raise ValueError(
            f'k={k} nearest neighbours of {len(train_x)} training samples '
            f'were asked for: choose 1 to {len(train_x)}.'
        )
    train_x, val_x = map(F.normalize, standardise(train_x, val_x))
    correct = 0
    for queries, truth in zip(val_x.split(CHUNK), val_y.split(CHUNK)):
        votes = train_y[_nearest(queries @ train_x.T, k)]  # (B, k)
        correct += (_majority(votes) == truth).sum().item()
    return correct / len(val_y)


def _nearest(similarity: torch.Tensor, k: int) -> torch.Tensor:
    """Places of the k largest of each row, (B, n) -> (B, k), largest first.

    ``topk`` leaves open which of equal ones it takes; here it is the first.
    """
    smallest = similarity.topk(k).values[:, -1:]
    chosen = similarity > smallest
    equal = similarity == smallest
    wanted = k - chosen.sum(dim=1, keepdim=True)
    chosen |= equal & (equal.cumsum(dim=1) <= wanted)
    places = chosen.nonzero()[:, 1].view(-1, k)
    order = similarity.gather(1, places).sort(
        dim=1, descending=True, stable=True
    )
    return places.gather(1, order.indices)


def _majority(votes: torch.Tensor) -> torch.Tensor:
    """Most frequent label of each row, (B, k) -> (B,), the first of equals."""
    counts = (votes[:, :, None] == votes[:, None]).sum(dim=2)
    return votes.gather(1, counts.argmax(dim=1, keepdim=True))[:, 0]


def linear_accuracy(
    train_x: torch.Tensor,
    train_y: torch.Tensor,
    val_x: torch.Tensor,
    val_y: torch.Tensor,
    weight_decay: float = 1e-3,
    max_iter: int = 200,
) -> float:
    """Accuracy of multinomial logistic regression.

    It minimises the mean cross-entropy plus ``weight_decay / 2`` times the
    squared weights (not the bias) by L-BFGS in float64, from zero, on
    standardised features: nothing is random. :class:`LinearProbeHead` is
    this classifier trained by gradient descent.

    Args:
        train_x (torch.Tensor): Training features, (n, D).
        train_y (torch.Tensor): Their labels, long, (n,).
        val_x (torch.Tensor): Validation features, (N, D).
        val_y (torch.Tensor): Their labels, long, (N,).
        weight_decay (float): Strength of the penalty. Defaults to 1e-3.
        max_iter (int): Iterations at most. Defaults to 200.

    Returns:
        float: Share of the validation samples that is classified correctly.

    Raises:
        ValueError: If features or labels cannot be used.
    """
    _check_sets(train_x, train_y, val_x, val_y)
    train_x, val_x = standardise(train_x, val_x)
    classes, target = train_y.unique(return_inverse=True)
    weight = train_x.new_zeros(train_x.shape[1], len(classes))
    bias = train_x.new_zeros(len(classes))
    params = [weight.requires_grad_(), bias.requires_grad_()]
    optimizer = torch.optim.LBFGS(
        params, max_iter=max_iter, line_search_fn='strong_wolfe'
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(train_x @ weight + bias, target)
        loss = loss + weight_decay / 2 * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    with torch.no_grad():
        pred = classes[(val_x @ weight + bias).argmax(dim=1)]
    return (pred == val_y).sum().item() / len(val_y)


def standardise(
    train_x: torch.Tensor, val_x: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalise features as the linear probe's BatchNorm does.

    Args:
        train_x (torch.Tensor): Training features, (n, D).
        val_x (torch.Tensor): Validation features, (N, D).

    Returns:
        tuple[torch.Tensor]: Both in float64, with the mean and the variance
        of the training features.
    """
    train_x, val_x = train_x.double(), val_x.double()
    var, mean = torch.var_mean(train_x, dim=0, correction=0)
    scale = (var + EPS).rsqrt()
    return (train_x - mean) * scale, (val_x - mean) * scale


def _check_sets(
    train_x: torch.Tensor,
    train_y: torch.Tensor,
    val_x: torch.Tensor,
    val_y: torch.Tensor,
) -> None:
    """Refuse what no classifier can be trained or tested on."""
    for part, x, y in (
        ('training', train_x, train_y),
        ('validation', val_x, val_y),
    ):
        if x.ndim != 2 or y.shape != x.shape[:1] or not len(x):
            raise ValueError(
                f'The {part} set has features {tuple(x.shape)} and labels '
                f'{tuple(y.shape)}; expected (samples, channels) with at '
                'least one sample, and one label a sample.'
            )
        if not x.isfinite().all():
            bad = (~x.isfinite().all(dim=1)).sum().item()
            raise ValueError(
                f'The features of {bad} of {len(x)} {part} samples are NaN '
                'or infinite: the training has diverged, or the data is '
                'broken.'
            )
        if (y < 0).any():
            raise ValueError(
                f'{(y < 0).sum().item()} of {len(y)} {part} samples have a '
                'negative label, as samples whose label is withheld do: use '
                'labelled samples alone.'
            )
    if train_x.shape[1] != val_x.shape[1]:
        raise ValueError(
            f'Training features have {train_x.shape[1]} channels, validation '
            f'features {val_x.shape[1]}: they must come from one model.'
        )
    unseen = sorted(set(val_y.tolist()) - set(train_y.tolist()))
    if unseen:
        raise ValueError(
            f'No training sample has label {unseen[0]}, but validation '
            f'samples do ({len(unseen)} such labels in all): every class '
            'needs at least one training sample. Check the two splits.'
        )
