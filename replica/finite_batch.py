"""The layer between weights and data when its rows keep the memory of a finite batch.

After the step, given the batch X with residuals e, rows of group k are Gaussian around the spike with covariance H_k/d,

    H_k = (1 + a_k M)^2 + b_k N,  M = X^T diag(e) X/n0,  N = X^T diag(e^2) X/n0 .

Let S be what the data pull on the rows' outputs s = H^(1/2) g, in units in which they respond with H without data.  Everything
the layer contributes is in the inverse of the pencil of (s, its source t, the initial rows u)

    [[S, 1, 0], [1, -b N, -(1 + a M)], [0, -(1 + a M), 1]] = A + sum_mu C(e_mu) x_mu x_mu^T/n0 :

its blocks ss, su, uu are the covariances of s and u when the data pull.  A and C have K rows and columns for each of s, t, u;
C has none in s.  The deterministic equivalent G of the inverse, [[-G1, -G12], [-G12^T, G2]] in (t, u), is the stationary point of

    log |det(A + Gh)| - tr G Gh + alpha0 E log det(1 + C(e) G/alpha0),   det(1 + C G/alpha0) = 1 + D/alpha0 .

G and the derivative R of it along the forces are order parameters like others: nothing is solved by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
from typing import Any

import sympy as sp

from .walk import replaced, shared


@dataclass(frozen=True)
class Batch:
    """What the layer needs to know of the step.

    Attributes
    ----------
    average : callable
        E over teacher field and labels of an expression in `field` and `residual`.
    field, residual : symbols
    a, b : sequences of K expressions
        Of the covariances H_k.
    inverse : expression
        1/alpha0.
    gamma, rho : expressions
        Overlap of the spike with the teacher, and ``sqrt(1 - gamma^2)``.
    pressure : expression
        1/alpha0 over the norm |X^T e/n0| of the spike before scaling; 0 without batch or step.
    inverse_rho : expression
        1/rho; 0 without batch or step, when the rest of the teacher is just one more direction.
    idle : expression
        1 in that case, otherwise 0.
    """

    average: Callable[[Any], Any]
    field: Any
    residual: Any
    a: Sequence[Any]
    b: Sequence[Any]
    inverse: Any
    gamma: Any
    rho: Any
    pressure: Any
    inverse_rho: Any
    idle: Any


@dataclass(frozen=True)
class Blocks:
    """A symmetric matrix in (t, u), [[-first, -off], [-off^T, second]], of K x K blocks."""

    first: Any
    off: Any
    second: Any

    @property
    def matrix(self) -> Any:
        return sp.Matrix(sp.BlockMatrix([[-self.first, -self.off], [-self.off.T, self.second]]))


class Layer:
    """One layer at given order parameters.

    Parameters
    ----------
    batch : Batch
    pull : matrix, shape (K, K)
        S of the module's docstring.
    g, g_hat : Blocks
        G and its conjugate.
    """

    def __init__(self, batch: Batch, pull: Any, g: Blocks, g_hat: Blocks) -> None:
        self.batch, self.pull, self.g, self.count = batch, pull, g, pull.rows
        self.free = _inverse(pull, g_hat)
        self._averages: dict[Any, Any] = {}

    @cached_property
    def _powers(self) -> dict[int, Any]:
        """Coefficients of the powers of the residual in D, with symbols for G."""
        rows = sp.Matrix(
            sp.BlockMatrix([[self._names.first, self._names.off], [self._names.off.T, -self._names.second]])
        )
        out: dict[int, Any] = {}
        # A principal minor of C G takes t, u, both or none of each group.  Rows of C G are, in t, e^2 b times the row t of `rows`
        # and e a times its row u; in u, e a times its row t.  With t and u both taken, the first of these drops out.
        n, choices = self.count, []
        for k, (a, b) in enumerate(zip(self.batch.a, self.batch.b, strict=True)):
            t, u = k, n + k
            choices.append([(0, 1, (), ()), (2, b, (t,), (t,)), (1, a, (u,), (t,)), (1, a, (t,), (u,)),
                            (2, a**2, (u, t), (t, u))])  # fmt: skip
        for taken in product(*choices):
            columns = [c for _, _, _, cs in taken for c in cs]
            if not columns:
                continue
            minor = rows.extract([r for _, _, rs, _ in taken for r in rs], columns).det(method="berkowitz")
            power = sum(p for p, *_ in taken)
            factor = sp.Mul(*[f for _, f, _, _ in taken], self.batch.inverse ** (len(columns) - 1))
            out[power] = out.get(power, 0) + factor * minor
        return out

    @cached_property
    def _names(self) -> Blocks:
        """Symbols for the entries of G: differentiating with respect to these is not confused by what G is made of."""
        n = self.count
        first, second = (
            sp.Matrix(n, n, lambda i, j, s=s: sp.Symbol(f"{s}_{min(i, j)}_{max(i, j)}")) for s in ("g1", "g2")
        )
        return Blocks(first, sp.Matrix(n, n, lambda i, j: sp.Symbol(f"g12_{i}_{j}")), second)

    @cached_property
    def _at(self) -> dict[Any, Any]:
        return dict(self._pairs(self.g))

    def _pairs(self, values: Blocks) -> list[tuple[Any, Any]]:
        """Names of the entries of G, each once, with the entries of `values`."""
        pairs = [(name, value) for names, block in ((self._names.first, values.first), (self._names.off, values.off),
                 (self._names.second, values.second)) for name, value in zip(names, block, strict=True)]  # fmt: skip
        return list(dict(pairs).items())

    def _sampled(self, power: int, weight: Any = 1) -> Any:
        """E weight e^power/(1 + D/alpha0)."""
        if (power, weight) not in self._averages:
            e = self.batch.residual
            energy = sp.Add(*[replaced(d, self._at) * e**j for j, d in self._powers.items()])
            self._averages[power, weight] = self.batch.average(weight * e**power / (1 + self.batch.inverse * energy))
        return self._averages[power, weight]

    def moment(self, weight: Any, power: int = 0) -> Any:
        """E weight e^power C (1 + G C/alpha0)^-1, in (t, u)."""
        entries = {
            name: sp.Add(*[replaced(sp.diff(d, name), self._at) * self._sampled(j + power, weight)
                           for j, d in self._powers.items() if sp.diff(d, name) != 0])
            for name in self._at
        }  # fmt: skip

        def part(names: Any, symmetric: bool) -> Any:
            """D sees an entry off the diagonal of a symmetric block twice, as it sees every entry off the blocks' diagonal."""
            return names.applyfunc(
                lambda x: entries[x] * (1 if symmetric and x in set(names.diagonal()) else sp.Rational(1, 2))
            )

        return Blocks(
            part(self._names.first, True), part(self._names.off, False), part(self._names.second, True)
        ).matrix

    def trace_term(self, change: Any, g_change: Blocks, g_hat_change: Blocks) -> Any:
        """Twice the layer's trace part: derivative of the functional along `change` of S, and of G and its conjugates.

        Couplings of G and conjugates are not included.
        """
        n = self.count
        moved = sp.diag(change, g_hat_change.matrix)
        traced = sp.Add(*[self.free[i, j] * moved[j, i] for i in range(3 * n) for j in range(3 * n)])
        moves = self._pairs(g_change)
        sampled = [sp.Add(*[replaced(sp.diff(d, name), self._at) * r for name, r in moves]) * self._sampled(j)
                   for j, d in self._powers.items()]  # fmt: skip
        return traced + sp.Add(*sampled)

    def response(self) -> Any:
        """Covariances of s along the spike, s along the rest of the teacher, and the initial rows along the spike.

        Returns
        -------
        Matrix, shape (3 K, 3 K)
            Symmetric; the pull of the data along the spike is taken out.
        """
        batch, n, field = self.batch, self.count, self.batch.field
        seen, rows = slice(n, 3 * n), slice(0, n)
        g = self.free[:, :]
        g[seen, seen] = self.g.matrix
        teacher = _inverse(self.pull, self._split(self.moment(field**2)))
        # Samples make the spike as well: leave one out along the teacher, whose field weighs them, and two along the spike.
        weighed = sp.diag(sp.zeros(n), self.moment(field, 1))
        left = _shared(batch.gamma * sp.eye(3 * n) - batch.pressure * weighed * g)
        mixed = _shared(teacher * left)
        own = sp.diag(sp.zeros(n), self.moment(1, 2))
        spike = _shared(batch.rho**2 * g - batch.pressure**2 * g * own * g + left.T * mixed)
        vv, wv, ww = spike[rows, rows], mixed[rows, rows], teacher[rows, rows]
        zv = batch.inverse_rho * (wv - batch.gamma * vv)
        zz = batch.inverse_rho**2 * (ww - batch.gamma * (wv + wv.T) + batch.gamma**2 * vv) + batch.idle * g[rows, rows]
        last = slice(2 * n, 3 * n)
        vu, zu = spike[rows, last], batch.inverse_rho * (mixed[rows, last] - batch.gamma * spike[rows, last])
        full = sp.Matrix(sp.BlockMatrix([[vv, zv.T, vu], [zv, zz, zu], [vu.T, zu.T, spike[last, last]]]))
        through = full[:, rows]
        return full + through * _inverted(sp.eye(n) - self.pull * vv) * self.pull * through.T

    def _split(self, matrix: Any) -> Blocks:
        n = self.count
        return Blocks(-matrix[:n, :n], -matrix[:n, n:], matrix[n:, n:])


