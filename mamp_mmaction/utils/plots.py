"""Plots of results: curves, confusion of classes, features in a plane."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..evaluation.comparison import rate_interval
from .atomic import written_whole

# They stay apart for colour-blind eyes.
COLORS = ('#333333', '#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9')
LINES = ('-', '--', ':', '-.')
# Up to so many classes a matrix has numbers in its cells, and a map of
# features names instead of numbers.
FEW_CLASSES = 30


def draw_curves(
    path: Path,
    panels: Mapping[str, Mapping[str, Sequence[tuple]]],
    x_label: str,
    y_label: str,
    title: str,
    is_log: bool = True,
) -> None:
    """Draw curves with error bars, to a PNG file.

    A curve has the same look in all panels.

    Args:
        path (Path): The picture; on failure nothing is left under its name.
        panels (Mapping): By the panels' titles their curves, by name: points
            (x, y, error), the error None where it is unknown.
        x_label (str): What is on the horizontal axes.
        y_label (str): What is on the vertical ones.
        title (str): Title of the legend.
        is_log (bool): Whether the horizontal axes are logarithmic, with a
            tick at every point; a curve breaks where it lacks one that
            others of its panel have. Defaults to True.
    """
    from matplotlib.figure import Figure

    names = list(
        dict.fromkeys(x for curves in panels.values() for x in curves)
    )
    size = (max(4 * len(panels), 6), 4.4)
    figure = Figure(size, dpi=110, layout='constrained')
    every = figure.subplots(1, len(panels), squeeze=False)[0]
    lines = {}
    for axes, (panel, curves) in zip(every, panels.items()):
        ticks = sorted({x for points in curves.values() for x, *_ in points})
        for name, points in curves.items():
            place = names.index(name)
            if is_log:
                found = {x: (x, *others) for x, *others in points}
                points = [found.get(x, (x, np.nan, np.nan)) for x in ticks]
            x, y, error = zip(*sorted(points))
            if is_log:
                # Side by side, so that bars do not hide each other.
                shift = 1.03 ** (place - (len(names) - 1) / 2)
                x = [shift * value for value in x]
            lines[name] = axes.errorbar(
                x,
                y,
                [np.nan if e is None else e for e in error],
                color=COLORS[place % len(COLORS)],
                linestyle=LINES[place // len(COLORS) % len(LINES)],
                marker='o',
                markersize=4 if is_log else 2.5,
                capsize=3,
            )
        if is_log:
            axes.set_xscale('log')
            axes.set_xticks([], minor=True)
            axes.set_xticks(ticks, [f'{x:,}' for x in ticks])
        else:
            axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_title(panel)
        axes.set_xlabel(x_label)
        axes.grid(axis='y', color='#dddddd')
        axes.spines[['right', 'top']].set_visible(False)
    every[0].set_ylabel(y_label)
    figure.legend(
        [lines[name] for name in names],
        names,
        loc='outside lower center',
        ncols=2 if len(panels) < 3 else 3,
        frameon=False,
        title=title,
    )
    with written_whole(path) as temporary:
        figure.savefig(temporary, format='png')


def draw_confusion(
    path: Path,
    counts: np.ndarray,
    classes: Sequence[str],
    shown: Sequence[int] | None = None,
) -> None:
    """Draw a confusion matrix and the accuracy of each class, to a PNG file.

    Rows are in % of a class's samples. The bars' errors are Wilson's
    (:func:`rate_interval`). Sizes follow the number of classes, so that all
    names can be read.

    Args:
        path (Path): The picture; on failure nothing is left under its name.
        counts (np.ndarray): (K, K), samples by true class and answer.
        classes (Sequence[str]): K names.
        shown (Sequence[int], optional): Classes that get a row, a column and
            a bar; answers of other classes are put into one column. Defaults
            to all.
    """
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    every = range(len(classes))
    shown = list(every if shown is None else shown)
    names = [f'{classes[k]:.40}' for k in shown]
    samples, right = counts.sum(axis=1), counts.diagonal()
    cells = counts[np.ix_(shown, shown)]
    columns = list(names)
    if len(shown) < len(classes):
        rest = samples[shown] - cells.sum(axis=1)
        cells = np.column_stack([cells, rest])
        columns.append('all others')
    # A class without samples has no rates, and an empty row.
    rates = 100 * cells / np.where(samples, samples, np.nan)[shown, None]
    few = len(shown) <= FEW_CLASSES
    size, font = (0.33, 8) if few else (0.17, 7)  # inches and points
    side = max(size * len(columns), 2.5)
    margin = 0.6 + 0.06 * max(map(len, columns))
    figure = Figure(
        (side + 2 * margin + 4.5, side + margin + 0.6),
        dpi=110,
        layout='constrained',
    )
    left, right_axes = figure.subplots(1, 2, width_ratios=(side + margin, 4))
    image = left.imshow(
        rates, cmap='Blues', norm=PowerNorm(0.5, vmin=0, vmax=100)
    )
    left.set_xticks(range(len(columns)), columns, rotation=90)
    left.set_yticks(range(len(names)), names)
    left.tick_params(labelsize=font, length=0)
    for axis, number in (('x', len(columns)), ('y', len(names))):
        ticks = getattr(left, f'set_{axis}ticks')
        ticks(np.arange(number + 1) - 0.5, minor=True)
    left.grid(which='minor', color='#e4e4e4', linewidth=0.5)
    left.tick_params(which='minor', length=0)
    left.set(xlabel='answer', ylabel='true class')
    if few:
        for row, column in np.argwhere(rates >= 0.5):
            rate = rates[row, column]
            left.text(
                column,
                row,
                f'{rate:.0f}',
                ha='center',
                va='center',
                fontsize=7,
                color='white' if rate > 30 else 'black',
            )
    bar = figure.colorbar(image, ax=left, shrink=0.6, aspect=30, pad=0.01)
    bar.set_ticks([0, 1, 5, 10, 25, 50, 100])
    bar.set_label('% of the true class', fontsize=font)
    bar.ax.tick_params(labelsize=font)
    _draw_rates(
        right_axes,
        {k: (right[k], samples[k]) for k in shown},
        dict(zip(shown, names)),
        font,
    )
    whole, classwise = right.sum() / samples.sum(), right[samples > 0]
    classwise = np.mean(classwise / samples[samples > 0])
    right_axes.axvline(100 * classwise, color='#777777', linestyle='--')
    right_axes.set_title(
        f'{100 * whole:.1f} % of {samples.sum()} samples are right\n'
        f'mean of the classes (dashed) {100 * classwise:.1f} %',
        fontsize=9,
    )
    with written_whole(path) as temporary:
        figure.savefig(temporary, format='png')


def _draw_rates(
    axes: object, rates: dict[int, tuple], names: dict[int, str], font: int
) -> None:
    """Draw (right answers, samples) by class as bars, the best on top."""
    known = {k: right / n for k, (right, n) in rates.items() if n}
    order = sorted(known, key=known.get)
    intervals = np.array([rate_interval(*rates[k]) for k in order])
    values = np.array([known[k] for k in order])
    axes.barh(
        range(len(order)),
        100 * values,
        xerr=100 * abs(intervals - values[:, None]).T,
        color=COLORS[5],
        ecolor=COLORS[0],
        error_kw=dict(elinewidth=0.8, capsize=1.5),
    )
    labels = [f'{names[k]}  ({rates[k][1]})' for k in order]
    axes.set_yticks(range(len(order)), labels, fontsize=font)
    axes.set(
        xlim=(0, 100),
        ylim=(-0.6, len(order) - 0.4),
        xlabel='right answers, % ± one standard error (samples)',
    )
    axes.tick_params(axis='y', length=0)
    axes.spines[['right', 'top']].set_visible(False)
    axes.grid(axis='x', color='#dddddd')
    axes.set_axisbelow(True)


def draw_embeddings(
    path: Path,
    panels: Mapping[str, tuple[np.ndarray, np.ndarray]],
    classes: Mapping[int, str],
) -> None:
    """Draw samples in a plane, coloured by class, side by side to a PNG file.

    Every class is named at the sample that is nearest to all others of it;
    above 30 classes by its number, with the names below the picture.

    Args:
        path (Path): The picture; on failure nothing is left under its name.
        panels (Mapping): By the panels' titles the positions (N, 2) and the
            labels (N,); a negative label is none, and drawn in grey.
        classes (Mapping): Names by label.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from scipy.spatial import distance_matrix

    labels = np.concatenate([y for _, y in panels.values()])
    present = np.unique(labels[labels >= 0]).tolist()
    few = len(present) <= FEW_CLASSES
    colors = dict(zip(present, _distinct_colors(len(present))))
    key = '' if few else _columns([f'{k:>3}  {classes[k]}' for k in present])
    width = max(6.5 * len(panels), 10.5 if key else 0)
    height = 6.2 + 0.14 * len(key.splitlines())
    figure = Figure((width, height), dpi=110, layout='constrained')
    canvas = FigureCanvasAgg(figure)
    if key:
        figure.supxlabel(key, fontsize=7, family='monospace', x=0.5)
    texts = []
    every = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, (places, y)) in zip(every, panels.items()):
        axes.scatter(
            *places.T,
            s=max(4, min(14, 8000 / len(y))),
            c=[colors.get(k, '#bbbbbb') for k in y.tolist()],
            alpha=0.6,
            linewidths=0,
        )
        axes.set_title(title, parse_math=False)
        axes.set(xticks=[], yticks=[])
        axes.margins(0.08)
        for k in np.unique(y[y >= 0]).tolist():
            own = places[y == k]
            # Of several clusters the middle may be in none: take a sample.
            middle = own[distance_matrix(own, own).sum(axis=0).argmin()]
            texts.append(
                axes.text(
                    *middle,
                    classes[k] if few else f'{k}',
                    ha='center',
                    va='center',
                    fontsize=7,
                    bbox=dict(
                        boxstyle='round,pad=0.15',
                        facecolor='white',
                        edgecolor=colors[k],
                        alpha=0.85,
                    ),
                    parse_math=False,
                )
            )
    canvas.draw()
    figure.set_layout_engine('none')
    for axes in every:
        own = [text for text in texts if text.axes is axes]
        for text, place in zip(own, _spread(own, axes, canvas)):
            axes.plot(
                *zip(text.get_position(), place),
                color=text.get_bbox_patch().get_edgecolor(),
                linewidth=1,
            )
            text.set_position(place)
    with written_whole(path) as temporary:
        figure.savefig(temporary, format='png')


