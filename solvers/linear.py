"""Small dense linear algebra for drivers: jitted, no LAPACK.

Loops are written out here and in `iteration`: array expressions and slice assignments take seconds to compile.
"""

import math

import numpy as np
from numba import njit


@njit(cache=True, error_model="numpy")
def eliminate(n, a, b, pull, where, scale, out):
    """Solve the leading ``n x n`` system ``a x = b`` by elimination with complete pivoting; returns the rank.

    Parameters
    ----------
    n : int
    a : float64, at least (n, n), destroyed
    b : float64, at least (n,), overwritten by the solution
    pull : float64, at least (n,)
        Where the equations leave solutions undetermined, the one nearest to this is returned (0 for that of least norm).
    where, scale, out : int64 and float64, at least (n,)
        Work space.

    Notes
    -----
    Columns, then rows, are scaled to a largest entry of 1, so that unknowns and equations may have any units.  A pivot
    below ``8 n eps`` then counts as zero.  If the equation left over is violated, the unknown comes out as nan: there
    is no solution to report.  Violated means by more than rounding of the right sides, or of the unknowns (``-pull``, in a
    Newton step, whose right sides are all rounding at a solution).
    """
    if n == 1 and a[0, 0] != 0.0:
        b[0] /= a[0, 0]
        return 1
    if n == 2:
        left, right = a[0, 0] * a[1, 1], a[0, 1] * a[1, 0]
        det = left - right
        if abs(det) > 1e-3 * (abs(left) + abs(right)):  # far from singular: Cramer's rule is as accurate
            x, y = (b[0] * a[1, 1] - b[1] * a[0, 1]) / det, (b[1] * a[0, 0] - b[0] * a[1, 0]) / det
            b[0], b[1] = x, y
            return 2
    rank = 0
    for j in range(n):
        where[j] = j
        scale[j] = 1.0
        largest = 0.0
        for i in range(n):
            largest = max(largest, abs(a[i, j]))
        if largest > 0.0:
            scale[j] = largest
            for i in range(n):
                a[i, j] /= largest
    for i in range(n):
        largest = 0.0
        for j in range(n):
            largest = max(largest, abs(a[i, j]))
        if largest > 0.0:
            for j in range(n):
                a[i, j] /= largest
            b[i] /= largest
    for k in range(n):
        pivot, row, column = 0.0, k, k
        for i in range(k, n):
            for j in range(k, n):
                if abs(a[i, j]) > pivot * (1.0 + 1e-9):  # of equals the first, whatever the rounding
                    pivot, row, column = abs(a[i, j]), i, j
                elif np.isnan(a[i, j]):
                    for m in range(n):
                        b[m] = np.nan
                    return 0
        if pivot <= 8.0 * n * 2.2e-16:
            break
        for j in range(n):
            a[k, j], a[row, j] = a[row, j], a[k, j]
        b[k], b[row] = b[row], b[k]
        for i in range(n):
            a[i, k], a[i, column] = a[i, column], a[i, k]
        where[k], where[column] = where[column], where[k]
        for i in range(k + 1, n):
            factor = a[i, k] / a[k, k]
            if factor != 0.0:
                for j in range(k, n):
                    a[i, j] -= factor * a[k, j]
                b[i] -= factor * b[k]
        rank += 1
    size = 0.0
    for i in range(rank):
        size = max(size, abs(b[i]))
    for j in range(n):
        size = max(size, abs(pull[where[j]]) * scale[where[j]])
    for k in range(n - 1, -1, -1):
        if k >= rank:
            out[where[k]] = pull[where[k]] * scale[where[k]] if abs(b[k]) <= 1e-12 * size or b[k] == 0.0 else np.nan
            continue
        s = b[k]
        for j in range(k + 1, n):
            s -= a[k, j] * out[where[j]]
        out[where[k]] = s / a[k, k]
    for k in range(n):
        b[k] = out[k] / scale[k]
    for f in range(rank, n):
        _nearer(n, rank, f, a, b, pull, where, scale)
    return rank


@njit(cache=True, error_model="numpy")
def _nearer(n, rank, f, a, b, pull, where, scale):
    """Move the solution `b` nearest to `pull` along the null vector of pivot `f`, made orthogonal to those before it.

    The vector is kept in row `f` of the triangle, whose entries count as zero.
    """
    for m in range(n):
        a[f, m] = 0.0
    a[f, where[f]] = 1.0
    for k in range(rank - 1, -1, -1):
        s = -a[k, f]
        for j in range(k + 1, rank):
            s -= a[k, j] * a[f, where[j]]
        a[f, where[k]] = s / a[k, k]
    for m in range(n):
        a[f, m] /= scale[m]
    for g in range(rank, f + 1):  # the last round normalises
        along = 0.0
        for m in range(n):
            along += a[g, m] * a[f, m]
        if g == f:
            along = np.sqrt(along)
        for m in range(n):
            a[f, m] = a[f, m] / along if g == f else a[f, m] - along * a[g, m]
    along = 0.0
    for m in range(n):
        along += a[f, m] * (pull[m] - b[m])
    for m in range(n):
        b[m] += along * a[f, m]


@njit(cache=True, error_model="numpy")
def solve_small(a, b, pull):
    """`eliminate` on a whole matrix, with work space of its own."""
    n = b.size
    return eliminate(n, a, b, pull, np.empty(n, dtype=np.int64), np.empty(n), np.empty(n))


@njit(cache=True, error_model="numpy")
def divide(b, a):
    """The least-norm solution of ``a x = b`` for one unknown: ``b / a``, 0 if both vanish, nan if only `a` does."""
    if a != 0.0:
        return b / a
    return 0.0 if b == 0.0 else np.nan


@njit(cache=True, error_model="numpy")
def spectral_radius(n, a):
    """Spectral radius of the leading ``n x n`` block.

    Exact for n <= 2; otherwise from norms of powers, ``|a^64|^(1/64)``, at most 4 % high for n <= 10.
    """
    if n <= 1:
        return abs(a[0, 0]) if n else 0.0
    if n == 2:
        half, det = 0.5 * (a[0, 0] + a[1, 1]), a[0, 0] * a[1, 1] - a[0, 1] * a[1, 0]
        gap = 0.25 * (a[0, 0] - a[1, 1]) ** 2 + a[0, 1] * a[1, 0]
        return abs(half) + math.sqrt(gap) if gap >= 0.0 else math.sqrt(det)
    power, scaled = np.empty((n, n)), np.empty((n, n))
    for i in range(n):
        for j in range(n):
            power[i, j] = a[i, j]
    log_norm = 0.0
    for k in range(7):
        norm = 0.0
        for i in range(n):
            row = 0.0
            for j in range(n):
                row += abs(power[i, j])
            norm = max(norm, row)
        if norm == 0.0:
            return 0.0
        log_norm = 2.0 * log_norm + np.log(norm) if k else np.log(norm)
        if k == 6:
            break
        for i in range(n):
            for j in range(n):
                scaled[i, j] = power[i, j] / norm
        for i in range(n):
            for j in range(n):
                s = 0.0
                for m in range(n):
                    s += scaled[i, m] * scaled[m, j]
                power[i, j] = s
    return np.exp(log_norm / 64.0)
