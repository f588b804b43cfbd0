import torch
from mmaction.registry import MODELS
from mmengine.model import BaseDataPreprocessor

from ..datasets.sample_name import sample_name


@MODELS.register_module()
class SkeletonDataPreprocessor(BaseDataPreprocessor):
    """Stack skeletons into a batch and move it to the device.

    Unlike the toolbox's ``ActionDataPreprocessor`` it never pads: samples
    of different shapes are an error.
    """

    def forward(self, data: dict, training: bool = False) -> dict:
        """Stack and move one batch.

        Args:
            data (dict): ``inputs``, a list of N tensors of shape
                (num_clips, M, T, V, C), or one such batch, and
                ``data_samples``, a list of N ActionDataSample.
            training (bool): Unused; nothing here depends on it.

        Returns:
            dict: ``inputs`` as one float32 tensor (N, num_clips, M, T, V,
            C), and ``data_samples``, on the device.

        Raises:
            ValueError: If the samples differ in shape; they are named.
        """
        inputs, samples = data['inputs'], data['data_samples']
        inputs = self.cast_data(self._stack(inputs, samples)).float()
        return dict(inputs=inputs, data_samples=self.cast_data(samples))

    @staticmethod
    def _stack(
        inputs: list[torch.Tensor] | torch.Tensor, samples: list
    ) -> torch.Tensor:
        if isinstance(inputs, torch.Tensor):
            return inputs
        for index, x in enumerate(inputs):
            if x.shape != inputs[0].shape:
                raise ValueError(
                    f'Ragged batch: {sample_name(samples[0], 0)} has shape '
                    f'{tuple(inputs[0].shape)}, '
                    f'{sample_name(samples[index], index)} has '
                    f'{tuple(x.shape)}. All samples must have the same '
                    '(clips, persons, frames, joints, channels): resize '
                    'frames by TemporalCropResize, fix persons by '
                    'FormatGCNInput, and do not mix skeleton layouts.'
                )
        return torch.stack(inputs)
