"""Dynamics as a symbolic vector field: gradient flows, conserved quantities, and certificates for closed forms.

Nothing that sympy integrates or solves is believed here: a statement holds if an expression vanishes, and that is shown by
exact polynomial reduction or, where the expression is not rational, at random rational points with 40 digits.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sympy as sp

#: Digits and points of a numerical certificate, and the size of what counts as zero there.
DIGITS, POINTS, ZERO = 40, 12, sp.Float("1e-25", 40)


@dataclass(frozen=True)
class Certificate:
    """A statement and whether it was shown.

    Attributes
    ----------
    statement : str
    method : str
        "identity" (vanishes as a rational function), "reduction" (modulo the relations given) or "40 digits".
    holds : bool
    """

    statement: str
    method: str
    holds: bool

    def __str__(self) -> str:
        return f"[{'holds' if self.holds else 'FAILS'}, {self.method}] {self.statement}"


def certify(statement: str, expression: Any, relations: Iterable[Any] = ()) -> Certificate:
    """Whether an expression vanishes, given that the relations (polynomials) do.

    Parameters
    ----------
    statement : str
        What it says, for printing.
    expression : sympy expression, or matrix of them
    relations : iterable of sympy polynomials
        Each is zero; they are used by exact reduction modulo a Groebner basis.
    """
    entries = list(expression) if isinstance(expression, sp.MatrixBase) else [sp.sympify(expression, strict=True)]
    numerators = [sp.expand(sp.numer(sp.together(e))) for e in entries]
    if all(n == 0 for n in numerators):
        return Certificate(statement, "identity", True)
    relations = [sp.expand(r) for r in relations]
    if all(n.is_polynomial() for n in numerators):
        if not relations:
            return Certificate(statement, "identity", False)
        symbols = sorted(set().union(*(x.free_symbols for x in [*numerators, *relations])), key=str)
        basis = sp.groebner(relations, *symbols, order="grevlex")
        return Certificate(statement, "reduction", all(basis.reduce(n)[1] == 0 for n in numerators))
    if relations:
        raise ValueError("relations need a rational expression; substitute them first")
    return Certificate(statement, "40 digits", all(_vanishes(e) for e in entries))


def _vanishes(expression: Any) -> bool:
    """At random rational points; relative to the largest of its terms."""
    draw = random.Random(20261124)
    symbols = sorted(expression.free_symbols, key=str)
    for _ in range(POINTS):
        at = {s: sp.Rational(draw.randint(1, 97), draw.randint(31, 61)) for s in symbols}
        terms = [abs(sp.N(t.subs(at), DIGITS)) for t in sp.Add.make_args(sp.expand(expression))]
        value = abs(sp.N(expression.subs(at), DIGITS))
        if not value.is_number or not value <= ZERO * max([sp.Integer(1), *terms]):
            return False
    return True


class Flow:
    """A vector field ``x' = f(x, t)``.

    Parameters
    ----------
    field : mapping of symbol to expression
        Right-hand side by state.
    time : symbol, optional
    """

    def __init__(self, field: Mapping[Any, Any], time: Any = None) -> None:
        self.field = {x: sp.sympify(e, strict=True) for x, e in field.items()}
        self.time = time

    @classmethod
    def gradient(cls, loss: Any, rates: Mapping[Any, Any]) -> Flow:
        """Gradient flow ``x' = -rate_x dloss/dx`` of the states that have a rate."""
        return cls({x: -rate * sp.diff(loss, x) for x, rate in rates.items()})

    def derivative(self, expression: Any) -> Any:
        """Total time derivative along the flow."""
        total = sum((sp.diff(expression, x) * f for x, f in self.field.items()), sp.S.Zero)
        return total + (sp.diff(expression, self.time) if self.time is not None else 0)

    def common_factor(self) -> tuple[Any, Flow]:
        """The scalar that multiplies the whole field, and the flow in the clock that runs at its speed."""
        factored = [sp.factor(f) for f in self.field.values()]
        common = sp.gcd_list(factored)
        return common, Flow({x: sp.cancel(f / common) for x, f in zip(self.field, factored, strict=True)})

    def invariants(self, degree: int = 2) -> list[Any]:
        """All conserved polynomials in the state up to a degree: the null space of the derivative on monomials.

        A common scalar factor of the field drops out, which keeps the linear algebra small.
        """
        _, clocked = self.common_factor()
        states = list(self.field)
        monomials = [
            sp.Mul(*powers)
            for total in range(1, degree + 1)
            for powers in itertools.combinations_with_replacement(states, total)
        ]
        derivatives = [sp.Poly(clocked.derivative(m), *states) for m in monomials]
        rows = sorted({power for d in derivatives for power in d.monoms()})
        matrix = sp.Matrix([[d.coeff_monomial(power) for d in derivatives] for power in rows])
        return [
            sp.factor(sum((c * m for c, m in zip(vector, monomials, strict=True)), sp.S.Zero))
            for vector in matrix.nullspace()
        ]

    def certify_invariant(self, name: str, expression: Any) -> Certificate:
        """That an expression does not change along the flow."""
        return certify(f"{name} is conserved", self.derivative(expression))

    def certify_solution(
        self,
        statement: str,
        solution: Mapping[Any, Any],
        derivatives: Mapping[Any, Any],
        relations: Sequence[Any] = (),
    ) -> Certificate:
        """That a closed form, put into the flow, leaves nothing.

        Parameters
        ----------
        statement : str
        solution : mapping of state to expression
        derivatives : mapping of symbol to expression
            Auxiliary functions of time that the closed form is written in, with their derivatives; the certificate is then
            one about rational functions.
        relations : sequence of polynomials
            Each is zero.
        """
        at = Flow(derivatives)
        residuals = [at.derivative(e) - self.field[x].subs(solution, simultaneous=True) for x, e in solution.items()]
        return certify(statement, sp.Matrix(residuals), relations)
