"""The staircase: which directions a two-layer network learns, step by step of large steps on fresh batches.

With U the learned part of the teacher's subspace, one more step on n = O(d) fresh samples adds the values of the vector
h_U(z_U) = E[P_perp grad g | z_U], and a step on n = O(d^k) the range of T^(k) = E[grad_perp^k g | z_U], if all lower
ones vanish.  The greedy sequence takes the smallest such k (the leap) each time; the largest leap does not depend
on the choice of axes.

It is the span of the *values* of h_U, not of all v with E[<v, z> g | z_U] != 0: as soon as h_U != 0, generic v qualify, and
their span is everything (z1 + z1*z2 + z3*z4 must give dimensions 1, 2 and then 4 with leap 2).

Sources: arXiv:2305.18270; theory notes on giant steps, A1, A3, A4.  Limits: `docs/theory/giant_steps.md`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import sympy as sp

from .activations import Activation, make_activation
from .forms import Arithmetic, Forms, Span, Vector, complement, forms_of, inner, orthogonalised
from .hermite import visible
from .targets import Target, TargetError, make_target
from .terms import is_zero

#: Monomials of the truncated Hermite series of a target that is no polynomial, and its largest order.
MAX_MONOMIALS, MAX_ORDER = 1500, 8
#: Thresholds on squared couplings relative to E[g^2], by arithmetic; that for floats grows with the error of the target.
THRESHOLD = {"60 digits": 1e-50, "floats": 1e-16}

EXACT, NUMERIC, ASYMPTOTIC, CONJECTURED = "exact", "numeric", "asymptotic", "conjectured"


@dataclass(frozen=True)
class Stage:
    """One stage of the greedy sequence.

    Attributes
    ----------
    leap : int
        k: a step on a fresh batch of n = O(d^k) samples is needed.
    directions : tuple of tuples of sympy numbers
        Orthogonal basis of what is added; coprime integers where rational, unit length in floating arithmetic.
    dim : int
        Dimension of U afterwards.
    claim : str
        ``exact`` (leap 1, d to infinity), ``numeric`` (the same by couplings above a threshold, in double precision),
        ``asymptotic`` (leap above 1 from U = 0), ``conjectured`` (leap above 1 from a learned U, or under an activation filter).
    kept, dropped : float
        In floating arithmetic the smallest squared coupling taken for non-zero and the largest taken for zero, relative to
        E[g^2]; nan in exact arithmetic.
    """

    leap: int
    directions: tuple[tuple[sp.Expr, ...], ...]
    dim: int
    claim: str
    kept: float = math.nan
    dropped: float = math.nan
    native: tuple[Any, ...] = field(default=(), repr=False, compare=False)  # in the arithmetic of the staircase

    @property
    def samples(self) -> str:
        """What the step needs, in words."""
        if self.leap == 1:
            return "fresh batch of O(d) samples"
        one_pass = "d log d" if self.leap == 2 else f"d^{self.leap - 1}"
        longer = "d" if self.leap == 3 else f"d^({Fraction(self.leap - 1, 2)})"
        return f"fresh batch of O(d^{self.leap}) samples, step {longer} times larger; one-pass SGD: {one_pass}"

    @property
    def regime(self) -> str:
        """Where it holds."""
        size = "d" if self.leap == 1 else f"d^{self.leap}"
        return f"d -> infinity, O(1) steps of n = O({size}) fresh samples; not how strongly, and nothing of repeated batches"


@dataclass(frozen=True)
class Staircase:
    """The greedy sequence of a target, perhaps through an activation.

    Attributes
    ----------
    target : Target
    stages : tuple of Stage
    relevant : directions the target depends on (through `order`)
    unreached : the part of `relevant` that no stage adds; empty without an activation
    direction_leaps : (k, directions) for rising k: v has index min{k : C_k[v, ..] != 0}
    order : int
        Largest degree of a Hermite tensor looked at.
    complete : bool
        Whether that is all of them: the target is a polynomial.
    arithmetic : str
        ``rational``, ``algebraic``, ``60 digits`` or ``floats``.
    threshold : float
        On squared couplings relative to E[g^2]; nan in exact arithmetic.
    invisible : tuple of int
        Degrees that the activation cannot pass on at any norm of the weights (and any bias, if biased).
    """

    target: Target
    stages: tuple[Stage, ...]
    relevant: tuple[tuple[sp.Expr, ...], ...]
    unreached: tuple[tuple[sp.Expr, ...], ...]
    direction_leaps: tuple[tuple[int, tuple[tuple[sp.Expr, ...], ...]], ...]
    order: int
    complete: bool
    arithmetic: str
    threshold: float
    activation: str | None = None
    bias: bool = False
    invisible: tuple[int, ...] = ()

    @property
    def dims(self) -> list[int]:
        """Dimension of U after each stage."""
        return [stage.dim for stage in self.stages]

    @property
    def leaps(self) -> list[int]:
        """Leap of each stage."""
        return [stage.leap for stage in self.stages]

    @property
    def leap_index(self) -> int:
        """min{k >= 1 : C_k != 0}; 0 if there is none."""
        return self.direction_leaps[0][0] if self.direction_leaps else 0

    @property
    def limits(self) -> str:
        """What the order and the threshold leave unseen, in words; empty if nothing."""
        out = []
        if not self.complete and max(self.dims, default=0) < self.target.r:
            out.append(f"Hermite tensors above order {self.order} are not looked at: a leap above {self.order} is not seen")
        if not math.isnan(self.threshold):
            out.append(f"squared couplings below {self.threshold:.1e} of E[g^2] count as zero")
        return "; ".join(out)

    @property
    def leap_complexity(self) -> int:
        """Largest leap of the sequence; 0 for a constant target."""
        return max(self.leaps, default=0)

    def leap_of(self, direction: Sequence[Any]) -> int:
        """Leap index of a direction v of the teacher's space: min{k : C_k[v, ..] != 0}; 0 if the target does not depend on it."""
        v = [sp.sympify(x) for x in direction]
        if len(v) != self.target.r or not any(v):
            raise TargetError(f"direction {list(direction)!r} is no non-zero vector of {self.target.r} numbers")
        size = float(sum(x * x for x in v)) ** 0.5
        for k, new in self.direction_leaps:
            for b in new:
                overlap = sp.expand(sum((x * y for x, y in zip(v, b, strict=True)), start=sp.S.Zero))
                # Directions found in floating arithmetic are shown as floats.
                if abs(float(overlap)) > 1e-7 * size if overlap.has(sp.Float) else not is_zero(overlap):
                    return k
        return 0

    def basis(self, stage: int) -> list[tuple[sp.Expr, ...]]:
        """Orthogonal basis of U after so many stages."""
        return [v for s in self.stages[:stage] for v in s.directions]


