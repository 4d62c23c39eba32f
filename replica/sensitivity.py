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
from solvers.problem import KernelSource, TableShape
from solvers.quadrature import rule, table_size

from .averages import GaussianAverage, outermost
from .compile import Compiler
from .dynamics import DynamicModel
from .evaluated import EvaluatedModel
from .free_entropy import ModelError
from .model import Model, Observable, Parameter, definition_function
from .relaxation import part


class _Along:
    """Total derivative along one parameter; definitions carry derivatives of their own."""

    def __init__(self, parameter: Any) -> None:
        self.parameter = parameter
        self.moving: dict[Any, Any] = {parameter: sp.S.One}
        self.moving_columns: dict[str, Any] = {}

    def __call__(self, e: Any) -> Any:
        if e in self.moving:
            return self.moving[e]
        if not e.args or e.is_Number:
            return sp.S.Zero
        if isinstance(e, GaussianAverage):
            return self._average(e)
        if isinstance(e, sp.Piecewise):
            return sp.Piecewise(*[(self(value), condition) for value, condition in e.args])
        if isinstance(e, sp.Function) and getattr(type(e), "is_definition", False):
            return self.moving_columns.get(type(e).__name__, lambda z: sp.S.Zero)(*e.args)
        if hasattr(type(e), "option"):
            if self(e.args[0]) == 0:
                return sp.S.Zero
            raise ModelError(f"{e} depends on {self.parameter} outside an average over its argument")
        out = sp.S.Zero
        for i, argument in enumerate(e.args):
            change = self(argument)
            if change != 0:
                places = [sp.Dummy(real=True) if k == i else a for k, a in enumerate(e.args)]
                out += sp.diff(e.func(*places), places[i]).xreplace({places[i]: argument}) * change
        return out

    def _average(self, node: Any) -> Any:
        """d E[f(z)]: a moving argument ``u = a + b z`` of an opaque function is followed by shifting z by ``w = du/b``.

        E[f] changes by the explicit change of f less ``w df/dz`` at fixed opaque values, plus ``(z w - dw/dz) f`` from the
        Gaussian weight: the opaque function itself is never differentiated.
        """
        (z,), f = node.variables, node.f
        inner = {n: sp.Dummy(real=True) for n in outermost(f)}
        f = f.xreplace(inner)
        opaque = sorted((a for a in f.atoms(sp.Function) if hasattr(type(a), "option") and z in a.free_symbols), key=str)
        shifts = {self._shift(o.args[0], z) for o in opaque}
        if len(shifts) > 1:
            raise ModelError(f"functions of different moving arguments share the average {node}")
        shift = shifts.pop() if shifts else sp.S.Zero
        held = {o: sp.Dummy(real=True) for o in opaque}
        back = {d: o for o, d in held.items()}
        fixed = f.xreplace(held)
        change = self(fixed.xreplace({d: n for n, d in inner.items()}))
        if shift != 0:
            columns = [a for a in fixed.atoms(sp.Function) if getattr(type(a), "is_definition", False) and z in a.free_symbols]
            if columns or any(z in n.free_symbols for n in inner):
                raise ModelError(f"a moving argument and a tabulated function share the variable of {node}")
            change += -shift * sp.diff(fixed, z) + (z * shift - sp.diff(shift, z)) * fixed
        return GaussianAverage(sp.expand(change).xreplace(back), z)

    def _shift(self, u: Any, z: Any) -> Any:
        slope, moved = sp.diff(u, z), sp.expand(self(u))
        if moved == 0:
            return sp.S.Zero
        if z in slope.free_symbols:
            raise ModelError(f"the argument {u} is not linear in {z}")
        return sp.Add(*[part(moved.coeff(z, k), slope) * z**k for k in range(2)])


