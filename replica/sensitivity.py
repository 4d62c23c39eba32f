"""Exact derivatives of a solution in the parameters, by implicit differentiation of the derived equations.

At ``R(x, p) = 0`` a solution moves by ``dx/dp = -(dR/dx)^-1 dR/dp``, and what is observed by the chain rule.  All pieces are
symbolic: definitions, averages over opaque activations and targets included, whose derivatives are moved onto the Gaussian
(`_average`), so that kinks and jumps need no care.  One more generated kernel evaluates them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import sympy as sp

from solvers import Newton, ParameterError, Solution, solve
from solvers.kernels import load
from solvers.label_slopes import SLOPES
from solvers.problem import KernelSource, Layout, Quantity, TableShape
from solvers.quadrature import rule, table_size

from .calculus import derivative
from .channel_kernel import slope_call, slope_text
from .compile import Compiler
from .dynamics import DynamicModel
from .free_entropy import ModelError
from .model import Model, Observable, Parameter, definition_function
from .moving import Along
from .output import ARGUMENTS, slope_nodes
from .printing import FunctionWriter
from .structure import slope_symbol
from .walk import pieces, replaced, symbols_in


class _Kernel(Compiler):
    """The model's equations with their derivatives, as one more kernel."""

    def __init__(self, model: Model, wrt: Sequence[str]) -> None:
        super().__init__(model)
        self.base = self.problem()  # before anything is added to the table
        self.wrt = tuple(wrt)
        saddle = self.saddle
        residuals = [saddle.stationarity[x] if x in saddle.stationarity else saddle.overlaps[x] - x for x in self.unknowns]
        names = [model.symbol(o) for o in model.active(Observable).values()]
        phi = sp.Symbol("free_entropy", real=True)
        self.seen = {o: self.observables[o] for o in names if self._smooth(self.observables[o])}
        self.seen[phi] = self.free_entropy.expression
        self.rows = [*residuals, *self.seen.values()]
        self.hat_values = {h: self._lower(saddle.hats[h]) for h in saddle.hats_in_order}
        self.lowered = [self._lower(e) for e in self.rows]
        # Explicit derivatives in unknowns and conjugates; zeros left out.
        self.partial = {i: self._partial(e) for i, e in enumerate(self.rows)}
        self.hat_partial = {h: self._partial(saddle.hats[h]) for h in saddle.hats_in_order}
        scalars, columns = dict(self.table.scalars), dict(self.table.columns)
        self.definitions = len(scalars)
        self.along = {name: self._along(name, scalars, columns) for name in self.wrt}

    def _partial(self, e: Any) -> dict[Any, Any]:
        found = {s: derivative(e, s) for s in [*self.unknowns, *self.hats] if s in symbols_in(e)}
        return {s: self._lower(slope) for s, slope in found.items() if slope != 0}

    def _smooth(self, e: Any) -> bool:
        """Whether an observable can be differentiated in all it depends on."""
        try:
            for s in symbols_in(e) & set(self.unknowns):
                derivative(e, s)
        except ModelError:
            return False
        return True

    def _along(self, name: str, scalars: Mapping[str, Any], columns: Mapping[str, Any]) -> Along:
        """Differentiate table entries along one parameter, as further table entries."""
        along = Along(self.model.symbol(self.model.active(Parameter)[name]), self.channel)
        for key, e in scalars.items():
            change = along(e)
            if change != 0:
                symbol = sp.Symbol(f"_d_{key}_d_{name}", real=True)
                self.table.scalars[str(symbol)] = change
                along.moving[sp.Symbol(key, real=True)] = symbol
        for key, e in columns.items():
            change = along(e)
            if change != 0:
                column = definition_function(f"_d_{key}_d_{name}", key)
                self.table.columns[f"_d_{key}_d_{name}"] = change
                along.moving_columns[key] = column
        return along

    @cached_property
    def compiled(self) -> tuple[KernelSource, TableShape]:
        """The text, and the shape of its table."""
        w = self._writer("sensitivity", ["_x", "_p", "_table", "_out"])
        targets: dict[Any, Any] = dict(self.hat_values)
        known: set[Any] = set()
        directions = [*self.unknowns, *self.wrt]
        for h in self.saddle.hats_in_order:
            for s in directions:
                change = self._total(self.hat_values[h], self.hat_partial[h], s, known)
                if change != 0:
                    targets[slope_symbol(h, s)] = change
                    known.add(slope_symbol(h, s))
        self._evaluate(w, targets)
        out = [
            self._total(e, self.partial[i], s, known) for i, e in enumerate(self.lowered) for s in directions
        ]
        for h in self.hats:
            out += [slope_symbol(h, s) if slope_symbol(h, s) in known else sp.S.Zero for s in directions]
        self._evaluate(w, {sp.Symbol(f"_o{k}"): e for k, e in enumerate(out)})
        for k in range(len(out)):
            w.write(f"_out[{k}] = _o{k}")
        text = self._finish(w, [self._parameters(), ("_x", self.unknowns)])
        grid = bool(self.table.columns) or "_z[" in text
        tabulate, kinks = self._tabulate(grid)
        helpers = self.channel_source() + (slope_text(self.channel) + "\n\n" if self.channel is not None else "")
        source = KernelSource(f"{helpers}{tabulate}\n\n{text}", ("tabulate", "sensitivity"))
        return source, TableShape(len(self.table.scalars), len(self.table.columns), kinks, grid, self.channel is not None)

    def _total(self, e: Any, partial: Mapping[Any, Any], s: Any, known: set[Any]) -> Any:
        """Derivative in an unknown, or along a parameter (a name), conjugates moving too."""
        explicit = self.along[s](e) if isinstance(s, str) else partial.get(s, sp.S.Zero)
        chain = [partial[h] * slope_symbol(h, s) for h in self.hats if h in partial and slope_symbol(h, s) in known]
        return sp.Add(explicit, *chain)

    def _call_channel(self, w: FunctionWriter, expressions: Sequence[Any]) -> list[Any]:
        held: dict[Any, Any] = {}
        for (direction, arguments), nodes in slope_nodes(expressions).items():
            names = [sp.Symbol(f"{w.new()}_{a}") for a in ARGUMENTS]
            w.assign_all([(name, sp.Float(a) if a.is_Number else a) for name, a in zip(names, arguments, strict=True)])
            w.write(slope_call(self.channel, names, direction))
            for node in nodes:
                held[node] = w.new()
                w.write(f"{held[node]} = _chan[{SLOPES.index(type(node).moment)}]")
        return super()._call_channel(w, [replaced(e, held) for e in expressions])


