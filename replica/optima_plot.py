"""The figure of a file of optima: the least value and the parameters it is at, side by side, along an axis."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from .plotting import (
    MOST_LINES,
    Dataset,
    PlotError,
    Select,
    _all_chosen,
    _colours,
    _figure,
    _gap_text,
    _label,
    _Line,
    _scale,
    _slice,
    _symbol,
    checked_output,
    handle,
    save,
)  # fmt: skip

#: Characters per line of a label, so that it fits beside its panel.
WIDTH = 42


def plot_optima(
    dataset: Dataset,
    output: str | Path,
    x: str | None = None,
    hue: str | None = None,
    *,
    select: Select | None = None,
    title: str | None = None,
) -> Path:
    """Draw what `replica optimise` found along an axis, one panel each for the least value and every optimised parameter.

    Parameters at an end of their range are drawn as triangles that point to it.

    Parameters
    ----------
    dataset : xarray.Dataset
        From `results.open_results`.
    output, select, title
        As for `plotting.plot_curve`.
    x, hue : str, optional
        Axes; if left out, the first and the second of those with more than one value.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    PlotError
        If there is no curve, a name or value does not exist, an axis still needs a choice, or the file cannot be written.
    """
    output = checked_output(output)
    task, axes = json.loads(dataset.attrs["optimise"]), list(dataset.status.dims)
    if not axes:
        raise PlotError("one optimum is no curve; optimise with a parameter as first:last:count")
    free = [name for name in axes if dataset.sizes[name] > 1 and name not in (select or {})]
    x = x or (free or axes)[0]
    hue = hue or next((name for name in free if name != x), None)
    minimised, _, index = task["minimise"].partition("[")
    # Ends of ranges are optima; what is worse has no point to draw.
    kind = dataset.status.copy(data=np.where(dataset.status.values > 1, dataset.status.values, 0))
    dataset = dataset.assign(result=kind)
    colours: dict[Any, Any] = {None: _colours(1)[0]}
    if hue is not None and hue in axes:
        values = dataset[hue].values
        if len(values) > MOST_LINES:
            raise PlotError(f"{hue} has {len(values)} values, more than {MOST_LINES} lines; select one")
        colours = dict(zip(map(float, values), _colours(len(values)), strict=True))
    names = [minimised, *task["ranges"]]
    figure, panels = _figure(dataset, title, dict(select or {}), len(names))
    gaps: Counter[str] = Counter()
    for name, panel in zip(names, panels, strict=True):
        chosen = dict(select or {})
        if name == minimised and index:
            chosen |= dict(zip(dataset[name].dims[len(axes) :], map(float, index.rstrip("]").split(",")), strict=True))
        found = _draw(dataset, panel, name, x, hue, chosen, colours)
        gaps += found if name == minimised else Counter()
        panel.set_ylabel(textwrap.fill(_label(dataset[name]), WIDTH))
    if name_of := hue and _symbol(dataset[hue]):
        handles = [handle(f"{name_of} = {value:g}", color=colour) for value, colour in colours.items()]
    else:
        handles = []
    if gaps:
        handles.append(handle(_gap_text(gaps), color="0.4", marker="x", markersize=6, linestyle="none"))
    if any((dataset[f"end_{name}"] != 0).any() for name in task["ranges"]):
        handles.append(handle("at an end of the range", color="0.4", marker="v", fillstyle="none", linestyle="none"))
    if handles:
        panels[0].legend(handles=handles, fontsize="small", frameon=False)
    return save(figure, output)


def _draw(
    dataset: Dataset, panel: Any, name: str, x: str, hue: str | None, chosen: dict[str, float], colours: dict[Any, Any]
) -> Counter[str]:
    """The lines of one panel; returns what is missing from them."""
    keep = [x] if hue is None else [x, hue]
    values, result, _ = _slice(dataset, name, keep, chosen)
    _all_chosen(dataset, [dim for dim in values.dims if dim not in keep])
    end = _slice(dataset, f"end_{name}", keep, chosen)[0] if f"end_{name}" in dataset else None
    gaps: Counter[str] = Counter()
    for row, (value, colour) in enumerate(colours.items()):
        at = {} if hue is None else {hue: value}
        line = _Line.of(values.sel(at), result.sel(at), x)
        line.draw(panel, colour, row)
        gaps += line.gaps
        for side, marker in ((-1, "v"), (1, "^")):
            if end is not None and (here := end.sel(at).values == side).any():
                panel.plot(values[x].values[here], values.sel(at).values[here], marker, color=colour, fillstyle="none")
    _scale(panel.set_xscale, dataset[x].values)
    if end is not None:
        _scale(panel.set_yscale, np.unique(values.values[result.values == 0]))
    panel.set_xlabel(_label(dataset[x]))
    return gaps
