"""Model -> FixedPointProblem: derive, analyse, lower, print.

Two texts come out.  `tabulate` depends on the chosen activation and target; the rest (update, block, observe, entropy)
does not, so it is compiled once for all choices.
"""

from __future__ import annotations

import json
import keyword
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sympy as sp

from solvers.channels import COUNT, MOMENTS, OBSERVED
from solvers.layout import DIAGNOSTICS, OF_SCANS
from solvers.problem import Block, FixedPointProblem, KernelSource, Layout, Quantity, TableShape
from solvers.quadrature import panel_capacity

from .abbreviate import abbreviate
from .averages import averages_in, marginalise, outermost
from .calculus import derivative
from .channel_kernel import channel_call, channel_text, places_call, places_count
from .free_entropy import FreeEntropy, ModelError
from .free_unknowns import solve_free
from .half_lines import without_moving_kinks
from .lowering import Table, entries, features, standardise, substitute_formulas, table_parameters
from .model import Conjugate, Declaration, Model, Observable, OrderParameter, Parameter
from .output import ARGUMENTS, ChannelNode, channel_nodes
from .printing import FunctionWriter, Rule, definition_symbol, place_columns, variable
from .structure import SymbolicBlock, analyse, slope_symbol
from .walk import pieces, replaced, symbols_in

GRID = Rule("_z", "_w", "_n")
#: What files say of every point beside its quantities: `solvers.layout`.
ALONGSIDE = {*DIAGNOSTICS, *OF_SCANS}


def compile_model(model: Model) -> FixedPointProblem:
    """Everything numeric about a model, as plain data.

    Raises
    ------
    ModelError, LoweringError
        If the free entropy cannot be differentiated or has no numerical form; the message names the piece.
    """
    return Compiler(model).problem()


