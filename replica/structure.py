"""Who depends on whom: the block-triangular order of the saddle-point equations, and which blocks are linear.

An order parameter depends on its conjugates' arguments, a free order parameter on whatever its stationarity contains; both
on order parameters they contain themselves, next to a mixed term.
The strongly connected components of that graph, in order, are small systems to be solved one after the other.  A block is
linear if its Jacobian with respect to its own unknowns does not contain them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sympy as sp
from sympy.utilities.iterables import strongly_connected_components

from .calculus import derivative
from .free_entropy import SaddlePoint
from .walk import symbols_in


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
    #: d hat / d unknown, by (hat, unknown), in terms of those of the conjugates it contains; zeros left out.
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
    hat_needs: dict[Any, frozenset[Any]] = {}
    for h in saddle.hats_in_order:
        found = symbols_in(saddle.hats[h])
        hat_needs[h] = (found & everything).union(*[hat_needs[g] for g in found & set(saddle.hats)])

    def needs(x: Any) -> frozenset[Any]:
        if x in saddle.stationarity:
            return symbols_in(saddle.stationarity[x]) & everything
        found = symbols_in(saddle.overlaps[x])
        return (found & everything).union(*[hat_needs[h] for h in found & set(saddle.hats)])

    edges = [(x, y) for x in unknowns for y in unknowns if y in needs(x)]
    components = strongly_connected_components((list(unknowns), edges))
    return [_block(saddle, sorted(c, key=list(unknowns).index), hat_needs) for c in components]


def _block(saddle: SaddlePoint, mine: list[Any], hat_needs: dict[Any, frozenset[Any]]) -> SymbolicBlock:
    residual = tuple(saddle.stationarity[x] if x in saddle.stationarity else saddle.overlaps[x] - x for x in mine)
    in_order = saddle.hats_in_order
    seen = set().union(*[symbols_in(r) for r in residual])
    moving = [h for h in in_order if h in seen and hat_needs[h] & set(mine)]
    slopes = {}
    for i, r in enumerate(residual):
        for s in [*moving, *mine]:
            slope = derivative(r, s)
            if slope != 0:
                slopes[i, s] = slope
    needed = set().union(seen, *[symbols_in(e) for e in slopes.values()])
    for h in reversed(in_order):  # with the conjugates they are made of
        needed |= symbols_in(saddle.hats[h]) if h in needed else set()
    chain = [h for h in in_order if h in needed and hat_needs[h] & set(mine)]
    hat_slopes: dict[tuple[Any, Any], Any] = {}
    for h in chain:
        e = saddle.hats[h]
        for x in mine:
            through = [derivative(e, g) * slope_symbol(g, x) for g in chain if g in symbols_in(e) and (g, x) in hat_slopes]
            slope = derivative(e, x) + sp.Add(*through)
            if slope != 0:
                hat_slopes[h, x] = slope
    varying = set(mine) | set(chain)
    linear = not any(symbols_in(e) & varying for e in [*slopes.values(), *hat_slopes.values()])
    return SymbolicBlock(tuple(mine), tuple(h for h in in_order if h in needed), residual, linear, slopes, hat_slopes)
