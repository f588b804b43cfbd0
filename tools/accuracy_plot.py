"""The plot of ``benchmark.py``: accuracy against cost."""

import textwrap
from collections.abc import Sequence
from itertools import product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation

# Okabe and Ito's colours, which the colour-blind can tell apart.
COLORS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9')
COSTS = {
    'gflops': 'GFLOPs of one sample',
    'latency': 'latency of one sample, ms',
}


def cost_of(result: dict, cost: str) -> float | None:
    """Return what a config costs, where that was measured.

    Args:
        result (dict): What is known of the config.
        cost (str): A key of ``COSTS``.
    """
    if cost == 'gflops':
        return result['flops'] / 1e9 if 'flops' in result else None
    return result['latency']['median_ms'] if 'latency' in result else None


def draw_plot(report: dict, cost: str) -> Figure:
    """Draw accuracy against cost.

    Args:
        report (dict): The report.
        cost (str): A key of ``COSTS``.

    Returns:
        Figure: A point for each config whose accuracy and cost are known; the
        others are named below.
    """
    results = report['results']
    points = [
        (cost_of(r, cost), r)
        for r in results
        if r.get('accuracy') and cost_of(r, cost) is not None
    ]
    shown = [result['name'] for _, result in points]
    absent = [r['name'] for r in results if r['name'] not in shown]
    figure = Figure((9, 5 + 0.2 * len(results)), dpi=150)
    FigureCanvasAgg(figure)
    note = f'No point, for want of accuracy or cost: {", ".join(absent)}'
    lines = textwrap.wrap(note, 110) if absent else []
    foot = (0.75 + 0.17 * len(lines)) / figure.get_figheight()
    top = 1 - 0.4 / figure.get_figheight()
    axes = figure.add_axes((0.09, foot, 0.88, top - foot))
    figure.text(0.09, 0.015, '\n'.join(lines), fontsize=8, color='#555555')
    axes.set_xlabel(COSTS[cost])
    axes.set_ylabel('validation top-1, %')
    axes.grid(color='#e5e5e5', linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
    if points:
        _draw_points(axes, points)
    else:
        axes.set(xticks=[], yticks=[])
        text = 'No accuracy is known: give --work-dirs with trained models.'
        axes.text(0.5, 0.5, text, ha='center', transform=axes.transAxes)
    return figure


def _draw_points(axes: Axes, points: list[tuple[float, dict]]) -> None:
    """Draw last and best accuracy of each, joined, in its data's colour."""
    data = sorted({result['data'] for _, result in points})
    color_of = {name: COLORS[i % len(COLORS)] for i, name in enumerate(data)}
    costs = [cost for cost, _ in points]
    last, marks = [], []
    for cost, result in points:
        ends = [100 * result['accuracy'][key] for key in ('last', 'best')]
        color = color_of[result['data']]
        axes.plot((cost, cost), ends, color=color, linewidth=1)
        axes.plot(cost, ends[1], 'o', color=color, markerfacecolor='white')
        axes.plot(cost, ends[0], 'o', color=color)
        last.append((cost, ends[0]))
        marks += [(cost, height) for height in np.linspace(*ends, 20)]
    _set_limits(axes, costs, [height for _, height in marks])
    names = shorten_names([result['name'] for _, result in points])
    place_labels(axes, last, names, obstacles=marks)
    _add_legend(axes, color_of)


def _set_limits(axes: Axes, costs: list[float], heights: list[float]) -> None:
    """Leave room for labels, and make no gulf of a small difference."""
    low, high = min(costs), max(costs)
    if high > 8 * low:
        axes.set_xscale('log')
        axes.xaxis.set_major_formatter('{x:g}')
        room = (high / low) ** 0.15
        axes.set_xlim(low / room, high * room)
    else:
        room = max(0.15 * (high - low), 0.1 * high)
        axes.set_xlim(low - room, high + room)
    low, high = min(heights), max(heights)
    room = max(0.15 * (high - low), 1)
    axes.set_ylim(low - room, high + room)


def _add_legend(axes: Axes, color_of: dict[str, str]) -> None:
    """Say above the axes what markers and colours mean."""
    mark = dict(linestyle='', marker='o', color='#555555')
    handles = [
        Line2D([], [], label='last epoch', **mark),
        Line2D([], [], label='best', markerfacecolor='white', **mark),
    ]
    handles += [
        Line2D([], [], linewidth=4, color=color, label=name)
        for name, color in color_of.items()
    ]
    axes.legend(
        handles=handles,
        loc='lower left',
        bbox_to_anchor=(0, 1),
        ncols=len(handles),
        frameon=False,
        fontsize=8,
    )


def shorten_names(names: Sequence[str]) -> list[str]:
    """Fit names for a plot: without what all share, and on two lines.

    Args:
        names (list[str]): Names whose parts are joined by underscores, the
            data set last.

    Returns:
        list[str]: The names, without a last part that all have.
    """
    parts = [name.rpartition('_') for name in names]
    heads, tails = {head for head, _, _ in parts}, {tail for *_, tail in parts}
    if len(tails) == 1 and len(heads) == len(names) > 1:
        return [head for head, _, _ in parts]
    return ['\n'.join(filter(None, (head, tail))) for head, _, tail in parts]


LABEL_SIZE = 7.5
# Where a label may lie, seen from its point: near before far, to the sides
# before above or below.
DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1))
DIRECTIONS += tuple(
    (x, slope * y)
    for slope in (0.25, 0.5, 1, 2)
    for y in (1, -1)
    for x in (1, -1)
)
DISTANCES = (7, 16, 26, 38, 52, 68, 86, 106, 130, 160, 200, 250)  # points
OFFSETS = np.array(
    [np.multiply(y, x) for x, y in product(DISTANCES, DIRECTIONS)]
)


