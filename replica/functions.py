"""Numerically stable primitives with symbolic faces.

Each primitive is a sympy function of one real argument that never expands itself, so that `softplus(z)` reaches the
generated kernel as one call of its jitted twin in `solvers.special` and not as an overflowing `log(1 + exp(z))`.
This file owns the symbols, their derivatives, and their numpy faces for simulations; lowering and printing are
elsewhere. Functions that sympy and every numerical library already have (tanh, erf, sin, exp, ...) are sympy's own.

Derivatives are those of distributions: `relu' = step`, `step' = DiracDelta`. This is what Price's theorem needs.
What automatic differentiation of a network returns is another thing: `almost_everywhere_derivative`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import mpmath
import numpy as np
import scipy.special
import sympy as sp
from sympy.core.function import ArgumentIndexError

from .walk import pieces


class Primitive(sp.Function):
    """A real function of one real argument.

    Attributes
    ----------
    kinks : tuple of numbers
        Values of the argument where the function is not smooth; a quadrature rule has to be split there.
    """

    nargs = 1
    kinks: tuple = ()

    def _eval_is_real(self):
        return True if self.args[0].is_real else None

    def fdiff(self, argindex=1):
        if argindex != 1:
            raise ArgumentIndexError(self, argindex)
        return self._slope(self.args[0])


class Kinked(Primitive):
    """A primitive that is linear on either side of zero, hence exact on every number."""

    kinks = (0,)

    @classmethod
    def eval(cls, x):
        if x is sp.nan:
            return sp.nan
        if x.is_Number:  # not is_number: deciding the sign of an expression like sin(3) - 1/7 is not trivial
            return cls._on_number(x)


class step(Kinked):
    """Heaviside step with value 1/2 at zero."""

    @classmethod
    def _on_number(cls, x):
        return (1 + sp.sign(x)) / 2

    def _slope(self, x):
        return sp.DiracDelta(x)

    def _eval_mpmath(self):
        return lambda x: (1 + mpmath.sign(x)) / 2, self.args


class sgn(Kinked):
    """Sign, with value 0 at zero."""

    @classmethod
    def _on_number(cls, x):
        return sp.sign(x)

    def _slope(self, x):
        return 2 * sp.DiracDelta(x)

    def _eval_mpmath(self):
        return mpmath.sign, self.args


class relu(Kinked):
    """max(x, 0)."""

    @classmethod
    def _on_number(cls, x):
        return x if x.is_extended_positive else sp.S.Zero

    def _slope(self, x):
        return step(x)

    def _eval_mpmath(self):
        return lambda x: max(x, mpmath.mpf(0)), self.args


class absolute(Kinked):
    """|x|; sympy's Abs rewrites itself (powers, products), which hides the kink."""

    @classmethod
    def _on_number(cls, x):
        return sp.Abs(x)

    def _slope(self, x):
        return sgn(x)

    def _eval_mpmath(self):
        return mpmath.fabs, self.args


def plain(e):
    """`e` where kinks are multiplied, written so that it can be differentiated again; equal almost everywhere.

    ``step(u)^n = step(u)`` and ``relu(u) step(u) = relu(u)``, whose derivatives have no squares of point masses, and
    ``DiracDelta(u) f(u) = 0`` if f(0) = 0.
    """
    if not pieces(e, (sp.DiracDelta, step)):
        return e
    if isinstance(e, sp.Add):
        return sp.Add(*[plain(term) for term in e.args])
    factors = sp.Mul.make_args(e)
    bases = [f.base if isinstance(f, sp.Pow) and f.exp.is_positive else f for f in factors]
    ramps = {base.args[0] for base in bases if isinstance(base, relu)}
    vanish = ramps | {base.args[0] for base in bases if isinstance(base, absolute)} | set(bases)
    kept = []
    for factor, base in zip(factors, bases, strict=True):
        if isinstance(factor, sp.DiracDelta) and len(factor.args) == 1 and {factor.args[0], -factor.args[0]} & vanish:
            return sp.S.Zero
        if isinstance(base, step):
            kept += [] if base.args[0] in ramps else [base]
        else:
            kept.append(plain(factor) if isinstance(factor, sp.Add) else factor)
    return sp.Mul(*kept)


