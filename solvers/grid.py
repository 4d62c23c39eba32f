"""Grids: named axes of parameter values, and the parameter vectors of any part of them.

Knows nothing about solving or storing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np

from .problem import ParameterError, Problem


class Grid:
    """Every combination of the values on named axes.

    Parameters
    ----------
    **axes : sequence of float
        Values by parameter name, in the order of the file's dimensions (the last varies fastest).
        Infinite values are allowed here; the problem decides whether they are in range.

    Raises
    ------
    ParameterError
        Naming the axis that is empty, not one-dimensional, not numeric, or has a value twice.

    Examples
    --------
    >>> Grid(alpha=[0.5, 1.0, 2.0], reg=[0.1, 1.0]).shape
    (3, 2)
    """

    def __init__(self, **axes: Sequence[float] | np.ndarray) -> None:
        if not axes:
            raise ParameterError("a grid needs at least one axis")
        self.axes = {name: _axis(name, values) for name, values in axes.items()}

    @classmethod
    def without_axes(cls) -> Grid:
        """One point."""
        grid = cls.__new__(cls)
        grid.axes = {}
        return grid

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(values) for values in self.axes.values())

    @property
    def size(self) -> int:
        return prod(self.shape)

    def __repr__(self) -> str:
        return f"Grid({', '.join(f'{name}: {len(values)}' for name, values in self.axes.items())})"

    def points(self, problem: Problem, fixed: Mapping[str, object]) -> GridPoints:
        """Check every value on every axis, and every fixed parameter, before any work is done.

        Raises
        ------
        ParameterError
            One line, naming the parameter and its value, its range or the known names.
        """
        for name in fixed:
            if name in self.axes:
                raise ParameterError(f"{problem.name}: parameter {name} is both an axis of the grid and fixed")
        base = problem.point({**fixed, **{name: values[0] for name, values in self.axes.items()}})
        for name, values in self.axes.items():
            quantity = problem.parameter(name)
            for value in values:
                quantity.check(value, problem.name)
        first = {name: values[0] for name, values in self.axes.items()}
        joint = [name for name in self.names if name in problem.joint_parameters]
        for combination in product(*(self.axes[name] for name in joint)) if joint else ():
            problem.point({**fixed, **first, **dict(zip(joint, combination, strict=True))})
        order = [q.name for q in problem.parameters]
        return GridPoints(
            self,
            {name: float(base[i]) for i, name in enumerate(order) if name not in self.axes},
            base,
            tuple(order.index(name) for name in self.names),
        )


@dataclass(frozen=True)
class GridPoints:
    """Checked parameter vectors of a grid, made piece by piece.

    Attributes
    ----------
    grid : Grid
    fixed : dict of str to float
        Every parameter that is not an axis, defaults included.
    base : ndarray, shape (len(problem.parameters),)
        Parameter vector in the problem's order; the entries of the axes are placeholders.
    columns : tuple of int
        Where each axis of the grid sits in that vector.
    """

    grid: Grid
    fixed: dict[str, float]
    base: np.ndarray
    columns: tuple[int, ...]

    def vectors(self, slab: tuple[slice, ...], order: Sequence[int]) -> np.ndarray:
        """Parameter vectors of a hyperslab.

        Parameters
        ----------
        slab : tuple of slice
            One slice per axis of the grid.
        order : sequence of int
            The axes from the slowest to the fastest varying.

        Returns
        -------
        ndarray, shape (number of points, len(base)), float64, C-contiguous
        """
        values = [axis[part] for axis, part in zip(self.grid.axes.values(), slab, strict=True)]
        mesh = np.meshgrid(*(values[i] for i in order), indexing="ij")
        out = np.tile(self.base, (mesh[0].size, 1))
        for i, coordinate in zip(order, mesh, strict=True):
            out[:, self.columns[i]] = coordinate.ravel()
        return out


def _axis(name: str, values: Sequence[float] | np.ndarray) -> np.ndarray:
    try:
        axis = np.array(values, dtype=float)
    except (TypeError, ValueError):
        raise ParameterError(f"grid axis {name} is not a list of numbers: {values!r}") from None
    if axis.ndim != 1:
        raise ParameterError(f"grid axis {name} must be one-dimensional, not of shape {axis.shape}")
    if not axis.size:
        raise ParameterError(f"grid axis {name} has no values")
    if np.isnan(axis).any():
        raise ParameterError(f"grid axis {name} has nan at position {int(np.isnan(axis).argmax())}")
    distinct, counts = np.unique(axis, return_counts=True)
    if distinct.size < axis.size:
        raise ParameterError(f"grid axis {name} has the value {distinct[counts > 1][0]:g} more than once")
    axis.setflags(write=False)
    return axis
