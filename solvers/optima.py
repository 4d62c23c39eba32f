"""Files of optimal parameters: where an observable is least, at every setting on some axes.

The layout is that of a scan (`store`), over the axes: the optimised parameters are variables, as are all values of the solution
at the optimum and their diagnostics.  Beside them, for every optimised parameter, ``gradient_<name>`` and ``end_<name>``;
``status`` says what kind of optimum it is, ``skipped`` how many points of the coarse grid did not converge.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from .grid import Grid
from .layout import DIAGNOSTICS, add_axes, add_dimension, add_variable, described, flags
from .methods import Method
from .plan import Plan
from .problem import Problem
from .result import Result, Solution
from .store import index_dimensions, index_names, new_file

#: Codes of ``status`` by position.
STATUS = ("interior", "at_an_end", "not_stationary", "not_converged", "nothing_converged")


@dataclass(frozen=True)
class Optimum:
    """Where an observable is least.

    Attributes
    ----------
    parameters : dict
        Of the optimised parameters; nan if nothing converged.
    value : float
        The observable there.
    gradient : dict
        Its exact derivatives there (in the logarithm, for positive parameters).
    code : int
        Position in `STATUS`.
    ends : dict
        -1 where a parameter is at the lower end of its range, 1 at the upper, else 0.
    solution : Solution
    skipped : int
        Points of the coarse grid that did not converge and were left out.
    """

    parameters: Mapping[str, float]
    value: float
    gradient: Mapping[str, float]
    code: int
    ends: Mapping[str, int]
    solution: Solution
    skipped: int

    @property
    def status(self) -> str:
        """The code in words: "interior", or which end of which range the least value lies at, or what went wrong."""
        word = STATUS[self.code].replace("_", " ")
        if STATUS[self.code] == "at_an_end":
            places = [f"the {'lower' if end < 0 else 'upper'} end of {name}" for name, end in self.ends.items() if end]
            return f"at {' and '.join(places)}"
        if STATUS[self.code] == "not_stationary":
            return f"{word} (slope {max(abs(x) for x in self.gradient.values()):.1e})"
        return f"{word} ({self.solution.result.name})" if STATUS[self.code] == "not_converged" else word

    @property
    def good(self) -> bool:
        """Whether it is an optimum, inside or at an end of the range."""
        return self.code < STATUS.index("not_stationary")


@dataclass(frozen=True)
class Optima:
    """Optima at every combination of values on some axes.

    Attributes
    ----------
    problem : Problem
    axes : dict of str to ndarray
        Empty for a single optimum.
    fixed : dict of str to float
        Every parameter that is neither an axis nor optimised, defaults included.
    minimise : str
    ranges : dict of str to (float, float)
        Of the optimised parameters.
    method : Method
    found : sequence of Optimum
        In the order of the axes, the last varying fastest.
    """

    problem: Problem
    axes: Mapping[str, np.ndarray]
    fixed: Mapping[str, float]
    minimise: str
    ranges: Mapping[str, tuple[float, float]]
    method: Method
    found: Sequence[Optimum]

    def __str__(self) -> str:
        rows = self.rows
        lines = ["  ".join(f"{name:>14}" for name in rows[0])]
        lines += ["  ".join(f"{v:14.8g}" if isinstance(v, float) else f"{v:>14}" for v in row.values()) for row in rows]
        return "\n".join(lines)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A table: setting, optimum, value, largest slope left, status."""
        out = []
        for setting, best in zip(product(*self.axes.values()), self.found, strict=True):
            at = {name: float(v) for name, v in zip(self.axes, setting, strict=True)}
            slope = float(np.max(np.abs(list(best.gradient.values()))))
            out.append({**at, **best.parameters, self.minimise: best.value, "gradient": slope, "status": best.status})
        return out

    @property
    def plan(self) -> Plan:
        """What was computed, as a scan would describe it."""
        grid = Grid(**self.axes) if self.axes else Grid.without_axes()
        task = {"minimise": self.minimise, "ranges": {name: list(ends) for name, ends in self.ranges.items()}}
        return Plan(self.problem, grid, self.fixed, self.method, task)

    def write(self, path: str | Path, overwrite: bool = False) -> None:
        """Write the file; see the module.

        Raises
        ------
        StoreError
            If the file exists and may not be overwritten, is not a scan file, or cannot be written.
        """
        plan = self.plan
        with new_file(path, plan, overwrite) as file:
            add_axes(file, plan)
            for name, length in index_dimensions(self.problem.values.quantities).items():
                add_dimension(file, name, np.arange(length), described(f"index {name}"))
            for name, (values, attributes, dtype, dims) in self._variables().items():
                array = np.array(values, dtype=dtype)
                array = array.reshape((*plan.grid.shape, *array.shape[1:]))
                add_variable(file, name, array, [file[d] for d in (*self.axes, *dims)], attributes)
            file.attrs["optimise"] = json.dumps(plan.task)

    def _variables(self) -> dict[str, tuple[list[Any], dict[str, Any], str, tuple[str, ...]]]:
        """Values one per optimum, attributes, type, and index dimensions of every variable."""
        found = self.found
        out: dict[str, tuple[list[Any], dict[str, Any], str, tuple[str, ...]]] = {}
        for name in self.ranges:
            q = self.problem.parameter(name)
            optimal = described(f"optimal {q.long_name}", q.latex, q.units)
            out[name] = ([b.parameters[name] for b in found], optimal, "f8", ())
        for q in self.problem.values.quantities:
            values = [b.solution.values[q.name] for b in found]
            out[q.name] = (values, described(q.long_name, q.latex, q.units), "f8", index_names(q))
        for name, (dtype, _, long_name) in DIAGNOSTICS.items():
            codes = flags([c.name.lower() for c in Result], [c.value for c in Result]) if name == "result" else {}
            out[name] = ([getattr(b.solution, name) for b in found], described(long_name) | codes, dtype, ())
        for name in self.ranges:
            slope = described(f"derivative of {self.minimise} in {name}, or in its logarithm if it is positive")
            end = described(f"end of its range that {name} is at") | flags(["lower", "neither", "upper"], [-1, 0, 1])
            out[f"gradient_{name}"] = ([b.gradient[name] for b in found], slope, "f8", ())
            out[f"end_{name}"] = ([b.ends[name] for b in found], end, "i1", ())
        kinds = described("what kind of optimum it is") | flags(STATUS, range(len(STATUS)))
        out["status"] = ([b.code for b in found], kinds, "i1", ())
        out["skipped"] = ([b.skipped for b in found], described("points of the coarse grid that did not converge"), "i4", ())
        return out
