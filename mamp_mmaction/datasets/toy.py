"""A small synthetic data set: a 25-joint body that performs actions.

The bodies move by forward kinematics: smooth joint angles turn bones of fixed
length. Several actions differ from another only in the direction or the speed
of time, so that no single posture tells them apart. Performers differ in
build, posture, tempo and the hand they use; cameras see them from several
sides; joints jitter, freeze and jump as a depth sensor's do.

Coordinates are a Kinect's, in metres: x to the sensor's left (the right of a
performer who faces it), y up, z away from the sensor.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.spatial.transform import Rotation

from ..layouts import get_layout, joint_indices
from .class_names import CLASS_NAMES
from .conversion import make_annotation
from .progress import track

LAYOUT = get_layout('nturgb+d')
JOINTS = {name: i for i, name in enumerate(LAYOUT.joint_names)}

# Postures and actions, in degrees

# Which of the 21 joint angles are a limb's, and what they say in this order.
ANGLES = {
    'trunk': slice(0, 3),  # lean forward, tilt to the left, turn to the left
    'head': slice(3, 6),  # the same
    'right_arm': slice(6, 10),  # raise, aside (0 raises it forward, 90 to its
    'left_arm': slice(10, 14),  # own side), twist inward, bend of the elbow
    'right_leg': slice(14, 17),  # raise forward, spread, bend of the knee
    'left_leg': slice(17, 20),
    'travel': slice(20, 21),  # forward; metres, not degrees
}
NUM_ANGLES = 21
SIDES = {'right': 1, 'left': -1}  # with the sign of x


class Keys(NamedTuple):
    """Postures that a movement goes through.

    Attributes:
        phases (Sequence[float]): When, in [0, 1].
        postures (np.ndarray): Angles (K, 21); NaN where a limb is left as the
            performer happens to hold it.
    """

    phases: Sequence[float]
    postures: np.ndarray


def keys(*phases: float, **limbs: Sequence) -> Keys:
    """Make keys of the angles of some limbs, a tuple of them a phase.

    ``arms`` and ``legs`` are pairs; ``travel`` is a number a phase.
    """
    postures = np.full((len(phases), NUM_ANGLES), np.nan)
    for limb, values in limbs.items():
        names = [limb]
        if limb in ('arms', 'legs'):
            names = [f'{side}_{limb[:-1]}' for side in SIDES]
        for name in names:
            postures[:, ANGLES[name]] = np.reshape(values, (len(phases), -1))
    return Keys(phases, postures)


UPRIGHT = (3, 0, 0)
ARM_DOWN = (8, 60, 0, 12)
ARM_ON_BELLY = (25, 25, 35, 85)
ARM_ON_HIP = (38, 110, 55, 80)
LEG_DOWN = (3, 4, 5)
LEG_SEATED = (88, 8, 88)
STANDING = keys(
    0, trunk=UPRIGHT, head=(5, 0, 0), arms=ARM_DOWN, legs=LEG_DOWN, travel=0
).postures[0]
# Degrees by which people differ in each angle (standard deviation).
SPREAD = keys(
    0,
    trunk=(4, 2, 4),
    head=(6, 3, 8),
    arms=(9, 13, 12, 12),
    legs=(2, 1.5, 2.5),
    travel=0,
).postures[0]

# Of one-handed actions the right hand's.
SIT = keys(
    *(0, 0.5, 1),
    trunk=(UPRIGHT, (38, 0, 0), (2, 0, 0)),
    head=((5, 0, 0), (-8, 0, 0), (3, 0, 0)),
    legs=(LEG_DOWN, (55, 6, 62), LEG_SEATED),
)
HAT = keys(
    *(0, 0.5, 1),
    right_arm=((28, 10, 25, 75), (80, 40, -10, 105), (122, 68, -62, 118)),
    head=((20, 0, 0), (12, 0, 0), (3, 0, 0)),
)
DOOR = keys(
    *(0, 0.5, 1),
    right_arm=((-12, 30, 5, 105), (32, 18, 0, 70), (76, 8, 0, 12)),
    trunk=((0, 0, -12), (6, 0, 4), (14, 0, 16)),
)
CIRCLE = keys(
    *(0, 0.25, 0.5, 0.75),
    right_arm=(
        *((128, 35, 0, 18), (88, 80, 0, 18)),
        *((48, 35, 0, 18), (86, -12, 0, 18)),
    ),
)
WAVE = keys(0, 0.5, right_arm=((92, 75, -85, 50), (96, 75, -85, 108)))
HAMMER = keys(0, 0.5, right_arm=((125, 35, 0, 70), (50, 25, 0, 30)))
WIPE = keys(0, 0.5, right_arm=((105, 78, 0, 30), (110, -8, 0, 30)))
PUNCH = keys(
    *(0, 0.5),
    right_arm=((20, 35, 0, 115), (85, 10, 0, 8)),
    trunk=((0, 0, -10), (6, 0, 14)),
)
KICK = keys(
    *(0, 0.3, 0.6, 1),
    right_leg=(LEG_DOWN, (-22, 4, 55), (75, 2, 8), LEG_DOWN),
    trunk=(UPRIGHT, (10, 0, -6), (-10, 0, 8), UPRIGHT),
)
SHAKE = keys(
    *(0, 0.25, 0.37, 0.5, 0.63, 0.75, 1),
    right_arm=(
        *(ARM_DOWN, (46, -8, 12, 42), (58, -8, 12, 48), (38, -8, 12, 42)),
        *((58, -8, 12, 48), (46, -8, 12, 42), ARM_DOWN),
    ),
    trunk=(UPRIGHT, *[(9, 0, 8)] * 5, UPRIGHT),
)
SHOVE = keys(
    *(0, 0.3, 0.5, 0.65, 1),
    arms=(
        *(ARM_DOWN, (5, 25, 0, 112), (78, 8, 0, 14)),
        *((74, 8, 0, 20), ARM_DOWN),
    ),
    trunk=(UPRIGHT, (0, 0, 0), (16, 0, 0), (14, 0, 0), UPRIGHT),
)
STAGGER = keys(
    *(0, 0.44, 0.6, 0.8, 1),
    right_leg=(LEG_DOWN, LEG_DOWN, (-16, 4, 28), (-6, 4, 8), LEG_DOWN),
    left_leg=(LEG_DOWN, LEG_DOWN, (12, 4, 12), (14, 4, 34), LEG_DOWN),
    arms=(ARM_DOWN, ARM_DOWN, (45, 70, 0, 40), (25, 65, 0, 25), ARM_DOWN),
    trunk=(UPRIGHT, UPRIGHT, (-18, 0, 0), (10, 0, 0), UPRIGHT),
    travel=(0, 0, -0.2, -0.4, -0.45),
)


class Action(NamedTuple):
    """How postures follow one another.

    Attributes:
        keys (Keys): The postures.
        cycles (float): How often the keys are run through in a sequence; 0
            performs them once, from the first to the last.
        backwards (bool): Whether time runs backwards.
        partner (Keys, optional): The postures of a second person, who faces
            the first.
        distance (float): Metres between the two persons.
    """

    keys: Keys
    cycles: float = 0
    backwards: bool = False
    partner: Keys | None = None
    distance: float = 0


ACTIONS = dict(
    zip(
        CLASS_NAMES['toy'],
        (
            Action(SIT),
            Action(SIT, backwards=True),
            Action(HAT),
            Action(HAT, backwards=True),
            Action(DOOR),
            Action(DOOR, backwards=True),
            Action(CIRCLE, cycles=2),
            Action(CIRCLE, cycles=2, backwards=True),
            Action(WAVE, cycles=1.25),
            Action(WAVE, cycles=5),
            Action(HAMMER, cycles=3),
            Action(WIPE, cycles=3),
            Action(PUNCH, cycles=3),
            Action(KICK),
            Action(SHAKE, partner=SHAKE, distance=1.05),
            Action(SHOVE, partner=STAGGER, distance=0.75),
        ),
        strict=True,
    )
)


def joint_angles(action: Action, time: np.ndarray) -> np.ndarray:
    """Return the angles (T, 21) of an action at times in [0, 1].

    The angles go through the keys without overshooting; NaN for limbs that the
    action leaves alone.
    """
    phases, postures = action.keys
    if action.cycles:
        phases = np.add.outer((-1, 0, 1), phases).ravel()
        postures = np.tile(postures, (3, 1))
        time = (action.cycles * time) % 1
    if action.backwards:
        time = 1 - time
    given = ~np.isnan(postures).any(0)
    angles = np.full((len(time), NUM_ANGLES), np.nan)
    angles[:, given] = PchipInterpolator(phases, postures[:, given])(time)
    return angles


# Kinematics: angles to joint positions

# Where each joint lies seen from the one before it, in metres, of a person who
# stands at attention and faces the sensor (x to the own right). Arms, legs and
# widths are those of the right side; the left side is its mirror image.
BODY = {
    'trunk': {
        'spine_mid': (0, 0.29, 0),
        'spine_shoulder': (0, 0.21, 0.01),
        'neck': (0, 0.07, 0),
        'head': (0, 0.15, -0.02),
    },
    'width': {'shoulder': (0.165, -0.03, 0), 'hip': (0.08, -0.03, 0)},
    'arm': {
        'elbow': (0, -0.27, 0),
        'wrist': (0, -0.24, 0),
        'hand': (0, -0.08, 0),
        'hand_tip': (0, -0.08, 0),
        'thumb': (-0.03, -0.03, -0.05),
    },
    'leg': {
        'knee': (0, -0.41, 0),
        'ankle': (0, -0.40, 0),
        'foot': (0.01, -0.05, -0.12),
    },
}
ANKLE_HEIGHT = 0.08


def body_offsets(factors: dict) -> np.ndarray:
    """Return a body's bones (V, 3) in metres, one length factor a group."""
    offsets = np.zeros((LAYOUT.num_joints, 3))
    for group, bones in BODY.items():
        for name, offset in bones.items():
            offset = factors[group] * np.array(offset)
            if group == 'trunk':
                offsets[JOINTS[name]] = offset
                continue
            for side, sign in SIDES.items():
                offsets[JOINTS[f'{side}_{name}']] = offset * (sign, 1, 1)
    return offsets


