"""How error messages name a sample."""

from collections.abc import Mapping


def sample_name(results: Mapping) -> str:
    """Name of a sample for error messages.

    Args:
        results (Mapping): A pipeline's result dict or an annotation. Its
            ``frame_dir`` names it, else its ``sample_idx``.

    Returns:
        str: Such as ``sample 'S001C001P001R001A001'``.
    """
    if results.get('frame_dir') is not None:
        return f'sample {str(results["frame_dir"])!r}'
    if results.get('sample_idx') is not None:
        return f'sample number {results["sample_idx"]}'
    return 'an unnamed sample'
