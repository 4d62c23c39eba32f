"""Early stopping: the time at which a trajectory has its smallest test error, and that error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from solvers import ConvergenceError, ParameterError, solve_trajectory
from solvers.problem import as_problem


@dataclass(frozen=True)
class Stopping:
    """Where to stop.

    Attributes
    ----------
    time, value : float
        Best time, and the observable there.
    last : float
        The observable at the longest time looked at.
    at_end : bool
        The best time is the longest one: nothing is gained by stopping.
    """

    time: float
    value: float
    last: float
    at_end: bool


def early_stopping(
    model: Any, *, observable: str = "test_error", longest: float = 1e4, points: int = 200, **parameters: Any
) -> Stopping:
    """Smallest value of an observable along a trajectory.

    Parameters
    ----------
    model : dynamic model or TrajectoryProblem
    observable : str
    longest : float
        Times between a millionth of this and this are looked at, evenly in their logarithm, and time 0.
    points : int
        How many; the best one is refined to a relative 1e-6 between its neighbours, so a second dip that is narrower than
        their distance can be missed.
    **parameters : float
        Of the model, without time.

    Raises
    ------
    ParameterError
        For a bad parameter, an unknown observable, or a range of times that is not one.
    ConvergenceError
        If a time did not converge.
    """
    problem = as_problem(model)
    if observable not in problem.values.names:
        raise ParameterError(f"{problem.name}: no observable {observable!r}; they are {', '.join(problem.values.names)}")
    if not (np.isfinite(longest) and longest > 0) or points < 3:
        raise ParameterError(f"longest = {longest:g} must be positive and finite, and points = {points} at least 3")

    def values(times: Any) -> np.ndarray:
        trajectory = solve_trajectory(problem, times, **parameters)
        if not trajectory.converged:
            bad = times[int(np.argmax(trajectory.result != 0))]
            raise ConvergenceError(f"{problem.name}: time {bad:g} did not converge; try a smaller longest time")
        return trajectory[observable]

    times = np.concatenate([[0.0], np.geomspace(1e-6 * longest, longest, points)])
    found = values(times)
    best = int(np.argmin(found))
    if best in (0, points):
        return Stopping(float(times[best]), float(found[best]), float(found[-1]), best == points)
    low, high = (float(np.log(times[k])) if times[k] > 0 else float(np.log(times[1])) - 1.0 for k in (best - 1, best + 1))
    refined = minimize_scalar(
        lambda x: float(values(np.array([np.exp(x)]))[0]), bounds=(low, high), method="bounded", options={"xatol": 1e-6}
    )
    return Stopping(float(np.exp(refined.x)), float(refined.fun), float(found[-1]), False)
