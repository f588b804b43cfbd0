"""The skeleton layouts: joints, bones, graphs, left and right, in one table.

Bone streams, GCN graphs, flips, centring and pictures all read this table, so
a new skeleton is one more entry of it.
"""

from dataclasses import dataclass


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

    def graph(self) -> dict:
        """Return the ``layout`` that ``mmaction.models.utils.Graph`` takes."""
        return {
            'num_node': self.num_joints,
            'inward': list(self.inward),
            'center': self.center,
        }


def get_layout(name: str) -> SkeletonLayout:
    """Return the layout of this name.

    Args:
        name (str): ``'nturgb+d'``, ``'coco'``, ``'openpose'`` or
            ``'msr_action3d'``.

    Raises:
        ValueError: There is no such layout.
    """
    if name not in LAYOUTS:
        raise ValueError(
            f'layout {name!r} is unknown; the known ones are '
            f'{", ".join(map(repr, LAYOUTS))} (mamp_mmaction/layouts.py)'
        )
    return LAYOUTS[name]


def _layout(name: str, origin: str, joints: tuple) -> SkeletonLayout:
    """Number the joints of one table entry.

    Args:
        name (str): The layout's name.
        origin (str): The joint of the origin.
        joints (tuple[tuple[str]]): For each joint its name, its bone's parent
            and, where the graph's edge leads elsewhere, that neighbour. The
            root of the bones and the centre of the graph name themselves.
    """
    names = tuple(row[0] for row in joints)
    index = {joint: i for i, joint in enumerate(names)}
    neighbours = tuple(index[row[-1]] for row in joints)
    left = tuple(i for i, n in enumerate(names) if n.startswith('left_'))
    return SkeletonLayout(
        name=name,
        joint_names=names,
        parents=tuple(index[row[1]] for row in joints),
        inward=tuple((i, j) for i, j in enumerate(neighbours) if i != j),
        center=next(i for i, j in enumerate(neighbours) if i == j),
        origin=index[origin],
        left=left,
        right=tuple(index['right_' + names[i][len('left_') :]] for i in left),
    )


# The toolbox's bones and graphs are two facts: in three of the layouts below
# some joints hang from another joint in the bone stream than in the graph.
_TABLE = (
    _layout(
        'nturgb+d',
        origin='spine_mid',
        joints=(
            ('spine_base', 'spine_mid'),
            ('spine_mid', 'spine_shoulder'),
            ('neck', 'spine_shoulder'),
            ('head', 'neck'),
            ('left_shoulder', 'spine_shoulder'),
            ('left_elbow', 'left_shoulder'),
            ('left_wrist', 'left_elbow'),
            ('left_hand', 'left_wrist'),
            ('right_shoulder', 'spine_shoulder'),
            ('right_elbow', 'right_shoulder'),
            ('right_wrist', 'right_elbow'),
            ('right_hand', 'right_wrist'),
            ('left_hip', 'spine_base'),
            ('left_knee', 'left_hip'),
            ('left_ankle', 'left_knee'),
            ('left_foot', 'left_ankle'),
            ('right_hip', 'spine_base'),
            ('right_knee', 'right_hip'),
            ('right_ankle', 'right_knee'),
            ('right_foot', 'right_ankle'),
            ('spine_shoulder', 'spine_shoulder'),
            ('left_hand_tip', 'left_thumb', 'left_hand'),
            ('left_thumb', 'left_hand'),
            ('right_hand_tip', 'right_thumb', 'right_hand'),
            ('right_thumb', 'right_hand'),
        ),
    ),
    # COCO has no joint on the axis of the trunk: a hip stands in for the
    # middle of the hips, since the nose moves with every turn of the head.
    _layout(
        'coco',
        origin='left_hip',
        joints=(
            ('nose', 'nose'),
            ('left_eye', 'nose'),
            ('right_eye', 'nose'),
            ('left_ear', 'left_eye'),
            ('right_ear', 'right_eye'),
            ('left_shoulder', 'nose'),
            ('right_shoulder', 'nose'),
            ('left_elbow', 'left_shoulder'),
            ('right_elbow', 'right_shoulder'),
            ('left_wrist', 'left_elbow'),
            ('right_wrist', 'right_elbow'),
            ('left_hip', 'nose', 'left_shoulder'),
            ('right_hip', 'nose', 'right_shoulder'),
            ('left_knee', 'left_hip'),
            ('right_knee', 'right_hip'),
            ('left_ankle', 'left_knee'),
            ('right_ankle', 'right_knee'),
        ),
    ),
    # The neck is the only joint of OpenPose's 18 on the axis of the trunk.
    _layout(
        'openpose',
        origin='neck',
        joints=(
            ('nose', 'nose', 'neck'),
            ('neck', 'nose', 'neck'),
            ('right_shoulder', 'neck'),
            ('right_elbow', 'right_shoulder'),
            ('right_wrist', 'right_elbow'),
            ('left_shoulder', 'neck'),
            ('left_elbow', 'left_shoulder'),
            ('left_wrist', 'left_elbow'),
            ('right_hip', 'right_shoulder'),
            ('right_knee', 'right_hip'),
            ('right_ankle', 'right_knee'),
            ('left_hip', 'left_shoulder'),
            ('left_knee', 'left_hip'),
            ('left_ankle', 'left_knee'),
            ('right_eye', 'nose'),
            ('left_eye', 'nose'),
            ('right_ear', 'right_eye'),
            ('left_ear', 'left_eye'),
        ),
    ),
    # Which side is which was read off the recordings, whose subjects were told
    # to use the right arm and leg in one-sided actions: in the 214 sequences
    # of high and horizontal arm wave, hammer, hand catch, forward punch, high
    # throw, draw X and draw tick joint 12 moves further than joint 11 in all
    # but two, and in the 49 kicks joint 18 further than joint 17 in all.
    _layout(
        'msr_action3d',
        origin='spine',
        joints=(
            ('left_shoulder', 'shoulder_center'),
            ('right_shoulder', 'shoulder_center'),
            ('shoulder_center', 'shoulder_center'),
            ('spine', 'shoulder_center'),
            ('left_hip', 'hip_center'),
            ('right_hip', 'hip_center'),
            ('hip_center', 'spine'),
            ('left_elbow', 'left_shoulder'),
            ('right_elbow', 'right_shoulder'),
            ('left_wrist', 'left_elbow'),
            ('right_wrist', 'right_elbow'),
            ('left_hand', 'left_wrist'),
            ('right_hand', 'right_wrist'),
            ('left_knee', 'left_hip'),
            ('right_knee', 'right_hip'),
            ('left_ankle', 'left_knee'),
            ('right_ankle', 'right_knee'),
            ('left_foot', 'left_ankle'),
            ('right_foot', 'right_ankle'),
            ('head', 'shoulder_center'),
        ),
    ),
)

#: Every known layout by its name.
LAYOUTS = {layout.name: layout for layout in _TABLE}
