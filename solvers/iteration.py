"""Compiled methods: damped iteration and Anderson acceleration; and the residual that all methods are judged by.

Each works on one point in place and returns a status and a count; what counts as solved is decided in `batch`, the same
way for all.  Nothing is raised, no fastmath (under it ``isfinite(nan)`` is true).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .linear import solve_small
from .result import Result

#: Residuals below this fluctuate; above it, ten times the best one, or no better one for a while, means divergence.
DIVERGED = 1e-3
#: Growing overshoots in a row that make the damped iteration raise its damping.
OVERSHOOTS = 4
#: How often a diverging iteration may raise its damping.
MAX_RAISES = 12
#: Steps without progress after which divergence, or rounding, is looked for.
PATIENCE = 40
EPS = float(np.finfo(float).eps)

CONVERGED, MAX_STEPS, NONFINITE = Result.CONVERGED.value, Result.MAX_STEPS.value, Result.NONFINITE.value
LEFT_DOMAIN, STALLED = Result.LEFT_DOMAIN.value, Result.STALLED.value

# Not cached one by one: Numba would not notice when a function they call changes.  `batch` caches the whole.
_jit = njit(nogil=True, error_model="numpy")


@_jit
def scaled_distance(a, b, floor):
    """``max |a - b| / max(min(|a|, |b|), floor)``; nan if anything is not finite.

    The smaller of the two: a state that has run away is far from its image, not close to it.
    """
    worst = 0.0
    for i in range(a.size):
        d = abs(a[i] - b[i]) / max(min(abs(a[i]), abs(b[i])), floor[i])
        if not np.isfinite(d):
            return np.nan
        worst = max(worst, d)
    return worst


@_jit
def rounding_of(update, x, p, table, noise):
    """How far roundings of its input move each component of F, times a safety factor, into `noise`.

    Where an equation is a difference of large terms, F is known no better than this.
    """
    n = x.size
    here, there, nudged = np.empty(n), np.empty(n), np.empty(n)
    update(x, p, table, here)
    for i in range(n):
        noise[i] = 0.0
    for k in range(2):
        for i in range(n):
            nudged[i] = x[i] * (1.0 + (2.0 * EPS if (i + k) % 2 else -2.0 * EPS))
        update(nudged, p, table, there)
        for i in range(n):
            noise[i] = max(noise[i], 16.0 * abs(there[i] - here[i]))


@_jit
def true_residual(update, x, p, table, floor, rtol, new):
    """Residual of the undamped map; F(x) is left in `new`.

    If it is above rtol, what rounding does to F (see `rounding_of`) is subtracted from every component first.
    """
    update(x, p, table, new)
    worst = scaled_distance(x, new, floor)
    if worst <= rtol or not np.isfinite(worst):
        return worst
    noise = np.empty_like(x)
    rounding_of(update, x, p, table, noise)
    worst = 0.0
    for i in range(x.size):
        beyond = max(abs(new[i] - x[i]) - noise[i], 0.0)
        worst = max(worst, beyond / max(min(abs(x[i]), abs(new[i])), floor[i]))
    return worst


@_jit
def copy(target, source):
    """target <- source, elementwise."""
    for i in range(source.size):
        target[i] = source[i]


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
def damped(update, x, p, table, lower, upper, floor, damping, rtol, max_steps):
    """Damped iteration in place; returns (status, steps).

    If some component overshoots with growing amplitude `OVERSHOOTS` times in a row, its slope is too negative for this
    damping: the weight of the new value is halved, for good.  A component that a step would carry over a bound goes half-way
    to it, unless that has happened `PATIENCE` times in a row: then the map itself leads out.
    """
    n = x.size
    new, f, count = np.empty(n), np.zeros(n), np.zeros(n, dtype=np.int64)
    best, since, raises, holds = np.inf, 0, 0, 0
    for step in range(1, max_steps + 1):
        update(x, p, table, new)
        residual = scaled_distance(x, new, floor)
        if not np.isfinite(residual):
            return NONFINITE, step
        if residual <= rtol:
            return CONVERGED, step
        since += 1
        if residual < 0.99 * best:
            best, since = residual, 0
        if since == PATIENCE and true_residual(update, x, p, table, floor, rtol, new) <= rtol:
            return CONVERGED, step
        moved, overshoots, held = False, False, False
        for i in range(n):
            ahead = new[i] - x[i]
            count[i] = count[i] + 1 if ahead * f[i] < 0.0 and abs(ahead) > abs(f[i]) else 0
            overshoots = overshoots or count[i] >= OVERSHOOTS
            f[i] = ahead
            moved = moved or abs((1.0 - damping) * ahead) > EPS * abs(x[i])
            step_to = damping * x[i] + (1.0 - damping) * new[i]
            if lower[i] <= x[i] <= upper[i] and not lower[i] <= step_to <= upper[i]:
                held = True
                if holds < PATIENCE:
                    step_to = 0.5 * (x[i] + (lower[i] if step_to < lower[i] else upper[i]))
            x[i] = step_to
        holds = holds + 1 if held else 0
        if overshoots and residual > DIVERGED and raises < MAX_RAISES:
            damping = 0.5 * (1.0 + damping)
            raises += 1
            for i in range(n):
                count[i] = 0
        if outside(x, lower, upper) >= 0:
            return LEFT_DOMAIN, step
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
    out = np.empty(n)
    copy(out, trial)
    for a in range(kept):
        row = (newest - a) % depth
        for i in range(n):
            out[i] -= right[a] * (x_steps[row, i] + (1.0 - damping) * f_steps[row, i])
    return out


@_jit
def anderson(update, x, p, table, lower, upper, floor, damping, depth, rtol, max_steps):
    """Anderson acceleration in place; returns (status, steps).

    An accelerated step out of bounds is replaced by the damped one.  A residual ten times the best one, no better one for
    a while, or a state out of bounds restarts from the best state without history; if that state is the one of the restart
    before, nothing was gained since, and the weight of the new value is halved.
    """
    n = x.size
    new, old_x, f, old_f, best_x = np.empty(n), np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    trial = np.empty(n)
    copy(best_x, x)
    x_steps, f_steps, scale = np.zeros((depth, n)), np.zeros((depth, n)), np.empty(n)
    kept, newest, best, since, raises, before = 0, -1, np.inf, 0, 0, np.inf
    for step in range(1, max_steps + 1):
        left = outside(x, lower, upper) >= 0
        update(x, p, table, new)
        residual = scaled_distance(x, new, floor)
        if not left and residual <= rtol:
            return CONVERGED, step
        since += 1
        if left or not residual <= max(10.0 * best, DIVERGED) or (residual > DIVERGED and since >= PATIENCE):
            if best == np.inf or (raises == MAX_RAISES and (left or not np.isfinite(residual))):
                return (LEFT_DOMAIN if left else NONFINITE), step
            if raises < MAX_RAISES:
                copy(x, best_x)
                if best >= before:
                    damping = 0.5 * (1.0 + damping)
                    raises += 1
                before = best
                kept, newest, since = 0, -1, 0
                update(x, p, table, new)
        elif residual < 0.99 * best:
            best, since = residual, 0
            copy(best_x, x)
        if since == PATIENCE and true_residual(update, x, p, table, floor, rtol, new) <= rtol:
            return CONVERGED, step
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
        copy(old_x, x)
        copy(old_f, f)
        for i in range(n):
            trial[i] = x[i] + (1.0 - damping) * f[i]
        if kept > 0:
            better = _accelerated(trial, x_steps, f_steps, kept, newest, f, damping, scale)
            safe = outside(better, lower, upper) < 0
            for i in range(n):
                safe = safe and np.isfinite(better[i])
            if safe:
                copy(trial, better)
        newest += 1
        moved = False
        for i in range(n):
            moved = moved or abs(trial[i] - x[i]) > EPS * abs(x[i])
            x[i] = trial[i]
        if not moved:
            return STALLED, step
    return MAX_STEPS, max_steps
