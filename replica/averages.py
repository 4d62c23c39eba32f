"""Gaussian averages as symbolic nodes.

``GaussianAverage(f, (u, v), covariance)`` is E[f(u, v)] for centred Gaussians u, v.  The covariance travels with the
node, so a derivative acts on it by Price's theorem and no ``1/sqrt(q)`` ever appears.  Nothing is evaluated here: see
`lowering`.

Two rules paid for earlier: ``node.func(*node.args) == node`` (when violated, `sympy.simplify` silently drops the average),
and `simplify` is never called on anybody's equations.

References
----------
.. [1] R. Price, IRE Trans. Inf. Theory 4, 69 (1958).
.. [2] C. Stein, Ann. Statist. 9, 1135 (1981).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import sympy as sp
from sympy.core.expr import Expr

from .functions import plain
from .walk import REMEMBERED, one, pieces, replaced, shared, symbols_in


def _split_at_masses(f: Any) -> list[Any]:
    """Summands of f, products with sums that contain point masses multiplied out."""
    if isinstance(f, sp.Add):
        return [t for term in f.args for t in _split_at_masses(term)]
    if isinstance(f, sp.Mul):
        for i, factor in enumerate(f.args):
            if isinstance(factor, sp.Add) and pieces(factor, sp.DiracDelta):
                rest = sp.Mul(*f.args[:i], *f.args[i + 1 :])
                return [t for term in factor.args for t in _split_at_masses(rest * term)]
    return [f]


def _sifted(term: Any, u: Any, variance: Any) -> Any:
    """E[term] for a term with the factor ``DiracDelta(a u + b)`` or a derivative of it; None for any other.

    ``E[delta^(k)(a u + b) F(u)] = (-1)^k (F p)^(k)(-b/a)/(a^k |a|)`` with p the density of N(0, variance).
    """
    masses = [factor for factor in sp.Mul.make_args(term) if isinstance(factor, sp.DiracDelta)]
    if len(masses) != 1:
        return None
    order = int(masses[0].args[1]) if len(masses[0].args) > 1 else 0
    slope = sp.diff(masses[0].args[0], u)
    if slope == 0 or u in symbols_in(slope):
        return None
    at = -masses[0].args[0].xreplace({u: sp.S.Zero}) / slope
    weighed = term / masses[0] * sp.exp(-(u**2) / (2 * variance)) / sp.sqrt(2 * sp.pi * variance)
    curved = sp.diff(weighed, u, order) if order else weighed
    if pieces(curved, sp.DiracDelta):  # a kink at the same place has no derivative there
        return None
    return (-1) ** order * curved.xreplace({u: at}) / (slope**order * sp.Abs(slope))


def gaussian(names: str) -> Any:
    """Real symbols to be bound by an average: ``kappa, zeta = gaussian("kappa zeta")``."""
    return sp.symbols(names, real=True)


class GaussianAverage(Expr):
    """E[f(u)] for ``u ~ N(0, covariance)``; the u are bound variables.

    Parameters
    ----------
    f : expression
    variables : symbol or sequence of symbols
    covariance : symmetric matrix, optional
        Of the variables, dimensionless; the identity if left out.  Entries may contain order parameters and the
        variables of an enclosing average.

    Notes
    -----
    Canonical on construction: variables that `f` does not contain are marginalised away, factors free of the
    variables are pulled out.  Sums are kept (see `split`), since an integrand is often best read whole.
    """

    is_commutative = True
    is_real = True

    def __new__(cls, f: Any, variables: Any, covariance: Any = None) -> Any:
        f = sp.sympify(f, strict=True)
        us = tuple(variables) if isinstance(variables, Sequence | sp.Tuple) else (variables,)
        cov = sp.eye(len(us)) if covariance is None else sp.Matrix(covariance)
        if cov.shape != (len(us), len(us)) or not cov.is_symmetric():
            raise ValueError(f"covariance of {us} must be a symmetric {len(us)} x {len(us)} matrix, got {cov}")
        used = [i for i, u in enumerate(us) if u in symbols_in(f)]
        if not used:
            return f
        us, cov = tuple(us[i] for i in used), cov.extract(used, used)
        factor, f = f.as_independent(*us, as_Add=False)
        node = one(Expr.__new__(cls, shared(f), sp.Tuple(*us), sp.ImmutableMatrix(cov)))
        return node if factor == 1 else factor * node

    f = property(lambda self: self.args[0])
    variables = property(lambda self: self.args[1])
    covariance = property(lambda self: self.args[2])

    @property
    def free_symbols(self) -> set[Any]:
        return set(symbols_in(self.f) - set(self.variables)) | self.covariance.free_symbols

    @property
    def bound_symbols(self) -> list[Any]:
        return list(self.variables)

    def _eval_derivative(self, parameter: Any) -> Any:
        if parameter not in symbols_in(self):
            return sp.S.Zero
        # Price: dE/dcov_ij = E[d_i d_j f] / 2, summed over i and j.
        out = self.of(sp.diff(self.f, parameter))
        for i, u in enumerate(self.variables):
            for j, v in enumerate(self.variables):
                slope = sp.diff(self.covariance[i, j], parameter)
                if slope != 0:
                    out += slope / 2 * self.of(sp.diff(self.f, u, v))
        return out

    def of(self, f: Any) -> Any:
        """The same average of another function, point masses in one variable integrated."""
        f = plain(f)
        if len(self.variables) > 1 or not pieces(f, sp.DiracDelta):
            return GaussianAverage(f, self.variables, self.covariance)
        (u,) = self.variables
        smooth: list[Any] = []
        masses: list[Any] = []
        for term in _split_at_masses(f):
            mass = _sifted(term, u, self.covariance[0, 0])
            (smooth if mass is None else masses).append(term if mass is None else mass)
        return GaussianAverage(sp.Add(*smooth), self.variables, self.covariance) + sp.Add(*masses)

    def _eval_subs(self, old: Any, new: Any) -> Any:
        if old in self.variables:  # bound: invisible from outside
            return self
        clash = set(self.variables) & new.free_symbols
        return self.rename({u: sp.Dummy(u.name, real=True) for u in clash})._subs(old, new) if clash else None

    def _eval_simplify(self, **_: Any) -> Any:
        return self

    def _sympystr(self, printer: Any) -> str:
        names = ",".join(map(str, self.variables))
        if self.covariance != sp.eye(len(self.variables)):
            rows = "; ".join(", ".join(printer._print(e) for e in row) for row in self.covariance.tolist())
            names += f"~N(0, {rows})"
        return f"E_{{{names}}}[{printer._print(self.f)}]"

    def _latex(self, printer: Any, exp: Any = None) -> str:
        names = ",".join(printer._print(u) for u in self.variables)
        if self.covariance != sp.eye(len(self.variables)):
            scalar = len(self.variables) == 1
            law = printer._print(self.covariance[0, 0] if scalar else self.covariance)
            names += rf"\sim\mathcal{{N}}(0,{law})"
        text = rf"\mathbb{{E}}_{{{names}}}\left[{printer._print(self.f)}\right]"
        return text if exp is None else rf"{{{text}}}^{{{exp}}}"

    def rename(self, names: dict[Any, Any]) -> Any:
        """The same average with other bound variables."""
        return GaussianAverage(self.f.xreplace(names), tuple(names.get(u, u) for u in self.variables), self.covariance)

    def split(self) -> Any:
        """Linearity: the average of a sum as a sum of averages."""
        return sp.Add(
            *[GaussianAverage(t, self.variables, self.covariance) for t in _monomials(self.f, self.variables)]
        )

    def marginalise(self) -> Any:
        """Integrate out, exactly, what is polynomial in its variables.

        A term polynomial in all its variables becomes a polynomial in covariances (Wick).  In a term that also contains
        other functions, the polynomial variables are integrated out given the arguments of those functions: no
        derivative falls on them, which is why a discontinuous teacher is harmless.  If that does not apply to any
        variable of the whole integrand, the terms left over stay together as one average.
        """
        done, left = sp.S.Zero, []
        for term in _monomials(self.f, self.variables):
            reduced = self._integrate(term)
            if reduced is None:
                left.append(term)
            else:
                done += reduced
        if len(left) == 1 or not any(self.f.is_polynomial(v) for v in self.variables):
            left = [sp.Add(*left)] if done != 0 else [self.f]
        return done + sp.Add(*[GaussianAverage(t, self.variables, self.covariance) for t in left])

    def _integrate(self, term: Any) -> Any:
        """Average of one term as far as it is polynomial; None if no variable can be integrated out."""
        coefficient, monomial = term.as_independent(*self.variables, as_Add=False)
        index = {u: i for i, u in enumerate(self.variables) if u in symbols_in(monomial)}
        powers = {u: sp.degree(monomial, u) for u in index if monomial.is_polynomial(u)}
        inner, outer = [index[u] for u in powers], [i for u, i in index.items() if u not in powers]
        cov = self.covariance
        if not outer:
            return coefficient * _wick([i for u, i in index.items() for _ in range(powers[u])], cov)
        outer_cov = cov.extract(outer, outer)
        if not powers or outer_cov.det() == 0:
            return None
        opaque = monomial / sp.Mul(*[u**k for u, k in powers.items()])
        slope = cov.extract(inner, outer) * outer_cov.inv()
        rest_cov = cov.extract(inner, inner) - slope * cov.extract(outer, inner)
        mean = slope * sp.Matrix([self.variables[i] for i in outer])
        around = sp.symbols(f"e0:{len(inner)}", cls=sp.Dummy)
        product = sp.expand(sp.Mul(*[(mean[k] + around[k]) ** n for k, n in enumerate(powers.values())]))
        moments = sp.Add(
            *[
                c * _wick([k for k, n in enumerate(exponents) for _ in range(n)], rest_cov)
                for exponents, c in sp.Poly(product, *around).terms()
            ]
        )
        left = [self.variables[i] for i in outer]
        parts = [GaussianAverage(t, left, outer_cov) for t in _monomials(opaque * moments, left)]
        return coefficient * sp.Add(*parts)


def _wick(indices: Sequence[int], cov: Any) -> Any:
    """E of a product of centred Gaussians, by pairing (Isserlis)."""
    if not indices:
        return sp.S.One
    first, rest = indices[0], indices[1:]
    return sp.Add(*[cov[first, j] * _wick([*rest[:k], *rest[k + 1 :]], cov) for k, j in enumerate(rest)])


def _monomials(f: Any, variables: Iterable[Any]) -> list[Any]:
    """The terms of `f`, expanded in `variables` only.

    Sub-expressions free of the variables are shielded by dummies and stay whole, so are functions of them.
    """
    us = set(variables)
    shields: dict[Any, Any] = {}
    bound = set(us)

    def shield(e: Any) -> Any:
        if not symbols_in(e) & us:
            return e if e.is_Number else shields.setdefault(e, sp.Dummy(real=True))
        if isinstance(e, sp.Add | sp.Mul):
            constant, rest = e.as_independent(*us, as_Add=isinstance(e, sp.Add))
            return e.func(shield(constant), *[shield(a) for a in type(e).make_args(rest)])
        if isinstance(e, sp.Pow) and e.exp.is_Integer and e.exp > 1:
            return sp.Pow(shield(e.base), e.exp)
        if e in us:
            return e
        opaque = shields.setdefault(e, sp.Dummy(real=True))
        bound.add(opaque)
        return opaque

    expanded = sp.expand(shield(f))
    back = {dummy: e for e, dummy in shields.items()}
    grouped: dict[Any, Any] = {}
    for term in sp.Add.make_args(expanded):
        coefficient, monomial = term.as_independent(*bound, as_Add=False)
        grouped[monomial] = grouped.get(monomial, 0) + coefficient
    return [c.xreplace(back) * m.xreplace(back) for m, c in grouped.items()]


@lru_cache(REMEMBERED)
def averages_in(expression: Any) -> frozenset[GaussianAverage]:
    """All averages in an expression, those inside others included."""
    inside = frozenset[GaussianAverage]().union(*[averages_in(a) for a in expression.args])
    return inside | {expression} if isinstance(expression, GaussianAverage) else inside


@lru_cache(REMEMBERED)
def outermost(expression: Any) -> tuple[GaussianAverage, ...]:
    """The averages in an expression that are not inside another one, in a fixed order."""
    nodes = averages_in(expression)
    inside = frozenset[GaussianAverage]().union(*[averages_in(node.f) | averages_in(node.covariance) for node in nodes])
    return tuple(sorted(nodes - inside, key=sp.default_sort_key))


@lru_cache(REMEMBERED)
def marginalise(expression: Any) -> Any:
    """Marginalise every average in an expression, innermost first."""
    expression = sp.sympify(expression, strict=True)
    if not expression.args:
        return expression
    if isinstance(expression, GaussianAverage):
        covariance = expression.covariance.applyfunc(marginalise)
        inner = GaussianAverage(marginalise(expression.f), expression.variables, covariance)
        return replaced(inner, {node: node.marginalise() for node in outermost(inner)})
    return one(expression.func(*[marginalise(a) for a in expression.args]))
