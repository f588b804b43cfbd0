"""The patch layout that mask, encoder, decoder and target share.

A token stands for one joint in one temporal segment of ``t_patch_size``
frames. Tokens are time-major: token ``t * V + v`` is joint ``v`` in segment
``t``. A patch holds the token's ``t_patch_size * C`` numbers, frame-major.
"""

from typing import TypeVar

ArrayOrTensor = TypeVar('ArrayOrTensor')


def num_segments(num_frames: int, t_patch_size: int) -> int:
    """Number of temporal segments of a clip.

    Args:
        num_frames (int): Frames of the clip, T.
        t_patch_size (int): Frames of one patch, u.

    Returns:
        int: T / u.

    Raises:
        ValueError: If T is not a positive multiple of u.
    """
    if t_patch_size < 1 or num_frames < 1 or num_frames % t_patch_size:
        raise ValueError(
            f'num_frames={num_frames} is not a positive multiple of '
            f't_patch_size={t_patch_size}: choose a clip length that the '
            'patch length divides.'
        )
    return num_frames // t_patch_size


def coordinates(x: ArrayOrTensor, num_coords: int | None) -> ArrayOrTensor:
    """The channels that are coordinates, which come first.

    Args:
        x (np.ndarray | torch.Tensor): Skeletons of shape (..., C).
        num_coords (int, optional): Coordinates among the channels, such as
            2 of 3 for 2D with a confidence. None means all.

    Returns:
        np.ndarray | torch.Tensor: Shape (..., num_coords).

    Raises:
        ValueError: If there are not so many channels.
    """
    if num_coords is None:
        return x
    if not 0 < num_coords <= x.shape[-1]:
        raise ValueError(
            f'num_coords={num_coords} is none of 1 to {x.shape[-1]}, the '
            "number of a joint's channels."
        )
    return x[..., :num_coords]


def patchify(x: ArrayOrTensor, t_patch_size: int) -> ArrayOrTensor:
    """Cut clips into patches.

    Args:
        x (np.ndarray | torch.Tensor): Clips of shape (..., T, V, C).
        t_patch_size (int): Frames of one patch, u.

    Returns:
        np.ndarray | torch.Tensor: Patches of shape (..., T / u * V, u * C).
    """
    *lead, T, V, C = x.shape
    segments = num_segments(T, t_patch_size)
    x = x.reshape(*lead, segments, t_patch_size, V, C).swapaxes(-3, -2)
    return x.reshape(*lead, segments * V, t_patch_size * C)


def unpatchify(
    patches: ArrayOrTensor, t_patch_size: int, num_joints: int
) -> ArrayOrTensor:
    """Put patches back into clips; the inverse of :func:`patchify`.

    Args:
        patches (np.ndarray | torch.Tensor): Shape (..., T / u * V, u * C).
        t_patch_size (int): Frames of one patch, u.
        num_joints (int): Joints of the skeleton, V.

    Returns:
        np.ndarray | torch.Tensor: Clips of shape (..., T, V, C).
    """
    *lead, L, _ = patches.shape
    segments = L // num_joints
    x = patches.reshape(*lead, segments, num_joints, t_patch_size, -1)
    x = x.swapaxes(-3, -2)
    return x.reshape(*lead, segments * t_patch_size, num_joints, -1)
