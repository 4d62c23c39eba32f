"""Finite-size simulations beside the theory: the group ``simulation`` of a scan file.

Dimension ``point`` counts the simulated points; each has the value of every axis of the scan, and for each simulated
quantity the mean over repeats and, under ``<name>_sem``, its standard error.  With several sizes these are what the sizes give
for infinite size, and ``<name>_by_size`` and ``<name>_by_size_sem`` have the dimension ``size``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .layout import DIAGNOSTICS, OF_SCANS, add_dimension, add_variable, described
from .store import SIMULATION, StoreError, edited_copy


class BySize(NamedTuple):
    """Simulations at several sizes: `sizes`, and by quantity means and standard errors of shape (n, sizes, *quantity)."""

    sizes: Sequence[int]
    means: Mapping[str, np.ndarray]
    sems: Mapping[str, np.ndarray]


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
    append: bool = False,
    by_size: BySize | None = None,
) -> None:
    """Add finite-size simulations at chosen points to a scan file.

    Parameters
    ----------
    path : path-like
    points : mapping of str to sequence of float
        Value of every axis of the scan at each of the n points; fixed parameters are those of the file.
    means, sems : mapping of str to ndarray, shape (n, *shape of the quantity)
        Mean over the repeats, and its standard error, by name of a variable of the file; with `by_size`, what follows from
        all sizes for infinite size.
    size, repeats, seed : int
        Dimension d of the simulated problem (the largest, if there are several), independent repeats per point, and the seed.
    overwrite : bool
        Replace simulations that are already there.
    append : bool
        Put the points behind those that are there, which must have the same sizes, repeats, seed and quantities.
    by_size : BySize, optional
        The simulations that `means` was extrapolated from.

    Raises
    ------
    StoreError
        If there are simulations already, a scan is running, or names or shapes do not fit the file.
    """
    about = {"size": size, "repeats": repeats, "seed": seed}
    with edited_copy(path) as file:
        if SIMULATION in file and not (overwrite or append):
            raise StoreError(f"{path} has simulations already; overwrite them, or leave them as they are")
        axes = json.loads(file.attrs["plan"])["axes"]
        _check(file, axes, points, means, sems)
        arrays: dict[str, Any] = {**points, **means, **{f"{name}_sem": sem for name, sem in sems.items()}}
        if by_size:
            arrays |= {f"{name}_by_size": values for name, values in by_size.means.items()}
            arrays |= {f"{name}_by_size_sem": values for name, values in by_size.sems.items()}
        if append and not overwrite and SIMULATION in file:
            arrays = _joined(path, file[SIMULATION], about, by_size, arrays)
        if SIMULATION in file:
            del file[SIMULATION]
        group = file.create_group(SIMULATION, track_order=True)
        group.attrs.update(about)
        add_dimension(group, "point", np.arange(len(arrays[axes[0]])), described("index of the simulated point"))
        if by_size:
            add_dimension(group, "size", np.asarray(by_size.sizes), described("size of the simulated problem"))
        for name in axes:
            add_variable(group, name, np.asarray(arrays[name], dtype=float), [group["point"]], _description(file[name], "{}"))
        kinds = [("", ""), *([("_by_size", " at each size")] if by_size else [])]
        for name in means:
            theory = file[name]
            index = [theory.dims[axis][0] for axis in range(len(axes), theory.ndim)]
            for suffix, where in kinds:
                scales = [group["point"], *([group["size"]] if suffix else []), *index]
                for key, text in (
                    (f"{name}{suffix}", f"{{}}, mean over simulations{where}"),
                    (f"{name}{suffix}_sem", f"{{}}, standard error of the mean over simulations{where}"),
                ):
                    add_variable(group, key, np.asarray(arrays[key], dtype=float), scales, _description(theory, text))


def _joined(
    path: str | Path, group: Any, about: Mapping[str, int], by_size: BySize | None, arrays: Mapping[str, Any]
) -> dict[str, Any]:
    """The stored arrays with the new ones behind them."""
    sizes = [list(map(int, group["size"])) if "size" in group else [], list(by_size.sizes) if by_size else []]
    if sizes[0] != sizes[1] or any(int(group.attrs[name]) != value for name, value in about.items()):
        raise StoreError(f"{path} holds simulations of other sizes, repeats or seed; use the same, or overwrite them")
    if missing := set(arrays) ^ (set(group) - {"point", "size"}):
        raise StoreError(f"{path} holds simulations of other quantities ({', '.join(sorted(missing))}); overwrite them")
    return {name: np.concatenate([np.asarray(group[name]), np.asarray(new)]) for name, new in arrays.items()}


def _description(variable: Any, text: str) -> dict[str, str]:
    attributes = variable.attrs
    return described(text.format(attributes["long_name"]), attributes.get("latex", ""), attributes["units"])


def _check(
    file: Any,
    axes: Sequence[str],
    points: Mapping[str, Sequence[float] | np.ndarray],
    means: Mapping[str, np.ndarray],
    sems: Mapping[str, np.ndarray],
) -> None:
    """Raise StoreError if names or shapes do not fit the file."""
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
