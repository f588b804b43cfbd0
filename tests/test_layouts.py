import numpy as np
import pytest
from mmaction.datasets.transforms import JointToBone
from mmaction.models.utils import Graph

from mamp_mmaction.layouts import (
    LAYOUTS,
    get_layout,
    joint_indices,
    load_layout,
    register_layout,
)

TOOLBOX_LAYOUTS = ('nturgb+d', 'coco', 'openpose')
ALL_LAYOUTS = sorted(LAYOUTS)

# Typed from the description that comes with the MSR-Action3D release.
MSR_BONES = {
    (6, 3), (3, 2), (2, 19), (2, 0), (2, 1), (0, 7), (1, 8), (7, 9), (8, 10),
    (9, 11), (10, 12), (6, 4), (6, 5), (4, 13), (5, 14), (13, 15), (14, 16),
    (15, 17), (16, 18),
}  # fmt: skip


@pytest.mark.parametrize('mode', ['spatial', 'stgcn_spatial', 'binary_adj'])
@pytest.mark.parametrize('name', TOOLBOX_LAYOUTS)
def test_graph_is_the_toolboxes(name, mode):
    ours = Graph(layout=get_layout(name).graph(), mode=mode)
    np.testing.assert_array_equal(ours.A, Graph(layout=name, mode=mode).A)


@pytest.mark.parametrize('name', TOOLBOX_LAYOUTS)
def test_bones_are_the_toolboxes(name):
    layout = get_layout(name)
    channels = 3 if name == 'nturgb+d' else 2
    shape = (2, 5, layout.num_joints, channels)
    keypoint = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = JointToBone(name).transform(dict(keypoint=keypoint))['keypoint']
    bones = keypoint - keypoint[:, :, list(layout.parents)]
    np.testing.assert_array_equal(bones, expected)


def test_msr_action3d_has_the_bones_of_its_release():
    layout = get_layout('msr_action3d')
    unordered = {frozenset(bone) for bone in MSR_BONES}
    bones = {frozenset(pair) for pair in enumerate(layout.parents)}
    assert {bone for bone in bones if len(bone) == 2} == unordered
    assert {frozenset(edge) for edge in layout.inward} == unordered


@pytest.mark.parametrize('name', ALL_LAYOUTS)
def test_swapping_the_sides_is_a_symmetry_of_bones_and_graph(name):
    layout = get_layout(name)
    swap = np.arange(layout.num_joints)
    swap[list(layout.left)] = layout.right
    swap[list(layout.right)] = layout.left
    np.testing.assert_array_equal(
        swap[list(layout.parents)], np.array(layout.parents)[swap]
    )
    swapped = {(int(swap[i]), int(swap[j])) for i, j in layout.inward}
    assert swapped == set(layout.inward)


# Typed from the definition that each one's makers publish.
PUBLISHED = {
    'mediapipe': (
        (33, 'left_hip'),
        'nose:0 left_eye_inner:1 left_eye_outer:3 right_eye_inner:4 '
        'right_eye:5 left_ear:7 right_mouth:10 left_shoulder:11 left_wrist:15 '
        'right_pinky:18 left_index:19 left_thumb:21 right_hip:24 left_knee:25 '
        'right_ankle:28 left_heel:29 right_foot_index:32',
    ),
    'coco_wholebody_body': (
        (23, 'left_hip'),
        'nose:0 left_eye:1 right_ear:4 left_shoulder:5 right_wrist:10 '
        'left_hip:11 right_ankle:16 left_big_toe:17 left_small_toe:18 '
        'left_heel:19 right_big_toe:20 right_small_toe:21 right_heel:22',
    ),
    'halpe26': (
        (26, 'hip'),
        'nose:0 right_eye:2 left_shoulder:5 left_hip:11 right_ankle:16 '
        'head:17 neck:18 hip:19 left_big_toe:20 right_big_toe:21 '
        'left_small_toe:22 right_small_toe:23 left_heel:24 right_heel:25',
    ),
    'openpose25': (
        (25, 'mid_hip'),
        'nose:0 neck:1 right_shoulder:2 right_wrist:4 left_shoulder:5 '
        'mid_hip:8 right_hip:9 left_hip:12 left_ankle:14 right_eye:15 '
        'left_ear:18 left_big_toe:19 left_small_toe:20 left_heel:21 '
        'right_big_toe:22 right_heel:24',
    ),
    'h36m': (
        (17, 'hip'),
        'hip:0 right_hip:1 right_knee:2 right_ankle:3 left_hip:4 '
        'left_ankle:6 spine:7 thorax:8 neck_base:9 head:10 left_shoulder:11 '
        'left_wrist:13 right_shoulder:14 right_wrist:16',
    ),
    'smpl': (
        (24, 'pelvis'),
        'pelvis:0 left_hip:1 right_hip:2 spine1:3 left_knee:4 spine2:6 '
        'right_ankle:8 spine3:9 left_foot:10 neck:12 left_collar:13 head:15 '
        'right_shoulder:17 left_elbow:18 right_wrist:21 left_hand:22',
    ),
}


