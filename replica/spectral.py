"""Averages over the Marchenko-Pastur law, reduced to its Stieltjes transform.

The law is that of the eigenvalues of ``G G^T / d``, G of size p x d with standard Gaussian entries, ``ratio = p/d``.
Every rational function of the eigenvalue x averages to a rational function of

    T = <1/(1 + t x)>,   C = 1 - ratio + ratio T  (the same for G^T G / d),   N = sqrt((1 + (1-ratio) t)^2 + 4 ratio t),

with ``ratio t T^2 + (1 + (1-ratio) t) T = 1``.  No quadrature nodes: fixed node sets lose 1e-2 at the hard edge ratio = 1.

The forms used for first and second powers are sums and products of positive numbers, so nothing cancels at any t or
ratio (docs/theory/srf.md).  Higher powers follow by differentiation in t.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import sympy as sp
from sympy.core.expr import Expr

from .walk import pieces, replaced


class _Transform(sp.Function):
    nargs = 2
    is_real = True


class mp_transform(_Transform):
    """T(t, ratio) = <1/(1 + t x)>."""

    def fdiff(self, argindex: int = 1) -> Any:
        t, ratio = self.args
        big_n = mp_root(t, ratio)
        if argindex == 1:
            return -self * mp_companion(t, ratio) / big_n
        return t * self * (1 - self) / big_n


class mp_companion(_Transform):
    """C(t, ratio): the transform of G^T G / d."""

    def fdiff(self, argindex: int = 1) -> Any:
        t, ratio = self.args
        big_n = mp_root(t, ratio)
        if argindex == 1:
            return -ratio * mp_transform(t, ratio) * self / big_n
        return -t * self / big_n


class mp_root(_Transform):
    """N(t, ratio)."""

    def fdiff(self, argindex: int = 1) -> Any:
        t, ratio = self.args
        if argindex == 1:
            return (1 + ratio + (1 - ratio) ** 2 * t) / self
        return t * (1 - (1 - ratio) * t) / self


TRANSFORMS = {f.__name__: f for f in (mp_transform, mp_companion, mp_root)}


@cache
def _moment(power: int, ratio: Any) -> Any:
    """<x^power>, from the Narayana numbers."""
    if power == 0:
        return sp.S.One
    k = sp.Integer(power)
    return sp.Add(*[sp.binomial(k, j) * sp.binomial(k, j - 1) / k * ratio ** (j - 1) for j in range(1, power + 1)])


@cache
def rational_average(j: int, k: int, t: Any, ratio: Any) -> Any:
    """<x^j / (1 + t x)^k> for 0 <= j <= k."""
    big_t, big_c, big_n = (f(t, ratio) for f in (mp_transform, mp_companion, mp_root))
    positive = {
        (0, 1): big_t,
        (1, 1): big_t * big_c,
        (0, 2): big_t * (1 + ratio * t * big_t) / big_n,
        (1, 2): big_t * big_c / big_n,
        (2, 2): big_t * big_c * (big_c + ratio * big_t) / big_n,
    }
    if k == 0:
        return _moment(j, ratio)
    if (j, k) in positive:
        return positive[j, k]
    s = sp.Dummy("t", positive=True)
    if j > 0:  # d/dt of 1/(1 + t x)^(k-1)
        return (-sp.diff(rational_average(j - 1, k - 1, s, ratio), s) / (k - 1)).xreplace({s: t})
    lower = rational_average(0, k - 1, s, ratio)  # d/dt of (t/(1 + t x))^(k-1)
    return (lower + s * sp.diff(lower, s) / (k - 1)).xreplace({s: t})


class SpectralAverage(Expr):
    """<f(x)> over the Marchenko-Pastur law of the given ratio p/d; x is bound.

    Parameters
    ----------
    f : expression
        Rational in `x`; its poles, where a closed form is asked for, at linear factors ``a + b x``.
    x : symbol
    ratio : expression
        p/d, positive.
    """

    is_commutative = True
    is_real = True

    def __new__(cls, f: Any, x: Any, ratio: Any) -> Any:
        f = sp.sympify(f, strict=True)
        if x not in f.free_symbols:
            return f
        factor, f = f.as_independent(x, as_Add=False)
        node = Expr.__new__(cls, f, x, sp.sympify(ratio, strict=True))
        return node if factor == 1 else factor * node

    f = property(lambda self: self.args[0])
    variable = property(lambda self: self.args[1])
    ratio = property(lambda self: self.args[2])

    @property
    def free_symbols(self) -> set[Any]:
        return (self.f.free_symbols - {self.variable}) | self.ratio.free_symbols

    @property
    def bound_symbols(self) -> list[Any]:
        return [self.variable]

    def _eval_derivative(self, parameter: Any) -> Any:
        if parameter in self.ratio.free_symbols:
            return sp.diff(self.closed_form(), parameter)
        return SpectralAverage(sp.diff(self.f, parameter), self.variable, self.ratio)

    def _eval_subs(self, old: Any, new: Any) -> Any:
        if old == self.variable:
            return self
        if self.variable in new.free_symbols:
            return self.rename(sp.Dummy(self.variable.name, real=True))._subs(old, new)
        return None

    def _eval_simplify(self, **_: Any) -> Any:
        return self

    def _sympystr(self, printer: Any) -> str:
        return f"<{printer._print(self.f)}>_{{{self.variable}~MP({printer._print(self.ratio)})}}"

    def _latex(self, printer: Any, exp: Any = None) -> str:
        law = rf"{printer._print(self.variable)}\sim{{\rm MP}}({printer._print(self.ratio)})"
        text = rf"\left\langle {printer._print(self.f)}\right\rangle_{{{law}}}"
        return text if exp is None else rf"{{{text}}}^{{{exp}}}"

    def rename(self, x: Any) -> Any:
        """The same average with another bound variable."""
        return SpectralAverage(self.f.xreplace({self.variable: x}), x, self.ratio)

    def closed_form(self) -> Any:
        """In terms of the Stieltjes transform, by partial fractions.

        Raises
        ------
        ValueError
            If `f` is not rational in x with linear poles.
        """
        x = self.variable
        return (
            sp.Add(*[self._term(t) for t in sp.Add.make_args(self.f)]) if self.f.is_rational_function(x) else self._no()
        )

    def _term(self, f: Any) -> Any:
        x = self.variable
        numerator = sp.S.One
        poles: dict[Any, Any] = {}
        for factor in sp.Mul.make_args(f):
            base, power = factor.as_base_exp()
            if x not in factor.free_symbols:
                numerator *= factor
            elif power.is_Integer and power < 0 and base.is_polynomial(x) and sp.degree(base, x) == 1:
                poles[base] = poles.get(base, 0) - power
            elif factor.is_polynomial(x):
                numerator *= factor
            else:
                return self._split_poles(f)
        if len(poles) > 1:
            return self._split_poles(f)
        coefficients = sp.Poly(numerator, x).all_coeffs()[::-1]
        if not poles:
            return sp.Add(*[c * _moment(j, self.ratio) for j, c in enumerate(coefficients)])
        ((pole, k),) = poles.items()
        if len(coefficients) - 1 > k:
            return self._split_poles(f)
        b, a = sp.Poly(pole, x).all_coeffs()
        return sp.Add(
            *[c * a**-k * rational_average(j, int(k), b / a, self.ratio) for j, c in enumerate(coefficients) if c != 0]
        )

    def _split_poles(self, f: Any) -> Any:
        parts = sp.apart(sp.together(f), self.variable)
        terms = sp.Add.make_args(parts)
        if len(terms) == 1:
            self._no()
        return sp.Add(*[self._term(t) for t in terms])

    def _no(self) -> Any:
        raise ValueError(
            f"no closed form for the spectral average of {self.f}: it must be rational in {self.variable}, "
            "with poles at linear factors only"
        )


def closed_form(expression: Any) -> Any:
    """Replace every spectral average in an expression by its closed form."""
    expression = sp.sympify(expression, strict=True)
    return replaced(expression, {node: node.closed_form() for node in pieces(expression, SpectralAverage)})