class Smooth(Primitive):
    """A smooth primitive; `value_at_zero` is the only number evaluated exactly."""

    value_at_zero: sp.Expr

    @classmethod
    def eval(cls, x):
        if x is sp.nan:
            return sp.nan
        if x is sp.S.Zero:
            return cls.value_at_zero


class sigmoid(Smooth):
    """1/(1 + exp(-x))."""

    value_at_zero = sp.S.Half

    def _slope(self, x):
        return self * (1 - self)

    def _eval_mpmath(self):
        return lambda x: 1 / (1 + mpmath.exp(-x)), self.args


class softplus(Smooth):
    """log(1 + exp(x))."""

    value_at_zero = sp.log(2)

    def _slope(self, x):
        return sigmoid(x)

    def _eval_mpmath(self):
        return lambda x: max(x, mpmath.mpf(0)) + mpmath.log1p(mpmath.exp(-abs(x))), self.args


class normal_cdf(Smooth):
    """Cumulative distribution function of N(0, 1)."""

    value_at_zero = sp.S.Half

    def _slope(self, x):
        return sp.exp(-(x**2) / 2) / sp.sqrt(2 * sp.pi)

    def _eval_mpmath(self):
        return mpmath.ncdf, self.args


class log_ndtr(Smooth):
    """log(normal_cdf(x))."""

    value_at_zero = -sp.log(2)

    def _slope(self, x):
        # One exponential of a difference: the quotient of density and normal_cdf would be 0/0 below x = -38.
        return sp.exp(-(x**2) / 2 - self) / sp.sqrt(2 * sp.pi)

    def _eval_mpmath(self):
        return lambda x: mpmath.log1p(-mpmath.ncdf(-x)) if x > 0 else mpmath.log(mpmath.ncdf(x)), self.args


class logcosh(Smooth):
    """log(cosh(x))."""

    value_at_zero = sp.S.Zero

    def _slope(self, x):
        return sp.tanh(x)

    def _eval_mpmath(self):
        return lambda x: abs(x) + mpmath.log1p(mpmath.expm1(-2 * abs(x)) / 2), self.args


class bit_entropy(Smooth):
    """cosh(x) log(2 cosh(x)) - x sinh(x): entropy of a sign of log-odds 2x, in nats, times cosh(x); falls like x exp(-x)."""

    value_at_zero = sp.log(2)

    def _slope(self, x):
        return bit_slope(x)

    def _eval_mpmath(self):
        return lambda x: mpmath.exp(-abs(x)) * abs(x) + mpmath.cosh(x) * mpmath.log1p(mpmath.exp(-2 * abs(x))), self.args


class bit_slope(Smooth):
    """sinh(x) log(2 cosh(x)) - x cosh(x), the slope of `bit_entropy`."""

    value_at_zero = sp.S.Zero

    def _slope(self, x):
        return bit_entropy(x) - sp.exp(-logcosh(x))

    def _eval_mpmath(self):
        return lambda x: mpmath.sinh(x) * mpmath.log1p(mpmath.exp(-2 * abs(x))) - mpmath.exp(-abs(x)) * x, self.args


PRIMITIVES: dict[str, type[Primitive]] = {
    primitive.__name__: primitive
    for primitive in (relu, step, sgn, absolute, softplus, sigmoid, normal_cdf, log_ndtr, logcosh, bit_entropy, bit_slope)
}


def _bit_tail(x: np.ndarray, sign: float) -> np.ndarray:
    """(1 + sign e) log(1 + e)/e at e = exp(-2x), x >= 0."""
    e = np.maximum(np.exp(-2.0 * x), np.finfo(float).tiny)
    return (1.0 + e if sign > 0 else -np.expm1(-2.0 * x)) * np.log1p(e) / e


