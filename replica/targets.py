"""Multi-index targets g(z), z ~ N(0, I_r), and their Hermite tensors.

C_k = E[grad^k g] = E[He_k(z) g(z)] (symmetric, no 1/k!).  Exact for polynomials and for sums of products of functions of
orthogonal directions with closed forms (`terms`); from one-dimensional quadrature for other functions of one direction; by
tensor quadrature for the rest, Python callables included.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import sympy as sp

from .expressions import MAX_DEGREE, ExpressionError, check_real, parse_expression
from .functions import absolute, evaluate, relu, sgn, softplus
from .functions import step as heaviside
from .hermite import rational
from .smoothing import Series, closed, hermite_values, panels, polynomial_series, series
from .terms import NotSeparable, Terms, TooLarge, product, terms

#: Largest number of variables of an expression, and of one that needs tensor quadrature.
MAX_VARIABLES, MAX_QUADRATURE = 20, 4
#: Monomials of a polynomial once multiplied out, and entries of a dense tensor.
MAX_MONOMIALS, MAX_ENTRIES = 20_000, 1_000_000
MAX_ORDER = 30

#: Nodes per half line for r = 1..4: polynomial times a kink at 0 of degree below twice this is exact.
NODES = {1: (60, 80), 2: (28, 40), 3: (16, 24), 4: (10, 14)}


class TargetError(ValueError):
    """A target that cannot be used; one line with what was given and what is allowed."""


class Target:
    """A function of r standard normals.

    Attributes
    ----------
    text : str
    r : int
    degree : int or None
        Of a polynomial.
    exact : bool
        Whether the tensors are exact sympy numbers.
    error : float
        Estimated error of the coefficients of the largest order asked for so far; 0 if exact.
    second_moment_error : float
        The same for E[g^2], once that has been asked for.
    """

    text: str
    r: int
    degree: int | None = None
    exact: bool = False

    def __init__(self) -> None:
        self.error = self.second_moment_error = 0.0
        self._known: tuple[int, Series] = (-1, {})

    def __str__(self) -> str:
        return self.text

    def series(self, order: int) -> Series:
        """d^mu E g(z + x) / mu! at z = 0 for all |mu| <= order, by exponents; zeros are left out."""
        if not 0 <= order <= MAX_ORDER and (self.degree is None or order > self.degree):
            raise TargetError(f"order {order} is outside 0 to {MAX_ORDER}")
        if order > self._known[0]:
            found, self.error = self._series(order)
            self._known = (order, found)
        return {powers: c for powers, c in self._known[1].items() if sum(powers) <= order}

    def coefficient(self, powers: Sequence[int]) -> sp.Expr:
        """E[He_mu(z) g(z)]."""
        mu = tuple(powers)
        return self.series(sum(mu)).get(mu, sp.S.Zero) * math.prod(map(math.factorial, mu))

    def tensor(self, k: int) -> np.ndarray:
        """C_k, shape (r,) * k, symmetric; dtype object (sympy numbers) if exact, else float."""
        if self.r**k > MAX_ENTRIES:
            raise TargetError(f"the tensor of order k = {k} has {self.r}^{k} entries, more than {MAX_ENTRIES}")
        scale = {p: c * math.prod(map(math.factorial, p)) for p, c in self.series(k).items() if sum(p) == k}
        values = {p: c if self.exact else float(c) for p, c in scale.items()}
        tensor = np.zeros((self.r,) * k, dtype=object if self.exact else float)
        if self.exact:
            tensor.fill(sp.S.Zero)
        for place in itertools.product(range(self.r), repeat=k) if values else ():
            powers = tuple(place.count(i) for i in range(self.r))
            if powers in values:
                tensor[place] = values[powers]
        return tensor

    def second_moment(self) -> sp.Expr | float:
        """E[g^2]: sympy if exact, else a float."""
        return self._second_moment

    @cached_property
    def _second_moment(self) -> sp.Expr | float:
        raise NotImplementedError

    def numeric(self, z: np.ndarray) -> np.ndarray:
        """g on an array of shape (..., r)."""
        raise NotImplementedError

    def _series(self, order: int) -> tuple[Series, float]:
        raise NotImplementedError


class _Expression(Target):
    """A target given by a formula."""

    def __init__(self, text: str, expression: sp.Expr, z: tuple[sp.Symbol, ...]) -> None:
        super().__init__()
        self.text, self.r, self.z = text, len(z), z
        self.expression = expression
        self.polynomial = bool(expression.is_polynomial(*z))
        exact_form = rational(expression)
        if count_terms(exact_form, self.r) > MAX_MONOMIALS:
            raise TargetError(f"target {_short(text)} has more than {MAX_MONOMIALS} terms once multiplied out")
        if self.polynomial:
            monomials = {p: c for p, c in sp.Poly(sp.expand(exact_form), *z).terms() if c != 0}
            self.degree = max(map(sum, monomials), default=0)
            if self.degree > MAX_DEGREE:
                raise TargetError(f"target {_short(text)} has degree {self.degree}, more than {MAX_DEGREE}")
            self.exact, self._whole = True, polynomial_series(monomials, self.r)
            return
        _check_lines(text, expression, z)
        self._terms: Terms | None = None
        try:
            self._terms = terms(exact_form, z)
            self.exact = closed(self._terms)
        except (NotSeparable, TooLarge) as error:
            self._terms, self.reason = None, str(error)
            if self.r > MAX_QUADRATURE:
                raise TargetError(
                    f"target {_short(text)}: {error}, and r = {self.r} is too large for quadrature (at most {MAX_QUADRATURE})"
                ) from None

    def _series(self, order: int) -> tuple[Series, float]:
        if self.polynomial:
            return self._whole, 0.0
        if self._terms is not None:
            return series(self._terms, self.r, order)
        return _by_quadrature(self.numeric, self.r, order)

    @cached_property
    def _second_moment(self) -> sp.Expr | float:
        if self.polynomial:
            weights = ((c, math.prod(map(math.factorial, p))) for p, c in self._whole.items())
            return sp.expand(sp.Add(*(c * c * w for c, w in weights)))
        if self._terms is not None:
            try:
                square = product(self._terms, self._terms, self.r)
                found, self.second_moment_error = series(square, self.r, 0)
                value = found.get((0,) * self.r, sp.S.Zero)
                return float(value) if value.has(sp.Float) else value
            except (NotSeparable, TooLarge):
                pass
        value, self.second_moment_error = _second_moment_by_quadrature(self)
        return value

    def numeric(self, z: np.ndarray) -> np.ndarray:
        z = np.asarray(z, dtype=float)
        value = evaluate(self.expression, {symbol: z[..., i] for i, symbol in enumerate(self.z)})
        return np.broadcast_to(value, z.shape[:-1]).astype(float)


class _Callable(Target):
    """A target given by a function on arrays of shape (n, r)."""

    def __init__(self, function: Callable, r: int) -> None:
        super().__init__()
        self.text, self.r, self.function = getattr(function, "__name__", "function"), r, function

    def _series(self, order: int) -> tuple[Series, float]:
        return _by_quadrature(self.numeric, self.r, order)

    @cached_property
    def _second_moment(self) -> sp.Expr | float:
        value, self.second_moment_error = _second_moment_by_quadrature(self)
        return value

    def numeric(self, z: np.ndarray) -> np.ndarray:
        z = np.asarray(z, dtype=float)
        flat = z.reshape(-1, self.r)
        value = np.asarray(self.function(flat))
        if np.iscomplexobj(value):  # a cast would drop what is imaginary
            raise TargetError(f"target {self.text} is complex, of type {value.dtype}; it must be real")
        value = value.astype(float)
        if value.shape != flat.shape[:1]:
            raise TargetError(f"target {self.text} returned shape {value.shape} for {flat.shape}, not ({len(flat)},)")
        if not np.isfinite(value).all():
            worst = flat[np.flatnonzero(~np.isfinite(value))[0]]
            raise TargetError(f"target {self.text} is not finite at z = {np.array2string(worst, precision=3)}")
        return value.reshape(z.shape[:-1])


def make_target(
    given: str | sp.Expr | Callable[[np.ndarray], np.ndarray] | Target,
    variables: Sequence[str] | None = None,
    *,
    r: int | None = None,
    exact: bool = False,
) -> Target:
    """A target from text, a sympy expression, or a function.

    Parameters
    ----------
    given : str, sympy expression, or callable
        Text in ``z1, z2, ...``, such as ``"z1 + z1*z2"``, read by `parse_expression`; decimals are taken as the fractions
        they are written as.  A callable gets an array of shape (n, r) and returns (n,).
    variables : names, optional
        Names of the variables in order.  Without it they are z1 .. zr, r being the largest number used.
    r : int, optional
        Number of variables; needed for a callable.
    exact : bool
        Refuse a target whose tensors are not exact.

    Raises
    ------
    TargetError, ExpressionError
        In one line.
    """
    if isinstance(given, Target):
        return given
    if isinstance(given, str) or isinstance(given, sp.Expr):
        target: Target = _from_expression(given, variables, r)
    elif callable(given):
        target = _from_callable(given, r)
    else:
        raise TargetError(f"a target is a text, a sympy expression or a function, found {type(given).__name__}")
    if exact and not target.exact:
        reason = "a function has no formula" if isinstance(target, _Callable) else "its Hermite coefficients have no closed form"
        raise TargetError(f"target {_short(target.text)} cannot be treated exactly: {reason}")
    return target


def _from_callable(function: Callable, r: int | None) -> Target:
    if isinstance(r, bool) or not isinstance(r, int) or not 1 <= r <= MAX_QUADRATURE:
        raise TargetError(f"r = {r!r} of a target given by a function is not a whole number from 1 to {MAX_QUADRATURE}")
    target = _Callable(function, r)
    try:
        target.numeric(np.zeros((3, r)) + np.arange(3)[:, None] / 3)
    except TargetError:
        raise
    except Exception as error:
        raise TargetError(f"target {target.text} fails on an array of shape (3, {r}): {error}") from None
    return target


def _from_expression(given: str | sp.Expr, variables: Sequence[str] | None, r: int | None) -> Target:
    if isinstance(given, str):
        expression = _parse(given, variables, r)
    else:
        expression = given.replace(sp.Abs, absolute).replace(sp.sign, sgn).replace(sp.Heaviside, lambda x, *_: heaviside(x))
        renamed = {s: sp.Symbol(s.name, real=True) for s in expression.free_symbols if isinstance(s, sp.Symbol)}
        expression = expression.xreplace(renamed)
    names = list(variables) if variables is not None else _names(sorted(s.name for s in expression.free_symbols), r)
    unknown = sorted(s.name for s in expression.free_symbols if s.name not in names)
    if unknown:
        raise TargetError(f"target {_short(given)} has the unknown variable {unknown[0]!r}; known are {', '.join(names)}")
    if len(names) > MAX_VARIABLES:
        raise TargetError(f"target {_short(given)} has r = {len(names)} variables, more than {MAX_VARIABLES}")
    z = tuple(sp.Symbol(name, real=True) for name in names)
    for constant in (c for c in expression.atoms(sp.Number, sp.NumberSymbol, sp.I.func) if not c.is_finite or not c.is_real):
        raise TargetError(f"target {_short(given)} has the coefficient {constant}, which is not a finite real number")
    return _Expression(str(given), expression, z)


def _parse(text: str, variables: Sequence[str] | None, r: int | None) -> sp.Expr:
    if variables is None:
        variables = _names(re.findall(r"\bz[0-9]+\b", text), r)
    try:
        return parse_expression(text, variables)
    except ExpressionError as error:
        raise TargetError(f"target {_short(text)}: {error}") from None


def _names(used: Sequence[str], r: int | None) -> list[str]:
    numbers = [int(name[1:]) for name in used if re.fullmatch(r"z[1-9][0-9]{0,3}", name)]
    largest = max(numbers, default=1)
    if r is not None and (isinstance(r, bool) or not isinstance(r, int) or not largest <= r):
        raise TargetError(f"r = {r!r} is not a whole number of at least {largest}, the largest variable used being z{largest}")
    if (r or largest) > MAX_VARIABLES:
        raise TargetError(f"z{r or largest}: at most {MAX_VARIABLES} variables, z1 to z{MAX_VARIABLES}")
    return [f"z{i + 1}" for i in range(r or largest)]


def _short(text: Any) -> str:
    text = str(text)
    return ascii(text if len(text) <= 60 else text[:57] + "...")


def count_terms(expr: sp.Expr, r: int) -> float:
    """A bound on the number of monomials (or terms) of an expression multiplied out."""
    return _count(expr, r)[0]


def _count(expr: sp.Expr, r: int) -> tuple[float, float]:
    """Bounds on terms and degree; functions count as terms of their argument's degree."""
    if not expr.free_symbols:
        return 1, 0
    if expr.is_Symbol:
        return 1, 1
    parts = [_count(part, r) for part in expr.args]
    if expr.is_Add:
        count, degree = sum(n for n, _ in parts), max(d for _, d in parts)
    elif expr.is_Mul:
        count, degree = math.prod(n for n, _ in parts), sum(d for _, d in parts)
    elif expr.is_Pow and expr.exp.is_Integer and expr.exp > 0:
        n, k = int(min(parts[0][0], 10**6)), int(expr.exp)
        count, degree = math.comb(n + k - 1, k), parts[0][1] * k
    else:
        count, degree = (2 * parts[0][0] if expr.func in (relu, absolute, softplus) else 1), max(d for _, d in parts)
    return (min(count, math.comb(r + int(degree), r)) if expr.is_polynomial() else count), degree


