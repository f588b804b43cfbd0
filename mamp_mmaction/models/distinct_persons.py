"""Which persons of a batch have to be computed."""

import torch


def distinct_persons(
    x: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find persons whose features are those of another one.

    Absent persons, all zero, are equal in the whole batch; other persons
    are compared within their sample, where data sets store a body twice.

    Args:
        x (torch.Tensor): Skeletons of shape (N, M, T, V, C).

    Returns:
        tuple[torch.Tensor]: Long; the places of the persons to compute among
        the N * M, of shape (K,), and for every person its place among those
        K, of shape (N * M,).
    """
    N, M = x.shape[:2]
    x = x.flatten(2)
    same = torch.stack([(x == x[:, m : m + 1]).all(dim=2) for m in range(M)])
    same = same.permute(1, 2, 0)  # (N, M, M): persons i and j are equal
    # A person with NaN differs from itself, and is still computed.
    same = same | torch.eye(M, dtype=torch.bool, device=x.device)
    original = same.to(torch.uint8).argmax(dim=2)  # the first that is equal
    original += torch.arange(N, device=x.device)[:, None] * M
    absent = ~x.any(dim=2)
    nobody = absent.flatten().to(torch.uint8).argmax()  # the first, or 0
    original = torch.where(absent, nobody, original).flatten()
    return torch.unique(original, return_inverse=True)