def default_order(target: Target) -> int:
    """Degree of a polynomial; else the largest order up to 8 with at most 1500 monomials, but at least 3."""
    if target.degree is not None:
        return target.degree
    fits = (k for k in range(MAX_ORDER, 3, -1) if math.comb(target.r + k, k) <= MAX_MONOMIALS)
    return next(fits, 3)


def staircase(
    target: Target | str,
    activation: Activation | str | None = None,
    *,
    bias: bool = False,
    order: int | None = None,
    threshold: float | None = None,
) -> Staircase:
    """The sequence of learned subspaces.

    Parameters
    ----------
    target : Target, or text for `make_target`
    activation : Activation or name, optional
        Leave out what the network cannot see: a term of degree m in z_U and k in z_perp acts through c_{m+k} only.
    bias : bool
        Neurons have generic non-zero biases.
    order : int, optional
        Of a target that is no polynomial: Hermite tensors up to here; `default_order` otherwise.
    threshold : float, optional
        In floating arithmetic: squared couplings below this share of E[g^2] count as zero.

    Raises
    ------
    TargetError, ExpressionError
    """
    target = make_target(target)
    order = default_order(target) if order is None else order
    if isinstance(order, bool) or not isinstance(order, int) or order < (0 if target.degree == 0 else 1):
        raise TargetError(f"order = {order!r} is not a whole number of at least 1")
    order = order if target.degree is None else max(min(order, target.degree), 0)
    forms = forms_of(target, order)
    engine = engine_of(forms, target, threshold)
    degrees = list(range(order + 1))
    seen, invisible = degrees, tuple[int, ...]()
    if activation is not None:
        activation = make_activation(activation) if isinstance(activation, str) else activation
        seen = [k for k in degrees if visible(activation, k, bias)]
        invisible = tuple(k for k in degrees if k not in seen)
    through = engine if len(seen) == len(degrees) else engine_of(forms.only(seen), target, threshold)
    stages, learned = _stages(through, filtered=bool(invisible))
    everything, filtration = _filtration(engine)
    return Staircase(
        target=target,
        stages=tuple(stages),
        relevant=tuple(map(engine.shown, everything)),
        unreached=tuple(map(engine.shown, engine.rest(everything, learned))),
        direction_leaps=tuple((k, tuple(map(engine.shown, new))) for k, new in filtration),
        order=order,
        complete=target.degree is not None and order == target.degree,
        arithmetic=forms.arithmetic.name,
        threshold=engine.threshold,
        activation=None if activation is None else str(activation),
        bias=bias,
        invisible=invisible,
    )


