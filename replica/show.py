"""A model, readable: free entropy or flow, derived equations, structure, as text or as Markdown with LaTeX.

Nothing is typed here; everything is printed from the model itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sympy as sp

from .abbreviate import abbreviate
from .activations import NAMED
from .dynamics import DynamicModel, State
from .evaluated import EvaluatedModel
from .lowering import entries
from .model import (
    ChoiceOption,
    FunctionOption,
    LossOption,
    Model,
    Observable,
    Option,
    OrderParameter,
    Parameter,
    WholeOption,
)
from .output import ChannelNode
from .relaxation import Piece
from .structure import analyse
from .walk import pieces


def as_text(model: Model) -> str:
    """Everything about a model as plain text."""
    return "\n".join(_Text(model).lines()) + "\n"


def as_markdown(model: Model) -> str:
    """The same as Markdown with LaTeX equations."""
    return "\n".join(_Markdown(model).lines()) + "\n"


def _range(d: Any) -> str:
    left = "(" if d.lower_open or d.lower == -sp.oo else "["
    right = "]" if getattr(d, "infinite", False) or (d.upper < sp.oo and not d.upper_open) else ")"
    return f"{left}{d.lower:g}, {d.upper:g}{right}"


class _Page:
    """The order of things; subclasses say how a heading, a row and an equation look."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._printed: list[Any] = []

    def lines(self) -> Iterator[str]:
        yield from self._body()
        if named := _explained(self._printed):
            yield from self.heading("Functions in these equations", 2)
        for function in named:
            yield self.function(function)

    def _body(self) -> Iterator[str]:
        model = self.model
        yield from self.heading(f"{model.name}: {model.title}", 1)
        yield model.summary()
        yield f"Source: {model.references}"
        if stated := model.statement():
            yield f"Claim: {stated['claim']}; {stated['regime']}"
        yield from self.heading("Parameters", 2)
        for p in model.active(Parameter).values():
            default = "" if p.default is None else f", default {p.default:g}"
            yield self.row(p.name, f"{p.long_name}, in {_range(p)}{default}")
        if model.options:
            yield from self.heading("Options", 2)
        for o in model.active(Option).values():
            yield self.row(o.name, f"{o.long_name}; now {model.options[o.name]}; {_choices(o)}")
        if isinstance(model, EvaluatedModel):
            yield from self._integrals(model)
            return
        yield from self._dynamics(model) if isinstance(model, DynamicModel) else self._saddle_point(model)
        yield from self.heading("Observables", 2)
        given = model.observables()
        for o in model.active(Observable).values():
            yield self.row(o.name, o.long_name)
            yield from self.equation(model.symbol(o), given[model.symbol(o)])

    def _integrals(self, model: EvaluatedModel) -> Iterator[str]:
        yield from self.heading("Observables (closed integrals, evaluated point by point)", 2)
        for o in model.active(Observable).values():
            yield self.row(o.name, o.long_name)
            yield from self.formula(o, model.formulas()[o.name])

    def _dynamics(self, model: DynamicModel) -> Iterator[str]:
        derivation = model.derivation()
        if derivation is not None:
            yield from self.heading("Flow (the gradient of the loss)", 2)
            for x, e in derivation.flow.field.items():
                yield from self.equation(sp.Symbol(f"{x}'"), e)
            if derivation.invariants:
                yield from self.heading("Invariants (derived: the null space of the flow on quadratic polynomials)", 2)
            for e in derivation.invariants:
                yield from self.equation(sp.Symbol("const"), e)
            yield from self.heading("Closed form", 2)
            if derivation.note:
                yield derivation.note
            for x, e in derivation.closed_form.items():
                yield from self.equation(x, e)
            yield from self.heading("Certificates", 2)
            for certificate in derivation.certificates:
                yield self.row("holds" if certificate.holds else "FAILS", f"{certificate.statement} ({certificate.method})")
        if model.active(State):
            yield from self.heading("State", 2)
            for x in model.active(State).values():
                yield self.row(x.name, x.long_name + (", for every eigenvalue h" if x.per_mode else ""))
        if model.definitions():
            yield from self.heading("Definitions (made once per trajectory)", 2)
        for symbol, e in model.definitions().items():
            yield from self.equation(symbol, e)
        if model.kind != "closed":
            arrow = "next " if model.kind == "map" else "d/dt "
            yield from self.heading("Map" if model.kind == "map" else "Equations of motion", 2)
            for symbol, e in model.initial().items():
                yield from self.equation(sp.Symbol(f"{symbol}(0)"), e)
            for symbol, e in model.field().items():
                yield from self.equation(sp.Symbol(f"{arrow}{symbol}"), e)

    def _saddle_point(self, model: Model) -> Iterator[str]:
        free_entropy = model.free_entropy()
        saddle = free_entropy.saddle_point
        yield from self.heading("Order parameters", 2)
        for x in model.active(OrderParameter).values():
            free = "; free (no conjugate)" if model.components(x)[0] in model.free else ""
            yield self.row(x.name, f"{x.long_name}, in {_range(x)}{free}")
        if model.definitions():
            yield from self.heading("Definitions (parameters only, tabulated once per parameter set)", 2)
            for symbol, e in entries(model.definitions()):
                yield from self.equation(symbol, e)
        derived = [(symbol, e, "") for symbol, e in [*saddle.hats.items(), *saddle.overlaps.items()]]
        derived += [(sp.S.Zero, e, f"fixes {m}") for m, e in saddle.stationarity.items()]
        shared, (phi, *rights) = abbreviate([free_entropy.expression, *(e for _, e, _ in derived)])
        if shared:
            yield from self.heading("Abbreviations (pieces that stand in the equations below more than once)", 2)
        for name, e in shared:
            yield from self.equation(name, e)
        yield from self.heading("Free entropy", 2)
        yield from self.equation(sp.Symbol(r"Phi", real=True), phi)
        yield from self.heading("Saddle point (derived: the stationarity conditions of the free entropy)", 2)
        for (symbol, _, note), e in zip(derived, rights, strict=True):
            yield from self.equation(symbol, e, note=note)
        yield from self.heading("Structure (derived: the order in which blocks are solved)", 2)
        unknowns = [s for x in model.active(OrderParameter).values() for s in model.components(x)]
        for k, block in enumerate(analyse(saddle, unknowns), 1):
            kind = "linear" if block.linear else "nonlinear"
            yield self.row(f"block {k}", f"{', '.join(map(str, block.unknowns))} ({kind})")

    def heading(self, text: str, level: int) -> Iterator[str]:
        raise TypeError("a page says how its headings look")

    def row(self, name: str, text: str) -> str:
        raise TypeError("a page says how its rows look")

    def equation(self, left: Any, right: Any, note: str = "") -> Iterator[str]:
        self._printed.append(sp.sympify(right, strict=True))
        yield from self.shown(left, right, note)

    def shown(self, left: Any, right: Any, note: str) -> Iterator[str]:
        raise TypeError("a page says how its equations look")

    def function(self, function: Any) -> str:
        raise TypeError("a page says how its functions look")

    def formula(self, observable: Any, formula: Any) -> Iterator[str]:
        raise TypeError("a page says how its formulas look")


