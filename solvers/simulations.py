"""Finite-size simulations beside the theory: the group ``simulation`` of a scan file.

Dimension ``point`` counts the simulated points; each has the value of every axis of the scan, and for each simulated
quantity the mean over repeats and, under ``<name>_sem``, its standard error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .store import DIAGNOSTICS, OF_SCANS, SIMULATION, StoreError, add_dimension, add_variable, described, edited_copy


def write_simulation(
    path: str | Path,
    points: Mapping[str, Sequence[float] | np.ndarray],
    means: Mapping[str, np.ndarray],
    sems: Mapping[str, np.ndarray],
    *,
    size: int,
    repeats: int,
    seed: int,
    overwrite: bool = False,
) -> None:
    """Add finite-size simulations at chosen points to a scan file.

    Parameters
    ----------
    path : path-like
    points : mapping of str to sequence of float
        Value of every axis of the scan at each of the n points; fixed parameters are those of the file.
    means, sems : mapping of str to ndarray, shape (n, *shape of the quantity)
        Mean over the repeats, and its standard error, by name of a variable of the file.
    size, repeats, seed : int
        Dimension d of the simulated problem, independent repeats per point, and the seed.
    overwrite : bool
        Replace simulations that are already there.

    Raises
    ------
    StoreError
        If there are simulations already, a scan is running, or names or shapes do not fit the file.
    """
    with edited_copy(path) as file:
        if SIMULATION in file and not overwrite:
            raise StoreError(f"{path} has simulations already; overwrite them, or leave them as they are")
        axes = json.loads(file.attrs["plan"])["axes"]
        number = _check(file, axes, points, means, sems)
        if SIMULATION in file:
            del file[SIMULATION]
        group = file.create_group(SIMULATION, track_order=True)
        group.attrs.update({"size": size, "repeats": repeats, "seed": seed})
        add_dimension(group, "point", np.arange(number), described("index of the simulated point"))
        for name, values in points.items():
            add_variable(group, name, np.asarray(values, dtype=float), [group["point"]], _description(file[name], "{}"))
        for name in means:
            theory = file[name]
            scales = [group["point"], *(theory.dims[axis][0] for axis in range(len(axes), theory.ndim))]
            for key, values, text in (
                (name, means[name], "{}, mean over simulations"),
                (f"{name}_sem", sems[name], "{}, standard error of the mean over simulations"),
            ):
                add_variable(group, key, np.asarray(values, dtype=float), scales, _description(theory, text))


def _description(variable: Any, text: str) -> dict[str, str]:
    attributes = variable.attrs
    return described(text.format(attributes["long_name"]), attributes.get("latex", ""), attributes["units"])


def _check(
    file: Any,
    axes: Sequence[str],
    points: Mapping[str, Sequence[float] | np.ndarray],
    means: Mapping[str, np.ndarray],
    sems: Mapping[str, np.ndarray],
) -> int:
    """Number of points, or StoreError if names or shapes do not fit the file."""
    if sorted(points) != sorted(axes):
        raise StoreError(f"simulated points need a value of {', '.join(axes)}; got {', '.join(points) or 'none'}")
    if sorted(means) != sorted(sems):
        raise StoreError(f"means are of {', '.join(sorted(means))}, standard errors of {', '.join(sorted(sems))}")
    number = len(points[axes[0]])
    over_grid = file["result"].shape
    known = [
        name
        for name, variable in file.items()
        if name not in (*DIAGNOSTICS, *OF_SCANS, SIMULATION, *axes) and variable.shape[: len(axes)] == over_grid
    ]
    for name in means:
        if name not in known:
            raise StoreError(f"simulations give {name!r}, which the scan does not have; it has {', '.join(known)}")
    for kind, arrays in (("value", points), ("mean", means), ("standard error", sems)):
        for name, values in arrays.items():
            wanted = (number, *(() if kind == "value" else file[name].shape[len(axes) :]))
            if np.shape(values) != wanted:
                raise StoreError(f"the {kind} of simulated {name} has shape {np.shape(values)}, expected {wanted}")
    return number
