"""The skeleton layouts: joints, bones, graphs, left and right, in one table.

Bone streams, GCN graphs, flips, centring and pictures all read this table, so
a new skeleton is one more entry of it, here or in a module of yours that
calls :func:`register_layout`.
"""

import runpy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

# Joints of the shortest limb: of two alone, such as eye and ear, is none.
LEAST_JOINTS = 3


@dataclass(frozen=True)
class SkeletonLayout:
    """What is known of a set of joints.

    Attributes:
        name (str): The layout's name, as the toolbox spells it where it has
            the layout.
        joint_names (tuple[str]): One name a joint, in the order of the data;
            ``left_`` and ``right_`` mark the sides.
        parents (tuple[int]): For each joint the joint its bone starts from,
            so that bone = joint - parent. The root is its own parent.
        inward (tuple[tuple[int, int]]): The edges of the graph, each from a
            joint to its neighbour towards the centre.
        center (int): The graph's centre joint.
        origin (int): The joint whose first position is the origin of a
            centred sequence.
        left (tuple[int]): The joints of the left side.
        right (tuple[int]): Their counterparts, in the same order, so that a
            mirrored skeleton swaps ``left[i]`` with ``right[i]``.
    """

    name: str
    joint_names: tuple
    parents: tuple
    inward: tuple
    center: int
    origin: int
    left: tuple
    right: tuple

    @property
    def num_joints(self) -> int:
        """The number of joints."""
        return len(self.joint_names)

    @cached_property
    def limbs(self) -> tuple:
        """The joints of the trunk with the head, and of every arm and leg.

        A limb is a chain of bones on one side. Where a chain branches, its
        first branch in the order of the joints goes on and the others begin
        anew; what is too short for a limb belongs to what it hangs from.

        Raises:
            ValueError: If the joints have no sides.
        """
        if not self.left:
            raise ValueError(
                f'layout {self.name!r} has no limbs: none of its joints is '
                "called 'left_...' or 'right_...'."
            )
        sided, joints = {*self.left, *self.right}, range(self.num_joints)
        children = [
            [
                child
                for child in joints
                if self.parents[child] == joint != child
            ]
            for joint in joints
        ]

        def size(joint: int) -> int:
            return 1 + sum(map(size, children[joint]))

        def begin(joint: int) -> int:
            """First joint of the limb, -1 for the trunk."""
            parent = self.parents[joint]
            if joint not in sided or parent == joint:
                return -1
            goes_on = parent in sided and children[parent][0] == joint
            if goes_on or size(joint) < LEAST_JOINTS:
                return begin(parent)
            return joint

        begins = [begin(joint) for joint in joints]
        return tuple(
            tuple(joint for joint in joints if begins[joint] == limb)
            for limb in sorted(set(begins))
        )

    def graph(self) -> dict:
        """Return the ``layout`` that ``mmaction.models.utils.Graph`` takes."""
        return {
            'num_node': self.num_joints,
            'inward': list(self.inward),
            'center': self.center,
        }


#: Every known layout by its name.
LAYOUTS = {}
# What was registered, in the order of the calls, repetitions included.
_REGISTERED = []

# The second Kinect's names for joints that the first has, too, and OpenPose's
# for the middle of the hips.
SYNONYMS = {
    'spine_base': 'hip_center',
    'spine_mid': 'spine',
    'spine_shoulder': 'shoulder_center',
    'mid_hip': 'hip',
}


def get_layout(name: str) -> SkeletonLayout:
    """Return the layout of this name.

    Args:
        name (str): ``'nturgb+d'``, ``'coco'``, ``'openpose'``,
            ``'kinect_v1'`` (also ``'nw_ucla'``), ``'msr_action3d'``,
            ``'utd_mhad'``, ``'mediapipe'``, ``'coco_wholebody_body'``,
            ``'halpe26'``, ``'openpose25'``, ``'h36m'``, ``'smpl'`` or one
            added by :func:`register_layout`.

    Raises:
        ValueError: There is no such layout.
    """
    if name not in LAYOUTS:
        raise ValueError(
            f'layout {name!r} is unknown; the known ones are '
            f'{", ".join(map(repr, LAYOUTS))}. Add yours by '
            'mamp_mmaction.layouts.register_layout.'
        )
    return LAYOUTS[name]


