"""Pictures of skeleton sequences."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..layouts import SkeletonLayout
from .atomic import written_whole

NUM_MOMENTS = 8
# Blue and vermilion stay apart for colour-blind eyes. Then for other persons.
COLORS = {
    'left': ('#0072b2', '#8cc3e6'),
    'right': ('#d55e00', '#f5b78a'),
    'middle': ('#333333', '#aaaaaa'),
}
# Red speaks for an answer, blue against it.
SIGNED = 'RdBu_r'
# Opacity of what a model does not see.
FADED = 0.28
# A moment is as wide as 1, a row as high as this.
ROW_HEIGHT = 1.5
# Layouts of estimators whose y leads down.
IMAGE_LAYOUTS = (
    'coco',
    'coco_wholebody_body',
    'halpe26',
    'mediapipe',
    'openpose',
    'openpose25',
)


def is_image(keypoint: np.ndarray, layout: SkeletonLayout | None) -> bool:
    """Whether (M, T, V, C) are pixels: in 2D, or in 2D with a score."""
    named = layout is not None and layout.name in IMAGE_LAYOUTS
    return keypoint.shape[3] == 2 or named


def flatten_bodies(keypoint: np.ndarray, in_image: bool) -> np.ndarray:
    """Positions as they are drawn, x to the right and y up.

    A person all of whose joints are zero is absent, in images a joint at
    zero, too.

    Args:
        keypoint (np.ndarray): Shape (M, T, V, C).
        in_image (bool): Whether y leads down.

    Returns:
        np.ndarray: Shape (M, T, V, 2), NaN where nothing is seen.
    """
    shown = keypoint.astype(float)
    places = shown[..., :2].copy()
    present = places if in_image else shown
    absent = ~present.any(axis=3 if in_image else (2, 3))
    places[absent] = np.nan
    places[~np.isfinite(shown).all(axis=3)] = np.nan
    if in_image:
        places[..., 1] *= -1
    return places


def place_bodies(
    keypoint: np.ndarray,
    in_image: bool,
    moments: Sequence[int] | None = None,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Lay out several moments of a sequence side by side.

    All moments have one scale and one floor; each stands in the middle of its
    place, so that skeletons stay large where persons walk.

    Args:
        keypoint (np.ndarray): Shape (M, T, V, C).
        in_image (bool): Whether y leads down.
        moments (Sequence[int], optional): Frames (F,). Defaults to None,
            some that lie evenly.

    Returns:
        tuple[np.ndarray, np.ndarray, float]: The moments (F,), positions (M,
        F, V, 2), NaN where nothing is seen, and the scale, by which a length
        of the data is multiplied; moment i is at x = i.
    """
    if moments is None:
        frames = keypoint.shape[1]
        moments = np.linspace(0, frames - 1, min(NUM_MOMENTS, frames)).round()
    moments = np.asarray(moments, int)
    places, scale = flatten_bodies(keypoint[:, moments], in_image), 1.0
    x, y = places[..., 0], places[..., 1]
    known = np.isfinite(x)
    if known.any():
        left = np.min(x, axis=(0, 2), where=known, initial=np.inf)
        right = np.max(x, axis=(0, 2), where=known, initial=-np.inf)
        seen = left <= right  # (F,)
        width = max((right - left)[seen].max(), 1e-9)
        height = max(np.ptp(y[known]), 1e-9)
        scale = min(0.9 / width, ROW_HEIGHT / height)
        middle = sum(np.where(seen, (left, right), 0)) / 2
        x -= middle[:, None]
        y -= y[known].min()
        places *= scale
        x += np.arange(len(moments))[:, None]
    return moments, places, scale


