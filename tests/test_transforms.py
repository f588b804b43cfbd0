import numpy as np
import pytest
import torch
from mmaction.datasets.transforms import (
    FormatGCNInput,
    GenSkeFeat,
    PreNormalize2D,
)
from synthetic import data_set, pipeline, write

from mamp_mmaction.datasets import (
    CenterSkeleton,
    DropScore,
    MapJoints,
    MotionAwareMask,
    RandomRotate3D,
    ScaleToImage,
    SkeletonDataset,
    SkeletonStream,
    TemporalCropResize,
)
from mamp_mmaction.datasets.transforms.skeleton_stream import STREAMS
from mamp_mmaction.datasets.transforms.temporal_crop_resize import (
    resize_frames,
)
from mamp_mmaction.layouts import get_layout


def sequence(persons=2, frames=50, joints=25, channels=3, name='S001A001'):
    rng = np.random.default_rng(0)
    shape = (persons, frames, joints, channels)
    keypoint = rng.normal(size=shape).astype(np.float32) + 3
    return dict(frame_dir=name, keypoint=keypoint, total_frames=frames)


def center(results, joint=1):
    return CenterSkeleton(joint)(results)


def test_center_is_first_joint_of_first_frame_with_person_one():
    raw = sequence()
    raw['keypoint'][0, :3] = 0
    raw['keypoint'][1, 10:20] = 0
    before = raw['keypoint'].copy()
    after = center(raw)['keypoint']
    origin = before[0, 3, 1]
    np.testing.assert_array_equal(after[0, :3], 0)
    np.testing.assert_array_equal(after[1, 10:20], 0)
    np.testing.assert_array_equal(after[0, 3, 1], 0)
    np.testing.assert_allclose(after[0, 3:], before[0, 3:] - origin)
    np.testing.assert_allclose(after[1, :10], before[1, :10] - origin)


def test_center_drops_empty_frames_in_all_keys():
    raw = sequence(channels=2)
    raw['keypoint_score'] = np.ones((2, 50, 25), np.float32)
    raw['keypoint'][:, [0, 7]] = 0
    raw['keypoint_score'][:, [0, 7]] = 0
    out = center(raw)
    assert out['total_frames'] == 48
    assert out['keypoint'].shape == (2, 48, 25, 2)
    np.testing.assert_array_equal(out['keypoint_score'], 1)


def test_center_without_person_one_uses_who_is_there():
    raw = sequence()
    raw['keypoint'][0] = 0
    before = raw['keypoint'].copy()
    out = center(dict(raw))['keypoint']
    np.testing.assert_array_equal(out[0], 0)
    np.testing.assert_allclose(out[1], before[1] - before[1, 0, 1])
    np.testing.assert_array_equal(center(dict(raw), None)['keypoint'], before)
    half = center(dict(raw, keypoint=before.astype(np.float16)))['keypoint']
    assert half.dtype == np.float32


@pytest.mark.parametrize(
    'transform',
    [CenterSkeleton(), TemporalCropResize(24), RandomRotate3D()],
    ids=repr,
)
def test_any_memory_layout(transform):
    results = []
    for layout in (np.ascontiguousarray, np.asfortranarray):
        np.random.seed(0)
        raw = sequence(persons=3, frames=80)
        raw['keypoint'][2, 10:30] = 0
        raw['keypoint_score'] = np.ones((3, 80, 25), np.float32)
        raw['keypoint'] = layout(raw['keypoint'])
        results.append(transform(raw))
        # Confidence is not turned.
        np.testing.assert_array_equal(results[-1]['keypoint_score'], 1)
    np.testing.assert_allclose(*(r['keypoint'] for r in results), rtol=1e-5)


def test_center_bad_input_names_the_sample():
    raw = sequence(name='S009')
    with pytest.raises(ValueError, match="center_joint=25 .*'S009'"):
        center(raw, 25)
    raw['keypoint'][:] = 0
    with pytest.raises(ValueError, match="'S009' has no valid frame"):
        center(raw)


@pytest.mark.parametrize('frames', [1, 13, 64, 65, 90, 300])
def test_training_crop_lengths(frames):
    crop = TemporalCropResize(120)
    lengths = set()
    for _ in range(300):
        start, stop = crop._train_crop(frames)
        assert 0 <= start < stop <= frames
        lengths.add(stop - start)
    assert min(lengths) >= min(max(int(0.5 * frames), 64), frames)
    assert max(lengths) <= frames
    if frames <= 64:
        assert lengths == {frames}
    else:
        assert len(lengths) > (frames - 64) // 2


@pytest.mark.parametrize(
    'frames, margin', [(1, 0), (38, 0), (41, 1), (100, 2), (300, 7)]
)
def test_test_crop_margins(frames, margin):
    crop = TemporalCropResize(120, test_mode=True)
    assert crop._test_crop(frames) == (margin, frames - margin)