def _check_lines(text: str, expression: sp.Expr, z: tuple[sp.Symbol, ...]) -> None:
    """`check_real` along lines through the origin: the axes, the diagonal, and three others."""
    t = sp.Symbol("t", real=True)
    r = len(z)
    lines = [tuple(int(i == j) for j in range(r)) for i in range(r)] if r > 1 else []
    lines += [(1,) * r, tuple((-1) ** i for i in range(r))] if r > 1 else [(1,)]
    lines += [tuple(1 + (3 * i + k) % 4 for i in range(r)) for k in (0, 2)] if r > 1 else []
    for line in lines:
        norm = math.sqrt(sum(a * a for a in line))
        along = expression.xreplace({s: sp.Float(a / norm, 17) * t for s, a in zip(z, line, strict=True)})
        if t not in along.free_symbols and not along.has(sp.nan, sp.zoo, sp.oo, sp.I):
            continue
        try:
            check_real(along, t)
        except ExpressionError as error:
            raise TargetError(f"target {_short(text)} along z = t {line}, scaled to unit length: {error}") from None


@lru_cache(maxsize=16)
def half_line_rule(m: int) -> tuple[np.ndarray, np.ndarray]:
    """2 m nodes and weights for E f(x): Gauss quadrature on either half line, so that a kink at 0 costs nothing."""
    from scipy.linalg import eigh_tridiagonal

    x, w = panels((0.0,), 24)
    x, w = x[x > 0], 2 * w[x > 0]
    diagonal, off = np.zeros(m), np.zeros(m)
    before, p = np.zeros_like(x), np.ones_like(x)
    for k in range(m):  # Stieltjes: orthonormal polynomials by their recurrence
        diagonal[k] = np.sum(w * x * p * p)
        before, p = p, (x - diagonal[k]) * p - (off[k - 1] * before if k else 0.0)
        off[k] = math.sqrt(np.sum(w * p * p))
        p = p / off[k]
    nodes, vectors = eigh_tridiagonal(diagonal, off[: m - 1])
    weights = vectors[0] ** 2 / 2
    return np.concatenate([-nodes[::-1], nodes]), np.concatenate([weights[::-1], weights])


