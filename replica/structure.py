"""Who depends on whom: the block-triangular order of the saddle-point equations, and which blocks are linear.

An order parameter depends on its conjugates' arguments, a free order parameter on whatever its stationarity contains.
The strongly connected components of that graph, in order, are small systems to be solved one after the other.  A block is
linear if its Jacobian with respect to its own unknowns does not contain them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sympy as sp
from sympy.utilities.iterables import strongly_connected_components

from .free_entropy import SaddlePoint


@dataclass(frozen=True)
class SymbolicBlock:
    """One strongly connected block.

    Attributes
    ----------
    unknowns : tuple of symbols
    hats : tuple of symbols
        Conjugates its equations need, directly or for the Jacobian.
    residual : tuple of expressions
        In unknowns and conjugates; vanishes at the solution.
    linear : bool
    """

    unknowns: tuple[Any, ...]
    hats: tuple[Any, ...]
    residual: tuple[Any, ...]
    linear: bool
    #: d residual / d hat and d residual / d unknown at fixed hats, by (row, symbol); zeros left out.
    slopes: dict[tuple[int, Any], Any]
    #: d hat / d unknown, by (hat, unknown); zeros left out.
    hat_slopes: dict[tuple[Any, Any], Any]

    def jacobian(self, i: int, j: int) -> Any:
        """d residual_i / d unknown_j by the chain rule, `hat_slopes` still to be put in for ``Symbol('d_h_x')``."""
        x = self.unknowns[j]
        chain = [
            self.slopes[i, h] * slope_symbol(h, x)
            for h in self.hats
            if (i, h) in self.slopes and (h, x) in self.hat_slopes
        ]
        return sp.Add(self.slopes.get((i, x), sp.S.Zero), *chain)


def slope_symbol(hat: Any, unknown: Any) -> Any:
    """Symbol standing for d hat / d unknown."""
    return sp.Symbol(f"d_{hat}_d_{unknown}", real=True)


def analyse(saddle: SaddlePoint, unknowns: Sequence[Any]) -> list[SymbolicBlock]:
    """Blocks in the order in which they can be solved."""
    everything = set(unknowns)
    hat_needs = {h: e.free_symbols & everything for h, e in saddle.hats.items()}

    def needs(x: Any) -> set[Any]:
        if x in saddle.stationarity:
            return saddle.stationarity[x].free_symbols & everything
        hats = saddle.overlaps[x].free_symbols & set(saddle.hats)
        return set().union(*[hat_needs[h] for h in hats]) if hats else set()

    edges = [(x, y) for x in unknowns for y in unknowns if y in needs(x)]
    components = strongly_connected_components((list(unknowns), edges))
    return [_block(saddle, sorted(c, key=list(unknowns).index), hat_needs) for c in components]


def _block(saddle: SaddlePoint, mine: list[Any], hat_needs: dict[Any, set[Any]]) -> SymbolicBlock:
    residual = tuple(saddle.stationarity[x] if x in saddle.stationarity else saddle.overlaps[x] - x for x in mine)
    hats = [h for h in saddle.hats if any(h in r.free_symbols for r in residual)]
    moving = [h for h in hats if hat_needs[h] & set(mine)]
    slopes = {}
    for i, r in enumerate(residual):
        for s in [*moving, *mine]:
            slope = sp.diff(r, s)
            if slope != 0:
                slopes[i, s] = slope
    hat_slopes = {(h, x): sp.diff(saddle.hats[h], x) for h in moving for x in mine}
    hat_slopes = {k: v for k, v in hat_slopes.items() if v != 0}
    varying = set(mine) | set(moving)
    linear = not any(e.free_symbols & varying for e in [*slopes.values(), *hat_slopes.values()])
    needed = [h for h in saddle.hats if h in hats or any(h in e.free_symbols for e in slopes.values())]
    return SymbolicBlock(tuple(mine), tuple(needed), residual, linear, slopes, hat_slopes)
