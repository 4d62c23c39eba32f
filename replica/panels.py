"""Figures of panels side by side: what the figures that ship with the package are made of.

Takes numbers, never models.  A `Drawing` is drawn as an image and written as a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from .plotting import OKABE_ITO, checked_output, save

REGIONS = ("#56B4E9", "#E69F00", "#000000", "#009E73", "#CC79A7", "#F0E442")  # areas: light ones first
WIDE_LABEL = 28  # characters of a label that takes a line of a legend for itself


@dataclass(frozen=True)
class Curve:
    """One line of a `Panel`; `dots` draws points of the shape `marker`, with bars of length `sem` if given."""

    x: np.ndarray
    y: np.ndarray
    label: str = ""
    colour: int = 0
    dots: bool = False
    dashed: bool = False
    sem: np.ndarray | None = None
    marker: str = "o"


@dataclass(frozen=True)
class Panel:
    """One part of a figure: curves, or a map of named regions (`codes` of shape (y, x) into `names`)."""

    xlabel: str
    ylabel: str
    curves: Sequence[Curve] = ()
    title: str = ""
    xlog: bool = False
    ylog: bool = False
    ylim: tuple[float, float] | None = None
    regions: tuple[np.ndarray, np.ndarray, np.ndarray, Sequence[str]] | None = None
    equal: bool = False  # one unit of x as long as one of y
    whole: bool = False  # only whole numbers along x


@dataclass(frozen=True)
class Drawing:
    """Panels side by side under one title."""

    panels: Sequence[Panel]
    title: str = ""

    def table(self) -> dict[str, list[Any]]:
        """All curves point by point: panel, curve, kind (line, dashed or dots), x, y and standard error (nan if none)."""
        rows: dict[str, list[Any]] = {name: [] for name in ("panel", "curve", "label", "kind", "x", "y", "standard_error")}
        for number, panel in enumerate(self.panels):
            for k, curve in enumerate(panel.curves):
                kind = "dots" if curve.dots else "dashed" if curve.dashed else "line"
                sems = np.full(len(curve.x), np.nan) if curve.sem is None else curve.sem
                for x, y, sem in zip(curve.x, curve.y, sems, strict=True):
                    for name, value in zip(rows, (number, k, curve.label, kind, float(x), float(y), float(sem)), strict=True):
                        rows[name].append(value)
        return rows


def _legend_shape(panel: Panel) -> tuple[int, int]:
    """Rows and columns of a panel's legend."""
    labels = [curve.label for curve in panel.curves if curve.label]
    if panel.regions is not None:
        labels += [name for i, name in enumerate(panel.regions[3]) if (panel.regions[2] == i).any()]
    columns = 2 if max((len(label.replace("\\", "")) for label in labels), default=0) < WIDE_LABEL else 1
    return -(-len(labels) // columns), columns


def draw_panels(drawing: Drawing, output: str | Path) -> Path:
    """Draw panels side by side, each with its legend below; PlotError as for `plot_curve`.

    A panel is 4.2 inches wide, so that text is legible where two of them fill a page.
    """
    panels, output = drawing.panels, checked_output(output)
    rows = max(_legend_shape(panel)[0] for panel in panels)
    figure = Figure(figsize=(4.2 * len(panels), 3.7 + 0.21 * rows), dpi=150, layout="constrained")
    for axes, panel in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
        if panel.regions is not None:
            xs, ys, codes, names = panel.regions
            colours = ListedColormap([REGIONS[i % len(REGIONS)] for i in range(len(names))])
            axes.pcolormesh(xs, ys, codes, cmap=colours, vmin=-0.5, vmax=len(names) - 0.5, rasterized=True, alpha=0.75)
            for i in (i for i in range(len(names)) if (codes == i).any()):
                axes.plot([], [], color=colours(i), marker="s", markersize=8, linestyle="none", label=names[i])
        for curve in panel.curves:
            colour = OKABE_ITO[curve.colour % len(OKABE_ITO)]
            if curve.dots:
                style: dict[str, Any] = {"fmt": curve.marker, "markersize": 4, "capsize": 2, "linewidth": 1}
                axes.errorbar(curve.x, curve.y, curve.sem, color=colour, label=curve.label, **style)
            else:
                # Dashes on top: where lines coincide, both show.
                line = {"linestyle": "--", "zorder": 2.5} if curve.dashed else {"linestyle": "-"}
                axes.plot(curve.x, curve.y, color=colour, label=curve.label, **line)
        if panel.regions is not None or any(curve.label for curve in panel.curves):
            # Below the panel: inside, there is no place that no curve crosses.
            columns = _legend_shape(panel)[1]
            axes.legend(fontsize="small", frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=columns)
        axes.set_xscale("log" if panel.xlog else "linear")
        axes.set_yscale("log" if panel.ylog else "linear")
        if panel.ylim is not None:
            axes.set_ylim(panel.ylim)
        axes.set(xlabel=panel.xlabel, ylabel=panel.ylabel)
        if panel.equal:
            axes.set_aspect("equal")
        if panel.whole:
            axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_title(panel.title, fontsize="medium")
    figure.suptitle(drawing.title, fontsize="medium")
    figure.draw_without_rendering()  # ticks settle, and the layout is then made for them
    return save(figure, output)
