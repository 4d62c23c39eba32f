"""The driver of trajectories: formulas in time, ordinary differential equations and maps, all with one verdict.

Rows of points that differ in time only are one trajectory: prepared once, integrated once.  Steps of the integrator do not
depend on the times asked for, so the numbers do not depend on how rows are split over calls.

What the verdict measures:

* error: change of the values when the integrator's tolerance is thirty times smaller (or as small as rounding allows),
  plus rounding;
* residual: the same, relative (absolute below 1); a point has converged if it is at most ``rtol``;
* quadrature error: change when the nodes of the spectrum are doubled.

A formula is evaluated, not integrated: its error is rounding alone and its residual is zero.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import njit, types

from .kernels import SIGNATURES, entry_points, library_digest
from .methods import Method
from .ode import INTEGRATE_SIGNATURE, INTEGRATORS
from .problem import TIME, TrajectoryProblem
from .result import Result

CONVERGED, STALLED, NONFINITE = Result.CONVERGED.value, Result.STALLED.value, Result.NONFINITE.value
QUADRATURE_UNRESOLVED = Result.QUADRATURE_UNRESOLVED.value
#: Tolerance of the integrator relative to ``rtol``: coarse, and fine.
COARSE, FINE = 3e-3, 1e-4
#: Below this tolerance steps are lost in rounding.
LEAST_TOLERANCE = 3e-14
#: Rounding of an evaluated formula: allowance relative to the value, and to the largest value of the point.
ROUNDING, CANCELLATION = 2e-13, 2e-15

_f1 = types.float64[::1]
_i1 = types.int64[::1]
TRAJECTORY_SIGNATURE = types.void(
    types.FunctionType(SIGNATURES["prepare"]),
    types.FunctionType(SIGNATURES["start"]),
    types.FunctionType(SIGNATURES["field"]),
    types.FunctionType(SIGNATURES["report"]),
    types.FunctionType(INTEGRATE_SIGNATURE),
    types.float64[:, ::1],  # points
    types.int64,  # which parameter is time
    _f1,  # data
    _i1,  # scalars, state, state per node, 1 if integrated, 1 if there is a spectrum
    _i1,  # nodes by level
    _f1,  # rtol, quadrature_rtol, max_steps
    types.int64[:, ::1],  # out: result, steps, level
    types.float64[:, ::1],  # out: residual, error, quadrature error
    types.float64[:, ::1],  # out: values
)


def _run_trajectories(
    prepare, start, field, report, integrate, points, time, data, sizes, nodes, options, codes, measures, values
):
    """Evaluate every row of `points`."""
    if sizes[3] == 0 and sizes[4] == 0:
        _formulas(prepare, report, points, time, data, sizes[0], codes, measures, values)
        return
    first = 0
    while first < points.shape[0]:
        last = first + 1
        while last < points.shape[0] and _same(points[first], points[last], time):
            last += 1
        _one_trajectory(
            prepare, start, field, report, integrate, points[first:last], time, data, sizes, nodes, options,
            codes[first:last], measures[first:last], values[first:last],
        )  # fmt: skip
        first = last


@njit(error_model="numpy")
def _same(a, b, time):
    for k in range(a.size):
        if k != time and a[k] != b[k]:
            return False
    return True


@njit(error_model="numpy")
def _formulas(prepare, report, points, time, data, scalars, codes, measures, values):
    """Rows that need neither integrator nor nodes: nothing is allocated or sorted."""
    table, nothing = np.empty(scalars), np.empty(0)
    for i in range(points.shape[0]):
        if i == 0 or not _same(points[i - 1], points[i], time):
            prepare(points[i], data, table)
        report(points[i, time], nothing, points[i], data, table, values[i])
        codes[i, 0], codes[i, 1], codes[i, 2] = CONVERGED, 0, 0
        measures[i, 0], measures[i, 1], measures[i, 2] = 0.0, _rounding(values[i]), 0.0
        if np.isnan(measures[i, 1]):
            codes[i, 0] = NONFINITE


@njit(error_model="numpy")
def _one_trajectory(
    prepare, start, field, report, integrate, points, time, data, sizes, nodes, options, codes, measures, values
):
    rtol, quadrature_rtol, max_steps = options[0], options[1], int(options[2])
    integrated, spectral = sizes[3] == 1, sizes[4] == 1
    n_times, n_out = values.shape
    order = np.argsort(points[:, time])
    times = points[:, time][order]
    coarse, fine, doubled = np.empty((n_times, n_out)), np.empty((n_times, n_out)), np.empty((n_times, n_out))
    status = np.zeros(n_times, dtype=np.int64)
    done = np.zeros(n_times, dtype=np.bool_)
    levels = nodes.size - 1 if spectral else 1
    tight = max(FINE * rtol, LEAST_TOLERANCE)
    steps = 0
    for level in range(levels):
        loose = max(COARSE * rtol, 10.0 * LEAST_TOLERANCE)
        if integrated:
            steps += _evaluate(
                prepare, start, field, report, integrate, points[0], times, data, sizes, nodes[level], loose, max_steps,
                status, coarse,
            )  # fmt: skip
        steps += _evaluate(
            prepare, start, field, report, integrate, points[0], times, data, sizes, nodes[level], tight, max_steps,
            status, fine,
        )  # fmt: skip
        if spectral:
            steps += _evaluate(
                prepare, start, field, report, integrate, points[0], times, data, sizes, nodes[level + 1], tight,
                max_steps, status, doubled,
            )  # fmt: skip
        for i in range(n_times):
            k = order[i]
            if done[i]:  # with fewer nodes; a time must not care about the needs of others
                continue
            done[i] = True
            for j in range(n_out):
                values[k, j] = doubled[i, j] if spectral else fine[i, j]
            residual, error = _distance(coarse[i], fine[i]) if integrated else (0.0, 0.0)
            moved, quadrature_error = _distance(fine[i], doubled[i]) if spectral else (0.0, 0.0)
            if sizes[5] == 1:  # steps that both tolerances allow hide their error from the comparison, not from the tolerance
                error += 3.0 * tight * _largest(values[k])
            codes[k, 0], codes[k, 1], codes[k, 2] = status[i], steps, level
            measures[k, 0], measures[k, 1], measures[k, 2] = residual, error + _rounding(values[k]), quadrature_error
            if codes[k, 0] == CONVERGED:
                if np.isnan(measures[k, 1] + residual + moved):
                    codes[k, 0] = NONFINITE
                elif not residual <= rtol:
                    codes[k, 0] = STALLED
                elif not moved <= quadrature_rtol:
                    codes[k, 0] = QUADRATURE_UNRESOLVED
                    done[i] = False
        if done.all():
            break


@njit(error_model="numpy")
def _evaluate(
    prepare, start, field, report, integrate, p, times, data, sizes, nodes, tolerance, max_steps, status, values
):
    """Outputs at ascending times; statuses that are not CONVERGED are noted, and their values are nan."""
    rows = nodes + 1 if sizes[4] == 1 else 0
    table = np.empty(sizes[0] + 2 * rows)
    prepare(p, data, table)
    n = sizes[1] + rows * sizes[2]
    states = np.zeros((times.size, n))
    steps = 0
    if sizes[3] == 1:
        x = np.empty(n)
        start(p, data, table, x)
        code, steps = integrate(field, x, p, data, table, times, tolerance, tolerance, max_steps, states)
        for i in range(times.size):
            if code != CONVERGED and not np.all(np.isfinite(states[i])):
                status[i] = code
    for i in range(times.size):
        report(times[i], states[i], p, data, table, values[i])
        for j in range(values.shape[1]):
            if status[i] != CONVERGED:
                values[i, j] = np.nan
            elif np.isnan(values[i, j]) or (sizes[3] == 1 and not np.isfinite(values[i, j])):
                status[i] = NONFINITE  # a formula may be infinite, in the limit of time or of a logarithm
    return steps


@njit(error_model="numpy")
def _distance(a, b):
    """Largest relative (absolute below 1) and largest absolute difference; nan if there is one."""
    relative, absolute = 0.0, 0.0
    for j in range(a.size):
        d = 0.0 if a[j] == b[j] else abs(a[j] - b[j])
        if not np.isfinite(d):
            return np.nan, np.nan
        absolute = max(absolute, d)
        relative = max(relative, d / max(abs(b[j]), 1.0))
    return relative, absolute


@njit(error_model="numpy")
def _largest(values):
    """The largest finite size of a value, at least 1."""
    largest = 1.0
    for j in range(values.size):
        if np.isfinite(values[j]):
            largest = max(largest, abs(values[j]))
    return largest


@njit(error_model="numpy")
def _rounding(values):
    largest = 0.0
    for j in range(values.size):
        if np.isnan(values[j]):
            return np.nan
        if np.isfinite(values[j]):
            largest = max(largest, abs(values[j]))
    return ROUNDING * largest + CANCELLATION


@cache
def _compiled(kind):
    """The driver, or the integrator of a kind of problem: compiled or fetched from disk on first use."""
    driver = (_run_trajectories, TRAJECTORY_SIGNATURE)
    function, signature = driver if kind == "driver" else (INTEGRATORS[kind], INTEGRATE_SIGNATURE)
    # The name keys Numba's cache, which does not notice a changed callee by itself.
    function.__qualname__ = f"{kind}_{library_digest('trajectory', 'ode', 'result')}"
    return njit(signature, cache=True, nogil=True, error_model="numpy")(function)


def trajectory_points(problem: TrajectoryProblem, points: np.ndarray, method: Method):
    """Codes (result, steps, level), measures (residual, error, quadrature error), values and node counts of every row.

    Parameters
    ----------
    problem : TrajectoryProblem
    points : ndarray, shape (n, number of parameters), float64
        Checked rows.  Rows that differ in time only should be neighbours: they are integrated together.
    method : Method

    Returns
    -------
    codes : ndarray of int64, shape (n, 3)
    measures : ndarray, shape (n, 3)
    values : ndarray, shape (n, problem.values.size)
    nodes : ndarray of int64
        Nodes per average, by level.
    """
    entries = entry_points(problem)
    nodes = np.array([method.nodes * 2**k for k in range(method.levels + 2)], dtype=np.int64)
    codes = np.zeros((len(points), 3), dtype=np.int64)
    measures = np.empty((len(points), 3))
    values = np.empty((len(points), problem.values.size))
    kind = "map" if problem.kind == "map" else "flow"
    sizes = [problem.scalars, problem.state, problem.state_per_node, problem.kind != "closed", problem.spectrum,
             problem.kind == "flow"]  # fmt: skip
    columns = [np.ascontiguousarray(c, dtype=float) for c in problem.data]
    _compiled("driver")(
        entries["prepare"],
        entries["start"],
        entries["field"],
        entries["report"],
        _compiled(kind),
        np.ascontiguousarray(points, dtype=float),
        [q.name for q in problem.parameters].index(TIME),
        np.concatenate(columns) if columns else np.zeros(0),
        np.array(sizes, dtype=np.int64),
        nodes,
        np.array([method.rtol, method.quadrature_rtol, float(method.max_steps)]),
        codes,
        measures,
        values,
    )
    return codes, measures, values, nodes