def _distinct_colors(count: int) -> list:
    """Colours whose hues are far apart for neighbours in the list."""
    from matplotlib.colors import hsv_to_rgb

    turns = np.arange(count) * 0.618034 % 1
    values = np.array([0.85, 0.6])[np.arange(count) % 2]
    return list(hsv_to_rgb(np.stack([turns, 0 * turns + 0.9, values], 1)))


def _columns(lines: Sequence[str], number: int = 5, width: int = 32) -> str:
    """Lay out lines in columns, top to bottom."""
    rows = -(-len(lines) // number)
    cells = [f'{line:.{width - 2}}'.ljust(width) for line in lines]
    return '\n'.join(''.join(cells[row::rows]) for row in range(rows))


def _spread(texts: list, axes: object, canvas: object) -> Sequence:
    """Places for texts where none hides another, within their axes."""
    if not texts:
        return []
    renderer = canvas.get_renderer()
    boxes = [
        text.get_bbox_patch().get_window_extent(renderer) for text in texts
    ]
    half = np.array([[box.width + 2, box.height + 2] for box in boxes]) / 2
    at = np.array([[box.x0 + box.x1, box.y0 + box.y1] for box in boxes]) / 2
    # Texts in one place would not know where to go.
    at += np.random.default_rng(0).normal(0, 0.5, at.shape)
    limits = np.array(axes.get_window_extent(renderer).get_points())
    for _ in range(500):
        apart = at[:, None] - at  # (K, K, 2)
        overlap = half[:, None] + half - abs(apart)
        overlap[np.eye(len(at), dtype=bool)] = 0
        hidden = (overlap > 0).all(axis=2)
        if not hidden.any():
            break
        # Along the axis where less is to go.
        along = overlap == overlap.min(axis=2, keepdims=True)
        push = np.sign(apart) * overlap * along * hidden[..., None]
        at += 0.3 * push.sum(axis=1)
        at = np.clip(at, limits[0] + half, limits[1] - half)
    return axes.transData.inverted().transform(at)