class _Kernel(Compiler):
    """The model's equations with their derivatives, as one more kernel."""

    def __init__(self, model: Model, wrt: Sequence[str]) -> None:
        super().__init__(model)
        self.base = self.problem()  # before anything is added to the table
        self.wrt = tuple(wrt)
        saddle = self.saddle
        self.residuals = [
            saddle.stationarity[x] if x in saddle.stationarity else saddle.overlaps[x] - x for x in self.unknowns
        ]
        names = [model.symbol(o) for o in model.active(Observable).values()]
        phi = sp.Symbol("free_entropy", real=True)
        self.seen = {**{o: self.observables[o] for o in names if self._smooth(self.observables[o])},
                     phi: self.free_entropy.expression}  # fmt: skip
        explicit = saddle.explicit_hats()
        hats = {h: self._lower(explicit[h]) for h in self.hats}
        self.slopes = {(h, x): self._lower(sp.diff(explicit[h], x)) for h in self.hats for x in self.unknowns}
        lowered = [self._lower(e) for e in [*self.residuals, *self.seen.values()]]
        partial = {
            (i, s): self._lower(sp.diff(e, s))
            for i, e in enumerate([*self.residuals, *self.seen.values()])
            for s in [*self.unknowns, *self.hats]
        }
        self.values, self.lowered, self.partial = hats, lowered, partial
        scalars, columns = dict(self.table.scalars), dict(self.table.columns)
        self.definitions = len(scalars)
        self.along = {name: self._along(name, scalars, columns) for name in self.wrt}

    def _smooth(self, e: Any) -> bool:
        """Whether an observable can be differentiated in all it depends on."""
        try:
            for s in e.free_symbols & set(self.unknowns):
                sp.diff(e, s)
        except ModelError:
            return False
        return True

    def _along(self, name: str, scalars: Mapping[str, Any], columns: Mapping[str, Any]) -> _Along:
        """Differentiate table entries along one parameter, as further table entries."""
        along = _Along(self.model.symbol(self.model.active(Parameter)[name]))
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
        targets = {**self.values}
        targets |= {sp.Symbol(f"_hx_{h}_{x}"): e for (h, x), e in self.slopes.items() if e != 0}
        moves = {(h, a): self.along[a](self.values[h]) for h in self.hats for a in self.wrt}
        targets |= {sp.Symbol(f"_hp_{h}_{a}"): e for (h, a), e in moves.items() if e != 0}
        self._evaluate(w, targets)
        out: list[Any] = []
        for i, e in enumerate(self.lowered):
            rows = [self._chain(i, x, "_hx", self.slopes) + self.partial[i, x] for x in self.unknowns]
            columns = [self._chain(i, a, "_hp", moves) + self.along[a](e) for a in self.wrt]
            out += [*rows, *columns]
        for h in self.hats:
            out += [sp.Symbol(f"_hx_{h}_{x}") if self.slopes[h, x] != 0 else sp.S.Zero for x in self.unknowns]
            out += [sp.Symbol(f"_hp_{h}_{a}") if moves[h, a] != 0 else sp.S.Zero for a in self.wrt]
        self._evaluate(w, {sp.Symbol(f"_o{k}"): e for k, e in enumerate(out)})
        for k in range(len(out)):
            w.write(f"_out[{k}] = _o{k}")
        text = self._finish(w, [self._parameters(), ("_x", self.unknowns)])
        grid = bool(self.table.columns) or "_z[" in text
        tabulate, kinks = self._tabulate(grid)
        source = KernelSource(f"{self.channel_source()}{tabulate}\n\n{text}", ("tabulate", "sensitivity"))
        return source, TableShape(len(self.table.scalars), len(self.table.columns), kinks, grid, self.channel is not None)

    def _chain(self, i: int, s: Any, prefix: str, known: Mapping[Any, Any]) -> Any:
        return sp.Add(*[
            self.partial[i, h] * sp.Symbol(f"{prefix}_{h}_{s}")
            for h in self.hats
            if self.partial[i, h] != 0 and known[h, s] != 0
        ])  # fmt: skip


@dataclass(frozen=True)
class Sensitivity:
    """A solution and its exact derivatives.

    Attributes
    ----------
    solution : Solution
    derivatives : dict of dict
        ``derivatives[name][parameter]`` for every order parameter, conjugate, observable and the free entropy.  The fraction of
        wrong signs in training has none and is left out.
    error : float
        Largest change of any derivative (relative, absolute below 1) when the quadrature nodes are doubled.
    """

    solution: Solution
    derivatives: Mapping[str, Mapping[str, float]]
    error: float


class Differentiable:
    """A model compiled together with its derivatives in some parameters.

    Parameters
    ----------
    model : Model
        One with a free entropy and scalar order parameters.
    wrt : sequence of str
        Names of continuous parameters.

    Raises
    ------
    ParameterError
        For an unknown parameter, or one that takes whole numbers only.
    ModelError
        If a derivative does not exist: of channel averages (losses other than the square) in parameters that move the labels.
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
        shown = [str(s) for s in self._kernel.seen]
        self.names = [*map(str, self._kernel.unknowns), *shown, *map(str, self._kernel.hats)]

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
            self._check_continuous(name, solution)
        found = [np.full((len(self.names), len(self.wrt)), np.nan)] * 2
        if solution.converged:
            found = [self._at(solution, nodes) for nodes in (solution.nodes, 2 * solution.nodes)]
        gap = np.abs(found[0] - found[1]) / np.maximum(np.abs(found[0]), 1)
        named = {n: dict(zip(self.wrt, map(float, row), strict=True)) for n, row in zip(self.names, found[0], strict=True)}
        return Sensitivity(solution, named, float(gap.max()))

    def _table(self, p: np.ndarray, nodes: int) -> np.ndarray:
        table = np.zeros(table_size(self._shape, nodes))
        self._entries["tabulate"](p, rule(nodes), table)
        return table

    def _check_continuous(self, name: str, solution: Solution) -> None:
        """Definitions by cases (no step at alpha0 = 0, say) may jump where a case ends: no derivative there."""
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
        k, n = self._kernel, len(self._kernel.unknowns)
        p = np.array([solution.parameters[q.name] for q in self.problem.parameters])
        table = self._table(p, nodes)
        x = np.array([float(solution[str(s)]) for s in k.unknowns])
        width, height = n + len(self.wrt), n + len(k.seen) + len(k.hats)
        out = np.empty(height * width)
        self._entries["sensitivity"](x, p, table, out)
        rows = out.reshape(height, width)
        # Unknowns in units of themselves and rows of size one: responses and overlaps differ by many decades.
        unit = np.where(x == 0, 1.0, np.abs(x))[:, None]
        jacobian = rows[:n, :n] * unit.T
        size = np.maximum(np.abs(jacobian).max(axis=1, keepdims=True), 1e-300)
        moved = -unit * np.linalg.lstsq(jacobian / size, rows[:n, n:] / size, rcond=None)[0]
        return np.vstack([moved, rows[n:, n:] + rows[n:, :n] @ moved])


def sensitivity(model: Model, wrt: Iterable[str], method: Newton | None = None, **parameters: Any) -> Sensitivity:
    """Solution at one point and its derivatives in the parameters `wrt`; see `Differentiable`, which many points should use."""
    return Differentiable(model, tuple(wrt))(method, **parameters)
