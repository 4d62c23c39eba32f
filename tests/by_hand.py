"""The compiled entry points of a problem, called one at a time: for tests that look inside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from replica.lowering import entries
from replica.model import Model
from solvers import Newton, solve
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


def check_gradient(problem: FixedPointProblem, point, s) -> None:
    """The gradient of the free entropy in order parameters and conjugates vanishes at a solution."""
    hand = ByHand.at(problem, s.nodes, **point)
    quantities = [*problem.unknowns.quantities, *(q for q in problem.outputs.quantities if q.name.endswith("_hat"))]
    x = np.array([np.asarray(s[q.name])[i] for q in quantities for i in q.components])
    assert hand.entropy(x) == pytest.approx(s["free_entropy"], rel=1e-12)
    for k in range(x.size):
        h = 1e-3 * max(abs(x[k]), 1e-3)
        slope = fourth_order([hand.entropy(x + j * h * np.eye(x.size)[k]) for j in (-2, -1, 1, 2)], h)
        assert abs(slope) * max(abs(x[k]), 1e-3) < 3e-9 * (1 + abs(s["free_entropy"])), k


def check_minimum(problem: FixedPointProblem, point, s, h: float) -> None:
    """The free entropy of spiked random features is minus the minimum of the training objective, its slope in reg the cost."""
    delta, cost = point["alpha"] / point["beta"], np.sum(s["q2"]) / 2
    assert -s["free_entropy"] == pytest.approx(delta * s["train_loss"] + point["reg"] * cost, rel=1e-8)
    f = [-solve(problem, method=Newton(rtol=1e-12), **{**point, "reg": point["reg"] + k * h})["free_entropy"]
         for k in (-2, -1, 1, 2)]  # fmt: skip
    assert fourth_order(f, h) == pytest.approx(cost, rel=1e-8)


def fourth_order(f, h):
    """Slope from values at -2h, -h, h and 2h."""
    return (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * h)


def difference_jacobian(f, x, h=1e-5):
    """Jacobian of a vector function by central differences, relative step h."""
    columns = []
    for i in range(x.size):
        e = np.zeros(x.size)
        e[i] = h * max(abs(x[i]), 1e-2)
        columns.append((f(x + e) - f(x - e)) / (2 * e[i]))
    return np.array(columns).T
