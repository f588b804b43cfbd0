import numpy as np
import pytest
import torch
from mmaction.datasets.transforms import FormatGCNInput
from mmengine.runner import Runner
from synthetic import annotation, data_set, loader, pipeline, write

from mamp_mmaction.datasets.transforms import MotionAwareMask
from mamp_mmaction.motion_mask import motion_aware_mask
from mamp_mmaction.patches import patchify, unpatchify


def draw(keypoint, seed=0, uniform=None, **kwargs):
    kwargs = dict(dict(mask_ratio=0.9, tau=0.8, t_patch_size=4), **kwargs)
    persons, frames, joints, _ = keypoint.shape
    if uniform is None:
        tokens = frames // kwargs['t_patch_size'] * joints
        uniform = np.random.default_rng(seed).random((persons, tokens))
    return motion_aware_mask(keypoint, uniform, **kwargs)


def skeletons(persons=2, frames=120, joints=25, channels=3):
    rng = np.random.default_rng(1)
    shape = (persons, frames, joints, channels)
    return rng.normal(size=shape).astype(np.float32)


def by_the_formula(keypoint, uniform, tau, t_patch_size, visible):
    """The rule as it is written down: softmax, logarithm, Gumbel noise."""
    masks = []
    for person, noise in zip(keypoint, uniform):
        patches = patchify(person, t_patch_size)
        patches = patches.reshape(-1, person.shape[1], patches.shape[-1])
        intensity = np.abs(patches[1:] - patches[:-1]).mean(-1)
        intensity = np.concatenate([intensity[:1], intensity]).ravel()
        logits = intensity / (tau * intensity.max() + 1e-10)
        pi = np.exp(logits - logits.max())
        pi /= pi.sum()
        score = np.log(pi) - np.log(-np.log(noise + 1e-10) + 1e-10)
        mask = np.ones(len(noise), bool)
        mask[np.argsort(score)[:visible]] = False
        masks.append(mask)
    return np.array(masks)


@pytest.mark.parametrize(
    'shape, u',
    [
        *(((2, 120, 25, 3), 4), ((1, 60, 20, 3), 5)),
        *(((3, 48, 17, 2), 4), ((1, 24, 18, 4), 1)),
    ],
)
@pytest.mark.parametrize('tau', [0.2, 0.8, 5.0])
def test_follows_the_formula(shape, u, tau):
    keypoint = skeletons(*shape).astype(np.float64)
    tokens = shape[1] // u * shape[2]
    uniform = np.random.default_rng(2).random((shape[0], tokens))
    visible = int(tokens * (1 - 0.9))
    expected = by_the_formula(keypoint, uniform, tau, u, visible)
    mask = draw(keypoint, uniform=uniform, tau=tau, t_patch_size=u)
    np.testing.assert_array_equal(mask, expected)


def test_still_persons_and_tau_zero_are_masked_at_random():
    keypoint = skeletons()
    keypoint[1] = 0
    mask = draw(keypoint, tau=0)
    uniform = np.random.default_rng(0).random((2, 750))
    lowest = np.sort(np.argsort(uniform[0])[:74])
    np.testing.assert_array_equal(np.flatnonzero(~mask[0]), lowest)
    np.testing.assert_array_equal(mask[1], draw(keypoint, tau=0.8)[1])


@pytest.mark.parametrize('tau', [0, 0.8])
def test_equal_scores_still_keep_the_same_number(tau):
    keypoint = np.zeros((3, 120, 25, 3), np.float32)
    uniform = np.random.default_rng(0).random((3, 750))
    uniform[0] = 0.5
    uniform[1, ::2] = 0.01  # more tokens than are kept, and some below
    mask = draw(keypoint, uniform=uniform, tau=tau)
    np.testing.assert_array_equal((~mask).sum(axis=1), [74, 74, 74])
    lowest = np.sort(np.argsort(uniform[2])[:74])
    np.testing.assert_array_equal(np.flatnonzero(~mask[2]), lowest)
    np.testing.assert_array_equal(mask[1, 1::2], uniform[1, 1::2] > 0.01)


@pytest.mark.parametrize('shape', [(2, 120, 25, 3), (1, 60, 20, 2)])
def test_patches_are_time_major_and_frame_major(shape):
    x, (_, _, joints, channels) = skeletons(*shape), shape
    patches = patchify(x, 4)
    segment, joint, frame, channel = 3, 5, 2, 1
    value = x[0, segment * 4 + frame, joint, channel]
    place = 0, segment * joints + joint, frame * channels + channel
    assert patches[place] == value
    np.testing.assert_array_equal(unpatchify(patches, 4, joints), x)


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(mask_ratio=1.0), r'mask_ratio=1.0 is outside \(0, 1\)'),
        (dict(mask_ratio=0.999), 'keeps 0 of 750 tokens'),
        (dict(tau=-0.1), 'tau=-0.1 must not be negative'),
        (dict(t_patch_size=7), 'num_frames=120 .* t_patch_size=7'),
        (dict(t_patch_size=120), 'a single segment of t_patch_size=120'),
        (dict(uniform=np.zeros((2, 74))), r'\(2, 750\).*got \(2, 74\)'),
        (dict(num_coords=4), 'num_coords=4 is none of 1 to 3'),
    ],
)
def test_bad_arguments(change, message):
    with pytest.raises(ValueError, match=message):
        draw(skeletons(), **change)


# The transform ---------------------------------------------------------------


def test_the_transform_counts_coordinates_alone():
    """With a seed, so that both masks come from the same noise."""
    masks = []
    for score in (0.0, 9.0):
        sample = annotation(0, frames=24, joints=7)
        sample['keypoint'][0, ::3, :4, 2] = score
        mask = MotionAwareMask(mask_ratio=0.5, seed=0, num_coords=2)
        results = FormatGCNInput(num_person=1)(dict(sample, sample_idx=3))
        masks.append(mask(results)['mask'])
        assert 'num_coords=2' in repr(mask)
    assert torch.equal(*masks)


def test_a_seed_needs_the_number_of_the_sample():
    results = FormatGCNInput()(annotation(7, frames=24))
    with pytest.raises(
        ValueError, match=r"seed=1\) draws .* of sample 'S007' .*sample_idx"
    ):
        MotionAwareMask(seed=1)(results)


def test_workers_and_epochs_draw_different_masks_and_crops(tmp_path):
    """Of one and the same skeleton under several names."""
    data = data_set(8, 8, frames=300, joints=5)
    for sample in data['annotations']:
        sample['keypoint'] = data['annotations'][0]['keypoint']
    path = write(tmp_path / 'ann.pkl', data)
    cfg = loader(path, 'xsub_train', pipeline(40, 1, 0.5), batch_size=2)
    # As in the configs.
    cfg.update(num_workers=2, persistent_workers=True)
    batches = Runner.build_dataloader(cfg, seed=0)
    batches = [batch for _ in range(2) for batch in batches]
    masks = torch.stack(
        [sample.mask for batch in batches for sample in batch['data_samples']]
    )
    inputs = torch.stack([x for batch in batches for x in batch['inputs']])
    assert len(masks.unique(dim=0)) == len(inputs.unique(dim=0)) == 16