def _explained(expressions: list[Any]) -> list[Any]:
    """The package's own functions in some expressions, which say themselves what they stand for."""
    found = {type(f) for e in expressions for f in pieces(e, (Piece, ChannelNode))}
    return sorted(found, key=lambda f: f.__name__)


def _choices(option: Option) -> str:
    if isinstance(option, FunctionOption):
        return f"one of {', '.join(NAMED)}, or an expression in z"
    if isinstance(option, LossOption):
        return f"one of {', '.join(option.known)}, or an expression in y and z"
    if isinstance(option, WholeOption):
        return f"a whole number in [{option.lowest}, {option.highest}]"
    return f"one of {', '.join(option.choices)}" if isinstance(option, ChoiceOption) else getattr(option, "hint", "")


class _Text(_Page):
    def heading(self, text: str, level: int) -> Iterator[str]:
        yield from ([] if level == 1 else [""])
        yield text
        yield ("=" if level == 1 else "-") * len(text)

    def row(self, name: str, text: str) -> str:
        return f"  {name:<12} {text}"

    def shown(self, left: Any, right: Any, note: str) -> Iterator[str]:
        yield f"  {left} = {right}" + (f"    ({note})" if note else "")

    def function(self, function: Any) -> str:
        return self.row(function.__name__, function.meaning())

    def formula(self, observable: Any, formula: Any) -> Iterator[str]:
        yield f"  {observable.name} = {formula.text}"


class _Markdown(_Page):
    def heading(self, text: str, level: int) -> Iterator[str]:
        yield from ["", f"{'#' * (level + 1)} {text}", ""]

    def row(self, name: str, text: str) -> str:
        return f"- `{name}`: {text}"

    def shown(self, left: Any, right: Any, note: str) -> Iterator[str]:
        names = {**self.model.latex_names(), sp.Symbol("Phi", real=True): r"\Phi"}
        sides = [sp.latex(side, symbol_names=names) for side in (left, right)]
        yield from ["", "$$", f"{sides[0]} = {sides[1]}" + (rf"\qquad\text{{({note})}}" if note else ""), "$$", ""]

    def function(self, function: Any) -> str:
        return f"- ${function.sign()}$ {function.meaning()}"

    def formula(self, observable: Any, formula: Any) -> Iterator[str]:
        yield from ["", "$$", f"{observable.latex} = {formula.latex}", "$$", ""]
