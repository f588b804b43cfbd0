from collections.abc import Sequence
from functools import reduce

import torch
from mmaction.registry import MODELS
from mmaction.utils import SampleList
from mmengine.model import BaseDataPreprocessor

from ..datasets.sample_name import sample_name

# How to mend samples of different shapes.
INPUT_HINT = (
    'All samples must have the same (clips, persons, frames, joints, '
    'channels): resize frames by TemporalCropResize, fix persons by '
    'FormatGCNInput, and do not mix skeleton layouts.'
)
MASK_HINT = (
    'All masks must have the same (persons, tokens): draw them behind '
    'FormatGCNInput, as MotionAwareMask does.'
)


@MODELS.register_module()
class SkeletonDataPreprocessor(BaseDataPreprocessor):
    """Stack skeletons into a batch and move it to the device.

    Unlike the toolbox's ``ActionDataPreprocessor`` it never pads: samples
    of different shapes are an error. Masks and labels too travel to a GPU
    as one tensor a batch, of which every sample gets its row. Masks that go
    there are counted before: ``num_visible`` of a sample says how many
    tokens they leave visible for every person of the batch, if that is one
    number, so that :class:`MAMP` need not wait for the GPU to count them.

    Args:
        non_blocking (bool): Whether to copy without waiting what comes
            stacked, or is neither mask nor label; worth it if the data
            loader pins memory. Defaults to False.
    """

    def forward(self, data: dict, training: bool = False) -> dict:
        """Stack and move one batch.

        Args:
            data (dict): ``inputs``, a list of N tensors of shape
                (num_clips, M, T, V, C), or one such batch, and
                ``data_samples``, a list of N ActionDataSample, or None.
            training (bool): Unused; nothing here depends on it.

        Returns:
            dict: ``inputs`` as one float32 tensor (N, num_clips, M, T, V,
            C), and ``data_samples``, new ones, on the device.

        Raises:
            ValueError: If the samples, or their masks, differ in shape;
                they are named.
        """
        inputs, samples = data['inputs'], data['data_samples']
        if not isinstance(inputs, torch.Tensor):
            self._check_shapes('batch', inputs, samples, INPUT_HINT)
            inputs = self._stack(inputs)
        return dict(
            inputs=self.cast_data(inputs).float(),
            data_samples=samples and self._move_samples(samples),
        )

    def _move_samples(self, samples: SampleList) -> SampleList:
        fields = [dict(sample.items()) for sample in samples]
        counted = {}
        for own in fields:
            if 'mask' in own:  # may be numpy's, as motion_aware_mask gives it
                own['mask'] = torch.as_tensor(own['mask'])
        for key in ('mask', 'gt_label'):
            values = [own.get(key) for own in fields]
            if all(isinstance(value, torch.Tensor) for value in values):
                if key == 'mask':
                    self._check_shapes('masks', values, samples, MASK_HINT)
                    counted = self._count_visible(values)
                for own, value in zip(fields, self._move_together(values)):
                    own[key] = value
        return [
            sample.new(
                metainfo=dict(sample.metainfo_items(), **counted),
                **self.cast_data(own),
            )
            for sample, own in zip(samples, fields)
        ]

    def _count_visible(self, masks: list[torch.Tensor]) -> dict:
        if self._stays(masks) or masks[0].dtype != torch.bool:
            return {}
        counts = (~torch.stack(masks)).sum(dim=-1).unique().tolist()
        fits = len(counts) == 1 and 0 < counts[0] < masks[0].shape[-1]
        return dict(num_visible=counts[0]) if fits else {}

    def _stays(self, tensors: list[torch.Tensor]) -> bool:
        return tensors[0].device.type == self.device.type

    def _move_together(
        self, tensors: list[torch.Tensor]
    ) -> Sequence[torch.Tensor]:
        """Move tensors as one, if they have to move and have one shape.

        On the CPU nothing has to: rows would be views of a copy, and a
        sample that is pickled (``test.py --dump``) would drag its whole
        batch along.
        """
        same = all(x.shape == tensors[0].shape for x in tensors)
        if not same or self._stays(tensors):
            return tensors
        return self._stack(tensors).unbind()

    def _stack(self, tensors: list[torch.Tensor]) -> torch.Tensor:
        """Tensors of one shape as one tensor on the device."""
        first = tensors[0]
        if self.device.type != 'cuda' or first.device.type != 'cpu':
            return torch.stack(tensors).to(self.device)
        # Every batch takes its own pinned memory, and nothing writes to it
        # after the copy has begun. It is free once this function returns,
        # but torch's allocator notes that a copy reads it and gives it away
        # again (to the next batch) only when that copy has finished. What
        # the GPU does with the result is queued behind the copy.
        dtype = reduce(torch.promote_types, {x.dtype for x in tensors})
        pinned = torch.empty(
            (len(tensors), *first.shape), dtype=dtype, pin_memory=True
        )
        torch.stack(tensors, out=pinned)
        return pinned.to(self.device, non_blocking=True)

    @staticmethod
    def _check_shapes(
        what: str,
        tensors: list[torch.Tensor],
        samples: SampleList | None,
        hint: str,
    ) -> None:
        samples = samples or [{}] * len(tensors)
        for index, x in enumerate(tensors):
            if x.shape != tensors[0].shape:
                raise ValueError(
                    f'Ragged {what}: {sample_name(samples[0], 0)} has shape '
                    f'{tuple(tensors[0].shape)}, '
                    f'{sample_name(samples[index], index)} has '
                    f'{tuple(x.shape)}. {hint}'
                )
