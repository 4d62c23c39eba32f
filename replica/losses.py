"""Losses, their proximal maps and Moreau envelopes.

``M_V(y, w) = min_z [loss(y, z) + (z - w)^2 / (2 V)]`` with minimiser ``prox``.  The envelope is continuously
differentiable however rough the loss, and its derivatives follow from the envelope theorem; that is all a saddle point
needs.  A loss that declares its envelope in closed form gets that formula (certified in the tests: the prox is stationary
and attains the envelope); any other gets a symbolic node with the right derivatives.

References
----------
.. [1] J.-J. Moreau, Bull. Soc. Math. France 93, 273 (1965).
"""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar, cast

import sympy as sp


class Loss:
    """A convex loss ``loss(y, z)`` of label and prediction.

    Subclasses give the formula by ``__call__`` and may give `closed_prox`.
    """

    name: ClassVar[str] = ""

    def __call__(self, y: Any, z: Any) -> Any:
        """The loss as an expression."""
        raise TypeError("a loss is one formula: give the subclass a __call__(y, z)")

    def closed_prox(self, y: Any, w: Any, width: Any) -> Any | None:
        """The proximal map as an expression, or None if it has no closed form."""
        return None

    def prox(self, y: Any, w: Any, width: Any) -> Any:
        """Minimiser z of ``loss(y, z) + (z - w)^2 / (2 width)``."""
        closed = self.closed_prox(y, w, width)
        return _nodes(cast(Any, type(self)))[1](y, w, width) if closed is None else closed

    def moreau(self, y: Any, w: Any, width: Any) -> Any:
        """The minimum itself: the Moreau envelope."""
        closed = self.closed_prox(y, w, width)
        if closed is None:
            return _nodes(cast(Any, type(self)))[0](y, w, width)
        return sp.factor(self(y, closed) + (closed - w) ** 2 / (2 * width))


@cache
def _nodes(loss_class: Any) -> tuple[Any, Any]:
    """Symbolic envelope and prox of a loss without closed form, with their derivatives."""
    loss = loss_class()
    a, b = sp.symbols("a b", real=True)
    slope_y, curvature = sp.diff(loss(a, b), a), sp.diff(loss(a, b), b, 2)
    slope, mixed = sp.diff(loss(a, b), b), sp.diff(loss(a, b), a, b)

    def prox_fdiff(self: Any, argindex: int = 1) -> Any:
        y, _, width = self.args
        at = {a: y, b: self}
        numerator = {1: -width * mixed, 2: sp.S.One, 3: -slope}[argindex]
        return (numerator / (1 + width * curvature)).subs(at, simultaneous=True)

    def moreau_fdiff(self: Any, argindex: int = 1) -> Any:
        y, w, width = self.args
        z = prox(y, w, width)
        if argindex == 1:
            return slope_y.subs({a: y, b: z}, simultaneous=True)
        return (w - z) / width if argindex == 2 else -((z - w) ** 2) / (2 * width**2)

    common = {"nargs": 3, "is_real": True}
    prox = type(f"prox_{loss.name}", (sp.Function,), common | {"fdiff": prox_fdiff})
    moreau = type(f"moreau_{loss.name}", (sp.Function,), common | {"fdiff": moreau_fdiff})
    return moreau, prox


class Square(Loss):
    """``(y - z)^2 / 2``."""

    name: ClassVar[str] = "square"

    def __call__(self, y: Any, z: Any) -> Any:
        return (y - z) ** 2 / 2

    def closed_prox(self, y: Any, w: Any, width: Any) -> Any:
        return y + (w - y) / (1 + width)  # y - prox then has no cancellation at large width

    def moreau(self, y: Any, w: Any, width: Any) -> Any:
        return sp.Rational(1, 2) * (y - w) ** 2 / (1 + width)  # the general formula, with the cancellation done by hand
