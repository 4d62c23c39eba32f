"""What stands in scan files: the netCDF-4 data model over an open HDF5 file, and the diagnostics that every point has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .plan import Plan
from .result import Result

# name: (type, fill value, long name)
DIAGNOSTICS: dict[str, tuple[str, float, str]] = {
    "result": ("i1", Result.PENDING.value, "what became of the point"),
    "steps": ("i4", 0, "iterations of the method"),
    "nodes": ("i4", 0, "quadrature nodes per average"),
    "residual": ("f8", np.nan, "residual of the undamped map, scaled per component"),
    "contraction": ("f8", np.nan, "spectral radius of the undamped map at the solution"),
    "error": ("f8", np.nan, "estimated iteration error of the values"),
    "quadrature_error": ("f8", np.nan, "move of the solution when the quadrature nodes are doubled"),
}
# The same, for scans only.  Files of earlier versions do without.
OF_SCANS: dict[str, tuple[str, float, str]] = {
    "rung": ("i1", -1, "method that the point needed, or the last one tried"),
    "violated": ("i4", -1, "bound or constraint that is violated: position in the attribute limits; -1: none"),
}


def add_axes(group: Any, plan: Plan) -> None:
    """Add the coordinates of a plan's grid, and its fixed parameters."""
    for name, values in plan.grid.axes.items():
        q = plan.problem.parameter(name)
        add_dimension(group, name, values, described(q.long_name, q.latex, q.units))
    for name, value in plan.fixed.items():
        q = plan.problem.parameter(name)
        add_variable(group, name, np.array(value), (), described(q.long_name, q.latex, q.units))


def add_variable(
    group: Any, name: str, values: np.ndarray, scales: Sequence[Any], attributes: Mapping[str, Any]
) -> None:
    """Add a variable to a group; its dimensions are those of `scales`."""
    data = group.create_dataset(name, data=values)
    data.attrs.update(attributes)
    for axis, scale in enumerate(scales):
        data.dims[axis].attach_scale(scale)


def add_dimension(group: Any, name: str, values: np.ndarray, attributes: Mapping[str, str]) -> None:
    """Add a dimension with its coordinates to a group."""
    add_variable(group, name, values, (), attributes)
    group[name].make_scale(name)


def described(long_name: str, latex: str = "", units: str = "1") -> dict[str, Any]:
    """Attributes of a variable."""
    return {"long_name": long_name, "units": units, **({"latex": latex} if latex else {})}


def flags(meanings: Sequence[str], values: Iterable[int]) -> dict[str, Any]:
    """Attributes of a variable of codes."""
    return {"flag_values": np.array(list(values), dtype="i1"), "flag_meanings": " ".join(meanings)}
