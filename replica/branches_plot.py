"""Figures of branches: a hysteresis loop with its jumps, and phase boundaries over a parameter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from solvers.branches import BRANCHES

from .plotting import (
    Dataset,
    PlotError,
    _colours,
    _figure,
    _label,
    _scale,
    _symbol,
    checked_output,
    handle,
    save,
)  # fmt: skip


def plot_branches(dataset: Dataset, output: str | Path, y: str | None = None, *, title: str | None = None) -> Path:
    """Draw what `replica branches` found: an observable on both branches, with jumps, above their free entropies.

    The branch of larger free entropy is solid, the other one dashed; jumps are dotted, with an arrow in the direction followed.

    Parameters
    ----------
    dataset : xarray.Dataset
        From `results.open_results`.
    output, title
        As for `plotting.plot_curve`.
    y : str, optional
        Scalar variable to draw; the first order parameter if left out.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    PlotError
        If there is no such variable, or the file cannot be written.
    """
    output = checked_output(output)
    x = json.loads(dataset.attrs["branches"])["along"]
    known = [str(name) for name, v in dataset.items() if v.dims == ("branch", x) and v.dtype.kind == "f"]
    y = y or known[0]
    if y not in known:
        raise PlotError(f"unknown variable {y!r}; the file has {', '.join(known)}")
    figure, panels = _figure(dataset, title, {}, 2)
    colours = dict(zip(BRANCHES, _colours(3)[1:], strict=True))
    at, best, distinct = dataset[x].values, dataset["best"].values, dataset["distinct"].values
    for panel, name in zip(panels, (y, "free_entropy"), strict=True):
        lines = {}
        for k, branch in enumerate(BRANCHES):
            line = np.where(dataset["result"].values[k] == 0, dataset[name].values[k], np.nan)
            lines[branch] = line
            leads = (best == k) | (distinct == 0)
            # A gap at a jump: the arrow is drawn there.
            for part, style in ((line, "--"), (np.where(leads, line, np.nan), "-")):
                panel.plot(*_broken(at, part, [where for where, j in _jumps(dataset) if j == k]), style, color=colours[branch])
        for where, k in _jumps(dataset):
            branch = BRANCHES[k]
            ends = _ends(at, lines[branch], where, 1 if (at[-1] > at[0]) == (k == 0) else -1)
            if ends is not None:
                arrow = {"arrowstyle": "->", "linestyle": ":", "color": colours[branch], "shrinkA": 0, "shrinkB": 0}
                panel.annotate("", xy=(where, ends[1]), xytext=(where, ends[0]), arrowprops=arrow)
        _scale(panel.set_xscale, at)
        panel.set_xlabel(_label(dataset[x]))
        panel.set_ylabel(_label(dataset[name]))
    texts = {"uninformed": "uninformed, followed forth", "informed": "informed, followed back"}
    handles = [handle(texts[branch], color=colours[branch]) for branch in BRANCHES]
    handles += [handle("larger free entropy", color="0.4"), handle("smaller", color="0.4", linestyle="--")]
    handles += [handle(f"{BRANCHES[k]} ends at {_symbol(dataset[x])} = {where:.4f}", color=colours[BRANCHES[k]], linestyle=":")
                for where, k in _jumps(dataset)]  # fmt: skip
    panels[0].legend(handles=handles, fontsize="small", frameon=False)
    return save(figure, output)


def _jumps(dataset: Dataset) -> list[tuple[float, int]]:
    if "jump_at" not in dataset:
        return []
    return list(zip(map(float, dataset["jump_at"].values), map(int, dataset["jump_branch"].values), strict=True))


def _broken(at: np.ndarray, line: np.ndarray, jumps: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """A line with gaps at its jumps, by rising coordinate."""
    x, y = np.append(at, jumps), np.append(line, np.full(len(jumps), np.nan))
    order = np.argsort(x, kind="stable")
    return x[order], y[order]


def _ends(at: np.ndarray, line: np.ndarray, where: float, direction: int) -> tuple[float, float] | None:
    """Values of a line on both sides of a jump, the one it is left from first."""
    order = np.argsort(at)
    x, y = at[order], line[order]
    i = int(np.searchsorted(x, where))
    if not 0 < i < len(x) or not np.isfinite(y[i - 1 : i + 1]).all():
        return None
    return (float(y[i - 1]), float(y[i])) if direction > 0 else (float(y[i]), float(y[i - 1]))


def plot_boundary(dataset: Dataset, output: str | Path, *, title: str | None = None) -> Path:
    """Draw a phase boundary over one axis; a second axis gives one line per value.

    Raises
    ------
    PlotError
        If there is no axis, or more than two, or the file cannot be written.
    """
    output = checked_output(output)
    along = json.loads(dataset.attrs["boundary"])["along"]
    axes = [str(d) for d in dataset[along].dims]
    if not 1 <= len(axes) <= 2:
        raise PlotError("a boundary is drawn over one or two axes; give a parameter as first:last:count")
    figure, (panel,) = _figure(dataset, title, {})
    lines: list[Any] = [None] if len(axes) == 1 else list(dataset[axes[1]].values)
    handles = []
    for value, colour in zip(lines, _colours(len(lines)), strict=True):
        line = dataset[along] if value is None else dataset[along].sel({axes[1]: value})
        panel.plot(dataset[axes[0]].values, line.values, ".-", color=colour)
        if value is not None:
            handles.append(handle(f"{_symbol(dataset[axes[1]])} = {value:g}", color=colour))
    missing = int((dataset["result"].values != 0).sum())
    if missing:
        handles.append(handle(f"not shown: no boundary at {missing} points", linestyle="none"))
    _scale(panel.set_xscale, dataset[axes[0]].values)
    panel.set_xlabel(_label(dataset[axes[0]]))
    panel.set_ylabel(_label(dataset[along]))
    if handles:
        panel.legend(handles=handles, fontsize="small", frameon=False)
    return save(figure, output)
