"""Jitted twins of `replica.relaxation`, same names: the pieces of closed-form relaxations, exact in every limit.

A relaxation towards a fixed point is a quotient of positive numbers in the variable ``pace``, which falls from inf at
t = 0 to 0 at t = inf.  What is left to care for are the quotients 0/0 and inf/inf at the two ends; each function says what
limit it stands for.  No branch subtracts numbers of equal sign.
"""

import math

from numba import njit


@njit(cache=True, error_model="numpy")
def pace(rate, t):
    """2 rate / (exp(rate t) - 1); 2/t at rate = 0."""
    x = rate * t
    if t == math.inf:
        return 0.0
    if t == 0.0:
        return math.inf
    if x < 1e-300:
        return 2.0 / t
    if x > 700.0:
        return 2.0 * rate * math.exp(-x)
    return 2.0 * rate / math.expm1(x)


@njit(cache=True, error_model="numpy")
def pace_time(rate, x):
    """The t at which pace(rate, t) = x."""
    if x == 0.0:
        return math.inf
    y = 2.0 * rate / x
    return math.log1p(y) / rate if y > 1e-300 else 2.0 / x


@njit(cache=True, error_model="numpy")
def ratio(a, b, x):
    """(a + x)/(b + x) for a, b, x >= 0; 1 at x = inf and at a = b = x = 0."""
    if x == math.inf:
        return 1.0
    if b + x == 0.0:
        return 1.0 if a == 0.0 else math.inf
    return (a + x) / (b + x)


@njit(cache=True, error_model="numpy")
def part(a, b):
    """a/b, and 0 for 0/0."""
    if a == 0.0:
        return 0.0
    if b == 0.0:
        return math.copysign(math.inf, a)
    return a / b


@njit(cache=True, error_model="numpy")
def times(a, b):
    """a b, and 0 for 0 inf."""
    return 0.0 if a == 0.0 or b == 0.0 else a * b


@njit(cache=True, error_model="numpy")
def upper_root(s, c):
    """s + sqrt(s^2 + 4 c), c >= 0: twice the non-negative root of x^2 - s x = c."""
    root = math.hypot(s, 2.0 * math.sqrt(c))
    if s >= 0.0:
        return s + root
    return 4.0 * c / (root - s)


@njit(cache=True, error_model="numpy")
def half_log(a, b, slope, kappa):
    """log(a/b)/(2 kappa) for a - b = kappa slope; slope/(2 b) at kappa = 0, and 0 at b = inf."""
    if slope == 0.0 or b == math.inf:
        return 0.0
    if a == 0.0:
        return -math.inf
    if b == 0.0:
        return math.inf
    y = kappa * slope / b
    if abs(y) < 1e-8:
        return slope / (2.0 * b) * (1.0 - 0.5 * y)
    if abs(y) < 0.5:
        return math.log1p(y) / (2.0 * kappa)
    return (math.log(a) - math.log(b)) / (2.0 * kappa)


@njit(cache=True, error_model="numpy")
def hypotenuse(a, b):
    """sqrt(a^2 + b^2), also where the squares underflow or overflow."""
    return math.hypot(a, b)


@njit(cache=True, error_model="numpy")
def layer_norm(imbalance, product, own, other, start):
    """Norm y of a layer: ``other y^2 - own z^2 = imbalance``, ``y z = product``, both layers >= 0.

    `own` and `other` are the two learning rates.  If everything vanishes and so does a rate, nothing moves: `start`.
    No square of the product is formed, so norms are right down to 1e-300.
    """
    root = math.hypot(imbalance, 2.0 * math.sqrt(own) * math.sqrt(other) * product)
    if root == 0.0:
        return start if own == 0.0 or other == 0.0 else 0.0
    if imbalance >= 0.0:
        return math.sqrt((root + imbalance) / (2.0 * other))
    return product * math.sqrt(2.0 * own / (root - imbalance))


@njit(cache=True, error_model="numpy")
def elapsed(rate, s):
    """(exp(rate s) - 1)/rate; s at rate = 0."""
    x = rate * s
    if rate == 0.0 or abs(x) < 1e-300:
        return s
    if x < 700.0:
        return math.expm1(x) / rate
    # The quotient may be finite where the exponential is not.
    return math.exp(0.5 * x) / rate * math.exp(0.5 * x) if x < 1400.0 else math.inf


@njit(cache=True, error_model="numpy")
def fade(rate, t):
    """exp(-rate t); 1 at rate = 0, also at t = inf."""
    return 1.0 if rate == 0.0 else math.exp(-rate * t)


@njit(cache=True, error_model="numpy")
def finite_part(reg, samples, weights):
    """1; 0 for reg = 0 and fewer samples than weights."""
    return 0.0 if reg == 0.0 and samples < weights else 1.0


@njit(cache=True, error_model="numpy")
def penalty(reg, samples, weights):
    """reg; 1 for reg = 0 and fewer samples than weights."""
    return 1.0 if reg == 0.0 and samples < weights else reg


@njit(cache=True, error_model="numpy")
def variance(x):
    """x; 0 where rounding has made it negative."""
    return 0.0 if x < 0.0 else x