@pytest.mark.parametrize('name', PUBLISHED)
def test_joints_stand_where_their_makers_have_them(name):
    layout = get_layout(name)
    (joints, origin), places = PUBLISHED[name]
    assert layout.num_joints == joints
    assert layout.joint_names[layout.origin] == origin
    for joint, place in (item.split(':') for item in places.split()):
        assert layout.joint_names[int(place)] == joint


def test_smpl_has_the_kinematic_tree_of_its_model():
    assert get_layout('smpl').parents == (
        *(0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8),
        *(9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21),
    )


@pytest.mark.parametrize(
    ('source', 'target', 'places'),
    [
        ('coco_wholebody_body', 'coco', range(17)),
        (
            'halpe26',
            'coco_wholebody_body',
            (*range(17), 20, 22, 24, 21, 23, 25),
        ),
        (
            'mediapipe',
            'coco',
            (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, *range(23, 29)),
        ),
        ('openpose25', 'openpose', (*range(8), *range(9, 19))),
        (
            'halpe26',
            'openpose25',
            (
                *(0, 18, 6, 8, 10, 5, 7, 9, 19, 12, 14, 16, 11, 13, 15),
                *(2, 1, 4, 3, 20, 22, 24, 21, 23, 25),
            ),
        ),
    ],
)
def test_estimators_share_joints_by_name(source, target, places):
    assert joint_indices(source, target) == list(places)


# Typed from the first Kinect's documentation.
KINECT_V1 = (
    'hip_center spine shoulder_center head left_shoulder left_elbow '
    'left_wrist left_hand right_shoulder right_elbow right_wrist right_hand '
    'left_hip left_knee left_ankle left_foot right_hip right_knee '
    'right_ankle right_foot'
)


@pytest.mark.parametrize('source', ['msr_action3d', 'nw_ucla', 'utd_mhad'])
def test_the_first_kinects_joints_are_found_by_name(source):
    assert ' '.join(get_layout('kinect_v1').joint_names) == KINECT_V1
    there = joint_indices(source, 'kinect_v1')
    names = get_layout(source).joint_names
    assert ' '.join(names[i] for i in there) == KINECT_V1
    back = joint_indices('kinect_v1', source)
    assert [there[i] for i in back] == list(range(20))


def test_the_second_kinect_has_all_joints_of_the_first():
    # By hand: NTU RGB+D has its spine_shoulder, neck and head at 20, 2, 3.
    assert joint_indices('nturgb+d', 'kinect_v1') == [
        *(0, 1, 20, 3),
        *range(4, 20),
    ]
    lacking = 'neck, left_hand_tip, left_thumb, right_hand_tip, right_thumb'
    with pytest.raises(
        ValueError, match=f"'kinect_v1' lacks .* 'nturgb.d': {lacking}[.]$"
    ):
        joint_indices('kinect_v1', 'nturgb+d')


