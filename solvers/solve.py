"""`solve` one point, or `solve_points` many: checked input, compiled work, honest outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from . import batch as driver
from .evaluate import evaluate_points
from .kernels import entry_points
from .methods import Evaluate, Integrate, Ladder, Method, MethodError, make_method
from .problem import TIME, EvaluatedProblem, FixedPointProblem, ParameterError, Problem, TrajectoryProblem, as_problem
from .quadrature import rule, table_size
from .result import ConvergenceError, Result, Solution, Trajectory


@dataclass
class Batch:
    """Outcome of many independent points; arrays over points (see `Solution` for the meaning of each).

    `values` has shape (points, problem.values.size); `violated` is the position in `problem.limits` of what is violated, -1 if
    nothing is; `rung` is how many rungs of a ladder were climbed, 0 for every other method.
    """

    result: np.ndarray
    steps: np.ndarray
    residual: np.ndarray
    contraction: np.ndarray
    error: np.ndarray
    quadrature_error: np.ndarray
    nodes: np.ndarray
    violated: np.ndarray
    rung: np.ndarray
    values: np.ndarray


#: Outcomes that another way to the solution may improve; the others are solved, or ask for more than another way.
RETRIED = (Result.MAX_STEPS, Result.NONFINITE, Result.LEFT_DOMAIN, Result.STALLED)

#: Methods by the kind of problem they apply to, the default first; saddle points take all others.
SPECIAL: dict[type[Problem], type[Method]] = {TrajectoryProblem: Integrate, EvaluatedProblem: Evaluate}


def default_method(problem: Problem) -> Method:
    """What is used if no method is asked for."""
    if isinstance(problem, FixedPointProblem):
        return make_method(problem.method)
    return SPECIAL[type(problem)]()


def check_method(problem: Problem, method: Method) -> None:
    """Raise MethodError unless the method solves this kind of problem."""
    wanted = SPECIAL.get(type(problem))
    if not isinstance(method, wanted) if wanted else isinstance(method, tuple(SPECIAL.values())):
        names = wanted.name if wanted else "ladder, newton, anderson or damped"
        raise MethodError(f"{problem.name}: method {method.name} does not apply to this model; use {names}")


def solve_points(
    problem: Problem, points: np.ndarray, method: Method, start: np.ndarray | None = None
) -> Batch:
    """Solve every row of `points`, each from the same cold start, whatever its neighbours.

    Parameters
    ----------
    problem : Problem
    points : ndarray, shape (n, number of parameters), float64
        Checked rows, as `Problem.point` makes them.  Averages that need only `problem.table_parameters` are
        recomputed when one of those changes from row to row, so let those vary slowest.
    method : Method
    start : ndarray, shape (number of unknowns,), optional
        Starting values; the model's own if left out.

    Returns
    -------
    Batch

    Notes
    -----
    Releases the GIL; bit-identical however the rows are split over calls.
    """
    points = np.ascontiguousarray(points, dtype=float)
    check_method(problem, method)
    if isinstance(problem, TrajectoryProblem):
        return _trajectories(problem, points, method)
    if isinstance(problem, EvaluatedProblem):
        return _evaluated(problem, points, method)
    if isinstance(method, Ladder):
        return _climb(problem, points, method, start)
    assert isinstance(problem, FixedPointProblem)
    entries = entry_points(problem)
    n_points, levels = len(points), method.levels + 1
    nodes = [method.nodes * 2**k for k in range(levels + 1)]
    rules = [rule(n) for n in nodes]
    table_sizes = [table_size(problem.table, n) for n in nodes]
    packed = np.concatenate(rules)
    packed.setflags(write=False)
    x0 = problem.unknowns.broadcast("start") if start is None else np.asarray(start, dtype=float)
    codes = np.empty((n_points, 4), dtype=np.int64)
    measures = np.empty((n_points, 4))
    values = np.empty((n_points, problem.values.size))
    driver.solve_batch(
        method.name,
        entries["tabulate"],
        entries["update"],
        entries["block"],
        entries["observe"],
        points,
        x0,
        packed,
        _offsets([r.size for r in rules]),
        _offsets(table_sizes),
        np.array([q.name in problem.table_parameters for q in problem.parameters]),
        _offsets([len(b.indices) for b in problem.blocks]),
        np.array([i for b in problem.blocks for i in b.indices], dtype=np.int64),
        np.array([b.linear for b in problem.blocks]),
        np.array([i in problem.free for i in range(problem.unknowns.size)]),
        problem.unknowns.broadcast("lower"),
        problem.unknowns.broadcast("upper"),
        problem.unknowns.broadcast("floor"),
        _below(problem),
        problem.outputs.size,
        len(problem.constraints),
        np.array([float(method.options().get(name, 0)) for name in driver.OPTIONS]),
        codes,
        measures,
        values,
    )
    return Batch(
        result=codes[:, 0].astype(np.int8),
        steps=codes[:, 1].astype(np.int32),
        residual=measures[:, 0].copy(),
        contraction=measures[:, 1].copy(),
        error=measures[:, 2].copy(),
        quadrature_error=measures[:, 3].copy(),
        nodes=np.array(nodes, dtype=np.int32)[codes[:, 2]],
        violated=codes[:, 3].astype(np.int32),
        rung=np.zeros(n_points, dtype=np.int8),
        values=values,
    )


def _climb(problem: Problem, points: np.ndarray, ladder: Ladder, start: np.ndarray | None) -> Batch:
    first, *others = ladder.rungs
    batch = solve_points(problem, points, first, start)
    for rung, method in enumerate(others, 1):
        failed = np.flatnonzero(np.isin(batch.result, RETRIED))
        if not failed.size:
            break
        again = solve_points(problem, points[failed], method, start)
        better = ~np.isin(again.result, RETRIED)
        for field in fields(batch):
            getattr(batch, field.name)[failed[better]] = getattr(again, field.name)[better]
        batch.rung[failed] = rung
    return batch


def _trajectories(problem: TrajectoryProblem, points: np.ndarray, method: Method) -> Batch:
    from .trajectory import trajectory_points  # compiles other drivers; saddle points do without

    codes, measures, values, nodes = trajectory_points(problem, points, method)
    return Batch(
        result=codes[:, 0].astype(np.int8),
        steps=codes[:, 1].astype(np.int32),
        residual=measures[:, 0].copy(),
        contraction=np.zeros(len(points)),  # what is evaluated or integrated depends on no iterate
        error=measures[:, 1].copy(),
        quadrature_error=measures[:, 2].copy(),
        nodes=nodes[codes[:, 2]].astype(np.int32) * problem.spectrum,
        violated=np.full(len(points), -1, dtype=np.int32),
        rung=np.zeros(len(points), dtype=np.int8),
        values=values,
    )


def _evaluated(problem: EvaluatedProblem, points: np.ndarray, method: Method) -> Batch:
    codes, measures, values = evaluate_points(problem, points, method)
    return Batch(
        result=codes[:, 0].astype(np.int8),
        steps=np.zeros(len(points), dtype=np.int32),
        residual=np.where(codes[:, 0] == Result.NONFINITE, np.nan, 0.0),
        contraction=np.zeros(len(points)),
        error=measures[:, 0].copy(),
        quadrature_error=measures[:, 1].copy(),
        nodes=codes[:, 1].astype(np.int32),
        violated=np.full(len(points), -1, dtype=np.int32),
        rung=np.zeros(len(points), dtype=np.int8),
        values=values,
    )


def solve(
    problem: Any,
    *,
    method: Method | None = None,
    start: Mapping[str, Any] | None = None,
    throw: bool = False,
    **parameters: float,
) -> Solution:
    """Solve one point.

    Parameters
    ----------
    problem : Problem or model
    method : Method, optional
        `default_method(problem)` if left out.
    start : mapping of order parameter to value, optional
        Starting values; those not named start at the model's own.
    throw : bool
        Raise instead of returning a solution that did not converge.
    **parameters : float
        The model's parameters by name.

    Returns
    -------
    Solution

    Raises
    ------
    ParameterError
        Bad parameter or start: names the value, the allowed range and the known names.
    ConvergenceError
        With ``throw=True``, if the point did not converge.
    """
    problem = as_problem(problem)
    method = method or default_method(problem)
    check_method(problem, method)
    point = problem.point(parameters)
    first = _start(problem, start or {}) if isinstance(problem, FixedPointProblem) else None
    batch = solve_points(problem, point[None, :], method, first)
    unpacked = problem.values.unpack(batch.values[0])
    violated = int(batch.violated[0])
    solution = Solution(
        model=problem.name,
        parameters=dict(zip([q.name for q in problem.parameters], point.tolist(), strict=True)),
        values={name: v if v.shape else float(v) for name, v in unpacked.items()},
        result=Result(int(batch.result[0])),
        steps=int(batch.steps[0]),
        residual=float(batch.residual[0]),
        contraction=float(batch.contraction[0]),
        error=float(batch.error[0]),
        quadrature_error=float(batch.quadrature_error[0]),
        nodes=int(batch.nodes[0]),
        constraint=problem.limits[violated] if violated >= 0 else None,
    )
    if throw and not solution.converged:
        raise ConvergenceError(describe(solution))
    return solution


def solve_trajectory(
    problem: Any, times: Sequence[float] | np.ndarray, *, method: Method | None = None, **parameters: float
) -> Trajectory:
    """One trajectory at several times.

    Parameters
    ----------
    problem : TrajectoryProblem or dynamic model
    times : array_like, shape (times,)
        In any order; inf only where the model allows it.
    method : Integrate, optional
    **parameters : float
        The model's parameters by name, without time.

    Raises
    ------
    ParameterError
        For a bad parameter or time, or a problem that does not move in time.
    """
    problem = as_problem(problem)
    if not isinstance(problem, TrajectoryProblem):
        raise ParameterError(f"{problem.name}: does not move in time: solve it without times")
    if TIME in parameters:
        raise ParameterError(f"{problem.name}: give times as an array, not {TIME} as a parameter")
    wanted = np.asarray(times, dtype=float)
    if wanted.ndim != 1 or not wanted.size:
        raise ParameterError(f"{problem.name}: times must be a list of numbers, not of shape {wanted.shape}")
    points = np.array([problem.point({**parameters, TIME: t}) for t in wanted])
    batch = solve_points(problem, points, method or default_method(problem))
    named = zip([q.name for q in problem.parameters], points[0].tolist(), strict=True)
    return Trajectory(
        model=problem.name,
        parameters={name: value for name, value in named if name != TIME},
        times=wanted,
        values=problem.values.unpack(batch.values),
        result=batch.result,
        residual=batch.residual,
        error=batch.error,
        quadrature_error=batch.quadrature_error,
    )


def describe(solution: Solution) -> str:
    """One line: what happened, with the values, and what to try."""
    where = ", ".join(f"{k}={v:g}" for k, v in solution.parameters.items())
    which = f" ({solution.constraint})" if solution.constraint else ""
    return (
        f"{solution.model}: {solution.result.name}{which} after {solution.steps} steps, residual {solution.residual:.1e}, "
        f"quadrature error {solution.quadrature_error:.1e}, at {where}: {solution.result.message}"
    )


def _start(problem: FixedPointProblem, given: Mapping[str, Any]) -> np.ndarray:
    names = problem.unknowns.names
    for name in given:
        if name not in names:
            raise ParameterError(f"{problem.name}: no order parameter {name!r} to start; they are {', '.join(names)}")
    unknowns = problem.unknowns
    own = unknowns.unpack(unknowns.broadcast("start"))
    out = unknowns.pack(
        {q.name: np.broadcast_to(np.asarray(given.get(q.name, own[q.name]), dtype=float), q.shape) for q in unknowns.quantities}
    )
    inside = (unknowns.broadcast("lower") <= out) & (out <= unknowns.broadcast("upper")) & np.isfinite(out)
    for i in np.flatnonzero(~inside):
        name = unknowns.component_names[i]
        text = next(q.range_text for q in unknowns.quantities if q.name == name.partition("[")[0])
        raise ParameterError(f"{problem.name}: start {name} = {out[i]:g} is outside its range {text}")
    return out


def _below(problem: FixedPointProblem) -> np.ndarray:
    """Roots of the squares that unknowns exceed, then the parameters that divide them; -1 for none."""
    n = problem.unknowns.size
    out = np.full(2 * n, -1, dtype=np.int64)
    for unknown, root, parameter in problem.squares:
        out[unknown], out[n + unknown] = root, parameter
    return out


def _offsets(sizes: list[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
