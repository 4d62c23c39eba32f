r"""Gaussian smoothing as a power series, exactly where closed forms exist.

For g on R^r let G(z) = E g(z + x), x ~ N(0, I).  Its derivatives at 0 are the Hermite coefficients
E[He_mu(x) g(x)] = E[d^mu g], so all of them up to an order are one truncated power series.  Rules:
a function of u.z is smoothed with variance |u|^2; functions of orthogonal directions multiply; a factor z_i becomes
z_i + d/dz_i; a polynomial is smoothed by exp(Laplacian/2).

Sources: theory notes on giant steps, section C (closed forms), checked against quadrature in tests/test_hermite.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
import sympy as sp
from scipy.special import roots_legendre

from .activations import Activation, Z
from .functions import evaluate
from .terms import NotSeparable, Ridge, Shape, T, Terms, Vector, dot, is_zero

#: Exponents of z -> coefficient.
Series = dict[tuple[int, ...], sp.Expr]

#: Panels of the one-dimensional rule: out to 30, since checked functions are computable there.
CUT, PANEL = 30.0, 1.0


class Number(NamedTuple):
    """A number with an estimate of its error, and the exact value if there is one."""

    value: float
    error: float
    exact: sp.Expr | None


@lru_cache(maxsize=64)
def panels(kinks: tuple[float, ...], m: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights for E f(x): Gauss-Legendre with m nodes on panels that end at the kinks."""
    edges = np.unique([*np.arange(-CUT, CUT + PANEL / 2, PANEL), *(k for k in kinks if abs(k) < CUT)])
    x, w = roots_legendre(m)
    half, centre = np.diff(edges)[:, None] / 2, (edges[1:, None] + edges[:-1, None]) / 2
    z = (centre + half * x).ravel()
    return z, (half * w).ravel() * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def hermite_values(z: np.ndarray, n: int) -> np.ndarray:
    """He_0 .. He_n at z, shape (n + 1, *z.shape)."""
    values = [np.ones_like(z), z]
    for k in range(1, n):
        values.append(z * values[k] - k * values[k - 1])
    return np.array(values[: n + 1])


def moments(f: Any, kinks: Sequence[float], n: int) -> tuple[np.ndarray, np.ndarray]:
    """E[He_k(x) f(x)], k = 0..n, by quadrature between kinks, and estimates of the errors.

    The estimate is the change under a finer rule, plus rounding of the largest terms.
    """
    results = []
    for m in (16, 24):
        z, w = panels(tuple(kinks), m)
        summands = hermite_values(z, n) * (w * f(z))
        results.append(summands.sum(axis=1))
    error = np.abs(results[1] - results[0]) + 4e-16 * np.abs(summands).sum(axis=1)
    return results[1], error


