"""Pictures of masked motion prediction: masks, motion and predictions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ..evaluation.masked_sample import MaskedSample, compare_masks
from ..layouts import SkeletonLayout
from ..motion_mask import motion_intensity
from .animation import save_animation
from .pictures import (
    FADED,
    NUM_MOMENTS,
    draw_bodies,
    draw_sequence,
    flatten_bodies,
    is_image,
    joint_colors,
    side_handles,
)

TAUS = (0.1, 0.8, 3.2)
TRUE, PREDICTED = '#111111', '#009e73'
HIDDEN, SEEN = '#e4e4e4', '#444444'
# Few colours, so that animations are small.
HEAT = colormaps['magma_r'].resampled(12)
# Moments whose motion is drawn, and how long the long arrows are there, as a
# share of the body's height.
NUM_ARROW_MOMENTS, ARROW = 4, 0.2
# Frames a second of the animation.
FPS = 8


def draw_sheet(
    sample: MaskedSample,
    layout: SkeletonLayout | None,
    taus: Sequence[float] = TAUS,
) -> Figure:
    """Draw all there is to see of a sample, one part below the other.

    The skeleton over time with masked joints faded; the motion intensity of
    each person, joints by time, beside masks of several kinds; and, where a
    model predicted, the predicted and the true motion as arrows at masked
    joints.

    Args:
        sample (MaskedSample): The sample.
        layout (SkeletonLayout, optional): Bones, sides and names of the
            joints. None draws joints without bones.
        taus (Sequence[float]): Temperatures of the motion-aware masks that
            are compared.

    Returns:
        Figure: The picture.
    """
    persons = sample.persons
    joints = sample.keypoint.shape[2]
    heights = [2.4, *[1.1 + 0.125 * joints] * len(persons)]
    if sample.pred_motion is not None:
        heights.append(3.7)
    figure = Figure((13, sum(heights) + 0.6), dpi=100, layout='constrained')
    parts = figure.subfigures(len(heights), height_ratios=heights)
    parts = np.atleast_1d(parts)
    axes = parts[0].subplots()
    axes.set_title(
        f'{sample.name}: {np.mean(sample.mask):.0%} of the tokens are masked',
        loc='left',
        pad=14,
        parse_math=False,
    )
    places, _ = draw_sequence(
        axes,
        sample.keypoint,
        layout,
        moments=_moments(sample),
        faded=sample.masked_joints,
    )
    _number_persons(axes, places)
    axes.set_xlabel('frame', fontsize=8)
    limbs = layout.limbs if layout is not None and layout.left else None
    masks = {'of this sample': sample.mask}
    masks |= compare_masks(sample, taus, limbs)
    for part, person in zip(parts[1:], persons):
        _draw_masks(part, sample, person, layout, masks)
    if sample.pred_motion is not None:
        _draw_arrow_row(parts[-1].subplots(), sample, layout)
    _add_legend(figure, sample, layout)
    return figure


def to_image(figure: Figure) -> np.ndarray:
    """Turn a picture into numbers.

    Args:
        figure (Figure): The picture.

    Returns:
        np.ndarray: RGB, uint8, (height, width, 3).
    """
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _add_legend(figure, sample, layout) -> None:
    handles = side_handles() if layout is not None else []
    handles.append(
        Line2D([], [], color=SEEN, alpha=FADED, linewidth=3, label='masked')
    )
    if sample.pred_motion is not None:
        handles += [
            Line2D([], [], color=TRUE, linewidth=2, label='true motion'),
            Line2D([], [], color=PREDICTED, linewidth=2, label='predicted'),
        ]
    figure.legend(
        handles=handles,
        loc='outside upper left',
        ncols=len(handles),
        columnspacing=1.2,
        handlelength=1.5,
        frameon=False,
        fontsize=8.5,
    )


def _moments(sample: MaskedSample) -> np.ndarray:
    """Frames in the middle of segments that lie evenly."""
    u = sample.t_patch_size
    segments = sample.keypoint.shape[1] // u
    chosen = np.linspace(0, segments - 1, min(NUM_MOMENTS, segments))
    return chosen.round().astype(int) * u + u // 2


def _number_persons(axes, places: np.ndarray) -> None:
    """Write numbers above the heads, where there is more than one person."""
    known = np.isfinite(places).all(axis=3)  # (M, F, V)
    if np.count_nonzero(known.any(axis=(1, 2))) < 2:
        return
    for person, moment in np.argwhere(known.any(axis=2)):
        body = places[person, moment][known[person, moment]]
        axes.annotate(
            f'{person + 1}',
            (body[:, 0].mean(), body[:, 1].max()),
            (0, 3),
            textcoords='offset points',
            ha='center',
            fontsize=8,
            fontweight='bold',
            annotation_clip=False,
        )


def _joint_order(joints: int, layout: SkeletonLayout | None) -> list[int]:
    """Joints limb by limb, as far as there are limbs."""
    if layout is None or not layout.left:
        return list(range(joints))
    return [joint for limb in layout.limbs for joint in limb]


def _label_joints(axes, order: Sequence[int], layout) -> None:
    names = [f'joint {joint}' for joint in order]
    if layout is not None:
        names = [layout.joint_names[j].replace('_', ' ') for j in order]
    axes.set_yticks(range(len(order)), names, fontsize=6.5)
    axes.tick_params(axis='y', length=0, pad=2)
    colors = joint_colors(len(order), layout)[0]
    for label, joint in zip(axes.get_yticklabels(), order):
        label.set_color(colors[joint])


def _intensity(sample: MaskedSample) -> np.ndarray:
    """Motion intensity by segment and joint, (M, T', V)."""
    return sample.by_segment(
        motion_intensity(
            sample.keypoint, sample.t_patch_size, sample.num_coords
        )
    )


def _draw_masks(part, sample, person: int, layout, masks: dict) -> None:
    """One row: the motion of a person, and its masks of all kinds."""
    order = _joint_order(sample.keypoint.shape[2], layout)
    every = part.subplots(
        1, 1 + len(masks), width_ratios=[1.15, *[1] * len(masks)]
    )
    heat = _intensity(sample)[person]
    title = 'motion intensity'
    if len(sample.persons) > 1:
        title = f'person {person + 1}\n{title}'
    every[0].imshow(heat[:, order].T, cmap=HEAT, aspect='auto')
    every[0].set_title(title, fontsize=9)
    _label_joints(every[0], order, layout)
    for axes, (kind, mask) in zip(every[1:], masks.items()):
        hidden = sample.by_segment(mask)[person]
        axes.imshow(_mask_image(hidden[:, order].T), aspect='auto')
        axes.set_title(kind, fontsize=9)
        share = (heat * hidden).sum() / max(heat.sum(), 1e-9)
        axes.set_xlabel(f'hides {share:.0%}\nof the motion', fontsize=8)
        axes.set_yticks([])
    every[0].set_xlabel('segment', fontsize=8)
    for axes in every:
        axes.tick_params(axis='x', labelsize=7)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _mask_image(hidden: np.ndarray) -> np.ndarray:
    """Dark where a token is seen, light where it is masked."""
    return np.where(hidden[..., None], to_rgb(HIDDEN), to_rgb(SEEN))


# Arrows


def arrow_scale(sample: MaskedSample, in_image: bool) -> float:
    """How much longer arrows are drawn than the motion from frame to frame.

    Args:
        sample (MaskedSample): A sample with predictions.
        in_image (bool): Whether y leads down.

    Returns:
        float: Such that all but the longest true ones at masked joints are
        shorter than a fifth of the body; of two digits, and at least 1.
    """
    heights = np.ptp(flatten_bodies(sample.keypoint, in_image)[..., 1], axis=2)
    length = np.linalg.norm(sample.true_motion[..., :2], axis=3)
    length = length[sample.masked_joints & sample.keypoint.any(axis=3)]
    longest = np.quantile(length, 0.98) if len(length) else 0
    if not longest > 0 or not np.isfinite(heights).any():
        return 1.0
    return max(float(f'{ARROW * np.nanmedian(heights) / longest:.1e}'), 1.0)


def draw_arrows(
    axes: object,
    places: np.ndarray,
    sample: MaskedSample,
    frames: Sequence[int] | slice,
    scale: float,
    in_image: bool,
) -> None:
    """Draw true and predicted motion at masked joints.

    Args:
        axes (matplotlib.axes.Axes): Where.
        places (np.ndarray): Where the joints are drawn, (M, F, V, 2); those
            with NaN have no arrow.
        sample (MaskedSample): A sample with predictions.
        frames (Sequence[int] | slice): The F frames that are drawn.
        scale (float): What motions are multiplied with.
        in_image (bool): Whether y leads down.
    """
    shown = sample.masked_joints[:, frames] & np.isfinite(places).all(axis=3)
    for motion, color, width in (
        (sample.true_motion, TRUE, 2.4),
        (sample.pred_motion, PREDICTED, 1.2),
    ):
        x, y = scale * motion[:, frames][shown][:, :2].T
        axes.quiver(
            *places[shown].T,
            *(x, -y if in_image else y),
            color=color,
            angles='xy',
            scale_units='xy',
            scale=1,
            units='dots',
            width=width,
            headwidth=4,
            headlength=4.5,
            headaxislength=4,
            minlength=0,
            zorder=4,
        )


def _unseen_motion(sample: MaskedSample) -> np.ndarray:
    """Length of the true motion at masked joints, (M, T, V).

    What is longer than nearly all others, such as a jump of the sensor's, is
    no more than those.
    """
    length = np.linalg.norm(sample.true_motion, axis=3)
    moving = length[sample.masked_joints & (length > 0)]
    if len(moving):
        length = np.minimum(length, np.quantile(moving, 0.95))
    return length * sample.masked_joints


def _arrow_moments(sample: MaskedSample) -> list[int]:
    """Of each quarter of the clip the frame that moves most unseen."""
    length = _unseen_motion(sample).sum(axis=(0, 2))  # (T,)
    quarters = np.array_split(
        np.arange(len(length)), min(NUM_ARROW_MOMENTS, len(length))
    )
    return [int(part[length[part].argmax()]) for part in quarters]


def _draw_arrow_row(axes, sample, layout) -> None:
    in_image = is_image(sample.keypoint, layout)
    times = arrow_scale(sample, in_image)
    moments = _arrow_moments(sample)
    hidden = sample.masked_joints
    places, scale = draw_sequence(
        axes, sample.keypoint, layout, moments=moments, faded=hidden
    )
    draw_arrows(axes, places, sample, moments, scale * times, in_image)
    _number_persons(axes, places)
    motion = sample.true_motion[:, moments]
    _name_fastest(axes, places, motion, hidden[:, moments], layout)
    told = (
        f'motion to the next frame, {times:g} times as long, at masked '
        f'joints; error {sample.mse:.3f}, of predicting zero '
        f'{sample.zero_mse:.3f}'
    )
    axes.set_title(told, loc='left', pad=14, fontsize=9)
    axes.set_xlabel('frame', fontsize=8)


def _name_fastest(axes, places, motion, shown, layout) -> None:
    """Name the masked joint that moves most at every moment."""
    if layout is None:
        return
    length = np.linalg.norm(motion, axis=3)  # (M, F, V)
    length[~shown | ~np.isfinite(places).all(axis=3)] = 0
    for moment in range(length.shape[1]):
        person, joint = np.unravel_index(
            length[:, moment].argmax(), length[:, moment].shape
        )
        if length[person, moment, joint] > 0:
            is_left = places[person, moment, joint, 0] < moment
            axes.annotate(
                layout.joint_names[joint].replace('_', ' '),
                places[person, moment, joint],
                (-22 if is_left else 22, -16),
                textcoords='offset points',
                fontsize=8,
                ha='right' if is_left else 'left',
                # Above a neighbour's arrows.
                bbox=dict(facecolor='white', edgecolor='none', pad=0.5),
                zorder=5,
                arrowprops=dict(arrowstyle='-', color='#999999', lw=0.6),
            )


# The animation


def animate_sample(
    path: str | Path, sample: MaskedSample, layout: SkeletonLayout | None
) -> None:
    """Write the moving skeleton, masked joints faded, with its motion.

    Beside it stands the motion intensity, joints by time, with masked tokens
    faded.

    Args:
        path (str | Path): The file, ``.gif`` or ``.mp4``.
        sample (MaskedSample): The sample; where a model predicted, arrows
            show it.
        layout (SkeletonLayout, optional): As of :func:`draw_sheet`.

    Raises:
        ValueError: The file cannot be written here.
        OSError: Likewise.
    """
    in_image = is_image(sample.keypoint, layout)
    places = flatten_bodies(sample.keypoint, in_image)  # (M, T, V, 2)
    known = places[np.isfinite(places).all(axis=3)]
    low, high = known.min(axis=0), known.max(axis=0)
    margin = 0.1 * max(high - low)
    low, high = low - margin, high + margin
    height = len(sample.persons) * (1 + 0.14 * places.shape[2])
    width = height * np.clip((high - low)[0] / (high - low)[1], 0.8, 2)
    figure = Figure((width + 3.2, height), layout='constrained')
    grid = figure.add_gridspec(
        len(sample.persons), 2, width_ratios=[width, 3.2]
    )
    axes = figure.add_subplot(grid[:, 0])
    clocks = [
        _draw_clock(figure.add_subplot(grid[row, 1]), sample, person, layout)
        for row, person in enumerate(sample.persons)
    ]
    _add_legend(figure, sample, layout)
    times = 1.0
    if sample.pred_motion is not None:
        times = arrow_scale(sample, in_image)
    hidden = sample.masked_joints

    def update(frame: int) -> None:
        axes.clear()
        axes.set(
            xlim=(low[0], high[0]),
            ylim=(low[1], high[1]),
            aspect='equal',
            xticks=[],
            yticks=[],
        )
        axes.spines[:].set_visible(False)
        told = f'frame {frame}'
        now = slice(frame, frame + 1)
        bodies, masked = places[:, now], hidden[:, now]
        draw_bodies(axes, bodies, layout, linewidth=2.8, faded=masked)
        _number_persons(axes, bodies)
        if sample.pred_motion is not None:
            draw_arrows(axes, bodies, sample, now, times, in_image)
            told += f'\narrows: motion to the next, {times:g} times as long'
        axes.set_xlabel(told, fontsize=8)
        for line in clocks:
            line.set_xdata([(frame + 0.5) / sample.t_patch_size - 0.5] * 2)

    update(0)
    figure.canvas.draw()
    figure.set_layout_engine('none')  # else the parts would jump
    save_animation(path, figure, update, sample.keypoint.shape[1], fps=FPS)


def _draw_clock(axes, sample, person: int, layout) -> Line2D:
    """The intensity of a person, masked tokens faded, with a line of time."""
    order = _joint_order(sample.keypoint.shape[2], layout)
    heat = _intensity(sample)[person][:, order].T
    hidden = sample.by_segment(sample.mask)[person][:, order].T
    opacity = np.where(hidden, 0.3, 1.0)
    axes.imshow(heat, cmap=HEAT, aspect='auto', alpha=opacity)
    _label_joints(axes, order, layout)
    axes.set_xlabel('segment', fontsize=8)
    axes.tick_params(axis='x', labelsize=7)
    title = 'motion intensity; masked tokens faded'
    if len(sample.persons) > 1:
        title = f'person {person + 1}: {title}'
    axes.set_title(title, fontsize=8)
    return axes.axvline(0, color=PREDICTED, linewidth=1.5)
