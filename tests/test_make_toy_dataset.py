import numpy as np
import pytest

from mamp_mmaction.datasets import toy
from mamp_mmaction.datasets.annotation_file import read_annotations
from mamp_mmaction.layouts import get_layout

LAYOUT = get_layout('nturgb+d')
JOINT = {name: i for i, name in enumerate(LAYOUT.joint_names)}
REVERSED = [
    ('sit down', 'stand up'),
    ('put on a hat', 'take off a hat'),
    ('push a door', 'pull a door'),
    ('circle an arm outward', 'circle an arm inward'),
]
# Of the last person in the last frame, with seed 3.
LAST_LEFT_HANDS = {
    'S001C001P001R001A001': (0.07585435, -0.4044826, 3.48308444),
    'S001C002P001R001A015': (-0.36478207, -0.17777018, 2.50698662),
    'S001C002P002R001A016': (0.04512356, -0.21648099, 2.45470691),
}
# Of each class, with seed 3: its sequences' mean absolute coordinates, summed.
MEANS = [
    *(4.862274, 4.557603, 4.930661, 4.596413, 4.677116, 4.996772, 4.690063),
    *(4.960624, 4.932371, 4.701276, 4.886049, 4.692579, 4.607935, 5.034118),
    *(4.988477, 4.892896),
]
TWO_PERSONS = {'shake hands', 'push someone'}


@pytest.fixture(scope='module')
def main(load_tool):
    return load_tool('data/make_toy_dataset').main


@pytest.fixture(scope='module')
def make(main, tmp_path_factory):
    folder = tmp_path_factory.mktemp('toy')

    def make(name='toy.pkl', **options):
        options = {'subjects': 2, 'cameras': 2, **options}
        flags = [f'--{k.replace("_", "-")}={v}' for k, v in options.items()]
        main([str(folder / name), *flags])
        return folder / name

    return make


@pytest.fixture(scope='module')
def content(make):
    return read_annotations(make(subjects=3, cameras=3))


def clean_angles(action, num_frames=50):
    """Angles of a performer who does exactly what the table says."""
    time = np.linspace(0, 1, num_frames)
    angles = toy.joint_angles(action, time)
    return np.where(np.isnan(angles), toy.STANDING, angles)


def clean_body():
    return toy.body_offsets(dict.fromkeys(toy.BODY, 1.0))


def field(annotation, letter):
    name = annotation['frame_dir']
    return int(name[name.index(letter) + 1 :][:3])


def test_numbers_stay_what_they_are_for_a_seed(make):
    """Also with more subjects and repetitions."""
    first = make('a.pkl', seed=3)
    assert make('c.pkl', seed=4).read_bytes() != first.read_bytes()
    # The results of the quick start rest on these recordings.
    annotations = read_annotations(first)['annotations']
    samples = {a['frame_dir']: a['keypoint'] for a in annotations}
    assert sum(a['total_frames'] for a in annotations) == 3102
    for name, place in LAST_LEFT_HANDS.items():
        hand = samples[name][-1, -1, JOINT['left_hand']]
        np.testing.assert_allclose(hand, place, atol=1e-6)
    means = np.zeros(len(MEANS))
    for a in annotations:
        means[a['label']] += abs(a['keypoint']).mean(dtype=float)
    np.testing.assert_allclose(means, MEANS, atol=1e-5)
    many = read_annotations(make('b.pkl', seed=3, subjects=3, repetitions=2))
    many = {a['frame_dir']: a['keypoint'] for a in many['annotations']}
    assert len(many) == 3 * len(samples)
    for name, keypoint in samples.items():
        np.testing.assert_array_equal(many[name], keypoint)


