"""The batch driver: many independent points, tables shared between neighbours, one verdict for every method.

What the verdict measures, whatever the method:

* residual: of the *undamped* map, per component relative to ``max(|x|, floor)`` with the floor the model declares, after
  subtracting what roundings of the map's input do to it;
* error: one Newton sweep over the blocks from x; its largest move of any value, plus rounding (that of quadrature weights
  included, some 1e-14 of the largest value);
* contraction: spectral radius of the undamped map, from the derived Jacobian;
* quadrature error: how far that sweep lands elsewhere with doubled nodes.

Kernels come in as first-class functions of fixed signature, so this is compiled once for all models.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import njit, types

from .iteration import (
    CONVERGED,
    EPS,
    LEFT_DOMAIN,
    MAX_STEPS,
    NONFINITE,
    STALLED,
    copy,
    distance,
    outside,
    scaled_distance,
    true_residual,
)
from .kernels import SIGNATURES, library_digest
from .newton import RUNNERS, WORK_ROWS, sweep
from .result import Result

#: Options of a method, in the order in which the driver gets them; 0 for those a method does not have.
OPTIONS = ("rtol", "quadrature_rtol", "max_steps", "damping", "depth")
QUADRATURE_UNRESOLVED = Result.QUADRATURE_UNRESOLVED.value
#: Size of the Newton step at a solution (relative, absolute below 1) from which on it is not determined at all.
UNDETERMINED = 1e-2
#: A constraint counts as violated below minus this (absolute).
CONSTRAINT_TOLERANCE = 1e-10

_i8 = types.int64
_ints, _flags, _floats = types.int64[::1], types.boolean[::1], types.float64[::1]
_kernels = [types.FunctionType(SIGNATURES[k]) for k in ("tabulate", "update", "block", "observe")]
_packed_rules = types.Array(types.float64, 1, "C", readonly=True)
_work = types.Tuple([types.float64[:, ::1], types.float64[:, ::1], _ints])
METHOD_SIGNATURE = types.UniTuple(types.int64, 2)(
    _kernels[1], _kernels[2], _ints, _ints, _flags, _flags, *[_floats] * 6, _ints, *[_floats] * 3, _work
)
BATCH_SIGNATURE = types.void(
    types.FunctionType(METHOD_SIGNATURE),
    *_kernels,
    types.float64[:, ::1],  # points
    _floats,  # start
    _packed_rules,  # rules of all levels, one after the other
    _ints,  # their offsets
    _ints,  # offsets of the tables of all levels
    _flags,  # which parameters the table depends on
    _ints,  # block offsets
    _ints,  # block members
    _flags,  # block is linear
    _flags,  # unknown is free
    _floats,  # lower
    _floats,  # upper
    _floats,  # floor: size below which a residual is absolute
    _ints,  # of every unknown, the one whose square it exceeds (-1: none); then the parameters that divide the squares
    _i8,  # number of outputs
    _i8,  # number of constraints
    _floats,  # rtol, quadrature_rtol, max_steps, damping, depth
    types.int64[:, ::1],  # out: result, steps, level, violated
    types.float64[:, ::1],  # out: residual, contraction, error, quadrature_error
    types.float64[:, ::1],  # out: values
)


def _solve_batch(
    method, tabulate, update, block, observe, points, start, rules, rule_offsets, table_offsets, table_mask, offsets, members,
    linear, is_free, lower, upper, floor, below, n_out, n_con, options, codes, measures, values,
):  # fmt: skip
    """Solve every row of `points` from the same start, independently of each other."""
    n = start.size
    rtol, quadrature_rtol = options[0], options[1]
    levels = rule_offsets.size - 2
    tables = np.empty(table_offsets[-1])
    built = np.zeros(levels + 1, dtype=np.bool_)
    r, j, ones, x = np.empty(n), np.empty(n * n), np.empty(n), np.empty(n)
    work = (np.empty((n, n)), np.empty((WORK_ROWS, n)), np.empty(n, dtype=np.int64))
    for k in range(n):
        ones[k] = 1.0
    new, y, y_fine = np.empty(n), np.empty(n), np.empty(n)
    o, o_near, o_fine = np.empty(n_out + n_con), np.empty(n_out + n_con), np.empty(n_out + n_con)
    for i in range(points.shape[0]):
        p = points[i]
        for k in range(p.size):
            if i > 0 and table_mask[k] and p[k] != points[i - 1, k]:
                for level in range(levels + 1):
                    built[level] = False
        copy(x, start)
        status, steps, violated, level = MAX_STEPS, 0, -1, 0
        for k in range(4):
            measures[i, k] = np.nan
        for level in range(levels):
            for k in range(level, level + 2):
                if not built[k]:
                    tabulate(
                        p, rules[rule_offsets[k] : rule_offsets[k + 1]], tables[table_offsets[k] : table_offsets[k + 1]]
                    )
                    built[k] = True
            table = tables[table_offsets[level] : table_offsets[level + 1]]
            fine = tables[table_offsets[level + 1] : table_offsets[level + 2]]
            status, used = method(
                update, block, offsets, members, linear, is_free, x, p, table, lower, upper, floor, below, options, r, j, work
            )
            steps += used
            # ------------------------------------------------ the verdict, the same for every method
            residual = true_residual(update, x, p, table, floor, rtol, new)
            observe(x, p, table, o)
            for k in range(n_out + n_con):
                if not np.isfinite(o[k]):
                    residual = np.nan
            measures[i, 0] = residual
            if not np.isfinite(residual):
                status = NONFINITE
                break
            contraction = sweep(block, offsets, members, is_free, x, p, table, r, j, y, work)
            measures[i, 1] = contraction
            observe(y, p, table, o_near)
            size = 1.0
            for k in range(n):
                size = max(size, abs(x[k]))
            for k in range(n_out):
                size = max(size, abs(o[k]))
            rounding = 64.0 * EPS * size * (1.0 + (1.0 / (1.0 - contraction) if contraction < 1.0 else 0.0))
            measures[i, 2] = max(distance(x, y, n), distance(o, o_near, n_out)) + rounding
            if status == CONVERGED and residual > rtol:
                status = STALLED
            # A Newton step as large as the solution itself: nothing pins the solution down, it lies at infinity.
            if status == CONVERGED and not scaled_distance(x, y, ones) < UNDETERMINED:
                status = NONFINITE
            if status == CONVERGED or status == LEFT_DOMAIN:
                violated = outside(x, lower, upper)
            if status != CONVERGED:
                break
            for k in range(n_con):
                if violated < 0 and o[n_out + k] < -CONSTRAINT_TOLERANCE:
                    violated = n + k
            if violated >= 0:
                status = LEFT_DOMAIN
                break
            sweep(block, offsets, members, is_free, x, p, fine, r, j, y_fine, work)
            observe(y_fine, p, fine, o_fine)
            moved = max(distance(y, y_fine, n), distance(o_near, o_fine, n_out))
            relative = 0.0
            for k in range(n):
                relative = max(relative, abs(y[k] - y_fine[k]) / max(abs(x[k]), 1.0))
            for k in range(n_out):
                relative = max(relative, abs(o_near[k] - o_fine[k]) / max(abs(o[k]), 1.0))
            measures[i, 3] = moved if np.isfinite(relative) else np.nan
            if relative <= quadrature_rtol:
                break
            status = QUADRATURE_UNRESOLVED
        codes[i, 0], codes[i, 1], codes[i, 2], codes[i, 3] = status, steps, level, violated
        for k in range(n):
            values[i, k] = x[k]
        for k in range(n_out):
            values[i, n + k] = o[k]


@cache
def _compiled(name):
    """A driver, compiled or fetched from disk on first use, so that importing stays quick and unused methods cost nothing.

    The name keys Numba's cache, which does not notice a changed callee by itself.
    """
    function, signature = (_solve_batch, BATCH_SIGNATURE) if name == "batch" else (RUNNERS[name], METHOD_SIGNATURE)
    function.__qualname__ = f"{name}_{library_digest('batch', 'iteration', 'newton', 'linear', 'result')}"
    return njit(signature, cache=True, nogil=True, error_model="numpy")(function)


def solve_batch(method, *arguments):
    """Run the batch driver with a method, by name."""
    _compiled("batch")(_compiled(method), *arguments)
