"""The free entropy: single source of truth of a model.

    Phi(x, xh) = sum_k c_k x_k xh_k + potential_hat(xh) + potential(x)

Its stationarity conditions *are* the saddle-point equations: ``xh = -(d potential / dx) / c`` and
``x = -(d potential_hat / dxh) / c``, plus ``d potential / dm = 0`` for free order parameters (those without a conjugate:
their cost vanishes in the limit).  Explicit by bookkeeping; nothing is handed to a symbolic `solve`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sympy as sp

from .averages import marginalise


class ModelError(ValueError):
    """A model's free entropy is not of the form this package can differentiate; the message names the culprit."""


@dataclass(frozen=True)
class SaddlePoint:
    """Derived equations.

    Attributes
    ----------
    hats : dict
        Conjugate symbol -> expression in the order parameters.
    overlaps : dict
        Order parameter symbol -> expression in the conjugates.
    stationarity : dict
        Free order parameter -> expression that vanishes.
    """

    hats: Mapping[Any, Any]
    overlaps: Mapping[Any, Any]
    stationarity: Mapping[Any, Any]


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

    Raises
    ------
    ModelError
        If a potential mixes the two sets, or an order parameter is coupled twice.
    """

    def __init__(
        self, couplings: Sequence[tuple[Any, Any, Any]], potential_hat: Any, potential: Any, free: Sequence[Any] = ()
    ) -> None:
        self.couplings = tuple(couplings)
        self.free = tuple(free)
        # Integrating out polynomial variables first means no derivative ever falls on a discontinuous teacher.
        self.potential_hat, self.potential = marginalise(potential_hat), marginalise(potential)
        overlaps, hats = [x for x, _, _ in self.couplings], [h for _, h, _ in self.couplings]
        for group in (overlaps + list(self.free), hats):
            twice = {str(s) for s in group if group.count(s) > 1}
            if twice:
                raise ModelError(f"declared twice in the couplings: {', '.join(sorted(twice))}")
        for side, expression, strangers in (
            ("potential (order parameters)", self.potential, set(hats)),
            ("potential_hat (conjugates)", self.potential_hat, set(overlaps) | set(self.free)),
        ):
            mixed = expression.free_symbols & strangers
            if mixed:
                raise ModelError(
                    f"{side} contains {', '.join(sorted(map(str, mixed)))}, which belong to the other side"
                )

    @property
    def expression(self) -> Any:
        """Phi itself."""
        return sp.Add(*[c * x * h for x, h, c in self.couplings]) + self.potential_hat + self.potential

    @cached_property
    def saddle_point(self) -> SaddlePoint:
        """The stationarity conditions, by differentiation."""
        return SaddlePoint(
            hats={h: -sp.diff(self.potential, x) / c for x, h, c in self.couplings},
            overlaps={x: -sp.diff(self.potential_hat, h) / c for x, h, c in self.couplings},
            stationarity={m: sp.diff(self.potential, m) for m in self.free},
        )
