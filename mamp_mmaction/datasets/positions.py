"""The bodies that a sample shows to a model, as pictures need them."""

import copy

import numpy as np
from mmengine.dataset import BaseDataset, Compose, ConcatDataset

# Transforms that make other numbers of positions, such as bones.
STREAMS = ('SkeletonStream', 'GenSkeFeat')
# It turns the spine of a body along the z axis.
UPRIGHT_IN_Z = 'PreNormalize3D'


def positions_seen(dataset: BaseDataset, index: int) -> np.ndarray:
    """Positions of the joints, in the frames and places that the model gets.

    Args:
        dataset (BaseDataset): Data set of skeletons whose pipeline ends in
            ``PackActionInputs``, of one clip a sample; or several, joined.
        index (int): The sample.

    Returns:
        np.ndarray: Shape (M, T, V, C), y up as in :func:`draw_sequence`,
        though the pipeline may turn bodies or make bones of them.
    """
    while isinstance(dataset, ConcatDataset):
        member, index = dataset._get_ori_dataset_idx(index)
        dataset = dataset.datasets[member]
    steps = dataset.pipeline.transforms
    kinds = [type(step).__name__ for step in steps]
    plain = copy.copy(dataset)
    plain.pipeline = Compose(
        [step for step, kind in zip(steps, kinds) if kind not in STREAMS]
    )
    keypoint = plain[index]['inputs'][0].numpy()
    if UPRIGHT_IN_Z in kinds:
        keypoint = keypoint[..., [0, 2, 1, *range(3, keypoint.shape[3])]]
    return keypoint
