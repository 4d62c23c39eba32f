"""Losses: one convex formula each; their proximal maps are derived piece by piece.

``M_V(y, w) = min_z [loss(y, z) + (z - w)^2 / (2 V)]`` with minimiser ``prox``.  Between two kinks a loss is smooth, and the
minimiser solves ``z + V loss'(y, z) = w``, in closed form where the slope is linear in z; at a kink it stays for a whole
interval of w.  So slopes, curvatures and kinks at the possible labels are all a kernel needs (`loss_kernel`).

References
----------
.. [1] J.-J. Moreau, Bull. Soc. Math. France 93, 273 (1965).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import sympy as sp

from .expressions import parse_expression
from .functions import Kinked, absolute, evaluate, relu, softplus, step

Y, Z = sp.Symbol("y", real=True), sp.Symbol("z", real=True)
#: Where convexity of a user's loss is looked at: predictions, and their number.
LOOKED_AT = np.linspace(-30.0, 30.0, 2401)


@dataclass(frozen=True)
class Piece:
    """A smooth piece of a loss at one label: between two kinks, or on the whole line.

    `slope` and `curvature` are expressions in `Z`; `linear` says that the slope is linear, so that the prox is explicit.
    """

    lower: float
    upper: float
    slope: Any
    curvature: Any

    @property
    def linear(self) -> bool:
        return bool(sp.expand(sp.diff(self.curvature, Z)) == 0)

    def slope_at(self, x: float) -> float:
        """The slope inside the piece or at an end of it, there as the limit from inside; nan if that is not a number."""
        try:
            value = complex(self.slope.xreplace({Z: sp.Float(x)}))
            if not np.isfinite(value):
                edge = sp.nsimplify(x) if x == round(x) else sp.Float(x)
                value = complex(sp.limit(self.slope, Z, edge, "-" if x == self.upper else "+"))
        except (TypeError, ValueError, NotImplementedError):
            return math.nan
        return value.real if value.imag == 0 else math.nan


class Loss:
    """A convex loss of label y and prediction z.

    Parameters
    ----------
    name : str
        The text that chooses it.
    expression : sympy expression
        In `Y` and `Z`.

    Raises
    ------
    ValueError
        If it is not convex in z, or has a kink that depends on z otherwise than linearly.
    """

    def __init__(self, name: str, expression: Any) -> None:
        self.name, self.expression = name, sp.sympify(expression, strict=True)
        self._known: dict[float, list[Piece]] = {}

    def __call__(self, y: Any, z: Any) -> Any:
        """The loss as an expression."""
        return self.expression.xreplace({Y: y, Z: z})

    @cached_property
    def quadratic(self) -> bool:
        """Whether it is (y - z)^2/2 exactly, whose averages need no channel."""
        return bool(sp.expand(self.expression - (Y - Z) ** 2 / 2) == 0)

    @cached_property
    def of_residual(self) -> bool:
        """Whether it depends on y - z only, the condition for noisy real labels."""
        u = sp.Dummy("u", real=True)
        shifted = self.expression.xreplace({Z: Y - u}).replace(
            lambda e: isinstance(e, sp.Function), lambda e: e.func(*[sp.expand(a) for a in e.args])
        )
        return Y not in sp.expand(shifted).free_symbols

    @cached_property
    def even(self) -> bool:
        """Whether it is the same for -y and -z as for y and z, as a loss of the product is."""
        return bool(sp.expand(self(-Y, -Z) - self.expression) == 0)

    def prox(self, y: Any, w: Any, width: Any, unit: Any = 1) -> Any:
        """Minimiser z of ``loss(y, z) + (z - w)^2 / (2 width)`` as an expression, for the square loss.

        With `unit` 0 instead of 1 it is the limit of large widths, measured in units that are large too.
        """
        self._closed_only()
        return y + (w - y) * unit / (unit + width)  # y - prox then has no cancellation at large width

    def moreau(self, y: Any, w: Any, width: Any, unit: Any = 1) -> Any:
        """The minimum itself, the Moreau envelope, for the square loss."""
        self._closed_only()
        return sp.Rational(1, 2) * (y - w) ** 2 / (unit + width)

    def _closed_only(self) -> None:
        if not self.quadratic:
            raise TypeError(f"the envelope of {self.name} has no formula; write the average with an output channel")

    def pieces(self, label: float) -> list[Piece]:
        """The smooth pieces at one label (0, -1 or 1), from left to right."""
        if label not in self._known:
            self._known[label] = self._find_pieces(label)
        return self._known[label]

    def _find_pieces(self, label: float) -> list[Piece]:
        whole = self.expression.xreplace({Y: sp.Integer(round(label))})
        out = []
        for lower, upper, e in self._split(whole, -math.inf, math.inf):
            slope = sp.diff(e, Z)
            slope = sp.expand(slope) if slope.is_polynomial(Z) else slope
            out.append(Piece(lower, upper, slope, sp.diff(slope, Z)))
        for left, right in pairwise(out):
            if not all(math.isfinite(p.slope_at(left.upper)) for p in (left, right)):
                raise ValueError(f"loss {self.name}: its slope is not finite at z = {left.upper:g}, y = {label:g}")
        return out

    def _split(self, e: Any, lower: float, upper: float) -> list[tuple[float, float, Any]]:
        """Intervals without kinks, innermost kinks first, and the branch of the expression that holds on each."""
        kinked = [f for f in e.atoms(Kinked) if Z in f.free_symbols]
        kinked = [f for f in kinked if not any(Z in inner.free_symbols for inner in f.args[0].atoms(Kinked))]
        if not kinked:
            return [(lower, upper, e)]
        found = set()
        for f in kinked:
            a = sp.expand(f.args[0])
            if not a.is_polynomial(Z) or sp.degree(a, Z) > 1:
                raise ValueError(f"loss {self.name}: the kink of {f} does not depend linearly on z")
            slope = sp.diff(a, Z)
            found |= {float(-a.xreplace({Z: sp.S.Zero}) / slope)} if slope != 0 else set()
        edges = [lower, *sorted(x for x in found if lower < x < upper), upper]
        out = []
        for a, b in pairwise(edges):
            out += self._split(_on_piece(e, kinked, _inside(a, b)), a, b)
        return out

    def features(self, label: float) -> list[tuple[float, float]]:
        """Centre and width, in z, of what is smooth but not polynomial in the loss."""
        whole = self.expression.xreplace({Y: sp.Integer(round(label))})
        found: dict[tuple[float, float], None] = {}
        for node in whole.atoms(sp.Function):
            a = sp.expand(node.args[0])
            if isinstance(node, Kinked) or Z not in a.free_symbols:
                continue
            if a.is_polynomial(Z) and sp.degree(a, Z) == 1:
                slope = float(sp.diff(a, Z))
                found[-float(a.xreplace({Z: sp.S.Zero})) / slope, 1 / abs(slope)] = None
        if not found and not whole.is_polynomial(Z) and not any(isinstance(n, Kinked) for n in whole.atoms(sp.Function)):
            found[label, 1.0] = None
        return list(found)

    def smooth(self, labels: Sequence[float]) -> float:
        """Scale of the prox in units of the width of `features`, as equidistant nodes see it; 0 for a loss with kinks.

        Functions of exponentials are analytic up to pi widths off the axis, and so is their prox: slope and position of z have
        imaginary parts of one sign there.  Of others only one width is taken for granted.
        """
        if any(len(self.pieces(label)) > 1 for label in labels):
            return 0.0
        nodes = {n for n in self.expression.atoms(sp.Function) if Z in n.free_symbols}
        roots = [p for p in self.expression.atoms(sp.Pow) if Z in p.base.free_symbols and not (p.exp.is_Integer and p.exp > 0)]
        known = all(isinstance(n, sp.exp | softplus) and sp.diff(n.args[0], Z, 2) == 0 for n in nodes)
        return 1.0 if known and not roots else 0.3

    def check(self, labels: Sequence[float]) -> None:
        """Raise ValueError unless the loss fits its labels: 0 for real ones (a loss of the residual), -1 and 1 for classes."""
        if len(labels) == 1 and not self.of_residual:
            raise ValueError(f"loss {self.name} is not a function of y - z, which real labels need; use labels=sign with it")
        self._check_convex(labels)
        for label in labels:
            self.pieces(label)

    def _check_convex(self, labels: Sequence[float]) -> None:
        """Raise ValueError if the slope falls anywhere that is looked at, or a value is not a real number."""
        for label in labels:
            values = np.asarray(evaluate(self(sp.Float(label), Z), {Z: LOOKED_AT})) + 0.0 * LOOKED_AT
            if not np.isfinite(values).all():
                raise ValueError(f"loss {self.name}: not a finite number at y = {label:g}, z = "
                                 f"{LOOKED_AT[~np.isfinite(values)][0]:g}")  # fmt: skip
            rise = np.diff(values)
            fall = np.diff(rise) < -1e-9 * (1 + np.abs(values[1:-1]))
            if fall.any():
                raise ValueError(f"loss {self.name}: not convex in z near y = {label:g}, z = {LOOKED_AT[1:-1][fall][0]:g}")
            if not np.ptp(values):
                raise ValueError(f"loss {self.name}: does not depend on z at y = {label:g}")


def _inside(lower: float, upper: float) -> float:
    if math.isinf(lower) and math.isinf(upper):
        return 0.0
    if math.isinf(lower):
        return upper - 1.0
    return lower + 1.0 if math.isinf(upper) else 0.5 * (lower + upper)


def _on_piece(e: Any, kinked: Sequence[Any], at: float) -> Any:
    """The branch of some kinked functions that holds at one point, and so on the whole piece."""

    def branch(f: Any) -> Any:
        a = f.args[0]
        value = float(a.xreplace({Z: sp.Float(at)}))
        if isinstance(f, relu):
            return a if value > 0 else sp.S.Zero
        if isinstance(f, absolute):
            return a if value > 0 else -a
        if isinstance(f, step):
            return sp.S.One if value > 0 else sp.S.Zero
        return sp.S.One if value > 0 else -sp.S.One

    return e.xreplace({f: branch(f) for f in kinked})


def _huber(a: float) -> Any:
    u = Y - Z
    return u**2 / 2 - relu(u - a) ** 2 / 2 - relu(-u - a) ** 2 / 2


def _quantile(level: float) -> Any:
    if not 0 < level < 1:
        raise ValueError(f"quantile({float(level):g}): the level must be in (0, 1)")
    return level * relu(Y - Z) + (1 - level) * relu(Z - Y)


#: Losses with a name; those with a default take a number in brackets, as in ``huber(0.5)``.
NAMED: dict[str, tuple[Callable[..., Any], float | None]] = {
    "square": (lambda: (Y - Z) ** 2 / 2, None),
    "absolute": (lambda: absolute(Y - Z), None),
    "huber": (_huber, 1.0),
    "quantile": (_quantile, 0.5),
    "logistic": (lambda: softplus(-Y * Z), None),
    "hinge": (lambda: relu(1 - Y * Z), None),
    "squared_hinge": (lambda: relu(1 - Y * Z) ** 2, None),
}


def make_loss(text: str) -> Loss:
    """A loss from a name in `NAMED` or an expression in y and z, such as ``softplus(-y*z)`` or ``max(0, 1 - y*z)``.

    Raises
    ------
    ValueError
        If the text is neither; one line with the known names.
    """
    known = re.fullmatch(r"\s*([a-z_]+)\s*(?:\(\s*([0-9.eE+-]+)\s*\))?\s*", text) if isinstance(text, str) else None
    if known and known[1] in NAMED:
        formula, default = NAMED[known[1]]
        if default is None and known[2] is None:
            return Loss(known[1], formula())
        if default is not None:
            try:
                number = float(known[2]) if known[2] else default
            except ValueError:
                number = math.nan
            if not (math.isfinite(number) and number > 0):
                raise ValueError(f"loss {text!r}: its number must be positive and finite")
            return Loss(known[1] if known[2] is None else f"{known[1]}({number:g})", formula(sp.Rational(repr(number))))
    try:
        expression = parse_expression(text, ("y", "z"))
    except ValueError as error:
        names = ", ".join(f"{name}({default:g})" if default else name for name, (_, default) in NAMED.items())
        raise ValueError(f"{error}. Known losses: {names}; otherwise write an expression in y and z") from None
    return Loss(text, expression)
