"""Functions of several variables as sums of products whose Gaussian averages are known.

A term is  coefficient * z^powers * exp(rate.z) * product of f(u.z + b), with f one of sign, erf, cos, sin (closed forms) or
tanh, atan, logcosh and any function of one variable (numbers).  Everything that is linear on either side of a plane is
written with the sign: relu(p) = (p + p sign p)/2; the sign of a polynomial is the product of the signs of its factors.
Averages are taken in `smoothing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import sympy as sp

from .functions import absolute, logcosh, normal_cdf, relu, sgn, sigmoid, softplus, step

#: The variable of a function of one variable.
T = sp.Symbol("t", real=True)
MAX_TERMS = 5000

Vector = tuple[sp.Expr, ...]


class NotSeparable(ValueError):
    """The function is no sum of products of functions of single directions; one line saying which part is not."""


class TooLarge(ValueError):
    """The function would have more than `MAX_TERMS` terms once multiplied out."""


@dataclass(frozen=True)
class Ridge:
    """f(u.z + b); `kind` names f, and `shape` is f(T) for the kind ``"other"``."""

    kind: str
    u: Vector
    b: sp.Expr
    shape: sp.Expr = T

    @property
    def function(self) -> sp.Expr:
        """f as an expression in T."""
        return self.shape if self.kind == "other" else FACES[self.kind](T)

    @property
    def parity(self) -> int:
        """1 if even, -1 if odd in u.z, 0 if neither is known."""
        if self.b != 0:
            return 0
        if self.kind == "other":
            mirror = self.shape.xreplace({T: -T})
            return 1 if mirror == self.shape else -1 if mirror == -self.shape else 0
        return PARITY[self.kind]


FACES: dict[str, Any] = {
    "sgn": sgn, "erf": sp.erf, "cos": sp.cos, "sin": sp.sin, "tanh": sp.tanh, "atan": sp.atan, "logcosh": logcosh,
}  # fmt: skip
PARITY = {"sgn": -1, "erf": -1, "cos": 1, "sin": -1, "tanh": -1, "atan": -1, "logcosh": 1}
_KINDS = {function: kind for kind, function in FACES.items()}


@dataclass(frozen=True)
class Shape:
    """What a term is besides its coefficient."""

    powers: tuple[int, ...]
    rate: Vector
    ridges: tuple[Ridge, ...] = ()


Terms = dict[Shape, sp.Expr]


def terms(expr: sp.Expr, z: Sequence[sp.Symbol]) -> Terms:
    """`expr` as a sum of terms in the variables z.

    Raises
    ------
    NotSeparable, TooLarge
    """
    return _Reader(tuple(z)).read(expr)


def product(a: Terms, b: Terms, r: int) -> Terms:
    """Product of two sums of terms; TooLarge as in `terms`."""
    return _Reader(sp.symbols(f"z1:{r + 1}", real=True)).times(a, b)


def is_zero(number: sp.Expr) -> bool:
    """Whether a constant is zero: by algebra if it is, by 50 digits if it is not."""
    if number.is_Rational or number.is_Float:
        return bool(number == 0)
    if number.is_zero is not None:
        return bool(number.is_zero)
    return abs(sp.N(number, 50)) < 1e-40 and bool(number.equals(0))


def dot(u: Vector, v: Vector) -> sp.Expr:
    """u.v, zero where it is zero."""
    value = sp.expand(sum((a * b for a, b in zip(u, v, strict=True)), start=sp.S.Zero))
    return sp.S.Zero if is_zero(value) else value


class _Reader:
    def __init__(self, z: tuple[sp.Symbol, ...]):
        self.z = z
        self.zero: Vector = (sp.S.Zero,) * len(z)
        self.nothing = Shape((0,) * len(z), self.zero)

    def read(self, expr: sp.Expr) -> Terms:
        if not expr.free_symbols:
            return {self.nothing: expr} if expr != 0 else {}
        if expr.is_Symbol:
            return {Shape(tuple(int(expr == z) for z in self.z), self.zero): sp.S.One}
        if expr.is_Add:
            return self._sum([self.read(part) for part in expr.args])
        if expr.is_Mul:
            product: Terms = {self.nothing: sp.S.One}
            for part in expr.args:
                product = self.times(product, self.read(part))
            return product
        if expr.is_Pow and expr.exp.is_Integer and expr.exp > 0:
            return self._power(self.read(expr.base), int(expr.exp))
        return self._function(expr)

    def _sum(self, parts: Sequence[Terms]) -> Terms:
        total: Terms = {}
        for part in parts:
            for shape, coefficient in part.items():
                total[shape] = total.get(shape, sp.S.Zero) + coefficient
        return {shape: c for shape, c in total.items() if c != 0}

    def _scaled(self, part: Terms, factor: sp.Expr) -> Terms:
        return {shape: factor * c for shape, c in part.items()}

    def _power(self, base: Terms, n: int) -> Terms:
        result: Terms = {self.nothing: sp.S.One}
        for _ in range(n):
            result = self.times(result, base)
        return result

    def times(self, a: Terms, b: Terms) -> Terms:
        if len(a) * len(b) > 20 * MAX_TERMS:
            raise TooLarge(f"more than {MAX_TERMS} terms once multiplied out")
        total: Terms = {}
        for one, x in a.items():
            for two, y in b.items():
                powers = tuple(i + j for i, j in zip(one.powers, two.powers, strict=True))
                rate = tuple(i + j for i, j in zip(one.rate, two.rate, strict=True))
                for ridges, c in self._joined(one.ridges + two.ridges).items():
                    shape = Shape(powers, rate, ridges)
                    total[shape] = sp.expand(total.get(shape, sp.S.Zero) + c * x * y)
        total = {shape: c for shape, c in total.items() if c != 0}
        if len(total) > MAX_TERMS:
            raise TooLarge(f"more than {MAX_TERMS} terms once multiplied out")
        return total

    def _joined(self, ridges: tuple[Ridge, ...]) -> dict[tuple[Ridge, ...], sp.Expr]:
        """A product of ridge functions, with products of signs and of sines along related directions resolved."""
        for i, one in enumerate(ridges):
            for j in range(i):
                other = ridges[j]
                rest = ridges[:j] + ridges[j + 1 : i] + ridges[i + 1 :]
                resolved = _product_of_two(other, one)
                if resolved is not None:
                    total: dict[tuple[Ridge, ...], sp.Expr] = {}
                    for factor, c in resolved:
                        for shape, d in self._joined(rest + factor).items():
                            total[shape] = total.get(shape, sp.S.Zero) + c * d
                    return total
        return {tuple(sorted(ridges, key=str)): sp.S.One}

    def _function(self, expr: sp.Expr) -> Terms:
        head, x = expr.func, expr.args[0]
        if head in (sgn, absolute, relu, step) and x.is_polynomial(*self.z):
            sign = self._sign(x)
            if sign is not None:
                return self._kinked(head, x, sign)
        linear = self._linear(x) if len(expr.args) == 1 else None
        if linear is not None:
            u, b = linear
            if head is sp.exp:
                return {Shape(self.nothing.powers, u): sp.exp(b)}
            if head in _KINDS:
                return self._ridge(_KINDS[head], u, b)
            half = tuple(a / 2 for a in u)
            if head is normal_cdf:
                root = sp.sqrt(2)
                gauss = self._ridge("erf", tuple(a / root for a in u), b / root)
                return self._sum([{self.nothing: sp.S.Half}, self._scaled(gauss, sp.S.Half)])
            if head is sigmoid:
                odd = self._ridge("tanh", half, b / 2)
                return self._sum([{self.nothing: sp.S.Half}, self._scaled(odd, sp.S.Half)])
            if head is softplus:
                even = self._ridge("logcosh", half, b / 2)
                return self._sum([{self.nothing: sp.log(2)}, self.read(x / 2), even])
        used = [z for z in self.z if z in expr.free_symbols]
        if len(used) == 1:
            u = tuple(sp.S.One if z == used[0] else sp.S.Zero for z in self.z)
            shape = expr.xreplace({used[0]: T})
            return {Shape(self.nothing.powers, self.zero, (Ridge("other", u, sp.S.Zero, shape),)): sp.S.One}
        shown = str(expr) if len(str(expr)) <= 60 else str(expr)[:57] + "..."
        raise NotSeparable(f"{shown} is no sum of products of functions of one direction each")

    def _linear(self, x: sp.Expr) -> tuple[Vector, sp.Expr] | None:
        if not x.is_polynomial(*self.z):
            return None
        p = sp.Poly(x, *self.z)
        if p.total_degree() > 1:
            return None
        return tuple(p.coeff_monomial(z) for z in self.z), p.coeff_monomial(1)

    def _ridge(self, kind: str, u: Vector, b: sp.Expr) -> Terms:
        first = next(a for a in u if a != 0)
        sign = 1
        if float(first) < 0:
            u, b, sign = tuple(-a for a in u), -b, PARITY[kind]
        if kind == "sgn":
            scale = abs(first)
            u, b = tuple(a / scale for a in u), b / scale
        return {Shape(self.nothing.powers, self.zero, (Ridge(kind, u, b),)): sp.Integer(sign)}

    def _kinked(self, head: Any, x: sp.Expr, sign: Terms) -> Terms:
        if head is sgn:
            return sign
        if head is step:
            return self._sum([{self.nothing: sp.S.Half}, self._scaled(sign, sp.S.Half)])
        p = self.read(x)
        size = self.times(p, sign)
        if head is absolute:
            return size
        return self._sum([self._scaled(p, sp.S.Half), self._scaled(size, sp.S.Half)])

    def _sign(self, x: sp.Expr) -> Terms | None:
        """Sign of a polynomial by its factors; None if a factor is neither linear nor has roots in radicals."""
        linear = self._linear(x)
        if linear is not None:
            return self._ridge("sgn", *linear)
        radicals = [p for p in x.atoms(sp.Pow) if not p.free_symbols and not p.exp.is_Integer]
        over = {"extension": radicals} if 0 < len(radicals) <= 2 and all(p.base.is_Rational for p in radicals) else {}
        constant, factors = sp.factor_list(x, *self.z, **over)
        if constant.free_symbols or not constant.is_real:
            return None
        result: Terms = {self.nothing: sp.Integer(1 if float(constant) > 0 else -1)}
        for factor, multiplicity in factors:
            if multiplicity % 2:
                part = self._sign_of_factor(factor)
                if part is None:
                    return None
                result = self.times(result, part)
        return result

    def _sign_of_factor(self, x: sp.Expr) -> Terms | None:
        linear = self._linear(x)
        if linear is not None:
            return self._ridge("sgn", *linear)
        used = list(x.free_symbols)
        if len(used) != 1:
            return None
        p = sp.Poly(x, used[0])
        if p.degree() != 2:
            return None
        a, b, c = p.all_coeffs()
        result: Terms = {self.nothing: sp.Integer(1 if float(a) > 0 else -1)}
        square = sp.expand(b * b - 4 * a * c)
        if float(square) <= 0:
            return result
        for root in ((-b - sp.sqrt(square)) / (2 * a), (-b + sp.sqrt(square)) / (2 * a)):
            result = self.times(result, self.read(sgn(used[0] - sp.radsimp(root))))
        return result


@cache
def _product_of_two(one: Ridge, two: Ridge) -> list[tuple[tuple[Ridge, ...], sp.Expr]] | None:
    """Two signs of parallel planes, or two sines along directions that are not orthogonal, as a sum; else None."""
    half = sp.S.Half
    if one.kind == two.kind == "sgn" and one.u == two.u:
        if is_zero(one.b - two.b):
            return [((), sp.S.One)]
        first, second = (one, two) if float(one.b) > float(two.b) else (two, one)
        return [((), sp.S.One), ((first,), -sp.S.One), ((second,), sp.S.One)]
    if {one.kind, two.kind} <= {"cos", "sin"} and dot(one.u, two.u) != 0:
        if (one.kind, two.kind) == ("sin", "cos"):
            one, two = two, one
        plus, minus = _wave(one, two, 1), _wave(one, two, -1)
        if one.kind == two.kind:  # cos cos = (cos(-) + cos(+))/2, sin sin = (cos(-) - cos(+))/2
            sign = half if one.kind == "cos" else -half
            return [*_waves("cos", minus, half), *_waves("cos", plus, sign)]
        return [*_waves("sin", plus, half), *_waves("sin", minus, -half)]  # cos a sin b
    return None


def _wave(one: Ridge, two: Ridge, sign: int) -> tuple[Vector, sp.Expr]:
    u = tuple(sp.expand(a + sign * b) for a, b in zip(one.u, two.u, strict=True))
    return u, sp.expand(one.b + sign * two.b)


def _waves(kind: str, wave: tuple[Vector, sp.Expr], c: sp.Expr) -> list[tuple[tuple[Ridge, ...], sp.Expr]]:
    u, b = wave
    if all(a == 0 for a in u):
        return [((), c * FACES[kind](b))]
    if float(next(a for a in u if a != 0)) < 0:
        u, b, c = tuple(-a for a in u), -b, c * PARITY[kind]
    return [((Ridge(kind, u, b),), c)]