def conditional_gradients(target: Target | str, basis: Sequence[Sequence[Any]], k: int = 1) -> list[tuple[sp.Expr, ...]]:
    """Orthogonal basis of the span of the values of T^(k) = E[grad_perp^k g | z_U], U spanned by `basis` (exact targets)."""
    target = make_target(target)
    forms = forms_of(target, default_order(target))
    if not forms.arithmetic.exact:
        raise TargetError(f"target {target.text!r} has no rational or algebraic Hermite tensors; use staircase()")
    engine = _Exact(forms)
    known = orthogonalised([engine.native([sp.sympify(x) for x in v]) for v in basis], [], forms.arithmetic)
    return [engine.shown(v) for v in engine.ranges(engine.frame(known), len(known)).get(k, [])]


def projector(basis: Sequence[Sequence[sp.Expr]], r: int) -> sp.Matrix:
    """The orthogonal projector on the span of orthogonal vectors, exactly."""
    total = sp.zeros(r, r)
    for b in basis:
        v = sp.Matrix(b)
        total += v * v.T / (v.T * v)[0]
    return total


def _stages(engine: _Exact | _Floating, filtered: bool) -> tuple[list[Stage], list[Vector]]:
    """The greedy sequence, and the basis it ends with."""
    known: list[Vector] = []
    stages: list[Stage] = []
    while len(known) < engine.forms.r:
        found = engine.next(known)
        if found is None:
            break
        leap, new, kept, dropped = found
        certain = NUMERIC if engine.arithmetic.name == "floats" else EXACT
        claim = certain if leap == 1 else CONJECTURED if known or filtered else ASYMPTOTIC
        known = [*known, *new]
        stages.append(Stage(leap, tuple(map(engine.shown, new)), len(known), claim, kept, dropped, tuple(new)))
    return stages, known


def _filtration(engine: _Exact | _Floating) -> tuple[list[Vector], list[tuple[int, list[Vector]]]]:
    """All relevant directions, and those each degree adds."""
    known: list[Vector] = []
    found = []
    for k in sorted(engine.forms.forms):
        if k:
            part = type(engine)(engine.forms.only([k]), **engine.options)
            new = engine.rest(part.range_of(k), known)
            if new:
                known = [*known, *new]
                found.append((k, new))
    return known, found


