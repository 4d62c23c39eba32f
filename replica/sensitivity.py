"""Exact derivatives of a solution in the parameters, by implicit differentiation of the derived equations.

At ``R(x, p) = 0`` a solution moves by ``dx/dp = -(dR/dx)^-1 dR/dp``, and what is observed by the chain rule.  All pieces are
symbolic: definitions, averages over opaque activations and targets, labels (`moving`), so that kinks and jumps need no care.  One
more generated kernel evaluates them along one direction; the Jacobian is that of the solver, block by block.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import sympy as sp

from solvers import Newton, ParameterError, Solution, solve
from solvers.kernels import entry_points, load
from solvers.label_slopes import SLOPES
from solvers.problem import KernelSource, Layout, Quantity, TableShape
from solvers.quadrature import rule, table_size

from .calculus import derivative
from .channel_kernel import slope_call, slope_text
from .compile import Compiler
from .dynamics import DynamicModel
from .evaluated import EvaluatedModel
from .free_entropy import ModelError
from .model import Model, Observable, Parameter, definition_function
from .moving import Along
from .output import ARGUMENTS, slope_nodes
from .printing import FunctionWriter
from .walk import pieces, replaced, symbols_in


class _Kernel(Compiler):
    """The change of every equation and every value along a direction of parameters and unknowns, as one more kernel.

    ``tabulate((p, dp), rule, table)``, and ``sensitivity((x, dx), (p, dp), table, out)`` for changes of residuals, conjugates,
    observables and the free entropy.  One direction at a time keeps the text as short as the equations, whatever their number.
    """

    def __init__(self, model: Model, wrt: Sequence[str]) -> None:
        super().__init__(model)
        self.wrt: tuple[str, ...] = ()
        self.base = self.problem()  # before anything is added to the table
        self.wrt = tuple(wrt)
        names = [model.symbol(o) for o in model.active(Observable).values()]
        phi = sp.Symbol("free_entropy", real=True)
        self.seen = {o: self.observables[o] for o in names if self._smooth(self.observables[o])}
        self.seen[phi] = self.free_entropy.expression
        self.definitions = len(self.table.scalars)
        parameters = [model.symbol(model.active(Parameter)[name]) for name in self.wrt]
        moving = {s: _change(s) for s in [*parameters, *self.unknowns, *self.hats]}
        self.along = Along(moving, self.channel, parameters)
        self.targets = self._targets()

    def _smooth(self, e: Any) -> bool:
        """Whether an observable can be differentiated in all it depends on."""
        try:
            for s in symbols_in(e) & set(self.unknowns):
                derivative(e, s)
        except ModelError:
            return False
        return True

    def _parameters(self) -> tuple[str, list[str]]:
        array, names = super()._parameters()
        return array, [*names, *(f"_d_{name}" for name in self.wrt)]

    def _targets(self) -> dict[Any, Any]:
        """What the kernel computes, by name: conjugates, and all changes."""
        saddle = self.saddle
        hats = {h: self._lower(saddle.hats[h]) for h in saddle.hats_in_order}
        rows = [self._lower(saddle.stationarity.get(x, saddle.overlaps.get(x, x) - x)) for x in self.unknowns]
        seen = {o: self._lower(e) for o, e in self.seen.items()}
        self._move_table()
        out = hats | {_change(h): self.along(e) for h, e in hats.items()}
        out |= {sp.Symbol(f"_r{i}", real=True): self.along(e) for i, e in enumerate(rows)}
        return out | {_change(o): self.along(e) for o, e in seen.items()}

    def _move_table(self) -> None:
        """Changes of table entries, as further table entries."""
        for key, e in dict(self.table.scalars).items():
            change = self.along(e)
            if change != 0:
                symbol = sp.Symbol(key, real=True)
                self.along.moving[symbol] = _change(symbol)
                self.table.scalars[str(_change(symbol))] = change
        for key, e in dict(self.table.columns).items():
            change = self.along(e)
            if change != 0:
                self.along.moving_columns[key] = definition_function(f"_d_{key}", key)
                self.table.columns[f"_d_{key}"] = change

    @cached_property
    def compiled(self) -> tuple[KernelSource, TableShape]:
        """The text, and the shape of its table."""
        w = self._writer("sensitivity", ["_x", "_p", "_table", "_out"])
        self._evaluate(w, self.targets)
        rows = [f"_r{i}" for i in range(len(self.unknowns))]
        for k, name in enumerate([*rows, *(_change(s) for s in [*self.hats, *self.seen])]):
            w.write(f"_out[{k}] = {name}")
        text = self._finish(w, [self._parameters(), ("_x", [*self.unknowns, *map(_change, self.unknowns)])])
        grid = bool(self.table.columns) or "_z[" in text
        tabulate, kinks = self._tabulate(grid)
        helpers = self.channel_source() + (slope_text(self.channel) + "\n\n" if self.channel is not None else "")
        source = KernelSource(f"{helpers}{tabulate}\n\n{text}", ("tabulate", "sensitivity"))
        return source, TableShape(len(self.table.scalars), len(self.table.columns), kinks, grid, self.channel is not None)

    def _call_channel(self, w: FunctionWriter, expressions: Sequence[Any]) -> list[Any]:
        held: dict[Any, Any] = {}
        if self.channel is None:
            return super()._call_channel(w, expressions)
        for (direction, arguments), nodes in slope_nodes(expressions).items():
            names = [sp.Symbol(f"{w.new()}_{a}") for a in ("moved", *ARGUMENTS)]
            w.assign_all([(name, sp.Float(a) if a.is_Number else a) for name, a in zip(names, arguments, strict=True)])
            w.write(slope_call(self.channel, names, direction))
            for node in nodes:
                held[node] = w.new()
                w.write(f"{held[node]} = _chan[{SLOPES.index(type(node).moment)}]")
        return super()._call_channel(w, [replaced(e, held) for e in expressions])


def _change(s: Any) -> Any:
    """Symbol of the change of a symbol."""
    return sp.Symbol(f"_d_{s}", real=True)


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
        if isinstance(model, EvaluatedModel):
            raise ParameterError(f"{model.name}: is a closed integral; derivatives exist for models with a free entropy")
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
        """Solve and differentiate at one point; derivatives of a point that did not converge are nan.

        Raises
        ------
        ParameterError
            For parameters that are missing or out of range, or a derivative that does not exist there.
        """
        method = method or Newton(rtol=1e-12)
        p = self.problem.point(parameters)
        for name in self.wrt:
            self._check_smooth(name, p, method.nodes)
        solution = solve(self.problem, method=method, **parameters)
        found = [np.full((len(self.names), len(self.wrt)), np.nan)] * 2
        if solution.converged:
            found = [self._at(solution, nodes) for nodes in (solution.nodes, 2 * solution.nodes)]
            for name, column in zip(self.wrt, found[0].T, strict=True):
                if not np.isfinite(column).all():
                    beyond = self.names[int(np.argmin(np.isfinite(column)))]
                    at = f"{name} at {solution.parameters[name]:g}"
                    raise ParameterError(f"{self.problem.name}: no derivative of {beyond} in {at}; move off it")
        gap = np.abs(found[0] - found[1]) / np.maximum(np.abs(found[0]), 1)
        arrays = Layout(tuple(self._shown)).unpack(found[0].T)
        named = {
            name: {p: float(v) if v.ndim == 0 else v for p, v in zip(self.wrt, values, strict=True)}
            for name, values in arrays.items()
        }
        return Sensitivity(solution, named, float(gap.max()))

    def _table(self, p: np.ndarray, nodes: int) -> np.ndarray:
        """The table at parameters and their direction."""
        table = np.zeros(table_size(self._shape, nodes))
        self._entries["tabulate"](p, rule(nodes), table)
        return table

    def _check_smooth(self, name: str, p: np.ndarray, nodes: int) -> None:
        """Definitions by cases (no step at alpha0 = 0, say) have no derivative where a case is that of one value, or ends."""
        where = [q.name for q in self.problem.parameters].index(name)
        at = f"{self.problem.name}: no derivative in {name} at {p[where]:g}"
        if not np.isfinite(p[where]):
            raise ParameterError(at)
        kernel = self._kernel
        symbol = kernel.model.symbol(kernel.model.active(Parameter)[name])
        entries = [*kernel.table.scalars.values(), *kernel.table.columns.values()]
        cases = {c.rhs for e in entries for c in pieces(e, sp.Eq) if c.lhs == symbol and c.rhs.is_number}
        if any(float(c) == p[where] for c in cases):
            raise ParameterError(f"{at}, a case of its own; move off it")
        beside = p.copy()
        beside[where] += 1e-9 * max(abs(p[where]), 1e-3)
        a, b = (self._table(self._directed(q), nodes)[1 : 1 + kernel.definitions] for q in (p, beside))
        if (np.abs(a - b) > 1e-4 * np.maximum(np.abs(a), 1)).any():
            raise ParameterError(f"{at}: definitions jump there; move off it")

    def _directed(self, p: np.ndarray, direction: str = "") -> np.ndarray:
        """Parameters, and a unit step of one of them."""
        return np.array([*p, *(1.0 if name == direction else 0.0 for name in self.wrt)])

    def _at(self, solution: Solution, nodes: int) -> np.ndarray:
        """Derivatives, one row per name and one column per parameter."""
        x = np.array([np.asarray(solution[q.name])[i] for q in self.problem.unknowns.quantities for i in q.components])
        p = np.array([solution.parameters[q.name] for q in self.problem.parameters])
        jacobians = self._jacobians(x, p, nodes)
        columns = [self._along(x, self._directed(p, name), jacobians, nodes) for name in self.wrt]
        k = self._kernel
        order = [*map(str, k.unknowns), *map(str, k.hats), *map(str, k.seen)]
        return np.array(columns).T[[order.index(_symbol_name(q, i)) for q in self._shown for i in q.components]]

    def _jacobians(self, x: np.ndarray, p: np.ndarray, nodes: int) -> list[np.ndarray]:
        """Of every block in its own unknowns."""
        entries, table = entry_points(self.problem), np.zeros(table_size(self.problem.table, nodes))
        entries["tabulate"](p, rule(nodes), table)
        out = []
        for which, block in enumerate(self.problem.blocks):
            size = len(block.indices)
            jacobian = np.empty(size * size)
            entries["block"](which, x, p, table, np.empty(size), jacobian)
            out.append(jacobian.reshape(size, size))
        return out

    def _along(self, x: np.ndarray, p: np.ndarray, jacobians: Sequence[np.ndarray], nodes: int) -> np.ndarray:
        """Changes of unknowns, conjugates and observables: block after block, each pushed by parameters and earlier blocks."""
        n, table = len(x), self._table(p, nodes)
        moved = np.zeros(2 * n)
        moved[:n] = x
        out = np.empty(n + len(self._kernel.hats) + len(self._kernel.seen))
        for block, jacobian in zip(self.problem.blocks, jacobians, strict=True):
            self._entries["sensitivity"](moved, p, table, out)
            mine = list(block.indices)
            moved[n:][mine] = -_solve(jacobian, out[mine], x[mine])
        self._entries["sensitivity"](moved, p, table, out)
        out[:n] = moved[n:]
        return out


def _solve(jacobian: np.ndarray, right: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Solve with unknowns in units of themselves and rows of size one: responses and overlaps differ by many decades."""
    if not (np.isfinite(jacobian).all() and np.isfinite(right).all()):
        return np.full(len(x), np.nan)
    unit = np.where(x == 0, 1.0, np.abs(x))
    scaled = jacobian * unit
    size = np.maximum(np.abs(scaled).max(axis=1, keepdims=True), 1e-300)
    return unit * np.linalg.lstsq(scaled / size, right / size[:, 0], rcond=None)[0]


def _symbol_name(q: Quantity, index: tuple[int, ...]) -> str:
    """Name of the symbol of one component."""
    return "_".join([q.name, *map(str, index)])


def sensitivity(model: Model, wrt: Iterable[str], method: Newton | None = None, **parameters: Any) -> Sensitivity:
    """Solution at one point and its derivatives in the parameters `wrt`; see `Differentiable`, which many points should use."""
    return Differentiable(model, tuple(wrt))(method, **parameters)
