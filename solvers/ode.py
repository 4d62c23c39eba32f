"""Jitted integrators: Dormand-Prince 8(5,3) for flows, and plain repetition for maps.

Steps never depend on the times asked for: inside the step that passes a wanted time, a shorter step of its own is taken to
it, and forgotten.  So a trajectory has the same numbers whichever of its times are wanted, and all with the accuracy of the
steps, which the usual interpolation between steps (one order less) does not have.  Integrators take the vector field as a
first-class function and are compiled once.

References
----------
.. [1] E. Hairer, S. P. Norsett, G. Wanner, Solving Ordinary Differential Equations I, sections II.5 and II.6.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, types
from scipy.integrate import DOP853

from .kernels import SIGNATURES
from .result import Result

CONVERGED, MAX_STEPS, NONFINITE = Result.CONVERGED.value, Result.MAX_STEPS.value, Result.NONFINITE.value

_f1 = types.float64[::1]
#: field, start, parameters, data, table, times (ascending), rtol, atol, max_steps, states (out) -> code, steps
INTEGRATE_SIGNATURE = types.UniTuple(types.int64, 2)(
    types.FunctionType(SIGNATURES["field"]),
    *[_f1] * 5,
    types.float64,
    types.float64,
    types.int64,
    types.float64[:, ::1],
)

# Public coefficient tables of scipy's own implementation: 12 stages, and the slope at the end for the error.
STAGES = DOP853.n_stages
_A, _B, _C = np.array(DOP853.A[:STAGES, :STAGES]), np.array(DOP853.B), np.array(DOP853.C[:STAGES])
_E3, _E5 = np.array(DOP853.E3), np.array(DOP853.E5)
SAFETY, LEAST_FACTOR, MOST_FACTOR = 0.9, 0.2, 10.0
#: A step this small relative to time is rounding.
LEAST_STEP = 1e-15

_jit = njit(error_model="numpy")


@_jit
def _scaled_norm(v, x, y, rtol, atol):
    """Largest component of v in units of the tolerance; nan if there is one.

    Not the root mean square: a few global components must not hide among hundreds of modes.
    """
    largest = 0.0
    for i in range(v.size):
        e = abs(v[i]) / (atol + rtol * max(abs(x[i]), abs(y[i])))
        if math.isnan(e):
            return e
        largest = max(largest, e)
    return largest


@_jit
def _combine(k, row, count, step, x, out):
    """out = x + step * sum_j row[j] k[j]."""
    for i in range(x.size):
        out[i] = 0.0
    for j in range(count):
        if row[j] != 0.0:
            a = step * row[j]
            for i in range(x.size):
                out[i] += a * k[j, i]
    for i in range(x.size):
        out[i] += x[i]


@_jit
def _first_step(x, slope, rtol, atol):
    """About a hundredth of the time in which the state changes by its size or by the tolerance's."""
    size, speed = _scaled_norm(x, x, x, rtol, atol), _scaled_norm(slope, x, x, rtol, atol)
    if not speed > 1e-10:
        return 1e-6
    return max(1e-6, 0.01 * size / speed) if size > 1e-5 else 1e-6


@_jit
def _walk(field, t, step, x, p, data, table, k, trial, y):
    """One step from x at t to y; k[0] is the slope at its start, the other stages are made here."""
    for j in range(1, STAGES):
        _combine(k, _A[j], j, step, x, trial)
        field(t + _C[j] * step, trial, p, data, table, k[j])
    _combine(k, _B, STAGES, step, x, y)


def _flow(field, start, p, data, table, times, rtol, atol, max_steps, states):
    """Integrate from time 0 to the last of the times."""
    n = start.size
    states[:, :] = np.nan
    k, aside = np.empty((STAGES + 1, n)), np.empty((STAGES + 1, n))
    x, y, trial = start.copy(), np.empty(n), np.empty(n)
    e5, e3 = np.empty(n), np.empty(n)
    wanted = 0
    while wanted < times.size and times[wanted] <= 0.0:
        for i in range(n):
            states[wanted, i] = x[i]
        wanted += 1
    t, steps = 0.0, 0
    field(t, x, p, data, table, k[0])
    step = _first_step(x, k[0], rtol, atol)
    while wanted < times.size:
        if steps >= max_steps:
            return MAX_STEPS, steps
        if not step > LEAST_STEP * t:
            return NONFINITE, steps
        steps += 1
        _walk(field, t, step, x, p, data, table, k, trial, y)
        field(t + step, y, p, data, table, k[STAGES])
        for i in range(n):
            e5[i] = 0.0
            e3[i] = 0.0
        for j in range(STAGES + 1):
            for i in range(n):
                e5[i] += _E5[j] * k[j, i]
                e3[i] += _E3[j] * k[j, i]
        five, three = _scaled_norm(e5, x, y, rtol, atol), _scaled_norm(e3, x, y, rtol, atol)
        mixed = math.sqrt(five * five + 0.01 * three * three)
        error = step * five * five / mixed if mixed > 0.0 else 0.0
        if not math.isfinite(mixed):
            step *= LEAST_FACTOR  # overflow inside the step: try a smaller one
            if not step > 1e-300:
                return NONFINITE, steps
            continue
        if error >= 1.0:
            step *= max(LEAST_FACTOR, SAFETY * error ** (-0.125))
            continue
        while wanted < times.size and times[wanted] <= t + step:
            for i in range(n):
                aside[0, i] = k[0, i]
            _walk(field, t, times[wanted] - t, x, p, data, table, aside, trial, states[wanted])
            wanted += 1
        t += step
        for i in range(n):
            x[i] = y[i]
            k[0, i] = k[STAGES, i]
        step *= MOST_FACTOR if error == 0.0 else min(MOST_FACTOR, max(LEAST_FACTOR, SAFETY * error ** (-0.125)))
    return CONVERGED, steps


def _map(field, start, p, data, table, times, rtol, atol, max_steps, states):
    """Repeat the map; times are whole numbers of steps."""
    n = start.size
    states[:, :] = np.nan
    x, y = start.copy(), np.empty(n)
    wanted, steps = 0, 0
    while wanted < times.size:
        if times[wanted] <= steps:
            for i in range(n):
                states[wanted, i] = x[i]
            wanted += 1
            continue
        if steps >= max_steps:
            return MAX_STEPS, steps
        field(float(steps), x, p, data, table, y)
        steps += 1
        for i in range(n):
            if not math.isfinite(y[i]):
                return NONFINITE, steps
            x[i] = y[i]
    return CONVERGED, steps


INTEGRATORS = {"flow": _flow, "map": _map}