def engine_of(forms: Forms, target: Target, threshold: float | None = None) -> _Exact | _Floating:
    """Subspaces in the arithmetic of the forms."""
    if forms.arithmetic.exact:
        if threshold is not None:
            raise TargetError(f"threshold = {threshold:g} means nothing here: {target.text[:60]!r} is treated exactly")
        return _Exact(forms)
    second = float(target.second_moment())
    if threshold is None:
        noise = (5 * target.error) ** 2 / second if second > 0 and forms.arithmetic.name == "floats" else 0.0
        threshold = max(THRESHOLD[forms.arithmetic.name], noise)
        if threshold > 0.1:
            raise TargetError(
                f"target {target.text[:60]!r}: quadrature across its jumps gives coefficients to {target.error:.1e} only; "
                "write it as a sum of products of functions of orthogonal directions, or give a threshold"
            )
    if not 0 < threshold < 1:
        raise TargetError(f"threshold = {threshold:g} is outside its range (0, 1): a share of E[g^2]")
    return _Floating(forms, second=second, threshold=threshold)


class _Exact:
    """Subspaces in exact arithmetic."""

    threshold = math.nan

    def __init__(self, forms: Forms):
        self.forms, self.arithmetic = forms, forms.arithmetic
        self.options: dict[str, float] = {}

    def shown(self, v: Vector) -> tuple[sp.Expr, ...]:
        return tuple(self.arithmetic.number(x) for x in v)

    def native(self, v: Sequence[sp.Expr]) -> Vector:
        if self.arithmetic.name == "algebraic":
            return [self.arithmetic.field.from_sympy(x) for x in v]
        if not all(x.is_Rational for x in v):
            raise TargetError("the basis must be rational, as the target is")
        return self.arithmetic.tidy([sp.Rational(x) for x in v]) if any(v) else list(v)

    def frame(self, known: list[Vector]) -> list[Vector]:
        return [*known, *complement(known, self.forms.r, self.arithmetic)]

    def next(self, known: list[Vector]) -> tuple[int, list[Vector], float, float] | None:
        ranges = self.ranges(self.frame(known), len(known), lowest=True)
        return next(((k, v, math.nan, math.nan) for k, v in ranges.items()), None)

    def range_of(self, k: int) -> list[Vector]:
        return self.ranges(self.frame([]), 0).get(k, [])

    def rest(self, vectors: list[Vector], known: list[Vector]) -> list[Vector]:
        return orthogonalised(vectors, known, self.arithmetic)

    def ranges(self, frame: list[Vector], m: int, lowest: bool = False) -> dict[int, list[Vector]]:
        """Orthogonal bases of the ranges of T^(k), by k, U being spanned by frame[:m]; only the lowest k on request."""
        rows: dict[tuple[int, tuple[int, ...]], dict[int, Any]] = {}
        for form in self.forms.framed(frame).values():
            for powers, c in form.items():
                k = sum(powers[m:])
                for j in range(m, len(powers)):
                    if powers[j]:
                        others = (*powers[:j], powers[j] - 1, *powers[j + 1 :])
                        rows.setdefault((k, others), {})[j] = c * powers[j]  # up to a factor of the row
        orders = sorted({k for k, _ in rows})
        found = {}
        for k in orders[:1] if lowest else orders:
            span = Span(self.arithmetic)
            for (order, _), row in rows.items():
                if order == k and len(span.rows) < len(frame) - m:
                    span.add(self._vector(row, frame))
            found[k] = span.basis(frame[:m])
        return found

    def _vector(self, row: dict[int, Any], frame: list[Vector]) -> Vector:
        total: Vector = []
        for j, c in row.items():
            s = self.arithmetic.ratio(c, inner(frame[j], frame[j]))
            part = [s * x for x in frame[j]]
            total = [x + y for x, y in zip(total, part, strict=True)] if total else part
        return self.arithmetic.tidy(total)