def load_layout(name_or_file: str) -> SkeletonLayout:
    """Return the layout of a name, or the one that a Python file registers.

    Args:
        name_or_file (str): A name that :func:`get_layout` knows, or the path
            of a file ``*.py`` that calls :func:`register_layout` once.

    Raises:
        ValueError: There is no such layout, or the file registers none or
            several.
        OSError: There is no such file.
    """
    if not name_or_file.endswith('.py'):
        return get_layout(name_or_file)
    before = len(_REGISTERED)
    try:
        runpy.run_path(name_or_file)
    except (ValueError, OSError):
        raise
    except Exception as error:  # a user's code, which may fail in any way
        raise ValueError(f'{name_or_file}: fails with {error!r}.') from error
    added = sorted(set(_REGISTERED[before:]))
    if len(added) != 1:
        raise ValueError(
            f'{name_or_file}: registers {len(added)} layouts {added}, '
            'expected one by mamp_mmaction.layouts.register_layout.'
        )
    return LAYOUTS[added[0]]


def find_layout(
    given: str | None, num_joints: int
) -> tuple[SkeletonLayout | None, str]:
    """Return the layout of some joints, and what is said of it.

    Args:
        given (str, optional): Its name, or a Python file that registers it.
        num_joints (int): How many joints there are.

    Returns:
        tuple[SkeletonLayout | None, str]: None where it is not given and not
        exactly one known layout has as many joints.

    Raises:
        ValueError: The layout given is unknown or has other joints.
        OSError: There is no such file.
    """
    if given is None:
        fitting = [v for v in LAYOUTS.values() if v.num_joints == num_joints]
        if len(fitting) == 1:
            told = f'the only known one of {num_joints} joints'
            return fitting[0], f'{fitting[0].name}, {told}'
        names = [k for k, v in LAYOUTS.items() if v in fitting]
        names = ' and '.join(names) or 'no known layout'
        return None, f'{names} with {num_joints} joints; --layout says which'
    layout = load_layout(given)
    if layout.num_joints != num_joints:
        raise ValueError(
            f'the data has {num_joints} joints, but the layout '
            f'{layout.name!r} has {layout.num_joints}.'
        )
    return layout, layout.name


def register_layout(
    name: str, *, origin: str, joints: Sequence[Sequence[str]]
) -> SkeletonLayout:
    """Add a skeleton to the table.

    Args:
        name (str): The layout's name, by which configs ask for it.
        origin (str): The joint that becomes the origin of a centred sequence.
        joints (Sequence[Sequence[str]]): For each joint, in the order of the
            data, its name, the joint that its bone starts from and, where the
            graph's edge leads elsewhere, that neighbour. The root of the
            bones and the centre of the graph name themselves. ``left_X`` and
            ``right_X`` are counterparts.

    Returns:
        SkeletonLayout: The new entry.

    Raises:
        ValueError: If a row is not as told, a joint comes twice, one named
            as parent, origin or counterpart is missing, the bones or the
            graph's edges are no tree, or another layout has the name.
    """
    for row in joints:
        if isinstance(row, str) or len(row) not in (2, 3):
            raise ValueError(
                f'layout {name!r} describes a joint by {row!r}: expected its '
                "name, its bone's parent and perhaps its neighbour."
            )
    names = tuple(row[0] for row in joints)
    twice = sorted({joint for joint in names if names.count(joint) > 1})
    if twice:
        raise ValueError(f'layout {name!r} has the joint {twice[0]!r} twice.')
    index = {joint: i for i, joint in enumerate(names)}

    def number(joint: str, role: str) -> int:
        if joint not in index:
            raise ValueError(
                f'layout {name!r} names {joint!r} as {role}, but has no such '
                f'joint; its joints are {", ".join(names)}.'
            )
        return index[joint]

    parents, neighbours = (
        tuple(number(row[k], f'parent of {row[0]!r}') for row in joints)
        for k in (1, -1)
    )
    _check_tree(name, names, parents, 'bones')
    _check_tree(name, names, neighbours, 'edges of the graph')
    left, right = (
        tuple(i for i, joint in enumerate(names) if joint.startswith(side))
        for side in ('left_', 'right_')
    )
    counterparts = tuple(
        number(f'right_{names[i][5:]}', f'counterpart of {names[i]!r}')
        for i in left
    )
    for i in right:
        number(f'left_{names[i][6:]}', f'counterpart of {names[i]!r}')
    layout = SkeletonLayout(
        name=name,
        joint_names=names,
        parents=parents,
        inward=tuple((i, j) for i, j in enumerate(neighbours) if i != j),
        center=next(i for i, j in enumerate(neighbours) if i == j),
        origin=number(origin, 'origin'),
        left=left,
        right=counterparts,
    )
    if LAYOUTS.setdefault(name, layout) != layout:
        raise ValueError(
            f'there is another layout {name!r} of '
            f'{LAYOUTS[name].num_joints} joints: choose another name.'
        )
    _REGISTERED.append(name)
    return layout