def test_both_names_of_a_joint_in_one_layout_are_two_joints():
    both = ('hip', 'hip'), ('spine_mid', 'hip'), ('spine', 'spine_mid')
    try:
        register_layout('both', origin='hip', joints=both)
        register_layout('mid', origin='hip', joints=both[:2])
        end = ('spine', 'hip')
        register_layout('end', origin='hip', joints=(both[0], end))
        for source, target, places in (
            ('both', 'both', [0, 1, 2]),
            ('both', 'mid', [0, 1]),
            ('both', 'end', [0, 2]),
            ('mid', 'end', [0, 1]),
            ('end', 'mid', [0, 1]),
        ):
            assert joint_indices(source, target) == places
        with pytest.raises(ValueError, match="'mid' lacks .*'both': spine[.]"):
            joint_indices('mid', 'both')
        with pytest.raises(ValueError, match="lacks .* 'both': spine_mid[.]"):
            joint_indices('end', 'both')
    finally:
        for name in ('both', 'mid', 'end'):
            LAYOUTS.pop(name, None)


def test_unknown_layout_names_the_known_ones():
    with pytest.raises(ValueError, match=r"'ntu'.*'nturgb\+d', 'coco'"):
        get_layout('ntu')


ARM = (('hand', 'elbow'), ('elbow', 'shoulder'), ('shoulder', 'shoulder'))


def test_a_layout_of_ones_own():
    try:
        layout = register_layout('arm', origin='elbow', joints=ARM)
        assert get_layout('arm') is layout
        assert layout.parents == (1, 2, 2) and layout.inward == (
            (0, 1),
            (1, 2),
        )
        assert (layout.origin, layout.center, layout.left) == (1, 2, ())
        # A module that is loaded again adds the same once more.
        register_layout('arm', origin='elbow', joints=ARM)
        with pytest.raises(ValueError, match="another layout 'arm' of 3 join"):
            register_layout('arm', origin='hand', joints=ARM)
    finally:
        del LAYOUTS['arm']


ARM_FILE = f"""
from mamp_mmaction.layouts import get_layout, register_layout
get_layout('coco')  # those of the table are at hand
register_layout('arm', origin='elbow', joints={ARM})
"""


def test_a_layout_by_name_or_file(tmp_path):
    assert load_layout('coco') is get_layout('coco')
    path = tmp_path / 'arm.py'
    path.write_text(ARM_FILE)
    try:
        for _ in range(2):  # the second time it is known already
            assert load_layout(str(path)) == get_layout('arm')
    finally:
        del LAYOUTS['arm']
    for text, message in (
        ('', r'registers 0 layouts \[\], expected one'),
        ('import no_such_module', 'fails with ModuleNotFoundError'),
        ('def', 'fails with SyntaxError'),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=f'arm.py: {message}'):
            load_layout(str(path))
    with pytest.raises(FileNotFoundError, match='none.py'):
        load_layout('none.py')


@pytest.mark.parametrize(
    'joints, message',
    [
        ((*ARM, ('hand', 'elbow')), "has the joint 'hand' twice"),
        ((*ARM, ('tip', 'finger')), "names 'finger' as parent of 'tip'"),
        ((*ARM, ('foot', 'foot')), "not connected: 'shoulder' and 'foot'"),
        (
            (*ARM, ('a', 'b'), ('b', 'c'), ('c', 'a')),
            'bones .* circle: a -> b -> c -> a',
        ),
        (
            (*ARM, ('a', 'hand', 'b'), ('b', 'hand', 'a')),
            'edges of the graph .* circle: a -> b -> a',
        ),
        ((*ARM, ('left_foot', 'hand')), "'right_foot' as counterpart"),
        ((*ARM, ('right_foot', 'hand')), "'left_foot' as counterpart"),
        (ARM[:1], "names 'elbow' as parent"),
        ((('hip', 'hip'),), "names 'elbow' as origin"),
        (('hand',), "a joint by 'hand'"),
        ((('hand',),), 'a joint by .*hand'),
        ((), 'has no joints'),
    ],
)
def test_a_layout_that_is_no_skeleton(joints, message):
    with pytest.raises(
        ValueError, match=f"layout 'new' .*{message}|{message}"
    ):
        register_layout('new', origin='elbow', joints=joints)
    assert 'new' not in LAYOUTS