class _Floating:
    """Subspaces from eigenvectors of A_k = E_{z_U} T^(k) T^(k)^T above a threshold; 60 digits or double precision."""

    def __init__(self, forms: Forms, second: float, threshold: float):
        self.forms, self.arithmetic = forms, forms.arithmetic
        self.second, self.threshold = second, threshold
        self.options = {"second": second, "threshold": threshold}
        self.number = float if forms.arithmetic.name == "floats" else forms.arithmetic.field.mpf

    def shown(self, v: Vector) -> tuple[sp.Expr, ...]:
        return tuple(sp.Float(float(x), 17) for x in v)

    def frame(self, known: list[Vector]) -> list[Vector]:
        r = self.forms.r
        units = [[self.number(int(i == j)) for j in range(r)] for i in range(r)]
        return [*known, *self._orthonormal(units, known, 1e-6)]

    def rest(self, vectors: list[Vector], known: list[Vector]) -> list[Vector]:
        """Orthonormal basis of what the (unit) vectors add to the (orthonormal) known ones."""
        smallest = max(1e-7 if self.arithmetic.name == "floats" else 0.0, math.sqrt(self.threshold))
        return self._orthonormal(vectors, known, smallest)

    def _orthonormal(self, vectors: Sequence[Vector], known: Sequence[Vector], smallest: float) -> list[Vector]:
        found: list[Vector] = []
        for v in vectors:
            for b in (*known, *found) * 2:  # twice, against rounding
                s = inner(v, b)
                v = [x - s * y for x, y in zip(v, b, strict=True)]
            size = inner(v, v) ** 0.5
            if size > smallest:
                found.append([x / size for x in v])
        return found

    def range_of(self, k: int) -> list[Vector]:
        found = self.next([])
        return [] if found is None else found[1]

    def next(self, known: list[Vector]) -> tuple[int, list[Vector], float, float] | None:
        r, m = self.forms.r, len(known)
        frame = self.frame(known)
        framed = self.forms.framed(frame)
        dropped = 0.0
        for k in range(1, max(framed, default=0) + 1):
            values, vectors = self._eigen(self._gram(framed, m, k))
            shares = [float(x) / self.second if self.second else 0.0 for x in values]
            new = [i for i, x in enumerate(shares) if x > self.threshold]
            dropped = max([dropped, *(x for x in shares if x <= self.threshold)])
            if new:
                basis = [[sum(vectors[a][i] * frame[m + a][j] for a in range(r - m)) for j in range(r)] for i in new]
                return k, basis, min(shares[i] for i in new), dropped
        return None

    def _gram(self, framed: dict[int, dict[tuple[int, ...], Any]], m: int, k: int) -> list[list[Any]]:
        """A_k in the frame: sum over mu, nu of (k-1)!/(mu! nu!) C[mu, nu, j] C[mu, nu, j']."""
        n = self.forms.r - m
        gram = [[self.number(0)] * n for _ in range(n)]
        rows: dict[tuple[int, tuple[int, ...]], dict[int, Any]] = {}
        for degree, form in framed.items():
            for powers, c in form.items():
                if sum(powers[m:]) == k:
                    entry = c * math.prod(map(math.factorial, powers))
                    for j in range(m, len(powers)):
                        if powers[j]:
                            others = (*powers[:j], powers[j] - 1, *powers[j + 1 :])
                            rows.setdefault((degree, others), {})[j - m] = entry
        for (_, others), row in rows.items():
            weight = self.number(math.factorial(k - 1)) / math.prod(map(math.factorial, others))
            for a, x in row.items():
                for b, y in row.items():
                    gram[a][b] = gram[a][b] + weight * x * y
        return gram

    def _eigen(self, gram: list[list[Any]]) -> tuple[list[Any], list[list[Any]]]:
        """Eigenvalues, falling, and the matrix with the eigenvectors in its columns."""
        if self.arithmetic.name == "floats":
            rising, columns = np.linalg.eigh(np.array(gram))
            return rising[::-1].tolist(), columns[:, ::-1].tolist()
        context = self.arithmetic.field
        values, vectors = context.eigsy(context.matrix(gram))
        order = sorted(range(len(gram)), key=lambda i: -values[i])
        return [values[i] for i in order], [[vectors[a, i] for i in order] for a in range(len(gram))]


__all__ = ["Arithmetic", "Stage", "Staircase", "conditional_gradients", "default_order", "projector", "staircase"]
