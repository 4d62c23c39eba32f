"""Derivatives of large expressions, every distinct piece differentiated once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import sympy as sp

from .averages import GaussianAverage
from .walk import REMEMBERED, one, replaced, symbols_in


@lru_cache(REMEMBERED)
def derivative(e: Any, x: Any) -> Any:
    """d e / d x for a symbol x; the same expression `sympy.diff` gives."""
    return one(_derivative(e, x))


def _derivative(e: Any, x: Any) -> Any:
    if e == x:
        return sp.S.One
    if not e.args or e.is_Number:
        return sp.S.Zero
    if isinstance(e, sp.Add):
        return sp.Add(*[derivative(a, x) for a in e.args])
    if isinstance(e, sp.Mul):
        slopes = [(i, derivative(a, x)) for i, a in enumerate(e.args)]
        return sp.Add(*[sp.Mul(*e.args[:i], slope, *e.args[i + 1 :]) for i, slope in slopes if slope != 0])
    if isinstance(e, sp.Pow) and x not in symbols_in(e.exp):
        slope = derivative(e.base, x)
        return e.exp * e.base ** (e.exp - 1) * slope if slope != 0 else slope
    if isinstance(e, GaussianAverage) and x not in symbols_in(e.covariance):
        return e.of(derivative(e.f, x))
    return sp.diff(e, x) if x in symbols_in(e) else sp.S.Zero


def gradient(e: Any, variables: Sequence[Any]) -> dict[Any, Any]:
    """All derivatives of e at once, from e inwards: about as long as a few times e, however many variables there are."""
    wanted = frozenset(variables)
    slopes: dict[Any, list[Any]] = {e: [sp.S.One]}
    for piece in reversed(_inner_first(e, wanted)):
        slope = one(sp.Add(*slopes[piece]))
        for part, partial in _partials(piece, wanted):
            slopes.setdefault(part, []).append(one(slope * partial))
    return {x: sp.Add(*slopes.get(x, [])) for x in variables}


def _inner_first(e: Any, wanted: frozenset[Any]) -> list[Any]:
    """Pieces of e that contain a wanted symbol, each after those it contains; averages count as one piece with its own parts."""
    out: dict[Any, None] = {}

    def visit(piece: Any) -> None:
        if piece not in out and symbols_in(piece) & wanted:
            for part, _ in _partials(piece, wanted):
                visit(part)
            out[piece] = None

    visit(e)
    return list(out)


@lru_cache(REMEMBERED)
def _partials(e: Any, wanted: frozenset[Any]) -> list[tuple[Any, Any]]:
    """What e is made of, with the derivative of e with respect to each part; parts without a wanted symbol are left out."""
    if not e.args:
        return []
    if isinstance(e, GaussianAverage) and not symbols_in(e.covariance) & wanted:
        inside = _outermost(e.f, wanted, frozenset(e.variables))
        names = {part: sp.Dummy(real=True) for part in inside}
        back = {name: part for part, name in names.items()}
        slopes = gradient(replaced(e.f, names), list(back))
        return [
            (part, GaussianAverage(replaced(slopes[name], back), e.variables, e.covariance))
            for part, name in names.items()
        ]
    moving = [a for a in dict.fromkeys(e.args) if symbols_in(a) & wanted]
    if isinstance(e, sp.Add):
        return [(a, sp.S.One) for a in moving]
    if isinstance(e, sp.Mul):
        return [(a, sp.Mul(*[b for b in e.args if b != a])) for a in moving]
    if isinstance(e, sp.Pow) and not symbols_in(e.exp) & wanted:
        return [(e.base, e.exp * e.base ** (e.exp - 1))]
    return [(x, derivative(e, x)) for x in symbols_in(e) & wanted]


def _outermost(e: Any, wanted: frozenset[Any], bound: frozenset[Any]) -> list[Any]:
    """Largest pieces of e that contain wanted symbols but none that an average binds."""
    found: dict[Any, None] = {}
    seen = set()

    def visit(piece: Any, bound: frozenset[Any]) -> None:
        if (piece, bound) in seen or not symbols_in(piece) & wanted:
            return
        seen.add((piece, bound))
        if not symbols_in(piece) & bound:
            found[piece] = None
        elif isinstance(piece, GaussianAverage):
            visit(piece.f, bound | frozenset(piece.variables))
        else:
            for a in piece.args:
                visit(a, bound)

    visit(e, bound)
    return list(found)
