from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform


@TRANSFORMS.register_module()
class DropScore(BaseTransform):
    """Leave the confidence of the joints out.

    The toolbox's ``FormatGCNInput`` appends it to the coordinates as one
    more channel where a sample has it.

    Removed Keys:

        - keypoint_score (optional)
    """

    def transform(self, results: dict) -> dict:
        """Remove ``keypoint_score`` (M, T, V).

        Args:
            results (dict): The result dict.

        Returns:
            dict: The result dict.
        """
        results.pop('keypoint_score', None)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