def grid(r: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Tensor product of `half_line_rule`: points (n, r) and weights (n,)."""
    x, w = half_line_rule(m)
    points = np.stack(np.meshgrid(*[x] * r, indexing="ij"), axis=-1).reshape(-1, r)
    weights = np.prod(np.stack(np.meshgrid(*[w] * r, indexing="ij")), axis=0).ravel()
    return points, weights


def _by_quadrature(g: Callable, r: int, order: int) -> tuple[Series, float]:
    """Hermite coefficients by tensor quadrature, and their largest error, from the coarser rule."""
    results = []
    for m in NODES[r]:
        x, w = half_line_rule(m)
        value = g(grid(r, m)[0]).reshape((2 * m,) * r)
        size = math.sqrt(float(grid(r, m)[1] @ value.ravel() ** 2))
        polynomials = hermite_values(x, order) * w / np.array([math.factorial(k) for k in range(order + 1)])[:, None]
        for _ in range(r):  # each contraction takes the first axis and appends its orders
            value = np.tensordot(value, polynomials, axes=(0, 1))
        results.append(value)
    found: Series = {}
    error = 4e-15 * size  # rounding
    for powers in itertools.product(range(order + 1), repeat=r):
        if sum(powers) <= order:
            found[powers] = sp.Float(results[1][powers], 17)
            scale = math.sqrt(math.prod(map(math.factorial, powers)))
            # Across a jump the error falls like 1/nodes: what is left is up to three times the change.
            error = max(error, 4 * float(abs(results[1][powers] - results[0][powers])) * scale)
    return found, error


def _second_moment_by_quadrature(target: Target) -> tuple[float, float]:
    """E[g^2] and its error: by the tensor rule where that converges, else by scrambled Sobol points."""
    found = []
    if target.r <= MAX_QUADRATURE:
        coarse, fine = (float(w @ target.numeric(x) ** 2) for x, w in (grid(target.r, m) for m in NODES[target.r]))
        found.append((fine, 4 * abs(fine - coarse) + 1e-15 * fine))
        if found[0][1] < 1e-6 * fine:
            return found[0]
    from scipy.stats import norm, qmc

    means = []
    for seed in range(16):
        points = norm.ppf(qmc.Sobol(target.r, seed=seed).random_base2(14))
        means.append(np.mean(target.numeric(points) ** 2))
    found.append((float(np.mean(means)), float(np.std(means) / math.sqrt(15) * 3)))
    return min(found, key=lambda pair: pair[1])


__all__ = ["Target", "TargetError", "count_terms", "grid", "half_line_rule", "make_target"]
