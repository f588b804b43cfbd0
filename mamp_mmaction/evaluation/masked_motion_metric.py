from collections.abc import Sequence

import numpy as np
from mmaction.registry import METRICS
from mmengine.evaluator import BaseMetric


@METRICS.register_module()
class MaskedMotionMetric(BaseMetric):
    """The pre-training loss over a whole validation set.

    Reports ``mse``, the mean squared error over all masked tokens, and
    ``zero_mse``, that of predicting zero: a model that is not below it has
    learned nothing. Both are in the units of the training loss. (They do not
    bear its name, since mmengine logs whatever is called a loss averaged
    over the last validations.) Of a latent target, whose training loss is the
    smooth L1 distance, they are squared errors all the same, ``zero_mse`` is
    1, and what they are measured in changes with the teacher.

    Args:
        collect_device (str): Where results of several processes are
            gathered, ``'cpu'`` or ``'gpu'``. Defaults to ``'cpu'``.
        prefix (str, optional): Prefix of the names. Defaults to None,
            ``'masked_motion'``.
        collect_dir (str, optional): Folder through which several processes
            share results on ``'cpu'``. Defaults to None, a temporary one.
    """

    default_prefix = 'masked_motion'

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep the errors of a batch.

        Args:
            data_batch (dict): The batch, unused.
            data_samples (Sequence[dict]): Predictions of :class:`MAMP`, each
                with ``masked_errors`` (M, 3).
        """
        for sample in data_samples:
            self.results.append(sample['masked_errors'].sum(dim=0).tolist())

    def compute_metrics(self, results: list[Sequence[float]]) -> dict:
        """Average over the masked tokens of the whole set.

        Args:
            results (list): Per sample: error, zero error, tokens.

        Returns:
            dict[str, float]: ``mse`` and ``zero_mse``.
        """
        error, zero_error, tokens = np.sum(results, axis=0)
        return dict(mse=error / tokens, zero_mse=zero_error / tokens)
