"""The Hermite tensors of a target as homogeneous forms, in exact or floating arithmetic, in any orthogonal frame.

A form of degree k is C_k[z, .., z]/k!.  In a frame b_1 .. b_r, z = sum_i t_i b_i, its coefficients times mu! are the entries
C_k[b_1^mu_1, .., b_r^mu_r], which is all that conditional gradients and plateaux need: one change of variables per subspace,
and no square roots, because the b_i are orthogonal but not normalised.

Arithmetic is chosen by the coefficients.  Each tensor may be scaled on its own (spans do not mind), so sign(z1*z2), whose
tensors are multiples of 2/pi, is treated in whole numbers.  Ratios in a small number field are exact as well; other
exact numbers are taken to 60 digits, and floats as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath
import sympy as sp

from .targets import Target

#: Digits of the floating arithmetic for exact coefficients that are not in a small number field.
DIGITS = 60
#: Largest degree of a number field, and most monomials in it: beyond, 60 digits are quicker by orders of magnitude.
MAX_FIELD_DEGREE, MAX_FIELD_MONOMIALS = 8, 250

#: Exponents are packed into one integer, so that multiplying monomials adds integers.
BITS = 7

Packed = dict[int, Any]
Vector = list[Any]


def pack(powers: Sequence[int]) -> int:
    """Exponents as one integer."""
    return sum(n << (BITS * i) for i, n in enumerate(powers))


def unpack(key: int, r: int) -> tuple[int, ...]:
    """The exponents of `pack`."""
    return tuple((key >> (BITS * i)) & ((1 << BITS) - 1) for i in range(r))


@dataclass(frozen=True)
class Arithmetic:
    """Numbers a computation is done in: ``rational``, ``algebraic``, ``60 digits`` or ``floats``."""

    name: str
    field: Any = None

    @property
    def exact(self) -> bool:
        return self.name in ("rational", "algebraic")

    def ratio(self, a: Any, b: Any) -> Any:
        return Fraction(a) / Fraction(b) if self.name == "rational" else a / b

    def zero(self, a: Any) -> bool:
        """Only asked in exact arithmetic."""
        return not a

    def tidy(self, v: Vector) -> Vector:
        """A multiple of v: coprime integers, or first entry 1, the first non-zero entry being positive."""
        first = next((a for a in v if a), None)
        if first is None:
            return v
        if self.name != "rational":
            return [a / first for a in v]
        common = math.lcm(*(Fraction(a).denominator for a in v))
        whole = [int(a * common) for a in v]
        divisor = math.gcd(*whole) * (1 if first > 0 else -1)
        return [a // divisor for a in whole]

    def number(self, a: Any) -> sp.Expr:
        """As a sympy number."""
        if self.name == "rational":
            return sp.Rational(Fraction(a).numerator, Fraction(a).denominator)
        return self.field.to_sympy(a) if self.name == "algebraic" else sp.Float(str(a), 17)

    def unit(self, i: int, r: int) -> Vector:
        one, zero = (self.field.one, self.field.zero) if self.name == "algebraic" else (1, 0)
        return [one if i == j else zero for j in range(r)]


@dataclass(frozen=True)
class Forms:
    """`forms[k]` times `scales[k]` is C_k[z^k]/k!; degrees with C_k = 0 are missing."""

    r: int
    order: int
    arithmetic: Arithmetic
    forms: dict[int, Packed]
    scales: dict[int, sp.Expr]

    def only(self, degrees: Sequence[int]) -> Forms:
        """Without the other degrees."""
        kept = {k: form for k, form in self.forms.items() if k in set(degrees)}
        return Forms(self.r, self.order, self.arithmetic, kept, self.scales)

    def framed(self, frame: Sequence[Vector]) -> dict[int, dict[tuple[int, ...], Any]]:
        """The forms in t, z = sum_i t_i frame[i]."""
        columns = [[b[i] for b in frame] for i in range(self.r)]
        found = {}
        for k, form in self.forms.items():
            turned = substituted({unpack(key, self.r): c for key, c in form.items()}, columns)
            found[k] = {unpack(key, self.r): c for key, c in turned.items() if c}
        return found


def forms_of(target: Target, order: int) -> Forms:
    """Forms of degree 0 .. order of a target."""
    by_degree: dict[int, dict[tuple[int, ...], sp.Expr]] = {}
    for powers, c in target.series(order).items():
        by_degree.setdefault(sum(powers), {})[powers] = c
    if not target.exact:
        floats = {k: {pack(p): float(c) for p, c in form.items()} for k, form in by_degree.items()}
        return Forms(target.r, order, Arithmetic("floats"), floats, {k: sp.S.One for k in floats})
    scales = {k: next(iter(form.values())) for k, form in by_degree.items()}
    few = sum(map(len, by_degree.values())) <= MAX_FIELD_MONOMIALS
    ratios = {k: {pack(p): _quotient(c, scales[k], few) for p, c in form.items()} for k, form in by_degree.items()}
    arithmetic, convert = _arithmetic([c for form in ratios.values() for c in form.values()])
    if arithmetic.name == "60 digits":
        scales = dict.fromkeys(scales, sp.S.One)
        ratios = {k: {pack(p): c for p, c in form.items()} for k, form in by_degree.items()}
    forms = {k: {key: convert(c) for key, c in form.items()} for k, form in ratios.items()}
    if arithmetic.name == "rational":
        for k, form in forms.items():
            common = math.lcm(*(c.denominator for c in form.values()))
            forms[k] = {key: int(c * common) for key, c in form.items()}
            scales[k] = scales[k] / common
    return Forms(target.r, order, arithmetic, forms, scales)


def _quotient(a: sp.Expr, b: sp.Expr, simplify: bool) -> sp.Expr:
    q = a / b
    return q if q.is_Rational or not simplify else sp.radsimp(q)


def _arithmetic(numbers: list[sp.Expr]) -> tuple[Arithmetic, Any]:
    """The smallest arithmetic that holds the numbers, and the conversion into it."""
    if all(c.is_Rational for c in numbers):
        return Arithmetic("rational"), lambda c: Fraction(int(c.p), int(c.q))
    if len(numbers) <= MAX_FIELD_MONOMIALS and _field_degree(numbers) <= MAX_FIELD_DEGREE:
        field, elements = sp.construct_domain(numbers, extension=True, field=True)
        if field.is_Algebraic:
            known = dict(zip(numbers, elements, strict=True))
            return Arithmetic("algebraic", field), known.__getitem__
    context = mpmath.MPContext()
    context.dps = DIGITS
    return Arithmetic("60 digits", context), lambda c: context.mpf(str(sp.N(c, DIGITS)))


def _field_degree(numbers: list[sp.Expr]) -> float:
    """A bound on the degree of the field, infinite if a number is not built from radicals."""
    radicals: set[sp.Expr] = set()
    for c in numbers:
        if c.atoms(sp.NumberSymbol, sp.Function, sp.Float):
            return math.inf
        for power in c.atoms(sp.Pow):
            if not power.exp.is_Rational:
                return math.inf
            if not power.exp.is_Integer:
                radicals.add(sp.Pow(power.base, sp.Rational(1, power.exp.q)))
    return math.prod(radical.exp.q for radical in radicals)


def substituted(form: dict[tuple[int, ...], Any], columns: Sequence[Vector]) -> Packed:
    """The form with z_i = sum_j columns[i][j] t_j, by Horner's rule in one variable after the other."""
    lines = [{1 << (BITS * j): a for j, a in enumerate(column) if a} for column in columns]
    return _horner(form, lines, 0)