@dataclass(frozen=True)
class Sensitivity:
    """A solution and its exact derivatives.

    Attributes
    ----------
    solution : Solution
    derivatives : dict of dict
        ``derivatives[name][parameter]`` for every order parameter, conjugate, observable and the free entropy: a number, or
        an array of the shape of the quantity.
    error : float
        Largest change of any derivative (relative, absolute below 1) when the quadrature nodes are doubled.
    """

    solution: Solution
    derivatives: Mapping[str, Mapping[str, Any]]
    error: float


class Differentiable:
    """A model compiled together with its derivatives in some parameters.

    Parameters
    ----------
    model : Model
        One with a free entropy.
    wrt : sequence of str
        Names of continuous parameters; those of a vector one by one, as ``u_0``.

    Raises
    ------
    ParameterError
        For an unknown parameter, or one that takes whole numbers only.
    ModelError
        If the model has a piece that cannot be differentiated; the message names it.
    """

    def __init__(self, model: Model, wrt: Sequence[str]) -> None:
        if isinstance(model, DynamicModel):
            raise ParameterError(f"{model.name}: moves in time; derivatives exist for models with a free entropy")
        known = model.active(Parameter)
        for name in wrt:
            if name not in known:
                raise ParameterError(f"{model.name}: unknown parameter {name!r}; its parameters are {', '.join(known)}")
            if known[name].whole:
                raise ParameterError(f"{model.name}: parameter {name} takes whole numbers only, so it has no derivatives")
        self.wrt = tuple(wrt)
        self._kernel = _Kernel(model, wrt)
        self.problem = self._kernel.base
        self._source, self._shape = self._kernel.compiled
        found = {*map(str, self._kernel.unknowns), *map(str, self._kernel.seen), *map(str, self._kernel.hats)}
        self._shown = [q for q in self.problem.values.quantities if all(_symbol_name(q, i) in found for i in q.components)]
        self.names = [q.name + (f"[{','.join(map(str, i))}]" if i else "") for q in self._shown for i in q.components]

    @cached_property
    def _entries(self) -> Mapping[str, Any]:
        """Compiled on first use, after parameters have been checked."""
        return load(self._source)

    def __call__(self, method: Newton | None = None, **parameters: Any) -> Sensitivity:
        """Solve and differentiate at one point; derivatives of a point that did not converge are nan."""
        solution = solve(self.problem, method=method or Newton(rtol=1e-12), **parameters)
        for name in self.wrt:
            if not np.isfinite(solution.parameters[name]):
                raise ParameterError(f"{self.problem.name}: no derivative in {name} at {solution.parameters[name]:g}")
            self._check_smooth(name, solution)
        found = [np.full((len(self.names), len(self.wrt)), np.nan)] * 2
        if solution.converged:
            found = [self._at(solution, nodes) for nodes in (solution.nodes, 2 * solution.nodes)]
            for name, column in zip(self.wrt, found[0].T, strict=True):
                if not np.isfinite(column).all():
                    beyond = self.names[int(np.argmin(np.isfinite(column)))]
                    raise ParameterError(f"{self.problem.name}: no derivative of {beyond} in {name} at "
                                         f"{solution.parameters[name]:g}; move off it")  # fmt: skip
        gap = np.abs(found[0] - found[1]) / np.maximum(np.abs(found[0]), 1)
        arrays = Layout(tuple(self._shown)).unpack(found[0].T)
        named = {
            name: {p: float(v) if v.ndim == 0 else v for p, v in zip(self.wrt, values, strict=True)}
            for name, values in arrays.items()
        }
        return Sensitivity(solution, named, float(gap.max()))

    def _table(self, p: np.ndarray, nodes: int) -> np.ndarray:
        table = np.zeros(table_size(self._shape, nodes))
        self._entries["tabulate"](p, rule(nodes), table)
        return table

    def _check_smooth(self, name: str, solution: Solution) -> None:
        """Definitions by cases (no step at alpha0 = 0, say) have no derivative where the case is that of a single value."""
        value, symbol = solution.parameters[name], self._kernel.along[name].parameter
        scalars, columns = (list(t.values()) for t in (self._kernel.table.scalars, self._kernel.table.columns))
        cases = {c.rhs for e in scalars + columns for c in pieces(e, sp.Eq) if c.lhs == symbol and c.rhs.is_number}
        if any(float(c) == value for c in cases):
            raise ParameterError(f"{self.problem.name}: no derivative in {name} at {value:g}, a case of its own; move off it")
        here = np.array([solution.parameters[q.name] for q in self.problem.parameters])
        where = [q.name for q in self.problem.parameters].index(name)
        beside = here.copy()
        beside[where] += 1e-9 * max(abs(here[where]), 1e-3)
        a, b = (self._table(p, solution.nodes)[1 : 1 + self._kernel.definitions] for p in (here, beside))
        if (np.abs(a - b) > 1e-4 * np.maximum(np.abs(a), 1)).any():
            raise ParameterError(
                f"{self.problem.name}: no derivative in {name} at {here[where]:g}: definitions jump there; move off it"
            )

    def _at(self, solution: Solution, nodes: int) -> np.ndarray:
        """Derivatives, one row per name and one column per parameter."""
        k, n = self._kernel, len(self._kernel.unknowns)
        p = np.array([solution.parameters[q.name] for q in self.problem.parameters])
        table = self._table(p, nodes)
        x = np.array([np.asarray(solution[q.name])[i] for q in self.problem.unknowns.quantities for i in q.components])
        width, height = n + len(self.wrt), len(k.rows) + len(k.hats)
        out = np.empty(height * width)
        self._entries["sensitivity"](x, p, table, out)
        rows = out.reshape(height, width)
        # Unknowns in units of themselves and rows of size one: responses and overlaps differ by many decades.
        unit = np.where(x == 0, 1.0, np.abs(x))[:, None]
        jacobian = rows[:n, :n] * unit.T
        size = np.maximum(np.abs(jacobian).max(axis=1, keepdims=True), 1e-300)
        known = np.isfinite(rows[:n, n:]).all(axis=0) & np.isfinite(jacobian).all()
        moved = np.full((n, len(self.wrt)), np.nan)
        if known.any():
            moved[:, known] = -unit * np.linalg.lstsq(jacobian / size, rows[:n, n:][:, known] / size, rcond=None)[0]
        found = np.vstack([moved, rows[n:, n:] + rows[n:, :n] @ moved])
        order = [*map(str, k.unknowns), *map(str, k.seen), *map(str, k.hats)]
        return found[[order.index(_symbol_name(q, i)) for q in self._shown for i in q.components]]


def _symbol_name(q: Quantity, index: tuple[int, ...]) -> str:
    """Name of the symbol of one component."""
    return "_".join([q.name, *map(str, index)])


def sensitivity(model: Model, wrt: Iterable[str], method: Newton | None = None, **parameters: Any) -> Sensitivity:
    """Solution at one point and its derivatives in the parameters `wrt`; see `Differentiable`, which many points should use."""
    return Differentiable(model, tuple(wrt))(method, **parameters)
