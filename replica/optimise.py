"""Optimal hyper-parameters: minimise an observable over parameters, with exact derivatives.

Positive parameters are varied in their logarithm.  A coarse grid finds the valley, so that a second one is not missed as long as
the grid sees it; in one parameter the derivative is then bracketed and solved for, in several a quasi-Newton method is polished
on the gradient itself.  Where the least value lies at the end of the range, that is what is reported.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import brentq, minimize, root

from solvers import Newton, ParameterError, Solution, solve_points

from .model import Model
from .sensitivity import Differentiable, Sensitivity

#: Range of a positive parameter, if none is given.
RANGE = (1e-6, 1e4)
#: Points of the coarse grid, by number of parameters.
COARSE = {1: 41, 2: 13, 3: 7}


@dataclass(frozen=True)
class Optimum:
    """Where an observable is least.

    Attributes
    ----------
    parameters : dict
        Of the optimised parameters.
    value : float
        The observable there.
    gradient : dict
        Its exact derivatives there (in the logarithm, for positive parameters).
    status : str
        "interior", or which end of which range the least value lies at.
    solution : Solution
    skipped : int
        Points of the coarse grid that did not converge and were left out.
    """

    parameters: Mapping[str, float]
    value: float
    gradient: Mapping[str, float]
    status: str
    solution: Solution
    skipped: int


class Optimiser:
    """Minimises one observable of a model over some parameters; compiled once, used for many settings of the others.

    Parameters
    ----------
    model : Model
    over : sequence of str
        One to three parameters.
    minimise : str
        An observable or order parameter.
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
        for name in bounds or {}:
            if name not in self.over:
                raise ParameterError(f"{model.name}: a range is given for {name}, which is not optimised")
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
            As for `check`; or if no point of the coarse grid converges.
        """
        self.check(**fixed)
        axes = [np.linspace(a, b, COARSE[len(self.over)]) for a, b in self.ends]
        grid = np.array(list(itertools.product(*axes)))
        points = np.array([self.problem.point({**fixed, **self._named(u)}) for u in grid])
        batch = solve_points(self.problem, points, Newton())
        names = self.problem.values.component_names
        values = np.where(batch.result == 0, batch.values[:, names.index(self.minimise)], np.inf)
        skipped = int((batch.result != 0).sum())
        if not np.isfinite(values).any():
            raise ParameterError(f"{self.problem.name}: no point of the coarse grid over {', '.join(self.over)} converged")
        start = grid[int(np.argmin(values))]
        u = self._one(axes[0], values, fixed) if len(self.over) == 1 else self._several(start, fixed)
        found = self._at(u, fixed)
        status = "interior"
        for name, x, end in zip(self.over, u, self.ends, strict=True):
            for edge, word in zip(end, ("lower", "upper"), strict=True):
                if abs(x - edge) <= 1e-9 * (1 + abs(edge)):
                    status = f"at the {word} end of {name}"
        value = float(found.solution[self.minimise])
        if status == "interior" and not found.solution.converged:
            status = f"not converged ({found.solution.result.name})"
        gradient = dict(zip(self.over, map(float, self._slope(found)), strict=True))
        return Optimum(self._named(u), value, gradient, status, found.solution, skipped)

    def _named(self, u: Any) -> dict[str, float]:
        return {n: float(math.exp(x) if log else x) for n, x, log in zip(self.over, u, self.log, strict=True)}

    def _at(self, u: Any, fixed: Mapping[str, float]) -> Sensitivity:
        given: dict[str, Any] = {**fixed, **self._named(u)}
        return self.smooth(**given)

    def _slope(self, found: Sensitivity) -> np.ndarray:
        """Gradient in the variables of the search."""
        slopes, at = found.derivatives[self.minimise], found.solution.parameters
        return np.array([slopes[n] * (at[n] if log else 1.0) for n, log in zip(self.over, self.log, strict=True)])

    def _one(self, axis: np.ndarray, values: np.ndarray, fixed: Mapping[str, float]) -> np.ndarray:
        """The derivative changes sign next to the least value of the grid."""
        k = int(np.argmin(values))
        low, high = axis[max(k - 1, 0)], axis[min(k + 1, len(axis) - 1)]

        def slope(x: float) -> float:
            return float(self._slope(self._at([x], fixed))[0])

        if not slope(low) < 0 < slope(high):
            return np.array([axis[k]])
        return np.array([brentq(slope, low, high, xtol=1e-15, rtol=1e-14)])

    def _several(self, start: np.ndarray, fixed: Mapping[str, float]) -> np.ndarray:
        def both(u: np.ndarray) -> tuple[float, np.ndarray]:
            found = self._at(u, fixed)
            if not found.solution.converged:
                return math.inf, np.zeros(len(u))
            return float(found.solution[self.minimise]), self._slope(found)

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
