"""Compiled drivers: damped iteration, Anderson acceleration, safeguarded Newton on blocks; one verdict for all.

A driver receives kernels as first-class functions of fixed signature, so it is compiled once for all models.  Status
is returned, nothing is raised, no fastmath (under it ``isfinite(nan)`` is true).

What the verdict measures, whatever the method:

* residual: of the *undamped* map, per component relative to ``max(|x|, floor)``, see `floors`;
* error: one Newton sweep over the blocks from x; its largest move of any value, plus rounding;
* contraction: spectral radius of the undamped map, from the derived Jacobian;
* quadrature error: how far that sweep lands elsewhere with doubled nodes.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from .kernels import SIGNATURES
from .linear import solve_small, spectral_radius
from .result import Result

#: Below this size a residual is measured absolutely: for components bounded by zero (variances, responses), which have
#: no cancellation and may be small in honest units; and for overlaps of either sign, which cross zero.
POSITIVE_FLOOR, SIGNED_FLOOR = 1e-12, 1e-3
#: How often a diverging iteration may raise its damping.
MAX_RAISES = 12
#: A constraint counts as violated below minus this (absolute).
CONSTRAINT_TOLERANCE = 1e-10
EPS = float(np.finfo(float).eps)

DAMPED, ANDERSON, NEWTON = 0, 1, 2
CONVERGED, MAX_STEPS, NONFINITE = Result.CONVERGED.value, Result.MAX_STEPS.value, Result.NONFINITE.value
LEFT_DOMAIN, STALLED = Result.LEFT_DOMAIN.value, Result.STALLED.value
QUADRATURE_UNRESOLVED = Result.QUADRATURE_UNRESOLVED.value

_jit = njit(cache=True, nogil=True, error_model="numpy")


@_jit
def floors(lower):
    """Size per component below which its residual is absolute."""
    out = np.empty(lower.size)
    for i in range(lower.size):
        out[i] = POSITIVE_FLOOR if lower[i] == 0.0 else SIGNED_FLOOR
    return out


@_jit
def scaled_distance(a, b, floor):
    """``max |a - b| / max(|a|, floor)``; nan if anything is not finite."""
    worst = 0.0
    for i in range(a.size):
        d = abs(a[i] - b[i]) / max(abs(a[i]), floor[i])
        if not np.isfinite(d):
            return np.nan
        worst = max(worst, d)
    return worst


@_jit
def distance(a, b, n):
    """``max |a - b|`` over the first n entries."""
    worst = 0.0
    for i in range(n):
        worst = max(worst, abs(a[i] - b[i]))
    return worst


@_jit
def outside(x, lower, upper):
    """Index of the first component out of bounds, or -1."""
    for i in range(x.size):
        if x[i] < lower[i] or x[i] > upper[i]:
            return i
    return -1


@_jit
def _newton_step(block, b, indices, x, p, table, r, j, dx):
    """Newton correction of one block into `dx`; returns whether it is finite."""
    n = indices.size
    block(b, x, p, table, r, j)
    a = np.empty((n, n))
    pull = np.empty(n)
    for k in range(n):
        dx[k] = -r[k]
        pull[k] = -x[indices[k]]  # an undetermined unknown goes to 0: the solution of least norm
        for m in range(n):
            a[k, m] = j[k * n + m]
    solve_small(a, dx[:n], pull)
    for k in range(n):
        if not np.isfinite(dx[k]):
            return False
    return True


@_jit
def sweep(block, offsets, members, x, p, table, r, j, y):
    """One Newton step per block in order, from x into y; returns whether y is finite."""
    y[:] = x
    dx = np.empty(x.size)
    fine = True
    for b in range(offsets.size - 1):
        indices = members[offsets[b] : offsets[b + 1]]
        fine = _newton_step(block, b, indices, y, p, table, r, j, dx) and fine
        for k in range(indices.size):
            y[indices[k]] += dx[k]
    return fine


@_jit
def contraction_of(block, offsets, members, is_free, x, p, table, r, j):
    """Spectral radius of the undamped map at x: the largest over its blocks, free order parameters eliminated."""
    worst = 0.0
    for b in range(offsets.size - 1):
        indices = members[offsets[b] : offsets[b + 1]]
        n = indices.size
        block(b, x, p, table, r, j)
        tied = np.empty(n, dtype=np.int64)
        free = np.empty(n, dtype=np.int64)
        n_tied, n_free = 0, 0
        for k in range(n):
            if is_free[indices[k]]:
                free[n_free] = k
                n_free += 1
            else:
                tied[n_tied] = k
                n_tied += 1
        if n_tied == 0:
            continue
        a = np.empty((n_tied, n_tied))
        for k in range(n_tied):
            for m in range(n_tied):
                a[k, m] = j[tied[k] * n + tied[m]]
            a[k, k] += 1.0
        for m in range(n_tied):
            if n_free == 0:
                break
            inner = np.empty((n_free, n_free))
            column = np.empty(n_free)
            for k in range(n_free):
                column[k] = j[free[k] * n + tied[m]]
                for q in range(n_free):
                    inner[k, q] = j[free[k] * n + free[q]]
            solve_small(inner, column, np.zeros(n_free))
            for k in range(n_tied):
                for q in range(n_free):
                    a[k, m] -= j[tied[k] * n + free[q]] * column[q]
        worst = max(worst, spectral_radius(a))
    return worst


@_jit
def damped(update, x, p, table, lower, upper, damping, rtol, max_steps):
    """Damped iteration in place; returns (status, steps).

    A residual ten times the best one, or a state out of bounds, means the damped map diverges: the best state is taken
    up again with the weight of the new value halved.
    """
    floor = floors(lower)
    new, best_x = np.empty_like(x), x.copy()
    best, since, raises = np.inf, 0, 0
    for step in range(1, max_steps + 1):
        left = outside(x, lower, upper) >= 0
        update(x, p, table, new)
        residual = scaled_distance(x, new, floor)
        if not left and residual <= rtol:
            return CONVERGED, step
        if left or not residual <= 10.0 * best:
            if raises == MAX_RAISES or best == np.inf:
                return (LEFT_DOMAIN if left else NONFINITE if not np.isfinite(residual) else MAX_STEPS), step
            x[:] = best_x
            damping = 0.5 * (1.0 + damping)
            raises += 1
            update(x, p, table, new)
        elif residual < best:
            since = 0 if residual < 0.99 * best else since + 1
            best = residual
            best_x[:] = x
        else:
            since += 1
        moved = False
        for i in range(x.size):
            old = x[i]
            x[i] = damping * old + (1.0 - damping) * new[i]
            moved = moved or abs(x[i] - old) > EPS * abs(old)
        if not moved or (best < 1e-9 and since > 1000):
            return STALLED, step
    return MAX_STEPS, max_steps


@_jit
def _accelerated(trial, x_steps, f_steps, kept, newest, f, damping, scale):
    """Subtract from a damped step the part that the last `kept` steps explain (least squares in scaled residuals)."""
    depth, n = x_steps.shape
    gram, right = np.empty((kept, kept)), np.empty(kept)
    for a in range(kept):
        row = (newest - a) % depth
        s = 0.0
        for i in range(n):
            s += f_steps[row, i] * f[i] / scale[i] ** 2
        right[a] = s
        for b in range(kept):
            other = (newest - b) % depth
            s = 0.0
            for i in range(n):
                s += f_steps[row, i] * f_steps[other, i] / scale[i] ** 2
            gram[a, b] = s
    solve_small(gram, right, np.zeros(kept))
    out = trial.copy()
    for a in range(kept):
        row = (newest - a) % depth
        for i in range(n):
            out[i] -= right[a] * (x_steps[row, i] + (1.0 - damping) * f_steps[row, i])
    return out


@_jit
def anderson(update, x, p, table, lower, upper, damping, depth, rtol, max_steps):
    """Anderson acceleration in place; returns (status, steps).

    An accelerated step out of bounds is replaced by the damped one.  A residual ten times the best one restarts from the
    best state without history, with the weight of the new value halved.
    """
    n = x.size
    floor = floors(lower)
    new, old_x, f, old_f, best_x = np.empty(n), np.empty(n), np.empty(n), np.empty(n), x.copy()
    x_steps, f_steps, scale = np.zeros((depth, n)), np.zeros((depth, n)), np.empty(n)
    kept, newest, best, since, raises = 0, -1, np.inf, 0, 0
    for step in range(1, max_steps + 1):
        left = outside(x, lower, upper) >= 0
        update(x, p, table, new)
        residual = scaled_distance(x, new, floor)
        if not left and residual <= rtol:
            return CONVERGED, step
        if left or not residual <= 10.0 * best:
            if raises == MAX_RAISES or best == np.inf:
                return (LEFT_DOMAIN if left else NONFINITE if not np.isfinite(residual) else MAX_STEPS), step
            x[:] = best_x
            damping = 0.5 * (1.0 + damping)
            raises += 1
            kept, newest = 0, -1
            update(x, p, table, new)
        elif residual < best:
            since = 0 if residual < 0.99 * best else since + 1
            best = residual
            best_x[:] = x
        else:
            since += 1
        if best < 1e-9 and since > 1000:
            return STALLED, step
        for i in range(n):
            scale[i] = max(abs(x[i]), floor[i])
            f[i] = new[i] - x[i]
        if newest >= 0:
            for i in range(n):
                x_steps[newest % depth, i] = x[i] - old_x[i]
                f_steps[newest % depth, i] = f[i] - old_f[i]
            kept = min(kept + 1, depth)
        old_x[:] = x
        old_f[:] = f
        trial = x + (1.0 - damping) * f
        if kept > 0:
            better = _accelerated(trial, x_steps, f_steps, kept, newest, f, damping, scale)
            safe = outside(better, lower, upper) < 0
            for i in range(n):
                safe = safe and np.isfinite(better[i])
            if safe:
                trial = better
        newest += 1
        moved = False
        for i in range(n):
            moved = moved or abs(trial[i] - x[i]) > EPS * abs(x[i])
            x[i] = trial[i]
        if not moved:
            return STALLED, step
    return MAX_STEPS, max_steps


@_jit
def _log_step(x, r, j, indices, dx):
    """Newton correction of a block in the logarithms of its unknowns, into `dx`; returns the residual there.

    Responses and variances are positive and range over many decades.  A map that is monotone and sub-homogeneous has
    elasticities d log F / d log x that sum to less than one, so this Newton step exists everywhere and does not wander.
    nan if some F_i is not positive.
    """
    n = indices.size
    a, pull = np.empty((n, n)), np.zeros(n)
    merit = 0.0
    for k in range(n):
        value = x[indices[k]] + r[k]
        if not value > 0.0:
            return np.nan
        for m in range(n):
            jacobian = j[k * n + m] + (1.0 if k == m else 0.0)
            a[k, m] = jacobian * x[indices[m]] / value - (1.0 if k == m else 0.0)
        dx[k] = -np.log(value / x[indices[k]])
        merit = max(merit, abs(dx[k]))
    solve_small(a, dx[:n], pull)
    return merit


@_jit
def _solve_block(block, b, indices, linear, x, p, table, lower, upper, floor, max_steps, r, j):
    """Safeguarded Newton on one block in place; returns (status, evaluations).

    A linear block takes one step.  Otherwise a step that does not reduce the residual is halved a few times, and then
    replaced by a step of the map itself, which contracts where Newton wanders.
    """
    n = indices.size
    dx, base, back = np.empty(n), np.empty(n), np.empty(n)
    positive = True
    for k in range(n):
        positive = positive and lower[indices[k]] == 0.0 and upper[indices[k]] == np.inf and x[indices[k]] > 0.0
    previous, halvings = np.inf, 0
    for step in range(1, max_steps + 1):
        fine = _newton_step(block, b, indices, x, p, table, r, j, dx)
        if linear:
            for k in range(n):
                x[indices[k]] += dx[k]
            return (CONVERGED if fine else NONFINITE), step
        merit = 0.0
        for k in range(n):
            merit = max(merit, abs(r[k]) / max(abs(x[indices[k]]), floor[indices[k]]))
        if positive:
            merit = _log_step(x, r, j, indices, dx)
        size = 0.0
        for k in range(n):
            size = max(size, abs(dx[k]) / (1.0 if positive else max(abs(x[indices[k]]), floor[indices[k]])))
        bad = not (np.isfinite(merit) and np.isfinite(size))
        if bad and step == 1:
            return NONFINITE, step
        if bad or (merit >= previous and size > 1e-9):
            halvings += 1
            for k in range(n):
                dx[k] = 0.5 * (x[indices[k]] - base[k]) if halvings <= 4 else back[k]
                x[indices[k]] = base[k] + dx[k]
            if halvings > 4:
                if bad and halvings > 5:
                    return NONFINITE, step
                previous = np.inf
            continue
        previous, halvings = merit, 0
        for k in range(n):
            i = indices[k]
            base[k], back[k] = x[i], r[k]
            if positive:
                x[i] *= np.exp(min(max(dx[k], -5.0), 5.0))
                continue
            x[i] += dx[k]
            if x[i] < lower[i]:
                x[i] = 0.5 * (base[k] + lower[i])
            if x[i] > upper[i]:
                x[i] = 0.5 * (base[k] + upper[i])
        # A Newton step this small leaves an error of its square.
        if size <= 1e-8:
            return CONVERGED, step
    return MAX_STEPS, max_steps


@_jit
def newton(update, block, offsets, members, linear, x, p, table, lower, upper, rtol, max_steps, r, j):
    """Block by block in order, then again only if the whole map says so; returns (status, evaluations)."""
    new, floor = np.empty_like(x), floors(lower)
    steps, previous = 0, np.inf
    while True:
        for b in range(offsets.size - 1):
            indices = members[offsets[b] : offsets[b + 1]]
            status, used = _solve_block(
                block, b, indices, linear[b], x, p, table, lower, upper, floor, max_steps - steps, r, j
            )
            steps += used
            if status != CONVERGED:
                return status, steps
        update(x, p, table, new)
        residual = scaled_distance(x, new, floor)
        if not np.isfinite(residual):
            return NONFINITE, steps
        if residual <= rtol:
            return CONVERGED, steps
        if residual > 0.5 * previous:
            return STALLED, steps
        if steps >= max_steps:
            return MAX_STEPS, steps
        previous = residual


_i8, _f8, _b1 = types.int64, types.float64, types.boolean
_ints, _flags, _floats = types.int64[::1], types.boolean[::1], types.float64[::1]
_kernels = [types.FunctionType(SIGNATURES[k]) for k in ("tabulate", "update", "block", "observe")]
_packed_rules = types.Array(types.float64, 1, "C", readonly=True)
BATCH_SIGNATURE = types.void(
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
    _i8,  # number of outputs
    _i8,  # number of constraints
    _i8,  # method
    _floats,  # rtol, quadrature_rtol, max_steps, damping, depth
    types.int64[:, ::1],  # out: result, steps, level, violated
    types.float64[:, ::1],  # out: residual, contraction, error, quadrature_error
    types.float64[:, ::1],  # out: values
)


def _solve_batch(
    tabulate, update, block, observe, points, start, rules, rule_offsets, table_offsets, table_mask, offsets, members,
    linear, is_free, lower, upper, n_out, n_con, method, options, codes, measures, values,
):  # fmt: skip
    """Solve every row of `points` from the same start, independently of each other."""
    n = start.size
    rtol, quadrature_rtol, max_steps = options[0], options[1], int(options[2])
    levels = rule_offsets.size - 2
    tables = np.empty(table_offsets[-1])
    built = np.zeros(levels + 1, dtype=np.bool_)
    r, j = np.empty(n), np.empty(n * n)
    new, y, y_fine, floor = np.empty(n), np.empty(n), np.empty(n), floors(lower)
    o, o_near, o_fine = np.empty(n_out + n_con), np.empty(n_out + n_con), np.empty(n_out + n_con)
    for i in range(points.shape[0]):
        p = points[i]
        for k in range(p.size):
            if i > 0 and table_mask[k] and p[k] != points[i - 1, k]:
                built[:] = False
        x = start.copy()
        status, steps, violated, level = MAX_STEPS, 0, -1, 0
        measures[i, :] = np.nan
        for level in range(levels):
            for k in range(level, level + 2):
                if not built[k]:
                    tabulate(
                        p, rules[rule_offsets[k] : rule_offsets[k + 1]], tables[table_offsets[k] : table_offsets[k + 1]]
                    )
                    built[k] = True
            table = tables[table_offsets[level] : table_offsets[level + 1]]
            fine = tables[table_offsets[level + 1] : table_offsets[level + 2]]
            if method == DAMPED:
                status, used = damped(update, x, p, table, lower, upper, options[3], rtol, max_steps)
            elif method == ANDERSON:
                status, used = anderson(
                    update, x, p, table, lower, upper, options[3], int(options[4]), rtol, max_steps
                )
            else:
                status, used = newton(
                    update, block, offsets, members, linear, x, p, table, lower, upper, rtol, max_steps, r, j
                )
            steps += used
            # ------------------------------------------------ the verdict, the same for every method
            update(x, p, table, new)
            residual = scaled_distance(x, new, floor)
            observe(x, p, table, o)
            for k in range(n_out + n_con):
                if not np.isfinite(o[k]):
                    residual = np.nan
            measures[i, 0] = residual
            if not np.isfinite(residual):
                status = NONFINITE
                break
            contraction = contraction_of(block, offsets, members, is_free, x, p, table, r, j)
            measures[i, 1] = contraction
            sweep(block, offsets, members, x, p, table, r, j, y)
            observe(y, p, table, o_near)
            size = 1.0
            for k in range(n):
                size = max(size, abs(x[k]))
            for k in range(n_out):
                size = max(size, abs(o[k]))
            rounding = 8.0 * EPS * size * (1.0 + (1.0 / (1.0 - contraction) if contraction < 1.0 else 0.0))
            measures[i, 2] = max(distance(x, y, n), distance(o, o_near, n_out)) + rounding
            if status == CONVERGED and residual > rtol:
                status = STALLED
            if status != CONVERGED:
                break
            violated = outside(x, lower, upper)
            for k in range(n_con):
                if violated < 0 and o[n_out + k] < -CONSTRAINT_TOLERANCE:
                    violated = n + k
            if violated >= 0:
                status = LEFT_DOMAIN
                break
            sweep(block, offsets, members, x, p, fine, r, j, y_fine)
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


_compiled = None


def solve_batch(*arguments):
    """The compiled batch driver; compiled (or fetched) on first use, so that importing stays quick."""
    global _compiled
    if _compiled is None:
        _compiled = njit(BATCH_SIGNATURE, cache=True, nogil=True, error_model="numpy")(_solve_batch)
    _compiled(*arguments)
