"""Lowering: small passes that turn derived equations into something a loop can compute.

1. `standardise`: every average becomes nested averages over iid standard normals ``z0, z1, ...``.
2. `Table.tabulate`: averages free of order parameters become entries of a table computed once per parameter set: scalars,
   or columns over the nodes of z0.
3. `features`: where an integrand has kinks, so that a rule can put panel edges there.

Hoisting and fusing happen in `printing`, where loops are written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import sympy as sp

from .averages import GaussianAverage, averages_in
from .model import Definition, Model, Parameter, definition_function
from .printing import LoweringError, variable
from .spectral import closed_form
from .walk import REMEMBERED, one, pieces, replaced, symbols_in


def standardise(expression: Any, depth: int = 0) -> Any:
    """Averages over correlated Gaussians -> nested averages over iid standard normals, named by depth."""
    return _standardised(closed_form(expression), depth)


@lru_cache(REMEMBERED)
def _standardised(e: Any, depth: int) -> Any:
    if isinstance(e, GaussianAverage):
        return _standard(e, depth)
    if not e.args or not averages_in(e):
        return e
    return one(e.func(*[_standardised(a, depth) for a in e.args]))


def _standard(node: GaussianAverage, depth: int) -> Any:
    count = len(node.variables)
    zs = [variable(depth + k) for k in range(count)]
    root = node.covariance.cholesky(hermitian=False) if count > 1 else sp.Matrix([[sp.sqrt(node.covariance[0, 0])]])
    fields = root * sp.Matrix(zs)
    f = replaced(node.f, dict(zip(node.variables, fields, strict=True)))
    f = standardise(f, depth + count)
    for z in reversed(zs):
        f = GaussianAverage(f, z)
    return f


class Table:
    """Averages that need parameters only, by name, in order of computation.

    Attributes
    ----------
    scalars, columns : dict of str to expression
        Standardised; columns in terms of ``z0``.
    """

    def __init__(self, model: Model) -> None:
        self.scalars: dict[str, Any] = {}
        self.columns: dict[str, Any] = {}
        self._known: dict[Any, Any] = {}
        self.parameters = set(model.active(Parameter))
        for key, expression in entries(model.definitions()):
            if key.is_Symbol:
                self.scalars[key.name] = standardise(expression)
            else:
                (bound,) = key.args
                self.columns[type(key).__name__] = standardise(expression.xreplace({bound: variable(0)}), depth=1)
        self._check(model)

    def _check(self, model: Model) -> None:
        declared = {
            f"{name}_{i}" if model.shape(d) else name: bool(d.of)
            for name, d in model.active(Definition).items()
            for i in range((*model.shape(d), 1)[0])
        }
        given = dict.fromkeys(self.scalars, False) | dict.fromkeys(self.columns, True)
        for name in declared.keys() ^ given.keys():
            raise LoweringError(f"{model.name}: definition {name} is declared or defined, but not both")
        seen = set(self.parameters)
        for name, e in [*self.scalars.items(), *self.columns.items()]:
            unknown = {str(s) for s in e.free_symbols} - seen - {"z0"}
            if unknown:
                raise LoweringError(f"{model.name}: definition {name} uses {', '.join(sorted(unknown))}, not known there")
            if name in self.scalars:
                seen.add(name)

    def tabulate(self, expression: Any) -> Any:
        """Replace the averages in a standardised expression that need parameters only by table entries."""
        nodes = sorted(averages_in(expression), key=sp.default_sort_key)  # table names must not depend on hashing
        found = {}
        allowed = self.parameters | set(self.scalars)
        for node in nodes:
            names = {str(s) for s in symbols_in(node)}
            over_columns = variable(0) in node.variables and any(
                getattr(type(f), "is_definition", False) for f in pieces(node, sp.Function)
            )
            if names <= allowed and over_columns:
                continue  # columns come after scalars: such an average is made where it is needed
            if names <= allowed:
                found[node] = self._scalar(node)
            elif names <= allowed | {"z0"} and variable(0) not in node.variables:
                found[node] = self._column(node)
        return replaced(expression, found)

    def _scalar(self, node: Any) -> Any:
        if node not in self._known:
            name = f"average{len(self._known)}"
            self.scalars[name] = node
            self._known[node] = sp.Symbol(name, real=True)
        return self._known[node]

    def _column(self, node: Any) -> Any:
        if node not in self._known:
            name = f"average{len(self._known)}"
            self.columns[name] = node
            self._known[node] = definition_function(name, name)(variable(0))
        return self._known[node]


def entries(definitions: Mapping[Any, Any]) -> Iterable[tuple[Any, Any]]:
    """Definitions entry by entry: vectors taken apart."""
    for key, expression in definitions.items():
        if isinstance(key, sp.MatrixBase):
            yield from zip(key, expression, strict=True)
        else:
            yield key, expression


def substitute_formulas(model: Model, expression: Any) -> Any:
    """Put in the formulas of the opaque functions chosen as options."""

    def formula(f: Any) -> Any:
        choice = model.choices[f.option]
        return (choice.derivative if f.order else choice.formula)(f.args[0])

    return expression.replace(lambda e: hasattr(type(e), "option"), formula)


def features(model: Model, expression: Any, z: Any) -> list[tuple[Any, Any]]:
    """Centre and width of every non-smooth feature of an integrand, as a function of z.

    A kink in a function whose argument is linear in z sits at a point (width 0); seen through an average over another
    variable of the same argument it is smeared over the ratio of the two slopes.
    """
    out: dict[tuple[Any, Any], None] = {}
    for f in expression.atoms(sp.Function):
        kinks = model.choices[f.option].kinks if hasattr(type(f), "option") else getattr(f, "kinks", ())
        argument = f.args[0]
        if not kinks or z not in argument.free_symbols or not argument.is_polynomial(z):
            continue
        slope = sp.diff(argument, z)
        inner = [s for s in argument.free_symbols if str(s) in _LATER and str(s) > str(z)]
        if z in slope.free_symbols or any(sp.diff(argument, s, 2) != 0 for s in inner):
            continue
        width = sp.sqrt(sp.Add(*[sp.diff(argument, s) ** 2 for s in inner])) / sp.Abs(slope)
        centre = argument.xreplace({z: sp.S.Zero} | {s: sp.S.Zero for s in inner})
        for kink in kinks:
            out[(sp.Float(kink) - centre) / slope, width] = None
    return list(out)


_LATER = {f"z{k}" for k in range(10)}


def table_parameters(model: Model, table: Table) -> list[str]:
    """Parameters the table depends on, in the model's order."""
    used = set().union(*[e.free_symbols for e in [*table.scalars.values(), *table.columns.values()]], set())
    names = {str(s) for s in used}
    return [name for name in model.active(Parameter) if name in names]

