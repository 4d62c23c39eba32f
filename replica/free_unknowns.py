"""Order parameters without a conjugate, solved for inside the map: their stationarity as generated code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import sympy as sp

from .calculus import derivative
from .printing import FunctionWriter
from .walk import replaced, symbols_in


def solve_free(w: FunctionWriter, stationarity: Mapping[Any, Any], lower: Callable[[Any], Any], evaluate: Callable) -> None:
    """Write the solution of ``stationarity[m] = 0`` for every free m into their names.

    `lower` makes an expression ready to be written, ``evaluate(w, targets)`` assigns such expressions to names.  Linear
    equations are solved at once.  Otherwise Newton's method, whose last step leaves an error of its square: with a bracket for
    one unknown, in which the equation is monotone since the potential is concave; for several, with steps halved where the slope
    of the potential along the step says that its maximum was passed by far.  The size of the gradient would not do: it shrinks
    where a loss is a straight line, and there is nothing to find there.
    """
    free = list(stationarity)
    if not free:
        return
    slopes = [[derivative(e, m) for m in free] for e in stationarity.values()]
    linear = not any(symbols_in(e) & set(free) for row in slopes for e in row)
    at = dict.fromkeys(free, sp.S.Zero) if linear else {}
    targets = {sp.Symbol(f"_a{i}_{j}"): lower(e) for i, row in enumerate(slopes) for j, e in enumerate(row)}
    targets |= {sp.Symbol(f"_b{i}"): lower(-replaced(e, at)) for i, e in enumerate(stationarity.values())}
    if linear:
        evaluate(w, targets)
        _solve_small(w, len(free))
        for i, m in enumerate(free):
            w.write(f"{m} = _y{i}")
        return
    alone = len(free) == 1
    for i in range(len(free)):
        w.write(f"_base{i} = _y{i} = 0.0")
    w.write("_low, _high = -math.inf, math.inf" if alone else "_slope, _halvings = 0.0, 0")
    w.write("for _round in range(100):")
    w.level += 1
    evaluate(w, targets)
    if alone:  # bisect where Newton leaves the bracket or does not halve its step
        w.write("if not math.isfinite(_b0):")
        w.write("    break")
        w.write("_last = abs(_y0) if _round > 0 else math.inf")
        _solve_small(w, 1)
        w.write(f"_low, _high = ({free[0]}, _high) if _y0 > 0.0 else (_low, {free[0]})")
        w.write(f"if _high - _low < math.inf and not (_low <= {free[0]} + _y0 <= _high and abs(_y0) <= 0.5 * _last):")
        w.write(f"    _y0 = 0.5 * (_low + _high) - {free[0]}")
    else:  # too far: the maximum was passed, something is not finite, or there is no curvature left to go on with
        along = "-(" + " + ".join(f"_b{i} * _y{i}" for i in range(len(free))) + ")"
        for i in range(len(free)):
            w.write(f"_last{i} = _y{i}")
        w.write(f"_far = _halvings < 30 and not _slope * {along} >= -0.5 * _slope * _slope")
        w.write("if not _far:")
        w.level += 1
        _solve_small(w, len(free))
        w.write(f"_far = not math.isfinite({' + '.join(f'_y{i}' for i in range(len(free)))})")
        w.level -= 1
        w.write("if _far and (_round == 0 or _halvings == 30):")  # no solution to report
        for m in free:
            w.write(f"    {m} = math.nan")
        w.write("    break")
        w.write("if _far:")
        w.write("    _halvings += 1")
        for i, m in enumerate(free):
            w.write(f"    _y{i} = _last{i}")
            w.write(f"    {m} = _base{i} + 0.5 ** _halvings * _y{i}")
        w.write("    continue")
        w.write(f"_slope, _halvings = {along}, 0")
    for i, m in enumerate(free):
        w.write(f"_base{i} = {m}")
        w.write(f"{m} += _y{i}")
    moved = " and ".join(f"abs(_y{i}) <= 1e-8 * abs({m})" for i, m in enumerate(free))
    w.write(f"if {moved}:")
    w.write("    break")
    w.level -= 1


def _solve_small(w: FunctionWriter, n: int) -> None:
    """_y = _a^-1 _b, the solution of least norm where that is not determined."""
    if n == 1:
        w.write("_y0 = _linear.divide(_b0, _a0_0)")
        return
    w.write(f"_a = np.empty(({n}, {n}))")
    w.write(f"_b = np.empty({n})")
    for i in range(n):
        w.write(f"_b[{i}] = _b{i}")
        for j in range(n):
            w.write(f"_a[{i}, {j}] = _a{i}_{j}")
    w.write(f"_linear.solve_small(_a, _b, np.zeros({n}))")
    for i in range(n):
        w.write(f"_y{i} = _b[{i}]")
