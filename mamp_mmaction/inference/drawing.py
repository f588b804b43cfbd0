"""Pictures of what a model says of a recording."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..layouts import SkeletonLayout
from ..utils import written_whole
from ..utils.animation import save_animation
from ..utils.pictures import draw_bodies, flatten_bodies, is_image
from .inferencer import Window

MAX_FRAMES = 150  # of an animation
SHOWN = 5
# Frames a second of the sensors that the data sets were recorded with.
FRAME_RATE = 30
COLORS = ('#0072b2', '#b9cfdd')


def animation_frames(num_frames: int) -> np.ndarray:
    """Return the frames of a recording that an animation shows.

    Args:
        num_frames (int): Frames of the recording.

    Returns:
        np.ndarray: Every frame, or every n-th of a long recording.
    """
    return np.arange(0, num_frames, -(-num_frames // MAX_FRAMES))


def draw_animation(
    path: Path,
    keypoint: np.ndarray,
    layout: SkeletonLayout | None,
    parts: Sequence[Window],
    classes: Sequence[str],
    title: str,
) -> None:
    """Draw a recording that moves, beside what the model says of it by then.

    Args:
        path (Path): The file, ``.gif`` or ``.mp4``.
        keypoint (np.ndarray): Shape (M, T, V, C).
        layout (SkeletonLayout, optional): None draws joints without bones.
        parts (Sequence[Window]): In a frame counts the last part that ends in
            it or before it, else the first.
        classes (Sequence[str]): The names of the classes.
        title (str): What stands above, such as the recording's name.

    Raises:
        ValueError: It cannot be written (:func:`save_animation`).
        OSError: The file cannot be written.
    """
    from matplotlib.figure import Figure

    frames = animation_frames(keypoint.shape[1])
    places = flatten_bodies(keypoint, is_image(keypoint, layout))
    low, high = (
        f(places.reshape(-1, 2), axis=0) for f in (np.nanmin, np.nanmax)
    )
    margin = 0.08 * max(high - low)
    scores = [part.scores for part in parts if part.scores is not None]
    scores = scores or [np.zeros(len(classes))]
    best = np.max(scores, axis=0).argsort()[::-1][:SHOWN]
    figure = Figure((7.2, 3.6), layout='constrained')
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    figure.suptitle(f'{title:.60}', fontsize=10, parse_math=False)
    ends = np.array([part.stop for part in parts])

    def update(index: int) -> None:
        frame = frames[index]
        before = np.flatnonzero(ends <= frame + 1)
        part = parts[before[-1] if len(before) else 0]
        left.clear()
        draw_bodies(left, places[:, [frame]], layout, linewidth=2.5)
        left.set(
            xlim=(low[0] - margin, high[0] + margin),
            ylim=(low[1] - margin, high[1] + margin),
            aspect='equal',
            xticks=[],
            yticks=[],
        )
        left.set_xlabel(f'frame {frame + 1} of {keypoint.shape[1]}')
        right.clear()
        values = np.zeros(len(best))
        if part.scores is not None:
            values = 100 * part.scores[best]
        colors = [COLORS[int(value < values.max())] for value in values]
        right.barh(range(len(best)), values, color=colors)
        right.set(xlim=(0, 100), ylim=(len(best) - 0.5, -0.5))
        right.set_yticks(
            range(len(best)),
            [f'{classes[label]:.24}' for label in best],
            fontsize=9,
            parse_math=False,
        )
        for place, value in enumerate(values):
            inside = value > 70
            right.text(
                value + (-2 if inside else 2),
                place,
                f'{value:.0f} %',
                va='center',
                ha='right' if inside else 'left',
                color='white' if inside else 'black',
                fontsize=9,
            )
        right.set_xlabel(
            f'probability in % by frames {part.start + 1} to {part.stop}'
        )
        for axes in (left, right):
            axes.spines[['top', 'right']].set_visible(False)
        left.spines[['left', 'bottom']].set_visible(False)

    rate = FRAME_RATE / (frames[1] if len(frames) > 1 else 1)
    save_animation(
        path, figure, update, len(frames), fps=min(rate, 15), dpi=75
    )


def draw_timeline(
    path: Path, windows: Sequence[Window], classes: Sequence[str], title: str
) -> None:
    """Draw what happens when: the classes' probabilities over the frames.

    A frame's probabilities are the mean of those of all windows it is in.
    Shown are the classes that are the most probable one of a window, in the
    order in which they first are, at most 20.

    Args:
        path (Path): The picture (.png); on failure nothing is left under its
            name.
        windows (Sequence[Window]): What the model says.
        classes (Sequence[str]): The names of the classes.
        title (str): What stands above, such as the recording's name.
    """
    from matplotlib.figure import Figure

    known = [window for window in windows if window.scores is not None]
    total = np.zeros((len(classes), windows[-1].stop))
    count = np.zeros(windows[-1].stop)
    for window in known:
        total[:, window.start : window.stop] += window.scores[:, None]
        count[window.start : window.stop] += 1
    mean = 100 * total / np.maximum(count, 1)
    mean[:, count == 0] = np.nan
    rows = [int(window.scores.argmax()) for window in known]
    rows = list(dict.fromkeys(rows))[:20]
    figure = Figure((9, 1.5 + 0.3 * len(rows)), dpi=110, layout='constrained')
    axes = figure.subplots()
    axes.set_facecolor('#dddddd')
    image = axes.imshow(
        mean[rows],
        aspect='auto',
        cmap='Blues',
        vmin=0,
        vmax=100,
        interpolation='nearest',
        extent=(0, len(count), max(len(rows), 1) - 0.5, -0.5),
    )
    axes.set_yticks(
        range(len(rows)),
        [f'{classes[row]:.30}' for row in rows],
        parse_math=False,
    )
    axes.set_xlabel('frame')
    axes.set_title(f'{title:.70}', fontsize=10, parse_math=False)
    figure.colorbar(image, ax=axes, label='probability in %')
    with written_whole(path) as temporary:
        figure.savefig(temporary, format='png')