def test_crop_resize_keeps_confidence_in_step():
    raw = sequence(channels=2, frames=90)
    raw['keypoint_score'] = raw['keypoint'][..., 0].copy()
    out = TemporalCropResize(60)(raw)
    assert out['keypoint'].shape == (2, 60, 25, 2)
    np.testing.assert_array_equal(
        out['keypoint_score'], out['keypoint'][..., 0]
    )
    assert out['total_frames'] == 60


def test_resize_takes_any_number_type():
    clip = sequence(frames=37)['keypoint']
    expected = resize_frames(clip, 24)
    double = resize_frames(clip.astype(np.float64), 24)
    assert double.dtype == np.float64
    np.testing.assert_allclose(double, expected, rtol=1e-6)
    # What it keeps from one call to the next is as good as new.
    np.testing.assert_array_equal(resize_frames(clip, 24), expected)


@pytest.mark.parametrize(
    'kwargs',
    [
        dict(crop_ratio=(0.8, 0.5)),
        dict(crop_ratio=(0.0, 1.0)),
        dict(test_crop_ratio=1.2),
        dict(num_frames=0),
    ],
)
def test_crop_resize_bad_arguments(kwargs):
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        TemporalCropResize(**kwargs)


def test_rotation_is_one_rigid_turn_for_all():
    raw = sequence()
    before = raw['keypoint'].copy()
    after = RandomRotate3D()(raw)['keypoint']
    solution = np.linalg.lstsq(
        before.reshape(-1, 3), after.reshape(-1, 3), rcond=None
    )[0]
    np.testing.assert_allclose(solution @ solution.T, np.eye(3), atol=1e-5)
    assert np.linalg.det(solution) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(before @ solution, after, atol=1e-4)
    assert not np.allclose(before, after, atol=1e-3)


def test_rotation_of_each_axis_has_its_own_limit():
    before = sequence()['keypoint']
    after = RandomRotate3D(max_angle=[0, 1.5, 0])(sequence())['keypoint']
    np.testing.assert_allclose(after[..., 1], before[..., 1], atol=1e-6)
    assert not np.allclose(after, before, atol=0.1)
    turned = []
    for angle in (0.3, (0.3, 0.3, 0.3)):
        np.random.seed(0)
        turned.append(RandomRotate3D(angle)(sequence())['keypoint'])
    np.testing.assert_array_equal(*turned)


@pytest.mark.parametrize('angle', [-0.1, 4, (0.3, 0.3), (0, float('nan'), 0)])
def test_rotation_bad_angle(angle):
    with pytest.raises(ValueError, match='max_angle=.*one for each of x, y'):
        RandomRotate3D(angle)


def test_rotation_refuses_2d():
    with pytest.raises(ValueError, match=r"'S001A001'.*\(2, 50, 25, 2\)"):
        RandomRotate3D()(sequence(channels=2))


@pytest.mark.parametrize(
    'stream, feat',
    dict(joint='j', bone='b', joint_motion='jm', bone_motion='bm').items(),
)
def test_streams_are_those_of_the_toolbox(stream, feat):
    raw = sequence()
    theirs = GenSkeFeat(dataset='nturgb+d', feats=[feat])
    expected = theirs(dict(keypoint=raw['keypoint'].copy()))['keypoint']
    ours = SkeletonStream(stream)(raw)['keypoint']
    np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_stream_needs_the_right_layout():
    with pytest.raises(ValueError, match="'S001A001' has 20 joints.*25"):
        SkeletonStream('bone')(sequence(joints=20))
    with pytest.raises(ValueError, match="stream='bones' is none of"):
        SkeletonStream('bones')


def pixels():
    """Two persons in an image; what is absent is zero."""
    raw = sequence(channels=2)
    raw['keypoint'] = raw['keypoint'] * 100 + 200
    raw['keypoint'][1, 10:20] = 0
    raw['keypoint'][0, 5, 3] = 0
    raw['keypoint_score'] = np.ones((2, 50, 25), np.float32)
    return dict(raw, img_shape=(1080, 1920))


def test_pixels_are_scaled_as_in_the_toolbox_and_absent_joints_stay_zero():
    raw = pixels()
    present = raw['keypoint'].any(axis=-1)
    theirs = PreNormalize2D()(dict(raw, keypoint=raw['keypoint'].copy()))
    ours = ScaleToImage()(dict(raw))['keypoint']
    assert ours.dtype == np.float32
    np.testing.assert_allclose(
        ours[present], theirs['keypoint'][present], atol=1e-6
    )
    np.testing.assert_array_equal(theirs['keypoint'][~present], -1)
    np.testing.assert_array_equal(ours[~present], 0)
    # The absent person is absent for what follows.
    centred = CenterSkeleton(11)(dict(raw, keypoint=ours))['keypoint']
    np.testing.assert_array_equal(centred[1, 10:20], 0)


