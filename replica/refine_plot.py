"""Figures of adaptive scans: a curve with its points, or a map over two parameters with the points it is made of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from .plotting import Dataset, PlotError, _figure, _label, checked_output, save


def plot_refined(dataset: Dataset, output: str | Path, y: str | None = None, *, title: str | None = None) -> Path:
    """Draw what `replica refine` found; points that did not converge are left out of the curve or map and drawn as crosses.

    Parameters
    ----------
    dataset : xarray.Dataset
        From `results.open_results`.
    output, title
        As for `plotting.plot_curve`.
    y : str, optional
        Scalar variable to draw; the refined one if left out.

    Raises
    ------
    PlotError
        If there is no such variable, too few points converged, or the file cannot be written.
    """
    output = checked_output(output)
    task = json.loads(dataset.attrs["refine"])
    names, y = list(task["ranges"]), y or task["refine"]
    known = [str(name) for name, v in dataset.items() if v.dims == dataset.result.dims and v.dtype.kind == "f"]
    if y not in known:
        raise PlotError(f"unknown variable {y!r}; the file has {', '.join(known)}")
    values = dataset[y].values
    good = (dataset["result"].values == 0) & np.isfinite(values)
    if good.sum() < 3:
        raise PlotError(f"only {int(good.sum())} points converged, too few to draw")
    at = [dataset[name].values for name in names]
    figure, (panel,) = _figure(dataset, title, {})
    if len(names) == 1:
        panel.plot(at[0], np.where(good, values, np.nan), ".-", markersize=4, linewidth=1)
        panel.plot(at[0][~good], np.full((~good).sum(), 0.02), "x", color="0.4", transform=panel.get_xaxis_transform())
        panel.set_ylabel(_label(dataset[y]))
    else:
        # On the scale of the refinement: triangles are those the points were chosen by.
        x = [np.log10(v) if name in task["logarithmic"] else v for name, v in zip(names, at, strict=True)]
        mesh = panel.tripcolor(x[0][good], x[1][good], values[good], shading="gouraud", cmap="viridis", rasterized=True)
        panel.plot(x[0][good], x[1][good], ".", color="w", markersize=2)
        panel.plot(x[0][~good], x[1][~good], "x", color="r", markersize=4)
        panel.set_ylabel(_named(dataset, names[1], task))
        figure.colorbar(mesh, ax=panel, label=_label(dataset[y]))
    panel.set_xlabel(_named(dataset, names[0], task) if len(names) == 2 else _label(dataset[names[0]]))
    if len(names) == 1 and task["logarithmic"]:
        panel.set_xscale("log")
    return save(figure, output)


def _named(dataset: Dataset, name: str, task: dict) -> str:
    return f"log10 of {_label(dataset[name])}" if name in task["logarithmic"] else _label(dataset[name])
