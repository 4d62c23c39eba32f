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