def test_an_image_without_size_names_the_sample():
    raw = pixels()
    shape = raw.pop('img_shape')
    given = ScaleToImage(shape)(dict(raw))['keypoint']
    told = ScaleToImage()(dict(raw, img_shape=shape))['keypoint']
    np.testing.assert_array_equal(given, told)
    given = ScaleToImage(shape)(dict(raw, img_shape=None))['keypoint']
    np.testing.assert_array_equal(given, told)
    with pytest.raises(ValueError, match="'S001A001' has img_shape=None"):
        ScaleToImage()(raw)
    with pytest.raises(ValueError, match=r"'S001A001'.*\(2, 50, 25, 3\)"):
        ScaleToImage(shape)(sequence())


def test_without_the_score_there_are_two_channels():
    with_score = FormatGCNInput(num_person=2)(pixels())['keypoint']
    without = FormatGCNInput(num_person=2)(DropScore()(pixels()))['keypoint']
    assert with_score.shape[-1] == 3
    np.testing.assert_array_equal(without, with_score[..., :2])


def test_joints_are_mapped_by_name_with_score_and_absent_persons():
    raw = sequence()
    raw['keypoint'][1, 10:20] = 0
    names = get_layout('nturgb+d').joint_names
    raw['keypoint_score'] = np.tile(np.arange(25.0), (2, 50, 1))
    before = raw['keypoint'].copy()
    out = MapJoints('nturgb+d', 'kinect_v1')(raw)
    synonyms = dict(hip_center=0, spine=1, shoulder_center=20)
    for place, name in enumerate(get_layout('kinect_v1').joint_names):
        source = synonyms.get(name)
        source = names.index(name) if source is None else source
        assert (out['keypoint_score'][:, :, place] == source).all()
        np.testing.assert_array_equal(
            out['keypoint'][:, :, place], before[:, :, source]
        )
    assert out['keypoint'].shape == (2, 50, 20, 3)
    assert not out['keypoint'][1, 10:20].any()
    # The same body as before, in its own joints' terms.
    centred = CenterSkeleton(get_layout('kinect_v1').origin)(out)
    assert not centred['keypoint'][0, 0, 1].any()
    assert not centred['keypoint'][1, 10:20].any()


def test_mapped_joints_must_be_there():
    step = MapJoints('msr_action3d', 'kinect_v1')
    message = "'S001A001' has 25 joints.*'msr_action3d' to 'kinect_v1'.* 20"
    with pytest.raises(ValueError, match=message):
        step(sequence())
    with pytest.raises(ValueError, match="'coco' lacks .*hip_center"):
        MapJoints('coco', 'kinect_v1')


@pytest.mark.parametrize(
    'transform',
    [
        CenterSkeleton(),
        CenterSkeleton(None),
        TemporalCropResize(),
        TemporalCropResize(test_mode=True),
        RandomRotate3D(),
        MapJoints('nturgb+d', 'kinect_v1'),
        *(SkeletonStream(stream) for stream in STREAMS),
    ],
    ids=repr,
)
def test_no_transform_writes_into_its_input(transform):
    raw = sequence()
    raw['keypoint_score'] = np.ones((2, 50, 25), np.float32)
    raw['keypoint'][1, 10:20] = 0
    arrays = {key: raw[key] for key in ('keypoint', 'keypoint_score')}
    before = {key: array.copy() for key, array in arrays.items()}
    for array in arrays.values():
        array.flags.writeable = False
    transform(raw)
    for key, array in arrays.items():
        np.testing.assert_array_equal(array, before[key])


@pytest.mark.parametrize('serialize_data', [True, False])
def test_the_pipeline_leaves_the_annotations_alone(tmp_path, serialize_data):
    data = data_set(persons=2, frames=50)
    dataset = SkeletonDataset(
        write(tmp_path / 'ann.pkl', data),
        [RandomRotate3D(), *pipeline(24, 2, 0.9)],
        serialize_data=serialize_data,
    )
    dataset[3]['inputs'].zero_()
    np.testing.assert_array_equal(
        dataset.get_data_info(3)['keypoint'],
        data['annotations'][3]['keypoint'],
    )


def formatted(**kwargs):
    results = sequence(frames=60, **kwargs)
    results['sample_idx'] = 3
    return FormatGCNInput(num_person=2)(results)


def test_seeded_masks_depend_on_seed_and_sample_alone():
    def draw(seed, index):
        results = dict(formatted(), sample_idx=index)
        return MotionAwareMask(seed=seed)(results)['mask']

    assert torch.equal(draw(0, 3), draw(0, 3))
    assert not torch.equal(draw(0, 3), draw(0, 4))
    assert not torch.equal(draw(0, 3), draw(1, 3))
    assert not torch.equal(draw(None, 3), draw(None, 3))


def test_mask_needs_one_formatted_clip():
    with pytest.raises(ValueError, match='behind FormatGCNInput'):
        MotionAwareMask()(sequence())
    with pytest.raises(ValueError, match='num_clips=1'):
        clips = dict(sequence(frames=120), num_clips=2)
        MotionAwareMask()(FormatGCNInput()(clips))


@pytest.mark.parametrize('kwargs', [dict(mask_ratio=1.5), dict(tau=-1)])
def test_mask_bad_arguments(kwargs):
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        MotionAwareMask(**kwargs)
