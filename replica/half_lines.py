"""Averages of piecewise polynomials with one kink over one Gaussian variable, in closed form.

A fixed rule is good only where it knows the kink, and one that moves with order parameters (a soft threshold ``relu(h - reg)``
of a field whose variance is being solved for) it cannot know.
"""

from __future__ import annotations

from typing import Any

import sympy as sp

from .averages import GaussianAverage, averages_in
from .functions import Kinked, absolute, normal_cdf, relu, sgn, step
from .walk import pieces, replaced, symbols_in


def without_moving_kinks(expression: Any, unknowns: frozenset[Any]) -> Any:
    """The same with averages done whose kink moves with the unknowns, where that is possible."""
    found = {}
    for node in averages_in(expression):
        if len(node.variables) == 1 and symbols_in(node) & unknowns and (done := half_line(node)) is not None:
            found[node] = done
    return replaced(expression, found)


def half_line(node: GaussianAverage) -> Any:
    """The average as a closed form; None unless it is a polynomial times powers of kinked functions of one linear argument."""
    (u,), f = node.variables, node.f
    kinked = pieces(f, Kinked)
    arguments = {k.args[0] for k in kinked}
    if len(arguments) != 1:
        return None
    (argument,) = arguments
    slope = sp.diff(argument, u)
    if slope == 0 or u in symbols_in(slope):
        return None
    start = argument.xreplace({u: sp.S.Zero})
    y, up, down = sp.Symbol("y", real=True), sp.Dummy("up"), sp.Dummy("down")
    sides = {relu: y * up, step: up, absolute: y * up - y * down, sgn: up - down}
    text = replaced(f, {k: sides[type(k)] for k in kinked})
    text = sp.expand(text.xreplace({u: (y - start) / slope}))
    if u in symbols_in(text) or not text.is_polynomial(y, up, down):
        return None
    width = sp.sqrt(node.covariance[0, 0]) * sp.Abs(slope)
    out = sp.S.Zero
    for (power, ups, downs), coefficient in sp.Poly(text, y, up, down).terms():
        if ups and downs:
            continue  # on both sides of the kink at once
        if ups:
            out += coefficient * _moment(power, start, width)
        elif downs:
            out += coefficient * (-1) ** power * _moment(power, -start, width)
        else:
            out += coefficient * (_moment(power, start, width) + (-1) ** power * _moment(power, -start, width))
    return out


def _moment(power: int, mean: Any, width: Any) -> Any:
    """E[y^power 1(y > 0)], y ~ N(mean, width^2)."""
    ratio = mean / width
    now = normal_cdf(ratio)
    following = mean * now + width * sp.exp(-(ratio**2) / 2) / sp.sqrt(2 * sp.pi)
    for n in range(1, power + 1):
        now, following = following, mean * following + n * width**2 * now
    return now
