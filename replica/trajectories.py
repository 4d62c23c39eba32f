"""DynamicModel -> TrajectoryProblem: four functions of generated code.

    prepare   numbers made once per trajectory, and the nodes of the spectrum
    start     the state at time 0
    field     its derivative, or its next value
    report    the observables at a time and a state
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import sympy as sp

from solvers.problem import TIME, KernelSource, Layout, TrajectoryProblem

from .compile import check_names, quantity
from .dynamics import EIGENVALUE, DataSum, DynamicModel, ModeAverage, State, column
from .free_entropy import ModelError
from .model import Observable, Parameter
from .printing import FunctionWriter, code

ARGUMENTS = {
    "prepare": ["_p", "_data", "_table"],
    "start": ["_p", "_data", "_table", "_x"],
    "field": ["_t", "_x", "_p", "_data", "_table", "_out"],
    "report": ["_t", "_x", "_p", "_data", "_table", "_out"],
}


def compile_dynamics(model: DynamicModel) -> TrajectoryProblem:
    """Everything numeric about a dynamic model, as plain data.

    Raises
    ------
    ModelError, LoweringError
        If a declaration has no expression, or an expression no numerical form; the message names the piece.
    """
    return _Compiler(model).problem()


class _Compiler:
    def __init__(self, model: DynamicModel) -> None:
        check_names(model)
        self.model = model
        self.parameters = list(model.declared(Parameter))
        if TIME not in self.parameters:
            raise ModelError(f"{model.name}: a dynamic model needs a parameter named {TIME}")
        states = list(model.declared(State).values())
        self.states = [s for x in states if not x.per_mode for s in model.components(x)]
        self.mode_states = [s for x in states if x.per_mode for s in model.components(x)]
        self.definitions = [(s, sp.sympify(e, strict=True)) for s, e in model.definitions().items()]
        self.data = {name: np.asarray(values, dtype=float) for name, values in model.data().items()}
        self.ratio = model.samples_per_dimension()

    def problem(self) -> TrajectoryProblem:
        model = self.model
        text = "\n\n".join(write() for write in (self._prepare, self._start, self._field, self._report))
        return TrajectoryProblem(
            name=model.name,
            title=model.title,
            kind=model.kind,
            parameters=tuple(quantity(model, p) for p in model.declared(Parameter).values()),
            outputs=Layout(tuple(quantity(model, o) for o in model.declared(Observable).values())),
            scalars=len(self.definitions),
            state=len(self.states),
            state_per_node=len(self.mode_states),
            spectrum=self.ratio is not None,
            data=tuple(self.data.values()),
            kernel_source=KernelSource(text, tuple(ARGUMENTS)),
            options=model.options,
            provenance=self._provenance(),
        )

    def _provenance(self) -> dict[str, str]:
        names = self.model.latex_names()
        named = {**dict(self.definitions), **self.model.initial(), **self.model.field()}
        equations = {**named, **self._observables()}
        lines = [f"{names.get(s, sp.latex(s))} = {sp.latex(e, symbol_names=names)}" for s, e in equations.items()]
        return {
            "references": self.model.references,
            **self.model.statement(),
            "equations": json.dumps(lines),
            "sympy": sp.__version__,
        }

    # ---------------------------------------------------------------- the four functions

    def _prepare(self) -> str:
        w = FunctionWriter("prepare", ARGUMENTS["prepare"])
        done: list[Any] = []
        for batch in _independent(self.definitions):
            self._evaluate(w, dict(batch))
            done += batch
        for k, (symbol, _) in enumerate(self.definitions):
            w.write(f"_table[{k}] = {symbol}")
        if self.ratio is not None:
            w.assign("_ratio", self.ratio)
            w.write("_spectra.mp_rule(_ratio, _n - 1, _nodes, _weights)")
        return self._finish(w, table=False)

    def _start(self) -> str:
        w = FunctionWriter("start", ARGUMENTS["start"])
        initial = self.model.initial()
        self._evaluate(w, {_target(s): _given(initial, s, self.model) for s in self.states})
        for i, s in enumerate(self.states):
            w.write(f"_x[{i}] = {_target(s)}")
        if self.mode_states:
            self._modes(w, "_x", {s: _given(initial, s, self.model) for s in self.mode_states}, load=False)
        return self._finish(w)

    def _field(self) -> str:
        w = FunctionWriter("field", ARGUMENTS["field"])
        if self.model.kind != "closed":
            field = self.model.field()
            self._evaluate(w, {_target(s): _given(field, s, self.model) for s in self.states})
            for i, s in enumerate(self.states):
                w.write(f"_out[{i}] = {_target(s)}")
            if self.mode_states:
                self._modes(w, "_out", {s: _given(field, s, self.model) for s in self.mode_states}, load=True)
        return self._finish(w)

    def _report(self) -> str:
        w = FunctionWriter("report", ARGUMENTS["report"])
        values = self._observables()
        targets = [_target(s) for s in values]
        self._evaluate(w, dict(zip(targets, values.values(), strict=True)))
        for i, name in enumerate(targets):
            w.write(f"_out[{i}] = {name}")
        return self._finish(w)

    def _observables(self) -> dict[Any, Any]:
        """Scalar components in storage order, by symbol."""
        given = self.model.observables()
        out: dict[Any, Any] = {}
        for o in self.model.declared(Observable).values():
            value = _given(given, self.model.symbol(o), self.model)
            entries = [value] if not o.dims() else list(sp.ImmutableMatrix(value))
            symbols = self.model.components(o)
            if len(symbols) != len(entries):
                raise ModelError(f"{self.model.name}: {o.name} needs {len(symbols)} components, not {len(entries)}")
            out.update(zip(symbols, entries, strict=True))
        return out

    # ---------------------------------------------------------------- loops

    def _evaluate(self, w: FunctionWriter, targets: Mapping[Any, Any]) -> None:
        """Assign expressions, their sums and averages in one loop each."""
        held: dict[Any, Any] = {}
        for kind, loop in ((DataSum, self._data_loop), (ModeAverage, self._mode_loop)):
            nodes = {n for e in targets.values() for n in sp.sympify(e, strict=True).atoms(kind)}
            if nodes:
                names = {node: w.new() for node in sorted(nodes, key=sp.default_sort_key)}
                for name in names.values():
                    w.write(f"{name} = 0.0")
                loop(w, names)
                held |= names
        w.assign_all([(name, sp.sympify(e, strict=True).xreplace(held)) for name, e in targets.items()])

    def _data_loop(self, w: FunctionWriter, names: Mapping[Any, Any]) -> None:
        count = self.model.rows()
        w.write(f"for _i in range({'_rows' if count is None else f'int({code(count)})'}):")
        w.level += 1
        for k, name in enumerate(self.data):
            w.write(f"{column(name)} = _data[{k} * _rows + _i]")
        self._accumulate(w, names, "")
        w.level -= 1

    def _mode_loop(self, w: FunctionWriter, names: Mapping[Any, Any]) -> None:
        if self.ratio is None:
            raise ModelError(f"{self.model.name}: a ModeAverage needs samples_per_dimension()")
        w.write("for _i in range(_n):")
        w.level += 1
        w.write(f"{EIGENVALUE} = _nodes[_i]")
        self._load_modes(w)
        self._accumulate(w, names, "_weights[_i] * ")
        w.level -= 1

    def _accumulate(self, w: FunctionWriter, names: Mapping[Any, Any], weight: str) -> None:
        terms = {node: sp.Symbol(f"_term{k}") for k, node in enumerate(names)}
        w.assign_all([(terms[node], node.args[0]) for node in names])
        for node, name in names.items():
            w.write(f"{name} += {weight}{terms[node]}")

    def _modes(self, w: FunctionWriter, array: str, values: Mapping[Any, Any], load: bool) -> None:
        """Assign the per-mode states at every node."""
        w.write("for _i in range(_n):")
        w.level += 1
        w.write(f"{EIGENVALUE} = _nodes[_i]")
        if load:
            self._load_modes(w)
        w.assign_all([(_target(s), e) for s, e in values.items()])
        for k, s in enumerate(self.mode_states):
            w.write(f"{array}[{len(self.states)} + {len(self.mode_states)} * _i + {k}] = {_target(s)}")
        w.level -= 1

    def _load_modes(self, w: FunctionWriter) -> None:
        for k, s in enumerate(self.mode_states):
            w.write(f"{s} = _x[{len(self.states)} + {len(self.mode_states)} * _i + {k}]")

    def _finish(self, w: FunctionWriter, table: bool = True) -> str:
        """Put the loads that the body uses in front of it."""
        used = w.used
        front = [f"{name} = _p[{i}]" for i, name in enumerate(self.parameters) if name in used and name != TIME]
        if TIME in used:
            front.append(f"{TIME} = _t")
        if table:
            front += [f"{s} = _table[{k}]" for k, (s, _) in enumerate(self.definitions) if str(s) in used]
        if w.header.startswith(("def field", "def report")):
            front += [f"{s} = _x[{i}]" for i, s in enumerate(self.states) if str(s) in used]
        if "_rows" in used or "_data" in used:
            front.append(f"_rows = _data.size // {len(self.data)}")
        if used & {"_n", "_nodes", "_weights"}:
            scalars = len(self.definitions)
            front.append(f"_n = (_table.size - {scalars}) // 2")
            front.append(f"_nodes = _table[{scalars} : {scalars} + _n]")
            front.append(f"_weights = _table[{scalars} + _n : {scalars} + 2 * _n]")
        if not w.lines:
            w.write("pass")
        return w.text(front)


def _target(symbol: Any) -> Any:
    return sp.Symbol(f"_new_{symbol}", real=True)


def _given(values: Mapping[Any, Any], symbol: Any, model: DynamicModel) -> Any:
    if symbol not in values:
        raise ModelError(f"{model.name}: no expression is given for {symbol}")
    return values[symbol]


def _independent(definitions: Iterable[tuple[Any, Any]]) -> list[list[tuple[Any, Any]]]:
    """Consecutive definitions grouped such that none needs another of its group."""
    groups: list[list[tuple[Any, Any]]] = []
    for symbol, e in definitions:
        if not groups or e.free_symbols & {s for s, _ in groups[-1]}:
            groups.append([])
        groups[-1].append((symbol, e))
    return groups
