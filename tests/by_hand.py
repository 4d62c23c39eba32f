"""The compiled entry points of a problem, called one at a time: for tests that look inside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from replica.lowering import entries
from replica.model import Model
from solvers.kernels import entry_points
from solvers.problem import FixedPointProblem
from solvers.quadrature import grid_capacity, rule, table_size


@dataclass
class ByHand:
    """One problem at one parameter point and one number of nodes."""

    problem: FixedPointProblem
    p: np.ndarray
    table: np.ndarray
    nodes: int

    @classmethod
    def at(cls, problem: FixedPointProblem, nodes: int = 144, **parameters: float) -> ByHand:
        p = problem.point(parameters)
        table = np.full(table_size(problem.table, nodes), np.nan)
        entry_points(problem)["tabulate"](p, rule(nodes), table)
        return cls(problem, p, table, nodes)

    def _call(self, name: str, x: np.ndarray, size: int) -> np.ndarray:
        out = np.full(size, np.nan)
        entry_points(self.problem)[name](np.ascontiguousarray(x, dtype=float), self.p, self.table, out)
        return out

    def update(self, x):
        """The undamped map."""
        return self._call("update", x, self.problem.unknowns.size)

    def observe(self, x):
        """Conjugates, observables, free entropy, constraints."""
        return self._call("observe", x, self.problem.outputs.size + len(self.problem.constraints))

    def entropy(self, x):
        """The free entropy at order parameters and conjugates chosen independently."""
        return self._call("entropy", x, 1)[0]

    def block(self, which, x):
        """Residual and Jacobian of one block."""
        n = len(self.problem.blocks[which].indices)
        residual, jacobian = np.full(n, np.nan), np.full(n * n, np.nan)
        entry_points(self.problem)["block"](which, np.array(x, dtype=float), self.p, self.table, residual, jacobian)
        return residual, jacobian.reshape(n, n)

    def definitions(self, model: Model) -> dict[str, np.ndarray | float]:
        """What `tabulate` stored: scalars and, over the grid ``z`` with weights ``w``, columns."""
        shape = self.problem.table
        n = int(self.table[0])
        capacity = grid_capacity(self.nodes, shape.features)
        names = [name for name, _ in entries(model.definitions())]
        scalars = [s.name for s in names if s.is_Symbol]
        columns = ["z", "w", *[type(f).__name__ for f in names if not f.is_Symbol]]
        found: dict[str, np.ndarray | float] = {name: float(self.table[1 + k]) for k, name in enumerate(scalars)}
        for k, name in enumerate(columns):
            start = 1 + shape.scalars + k * capacity
            found[name] = self.table[start : start + n].copy()
        return found


def state(problem: FixedPointProblem, solution) -> np.ndarray:
    """The flat vector of order parameters of a solution."""
    parts = [np.asarray(solution[q.name])[index] for q in problem.unknowns.quantities for index in q.components]
    return np.array(parts, dtype=float)


def difference_jacobian(f, x, h=1e-5):
    """Jacobian of a vector function by central differences, relative step h."""
    columns = []
    for i in range(x.size):
        e = np.zeros(x.size)
        e[i] = h * max(abs(x[i]), 1e-2)
        columns.append((f(x + e) - f(x - e)) / (2 * e[i]))
    return np.array(columns).T
