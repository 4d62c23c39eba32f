"""Optimal hyper-parameters: minimise an observable over parameters, with exact derivatives.

Positive parameters are varied in their logarithm.  A coarse grid finds the valley, so that a second one is not missed as long as
the grid sees it; in one parameter the derivative is then bracketed and solved for, in several a quasi-Newton method is polished
on the gradient itself.  Where the least value lies at the end of the range, that is what is reported.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from scipy.optimize import brentq, minimize, minimize_scalar, root

from solvers import Grid, Newton, ParameterError, solve, solve_points
from solvers.optima import STATUS, Optima, Optimum

from .model import Model
from .sensitivity import Differentiable, Sensitivity

#: Range of a positive parameter, if none is given.
RANGE = (1e-6, 1e4)
#: Points of the coarse grid, by number of parameters.
COARSE = {1: 41, 2: 13, 3: 7}
#: Points of it that are solved by one call.
CHUNK = 16
#: Slope, relative to the value, that counts as none.
FLAT = 1e-6


class Optimiser:
    """Minimises one observable of a model over some parameters; compiled once, used for many settings of the others.

    Parameters
    ----------
    model : Model
    over : sequence of str
        One to three parameters.
    minimise : str
        An observable, order parameter or conjugate; of an array one component, as ``q2[0]``.
    bounds : mapping of str to (float, float), optional
        Ranges; for positive parameters (1e-6, 1e4) if left out.

    Raises
    ------
    ParameterError
        For unknown names, or a range that is empty or outside the parameter's own.
    """

    def __init__(
        self,
        model: Model,
        over: Sequence[str],
        minimise: str = "test_error",
        bounds: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        self.over, self.minimise = tuple(over), minimise
        if len(set(self.over)) != len(self.over) or len(self.over) not in COARSE:
            raise ParameterError(f"{model.name}: optimise over one to three different parameters, not {', '.join(over)}")
        self.smooth = Differentiable(model, self.over)
        self.problem = self.smooth.problem
        if minimise not in self.smooth.names:
            raise ParameterError(f"{model.name}: cannot minimise {minimise!r}; one of {', '.join(self.smooth.names)}")
        self._quantity, _, index = minimise.partition("[")
        self._index = tuple(int(i) for i in index.rstrip("]").split(",")) if index else ()
        for name in bounds or {}:
            if name not in self.over:
                raise ParameterError(f"{model.name}: a range is given for {name}, which is not optimised")
        self.ranges: dict[str, tuple[float, float]] = {}
        self.log: list[bool] = []
        self.ends: list[tuple[float, float]] = []
        for name in self.over:
            q = self.problem.parameter(name)
            default = RANGE if q.lower == 0 else (max(q.lower, -1e2), min(q.upper, 1e2))
            low, high = (bounds or {}).get(name, (default[0], min(default[1], q.upper)))
            logarithm = q.lower == 0
            if not (q.lower <= low < high <= q.upper and math.isfinite(high) and (low > 0 or not logarithm)):
                kind = "positive, finite and " if logarithm else ""
                raise ParameterError(f"{model.name}: the range {low:g} to {high:g} of {name} must be {kind}inside {q.range_text}")
            self.ranges[name] = (float(low), float(high))
            self.log.append(logarithm)
            self.ends.append((math.log(low), math.log(high)) if logarithm else (low, high))

    def check(self, **fixed: float) -> None:
        """Raise ParameterError if one of `fixed` is unknown, missing, out of range, or optimised."""
        for name in fixed:
            if name in self.over:
                raise ParameterError(f"{self.problem.name}: {name} is optimised, so no value of it is taken")
        self.problem.point({**fixed, **self._named([low for low, _ in self.ends])})

    def __call__(self, **fixed: float) -> Optimum:
        """Minimise at given values of all other parameters.

        Raises
        ------
        ParameterError
            As for `check`.
        """
        self.check(**fixed)
        return self._find(fixed, None)

    def _find(self, fixed: Mapping[str, float], progress: Callable[[int], object] | None) -> Optimum:
        grid, values, skipped = self._coarse(fixed, progress)
        if not np.isfinite(values).any():
            at = self._named(grid[0])
            nothing = dict.fromkeys(self.over, math.nan)
            solution = solve(self.problem, method=Newton(), **{**fixed, **at})  # type: ignore[arg-type]
            code = STATUS.index("nothing_converged")
            return Optimum(nothing, math.nan, nothing, code, dict.fromkeys(self.over, 0), solution, skipped)
        u = self._one(grid[:, 0], values, fixed) if len(self.over) == 1 else self._several(grid[int(np.argmin(values))], fixed)
        found = self._at(u, fixed)
        ends = {name: self._end(x, edges) for name, x, edges in zip(self.over, u, self.ends, strict=True)}
        gradient = dict(zip(self.over, map(float, self._slope(found)), strict=True))
        value = self._value(found)
        steep = [abs(gradient[name]) > FLAT * abs(value) for name in self.over if not ends[name]]
        word = "not_converged" if not found.solution.converged else "not_stationary" if any(steep) else "interior"
        if word == "interior" and any(ends.values()):
            word = "at_an_end"
        return Optimum(self._named(u), value, gradient, STATUS.index(word), ends, found.solution, skipped)

    def curve(
        self, axes: Mapping[str, Sequence[float]], progress: Callable[[int, int], object] | None = None, **fixed: float
    ) -> Optima:
        """Optima at every combination of values on some axes, checked before any work is done.

        Parameters
        ----------
        axes : mapping of str to sequence of float
        progress : callable, optional
            Gets points of the coarse grids done so far, and their number.
        **fixed : float

        Raises
        ------
        ParameterError
            As for `check`; or for an axis that is empty or has a value twice.
        """
        grid = Grid(**axes) if axes else Grid.without_axes()
        settings = [dict(zip(grid.names, map(float, point), strict=True)) for point in itertools.product(*grid.axes.values())]
        for at in settings:
            self.check(**fixed, **at)
        each, found = COARSE[len(self.over)] ** len(self.over), []
        for k, at in enumerate(settings):

            def report(done: int, k: int = k) -> None:
                if progress is not None:
                    progress(k * each + done, len(settings) * each)

            found.append(self._find({**fixed, **at}, report))
        point = self.problem.point({**fixed, **settings[0], **self._named([low for low, _ in self.ends])})
        every = {q.name: float(x) for q, x in zip(self.problem.parameters, point, strict=True)}
        rest = {name: x for name, x in every.items() if name not in (*grid.names, *self.over)}
        return Optima(self.problem, grid.axes, rest, self.minimise, self.ranges, Newton(rtol=1e-12), found)

    def _coarse(self, fixed: Mapping[str, float], progress: Callable[[int], object] | None) -> tuple[np.ndarray, np.ndarray, int]:
        """The coarse grid, the observable on it (inf where nothing converged), and how often that was."""
        axes = [np.linspace(a, b, COARSE[len(self.over)]) for a, b in self.ends]
        grid = np.array(list(itertools.product(*axes)))
        where = self.problem.values.component_names.index(self.minimise)
        values = np.full(len(grid), np.inf)
        for start in range(0, len(grid), CHUNK):
            part = slice(start, start + CHUNK)
            points = np.array([self.problem.point({**fixed, **self._named(u)}) for u in grid[part]])
            batch = solve_points(self.problem, points, Newton())
            values[part] = np.where(batch.result == 0, batch.values[:, where], np.inf)
            if progress is not None:
                progress(min(start + CHUNK, len(grid)))
        return grid, values, int(np.isinf(values).sum())

    @staticmethod
    def _end(x: float, edges: tuple[float, float]) -> int:
        at = [abs(x - edge) <= 1e-9 * (1 + abs(edge)) for edge in edges]
        return -1 if at[0] else 1 if at[1] else 0

    def _named(self, u: Any) -> dict[str, float]:
        return {n: float(math.exp(x) if log else x) for n, x, log in zip(self.over, u, self.log, strict=True)}

    def _at(self, u: Any, fixed: Mapping[str, float]) -> Sensitivity:
        given: dict[str, Any] = {**fixed, **self._named(u)}
        return self.smooth(**given)

    def _value(self, found: Sensitivity) -> float:
        return float(np.asarray(found.solution[self._quantity])[self._index])

    def _slope(self, found: Sensitivity) -> np.ndarray:
        """Gradient in the variables of the search."""
        slopes, at = found.derivatives[self._quantity], found.solution.parameters
        own = [float(np.asarray(slopes[name])[self._index]) for name in self.over]
        return np.array([x * (at[n] if log else 1.0) for x, n, log in zip(own, self.over, self.log, strict=True)])

    def _one(self, axis: np.ndarray, values: np.ndarray, fixed: Mapping[str, float]) -> np.ndarray:
        """The derivative changes sign beside the least value of the grid, on the side that it falls to."""
        k = int(np.argmin(values))

        @cache
        def slope(x: float) -> float:
            return float(self._slope(self._at([x], fixed))[0])

        here, stay = slope(axis[k]), np.array([axis[k]])
        other = k - 1 if here > 0 else k + 1
        if here == 0 or not 0 <= other < len(axis) or not np.isfinite(slope(axis[other])):
            return stay
        low, high = sorted((axis[k], axis[other]))
        if slope(axis[other]) * here > 0:  # a valley and a hill in between: go down to the valley first
            down = minimize_scalar(lambda x: self._value(self._at([x], fixed)), bounds=(low, high), method="bounded")
            step = 1e-3 * (high - low)
            low, high = max(low, down.x - step), min(high, down.x + step)
            if not slope(low) < 0 < slope(high):
                return np.array([down.x])
        return np.array([brentq(slope, low, high, xtol=1e-15, rtol=1e-14)])

    def _several(self, start: np.ndarray, fixed: Mapping[str, float]) -> np.ndarray:
        def both(u: np.ndarray) -> tuple[float, np.ndarray]:
            found = self._at(u, fixed)
            if not found.solution.converged:
                return math.inf, np.zeros(len(u))
            return self._value(found), self._slope(found)

        near = minimize(both, start, jac=True, method="L-BFGS-B", bounds=self.ends, options={"ftol": 0, "gtol": 1e-9})
        polished = root(lambda u: self._slope(self._at(u, fixed)), near.x, tol=1e-13)
        inside = all(a <= x <= b for x, (a, b) in zip(polished.x, self.ends, strict=True))
        if inside and np.abs(polished.fun).max() < np.abs(near.jac).max() and both(polished.x)[0] <= near.fun + 1e-12:
            return np.asarray(polished.x)
        return np.asarray(near.x)


def optimise(
    model: Model,
    over: Sequence[str],
    minimise: str = "test_error",
    bounds: Mapping[str, tuple[float, float]] | None = None,
    **fixed: float,
) -> Optimum:
    """Minimise an observable at one setting of the other parameters; see `Optimiser`, which many settings should use."""
    return Optimiser(model, over, minimise, bounds)(**fixed)
