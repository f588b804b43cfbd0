"""Masks of whole tubes and limbs."""

import numpy as np
import pytest
from mmaction.datasets.transforms import FormatGCNInput
from mmaction.registry import TRANSFORMS
from synthetic import annotation

from mamp_mmaction.layouts import LAYOUTS, get_layout, register_layout
from mamp_mmaction.motion_mask import motion_aware_mask

RULE = dict(mask_ratio=0.8, tau=0.8, t_patch_size=4)
PAIRS = [[0, 3], [1], [4, 2]]


def data(persons=3, segments=7, joints=5, seed=0):
    rng = np.random.default_rng(seed)
    keypoint = rng.normal(size=(persons, 4 * segments, joints, 3))
    return keypoint, rng.random((persons, segments * joints))


def by_hand(keypoint, uniform, tube, limbs, tau, visible):
    """Group after group, as the rule is written down."""
    masks = []
    for x, noise in zip(keypoint, uniform.reshape(len(uniform), -1, 5)):
        patches = x.reshape(-1, 4, 5, 3)
        change = np.abs(patches[1:] - patches[:-1]).mean(axis=(1, 3))
        change = np.concatenate([change[:1], change])  # (T', V)
        groups = [
            [
                (t, v)
                for t in range(len(change))[start : start + tube]
                for v in sorted(limb)
            ]
            for start in range(0, len(change), tube)
            for limb in limbs
        ]
        means = [np.mean([change[token] for token in g]) for g in groups]
        first = np.array([noise[g[0]] for g in groups])
        score = np.array(means) / (tau * max(means) + 1e-10) if tau else first
        if tau:
            score = score - np.log(-np.log(first + 1e-10) + 1e-10)
        kept = [t for i in np.argsort(score) for t in sorted(groups[i])]
        mask = np.ones(change.shape, bool)
        mask[tuple(np.transpose(kept[:visible]))] = False
        masks.append(mask.ravel())
    return np.array(masks)


@pytest.mark.parametrize('tau', [0.8, 0])
@pytest.mark.parametrize(
    'tube, limbs', [(2, None), (7, None), (1, PAIRS), (3, PAIRS)]
)
def test_groups_follow_the_rule(tube, limbs, tau):
    keypoint, uniform = data()
    rule = dict(RULE, tau=tau, tube=tube, limbs=limbs)
    found = motion_aware_mask(keypoint, uniform, **rule)
    single = [[joint] for joint in range(5)]
    visible = int(35 * (1 - 0.8))
    wanted = by_hand(keypoint, uniform, tube, limbs or single, tau, visible)
    np.testing.assert_array_equal(found, wanted)
    # No fewer and no more than without groups.
    assert found.dtype == bool and (found.sum(axis=1) == 35 - visible).all()


def test_groups_of_one_token_are_the_papers_mask():
    keypoint, uniform = data()
    rule = dict(RULE, limbs=[[joint] for joint in range(5)])
    np.testing.assert_array_equal(
        motion_aware_mask(keypoint, uniform, **rule),
        motion_aware_mask(keypoint, uniform, **RULE),
    )


@pytest.mark.parametrize('name', LAYOUTS)
def test_limbs_of_a_layout(name):
    layout = get_layout(name)
    trunk, *limbs = layout.limbs
    named = [{layout.joint_names[j] for j in limb} for limb in limbs]
    assert sorted(sum(layout.limbs, ())) == list(range(layout.num_joints))
    for side in ('left', 'right'):
        for joints in ('shoulder elbow wrist', 'hip knee ankle'):
            wanted = {f'{side}_{joint}' for joint in joints.split()}
            # A whole one, with nothing of the others.
            (limb,) = [limb for limb in named if wanted & limb]
            assert wanted <= limb
            assert all(joint.startswith(side) for joint in limb)
    assert len(limbs) == 4
    assert {'nose', 'head'} & {layout.joint_names[j] for j in trunk}


def test_layouts_without_sides_or_with_branches(monkeypatch):
    monkeypatch.setattr('mamp_mmaction.layouts.LAYOUTS', {})
    arm = [('left_a', 'hub'), ('left_b', 'left_a'), ('left_c', 'left_b')]
    arm += [('left_d', 'left_b')]  # a thumb
    joints = [('hub', 'hub'), *arm]
    joints += [tuple(n.replace('left', 'right') for n in row) for row in arm]
    layout = register_layout('robot', origin='hub', joints=joints)
    assert layout.limbs == ((0,), (1, 2, 3, 4), (5, 6, 7, 8))
    snake = register_layout('snake', origin='hub', joints=joints[:1])
    with pytest.raises(ValueError, match="'snake' has no limbs"):
        _ = snake.limbs


# The transform ---------------------------------------------------------------


def transform(**kwargs):
    return TRANSFORMS.build(dict(type='MotionAwareMask', seed=1, **kwargs))


def masked(mask, joints=25, frames=24):
    sample = dict(annotation(3, frames=frames, joints=joints), sample_idx=3)
    results = FormatGCNInput(num_person=2)(sample)
    return mask(results)['mask'], results['keypoint'][0]


@pytest.mark.parametrize(
    'tube, part', [(1, 'joint'), (3, 'joint'), (2, 'limb')]
)
def test_the_transform_draws_groups(tube, part):
    mask = transform(mask_ratio=0.7, tube=tube, part=part, layout='nturgb+d')
    assert f"tube={tube}, part='{part}'" in repr(mask)
    found, keypoint = masked(mask)
    limbs = get_layout('nturgb+d').limbs if part == 'limb' else None
    uniform = np.random.default_rng([1, 3]).random((2, 150))
    rule = dict(RULE, mask_ratio=0.7, tube=tube, limbs=limbs)
    wanted = motion_aware_mask(keypoint, uniform, **rule)
    np.testing.assert_array_equal(found.numpy(), wanted)


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(tube=0), 'tube=0 must be at least 1'),
        (dict(tube=7), 'tube=7 is none of 1 to 6, the number of segments'),
        (dict(part='bone'), "part='bone' is neither 'joint' nor 'limb'"),
        (dict(part='limb'), "part='limb' needs layout="),
        (dict(part='limb', layout='ntu'), "layout 'ntu' is unknown"),
        (
            dict(part='limb', layout='coco'),
            r"layout='coco'\) needs 17 joints, but sample 'S003' has 25",
        ),
    ],
)
def test_groups_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        masked(transform(**options))


@pytest.mark.parametrize(
    'limbs', [[[0, 1], [2, 3]], [[0, 1, 2, 3, 4, 4]], [[0, 1, 2, 3, 4], []]]
)
def test_limbs_must_have_every_joint_once(limbs):
    with pytest.raises(ValueError, match='each of the 5 joints, from 0 to 4'):
        motion_aware_mask(*data(), **RULE, limbs=limbs)