def _outward_from(root: int) -> dict:
    """Order the skeleton's joints from the root on, each with its parent."""
    parents = {root: root}
    for joint in (queue := [root]):
        for edge in LAYOUT.inward:
            other = sum(edge) - joint
            if joint in edge and other not in parents:
                parents[other] = joint
                queue.append(other)
    return parents


PARENTS = _outward_from(JOINTS['spine_base'])


def _rotation(axis: str, degrees: np.ndarray) -> np.ndarray:
    """Right-handed rotations (..., 3, 3) about one axis."""
    angles = np.asarray(degrees)[..., None]
    return Rotation.from_euler(axis, angles, degrees=True).as_matrix()


def _bend(lean: np.ndarray, tilt: np.ndarray, turn: np.ndarray) -> np.ndarray:
    return _rotation('y', turn) @ _rotation('z', tilt) @ _rotation('x', -lean)


def bone_rotations(angles: np.ndarray) -> dict:
    """Return how each bone is turned against the one before it.

    Args:
        angles (np.ndarray): Joint angles (T, 21), none of them NaN.

    Returns:
        dict[int, np.ndarray]: Rotations (T, 3, 3) by the joint at the far end
        of the bone; bones that are not in it turn with the one before.
    """
    angle = {limb: angles[:, columns].T for limb, columns in ANGLES.items()}
    half_trunk = _bend(*(angle['trunk'] / 2))
    rotations = {
        'spine_mid': half_trunk,
        'spine_shoulder': half_trunk,
        'head': _bend(*angle['head']),
    }
    for side, sign in SIDES.items():
        lift, aside, twist, elbow = angle[f'{side}_arm']
        plane = _rotation('y', -sign * aside)
        raised = plane @ _rotation('x', lift) @ plane.swapaxes(1, 2)
        rotations[f'{side}_elbow'] = raised @ _rotation('y', sign * twist)
        rotations[f'{side}_wrist'] = _rotation('x', elbow)
        lift, spread, knee = angle[f'{side}_leg']
        spread = _rotation('z', sign * spread)
        rotations[f'{side}_knee'] = spread @ _rotation('x', lift)
        rotations[f'{side}_ankle'] = _rotation('x', -knee)
        # Feet stay level as far as ankles allow.
        level = np.clip(knee - lift, -30, 30)
        rotations[f'{side}_foot'] = _rotation('x', level)
    return {JOINTS[name]: matrix for name, matrix in rotations.items()}


