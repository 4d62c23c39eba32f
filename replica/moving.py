"""Derivatives of lowered equations along a direction in which parameters, table entries, unknowns and conjugates move.

No derivative falls on an activation, a target, a loss or a label: a moving argument of an opaque function is followed by shifting
the Gaussian it is averaged over, and what moves a label has nodes of its own (`output.label_change`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sympy as sp

from .averages import GaussianAverage, outermost
from .free_entropy import ModelError
from .output import ARGUMENTS, LABEL, ChannelNode, OutputChannel, channel_slope, label_change
from .relaxation import part


class Along:
    """The derivative along a direction, as a function of expressions.

    Parameters
    ----------
    moving : mapping
        As the attribute.
    channel : OutputChannel, optional
    variances : sequence of symbols
        Of those that move, the ones that may be zero and have their root in an average.

    Attributes
    ----------
    moving : dict
        What moves, and its change: symbols, each to be entered before anything that contains it is differentiated.
    moving_columns : dict of str to function
        The same for tabulated functions.
    """

    def __init__(self, moving: Mapping[Any, Any], channel: OutputChannel | None = None, variances: Sequence[Any] = ()) -> None:
        self.channel, self.variances = channel, variances
        self.moving = dict(moving)
        self.moving_columns: dict[str, Any] = {}
        self._known: dict[Any, Any] = {}

    def __call__(self, e: Any) -> Any:
        if e in self.moving:
            return self.moving[e]
        if not e.args or e.is_Number:
            return sp.S.Zero
        if e not in self._known:
            self._known[e] = self._derivative(e)
        return self._known[e]

    def _derivative(self, e: Any) -> Any:
        if isinstance(e, GaussianAverage):
            return self._average(e)
        if isinstance(e, sp.Piecewise):
            return sp.Piecewise(*[(self(value), condition) for value, condition in e.args])
        if isinstance(e, sp.Function) and getattr(type(e), "is_definition", False):
            return self.moving_columns.get(type(e).__name__, lambda z: sp.S.Zero)(*e.args)
        if hasattr(type(e), "option"):
            if self(e.args[0]) == 0:
                return sp.S.Zero
            raise ModelError(f"{e} moves outside an average over its argument")
        if isinstance(e, sp.Add):
            return sp.Add(*map(self, e.args))
        out = []
        for i, argument in enumerate(e.args):
            change = self(argument)
            if change != 0:
                out.append(self._through(e, i, argument, change))
        return sp.Add(*out)

    def _through(self, e: Any, i: int, argument: Any, change: Any) -> Any:
        """Change of e as its argument number i changes."""
        if isinstance(e, ChannelNode) and ARGUMENTS[i] in LABEL:
            if self.channel is None:
                raise ModelError(f"{e} needs an output channel")
            return label_change(e, ARGUMENTS[i], change, self.channel)
        if isinstance(e, ChannelNode) and (e.moment, ARGUMENTS[i]) == ("wrong_fit", "V"):
            return channel_slope("wrong_fit", "V")(change, *e.args)
        if isinstance(e, sp.Mul):
            return sp.Mul(*e.args[:i], change, *e.args[i + 1 :])
        places = [sp.Dummy(real=True) for _ in e.args]
        slope = sp.diff(e.func(*places), places[i]) if not isinstance(e, sp.Pow) else self._power(e, i, places)
        return slope.xreplace(dict(zip(places, e.args, strict=True))) * change

    def _power(self, e: Any, i: int, places: list[Any]) -> Any:
        here = places[0] ** e.exp if i == 0 else sp.Pow(*places)
        return sp.diff(here, places[i])

    def _average(self, node: Any) -> Any:
        """d E[f(z)]: a moving argument ``u = a + b z`` of an opaque function is followed by shifting z by ``w = du/b``.

        E[f] changes by the explicit change of f less ``w df/dz`` at fixed opaque values, plus ``(z w - dw/dz) f`` from the
        Gaussian weight: the opaque function itself is never differentiated.
        """
        (z,), f = node.variables, node.f
        inner = {n: sp.Dummy(real=True) for n in outermost(f)}
        f = f.xreplace(inner)
        opaque = sorted((a for a in f.atoms(sp.Function) if hasattr(type(a), "option") and z in a.free_symbols), key=str)
        if not opaque and not inner and (smoothed := self._variance(f, z)) is not None:
            return smoothed
        shifts = {self._shift(o.args[0], z) for o in opaque}
        if len(shifts) > 1:
            raise ModelError(f"functions of different moving arguments share the average {node}")
        shift = shifts.pop() if shifts else sp.S.Zero
        held = {o: sp.Dummy(real=True) for o in opaque}
        back = {d: o for o, d in held.items()}
        fixed = f.xreplace(held)
        change = self(fixed.xreplace({d: n for n, d in inner.items()}))
        if shift != 0:
            columns = [a for a in fixed.atoms(sp.Function) if getattr(type(a), "is_definition", False) and z in a.free_symbols]
            if columns or any(z in n.free_symbols for n in inner):
                raise ModelError(f"a moving argument and a tabulated function share the variable of {node}")
            change += -shift * sp.diff(fixed, z) + (z * shift - sp.diff(shift, z)) * fixed
            change = sp.expand(change)
        return GaussianAverage(change.xreplace(back), z)

    def _variance(self, f: Any, z: Any) -> Any:
        """d E[f(sqrt(p) z, p)] by ``E[d^2 f/du^2]/2`` in u = sqrt(p) z, finite at p = 0; None if f is not of that form."""
        for p in self.variances:
            root, u = sp.sqrt(p), sp.Dummy(real=True)
            if p not in f.free_symbols or not f.has(root):
                continue
            g = f.xreplace({z: u / root})
            curved = sp.diff(g, u, 2)
            rooted = any(power.base == p and not power.exp.is_Integer for power in g.atoms(sp.Pow))
            if not (g.has(z) or rooted or curved.has(sp.DiracDelta)):
                change = self(g) + self(p) * curved / 2
                return GaussianAverage(change.xreplace({u: root * z}), z)
        return None

    def _shift(self, u: Any, z: Any) -> Any:
        slope, moved = sp.diff(u, z), sp.expand(self(u))
        if moved == 0:
            return sp.S.Zero
        if z in slope.free_symbols:
            raise ModelError(f"the argument {u} is not linear in {z}")
        return sp.Add(*[part(moved.coeff(z, k), slope) * z**k for k in range(2)])
