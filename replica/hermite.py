"""Hermite coefficients and slopes of activations.

c_k = E[He_k(x) s(x)] = E[s^(k)(x)], x ~ N(0, 1), with probabilists' polynomials and no 1/k!.  Exact for polynomials, relu,
abs, sign, erf, normal_cdf, exp, sin, cos, gelu, their products with polynomials, and what parity says of the others (the odd
part of softplus is x/2, so c_3 = c_5 = .. = 0); otherwise by quadrature between kinks, with an error estimate.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import sympy as sp

from .activations import Activation, Z, make_activation
from .smoothing import Number, Series, moments, series
from .terms import NotSeparable, Terms, TooLarge, terms

__all__ = ["MAX_ORDER", "HermiteError", "Number", "coefficient", "coefficients", "parts_of", "slope_moments", "visible"]

#: Largest order: sqrt(60!) is 1e41, beyond which float64 quadrature of He_k has no digits to spare.
MAX_ORDER = 60


class HermiteError(ValueError):
    """A coefficient that is not defined; one line."""


def coefficient(activation: Activation | str, k: int) -> Number:
    """c_k = E[He_k(x) s(x)].

    Parameters
    ----------
    activation : Activation or str
    k : int
        0 to 60.

    Returns
    -------
    Number
        ``value``, ``error`` (rounding if exact), ``exact`` (sympy, or None).
    """
    _check(k)
    activation = make_activation(activation) if isinstance(activation, str) else activation
    found = _series(activation, k)
    if found is not None:
        exact = found.get((k,), sp.S.Zero) * math.factorial(k)
        if not exact.has(sp.Float):
            exact = sp.expand(exact)
            value = float(sp.N(exact, 17, maxn=400))
            return Number(value, 2e-16 * abs(value), exact)
    values, errors = moments(activation.numeric(), activation.kinks, k)
    return Number(float(values[k]), float(errors[k]), None)


def coefficients(activation: Activation | str, n: int) -> np.ndarray:
    """c_0 .. c_n as floats, shape (n + 1,)."""
    _check(n)
    return np.array([coefficient(activation, k).value for k in range(n + 1)])


def slope_moments(activation: Activation | str) -> tuple[Number, Number]:
    """E[s'(x)] and E[s'(x)^2] of the slope a network is trained with (0 for sign).

    For a continuous activation E[s'] = c_1; for one with jumps it is not.
    """
    activation = make_activation(activation) if isinstance(activation, str) else activation
    slope = activation.derivative(Z)
    return _average(slope, activation), _average(slope**2, activation)


def visible(activation: Activation | str, k: int, bias: bool = False) -> bool:
    """Whether E[s^(k)(q x + b)] differs from 0 for some scale q (and some b, with biases).

    Without biases: unless the part of s of the parity of k is a polynomial of degree below k.  With them: unless s is.
    A coefficient that vanishes at q = 1 only, such as c_1 of He3, counts as visible: training changes q.

    Notes
    -----
    Smoothing by Gaussians of all widths loses nothing, which is why vanishing for all q means that the k-th derivative of that
    part vanishes.  A part whose terms are not recognised is not called polynomial.
    """
    _check(k)
    activation = make_activation(activation) if isinstance(activation, str) else activation
    degree = _degrees(activation)[2 if bias else k % 2]
    return k <= degree


def parts_of(activation: Activation) -> tuple[sp.Expr, sp.Expr]:
    """Even and odd part, as expressions in `Z`."""
    s, mirror = activation.expression, activation.expression.xreplace({Z: -Z})
    return (s + mirror) / 2, (s - mirror) / 2


@lru_cache(maxsize=256)
def _degrees(activation: Activation) -> tuple[float, float, float]:
    """Degree of the even part, of the odd part and of the whole; inf for what is no polynomial."""
    found = []
    for part in (*parts_of(activation), activation.expression):
        read = _terms(part)
        degree: float = -1
        for shape, _ in (read or {}).items():
            plain = not shape.ridges and not any(shape.rate)
            degree = max(degree, shape.powers[0] if plain else math.inf)
        found.append(math.inf if read is None else degree)
    return found[0], found[1], found[2]


def _terms(expression: sp.Expr) -> Terms | None:
    try:
        return terms(rational(expression), (Z,))
    except (NotSeparable, TooLarge):
        return None


def rational(expression: sp.Expr) -> sp.Expr:
    """Decimals as the fractions they are written as: 0.1 is 1/10."""
    return expression.xreplace({x: sp.Rational(repr(float(x))) for x in expression.atoms(sp.Float)})


@lru_cache(maxsize=512)
def _series(activation: Activation, k: int) -> Series | None:
    read = _terms(activation.expression)
    if read is None:
        return None
    return series(read, 1, k)[0]


def _average(function: sp.Expr, activation: Activation) -> Number:
    read = _terms(function)
    if read is not None:
        found, _ = series(read, 1, 0)
        exact = found.get((0,), sp.S.Zero)
        if not exact.has(sp.Float):
            value = float(sp.N(exact, 17))
            return Number(value, 2e-16 * abs(value), exact)
    values, errors = moments(Activation("", function).numeric(), activation.kinks, 0)
    return Number(float(values[0]), float(errors[0]), None)


def _check(k: int) -> None:
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 0 <= k <= MAX_ORDER:
        raise HermiteError(f"order k = {k!r} is not a whole number from 0 to {MAX_ORDER}")