def _inverse(pull: Any, h: Blocks) -> Any:
    """Inverse of A + h in (s, t, u); S may be singular."""
    n = pull.rows
    kept = _inverted(sp.eye(n) + h.second)
    source = kept * (sp.eye(n) + h.off.T)
    spread = _shared(h.first + (sp.eye(n) + h.off) * source)
    ts = _inverted(sp.eye(n) + pull * spread)
    tt = _shared(-ts * pull)
    return _shared(sp.Matrix(sp.BlockMatrix([
        [spread * ts, ts.T, (source * ts).T],
        [ts, tt, tt * source.T],
        [source * ts, source * tt, kept + source * tt * source.T],
    ])))  # fmt: skip


def _shared(matrix: Any) -> Any:
    return sp.Matrix(*matrix.shape, [shared(e) for e in matrix])


def _inverted(matrix: Any) -> Any:
    """By cofactors: no pivots to choose.  sympy would expand entries that are not symbols."""
    names, inverse = _inverse_of_symbols(matrix.rows)
    rule = dict(zip(names, matrix, strict=True))
    return inverse.applyfunc(lambda e: replaced(e, rule))


@cache
def _inverse_of_symbols(n: int) -> tuple[Any, Any]:
    names = sp.Matrix(n, n, sp.symbols(f"a:{n}:{n}"))
    return names, names.adjugate() / names.det(method="berkowitz")
