"""Derivatives of large expressions, every distinct piece differentiated once."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import sympy as sp

from .averages import GaussianAverage
from .walk import REMEMBERED, one, symbols_in


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
        return GaussianAverage(derivative(e.f, x), e.variables, e.covariance)
    return sp.diff(e, x) if x in symbols_in(e) else sp.S.Zero