def joint_indices(source: str, target: str) -> list[int]:
    """Where a layout has the joints of another, matched by their names.

    Args:
        source (str): Name of the layout that has them.
        target (str): Name of the layout whose joints are wanted. Joints that
            the first and the second Kinect name differently are the same,
            unless a layout has both names.

    Returns:
        list[int]: Places in ``source``, in the order of ``target``, so that
        ``keypoint[..., indices, :]`` is a skeleton of ``target``.

    Raises:
        ValueError: If a layout is unknown, or ``source`` lacks joints, which
            are listed.
    """
    have, wanted = (
        get_layout(layout).joint_names for layout in (source, target)
    )
    places = {name: place for place, name in enumerate(have)}
    others = {
        SYNONYMS.get(name, name): place
        for name, place in places.items()
        if name not in wanted
    }
    found = [
        places.get(name, others.get(SYNONYMS.get(name, name)))
        for name in wanted
    ]
    lacking = [name for name, place in zip(wanted, found) if place is None]
    if lacking:
        raise ValueError(
            f'layout {source!r} lacks joints of layout {target!r}: '
            f'{", ".join(lacking)}.'
        )
    return found


def _check_tree(
    name: str, names: Sequence[str], parents: Sequence[int], what: str
) -> None:
    """Every joint must lead to one root, which is its own parent."""
    roots = [names[i] for i, parent in enumerate(parents) if i == parent]
    if len(roots) > 1:
        raise ValueError(
            f'the {what} of layout {name!r} are not connected: '
            f'{" and ".join(map(repr, roots))} are each their own parent, '
            'and only one joint may be.'
        )
    for joint in range(len(names)):
        path = [joint]
        while parents[path[-1]] not in path:
            path.append(parents[path[-1]])
        if parents[path[-1]] != path[-1]:
            circle = path[path.index(parents[path[-1]]) :]
            raise ValueError(
                f'the {what} of layout {name!r} run in a circle: '
                f'{" -> ".join(names[i] for i in circle + circle[:1])}. '
                'Let the root name itself as its parent.'
            )
    if not roots:
        raise ValueError(f'layout {name!r} has no joints.')


def _chain(side: str, start: str, joints: str) -> list[tuple[str, str]]:
    """Rows of a limb whose joints, of one side, hang from each other."""
    names = [f'{side}_{joint}' for joint in joints.split()]
    return list(zip(names, [start, *names]))


def _both(joint: str, *ends: str) -> list[tuple[str, ...]]:
    """Rows of a joint on the left and on the right.

    What it hangs from is of its own side where it begins with ``_``.
    """
    return [
        (f'{side}_{joint}', *(side * (end[0] == '_') + end for end in ends))
        for side in ('left', 'right')
    ]


ARM, LEG = 'shoulder elbow wrist', 'hip knee ankle'