def place_labels(
    axes: Axes,
    points: Sequence[tuple[float, float]],
    labels: Sequence[str],
    obstacles: Sequence[tuple[float, float]],
) -> list[Annotation]:
    """Label points so that no label covers another, a marker or the frame.

    Each takes the nearest free place, and a line that crosses no label and no
    marker leads to its point.

    Args:
        axes (Axes): With their final limits and size.
        points (list[tuple]): Positions in the data's units.
        labels (list[str]): One a point.
        obstacles (list[tuple]): Positions of markers and along lines.

    Returns:
        list[Annotation]: The labels.
    """
    renderer = axes.figure.canvas.get_renderer()
    pixel = axes.figure.dpi / 72  # of a typographic point
    frame = axes.get_window_extent(renderer).extents[None]
    taken = _boxes(axes.transData.transform(obstacles), 4 * pixel)
    lines = np.empty((0, 4))
    style = dict(fontsize=LABEL_SIZE, linespacing=1.1, parse_math=False)
    annotations = []
    for point, label in zip(points, labels):
        text = axes.text(0, 0, label, **style)
        half = text.get_window_extent(renderer).size / 2
        text.remove()
        origin = axes.transData.transform(point)
        near = origin + OFFSETS * pixel
        places = _boxes(near + np.sign(OFFSETS) * half, half + 2 * pixel)
        # (places, points of the line, x and y)
        leaders = np.linspace(origin, near, 50, axis=1)
        others = taken[~_inside(origin, taken)]
        covered = _common_area(places, np.concatenate((taken, lines)))
        fault = covered.sum(axis=1) + _inside(leaders, others).sum(axis=(1, 2))
        fault += 4 * np.prod(half + 2 * pixel)
        fault -= _common_area(places, frame)[:, 0]
        best = fault.round(3).argmin()
        taken = np.concatenate((taken, places[best, None]))
        lines = np.concatenate((lines, _boxes(leaders[best, 10:], pixel)))
        x_side, y_side = np.sign(OFFSETS[best]).astype(int)
        annotations.append(
            axes.annotate(
                label,
                point,
                xytext=tuple(OFFSETS[best]),
                textcoords='offset points',
                ha=('center', 'left', 'right')[x_side],
                va=('center', 'bottom', 'top')[y_side],
                arrowprops=dict(
                    arrowstyle='-',
                    color='#999999',
                    linewidth=0.6,
                    relpos=((1 - x_side) / 2, (1 - y_side) / 2),
                    shrinkA=0,
                    shrinkB=3,
                ),
                **style,
            )
        )
    return annotations


def _boxes(centers: np.ndarray, half: np.ndarray | float) -> np.ndarray:
    """Boxes (K, 4), as left, bottom, right, top, about centres (K, 2)."""
    return np.concatenate((centers - half, centers + half), axis=1)


def _common_area(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Areas (K, L) that boxes (K, 4) and (L, 4) have in common."""
    low = np.maximum(a[:, None, :2], b[:, :2])
    high = np.minimum(a[:, None, 2:], b[:, 2:])
    return (high - low).clip(min=0).prod(axis=2)


def _inside(points: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Whether points (..., 2) lie in boxes (K, 4), as (..., K)."""
    points = points[..., None, :]
    above = (points > boxes[:, :2]).all(axis=-1)
    return above & (points < boxes[:, 2:]).all(axis=-1)
