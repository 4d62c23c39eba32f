"""Moments of random signs and Gaussian clusters inside a half-space: compiled kernels of the gradient features.

For u = q.phi with independent phi (apart from a small group of coordinates whose patterns are listed) and any f,

    E[f 1(u > b)] = E[f]/2 + (1/pi) int_0^inf Im(exp(-iwb) E[f exp(iwu)]) dw/w,

by the midpoint rule: with a step below pi/max|u - b| it has no discretisation error, since u is bounded.  What is left is
truncation at a cut W, whose estimate has three parts besides rounding:

* six times the largest move of the partial sums over the last third of the nodes;
* four times ``sqrt(c rho/(pi W))``, rho = 1/(sqrt(2 pi)|q|) being the density of u and c the probability that two draws of phi
  are equal (2^-D for signs; more if components of q are equal, or so small that q W < 1): only patterns with |u - b| below
  1/W are still undecided, and f has irregular signs on them, so this is four standard deviations;
* two patterns' worth, for one that lies on the border by chance.

Ties u = b count one half.  Weights on a lattice, with all components different, are not noticed: the integrand then returns in
full, later than any cut.

References
----------
.. [1] J. Gil-Pelaez, Biometrika 38, 481 (1951).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

#: Step of the midpoint rule, relative to the largest one without discretisation error.
STEP = 0.999
#: First cut of the integral in units of 1/|q|, up to this or where typical coordinates have turned by 3, and how it grows.
FIRST_CUT, GROWTH = 30.0, 1.5
#: Components of q closer than this, relative to the largest, are equal.
EQUAL = 1e-9
#: Smearing of this many standard deviations counts as part of the range of u.
SMEARED = 9.0
_SQRT_HALF, _NORMALISATION = math.sqrt(0.5), 1.0 / math.sqrt(2.0 * math.pi)


@njit(cache=True, nogil=True, error_model="numpy")
def parity_gradients(q, relevant, b, rtol, max_nodes, out, error, nodes):
    """E[chi_A phi_j 1(q.phi > b)] for uniform signs phi, every coordinate j and every row of `q`.

    Parameters
    ----------
    q : ndarray, shape (neurons, D)
    relevant : ndarray of bool, shape (D,)
        The coordinates of A.
    b : ndarray, shape (neurons,)
    rtol : float
        The integral goes on until the error estimate is below this times the norm of the result.
    max_nodes : int
        Where it ends at the latest.
    out : ndarray, shape (neurons, D)
    error : ndarray, shape (neurons,)
        Estimate of the largest absolute error of a component.
    nodes : ndarray of int64, shape (neurons,)

    Notes
    -----
    O(D) per node: products without one factor come from products before and after it.
    """
    n, D = q.shape
    k = 0
    for j in range(D):
        if relevant[j]:
            k += 1
    sine, cosine = np.empty(D), np.empty(D)
    before, moved, mark = np.empty(D + 1), np.empty(D), np.empty(D)
    # |S| = k - 1 on A and k + 1 elsewhere: signs of the two, and whether the transform is odd
    sign_in, sign_out = _parity_sign(k - 1), _parity_sign(k + 1)
    for i in range(n):
        size, square = 0.0, 0.0
        for j in range(D):
            size += abs(q[i, j])
            square += q[i, j] * q[i, j]
            out[i, j] = 0.5 if (k == 1 and relevant[j]) else 0.0
            moved[j] = 0.0
        if square == 0.0:
            error[i], nodes[i] = np.nan, 0
            continue
        step = STEP * math.pi / (size + abs(b[i]))
        last = max(8.0, min(FIRST_CUT, 3.0 * math.sqrt(float(D))) / math.sqrt(square) / step)
        equal = _equal_signs(q[i])
        start, done, absolute = 0, 0, 0.0
        while True:
            stop = min(int(last), max_nodes)
            start = 2 * stop // 3
            for m in range(done, stop):
                if m <= start:
                    for j in range(D):
                        mark[j] = out[i, j]
                        moved[j] = 0.0
                w = (m + 0.5) * step
                before[0] = 1.0
                for j in range(D):
                    sine[j], cosine[j] = math.sin(w * q[i, j]), math.cos(w * q[i, j])
                    before[j + 1] = before[j] * (sine[j] if relevant[j] else cosine[j])
                wave = (math.sin(w * b[i]) if k % 2 == 1 else math.cos(w * b[i])) / ((m + 0.5) * math.pi)
                after = 1.0
                for j in range(D - 1, -1, -1):
                    if relevant[j]:
                        term = sign_in * wave * before[j] * after * cosine[j]
                        after *= sine[j]
                    else:
                        term = sign_out * wave * before[j] * after * sine[j]
                        after *= cosine[j]
                    out[i, j] += term
                    absolute = max(absolute, abs(out[i, j]))
                    moved[j] = max(moved[j], abs(out[i, j] - mark[j]))
            done = stop
            largest, norm = 0.0, 0.0
            for j in range(D):
                largest = max(largest, moved[j])
                norm += out[i, j] * out[i, j]
            error[i] = 6.0 * largest + 4e-16 * math.sqrt(float(D)) * absolute
            collision = equal
            for j in range(D):
                collision *= _coherence(0.5, 0.0 if relevant[j] else 1.0 / (2.0 * q[i, j] * done * step) ** 2)
            error[i] += _undecided(collision, 0.5**D, math.sqrt(square), done * step)
            if done >= max_nodes or error[i] <= rtol * math.sqrt(norm):
                break
            last = GROWTH * stop + 1
        nodes[i] = done


@njit(cache=True, nogil=True, error_model="numpy")
def _equal_signs(q):
    """By how much equal components raise the probability that two draws have equal u: C(2c, c)/4^c over 2^-c by group of c."""
    sizes = np.sort(np.abs(q))
    factor, run = 1.0, 0
    for j in range(sizes.size):
        run = run + 1 if j > 0 and sizes[j] - sizes[j - 1] <= EQUAL * sizes[-1] else 1
        factor *= (2.0 * run - 1.0) / run
    return factor


@njit(cache=True, nogil=True, error_model="numpy")
def _coherence(collision, slowness):
    """Mean square factor of one coordinate in the tail: 1 while q W is small (its two values are not told apart), then the
    probability that two draws are equal; `slowness` is 1/(q W)^2."""
    return collision + (1.0 - collision) * slowness / (1.0 + slowness) if slowness < 1e300 else 1.0


@njit(cache=True, nogil=True, error_model="numpy")
def _undecided(collision, heaviest, length, cut):
    """What patterns on the border may still contribute beyond the cut."""
    return 4.0 * math.sqrt(collision * _NORMALISATION / (length * math.pi * cut)) + 2.0 * heaviest


@njit(cache=True, nogil=True, error_model="numpy")
def _parity_sign(size):
    """Sign of the integral for a character of `size` coordinates: odd ones have a cosine, even ones a sine."""
    power = (size - 1) // 2 if size % 2 == 1 else size // 2 + 1
    return 1.0 if power % 2 == 0 else -1.0


@njit(cache=True, nogil=True, error_model="numpy")
def dictionary_moments(q, b, patterns, weights, labelled, low, high, rate, smear, rtol, max_nodes, second, first, moments,
                       error, nodes):  # fmt: skip
    """E[y phi_j 1(q.phi + smear g > b)], and E[phi_i phi_j 1(...)] if wanted, for every row of `q`.

    The first coordinates follow the listed patterns; the others are independent, `high` with probability `rate`, else `low`.

    Parameters
    ----------
    q : ndarray, shape (neurons, D)
    b : ndarray, shape (neurons,)
    patterns : ndarray, shape (patterns, k)
        Values of the first k coordinates.
    weights, labelled : ndarray, shape (patterns,)
        Probability, and probability times label.
    low, high, rate, smear : float
    rtol, max_nodes : as in `parity_gradients`
    second : bool
    first : ndarray, shape (neurons, D)
    moments : ndarray, shape (neurons, D, D)
        Left alone unless `second`; it then costs O(D^2) per node.
    error : ndarray, shape (neurons,)
    nodes : ndarray of int64, shape (neurons,)
    """
    n, D = q.shape
    k = patterns.shape[1]
    size = D + (D * D if second else 0)
    value, mark, moved = np.empty(size), np.empty(size), np.empty(size)
    factors = np.empty((4, D + 1), dtype=np.complex128)  # E[exp], E[phi exp], products before and after a coordinate
    group = np.empty((k + 2, k + 1), dtype=np.complex128)
    collision = (weights * weights).sum()
    heaviest = weights.max() * max(rate, 1.0 - rate) ** (D - k)
    for i in range(n):
        spread, square, most = _range(q[i], patterns, low, high)
        spread, square = spread + abs(b[i]) + SMEARED * smear, square + smear * smear
        if square == 0.0:
            error[i], nodes[i] = np.nan, 0
            continue
        scale = most * max(1.0, most) if second else most
        _halves(D, patterns, weights, labelled, low, high, rate, second, value)
        step = STEP * math.pi / spread
        last = max(8.0, min(FIRST_CUT, 3.0 * math.sqrt(float(D))) / math.sqrt(square) / step)
        equal = _equal_signs(q[i, k:])
        done, absolute = 0, 0.0
        while True:
            stop = min(int(last), max_nodes)
            start = 2 * stop // 3
            for m in range(done, stop):
                if m <= start:
                    mark[:] = value
                    moved[:] = 0.0
                w = (m + 0.5) * step
                _independent(q[i], k, low, high, rate, w, factors)
                _listed(q[i], patterns, weights, labelled, w, second, group)
                wave = np.exp(-1j * w * b[i]) * math.exp(-0.5 * (w * smear) ** 2) / ((m + 0.5) * math.pi)
                _accumulate(wave, k, low, high, second, factors, group, value)
                for j in range(size):
                    absolute = max(absolute, abs(value[j]))
                    moved[j] = max(moved[j], abs(value[j] - mark[j]))
            done = stop
            alike = collision * equal
            for j in range(k, D):
                turned = q[i, j] * (high - low) * done * step
                alike *= _coherence(rate * rate + (1.0 - rate) * (1.0 - rate), 1.0 / turned**2)
            calmed = math.exp(-0.5 * (done * step * smear) ** 2)
            error[i] = 6.0 * moved.max() + 4e-16 * math.sqrt(float(D)) * absolute
            error[i] += calmed * scale * _undecided(alike, heaviest, math.sqrt(square), done * step)
            if done >= max_nodes or error[i] <= rtol * math.sqrt((value * value).sum()):
                break
            last = GROWTH * stop + 1
        nodes[i] = done
        for j in range(D):
            first[i, j] = value[j]
            if second:
                for r in range(j, D):
                    moments[i, j, r] = moments[i, r, j] = value[D + j * D + r]


@njit(cache=True, nogil=True, error_model="numpy")
def _range(q, patterns, low, high):
    """Largest |u|, an upper bound of its variance, and the largest |phi|."""
    spread, square, most = 0.0, 0.0, 0.0
    for j in range(q.size):
        largest = max(abs(low), abs(high))
        if j < patterns.shape[1]:
            largest = np.abs(patterns[:, j]).max()
        most = max(most, largest)
        spread += abs(q[j]) * largest
        square += (q[j] * largest) ** 2
    return spread, square, most


@njit(cache=True, nogil=True, error_model="numpy")
def _halves(D, patterns, weights, labelled, low, high, rate, second, value):
    """E[f]/2 for every f: y phi_j, then (if wanted) phi_i phi_j."""
    k = patterns.shape[1]
    middle, spare = rate * high + (1.0 - rate) * low, rate * high * high + (1.0 - rate) * low * low
    mean = np.full(D, middle)
    for j in range(D):
        value[j] = 0.5 * middle * labelled.sum()
        if j < k:
            value[j] = 0.5 * (labelled * patterns[:, j]).sum()
            mean[j] = (weights * patterns[:, j]).sum()
    if not second:
        return
    for j in range(D):
        for r in range(D):
            moment = spare if j == r else mean[j] * mean[r]
            if j < k and r < k:
                moment = (weights * patterns[:, j] * patterns[:, r]).sum()
            value[D + j * D + r] = 0.5 * moment


@njit(cache=True, nogil=True, error_model="numpy")
def _independent(q, k, low, high, rate, w, factors):
    """Of the independent coordinates: E[exp(iwq phi)], E[phi exp], and products of the former before and after each."""
    D = q.size
    factors[2, k], factors[3, D] = 1.0, 1.0
    for j in range(k, D):
        up, down = np.exp(1j * w * q[j] * high) * rate, np.exp(1j * w * q[j] * low) * (1.0 - rate)
        factors[0, j], factors[1, j] = up + down, high * up + low * down
        factors[2, j + 1] = factors[2, j] * factors[0, j]
    for j in range(D - 1, k - 1, -1):
        factors[3, j] = factors[3, j + 1] * factors[0, j]


@njit(cache=True, nogil=True, error_model="numpy")
def _listed(q, patterns, weights, labelled, w, second, group):
    """Of the listed coordinates, sums over patterns of f exp(iwq.phi).

    Row 0: y phi_j, and y in the last place.  If wanted, row 1: phi_j, and 1 in the last place; row 2 + i: phi_i phi_j.
    """
    count, k = patterns.shape
    group[:] = 0.0
    for a in range(count):
        phase = 0.0
        for j in range(k):
            phase += q[j] * patterns[a, j]
        e = np.exp(1j * w * phase)
        group[0, k] += labelled[a] * e
        group[1, k] += weights[a] * e
        for j in range(k):
            group[0, j] += labelled[a] * patterns[a, j] * e
            if second:
                group[1, j] += weights[a] * patterns[a, j] * e
                for r in range(k):
                    group[2 + j, r] += weights[a] * patterns[a, j] * patterns[a, r] * e


@njit(cache=True, nogil=True, error_model="numpy")
def _accumulate(wave, k, low, high, second, factors, group, value):
    """Add one node to every integral."""
    D = factors.shape[1] - 1
    one, tilted, before, after = factors[0], factors[1], factors[2], factors[3]
    for j in range(D):
        term = group[0, j] * before[D] if j < k else group[0, k] * before[j] * tilted[j] * after[j + 1]
        value[j] += (wave * term).imag
    if not second:
        return
    for j in range(D):
        between = 1.0 + 0.0j
        for r in range(j, D):
            if r < k:
                term = group[2 + j, r] * before[D]
            elif j < k:
                term = group[1, j] * before[r] * tilted[r] * after[r + 1]
            elif r == j:  # phi^2 = (low + high) phi - low high
                term = group[1, k] * before[j] * ((low + high) * tilted[j] - low * high * one[j]) * after[j + 1]
            else:
                term = group[1, k] * before[j] * tilted[j] * between * tilted[r] * after[r + 1]
                between *= one[r]
            value[D + j * D + r] += (wave * term).imag


@njit(cache=True, nogil=True, error_model="numpy")
def mixture_gradients(w, b, means, charges, covariances, out):
    """E[y x 1(w.x > b)] for Gaussian clusters: sum_j charge_j (mu_j Phi(t_j) + Sigma_j w phi(t_j)/sd_j).

    Parameters
    ----------
    w : ndarray, shape (neurons, d)
    b : ndarray, shape (neurons,)
    means : ndarray, shape (clusters, d)
    charges : ndarray, shape (clusters,)
        Weight times label.
    covariances : ndarray, shape (clusters, d, d)
    out : ndarray, shape (neurons, d)
    """
    n, d = w.shape
    v = np.empty(d)
    for i in range(n):
        for j in range(d):
            out[i, j] = 0.0
        for c in range(means.shape[0]):
            shift, variance = -b[i], 0.0
            for j in range(d):
                v[j] = 0.0
                for r in range(d):
                    v[j] += covariances[c, j, r] * w[i, r]
                variance += v[j] * w[i, j]
                shift += means[c, j] * w[i, j]
            sd = math.sqrt(variance)
            t = shift / sd
            below = charges[c] * 0.5 * math.erfc(-t * _SQRT_HALF)
            density = charges[c] * _NORMALISATION * math.exp(-0.5 * t * t) / sd
            for j in range(d):
                out[i, j] += below * means[c, j] + density * v[j]
