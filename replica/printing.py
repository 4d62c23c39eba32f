"""sympy -> Numba-Python text: expressions, and functions made of assignments and quadrature loops.

The text is what a person would write: loop invariants outside, each average once, one loop nest for averages over the same
variable.  `sympy.cse` only names what repeats; `_hoist` moves what does not change to the shallowest loop.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sympy as sp
from sympy.printing.pycode import PythonCodePrinter

from .averages import GaussianAverage, averages_in, outermost
from .functions import PRIMITIVES
from .relaxation import PIECES
from .spectral import TRANSFORMS
from .walk import REMEMBERED, one, pieces, replaced, symbols_in

INDENT = "    "


class LoweringError(ValueError):
    """An expression has no numerical form here; the message names the piece."""


class Reciprocal(sp.Function):
    """1/x as a function, so that 1/x and 1/x^2 share one division."""

    nargs = 1
    is_real = True


class _Printer(PythonCodePrinter):
    def __init__(self) -> None:
        super().__init__({"fully_qualified_modules": True, "allow_unknown_functions": False})

    def _print_Infinity(self, expr: Any) -> str:
        return "math.inf"

    def _print_Reciprocal(self, expr: Any) -> str:
        return f"(1.0/({self._print(expr.args[0])}))"

    def _print_Float(self, expr: Any) -> str:
        return repr(float(expr))

    def _print_Rational(self, expr: Any) -> str:
        exact = expr.q & (expr.q - 1) == 0  # a power of two
        return repr(expr.p / expr.q) if exact else f"({expr.p}.0/{expr.q}.0)"

    def _print_DiracDelta(self, expr: Any) -> str:
        raise LoweringError(
            f"a point mass delta({expr.args[0]}) is left under an average: a discontinuous function was differentiated; "
            "integrate it out first (a function of one variable under a polynomial of the others is)"
        )

    def _print_Function(self, expr: Any) -> str:
        name = type(expr).__name__
        arguments = ", ".join(self._print(a) for a in expr.args)
        if name in PRIMITIVES:
            return f"_special.{name}({arguments})"
        if name in PIECES:
            return f"_relaxation.{name}({arguments})"
        if name in TRANSFORMS:
            return f"_spectra.{name}({arguments})"
        return super()._print_Function(expr)


_printer = _Printer()


def code(expression: Any) -> str:
    """One expression as Python text.

    Raises
    ------
    LoweringError
        If it contains something without a numerical twin.
    """
    try:
        return _printer.doprint(expression)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise (
            error if isinstance(error, LoweringError) else LoweringError(f"cannot print {expression}: {error}")
        ) from None


@dataclass(frozen=True)
class Rule:
    """Names, in the generated text, of a quadrature rule: nodes, weights, and how many."""

    nodes: str
    weights: str
    count: str


class FunctionWriter:
    """Writes one generated function.

    Parameters
    ----------
    name : str
    arguments : sequence of str
    caller : callable, optional
        ``caller(writer, expressions)`` writes calls that some functions in the expressions stand for, all results of one
        call at once, and returns the expressions with the results in place.
    """

    def __init__(self, name: str, arguments: Sequence[str], caller: Any = None) -> None:
        self.caller = caller
        self.header = f"def {name}({', '.join(arguments)}):"
        self.lines: list[str] = []
        self.level = 1
        self._names = itertools.count()

    def write(self, line: str) -> None:
        self.lines.append(INDENT * self.level + line)

    def assign(self, name: Any, expression: Any) -> None:
        self.write(f"{name} = {code(_reciprocals(expression))}")

    def new(self) -> Any:
        return sp.Symbol(f"_t{next(self._names)}", real=True)

    def assign_all(self, targets: Sequence[tuple[Any, Any]]) -> None:
        """Assign several expressions, naming what they share."""
        expressions = self.called([_reciprocals(e) for _, e in targets])
        shared, reduced = sp.cse(expressions, symbols=iter(self.new, None), order="none")
        for symbol, e in shared:
            self.write(f"{symbol} = {code(e)}")
        for (name, _), e in zip(targets, reduced, strict=True):
            self.write(f"{name} = {code(e)}")

    def called(self, expressions: Sequence[Any]) -> list[Any]:
        """Expressions with the results of what has to be called first, which is written here."""
        return list(expressions) if self.caller is None else self.caller(self, expressions)

    def averages(
        self, nodes: Iterable[GaussianAverage], depth: int, rule: Rule, *, guard: bool = False, prologue: Any = None
    ) -> dict[Any, Any]:
        """One loop nest for all averages over ``z{depth}``; returns the symbol that holds each.

        Parameters
        ----------
        nodes : standardised averages, one variable each
        guard : bool
            Write 0 for an average below its own rounding error (an odd integrand, say), instead of the rounding noise.
        prologue : callable, optional
            Writes what must stand at the top of the loop body; returns replacements for the integrands.
        """
        nodes = sorted(set(nodes), key=sp.default_sort_key)
        if not nodes:
            return {}
        z = variable(depth)
        index = f"_i{depth}"
        held = {node: self.new() for node in nodes}
        integrands = [node.f for node in nodes]
        placed, columns = place_columns(integrands, depth)
        hoisted: dict[Any, Any] = {}
        moving = {z, *columns}
        outside = {a for e in placed for a in averages_in(e) if not symbols_in(a) & moving}
        if outside:
            held_outside = self.averages(outside, depth + 1, rule)
            done: dict[Any, Any] = {}
            placed = [replaced(e, held_outside, done) for e in placed]
        integrands = [_hoist(_reciprocals(e), moving, hoisted, self.new) for e in placed]
        if hoisted:
            self.assign_all([(s, e) for e, s in hoisted.items()])
        for s in held.values():
            self.write(f"{s} = 0.0")
            if guard:
                self.write(f"{s}_size = 0.0")
        self.write(f"for {index} in range({rule.count}):")
        self.level += 1
        self.write(f"{z} = {rule.nodes}[{index}]")
        for symbol, array in columns.items():
            self.write(f"{symbol} = {array}[{index}]")
        inner = [n for e in integrands for n in outermost(e)]
        if inner:
            found = prologue(self, inner, depth + 1) if prologue else self.averages(inner, depth + 1, rule)
            integrands = [replaced(e, found) for e in integrands]
        integrands = self.called(integrands)
        shared, reduced = sp.cse(integrands, symbols=iter(self.new, None), order="none")
        for symbol, e in shared:
            self.write(f"{symbol} = {code(e)}")
        weight = f"{rule.weights}[{index}]"
        for node, e in zip(nodes, reduced, strict=True):
            term = f"{weight} * ({code(e)})"
            if guard:
                self.write(f"_term = {term}")
                self.write(f"{held[node]}_size += abs(_term)")
                term = "_term"
            self.write(f"{held[node]} += {term}")
        self.level -= 1
        if guard:
            for s in held.values():
                self.write(f"if abs({s}) <= ROUNDING * {s}_size:")
                self.write(f"{INDENT}{s} = 0.0")
        return held

    def text(self, prologue: Iterable[str] = ()) -> str:
        return "\n".join([self.header, *(INDENT + line for line in prologue), *self.lines]) + "\n"

    @property
    def used(self) -> set[str]:
        """Every identifier in the body."""
        return set(re.findall(r"[A-Za-z_]\w*", "\n".join(self.lines)))


def variable(depth: int) -> Any:
    """The standard normal variable of the loop at this depth."""
    return sp.Symbol(f"z{depth}", real=True)


def definition_symbol(name: str, depth: int) -> Any:
    """Symbol that holds a tabulated function of ``z{depth}`` inside the loop."""
    return sp.Symbol(f"{name}_at{depth}", real=True)


def place_columns(expressions: Sequence[Any], depth: int) -> tuple[list[Any], dict[Any, str]]:
    """Replace tabulated functions of ``z{depth}`` by the symbols that hold their value inside the loop."""
    z = variable(depth)
    found: dict[Any, Any] = {}
    for e in expressions:
        for f in pieces(e, sp.Function):
            if getattr(type(f), "is_definition", False) and f.args[0] == z:
                found[f] = definition_symbol(type(f).__name__, depth)
    ordered = sorted(found.items(), key=lambda item: str(item[0]))
    return [replaced(e, found) for e in expressions], {s: f"_c_{type(f).__name__}" for f, s in ordered}


@lru_cache(REMEMBERED)
def _reciprocals(e: Any) -> Any:
    """Negative integer powers as powers of a reciprocal."""
    if not e.args or isinstance(e, GaussianAverage):
        return e
    if isinstance(e, sp.Pow) and e.exp.is_Integer and e.exp < 0 and not e.base.is_Number:
        return one(Reciprocal(_reciprocals(e.base)) ** (-e.exp))
    return one(e.func(*[_reciprocals(a) for a in e.args]))


def _hoist(e: Any, moving: set[Any], hoisted: dict[Any, Any], new: Any) -> Any:
    """Replace every maximal sub-expression that the loop does not change by a symbol assigned before it."""

    def still(a: Any) -> bool:
        return not symbols_in(a) & moving

    def name(a: Any) -> Any:
        if a.is_Atom or not isinstance(a, sp.Expr) or (-a).is_Atom:  # conditions stay where they are
            return a
        if a not in hoisted:
            hoisted[a] = new()
        return hoisted[a]

    if still(e):
        return name(e)
    if e.is_Atom or isinstance(e, GaussianAverage):
        return e
    if isinstance(e, sp.Add | sp.Mul):
        low = [a for a in e.args if still(a)]
        high = [_hoist(a, moving, hoisted, new) for a in e.args if not still(a)]
        return e.func(name(e.func(*low)), *high) if low else e.func(*high)
    return e.func(*[_hoist(a, moving, hoisted, new) for a in e.args])
