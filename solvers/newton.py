"""Compiled methods: safeguarded Newton on blocks, and the table of all methods.

Works on the residual of one block after the other, with its derived Jacobian; conventions as in `iteration`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .iteration import (
    CONVERGED,
    LEFT_DOMAIN,
    MAX_STEPS,
    NONFINITE,
    STALLED,
    anderson,
    copy,
    damped,
    outside,
    true_residual,
)
from .linear import eliminate, spectral_radius

#: Newton steps cut short at a bound before the point counts as driven out.
MAX_PRESSED = 50
#: Halvings of a Newton step that does not reduce the residual, before a step of the map is taken instead.
MAX_HALVINGS = 3
#: Damped steps of the map before the last attempt of Newton's method.
WARM_UP = 60

# Work space of the Newton methods, made once per batch: a matrix, `WORK_ROWS` rows and an index list, all for n unknowns.
WORK_ROWS = 15

# Not cached one by one, as in `iteration`.
_jit = njit(nogil=True, error_model="numpy")


@_jit
def _newton_step(x, r, j, indices, dx, work):
    """Newton correction of one block, from its residual and Jacobian, into `dx`; returns whether it is finite."""
    matrix, rows, where = work
    n = indices.size
    pull = rows[0]
    for k in range(n):
        dx[k] = -r[k]
        pull[k] = -x[indices[k]]  # an undetermined unknown goes to 0: the solution of least norm
        for m in range(n):
            matrix[k, m] = j[k * n + m]
    eliminate(n, matrix, dx, pull, where, rows[1], rows[2])
    for k in range(n):
        if not np.isfinite(dx[k]):
            return False
    return True


@_jit
def sweep(block, offsets, members, is_free, x, p, table, r, j, y, work):
    """One Newton step per block in order, from x into y.

    Returns the spectral radius of the undamped map there: the largest over its blocks, free order parameters eliminated.
    """
    copy(y, x)
    dx = work[1][3]
    worst = 0.0
    for b in range(offsets.size - 1):
        indices = members[offsets[b] : offsets[b + 1]]
        block(b, y, p, table, r, j)
        _newton_step(y, r, j, indices, dx, work)
        worst = max(worst, _block_radius(indices, is_free, j, work[0]))
        for k in range(indices.size):
            y[indices[k]] += dx[k]
    return worst


@_jit
def _block_radius(indices, is_free, j, matrix):
    """Spectral radius of one block of the map, from the Jacobian of its residual; free unknowns eliminated one by one."""
    n = indices.size
    for k in range(n):
        for m in range(n):
            matrix[k, m] = j[k * n + m]
    for f in range(n):
        if is_free[indices[f]] and matrix[f, f] != 0.0:
            for k in range(n):
                if k != f:
                    ratio = matrix[k, f] / matrix[f, f]
                    for m in range(n):
                        matrix[k, m] -= ratio * matrix[f, m]
    tied = 0
    for k in range(n):
        if is_free[indices[k]]:
            continue
        column = 0
        for m in range(n):
            if not is_free[indices[m]]:
                matrix[tied, column] = matrix[k, m] + (1.0 if k == m else 0.0)
                column += 1
        tied += 1
    return spectral_radius(tied, matrix)


@_jit
def _floor(x, i, below, p):
    """The square an unknown cannot fall below, ``x_root^2/parameter``; 0 if it has none."""
    root, by = below[i], below[x.size + i]
    if root < 0:
        return 0.0
    return x[root] * x[root] / (p[by] if by >= 0 else 1.0)


@_jit
def _logarithms(x, r, indices, lower, upper, below, p, image, logs, gap, gap_of_image):
    """Which unknowns of a block are solved for in logarithms: positive ones, above their floor, and so their images."""
    for k in range(indices.size):
        image[indices[k]] = x[indices[k]] + r[k]
    for k in range(indices.size):
        i = indices[k]
        gap[k], gap_of_image[k] = x[i] - _floor(x, i, below, p), image[i] - _floor(image, i, below, p)
        positive = lower[i] == 0.0 and upper[i] == np.inf and gap[k] > 0.0 and gap_of_image[k] > 0.0
        logs[k] = 1.0 if positive else 0.0


@_jit
def _log_step(x, r, j, indices, below, p, image, logs, gap, gap_of_image, dx, work):
    """Newton correction of a block, in logarithms of the gaps marked in `logs`, into `dx`.

    Responses and variances are positive and range over many decades.  A map that is monotone and sub-homogeneous has
    elasticities d log F / d log x that sum to less than one, so this Newton step exists everywhere and does not wander.
    A variance that is nearly all overlap, ``q -> m^2/rho``, moves with it: the logarithm is that of the rest.
    """
    matrix, rows, where = work
    n = indices.size
    for k in range(n):
        for m in range(n):
            matrix[k, m] = j[k * n + m] + (1.0 if k == m and logs[k] != 0.0 else 0.0)
        rows[0][k] = 0.0 if logs[k] != 0.0 else -x[indices[k]]
        dx[k] = -np.log(gap_of_image[k] / gap[k]) if logs[k] != 0.0 else -r[k]
    for k in range(n):  # rows: from F to the logarithm of its gap
        if logs[k] == 0.0:
            continue
        i = indices[k]
        for a in range(n if below[i] >= 0 else 0):
            if indices[a] == below[i]:
                slope = 2.0 * image[indices[a]] / (p[below[x.size + i]] if below[x.size + i] >= 0 else 1.0)
                for m in range(n):
                    matrix[k, m] -= slope * (j[a * n + m] + (1.0 if a == m else 0.0))
        for m in range(n):
            matrix[k, m] /= gap_of_image[k]
    for m in range(n):  # columns: from x to the logarithm of its gap
        if logs[m] == 0.0:
            continue
        i = indices[m]
        for a in range(n if below[i] >= 0 else 0):
            if indices[a] == below[i]:
                slope = 2.0 * x[indices[a]] / (p[below[x.size + i]] if below[x.size + i] >= 0 else 1.0)
                for k in range(n):
                    matrix[k, a] += slope * matrix[k, m]
        for k in range(n):
            matrix[k, m] *= gap[m]
        matrix[m, m] -= 1.0
    eliminate(n, matrix, dx, rows[0], where, rows[1], rows[2])


@_jit
def _move(x, base, indices, below, p, logs, gap, dx, fraction):
    """x <- base plus a fraction of a Newton step, at most a factor exp(5) in logarithms."""
    for k in range(indices.size):
        if logs[k] == 0.0:
            x[indices[k]] = base[k] + fraction * dx[k]
    for k in range(indices.size):
        if logs[k] != 0.0:
            x[indices[k]] = gap[k] * np.exp(min(max(fraction * dx[k], -5.0), 5.0))
    for k in range(indices.size):  # floors of what has moved
        if logs[k] != 0.0:
            x[indices[k]] += _floor(x, indices[k], below, p)


@_jit
def _map_step(update, x, base, indices, p, table, mapped):
    """x <- base moved by the map, in one block."""
    for k in range(indices.size):
        x[indices[k]] = base[k]
    update(x, p, table, mapped)
    for k in range(indices.size):
        if np.isfinite(mapped[indices[k]]):
            x[indices[k]] = mapped[indices[k]]


@_jit
def _solve_block(
    update, block, b, indices, linear, is_free, x, p, table, lower, upper, floor, below, max_steps, r, j, work
):
    """Safeguarded Newton on one block in place; returns (status, evaluations).

    A linear block takes one step.  Otherwise a step that does not reduce the residual is halved a few times, and then
    replaced by a step of the map itself, which contracts where Newton wanders.  A block with free unknowns begins with such a
    step: it solves for them exactly, and far from that Newton throws them anywhere.
    """
    n = indices.size
    dx = work[1][3]
    if linear:
        block(b, x, p, table, r, j)
        fine = _newton_step(x, r, j, indices, dx, work)
        for k in range(n):
            x[indices[k]] += dx[k]
        return (CONVERGED if fine else NONFINITE), 1
    base, image, gap, gap_of_image = work[1][4], work[1][7], work[1][8], work[1][9]
    kept, logs, used, largest = work[1][10], work[1][11], work[1][12], work[1][14]
    for k in range(n):
        largest[k] = floor[indices[k]]
    previous, halvings, pressed, size, mapped = np.inf, 0, 0, np.inf, work[1][6]
    for k in range(n):
        base[k] = x[indices[k]]
        if is_free[indices[k]]:
            previous = -np.inf
    if previous < 0.0:
        _map_step(update, x, base, indices, p, table, mapped)
        previous = np.inf
    copy(image, x)
    for step in range(1, max_steps + 1):
        block(b, x, p, table, r, j)
        _logarithms(x, r, indices, lower, upper, below, p, image, logs, gap, gap_of_image)
        merit, bad = 0.0, False
        for k in range(n):
            i = indices[k]
            # Relative to the largest so far: an overlap that changes sign passes zero, where nothing is small next to it.
            if np.isfinite(r[k]):
                largest[k] = max(largest[k], abs(x[i]), abs(image[i]))
            ahead = np.log(gap_of_image[k] / gap[k]) if logs[k] != 0.0 else r[k] / largest[k]
            bad = bad or not np.isfinite(r[k])
            merit = max(merit, abs(ahead))
        if bad and step == 1:
            return NONFINITE, step
        if bad or (merit >= previous and size > 1e-9):
            halvings += 1
            if halvings <= MAX_HALVINGS:
                size *= 0.5
                _move(x, base, indices, below, p, used, kept, dx, 0.5**halvings)
                continue
            _map_step(update, x, base, indices, p, table, mapped)
            if bad and halvings > MAX_HALVINGS + 1:
                return NONFINITE, step
            if outside(x, lower, upper) >= 0:
                return LEFT_DOMAIN, step
            previous = np.inf
            continue
        previous, halvings = merit, 0
        _log_step(x, r, j, indices, below, p, image, logs, gap, gap_of_image, dx, work)
        size = 0.0
        for k in range(n):
            i = indices[k]
            if not np.isfinite(dx[k]):
                return NONFINITE, step
            base[k], used[k], kept[k] = x[i], logs[k], gap[k]
            move = np.expm1(min(max(dx[k], -5.0), 5.0)) if logs[k] != 0.0 else dx[k] / max(abs(x[i]), floor[i])
            size = max(size, abs(move))
        _move(x, base, indices, below, p, used, kept, dx, 1.0)
        for k in range(n):
            i = indices[k]
            if logs[k] == 0.0 and (x[i] < lower[i] or x[i] > upper[i]):
                pressed += 1
                if pressed > MAX_PRESSED:
                    return LEFT_DOMAIN, step
                x[i] = 0.5 * (base[k] + (lower[i] if x[i] < lower[i] else upper[i]))
        # A Newton step this small leaves an error of its square.
        if size <= 1e-8:
            return CONVERGED, step
    return MAX_STEPS, max_steps


@_jit
def newton(
    update, block, offsets, members, linear, is_free, x, p, table, lower, upper, floor, below, rtol, max_steps, r, j, work
):
    """Block by block in order, then again only if the whole map says so; returns (status, evaluations)."""
    new = work[1][6]
    steps, previous = 0, np.inf
    while True:
        for b in range(offsets.size - 1):
            indices = members[offsets[b] : offsets[b + 1]]
            status, used = _solve_block(
                update, block, b, indices, linear[b], is_free, x, p, table, lower, upper, floor, below, max_steps - steps, r, j,
                work,
            )  # fmt: skip
            steps += used
            if status != CONVERGED:
                return status, steps
        residual = true_residual(update, x, p, table, floor, rtol, new)
        if not np.isfinite(residual):
            return NONFINITE, steps
        if residual <= rtol:
            return CONVERGED, steps
        if residual > 0.5 * previous:
            return STALLED, steps
        if steps >= max_steps:
            return MAX_STEPS, steps
        previous = residual


def _run_damped(
    update, block, offsets, members, linear, is_free, x, p, table, lower, upper, floor, below, options, r, j, work
):
    return damped(update, x, p, table, lower, upper, floor, options[3], options[0], int(options[2]))


def _run_anderson(
    update, block, offsets, members, linear, is_free, x, p, table, lower, upper, floor, below, options, r, j, work
):
    depth, max_steps = int(options[4]), int(options[2])
    return anderson(update, x, p, table, lower, upper, floor, options[3], depth, options[0], max_steps)


def _run_newton(
    update, block, offsets, members, linear, is_free, x, p, table, lower, upper, floor, below, options, r, j, work
):
    """Newton's method, in up to three ways if some variance exceeds an overlap; the steps of all are counted.

    First in the rest of that variance above its overlap, then in the variance itself, then so after damped steps of the map.
    """
    first = work[1][13]
    copy(first, x)
    rtol, max_steps = options[0], int(options[2])
    ways = 1
    for k in range(below.size // 2):
        ways = 3 if below[k] >= 0 else ways
    status, steps = MAX_STEPS, 0
    for way in range(ways):
        left = max_steps - steps
        if way > 0:
            copy(x, first)
        floors = below if way == 0 else np.full_like(below, -1)
        if way == 2 and left > 1:
            _, used = damped(update, x, p, table, lower, upper, floor, 0.5, rtol, min(WARM_UP, left // 2))
            steps += used
            left -= used
        status, used = newton(
            update, block, offsets, members, linear, is_free, x, p, table, lower, upper, floor, floors, rtol,
            max(left if way == ways - 1 else left // (ways - way), 1), r, j, work,
        )  # fmt: skip
        steps += used
        if status == CONVERGED or steps >= max_steps:
            break
    return status, steps


#: Drivers by method name, all of one signature; see `OPTIONS` in `batch` for the order of the options.
RUNNERS = {"damped": _run_damped, "anderson": _run_anderson, "newton": _run_newton}
