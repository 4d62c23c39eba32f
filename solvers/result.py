"""Outcomes of a solve: one integer per point, one sentence per integer.

The codes are stored as int8 in files and returned by compiled drivers; `message` says what happened
and what to try next.  Nothing else in the package invents a status of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np


class Result(IntEnum):
    """What became of one point."""

    PENDING = -1
    CONVERGED = 0
    MAX_STEPS = 1
    NONFINITE = 2
    LEFT_DOMAIN = 3
    STALLED = 4
    QUADRATURE_UNRESOLVED = 5
    ERROR = 6

    @property
    def message(self) -> str:
        """One sentence: the cause, and what to try."""
        return _MESSAGES[self]


_MESSAGES = {
    Result.PENDING: "not computed yet; run the scan again to resume",
    Result.CONVERGED: "converged: residual of the undamped map, bounds and quadrature are within tolerance",
    Result.MAX_STEPS: "residual still above rtol after max_steps; raise max_steps, or try method newton or anderson",
    Result.NONFINITE: "the map or its solution is not finite; the parameters may be a singular limit "
    "(reg = 0 at interpolation, say), so move off it",
    Result.LEFT_DOMAIN: "the point violates a bound or a physical constraint of the model; try another start, "
    "or method damped with larger damping",
    Result.STALLED: "steps are at rounding level but the residual is above rtol; rtol is below what double precision allows here",
    Result.QUADRATURE_UNRESOLVED: "converged, but doubling the quadrature nodes moves the solution by more than "
    "quadrature_rtol; raise max_nodes",
    Result.ERROR: "an exception was raised while computing this point; the log has the traceback",
}


def tally(counts: Mapping[Result, int]) -> str:
    """Numbers of points by outcome, in one line."""
    return ", ".join(f"{count} {code.name}" for code, count in counts.items())


class ConvergenceError(RuntimeError):
    """Raised by ``solve(..., throw=True)`` when the point did not converge."""


@dataclass(frozen=True)
class Solution:
    """One solved point.

    Attributes
    ----------
    model : str
        Name of the model.
    parameters : dict of str to float
    values : dict of str to float or ndarray
        Every order parameter, conjugate and observable by name.
    result : Result
    steps : int
        Iterations of the method (all nodes levels together).
    residual : float
        Of the undamped map F: ``max_i |F_i(x) - x_i| / max(|x_i|, floor)``, with the floor of each
        order parameter, 1e-3 unless the model says otherwise; what roundings of x do to F is subtracted first.
    contraction : float
        Spectral radius of the undamped map's derived Jacobian at the solution; 1 at a transition.
    error : float
        Estimate of the largest absolute iteration error over order parameters, conjugates and observables.
    quadrature_error : float
        The same for the quadrature: the move of the solution when the nodes are doubled.
    nodes : int
        Nodes per average of the quadrature rule used.
    """

    model: str
    parameters: dict[str, float]
    values: dict[str, float | np.ndarray]
    result: Result
    steps: int
    residual: float
    contraction: float
    error: float
    quadrature_error: float
    nodes: int
    constraint: str | None = field(default=None)

    def __getitem__(self, name: str) -> float | np.ndarray:
        try:
            return self.values[name]
        except KeyError:
            raise KeyError(f"{self.model} has no value {name!r}; it has {', '.join(self.values)}") from None

    @property
    def converged(self) -> bool:
        return self.result is Result.CONVERGED

    def __str__(self) -> str:
        """Every value on a line, then what became of the point."""
        return "\n".join([
            *(f"{name:<14} {value!s}" for name, value in self.values.items()),
            f"{self.result.name}: {self.steps} steps, residual {self.residual:.1e}, error {self.error:.1e}, "
            f"quadrature error {self.quadrature_error:.1e} with {self.nodes} nodes, contraction {self.contraction:.3f}",
        ])  # fmt: skip


@dataclass(frozen=True)
class Trajectory:
    """One trajectory at several times.

    Attributes
    ----------
    model : str
    parameters : dict of str to float
        All but time.
    times : ndarray, shape (times,)
    values : dict of str to ndarray
        Every observable by name, time first.
    result : ndarray of int8
        Codes of `Result` by time.
    residual, error, quadrature_error : ndarray
        As in `Solution`, by time: for an integrated trajectory residual and error are what a hundred times smaller
        tolerance changes, for a formula the error is rounding.
    """

    model: str
    parameters: dict[str, float]
    times: np.ndarray
    values: dict[str, np.ndarray]
    result: np.ndarray
    residual: np.ndarray
    error: np.ndarray
    quadrature_error: np.ndarray

    def __getitem__(self, name: str) -> np.ndarray:
        try:
            return self.values[name]
        except KeyError:
            raise KeyError(f"{self.model} has no value {name!r}; it has {', '.join(self.values)}") from None

    @property
    def converged(self) -> bool:
        """Whether all times are."""
        return bool((self.result == Result.CONVERGED).all())