NUMPY_FACES: dict[type, Callable] = {
    relu: lambda x: np.maximum(x, 0.0),
    step: lambda x: np.heaviside(x, 0.5),
    sgn: np.sign,
    absolute: np.abs,
    softplus: lambda x: np.logaddexp(0.0, x),
    sigmoid: scipy.special.expit,
    normal_cdf: scipy.special.ndtr,
    log_ndtr: scipy.special.log_ndtr,
    # log cosh = |x| + log1p(expm1(-2|x|)/2): exact zero at zero and no overflow
    logcosh: lambda x: np.abs(x) + np.log1p(np.expm1(-2.0 * np.abs(x)) / 2.0),
    bit_entropy: lambda x: np.exp(-np.abs(x)) * (np.abs(x) + 0.5 * _bit_tail(np.abs(x), 1.0)),
    bit_slope: lambda x: np.sign(x) * np.exp(-np.abs(x)) * (0.5 * _bit_tail(np.abs(x), -1.0) - np.abs(x)),
    sp.tanh: np.tanh,
    sp.erf: scipy.special.erf,
    sp.sin: np.sin,
    sp.cos: np.cos,
    sp.exp: np.exp,
    sp.log: np.log,
    sp.atan: np.arctan,
}
"""Array versions of the functions an activation may contain (and all its derivatives)."""

NOT_REAL = (sp.zoo, sp.nan, sp.oo, -sp.oo, sp.I)


def almost_everywhere_derivative(expr: sp.Expr, z: sp.Symbol) -> sp.Expr:
    """Derivative of `expr` where it is differentiable; point masses are dropped.

    Parameters
    ----------
    expr : sympy expression
    z : sympy symbol, real

    Returns
    -------
    sympy expression
        `relu -> step`, `sgn -> 0`; at a kink the value is the mean of both sides (`step(0) = 1/2`).

    Notes
    -----
    This is what automatic differentiation of a network uses: back-propagation through `sgn` returns zero.
    Never use it for averages by Price's theorem or Stein's lemma, which need the full distributional derivative:
    `E[sgn'(z)] = sqrt(2/pi)`, not 0. For those take ``expr.diff(z)``.
    """
    return sp.sympify(expr, strict=True).diff(z).replace(sp.DiracDelta, lambda *args: sp.S.Zero)


def evaluate(expr: sp.Expr, values: Mapping[sp.Symbol, np.ndarray | float]) -> np.ndarray | float:
    """Value of an expression in float64, vectorised over the arrays in `values`.

    Raises
    ------
    TypeError
        If the expression contains a function that is not in `NUMPY_FACES`.

    Notes
    -----
    A walk over the tree instead of `lambdify`, which prints Python text and executes it. What is not a real number
    (square root of -1, imaginary unit) is nan, overflow is inf; neither raises nor warns.
    """
    with np.errstate(all="ignore"):
        return _walk(expr, values)


def _walk(expr: sp.Expr, values: Mapping[sp.Symbol, np.ndarray | float]) -> np.ndarray | float:
    if expr.is_Symbol:
        return values[expr]
    if expr in NOT_REAL:
        return math.nan
    if expr.is_Number or expr.is_NumberSymbol:
        return np.float64(expr)
    parts = [_walk(part, values) for part in expr.args]
    if expr.is_Add:
        return sum(parts[1:], start=parts[0])
    if expr.is_Mul:
        return math.prod(parts[1:], start=parts[0])
    if expr.is_Pow:
        return parts[0] ** parts[1]
    if expr.func in NUMPY_FACES:
        return NUMPY_FACES[expr.func](parts[0])
    raise TypeError(f"{expr.func.__name__} has no array version; replica.functions.NUMPY_FACES is the list")
