"""How error messages name a sample."""

from collections.abc import Mapping

from mmaction.structures import ActionDataSample


def sample_name(
    sample: Mapping | ActionDataSample, index: int | None = None
) -> str:
    """Name of a sample for error messages.

    Args:
        sample (Mapping | ActionDataSample): A pipeline's result dict, an
            annotation or a packed sample. Its ``frame_dir`` names it, else
            its ``filename``, its ``sample_idx`` or its place.
        index (int, optional): Its place in a batch or list, from 0.
            Defaults to None.

    Returns:
        str: Such as ``sample 'S001C001P001R001A001'``.
    """
    for key in ('frame_dir', 'filename'):
        if sample.get(key) is not None:
            return f'sample {str(sample.get(key))!r}'
    number = sample.get('sample_idx', index)
    return 'an unnamed sample' if number is None else f'sample {number}'
