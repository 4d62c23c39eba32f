"""Walking large expressions, every distinct piece once.

sympy walks an expression as a tree; equations share most of their pieces, and as a tree can be a hundred times as large.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import sympy as sp

#: Pieces that functions of a piece remember; a model has some ten thousand.
REMEMBERED = 1 << 18


@lru_cache(REMEMBERED)
def one(e: Any) -> Any:
    """One and the same object for equal expressions, so that comparing larger ones need not descend into them."""
    return e


def shared(expression: Any) -> Any:
    """The same expression, of which equal pieces are one and the same object."""
    done: dict[int, Any] = {}  # by identity: comparing pieces is what this makes cheap

    def visit(e: Any) -> Any:
        if id(e) not in done:
            args = [visit(a) for a in e.args]
            done[id(e)] = one(e.func(*args) if any(a is not b for a, b in zip(args, e.args, strict=True)) else e)
        return done[id(e)]

    return visit(expression)


def pieces(expression: Any, kind: Any) -> set[Any]:
    """`expression.atoms(kind)`."""
    found, seen, left = set(), set(), [expression]
    while left:
        e = left.pop()
        if e in seen:
            continue
        seen.add(e)
        if isinstance(e, kind):
            found.add(e)
        left.extend(e.args)
    return found


def replaced(expression: Any, rule: Mapping[Any, Any], done: dict[Any, Any] | None = None) -> Any:
    """`expression.xreplace(rule)`.

    Parameters
    ----------
    done : dict, optional
        What earlier calls with the same rule found: expressions that share pieces are then walked once.
    """
    if not rule:
        return expression
    done = {} if done is None else done
    symbols = frozenset(rule) if all(key.is_Symbol for key in rule) else None

    def visit(e: Any) -> Any:
        if e in rule:
            return rule[e]
        if not e.args or (symbols is not None and symbols.isdisjoint(symbols_in(e))):
            return e
        if e not in done:
            args = [visit(a) for a in e.args]
            changed = any(a is not b for a, b in zip(args, e.args, strict=True))
            done[e] = one(e.func(*args) if changed else e)
        return done[e]

    return visit(expression)


@lru_cache(REMEMBERED)
def symbols_in(e: Any) -> frozenset[Any]:
    """`e.free_symbols`."""
    if e.args and isinstance(e, sp.Add | sp.Mul | sp.Pow | sp.Function):
        return frozenset().union(*[symbols_in(a) for a in e.args])
    return frozenset(e.free_symbols)
