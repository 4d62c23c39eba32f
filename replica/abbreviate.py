"""Long equations made readable: pieces that appear again get a name.

Equations of a layer with memory share most of what they are made of; written out in full they have millions of symbols.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sympy as sp

from .averages import GaussianAverage
from .walk import symbols_in

#: Symbols of all equations together, up to which they are written out.
READABLE = 10_000
#: Symbols from which a piece that appears twice gets a name.
WORTH_A_NAME = 12


def abbreviate(expressions: Sequence[Any]) -> tuple[list[tuple[Any, Any]], list[Any]]:
    """Names for shared pieces, each after those it contains, and the expressions written with them.

    A piece inside an average is named as a function of the variables that the average binds.  Nothing is changed unless the
    expressions are longer than `READABLE`.
    """
    sizes: dict[Any, int] = {}
    parents: dict[Any, int] = {}
    if sum(_measure(e, sizes, parents) for e in expressions) <= READABLE:
        return [], list(expressions)
    bound = frozenset(u for e in sizes if isinstance(e, GaussianAverage) for u in e.variables)
    names: list[tuple[Any, Any]] = []
    done: dict[Any, Any] = {}

    def write(e: Any) -> Any:
        if not e.args:
            return e
        if e not in done:
            new = [write(a) for a in e.args]
            out = e.func(*new) if any(a is not b for a, b in zip(new, e.args, strict=True)) else e
            if parents[e] > 1 and sizes[e] >= WORTH_A_NAME and isinstance(e, sp.Expr):
                arguments = sorted(symbols_in(e) & bound, key=str)
                symbol = f"Y{len(names) + 1}"
                name = sp.Function(symbol, real=True)(*arguments) if arguments else sp.Symbol(symbol, real=True)
                names.append((name, out))
                out = name
            done[e] = out
        return done[e]

    written = [write(e) for e in expressions]
    return names, written


def _measure(e: Any, sizes: dict[Any, int], parents: dict[Any, int]) -> int:
    """Symbols in e as a tree; and how often each piece of it stands in another."""
    parents[e] = parents.get(e, 0) + 1
    if e not in sizes:
        sizes[e] = 1 + sum(_measure(a, sizes, parents) for a in e.args)
    return sizes[e]
