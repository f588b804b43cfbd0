from mmaction.registry import TRANSFORMS

from .shown_transform import ShownTransform


@TRANSFORMS.register_module()
class DropScore(ShownTransform):
    """Leave the confidence of the joints out.

    The toolbox's ``FormatGCNInput`` appends it to the coordinates as one
    more channel where a sample has it.

    Removed Keys:

        - keypoint_score (optional)
    """

    def transform(self, results: dict) -> dict:
        """Remove ``keypoint_score`` (M, T, V)."""
        results.pop('keypoint_score', None)
        return results