class Compiler:
    """One compilation; its attributes are the stages."""

    def __init__(self, model: Model) -> None:
        check_names(model)
        self.model = model
        self.channel = model.output_channel()
        self.free_entropy = self._free_entropy()
        self.saddle = self.free_entropy.saddle_point
        self.unknowns = [s for x in model.active(OrderParameter).values() for s in model.components(x)]
        self.hats = [h for c in model.active(Conjugate).values() for h in model.components(c)]
        self.observables = {s: marginalise(e) for s, e in model.observables().items()}
        for symbol, e in self.observables.items():
            self._refuse_strangers(f"observable {symbol}", e)
        self.table = Table(model)
        self._lowered: dict[Any, Any] = {}
        self._moving = frozenset([*self.unknowns, *self.hats])
        self.blocks = analyse(self.saddle, self.unknowns)

    def _free_entropy(self) -> FreeEntropy:
        """The model's, checked."""
        found = self.model.free_entropy()
        if not isinstance(found, FreeEntropy):
            raise ModelError(
                f"{self.model.name}: free_entropy() returned a {type(found).__name__}; return "
                "FreeEntropy(self.couplings, potential_hat=..., potential=...)"
            )
        self._refuse_strangers("free_entropy()", found.expression)
        return found

    def _refuse_strangers(self, where: str, expression: Any) -> None:
        model = self.model
        kinds = (Parameter, OrderParameter, Conjugate)
        known = {s for kind in kinds for d in model.active(kind).values() for s in model.components(d)}
        known |= {s for s, _ in entries(model.definitions())}
        if strangers := sorted(str(s) for s in symbols_in(expression) - known):
            raise ModelError(
                f"{model.name}: {where} contains {', '.join(strangers)}: no parameter, order parameter, conjugate or definition "
                "of the model, nor averaged over"
            )

    # ---------------------------------------------------------------- the numerical problem

    def problem(self) -> FixedPointProblem:
        model = self.model
        solve_text = "\n\n".join(write() for write in (self._update, self._block, self._observe, self._entropy))
        solve_text = self.channel_source() + solve_text
        needs_grid = bool(self.table.columns) or "_z[" in solve_text
        tabulate_text, n_features = self._tabulate(needs_grid)
        observables = [quantity(model, o) for o in model.active(Observable).values()]
        entropy = Quantity("free_entropy", "free entropy density", latex=r"\Phi")
        hats = [quantity(model, c) for c in model.active(Conjugate).values()]
        return FixedPointProblem(
            name=model.name,
            title=model.title,
            parameters=tuple(quantity(model, p) for p in model.active(Parameter).values()),
            unknowns=Layout(tuple(quantity(model, x) for x in model.active(OrderParameter).values())),
            outputs=Layout((*hats, *observables, entropy)),
            squares=tuple(self._squares()),
            constraints=tuple(self._constraints()),
            blocks=tuple(Block(tuple(self.unknowns.index(x) for x in b.unknowns), b.linear) for b in self.blocks),
            free=tuple(self.unknowns.index(m) for m in self.saddle.stationarity),
            table=TableShape(len(self.table.scalars), len(self.table.columns), n_features, needs_grid, self.channel is not None),
            tabulated=tuple(table_parameters(model, self.table)),
            tabulate_source=KernelSource(tabulate_text, ("tabulate",)),
            kernel_source=KernelSource(solve_text, ("update", "block", "observe", "entropy")),
            method=model.method,
            options=model.options,
            provenance=self._provenance(),
        )

    def channel_source(self) -> str:
        """Helpers that a kernel with channel nodes begins with."""
        return channel_text(self.channel) + "\n\n" if self.channel is not None else ""

    def _provenance(self) -> dict[str, str]:
        names = self.model.latex_names()
        derived = [*self.saddle.hats.items(), *self.saddle.overlaps.items()]
        derived += [(sp.S.Zero, e) for e in self.saddle.stationarity.values()]
        shared, (phi, *rights) = abbreviate([self.free_entropy.expression, *(e for _, e in derived)])
        written = [*shared, *zip([left for left, _ in derived], rights, strict=True)]
        lines = [f"{sp.latex(left, symbol_names=names)} = {sp.latex(e, symbol_names=names)}" for left, e in written]
        return {
            "references": self.model.references,
            **self.model.statement(),
            "equations": json.dumps(lines),
            "free_entropy": sp.latex(phi, symbol_names=names),
            "sympy": sp.__version__,
        }

    def _squares(self) -> Iterable[tuple[int, int, int]]:
        parameters = list(self.model.active(Parameter))
        for x in self.model.active(OrderParameter).values():
            if x.exceeds is not None:
                root, divisor = x.exceeds
                above, below = self.model.symbol(x), getattr(self.model, root)
                pairs = [(above, below)] if not self.model.shape(x) else [(above[i, i], b) for i, b in enumerate(below)]
                for a, b in pairs:
                    yield self.unknowns.index(a), self.unknowns.index(b), -1 if divisor is None else parameters.index(divisor)

    def _constraints(self) -> dict[str, Any]:
        bounds = {
            f"{o.name} >= {o.lower:g}": self.model.symbol(o) - sp.Float(o.lower)
            for o in self.model.active(Observable).values()
            if o.lower > -sp.oo
        }
        return {**{label: marginalise(e) for label, e in self.model.constraints().items()}, **bounds}

    # ---------------------------------------------------------------- functions at solve time

    def _lower(self, expression: Any) -> Any:
        if expression not in self._lowered:  # conjugates are needed by several functions
            known = without_moving_kinks(expression, self._moving)
            self._lowered[expression] = self.table.tabulate(standardise(known))
        return self._lowered[expression]

    def _evaluate(self, writer: FunctionWriter, targets: Mapping[Any, Any]) -> None:
        """Assign lowered expressions to names, each after those it contains; averages that contain none in one loop nest."""
        left = dict(targets)
        while left:
            ready = [n for e in left.values() for n in outermost(e) if not symbols_in(n) & set(left)]
            self._resolve(writer, ready)
            held = writer.averages(ready, 0, GRID)
            done: dict[Any, Any] = {}
            left = {name: replaced(e, held, done) for name, e in left.items()}
            now = {name: e for name, e in left.items() if not symbols_in(e) & set(left)}
            if not now:
                raise ModelError(f"{self.model.name}: {', '.join(map(str, left))} depend on each other in a circle")
            writer.assign_all(list(now.items()))
            left = {name: e for name, e in left.items() if name not in now}

    def _resolve(self, w: FunctionWriter, nodes: Sequence[Any]) -> None:
        """Nodes for averages over channels, as the order parameters at hand need them, from the grid of the table."""
        calls = channel_nodes([n.f for n in nodes if pieces(n, ChannelNode)])
        if not calls or self.channel is None:
            return
        most, columns = places_count(self.channel), list(self.table.columns)
        w.write(f"_seen = np.zeros((_dense.shape[1], {most * len(calls)}))")
        w.write(f"_places = np.empty({2 * most})")
        w.write("for _i0 in range(int(_table[0])):")
        w.level += 1
        w.write("z0 = _dense[0, _i0]")
        placed, found = place_columns([a for arguments in calls for a in arguments], 0)
        for symbol, array in found.items():
            w.write(f"{symbol} = _dense[{2 + columns.index(array.removeprefix('_c_'))}, _i0]")
        for k, group in enumerate(calls.values()):
            names = [sp.Symbol(f"{w.new()}_{a}") for a in ARGUMENTS]
            arguments = placed[k * len(ARGUMENTS) : (k + 1) * len(ARGUMENTS)]
            w.assign_all([(name, sp.Float(a) if a.is_Number else a) for name, a in zip(names, arguments, strict=True)])
            w.write(places_call(self.channel, names, self._observed(group)).format(first=k * most))
        w.level -= 1
        w.write("_rows = _quadrature.outer_rule(_seen, _dense, int(_table[0]), _px, _pw)")
        w.write("_z, _w, _n = _rows[0], _rows[1], _rows.shape[1]")
        for k, name in enumerate(columns):
            w.write(f"_c_{name} = _rows[{k + 2}]")

    def _observed(self, nodes: Iterable[Any]) -> bool:
        """Whether some moments are for observables only."""
        return any(k == 0 or k >= OBSERVED for k in (MOMENTS.index(type(node).moment) for node in nodes))

    def _writer(self, name: str, arguments: Sequence[str]) -> FunctionWriter:
        return FunctionWriter(name, arguments, self._call_channel)

    def _call_channel(self, w: FunctionWriter, expressions: Sequence[Any]) -> list[Any]:
        """One call per channel in the expressions; its moments by name."""
        held: dict[Any, Any] = {}
        for arguments, nodes in channel_nodes(expressions).items():
            if self.channel is None:
                raise ModelError(f"{self.model.name}: channel nodes need an output_channel()")
            names = [sp.Symbol(f"{w.new()}_{a}") for a in ARGUMENTS]
            w.assign_all([(name, sp.Float(a) if a.is_Number else a) for name, a in zip(names, arguments, strict=True)])
            wanted = [MOMENTS.index(type(node).moment) for node in nodes]
            w.write(channel_call(self.channel, names, self._observed(nodes)))
            for node, index in zip(nodes, wanted, strict=True):
                held[node] = w.new()
                w.write(f"{held[node]} = _chan[{index}]")
        return [replaced(e, held) for e in expressions]

    def _finish(self, writer: FunctionWriter, loads: Iterable[tuple[str, Sequence[Any]]]) -> str:
        """Put the loads that the body uses in front of it."""
        used = writer.used
        front = [
            f"{name} = {array}[{i}]" for array, names in loads for i, name in enumerate(map(str, names)) if name in used
        ]
        front += [f"{name} = _table[{k + 1}]" for k, name in enumerate(self.table.scalars) if name in used]
        if "_n" in used:
            front.append("_n = int(_table[0])")
            front += self._views(used)
        if "_dense" in used:
            start, rows = 1 + len(self.table.scalars), 2 + len(self.table.columns)
            front.append(f"_dense = _table[{start} : {start} + {rows} * _capacity].reshape(({rows}, _capacity))")
        if "_chan" in used:
            front += [
                f"_chan = np.empty({COUNT})",
                "_order = int(_table[_table.size - 1])",
                "_px = _table[_table.size - 1 - 2 * _order : _table.size - 1 - _order]",
                "_pw = _table[_table.size - 1 - _order : _table.size - 1]",
            ]
        return writer.text(front)

    def _views(self, used: set[str]) -> list[str]:
        """Contiguous views of the grid and its columns in the flat table."""
        scalars, columns = len(self.table.scalars), list(self.table.columns)
        lines = [f"_capacity = ({self._room()} - {1 + scalars}) // {2 + len(columns)}"]
        for k, name in enumerate(["_z", "_w", *[f"_c_{c}" for c in columns]]):
            if name in used:
                lines.append(f"{name} = _table[{1 + scalars} + {k} * _capacity : {1 + scalars} + {k} * _capacity + _n]")
        return lines

    def _room(self) -> str:
        """Size of the table without the panel rule that channels find at its end."""
        return "_table.size" if self.channel is None else "(_table.size - 1 - 2 * int(_table[_table.size - 1]))"

    def _parameters(self) -> tuple[str, list[str]]:
        return "_p", list(self.model.active(Parameter))

    def _update(self) -> str:
        """The undamped map: free order parameters solved exactly, then conjugates, then overlaps."""
        w = self._writer("update", ["_x", "_p", "_table", "_out"])
        solve_free(w, self.saddle.stationarity, self._lower, self._evaluate)
        self._evaluate(w, {h: self._lower(self.saddle.hats[h]) for h in self.saddle.hats})
        overlaps = {sp.Symbol(f"_new_{x}"): self._lower(e) for x, e in self.saddle.overlaps.items()}
        self._evaluate(w, overlaps)
        for i, x in enumerate(self.unknowns):
            w.write(f"_out[{i}] = {x if x in self.saddle.stationarity else f'_new_{x}'}")
        return self._finish(w, [self._parameters(), ("_x", self.unknowns)])

    def _block(self) -> str:
        """Residual and Jacobian of one block in its own unknowns."""
        w = self._writer("block", ["_which", "_x", "_p", "_table", "_residual", "_jacobian"])
        for k, block in enumerate(self.blocks):
            w.write(f"{'if' if k == 0 else 'elif'} _which == {k}:")
            w.level += 1
            self._one_block(w, block)
            w.level -= 1
        return self._finish(w, [self._parameters(), ("_x", self.unknowns)])

    def _one_block(self, w: FunctionWriter, block: SymbolicBlock) -> None:
        n = len(block.unknowns)
        targets = {h: self._lower(self.saddle.hats[h]) for h in block.hats}
        targets |= {slope_symbol(h, x): self._lower(e) for (h, x), e in block.hat_slopes.items()}
        out = {}
        for i in range(n):
            out[sp.Symbol(f"_r{i}")] = self._lower(block.residual[i])
            for j in range(n):
                out[sp.Symbol(f"_j{i}_{j}")] = self._lower(block.jacobian(i, j))
        # Stationarity of free order parameters shares the loop of the conjugates; what contains those comes after.
        direct = {s: e for s, e in out.items() if averages_in(e) and not symbols_in(e) & set(self.hats)}
        self._evaluate(w, {**targets, **direct})
        self._evaluate(w, {s: e for s, e in out.items() if s not in direct})
        for i in range(n):
            w.write(f"_residual[{i}] = _r{i}")
            for j in range(n):
                w.write(f"_jacobian[{i * n + j}] = _j{i}_{j}")

    def _observe(self) -> str:
        """Conjugates, observables, free entropy and constraints at a state."""
        w = self._writer("observe", ["_x", "_p", "_table", "_out"])
        declared = [self.model.symbol(o) for o in self.model.active(Observable).values()]
        if set(declared) != set(self.observables):
            raise ModelError(f"{self.model.name}: observables() must give exactly {', '.join(map(str, declared))}")
        constraints = self._constraints()
        rest = self.free_entropy.expression - self.free_entropy.potential
        values = {o: self._lower(self.observables[o]) for o in declared}
        # What contains conjugates comes after them; the rest shares their loop.
        late = {o: e for o, e in values.items() if symbols_in(e) & set(self.hats)}
        early = {h: self._lower(self.saddle.hats[h]) for h in self.hats}
        early |= {o: e for o, e in values.items() if o not in late}
        self._evaluate(w, {**early, sp.Symbol("_potential"): self._lower(self.free_entropy.potential)})
        self._evaluate(w, late)
        self._evaluate(
            w,
            {sp.Symbol(f"_constraint{k}"): self._lower(e) for k, e in enumerate(constraints.values())}
            | {sp.Symbol("free_entropy"): self._lower(rest) + sp.Symbol("_potential")},
        )
        names = [*map(str, self.hats), *map(str, declared), "free_entropy"]
        names += [f"_constraint{k}" for k in range(len(constraints))]
        for i, name in enumerate(names):
            w.write(f"_out[{i}] = {name}")
        return self._finish(w, [self._parameters(), ("_x", self.unknowns)])

    def _entropy(self) -> str:
        """The free entropy of independent order parameters and conjugates, for the gradient test."""
        w = self._writer("entropy", ["_x", "_p", "_table", "_out"])
        self._evaluate(w, {sp.Symbol("_phi"): self._lower(self.free_entropy.expression)})
        w.write("_out[0] = _phi")
        return self._finish(w, [self._parameters(), ("_x", [*self.unknowns, *self.hats])])

    # ---------------------------------------------------------------- the table

    def _tabulate(self, needs_grid: bool) -> tuple[str, int]:
        """Parameter-only averages: scalars, then the grid, then columns over it."""
        w = FunctionWriter("tabulate", ["_p", "_rule", "_table"])
        self._write_rules(w)
        if self.channel is not None:
            w.write("_table[_table.size - 1] = _n2")
            w.write("for _i in range(_n2):")  # an assignment of arrays takes seconds to compile
            w.write("    _table[_table.size - 1 - 2 * _n2 + _i] = _x[_i]")
            w.write("    _table[_table.size - 1 - _n2 + _i] = _wx[_i]")
        scalars = {k: substitute_formulas(self.model, e) for k, e in self.table.scalars.items()}
        batches = _batches(self.table.scalars)
        for batch in batches:
            self._table_batch(w, {name: self.table.scalars[name] for name in batch}, 0)
        for k, name in enumerate(scalars):
            w.write(f"_table[{k + 1}] = {name}")
        kinks = self._grid_features()
        if needs_grid:
            self._write_grid(w, kinks)
            w.lines += ["    " + line for line in self._views({"_z", "_w", *[f"_c_{c}" for c in self.table.columns]})]
        else:
            w.write("_table[0] = 0.0")
        if self.table.columns:
            w.write("for _i0 in range(_n):")
            w.level += 1
            w.write("z0 = _z[_i0]")
            at_node = {definition_symbol(name, 0): e for name, e in self.table.columns.items()}
            for batch in _batches({str(s): e for s, e in at_node.items()}, columns=True):
                self._table_batch(w, {s: at_node[sp.Symbol(s, real=True)] for s in batch}, 1)
            for name in self.table.columns:
                w.write(f"_c_{name}[_i0] = {definition_symbol(name, 0)}")
            w.level -= 1
        front = [
            f"{name} = _p[{i}]" for i, name in enumerate(self._parameters()[1]) if name in w.used
        ]
        return w.text(front), len(kinks)

    def _write_rules(self, w: FunctionWriter) -> None:
        """Views of the packed rule (`solvers.quadrature.rule`): grid, inner Gauss-Hermite, Legendre, dense panel."""
        offset = "4"
        for k, (nodes, weights) in enumerate([("_zg", "_wg"), ("_zh", "_wh"), ("_x", "_wx"), ("_xd", "_wd")]):
            w.write(f"_n{k} = int(_rule[{k}])")
            w.write(f"{nodes} = _rule[{offset} : {offset} + _n{k}]")
            w.write(f"{weights} = _rule[{offset} + _n{k} : {offset} + 2 * _n{k}]")
            offset += f" + 2 * _n{k}"

    def _table_batch(self, w: FunctionWriter, targets: Mapping[str, Any], depth: int) -> None:
        """Entries that do not need each other; averages with the same kinks share a loop."""
        place = {f: definition_symbol(type(f).__name__, 0) for e in targets.values() for f in _columns(e)}
        expressions = {k: e.xreplace(place) for k, e in targets.items()}
        held = self._table_averages(w, [n for e in expressions.values() for n in outermost(e)], depth)
        final = {k: substitute_formulas(self.model, e.xreplace(held)) for k, e in expressions.items()}
        w.assign_all(list(final.items()))

    def _table_averages(self, w: FunctionWriter, nodes: Iterable[Any], depth: int) -> dict[Any, Any]:
        groups: dict[tuple[Any, ...], list[Any]] = {}
        for node in sorted(set(nodes), key=sp.default_sort_key):
            kinks = features(self.model, node.f, variable(depth))
            groups.setdefault(tuple(sorted(kinks, key=str)), []).append(node)
        held: dict[Any, Any] = {}
        for shared, group in groups.items():
            rule = Rule("_zh", "_wh", "_zh.size")
            if shared:
                rule = Rule(f"_zi{depth}", f"_wi{depth}", f"_ni{depth}")
                self._write_panels(w, shared, rule)
            formulas = {n: substitute_formulas(self.model, n) for n in group}
            found = w.averages(
                [a for f in formulas.values() for a in outermost(f)], depth, rule, guard=True, prologue=self._table_averages
            )
            held |= {n: f.xreplace(found) for n, f in formulas.items()}
        return held

    def _write_panels(self, w: FunctionWriter, kinks: Sequence[tuple[Any, Any]], rule: Rule, panel: str = "_x, _wx") -> None:
        w.write(f"_features = np.empty({2 * len(kinks)})")
        for k, (centre, width) in enumerate(kinks):
            w.assign(f"_features[{2 * k}]", centre)
            w.assign(f"_features[{2 * k + 1}]", width)
        w.write(f"{rule.nodes} = np.empty({panel_capacity(len(kinks))} * {panel.split(',')[0]}.size)")
        w.write(f"{rule.weights} = np.empty({rule.nodes}.size)")
        w.write(f"{rule.count} = _quadrature.panels(_features, {panel}, {rule.nodes}, {rule.weights})")

    def _grid_features(self) -> list[tuple[Any, Any]]:
        found: dict[Any, None] = {}
        for e in self.table.columns.values():
            found |= dict.fromkeys(features(self.model, e, variable(0)))
        for arguments in channel_nodes([self._lower(self.free_entropy.potential)]):
            found |= dict.fromkeys(self._label_features(dict(zip(ARGUMENTS, arguments, strict=True))))
        return sorted(found, key=str)

    def _label_features(self, given: Mapping[str, Any]) -> list[tuple[Any, Any]]:
        """Where the label jumps as the outer field moves, if nothing is left of the teacher's field and noise to smear it."""
        slope = derivative(given["T"], variable(0))
        if self.channel is None or slope == 0:
            return []
        smear = given["rho"] ** 2 + (given["noise"] if self.channel.sign else 0)
        places = [sp.Piecewise((sp.Float(kink) / slope, sp.Eq(smear, 0)), (sp.oo, True)) for kink in self.channel.kinks]
        return [(place, sp.S.Zero) for place in places]

    def _write_grid(self, w: FunctionWriter, kinks: Sequence[tuple[Any, Any]]) -> None:
        if self.channel is not None:  # to interpolate in, see `_resolve`
            self._write_panels(w, kinks, Rule("_zg", "_wg", "_n"), "_xd, _wd")
        elif kinks:
            self._write_panels(w, kinks, Rule("_zg", "_wg", "_n"))
        else:
            w.write("_n = _zg.size")
        w.write("_table[0] = _n")
        w.write(f"_capacity = ({self._room()} - {1 + len(self.table.scalars)}) // {2 + len(self.table.columns)}")
        w.write("for _i in range(_n):")
        offset = 1 + len(self.table.scalars)
        w.write(f"    _table[{offset} + _i] = _zg[_i]")
        w.write(f"    _table[{offset} + _capacity + _i] = _wg[_i]")


