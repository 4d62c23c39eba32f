"""Jitted twins of the primitives of the symbolic layer, under the same names.

Scalar float64 to float64, callable from any generated kernel. Every exponential has a non-positive argument, so nothing
overflows, neither compiled nor as plain Python under ``NUMBA_DISABLE_JIT=1`` (where `math.exp` would raise). NaN in,
NaN out. Relative accuracy is a few 1e-16, except where `normal_cdf` or `-log_ndtr` is a Gaussian tail, falling like
exp(-x^2/2): there the rounding of the argument alone costs x^2 times that.

The generated kernels are cached by a digest that contains the text of this file: any edit recompiles them.

References
----------
.. [1] M. Abramowitz, I. Stegun, Handbook of Mathematical Functions, 26.2.12: asymptotic series of the normal tail.
.. [2] A. Genz, Stat. Comput. 14, 251 (2004): bivariate normal probabilities.
"""

import math

import numpy as np
from numba import njit

_LOG_2 = math.log(2.0)
_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
_SQRT_HALF = math.sqrt(0.5)
#: Gauss-Legendre on [0, 1], 20 nodes.
_NODES, _WEIGHTS = (0.5 * (part + shift) for part, shift in zip(np.polynomial.legendre.leggauss(20), (1.0, 0.0), strict=True))


@njit(cache=True, error_model="numpy")
def relu(x):
    """max(x, 0)."""
    return 0.0 if x <= 0.0 else x + 0.0  # this order of the comparison passes NaN on


@njit(cache=True, error_model="numpy")
def sgn(x):
    """Sign of x, 0 at zero."""
    if x > 0.0:
        return 1.0
    if x < 0.0:
        return -1.0
    return x + 0.0  # zero (also for -0.0) or NaN


@njit(cache=True, error_model="numpy")
def step(x):
    """Heaviside step, 1/2 at zero."""
    return 0.5 * (1.0 + sgn(x))


@njit(cache=True, error_model="numpy")
def absolute(x):
    """|x|."""
    return math.fabs(x)


@njit(cache=True, error_model="numpy")
def softplus(x):
    """log(1 + exp(x))."""
    if x > 0.0:
        return x + math.log1p(math.exp(-x))
    return math.log1p(math.exp(x))


@njit(cache=True, error_model="numpy")
def sigmoid(x):
    """1/(1 + exp(-x))."""
    if x >= 0.0:
        return 1.0 / (1.0 + math.exp(-x))
    e = math.exp(x)
    return e / (1.0 + e)


@njit(cache=True, error_model="numpy")
def normal_cdf(x):
    """Cumulative distribution function of N(0, 1); 0 below x = -38.5."""
    return 0.5 * math.erfc(-x * _SQRT_HALF)


@njit(cache=True, error_model="numpy")
def log_ndtr(x):
    """log(normal_cdf(x)), also where normal_cdf underflows."""
    if x > 0.0:
        return math.log1p(-0.5 * math.erfc(x * _SQRT_HALF))
    if not x < -20.0:  # NaN goes this way
        return math.log(0.5 * math.erfc(-x * _SQRT_HALF))
    # Seven terms of [1], 26.2.12: the next one, 135135/x^14 < 1e-13, is below 1e-15 of the leading x^2/2 > 200.
    s = 1.0 / (x * x)
    tail = -s * (1.0 - s * (3.0 - s * (15.0 - s * (105.0 - s * (945.0 - s * 10395.0)))))
    return -0.5 * (x * x) - math.log(-x) - _HALF_LOG_2PI + math.log1p(tail)


@njit(cache=True, error_model="numpy")
def logcosh(x):
    """log(cosh(x))."""
    a = math.fabs(x)
    if a < 1.0:  # log(cosh^2)/2, without the cancellation of the other branch against log(2)
        sinh = math.sinh(a)
        return 0.5 * math.log1p(sinh * sinh)
    return a + math.log1p(math.exp(-2.0 * a)) - _LOG_2


@njit(cache=True, error_model="numpy")
def bit_entropy(x):
    """cosh(x) log(2 cosh(x)) - x sinh(x), without the cancellation."""
    a = math.fabs(x)
    e = math.exp(-2.0 * a)
    tail = math.log1p(e) / e if e > 1e-300 else 1.0
    return math.exp(-a) * (a + 0.5 * (1.0 + e) * tail)


@njit(cache=True, error_model="numpy")
def bit_slope(x):
    """sinh(x) log(2 cosh(x)) - x cosh(x), without the cancellation."""
    a = math.fabs(x)
    e = math.exp(-2.0 * a)
    tail = math.log1p(e) / e if e > 1e-300 else 1.0
    return math.copysign(1.0, x) * math.exp(-a) * (-0.5 * math.expm1(-2.0 * a) * tail - a)


@njit(cache=True, error_model="numpy")
def both_below(h, k, r):
    """P(x < h, y < k) for standard normals of correlation r in [-1, 1]; absolute accuracy 1e-15 [2]."""
    if math.isnan(h + 0.0 * k) or math.isnan(k + 0.0 * h) or not -1.0 <= r <= 1.0:
        if math.isinf(h) or math.isinf(k):  # an edge at infinity: the other one alone, or nothing
            return min(normal_cdf(h), normal_cdf(k)) if h == h and k == k else math.nan
        return math.nan
    if abs(r) < 0.925:
        mean, angle, total = 0.5 * (h * h + k * k), math.asin(r), 0.0
        for i in range(_NODES.size):
            s = math.sin(angle * _NODES[i])
            total += _WEIGHTS[i] * math.exp((s * h * k - mean) / (1.0 - s * s))
        return normal_cdf(h) * normal_cdf(k) + total * angle / (2.0 * math.pi)
    # Near |r| = 1: from there, with the singular part of the integrand taken out.
    h, k, sign = -h, (-k if r > 0.0 else k), (1.0 if r > 0.0 else -1.0)
    hk, total = h * k, 0.0
    if abs(r) < 1.0:
        rest = (1.0 - r) * (1.0 + r)
        a, b = math.sqrt(rest), abs(h - k)
        c, d = (4.0 - hk) / 8.0, (12.0 - hk) / 16.0
        power = -0.5 * (b * b / rest + hk)
        if power > -100.0:
            total = a * math.exp(power) * (1.0 - c * (b * b - rest) * (1.0 - d * b * b / 5.0) / 3.0 + c * d * rest * rest / 5.0)
        if hk > -100.0:
            tail = math.sqrt(2.0 * math.pi) * normal_cdf(-b / a) * b
            total -= math.exp(-0.5 * hk) * tail * (1.0 - c * b * b * (1.0 - d * b * b / 5.0) / 3.0)
        for i in range(_NODES.size):
            x = (a * _NODES[i]) ** 2
            power = -0.5 * (b * b / x + hk)
            if power > -100.0:
                root = math.sqrt(1.0 - x)
                smooth = math.exp(-0.5 * hk * x / (1.0 + root) ** 2) / root
                total += a * _WEIGHTS[i] * math.exp(power) * (smooth - (1.0 + c * x * (1.0 + d * x)))
        total /= -2.0 * math.pi
    if sign > 0.0:
        return total + normal_cdf(-max(h, k))
    return -total + max(0.0, normal_cdf(-h) - normal_cdf(-k))
