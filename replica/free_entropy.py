"""The free entropy: single source of truth of a model.

    Phi(x, xh) = sum_k c_k x_k xh_k + potential_hat(xh) + potential(x) + mixed(x, xh)

Its stationarity conditions *are* the saddle-point equations: ``xh = -(d (potential + mixed) / dx) / c`` and
``x = -(d (potential_hat + mixed) / dxh) / c``, plus ``d potential / dm = 0`` for free order parameters (those without a
conjugate: their cost vanishes in the limit).  Explicit by bookkeeping; nothing is handed to a symbolic `solve`.

A mixed term is what a layer in between contributes, such as a random projection: it sees the order parameters of one side
and the conjugates of the other.  Conjugates may then contain other conjugates, as long as no circle closes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sympy as sp

from .averages import marginalise
from .calculus import derivative, gradient
from .walk import replaced, shared, symbols_in


class ModelError(ValueError):
    """A model's free entropy is not of the form this package can differentiate; the message names the culprit."""


@dataclass(frozen=True)
class SaddlePoint:
    """Derived equations.

    Attributes
    ----------
    hats : dict
        Conjugate symbol -> expression in the order parameters and, next to a mixed term, in other conjugates.
    overlaps : dict
        Order parameter symbol -> expression in the conjugates and, next to a mixed term, in order parameters.
    stationarity : dict
        Free order parameter -> expression that vanishes.
    """

    hats: Mapping[Any, Any]
    overlaps: Mapping[Any, Any]
    stationarity: Mapping[Any, Any]

    @cached_property
    def hats_in_order(self) -> list[Any]:
        """Conjugates, each after those it contains.  ModelError if they depend on each other in a circle."""
        out: list[Any] = []
        while len(out) < len(self.hats):
            left = [h for h in self.hats if h not in out]
            ready = [h for h in left if not symbols_in(self.hats[h]) & set(left)]
            if not ready:
                raise ModelError(
                    f"the mixed term makes conjugates depend on each other in a circle: {', '.join(map(str, left))}"
                )
            out += ready
        return out

    def explicit_hats(self) -> dict[Any, Any]:
        """Conjugates in terms of order parameters alone."""
        done: dict[Any, Any] = {}
        for h in self.hats_in_order:
            done[h] = replaced(self.hats[h], done)
        return {h: done[h] for h in self.hats}


class FreeEntropy:
    """A free entropy with declared couplings.

    Parameters
    ----------
    couplings : sequence of (order parameter, conjugate, coefficient)
    potential_hat : expression in the conjugates
        The prior side.
    potential : expression in the order parameters
        The data side; averages over data live here.
    free : sequence of symbols
        Order parameters without conjugate.
    mixed : expression in both, optional
        Layers between the two sides.

    Raises
    ------
    ModelError
        If a potential mixes the two sets, an order parameter is coupled twice, or conjugates depend on each other in a circle.
    """

    def __init__(
        self,
        couplings: Sequence[tuple[Any, Any, Any]],
        potential_hat: Any,
        potential: Any,
        free: Sequence[Any] = (),
        mixed: Any = 0,
    ) -> None:
        self.couplings = tuple(couplings)
        self.free = tuple(free)
        # Integrating out polynomial variables first means no derivative ever falls on a discontinuous teacher.
        self.potential_hat, self.potential, self.mixed = (
            shared(marginalise(shared(sp.S.Zero + e))) for e in (potential_hat, potential, mixed)
        )
        overlaps, hats = [x for x, _, _ in self.couplings], [h for _, h, _ in self.couplings]
        for group in (overlaps + list(self.free), hats):
            twice = {str(s) for s in group if group.count(s) > 1}
            if twice:
                raise ModelError(f"declared twice in the couplings: {', '.join(sorted(twice))}")
        for side, expression, strangers in (
            ("potential (order parameters)", self.potential, set(hats)),
            ("potential_hat (conjugates)", self.potential_hat, set(overlaps) | set(self.free)),
        ):
            foreign = symbols_in(expression) & strangers
            if foreign:
                raise ModelError(
                    f"{side} contains {', '.join(sorted(map(str, foreign)))}, which belong to the other side"
                )
        loose = symbols_in(self.mixed) & set(self.free)
        if loose:
            raise ModelError(f"the mixed term contains {', '.join(sorted(map(str, loose)))}, which have no conjugate")

    @property
    def expression(self) -> Any:
        """Phi itself."""
        return sp.Add(*[c * x * h for x, h, c in self.couplings]) + self.potential_hat + self.potential + self.mixed

    @cached_property
    def saddle_point(self) -> SaddlePoint:
        """The stationarity conditions, by differentiation."""
        mixed = gradient(self.mixed, [y for x, h, _ in self.couplings for y in (x, h)])
        saddle = SaddlePoint(
            hats={h: -(derivative(self.potential, x) + mixed[x]) / c for x, h, c in self.couplings},
            overlaps={x: -(derivative(self.potential_hat, h) + mixed[h]) / c for x, h, c in self.couplings},
            stationarity={m: derivative(self.potential, m) for m in self.free},
        )
        _ = saddle.hats_in_order
        return saddle