def test_splits_divide_by_subject_and_by_camera(content):
    by_name = {a['frame_dir']: a for a in content['annotations']}
    for split, letter in (('xsub', 'P'), ('xview', 'C')):
        names = (f'{split}_train', f'{split}_val')
        parts = [content['split'][name] for name in names]
        assert sorted(parts[0] + parts[1]) == sorted(by_name)
        samples = [[by_name[name] for name in part] for part in parts]
        first, second = ({field(a, letter) for a in part} for part in samples)
        assert first and second and not first & second
        for part in samples:
            labels = {sample['label'] for sample in part}
            assert labels == set(range(len(content['classes'])))


def test_annotations_are_as_asked(make):
    content = read_annotations(
        make('short.pkl', repetitions=2, min_frames=20, max_frames=24)
    )
    classes, annotations = content['classes'], content['annotations']
    assert len(classes) >= 10
    assert len(annotations) == 2 * 2 * 2 * len(classes)
    lengths = set()
    for annotation in annotations:
        keypoint = annotation['keypoint']
        two = classes[annotation['label']] in TWO_PERSONS
        frames = annotation['total_frames']
        assert keypoint.dtype == np.float32
        assert keypoint.shape == (1 + two, frames, 25, 3)
        assert field(annotation, 'A') == annotation['label'] + 1
        lengths.add(frames)
    assert lengths == set(range(20, 25))


def test_somebody_is_before_the_sensor_in_every_frame(content):
    late = 0
    for annotation in content['annotations']:
        keypoint = annotation['keypoint']
        present = keypoint.any(axis=(2, 3))  # (M, T)
        assert present.any(axis=0).all()
        late += not present.all()
        spine = keypoint[present][:, LAYOUT.origin]
        assert 1.5 < spine[:, 2].min() <= spine[:, 2].max() < 5
        assert (abs(spine[:, 0]) < 2).all()
        head = keypoint[present][:, JOINT['head']]
        assert (head[:, 1] > spine[:, 1]).all()
    assert late


def test_pairs_of_actions_differ_in_time_alone():
    """In its direction, or in speed."""
    for forward, backward in REVERSED:
        forward, backward = toy.ACTIONS[forward], toy.ACTIONS[backward]
        time = np.linspace(0.01, 0.99, 99)
        angles = toy.joint_angles(forward, time)
        np.testing.assert_allclose(
            toy.joint_angles(backward, time[::-1]), angles, atol=1e-9
        )
        assert np.nanmax(abs(angles - angles[::-1])) > 20
    slow, quick = toy.ACTIONS['wave slowly'], toy.ACTIONS['wave quickly']
    factor = quick.cycles / slow.cycles
    assert factor >= 2
    time = np.linspace(0, 1 / factor, 50)
    expected = toy.joint_angles(slow, factor * time)
    found = toy.joint_angles(quick, time)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_bones_keep_their_length():
    offsets = clean_body()
    lengths = np.linalg.norm(offsets, axis=-1)
    joints, parents = list(toy.PARENTS), list(toy.PARENTS.values())
    for action in toy.ACTIONS.values():
        positions = toy.forward_kinematics(clean_angles(action), offsets)
        bones = positions[:, joints] - positions[:, parents]
        found = np.linalg.norm(bones, axis=-1)
        expected = np.broadcast_to(lengths[joints], found.shape)
        np.testing.assert_allclose(found, expected, atol=1e-9)
    edges = {frozenset(edge) for edge in LAYOUT.inward}
    bones = {frozenset(b) for b in toy.PARENTS.items() if len(set(b)) == 2}
    assert bones == edges


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--subjects', '1'], '--subjects: 1 is less than 2'),
        (['--cameras', '1'], '--cameras: 1 is less than 2'),
        (['--min-frames', '90'], '--min-frames 90 is more than --max-frames'),
    ],
)
def test_impossible_sizes(main, tmp_path, capsys, flags, message):
    with pytest.raises(SystemExit):
        main([str(tmp_path / 'toy.pkl'), *flags])
    assert message in capsys.readouterr().err


def test_name_that_the_toolbox_does_not_read(make):
    with pytest.raises(SystemExit, match=r'error: .*\.pkl'):
        make('toy.npz')