def _horner(form: dict[tuple[int, ...], Any], lines: list[Packed], i: int) -> Packed:
    if i == len(lines):
        return {0: next(iter(form.values()))}  # one monomial is left
    by_power: dict[int, dict[tuple[int, ...], Any]] = {}
    for powers, c in form.items():
        by_power.setdefault(powers[i], {})[powers] = c
    result: Packed = {}
    for n in range(max(by_power), -1, -1):
        result = _multiplied(result, lines[i])
        if n in by_power:
            for key, c in _horner(by_power[n], lines, i + 1).items():
                result[key] = result[key] + c if key in result else c
    return result


def _multiplied(a: Packed, line: Packed) -> Packed:
    product: Packed = {}
    for key, x in line.items():
        for other, y in a.items():
            place, value = key + other, x * y
            product[place] = product[place] + value if place in product else value
    return product


def inner(a: Vector, b: Vector) -> Any:
    """a.b."""
    total = a[0] * b[0]
    for x, y in zip(a[1:], b[1:], strict=True):
        total = total + x * y
    return total


def orthogonalised(vectors: Sequence[Vector], against: Sequence[Vector], arithmetic: Arithmetic) -> list[Vector]:
    """Gram-Schmidt without normalisation, tidy; dependent vectors are left out.  Exact arithmetic only."""
    found: list[Vector] = []
    for v in vectors:
        for b in (*against, *found):
            s = arithmetic.ratio(inner(v, b), inner(b, b))
            v = [x - s * y for x, y in zip(v, b, strict=True)]
        if any(not arithmetic.zero(x) for x in v):
            found.append(arithmetic.tidy(v))
    return found


def complement(basis: Sequence[Vector], r: int, arithmetic: Arithmetic) -> list[Vector]:
    """An orthogonal basis of what is orthogonal to `basis`."""
    return orthogonalised([arithmetic.unit(i, r) for i in range(r)], basis, arithmetic)


class Span:
    """The span of vectors added one by one, as a reduced echelon form: the same for the same span."""

    def __init__(self, arithmetic: Arithmetic):
        self.arithmetic = arithmetic
        self.rows: dict[int, Vector] = {}

    def add(self, v: Vector) -> None:
        for pivot, row in self.rows.items():
            if not self.arithmetic.zero(v[pivot]):
                v = [x - v[pivot] * y for x, y in zip(v, row, strict=True)]
        entries = [i for i, x in enumerate(v) if not self.arithmetic.zero(x)]
        if not entries:
            return
        first = entries[0]
        v = [self.arithmetic.ratio(x, v[first]) for x in v]
        for other, row in self.rows.items():
            self.rows[other] = [x - row[first] * y for x, y in zip(row, v, strict=True)]
        self.rows[first] = v

    def basis(self, against: Sequence[Vector]) -> list[Vector]:
        """Orthogonal and tidy, the part orthogonal to `against`."""
        return orthogonalised([self.rows[p] for p in sorted(self.rows)], against, self.arithmetic)
