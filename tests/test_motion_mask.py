import numpy as np
import pytest

from mamp_mmaction.motion_mask import (
    motion_aware_mask,
    motion_intensity,
    num_visible_tokens,
)
from mamp_mmaction.patches import patchify, unpatchify


def draw(keypoint, tau=0.8, mask_ratio=0.9, t_patch_size=4, seed=0):
    persons, frames, joints, _ = keypoint.shape
    tokens = frames // t_patch_size * joints
    uniform = np.random.default_rng(seed).random((persons, tokens))
    return motion_aware_mask(
        keypoint,
        uniform,
        mask_ratio=mask_ratio,
        tau=tau,
        t_patch_size=t_patch_size,
    )


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
    'shape', [(2, 120, 25, 3), (1, 60, 20, 3), (3, 48, 17, 2), (1, 24, 18, 4)]
)
@pytest.mark.parametrize('tau', [0.2, 0.8, 5.0])
def test_follows_the_formula(shape, tau):
    keypoint = skeletons(*shape).astype(np.float64)
    tokens = shape[1] // 4 * shape[2]
    uniform = np.random.default_rng(2).random((shape[0], tokens))
    mask = motion_aware_mask(
        keypoint, uniform, mask_ratio=0.9, tau=tau, t_patch_size=4
    )
    visible = int(tokens * (1 - 0.9))
    expected = by_the_formula(keypoint, uniform, tau, 4, visible)
    np.testing.assert_array_equal(mask, expected)


def test_published_number_of_visible_tokens():
    assert num_visible_tokens(750, 0.9) == 74
    mask = draw(skeletons())
    assert mask.shape == (2, 750)
    np.testing.assert_array_equal((~mask).sum(axis=1), [74, 74])


def test_moving_joints_are_masked_more_often():
    keypoint = np.zeros((1, 120, 25, 3), np.float32)
    swing = np.sin(np.arange(120) / 3)
    keypoint[0, :, 7, 0] = swing
    masks = [draw(keypoint, seed=seed)[0] for seed in range(400)]
    rate = np.mean(masks, axis=0).reshape(30, 25).mean(axis=0)
    still = np.delete(rate, 7)
    # The same for every still joint, higher for the one that moves.
    assert rate[7] > still.max() + 0.01
    assert still.max() - still.min() < 0.02


def test_tau_zero_is_uniformly_random():
    keypoint = skeletons(persons=1)
    uniform = np.random.default_rng(0).random((1, 750))
    mask = motion_aware_mask(
        keypoint, uniform, mask_ratio=0.9, tau=0, t_patch_size=4
    )
    np.testing.assert_array_equal(
        np.flatnonzero(~mask[0]), np.sort(np.argsort(uniform[0])[:74])
    )


def test_an_absent_person_is_masked_at_random():
    keypoint = skeletons()
    keypoint[1] = 0
    mask = draw(keypoint, tau=0.8)
    np.testing.assert_array_equal(mask[1], draw(keypoint, tau=0)[1])


def test_intensity_of_first_segment_repeats_the_second():
    intensity = motion_intensity(skeletons(), 4).reshape(2, 30, 25)
    np.testing.assert_array_equal(intensity[:, 0], intensity[:, 1])


@pytest.mark.parametrize(
    'shape, t_patch_size',
    [((2, 120, 25, 3), 4), ((1, 60, 20, 2), 5), ((3, 24, 17, 4), 1)],
)
@pytest.mark.parametrize('dtype', [np.float32, np.float64, np.int64])
def test_intensity_is_the_mean_change_of_a_patch(shape, t_patch_size, dtype):
    keypoint = (100 * skeletons(*shape)).astype(dtype)
    before = keypoint.copy()
    found = motion_intensity(keypoint, t_patch_size)
    np.testing.assert_array_equal(keypoint, before)
    patches = patchify(keypoint, t_patch_size)  # (M, L, u * C)
    joints = shape[2]
    change = np.abs(patches[:, joints:] - patches[:, :-joints]).mean(axis=2)
    np.testing.assert_allclose(found[:, joints:], change, rtol=1e-5)


@pytest.mark.parametrize('tau', [0, 0.8])
def test_equal_scores_still_keep_the_same_number(tau):
    keypoint = np.zeros((3, 120, 25, 3), np.float32)
    uniform = np.random.default_rng(0).random((3, 750))
    uniform[0] = 0.5
    uniform[1, ::2] = 0.01  # more tokens than are kept, and some below
    mask = motion_aware_mask(
        keypoint, uniform, mask_ratio=0.9, tau=tau, t_patch_size=4
    )
    np.testing.assert_array_equal((~mask).sum(axis=1), [74, 74, 74])
    lowest = np.sort(np.argsort(uniform[2])[:74])
    np.testing.assert_array_equal(np.flatnonzero(~mask[2]), lowest)
    np.testing.assert_array_equal(mask[1, 1::2], uniform[1, 1::2] > 0.01)


@pytest.mark.parametrize('shape', [(2, 120, 25, 3), (1, 60, 20, 2)])
def test_patches_are_time_major_and_frame_major(shape):
    x = skeletons(*shape)
    patches = patchify(x, 4)
    person, segment, joint, frame, channel = 0, 3, 5, 2, 1
    assert (
        patches[
            person,
            segment * shape[2] + joint,
            frame * shape[3] + channel,
        ]
        == x[person, segment * 4 + frame, joint, channel]
    )
    np.testing.assert_array_equal(unpatchify(patches, 4, shape[2]), x)


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(mask_ratio=0.0), r'mask_ratio=0.0 is outside \(0, 1\)'),
        (dict(mask_ratio=1.0), r'mask_ratio=1.0 is outside \(0, 1\)'),
        (dict(mask_ratio=0.999), 'keeps 0 of 750 tokens'),
        (dict(tau=-0.1), 'tau=-0.1 must not be negative'),
        (dict(t_patch_size=7), 'num_frames=120 .* t_patch_size=7'),
        (dict(t_patch_size=120), 'a single segment of t_patch_size=120'),
    ],
)
def test_bad_arguments(change, message):
    with pytest.raises(ValueError, match=message):
        draw(skeletons(), **change)


def test_noise_of_the_wrong_length():
    with pytest.raises(ValueError, match=r'\(2, 750\).*got \(2, 74\)'):
        motion_aware_mask(
            skeletons(),
            np.zeros((2, 74)),
            mask_ratio=0.9,
            tau=0.8,
            t_patch_size=4,
        )
