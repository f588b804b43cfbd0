"""Curves of several measurements, side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from .atomic import written_whole

# They stay apart for colour-blind eyes.
COLORS = ('#333333', '#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9')


def draw_curves(
    path: Path,
    panels: Mapping[str, Mapping[str, Sequence[tuple]]],
    x_label: str,
    y_label: str,
    title: str,
) -> None:
    """Draw curves with error bars over a logarithmic axis, to a PNG file.

    A curve has the same look in all panels.

    Args:
        path (Path): The picture; on failure nothing is left under its name.
        panels (Mapping): By the panels' titles their curves, by name: points
            (x, y, error), the error None where it is unknown.
        x_label (str): What is on the horizontal axes.
        y_label (str): What is on the vertical ones.
        title (str): Title of the legend.
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
        for name, points in curves.items():
            place = names.index(name)
            x, y, error = zip(*sorted(points))
            # Side by side, so that bars do not hide each other.
            shift = 1.015 ** (place - (len(names) - 1) / 2)
            lines[name] = axes.errorbar(
                [shift * value for value in x],
                y,
                [float('nan') if e is None else e for e in error],
                color=COLORS[place % len(COLORS)],
                marker='o',
                markersize=4,
                capsize=3,
            )
        ticks = sorted({x for points in curves.values() for x, *_ in points})
        axes.set_xscale('log')
        axes.set_xticks([], minor=True)
        axes.set_xticks(ticks, [f'{x:,}' for x in ticks])
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
