r"""Plateaux of the test error while directions are learned one after the other.

With U learned, a readout on n, p = d^(kappa + delta) samples and neurons, 0 < delta < 1, reaches functions of z_U times
polynomials of degree at most kappa in the other directions, and nothing else:

    R_kappa(U) = E g^2 - sum_{k <= kappa} E||E[grad_perp^k g | z_U]||^2 / k!

E||..||^2/k! is a sum over multi-indices (E[d_U^mu d_perp^nu g])^2/(mu! nu!), |nu| = k, hence exact for polynomials.  Features of
an activation without biases lose every total degree |mu| + |nu| that it cannot pass on.

Sources: theory notes on giant steps, A6.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp

from .forms import DIGITS, forms_of, inner
from .staircase import Staircase, engine_of


@dataclass(frozen=True)
class Plateaux:
    """Errors by stage and degree.

    Attributes
    ----------
    dims : tuple of int
        Dimension of U: 0, then after each stage.
    degrees : tuple of int
        kappa: n, p between d^kappa and d^(kappa + 1).
    values : ndarray, shape (len(dims), len(degrees)), squared units of g
        Label noise included.
    exact : nested tuples of sympy numbers, or None if the target is no polynomial with rational or algebraic tensors
    remainder : ndarray, like values
        What Hermite tensors beyond the order looked at may take off a value; 0 for polynomials.
    error : float
        Estimated error of the values from quadrature and rounding.
    """

    dims: tuple[int, ...]
    degrees: tuple[int, ...]
    values: np.ndarray
    exact: tuple[tuple[sp.Expr, ...], ...] | None
    remainder: np.ndarray
    error: float

    @property
    def claim(self) -> str:
        """Asymptotic, whatever the arithmetic: a readout reaches these errors for d -> infinity only."""
        return "asymptotic"

    @property
    def regime(self) -> str:
        """Where it holds, and what the values are."""
        values = "exact values" if self.exact is not None else "upper bounds" if self.remainder.any() else "values in floats"
        return f"n, p = d^(kappa + delta), 0 < delta < 1, d -> infinity; readout or biases that differ between neurons; {values}"


class PlateauError(ValueError):
    """An argument out of range; one line."""


def plateaux(found: Staircase, degrees: Sequence[int] | None = None, noise: float = 0.0) -> Plateaux:
    """R_kappa(U) for every stage of a staircase.

    Parameters
    ----------
    found : Staircase
        Its activation, if any, filters what the readout can use as well.
    degrees : sequence of int, optional
        kappa >= 0; from 0 to the order of the staircase, at most 4, if left out.
    noise : float
        Variance Delta of the label noise, >= 0; 0 gives the error against clean labels.
    """
    if not (noise >= 0 and math.isfinite(noise)):
        raise PlateauError(f"noise = {noise!r} is outside its range [0, inf)")
    chosen = tuple(range(min(found.order, 4) + 1) if degrees is None else degrees)
    if not chosen or any(isinstance(k, bool) or not isinstance(k, int) or k < 0 for k in chosen):
        raise PlateauError(f"degrees = {list(chosen)!r} are not whole numbers of at least 0")
    forms = forms_of(found.target, found.order)
    engine = engine_of(forms, found.target)
    second: Any = found.target.second_moment()
    closed = isinstance(second, sp.Expr)
    exact = forms.arithmetic.exact and closed
    size = float(second)
    if not exact and closed:  # in the digits of the shares, so that what cancels does
        second = forms.arithmetic.field.mpf(str(sp.N(second, DIGITS))) if forms.arithmetic.name == "60 digits" else size
    bases: list[list[Any]] = [[]]
    for stage in found.stages:
        bases.append([*bases[-1], *stage.native])
    shares = [_shares(forms, engine.frame(b), len(b), set(found.invisible), exact) for b in bases]
    left = [[second - _total(s, kappa, exact) for kappa in chosen] for s in shares]
    seen = _total(_shares(forms, engine.frame([]), 0, set(), exact), found.order, exact)
    beyond = 0.0 if found.complete else max(0.0, _float(second - seen))
    remainder = np.full((len(bases), len(chosen)), beyond)
    remainder[0, [kappa <= found.order for kappa in chosen]] = 0.0  # tensors up to kappa are all that counts at U = 0
    if len(bases[-1]) == forms.r and not found.invisible:
        left[-1] = [sp.S.Zero if exact else 0.0 for _ in chosen]  # g is a function of z_U
        remainder[-1] = 0.0
    values = np.array([[_float(x) for x in row] for row in left]) + noise
    shown = None
    if exact and found.complete:
        shown = tuple(tuple(sp.expand(x + sp.Rational(repr(float(noise)))) for x in row) for row in left)
    error = found.target.second_moment_error + 2 * found.target.error * math.sqrt(size) + 1e-14 * size
    return Plateaux((0, *found.dims), chosen, values, shown, remainder, error)


def _total(shares: dict[int, Any], kappa: int, exact: bool) -> Any:
    terms = [x for k, x in shares.items() if k <= kappa]
    return sp.Add(*terms) if exact else sum(terms)


def _float(x: Any) -> float:
    return float(sp.N(x, 17, maxn=200)) if isinstance(x, sp.Expr) else float(x)


def _shares(forms: Any, frame: list[Any], m: int, invisible: set[int], exact: bool) -> dict[int, Any]:
    """E||E[grad_perp^k g | z_U]||^2/k! by k, U being spanned by frame[:m]."""
    lengths = [inner(b, b) for b in frame]
    found: dict[int, Any] = {}
    for degree, form in forms.framed(frame).items():
        if degree in invisible:
            continue
        scale = forms.scales[degree] ** 2
        parts: dict[int, Any] = {}
        for powers, c in form.items():  # coefficient C/(lambda!): its share is C^2/lambda! with unit vectors
            weight = c * c * math.prod(map(math.factorial, powers))
            size = math.prod(length**n for length, n in zip(lengths, powers, strict=True))
            share = forms.arithmetic.ratio(weight, size)
            k = sum(powers[m:])
            parts[k] = parts[k] + share if k in parts else share
        for k, x in parts.items():
            if exact:
                x = scale * forms.arithmetic.number(x)
            elif forms.arithmetic.exact:
                x = _float(scale * forms.arithmetic.number(x))
            found[k] = found[k] + x if k in found else x  # the scale is 1 in floating arithmetic
    return found
