"""Targets and activations read as polynomials plus error functions of linear forms, for which averages are closed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sympy as sp

from ..activations import Activation, Z

Array = np.ndarray
Polynomial = dict[tuple[int, ...], float]


@dataclass(frozen=True)
class ErfForm:
    """``g(z) = sum_nu polynomial[nu] z^nu + sum_m weights[m] erf(<directions[m], z>)``."""

    r: int
    polynomial: Polynomial
    weights: Array
    directions: Array


def erf_scale(activation: Activation) -> tuple[float, float] | None:
    """(A, k) if the activation is ``A erf(k z)``, else None."""
    form = erf_form(activation.expression, (Z,))
    if form is None or form.polynomial or len(form.weights) != 1:
        return None
    return float(form.weights[0]), float(form.directions[0, 0])


def erf_form(expression: sp.Expr, variables: Sequence[sp.Symbol]) -> ErfForm | None:
    """An expression as a sum of monomials and error functions of linear forms; None if it is not one."""
    polynomial: sp.Expr = sp.S.Zero
    weights, directions = [], []
    for term in sp.Add.make_args(sp.expand(expression)):
        factor, functions = term.as_independent(sp.erf, as_Add=False)
        if functions is sp.S.One or not functions.has(sp.erf):
            polynomial += term
            continue
        if not isinstance(functions, sp.erf) or factor.free_symbols:
            return None
        argument = functions.args[0]
        slopes = [sp.diff(argument, v) for v in variables]
        if any(slope.free_symbols for slope in slopes) or sp.expand(argument).subs(dict.fromkeys(variables, 0)) != 0:
            return None
        weights.append(float(factor))
        directions.append([float(slope) for slope in slopes])
    if not polynomial.is_polynomial(*variables):
        return None
    terms = sp.Poly(polynomial, *variables).terms()
    coefficients = {nu: float(c) for nu, c in terms if c != 0}
    return ErfForm(len(variables), coefficients, np.array(weights), np.array(directions).reshape(-1, len(variables)))