def _columns(e: Any) -> list[Any]:
    return [f for f in e.atoms(sp.Function) if getattr(type(f), "is_definition", False)]


def _batches(entries: Mapping[str, Any], columns: bool = False) -> list[list[str]]:
    """Consecutive entries that do not use each other, so that their averages can share a loop."""
    batches: list[list[str]] = []
    for name, e in entries.items():
        used = {str(definition_symbol(type(f).__name__, 0)) for f in _columns(e)} if columns else set(map(str, e.free_symbols))
        if not batches or used & set(batches[-1]):
            batches.append([])
        batches[-1].append(name)
    return batches


def quantity(model: Model, d: Declaration) -> Quantity:
    return Quantity(
        name=d.name,
        long_name=d.long_name,
        latex=d.latex,
        lower=d.lower,
        upper=d.upper,
        lower_open=d.lower_open,
        upper_open=d.upper_open,
        infinite=getattr(d, "infinite", False),
        whole=getattr(d, "whole", False),
        dims=tuple(name for name, _ in model.index(d)),
        shape=model.shape(d),
        symmetric=bool(model.shape(d)) and getattr(d.of if isinstance(d, Conjugate) else d, "symmetric", False),
        default=getattr(d, "default", None),
        start=getattr(d, "start", 0.0),
        informed=getattr(d, "informed", None),
        floor=getattr(d, "floor", 1e-3),
    )


def check_names(model: Model) -> None:
    taken = {f"z{k}" for k in range(10)} | {"math", "np", "njit", "types", "int", "range", "abs", "free_entropy", "ROUNDING"}
    for name in model.active(Declaration):
        if name.startswith("_") or name in taken or keyword.iskeyword(name):
            raise ModelError(f"{model.name}: {name!r} cannot name a quantity (reserved for generated code)")
        if name in ALONGSIDE:
            raise ModelError(f"{model.name}: {name!r} cannot name a quantity: files have a variable of that name for every point")