# The toolbox's bones and graphs are two facts: in three of the layouts below
# some joints hang from another joint in the bone stream than in the graph.
register_layout(
    'nturgb+d',
    origin='spine_mid',
    joints=(
        ('spine_base', 'spine_mid'),
        ('spine_mid', 'spine_shoulder'),
        ('neck', 'spine_shoulder'),
        ('head', 'neck'),
        *_chain('left', 'spine_shoulder', f'{ARM} hand'),
        *_chain('right', 'spine_shoulder', f'{ARM} hand'),
        *_chain('left', 'spine_base', f'{LEG} foot'),
        *_chain('right', 'spine_base', f'{LEG} foot'),
        ('spine_shoulder', 'spine_shoulder'),
        ('left_hand_tip', 'left_thumb', 'left_hand'),
        ('left_thumb', 'left_hand'),
        ('right_hand_tip', 'right_thumb', 'right_hand'),
        ('right_thumb', 'right_hand'),
    ),
)

# COCO has no joint on the axis of the trunk: a hip stands in for the
# middle of the hips, since the nose moves with every turn of the head.
_COCO = (
    ('nose', 'nose'),
    *_both('eye', 'nose'),
    *_both('ear', '_eye'),
    *_both('shoulder', 'nose'),
    *_both('elbow', '_shoulder'),
    *_both('wrist', '_elbow'),
    *_both('hip', 'nose', '_shoulder'),
    *_both('knee', '_hip'),
    *_both('ankle', '_knee'),
)
register_layout('coco', origin='left_hip', joints=_COCO)

# The neck is the only joint of OpenPose's 18 on the axis of the trunk.
register_layout(
    'openpose',
    origin='neck',
    joints=(
        ('nose', 'nose', 'neck'),
        ('neck', 'nose', 'neck'),
        *_chain('right', 'neck', ARM),
        *_chain('left', 'neck', ARM),
        *_chain('right', 'right_shoulder', LEG),
        *_chain('left', 'left_shoulder', LEG),
        ('right_eye', 'nose'),
        ('left_eye', 'nose'),
        ('right_ear', 'right_eye'),
        ('left_ear', 'left_eye'),
    ),
)

# Which side is which was read off the recordings, whose subjects were told
# to use the right arm and leg in one-sided actions: in the 214 sequences
# of high and horizontal arm wave, hammer, hand catch, forward punch, high
# throw, draw X and draw tick joint 12 moves further than joint 11 in all
# but two, and in the 49 kicks joint 18 further than joint 17 in all.
register_layout(
    'msr_action3d',
    origin='spine',
    joints=(
        *_both('shoulder', 'shoulder_center'),
        ('shoulder_center', 'shoulder_center'),
        ('spine', 'shoulder_center'),
        *_both('hip', 'hip_center'),
        ('hip_center', 'spine'),
        *_both('elbow', '_shoulder'),
        *_both('wrist', '_elbow'),
        *_both('hand', '_wrist'),
        *_both('knee', '_hip'),
        *_both('ankle', '_knee'),
        *_both('foot', '_ankle'),
        ('head', 'shoulder_center'),
    ),
)

# The first Kinect's own order of the same joints, but for the trunk. That the
# sides are right was read off the recordings, too. Where a body faces, as toes
# and trunk say, its right hip is on the right: in 1,461 of the 1,484 sequences
# of Northwestern-UCLA and 856 of the 861 of UTD-MHAD. And in UTD-MHAD's 319
# sequences of swipes, wave, throw, drawings, tennis swing and knock the right
# hand moves further than the left in all.
_KINECT_TRUNK = (
    ('hip_center', 'spine'),
    ('spine', 'shoulder_center'),
    ('shoulder_center', 'shoulder_center'),
    ('head', 'shoulder_center'),
)
_KINECT_LIMBS = (
    *_chain('left', 'shoulder_center', f'{ARM} hand'),
    *_chain('right', 'shoulder_center', f'{ARM} hand'),
    *_chain('left', 'hip_center', f'{LEG} foot'),
    *_chain('right', 'hip_center', f'{LEG} foot'),
)
register_layout(
    'kinect_v1', origin='spine', joints=(*_KINECT_TRUNK, *_KINECT_LIMBS)
)
register_layout(
    'utd_mhad', origin='spine', joints=(*_KINECT_TRUNK[::-1], *_KINECT_LIMBS)
)
LAYOUTS['nw_ucla'] = LAYOUTS['kinect_v1']

