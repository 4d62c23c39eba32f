"""Jitted Marchenko-Pastur transforms: twins of `replica.spectral`, same names.

Exact closed forms; each branch avoids the cancellation of the other.  At t = 0 all are 1.

References
----------
.. [1] V. A. Marchenko, L. A. Pastur, Math. USSR Sb. 1, 457 (1967).
"""

import math

from numba import njit


@njit(cache=True, error_model="numpy")
def mp_root(t, ratio):
    """N = sqrt((1 + (1 - ratio) t)^2 + 4 ratio t)."""
    b = 1.0 + (1.0 - ratio) * t
    return math.sqrt(b * b + 4.0 * ratio * t)


@njit(cache=True, error_model="numpy")
def mp_transform(t, ratio):
    """T = <1/(1 + t x)>, x the eigenvalues of G G^T / d, G of size (ratio d) x d."""
    b = 1.0 + (1.0 - ratio) * t
    n = math.sqrt(b * b + 4.0 * ratio * t)
    return 2.0 / (b + n) if b > 0.0 else (n - b) / (2.0 * ratio * t)


@njit(cache=True, error_model="numpy")
def mp_companion(t, ratio):
    """C = 1 - ratio + ratio T, without cancellation: the transform of G^T G / d."""
    b = 1.0 + (ratio - 1.0) * t
    n = math.sqrt(b * b + 4.0 * t)
    return 2.0 / (b + n) if b > 0.0 else (n - b) / (2.0 * t)


@njit(cache=True, error_model="numpy")
def mp_rule(alpha, n, nodes, weights):
    """Quadrature for the eigenvalues of X^T X / n_samples, X of size (alpha d) x d with entries N(0, 1).

    Node 0 is the atom at zero, of weight ``max(0, 1 - alpha)``; nodes 1..n cover the continuous part; all weights sum to 1.
    With ``h = (1 - sqrt c)^2 + 4 sqrt(c) sin(phi)^2``, c = 1/alpha, the law is ``4 sin(2 phi)^2 / (pi h) d phi`` on
    (0, pi/2).  Its scale is ``|1 - sqrt c|``, which vanishes at alpha = 1: the trapezoidal rule in a variable that is doubly
    exponential at both ends resolves every scale alike.
    """
    c = 1.0 / alpha
    root = math.sqrt(c)
    edge = (alpha - 1.0) / alpha / (1.0 + root)  # 1 - sqrt c, without cancellation
    scale = abs(edge) / (2.0 * math.sqrt(root))
    # Below `least` a smooth function of h times the law contributes less than rounding.
    least = max(1e-20, 1e-6 * min(scale, 1.0))
    left = -math.asinh(-math.log(least * 2.0 / math.pi) / math.pi)
    right = 2.2
    step = (right - left) / n
    nodes[0] = 0.0
    weights[0] = max(0.0, 1.0 - alpha)
    for i in range(n):
        x = left + (i + 0.5) * step
        s = math.pi * math.sinh(x)
        below = 1.0 / (1.0 + math.exp(-s))
        above = 1.0 / (1.0 + math.exp(s))
        phi, rest = 0.5 * math.pi * below, 0.5 * math.pi * above  # rest = pi/2 - phi
        sine, cosine = math.sin(phi), math.sin(rest)
        h = edge * edge + 4.0 * root * sine * sine
        nodes[i + 1] = h
        weights[i + 1] = (16.0 / math.pi * sine * sine * cosine * cosine / h
                          * 0.5 * math.pi * below * above * math.pi * math.cosh(x) * step)  # fmt: skip