def average_near(weights: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """Average weights over the frames that are nearest to each moment.

    Args:
        weights (np.ndarray): Shape (M, T, V).
        moments (np.ndarray): Frames, F of them, none twice.

    Returns:
        np.ndarray: Shape (M, F, V).
    """
    frames = np.arange(weights.shape[1])
    nearest = abs(frames[:, None] - moments).argmin(axis=1)  # (T,)
    means = [
        weights[:, nearest == place].mean(axis=1)
        for place in range(len(moments))
    ]
    return np.stack(means, axis=1)


def joint_colors(num_joints: int, layout: SkeletonLayout | None) -> np.ndarray:
    """Colours that tell the sides of a body, and two persons, apart.

    Args:
        num_joints (int): Joints, V.
        layout (SkeletonLayout, optional): Says what the sides are.

    Returns:
        np.ndarray: RGBA of the first person and of others, (2, V, 4).
    """
    from matplotlib.colors import to_rgba_array

    sides = np.full(num_joints, 'middle')
    if layout is not None:
        sides[list(layout.left)], sides[list(layout.right)] = 'left', 'right'
    persons = zip(*(COLORS[side] for side in sides))
    return np.stack([to_rgba_array(colors) for colors in persons])


def draw_bodies(
    axes: object,
    places: np.ndarray,
    layout: SkeletonLayout | None,
    near: np.ndarray | None = None,
    linewidth: float = 1.6,
    faded: np.ndarray | None = None,
) -> None:
    """Draw bones and joints.

    Args:
        axes (matplotlib.axes.Axes): Where.
        places (np.ndarray): Positions (M, F, V, 2), NaN where nothing is seen.
        layout (SkeletonLayout, optional): None draws joints without bones.
        near (np.ndarray, optional): Weights (M, F, V), which are shown by the
            size of the joints and their colour, red above zero. Defaults to
            None.
        linewidth (float): Points of a bone's width. Defaults to 1.6.
        faded (np.ndarray, optional): Bool, (M, F, V), joints that are drawn
            nearly transparent, and with them their bones. Defaults to None.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgba

    bones = np.zeros((0, 2), int)
    if layout is not None:
        bones = np.array(layout.inward)
    shades = joint_colors(places.shape[2], layout)
    for person, bodies in enumerate(places):  # (F, V, 2)
        colors = np.tile(shades[int(person > 0)], (len(bodies), 1, 1))
        if near is not None:
            colors[:] = to_rgba('#c4c4c4' if person else '#777777')
        bone_colors = colors[:, bones[:, 0]]  # (F, B, 4)
        if faded is not None:
            hidden = faded[person]
            colors[hidden, 3] = FADED
            bone_colors[hidden[:, bones].any(axis=2), 3] = FADED
        lines = bodies[:, bones]  # (F, B, 2, 2)
        drawn = np.isfinite(lines).all(axis=(2, 3))
        axes.add_collection(
            LineCollection(
                lines[drawn],
                colors=bone_colors[drawn],
                linewidths=linewidth,
                capstyle='round',
            )
        )
        drawn = np.isfinite(bodies).all(axis=2)
        look = dict(s=2 * linewidth**2, c=colors[drawn])
        if near is not None:
            share = (near / (abs(near).max() or 1))[person][drawn]
            look = dict(
                s=4 + 130 * abs(share),
                c=share,
                cmap=SIGNED,
                vmin=-1,
                vmax=1,
                edgecolors='#555555',
                linewidths=0.4,
            )
        axes.scatter(*bodies[drawn].T, zorder=3, **look)


def draw_sequence(
    axes: object,
    keypoint: np.ndarray,
    layout: SkeletonLayout | None,
    weights: np.ndarray | None = None,
    moments: Sequence[int] | None = None,
    faded: np.ndarray | None = None,
) -> tuple[np.ndarray, float]:
    """Draw several moments of a sequence.

    Args:
        axes (matplotlib.axes.Axes): Where.
        keypoint (np.ndarray): Shape (M, T, V, C).
        layout (SkeletonLayout, optional): None draws joints without bones.
        weights (np.ndarray, optional): Shape (M, T, V). Averages over
            the frames next to each moment are shown by the size of the joints
            and their colour, red above zero. Defaults to None.
        moments (Sequence[int], optional): Frames that are drawn (F,).
            Defaults to None, some that lie evenly.
        faded (np.ndarray, optional): Bool, (M, T, V), joints that are drawn
            nearly transparent. Defaults to None.

    Returns:
        tuple[np.ndarray, float]: Where the joints are drawn, (M, F, V, 2),
        and the scale.
    """
    in_image = is_image(keypoint, layout)
    width = NUM_MOMENTS if moments is None else len(moments)
    moments, places, scale = place_bodies(keypoint, in_image, moments)
    faded = None if faded is None else faded[:, moments]
    near = None if weights is None else average_near(weights, moments)
    linewidth = np.clip(8 / width, 1.6, 3.2)
    draw_bodies(axes, places, layout, near, linewidth, faded)
    seen = np.isfinite(places).any(axis=(0, 2, 3))
    labels = [f'{m}' if s else f'{m}: nobody' for m, s in zip(moments, seen)]
    axes.set(
        xlim=(-0.5, width - 0.5),
        ylim=(-0.05, ROW_HEIGHT + 0.05),
        aspect='equal',
        yticks=[],
    )
    axes.set_xticks(range(len(moments)), labels, fontsize=8, color='#555555')
    axes.tick_params(length=0)
    axes.spines[['left', 'right', 'top']].set_visible(False)
    axes.spines['bottom'].set_color('#dddddd')
    return places, scale


def side_handles() -> list:
    """Entries of a legend that says what the colours of the sides are."""
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=color, linewidth=3, label=side)
        for side, (color, _) in COLORS.items()
    ]


def draw_picture(
    path: Path,
    samples: dict[str, dict],
    classes: Sequence[str],
    layout: Callable[[int], SkeletonLayout | None],
) -> None:
    """Draw annotations, one below the other, to a PNG file.

    Args:
        path (Path): The picture; on failure nothing is left under its name.
        samples (dict): Annotations by name.
        classes (list[str]): For the titles; may be empty.
        layout (Callable): Returns the layout of a number of joints, or None.

    Raises:
        ValueError: matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError(
            'a picture needs matplotlib: pip install matplotlib'
        ) from None

    size = (10, 0.5 + 2.35 * len(samples))
    figure = Figure(size, dpi=110, layout='constrained')
    rows = figure.subplots(len(samples), squeeze=False)[:, 0]
    for axes, (name, sample) in zip(rows, samples.items()):
        keypoint, label = sample['keypoint'], sample.get('label')
        persons, frames, joints, _ = keypoint.shape
        found = layout(joints)
        if type(label) is int and 0 <= label < len(classes):
            label = f'{label} {classes[label]}'
        title = (
            f'{name:.40}   class {label}   persons {persons}   frames {frames}'
            f'   {found.name if found else f"{joints} joints, no layout"}'
        )
        axes.set_title(title, loc='left', fontsize=9, parse_math=False)
        draw_sequence(axes, keypoint, found)
    figure.legend(
        handles=side_handles(),
        loc='outside upper left',
        ncols=4,
        frameon=False,
        fontsize=9,
        title='further persons paler; x to the right, y up (image rows down); '
        'numbers are frames',
        title_fontsize=8,
    )
    with written_whole(path) as temporary:
        figure.savefig(temporary, format='png')


def draw_contributions(
    path: Path,
    samples: list[tuple[str, np.ndarray, np.ndarray]],
    layout: SkeletonLayout | None,
) -> None:
    """Draw what joints and times contributed to answers, to a PNG file.

    Each sample is a row of bodies, with joints as large as they contributed
    near that moment, above a map of joints by frames on the same time axis.
    Further persons have paler bones.
    Persons that are absent throughout are left out of the map.

    Args:
        path (Path): The picture; on failure nothing is left under its name.
        samples (list[tuple]): Of each its title, positions (M, T, V, C) and
            contributions (M, T, V).
        layout (SkeletonLayout, optional): Names joints and draws bones.
    """
    from matplotlib.figure import Figure

    rows, heights = [], []
    for _, keypoint, weights in samples:
        persons = np.flatnonzero(keypoint.any(axis=(1, 2, 3)))
        rows.append(persons if len(persons) else [0])
        heights += [1.95, 0.5 + 0.125 * len(rows[-1]) * weights.shape[2]]
    figure = Figure((10, sum(heights) + 0.2), dpi=110, layout='constrained')
    every = figure.subplots(len(heights), 1, height_ratios=heights)
    for place, (title, keypoint, weights) in enumerate(samples):
        above, below = every[2 * place : 2 * place + 2]
        _, frames, joints = weights.shape
        draw_sequence(above, keypoint, layout, weights)
        above.set_title(title, loc='left', fontsize=9, parse_math=False)
        names = layout.joint_names if layout else range(joints)
        shown = np.concatenate([weights[p] for p in rows[place]], axis=1)
        largest = abs(shown).max() or 1
        image = below.imshow(
            shown.T,
            cmap=SIGNED,
            vmin=-largest,
            vmax=largest,
            aspect='auto',
            interpolation='nearest',
        )
        labels = [
            f'{name}'.replace('_', ' ') + (f', person {p + 1}' if p else '')
            for p in rows[place]
            for name in names
        ]
        below.set_yticks(range(len(labels)), labels, fontsize=7)
        # A moment of the row above stands over its frame.
        moment = max(frames - 1, 1) / max(min(NUM_MOMENTS, frames) - 1, 1)
        below.set_xlim(-moment / 2, (NUM_MOMENTS - 0.5) * moment)
        below.set_xlabel('frame of the clip', fontsize=8)
        below.tick_params(labelsize=7, length=2)
        bar = figure.colorbar(image, ax=[above, below], aspect=30, pad=0.01)
        bar.set_label('against the answer | for the answer', fontsize=8)
        bar.ax.tick_params(labelsize=7)
    with written_whole(path) as temporary:
        figure.savefig(temporary, format='png')