def polynomial_series(monomials: Series, r: int) -> Series:
    """exp(Laplacian/2) of a polynomial, its whole series."""
    for i in range(r):
        total: Series = {}
        for powers, c in monomials.items():
            n = powers[i]
            for m in range(n // 2 + 1):  # x^n/n! -> sum_m x^(n-2m)/((n-2m)! 2^m m!)
                key = (*powers[:i], n - 2 * m, *powers[i + 1 :])
                weight = sp.Rational(math.factorial(n), 2**m * math.factorial(m) * math.factorial(n - 2 * m))
                total[key] = total.get(key, sp.S.Zero) + c * weight
        monomials = total
    return cleaned(monomials)


def cleaned(series: Series) -> Series:
    """Without the coefficients that are zero."""
    kept = {}
    for powers, c in series.items():
        if not c.is_Rational and not c.is_Float:
            c = sp.expand(c)
        if not is_zero(c):
            kept[powers] = c
    return kept


def series(terms: Terms, r: int, order: int) -> tuple[Series, float]:
    """Taylor coefficients of G up to total degree `order`, and an error of E[He_mu g]/sqrt(mu!) where those are floats.

    Raises
    ------
    NotSeparable
        If a term has factors along directions neither parallel nor orthogonal.
    """
    parts: dict[tuple[int, ...], list[sp.Expr]] = {}
    polynomial: Series = {}
    error = 0.0
    for shape, c in terms.items():
        if not shape.ridges and not any(shape.rate):
            polynomial[shape.powers] = c
            continue
        part, e = (_axes_series if _along_axes(shape) else _term_series)(shape, r, order)
        error += abs(float(c)) * e * float(order + sum(shape.powers)) ** (sum(shape.powers) / 2)
        for powers, value in part.items():
            parts.setdefault(powers, []).append(c * value)
    for powers, value in polynomial_series(polynomial, r).items():
        if sum(powers) <= order:
            parts.setdefault(powers, []).append(value)
    return cleaned({powers: sp.Add(*values) for powers, values in parts.items()}), error


def closed(terms: Terms) -> bool:
    """Whether every coefficient is exact: no direction needs quadrature.

    Raises
    ------
    NotSeparable
        As in `series`.
    """
    return all(_is_closed(ridges) for shape in terms for _, ridges, _ in _directions(shape))


def _is_closed(ridges: tuple[Ridge, ...]) -> bool:
    return not ridges or (len(ridges) == 1 and ridges[0].kind in ("sgn", "erf", "cos", "sin"))


def _along_axes(shape: Shape) -> bool:
    return all(sum(a != 0 for a in ridge.u) == 1 for ridge in shape.ridges)


def _axes_series(shape: Shape, r: int, order: int) -> tuple[Series, float]:
    """A term whose directions are axes: a product of series in one variable each."""
    result: dict[tuple[int, ...], sp.Expr] = {(): sp.S.One}
    error = 0.0
    for i in range(r):
        ridges = tuple(Ridge(f.kind, (f.u[i],), f.b, f.shape) for f in shape.ridges if f.u[i] != 0)
        coefficients, e = _one_axis(ridges, shape.rate[i], shape.powers[i], order)
        error += e
        result = {
            (*powers, k): x * c
            for powers, x in result.items()
            for k, c in enumerate(coefficients[: order - sum(powers) + 1])
            if c != 0
        }
    return result, error


@lru_cache(maxsize=1024)
def _one_axis(ridges: tuple[Ridge, ...], rate: sp.Expr, n: int, order: int) -> tuple[list[sp.Expr], float]:
    """Taylor coefficients of E[s^n exp(rate s) prod f(s)], s = t + x, up to `order`."""
    coefficients, error = _one_direction(ridges, rate, sp.S.One, order + n)
    for _ in range(n):  # s becomes t + d/dt
        rises = [sp.S.Zero, *coefficients[:-1]]
        falls = [*(k * c for k, c in enumerate(coefficients) if k), sp.S.Zero]
        coefficients = [a + b for a, b in zip(rises, falls, strict=True)]
    return coefficients[: order + 1], error


def _term_series(shape: Shape, r: int, order: int) -> tuple[Series, float]:
    one = (0,) * r
    result: Series = {one: sp.S.One}
    error = 0.0
    top = order + sum(shape.powers)  # derivatives lower the degree
    for u, ridges, rate in _directions(shape):
        coefficients, e = _one_direction(ridges, rate, dot(u, u), top)
        error += e
        result = _times_ridge(result, u, coefficients, top)
    for i, n in enumerate(shape.powers):
        for _ in range(n):
            result = _raised(result, i)
    return {powers: c for powers, c in result.items() if sum(powers) <= order}, error


def _directions(shape: Shape) -> list[tuple[Vector, tuple[Ridge, ...], sp.Expr]]:
    """Orthogonal directions u, the factors along each (as multiples of u), and the rate of the exponential."""
    groups: list[tuple[Vector, list[Ridge]]] = []
    for ridge in shape.ridges:
        for u, members in groups:
            scale = _ratio(ridge.u, u)
            if scale is not None:
                members.append(Ridge(ridge.kind, (scale,), ridge.b, ridge.shape))
                break
            if dot(ridge.u, u) != 0:
                raise NotSeparable("a product has factors along directions neither parallel nor orthogonal")
        else:
            groups.append((ridge.u, [Ridge(ridge.kind, (sp.S.One,), ridge.b, ridge.shape)]))
    rest, found = shape.rate, []
    for u, members in groups:
        rate = sp.radsimp(dot(shape.rate, u) / dot(u, u))
        rest = tuple(sp.expand(a - rate * b) for a, b in zip(rest, u, strict=True))
        found.append((u, tuple(members), rate))
    if any(not is_zero(a) for a in rest):
        found.append((rest, (), sp.S.One))
    return found


def _ratio(u: Vector, v: Vector) -> sp.Expr | None:
    """s with u = s v, or None."""
    i = next(i for i, b in enumerate(v) if b != 0)
    s = sp.radsimp(u[i] / v[i])
    if s == 0 or any(not is_zero(sp.expand(a - s * b)) for a, b in zip(u, v, strict=True)):
        return None
    return s


@lru_cache(maxsize=256)
def _one_direction(ridges: tuple[Ridge, ...], rate: sp.Expr, v: sp.Expr, order: int) -> tuple[list[sp.Expr], float]:
    """Taylor coefficients in t of E[exp(rate s) prod f(b + scale s)], s = t + sqrt(v) x."""
    if not ridges:
        return _exponential(rate, v, order), 0.0
    if _is_closed(ridges):
        scale, b = ridges[0].u[0], ridges[0].b
        smooth = _closed(ridges[0].kind, scale, b + scale * rate * v, scale * scale * v, order)
        return (smooth if rate == 0 else _product(_exponential(rate, v, order), smooth)), 0.0
    return _by_quadrature(ridges, rate, float(v), order)


def _exponential(rate: sp.Expr, v: sp.Expr, order: int) -> list[sp.Expr]:
    start = sp.exp(sp.expand(rate * rate * v / 2))
    return [start * rate**k / math.factorial(k) for k in range(order + 1)]


def _closed(kind: str, scale: sp.Expr, mean: sp.Expr, variance: sp.Expr, order: int) -> list[sp.Expr]:
    """Taylor coefficients in t of E f(mean + scale t + sqrt(variance) x)."""
    if kind in ("cos", "sin"):
        size = sp.exp(-variance / 2)
        cycle = [sp.cos(mean), -sp.sin(mean), -sp.cos(mean), sp.sin(mean)]  # derivatives of cos
        shift = 0 if kind == "cos" else 3
        return [size * cycle[(k + shift) % 4] * scale**k / math.factorial(k) for k in range(order + 1)]
    # E erf(m + s x) = erf(m/sqrt(1 + 2 s^2)); the sign is erf(infinity times): erf(m/sqrt(2 s^2)).
    width = sp.sqrt(1 + 2 * variance) if kind == "erf" else sp.sqrt(2 * variance)
    y = sp.radsimp(mean / width)
    gauss = 2 / sp.sqrt(sp.pi) * sp.exp(-sp.expand(y * y))
    found = [sp.erf(y)]
    for k in range(1, order + 1):  # erf^(k) = 2/sqrt(pi) (-1)^(k-1) H_(k-1) exp(-y^2)
        slope = gauss * (-1) ** (k - 1) * sp.expand(sp.hermite(k - 1, y))
        found.append(slope * sp.radsimp(scale / width) ** k / math.factorial(k))
    return found


def _product(a: list[sp.Expr], b: list[sp.Expr]) -> list[sp.Expr]:
    return [sum((a[i] * b[k - i] for i in range(k + 1)), start=sp.S.Zero) for k in range(len(a))]


def _by_quadrature(ridges: tuple[Ridge, ...], rate: sp.Expr, v: float, order: int) -> tuple[list[sp.Expr], float]:
    root = math.sqrt(v)
    kinks: list[float] = []
    for ridge in ridges:
        scale, b = float(ridge.u[0]), float(ridge.b)
        kinks += [(kink - b) / (scale * root) for kink in Activation("", ridge.function.xreplace({T: Z})).kinks]

    def f(x: np.ndarray) -> np.ndarray:
        s = root * x
        value = np.exp(float(rate) * s)
        for ridge in ridges:
            value = value * evaluate(ridge.function, {T: float(ridge.u[0]) * s + float(ridge.b)})
        return value

    values, errors = moments(f, sorted(kinks), order)
    parity = math.prod(ridge.parity for ridge in ridges) if rate == 0 else 0
    found, worst = [], 0.0
    for k in range(order + 1):
        if parity and parity != (-1) ** k:
            found.append(sp.S.Zero)  # exactly, which is what symmetries rest on
            continue
        size = root**k * math.factorial(k)
        # A float that comes out as 0 must not pass for an exact zero.
        found.append(sp.Float(values[k] / size or 1e-300, 17))
        worst = max(worst, errors[k] / math.sqrt(math.factorial(k)))
    return found, worst


@cache
def _powers_of(u: Vector, k: int) -> Series:
    """(u.z)^k."""
    r = len(u)
    if k == 0:
        return {(0,) * r: sp.S.One}
    total: Series = {}
    for powers, c in _powers_of(u, k - 1).items():
        for i in range(r):
            if u[i] != 0:
                key = (*powers[:i], powers[i] + 1, *powers[i + 1 :])
                total[key] = total.get(key, sp.S.Zero) + c * u[i]
    return {key: sp.expand(c) for key, c in total.items()}


def _times_ridge(series: Series, u: Vector, coefficients: list[sp.Expr], order: int) -> Series:
    total: Series = {}
    for k, c in enumerate(coefficients):
        if c == 0:
            continue
        for powers, x in _powers_of(u, k).items():
            for other, y in series.items():
                if sum(other) + k <= order:
                    key = tuple(i + j for i, j in zip(powers, other, strict=True))
                    total[key] = total.get(key, sp.S.Zero) + c * x * y
    return {key: c for key, c in total.items() if c != 0}


def _raised(series: Series, i: int) -> Series:
    """(z_i + d/dz_i) of a series: what a factor z_i becomes."""
    total: Series = {}
    for powers, c in series.items():
        up = (*powers[:i], powers[i] + 1, *powers[i + 1 :])
        total[up] = total.get(up, sp.S.Zero) + c
        if powers[i]:
            down = (*powers[:i], powers[i] - 1, *powers[i + 1 :])
            total[down] = total.get(down, sp.S.Zero) + powers[i] * c
    return total