# MediaPipe's pose. Its chain from the nose over the eye to the ear is one of
# the graph; the bones are COCO's, by which a face is no limb. It has no joint
# on the axis of the trunk either.
register_layout(
    'mediapipe',
    origin='left_hip',
    joints=(
        ('nose', 'nose'),
        *(
            row
            for side in ('left', 'right')
            for row in (
                (f'{side}_eye_inner', 'nose'),
                (f'{side}_eye', 'nose', f'{side}_eye_inner'),
                (f'{side}_eye_outer', 'nose', f'{side}_eye'),
            )
        ),
        *_both('ear', '_eye', '_eye_outer'),
        *_both('mouth', 'nose'),
        *_both('shoulder', 'nose'),
        *_both('elbow', '_shoulder'),
        *_both('wrist', '_elbow'),
        *_both('pinky', '_wrist'),
        *_both('index', '_wrist'),
        *_both('thumb', '_wrist'),
        *_both('hip', 'nose', '_shoulder'),
        *_both('knee', '_hip'),
        *_both('ankle', '_knee'),
        *_both('heel', '_ankle'),
        *_both('foot_index', '_ankle'),
    ),
)

# The first 23 of COCO-WholeBody's 133: COCO's and the feet.
register_layout(
    'coco_wholebody_body',
    origin='left_hip',
    joints=(
        *_COCO,
        *(
            (f'{side}_{joint}', f'{side}_ankle')
            for side in ('left', 'right')
            for joint in ('big_toe', 'small_toe', 'heel')
        ),
    ),
)

register_layout(
    'halpe26',
    origin='hip',
    joints=(
        ('nose', 'neck'),
        *_both('eye', 'nose'),
        *_both('ear', '_eye'),
        *_both('shoulder', 'neck'),
        *_both('elbow', '_shoulder'),
        *_both('wrist', '_elbow'),
        *_both('hip', 'hip'),
        *_both('knee', '_hip'),
        *_both('ankle', '_knee'),
        ('head', 'neck'),
        ('neck', 'neck'),
        ('hip', 'neck'),
        *_both('big_toe', '_heel'),
        *_both('small_toe', '_heel'),
        *_both('heel', '_ankle'),
    ),
)

register_layout(
    'openpose25',
    origin='mid_hip',
    joints=(
        ('nose', 'neck'),
        ('neck', 'neck'),
        *_chain('right', 'neck', ARM),
        *_chain('left', 'neck', ARM),
        ('mid_hip', 'neck'),
        *_chain('right', 'mid_hip', LEG),
        *_chain('left', 'mid_hip', LEG),
        ('right_eye', 'nose'),
        ('left_eye', 'nose'),
        ('right_ear', 'right_eye'),
        ('left_ear', 'left_eye'),
        *_chain('left', 'left_ankle', 'big_toe small_toe'),
        ('left_heel', 'left_ankle'),
        *_chain('right', 'right_ankle', 'big_toe small_toe'),
        ('right_heel', 'right_ankle'),
    ),
)

# The usual 17 of Human3.6M's 32. The feet of its skeleton are the ankles; what
# some call neck and some nose is neither's place in the layouts above.
register_layout(
    'h36m',
    origin='hip',
    joints=(
        ('hip', 'hip'),
        *_chain('right', 'hip', LEG),
        *_chain('left', 'hip', LEG),
        ('spine', 'hip'),
        ('thorax', 'spine'),
        ('neck_base', 'thorax'),
        ('head', 'neck_base'),
        *_chain('left', 'thorax', ARM),
        *_chain('right', 'thorax', ARM),
    ),
)

register_layout(
    'smpl',
    origin='pelvis',
    joints=(
        ('pelvis', 'pelvis'),
        *_both('hip', 'pelvis'),
        ('spine1', 'pelvis'),
        *_both('knee', '_hip'),
        ('spine2', 'spine1'),
        *_both('ankle', '_knee'),
        ('spine3', 'spine2'),
        *_both('foot', '_ankle'),
        ('neck', 'spine3'),
        *_both('collar', 'spine3'),
        ('head', 'neck'),
        *_both('shoulder', '_collar'),
        *_both('elbow', '_shoulder'),
        *_both('wrist', '_elbow'),
        *_both('hand', '_wrist'),
    ),
)