def forward_kinematics(angles: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return the joint positions of a person who stands on the floor.

    Args:
        angles (np.ndarray): Joint angles (T, 21), none of them NaN.
        offsets (np.ndarray): Bones (V, 3) in metres (:func:`body_offsets`).

    Returns:
        np.ndarray: Positions (T, V, 3) in metres; y is the height above the
        floor, the person starts at the origin and faces -z.
    """
    positions = np.zeros((len(angles), len(offsets), 3))
    rotations = bone_rotations(angles)
    root, *others = PARENTS
    turned = {root: np.broadcast_to(np.eye(3), (len(angles), 3, 3))}
    for joint in others:
        parent = PARENTS[joint]
        turned[joint] = turned[parent]
        if joint in rotations:
            turned[joint] = turned[parent] @ rotations[joint]
        bone = turned[joint] @ offsets[joint]
        positions[:, joint] = positions[:, parent] + bone
    # The lower foot stays where it is; with both down, the middle of both.
    ankles = positions[:, [JOINTS[f'{side}_ankle'] for side in SIDES]]
    above_lower = ankles[..., 1] - ankles[..., 1].min(axis=1, keepdims=True)
    weights = np.exp(-above_lower / 0.03)
    weights /= weights.sum(axis=1, keepdims=True)
    slide = ankles - ankles[:1]
    slide[..., 1] = ankles[..., 1] - ANKLE_HEIGHT
    positions = positions - (weights[..., None] * slide).sum(1)[:, None]
    positions[..., 2] -= angles[:, ANGLES['travel']]
    return positions


# Performers and their performances

FRAME_RATE = 30  # frames a second


class Performer(NamedTuple):
    """What stays the same in all performances of a person.

    Attributes:
        offsets (np.ndarray): Bones (V, 3) in metres.
        posture (np.ndarray): Departure from the usual posture (21,).
        reach (float): Factor on the size of movements.
        tempo (float): Factor on their speed.
        left_handed (bool): The hand used in four cases of five.
    """

    offsets: np.ndarray
    posture: np.ndarray
    reach: float
    tempo: float
    left_handed: bool


def draw_performer(rng: np.random.Generator) -> Performer:
    """Draw a person's build and habits."""
    size = rng.normal(1, 0.06)
    return Performer(
        offsets=body_offsets({g: size * rng.normal(1, 0.05) for g in BODY}),
        posture=rng.normal(0, SPREAD),
        reach=rng.uniform(0.7, 1.3),
        tempo=rng.uniform(0.8, 1.2),
        left_handed=rng.random() < 0.3,
    )


def draw_scene(
    performer: Performer,
    action: Action,
    num_frames: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Let one or two persons perform an action somewhere in the room.

    Returns:
        np.ndarray: Positions (M, T, V, 3) in metres, y above the floor, seen
        from where they would face -z.
    """
    time = _draw_time(action, num_frames, rng)
    persons = [draw_performance(performer, action, time, rng)]
    if action.partner is not None:
        part = action._replace(keys=action.partner)
        persons.append(draw_performance(draw_performer(rng), part, time, rng))
        # Face to face about the origin, along the x axis.
        apart = action.distance * rng.normal(1, 0.04)
        for i, sign in enumerate((-1, 1)):
            turn = _rotation('y', sign * 90 + rng.normal(0, 5))
            persons[i] = persons[i] @ turn.T + (sign * apart / 2, 0, 0)
    scene = np.stack(persons) @ _rotation('y', rng.normal(0, 20)).T
    return scene + rng.normal(0, (0.25, 0, 0.25))


def draw_performance(
    performer: Performer,
    action: Action,
    time: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the joint positions (T, V, 3) of one person, who faces -z."""
    phases, postures = action.keys
    postures = postures + rng.normal(0, SPREAD, postures.shape)
    angles = joint_angles(action._replace(keys=Keys(phases, postures)), time)
    angles = STANDING + performer.reach * (angles - STANDING)
    idle = np.isnan(angles)
    legs = np.r_[ANGLES['right_leg'], ANGLES['left_leg']]
    may_sit = action.partner is None and idle[:, legs].all()
    angles = np.where(idle, _draw_rest(len(time), may_sit, rng), angles)
    angles += performer.posture + _draw_sway(len(time), rng)
    other_hand = rng.random() < 0.2
    if action.partner is None and performer.left_handed != other_hand:
        angles = mirrored(angles)
    return forward_kinematics(angles, performer.offsets)


def mirrored(angles: np.ndarray) -> np.ndarray:
    """Exchange left and right in joint angles (T, 21)."""
    out = angles.copy()
    for limb in ('arm', 'leg'):
        right, left = ANGLES[f'right_{limb}'], ANGLES[f'left_{limb}']
        out[:, right], out[:, left] = angles[:, left], angles[:, right]
    for limb in ('trunk', 'head'):
        out[:, ANGLES[limb]] *= (1, -1, -1)
    return out


def _draw_time(
    action: Action, num_frames: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw when an action begins and ends and where it is fast or slow."""
    time = np.linspace(0, 1, num_frames)
    if action.cycles:
        return rng.random() + rng.uniform(0.85, 1.15) * time
    begin, end = rng.uniform(0, 0.2), rng.uniform(0.8, 1)
    time = np.clip((time - begin) / (end - begin), 0, 1)
    skew = rng.uniform(-0.5, 0.5)
    return time + skew * np.sin(2 * np.pi * time) / (2 * np.pi)


def _draw_rest(
    num_frames: int, may_sit: bool, rng: np.random.Generator
) -> np.ndarray:
    """Draw how idle limbs (T, 21) are held first and to where they drift."""
    leg = LEG_SEATED if rng.random() < 0.3 and may_sit else LEG_DOWN
    begin, end = STANDING.copy(), STANDING.copy()
    for rest in (begin, end):
        for side in SIDES:
            rest[ANGLES[f'{side}_leg']] = leg
            rest[ANGLES[f'{side}_arm']] = rng.choice(
                (ARM_DOWN, ARM_ON_BELLY, ARM_ON_HIP), p=(0.6, 0.2, 0.2)
            )
    time = np.linspace(0, 1, num_frames)[:, None]
    drift = time * time * (3 - 2 * time)
    return (1 - drift) * begin + drift * end


def _draw_sway(num_frames: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the slow sway (T, 21) of someone who means to keep still."""
    seconds = np.arange(num_frames)[:, None] / FRAME_RATE
    hertz = rng.uniform(0.15, 0.7, NUM_ANGLES)
    turns = hertz * seconds + rng.random(NUM_ANGLES)
    return 0.3 * SPREAD * np.sin(2 * np.pi * turns)


# The sensor

SENSOR_HEIGHT, SENSOR_DISTANCE = 1.0, 3.0  # metres
OUTER_YAW = 45  # degrees between the middle camera and the outermost ones

# Metres of noise (standard deviation): the ends of the limbs are hard to see.
LIMB_NOISE = {
    **dict.fromkeys(('elbow', 'knee'), 0.0015),
    **dict.fromkeys(('wrist', 'ankle'), 0.002),
    **dict.fromkeys(('hand', 'foot'), 0.003),
    **dict.fromkeys(('hand_tip', 'thumb'), 0.004),
}
NOISE = np.array(
    [LIMB_NOISE.get(name.partition('_')[2], 0.001) for name in JOINTS]
)


def record(
    scene: np.ndarray, yaw: float, rng: np.random.Generator
) -> np.ndarray:
    """Return a scene as a depth sensor at one side of the room sees it.

    Args:
        scene (np.ndarray): Positions (M, T, V, 3) in the room.
        yaw (float): Degrees by which the camera is turned about the room.
        rng (np.random.Generator): Source of the noise.

    Returns:
        np.ndarray: Camera coordinates (M, T, V, 3), float32, metres. A person
        who is not tracked yet is zero.
    """
    seen = scene @ _rotation('y', yaw).T
    seen = seen + (0, -SENSOR_HEIGHT, SENSOR_DISTANCE)
    for person in seen:
        _lose_joints(person, rng)
    seen += rng.normal(0, NOISE[:, None], seen.shape)
    if len(seen) == 2:
        seen = seen[rng.permutation(2)]
        if rng.random() < 0.25:
            seen[rng.integers(2), : rng.integers(2, 9)] = 0
    return seen.astype(np.float32)


def _lose_joints(person: np.ndarray, rng: np.random.Generator) -> None:
    """Let parts of a limb (T, V, 3) freeze or jump for some frames."""
    for _ in range(rng.poisson(len(person) / 25)):
        joint = rng.choice(LAYOUT.num_joints, p=NOISE / NOISE.sum())
        limb = [joint]
        for other, parent in PARENTS.items():
            if parent in limb and other not in limb:  # it hangs from there
                limb.append(other)
        begin = rng.integers(1, len(person))
        frames = slice(begin, begin + rng.integers(2, 11))
        if rng.random() < 0.5:
            person[frames, limb] = person[begin - 1, limb]
        else:
            person[frames, limb] += rng.normal(0, 0.1, 3)


# The data set


def make_dataset(
    subjects: int,
    repetitions: int,
    cameras: int,
    min_frames: int,
    max_frames: int,
    seed: int,
    layout: str = LAYOUT.name,
) -> tuple[dict, list]:
    """Make the data set.

    Each performance draws from a seed of its own: more subjects or repetitions
    leave the others as they are.

    Args:
        subjects (int): Number of performers.
        repetitions (int): Performances of each action by each.
        cameras (int): Views of each performance.
        min_frames (int): Length of the shortest sequences.
        max_frames (int): Length of the longest.
        seed (int): Seed of everything that is drawn.
        layout (str): Joints that are written, by their name in the layout
            table. Defaults to ``'nturgb+d'``.

    Returns:
        tuple[dict, list]: Names by split, and annotations.

    Raises:
        ValueError: If the body lacks joints of the layout.
    """
    joints = joint_indices(LAYOUT.name, layout)
    splits = ('xsub_train', 'xsub_val', 'xview_train', 'xview_val')
    split, annotations = {name: [] for name in splits}, []
    performances = [
        (subject, repetition, label)
        for subject in range(1, subjects + 1)
        for repetition in range(1, repetitions + 1)
        for label in range(len(ACTIONS))
    ]
    yaws = np.linspace(OUTER_YAW, -OUTER_YAW, cameras)
    for subject, repetition, label in track(performances, len(performances)):
        # All counts in a seed start at 1, since it ignores zeros at its end.
        key = (seed, subject, repetition, label + 1)
        performer = draw_performer(np.random.default_rng(key[:2]))
        rng = np.random.default_rng(key)
        mean_frames = (min_frames + max_frames) / 2
        num_frames = rng.normal(1, 0.15) * mean_frames / performer.tempo
        num_frames = int(np.clip(num_frames, min_frames, max_frames))
        action = ACTIONS[CLASS_NAMES['toy'][label]]
        scene = draw_scene(performer, action, num_frames, rng)
        for camera, yaw in enumerate(yaws, start=1):
            sensor = np.random.default_rng((*key, camera))
            keypoint = record(scene, yaw, sensor)[:, :, joints]
            name = (
                f'S001C{camera:03}P{subject:03}R{repetition:03}A{label + 1:03}'
            )
            annotations.append(make_annotation(name, label, keypoint))
            split['xsub_train' if subject % 2 else 'xsub_val'].append(name)
            split['xview_val' if camera == 1 else 'xview_train'].append(name)
    return split, annotations
