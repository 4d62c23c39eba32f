"""What the benchmarks time: the same points through the package, its kernels alone, and the hand-written kernel.

Loops over points are compiled, so that no call from Python is part of a number.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit, types

ROOT = Path(__file__).resolve().parents[1]
for folder in (str(ROOT), str(ROOT / "benchmarks")):
    if folder not in sys.path:  # so that a clone runs without being installed
        sys.path.insert(0, folder)

import hand_written  # noqa: E402

from replica.models import SpikedRandomFeatures  # noqa: E402
from solvers import Newton  # noqa: E402
from solvers.kernels import SIGNATURES, entry_points  # noqa: E402
from solvers.newton import WORK_ROWS, newton  # noqa: E402
from solvers.quadrature import rule, trapezoidal  # noqa: E402
from solvers.solve import Batch, solve_points  # noqa: E402

FIXED = {"alpha0": 20.0, "eta": 3.0, "beta": 1.0}
METHOD = Newton(rtol=1e-10)

_f, _row = types.float64, types.float64[::1]
_rows, _ints = types.float64[:, ::1], types.int64[::1]
_update, _block = types.FunctionType(SIGNATURES["update"]), types.FunctionType(SIGNATURES["block"])


@njit(types.void(_update, _rows, _row, _rows, _rows), nogil=True)
def _update_many(update, points, table, states, out):
    for i in range(points.shape[0]):
        update(states[i], points[i], table, out[i])


@njit(
    types.int64(_update, _block, _rows, _row, _row, _ints, _ints, types.boolean[::1], _row, _row, _row, _f, _rows),
    nogil=True,
    error_model="numpy",
)
def _newton_many(update, block, points, table, start, offsets, members, linear, lower, upper, floor, rtol, out):
    """`solvers.newton.newton` from `start` at every point; returns how many did not converge."""
    n = start.size
    r, j = np.empty(n), np.empty(n * n)
    work = (np.empty((n, n)), np.empty((WORK_ROWS, n)), np.empty(n, dtype=np.int64))
    failed = 0
    below, is_free = np.full(2 * n, -1, dtype=np.int64), np.zeros(n, dtype=np.bool_)
    for i in range(points.shape[0]):
        out[i, :] = start
        outcome = newton(
            update, block, offsets, members, linear, is_free, out[i], points[i], table, lower, upper, floor, below, rtol, 200,
            r, j, work,
        )  # fmt: skip
        failed += outcome[0] != 0
    return failed


@dataclass
class Cases:
    """A learning-curve scan, 15 alpha in [0.2, 3] by `regs` reg in [1e-4, 10], tanh student and sin teacher.

    Attributes
    ----------
    problem : FixedPointProblem
    points : ndarray, shape (points, parameters)
        The table depends on none of the two axes.
    alpha, beta, reg : ndarray, shape (points,)
    table : ndarray
        The package's table, at the nodes `METHOD` starts with.
    own_table : hand_written.Table
        Made by hand at the same nodes and weights.
    states : ndarray, shape (points, unknowns)
        Solutions at those nodes, for evaluations of the map.
    """

    problem: Any
    points: np.ndarray
    alpha: np.ndarray
    beta: np.ndarray
    reg: np.ndarray
    table: np.ndarray
    own_table: hand_written.Table
    states: np.ndarray

    @classmethod
    def make(cls, regs: int = 100) -> Cases:
        problem = SpikedRandomFeatures(activation="tanh", target="sin").compile()
        grid = [{"alpha": a, "reg": r} for a in np.linspace(0.2, 3, 15) for r in np.logspace(-4, 1, regs)]
        points = np.array([problem.point(FIXED | p) for p in grid])
        if tuple(problem.unknowns.component_names) != hand_written.STATE:
            raise RuntimeError(f"hand_written has the unknowns {hand_written.STATE}, the model another order")
        table = _table(problem, points[0], METHOD.nodes)
        own_table = hand_written.tabulate(
            np.tanh, lambda x: 1 - np.tanh(x) ** 2, np.sin, FIXED["alpha0"], FIXED["eta"], noise=0,
            grid=trapezoidal(METHOD.nodes),
        )  # fmt: skip
        names = [q.name for q in problem.parameters]
        alpha, beta, reg = (np.ascontiguousarray(points[:, names.index(n)]) for n in ("alpha", "beta", "reg"))
        states = np.empty((len(points), len(hand_written.STATE)))
        cases = cls(problem, points, alpha, beta, reg, table, own_table, states)
        cases.newton(cases.states)
        return cases

    # ------------------------------------------------ generated

    def update(self, out: np.ndarray) -> None:
        """One evaluation of the undamped map per point, by the generated kernel."""
        _update_many(entry_points(self.problem)["update"], self.points, self.table, self.states, out)

    def newton(self, out: np.ndarray) -> None:
        """Newton on the generated blocks from the model's start: no certificate, no observables."""
        entries, unknowns = entry_points(self.problem), self.problem.unknowns
        blocks = self.problem.blocks
        failed = _newton_many(
            entries["update"],
            entries["block"],
            self.points,
            self.table,
            unknowns.broadcast("start"),
            np.cumsum([0, *[len(b.indices) for b in blocks]]),
            np.array([i for b in blocks for i in b.indices]),
            np.array([b.linear for b in blocks]),
            unknowns.broadcast("lower"),
            unknowns.broadcast("upper"),
            unknowns.broadcast("floor"),
            METHOD.rtol,
            out,
        )
        _demand_none(failed, len(self.points), "Newton on the generated blocks")

    def tables(self) -> None:
        """The two tables that every certified point needs, or shares: n nodes and twice as many."""
        for nodes in (METHOD.nodes, 2 * METHOD.nodes):
            _table(self.problem, self.points[0], nodes)

    def certified(self) -> Batch:
        """What a scan does per point: solution, observables, residual, error, contraction, doubled nodes."""
        return self._solved(self.points)

    def certified_fresh(self, count: int) -> Batch:
        """The same for `count` points that share no table: each has its own alpha0."""
        points = self.points[np.linspace(0, len(self.points) - 1, count).astype(int)].copy()
        column = [q.name for q in self.problem.parameters].index("alpha0")
        points[:, column] += np.arange(count)
        return self._solved(points)

    def _solved(self, points: np.ndarray) -> Batch:
        batch = solve_points(self.problem, points, METHOD)
        _demand_none(int(np.count_nonzero(batch.result)), len(points), "solve_points")
        return batch

    # ------------------------------------------------ by hand

    def own_update(self, out: np.ndarray) -> None:
        hand_written.update_many(
            self.alpha, self.beta, self.reg, self.own_table.c, self.own_table.rows, self.states, out
        )

    def own_solve(self, out: np.ndarray) -> None:
        failed = hand_written.solve_many(self.alpha, self.beta, self.reg, self.own_table.c, self.own_table.rows, out)
        _demand_none(failed, len(self.points), "hand_written.solve")

    def outputs(self) -> Mapping[str, np.ndarray]:
        """Arrays for `own_solve` and for the rest."""
        n = len(self.points)
        return {"own": np.empty((n, len(hand_written.NAMES))), "state": np.empty((n, len(hand_written.STATE)))}

    def disagreement(self) -> tuple[float, float]:
        """Largest relative difference, generated against hand-written: of the map, and of the solution."""
        ours, theirs, solved = self.outputs()["state"], self.outputs()["state"], self.outputs()["own"]
        self.update(ours)
        self.own_update(theirs)
        self.own_solve(solved)
        order = [hand_written.NAMES.index(n) for n in hand_written.STATE]
        return float(np.abs(ours / theirs - 1).max()), float(np.abs(self.states / solved[:, order] - 1).max())


def _table(problem: Any, point: np.ndarray, nodes: int) -> np.ndarray:
    packed = rule(nodes)
    table = np.zeros(1 + problem.table.scalars + (2 + problem.table.columns) * int(packed[0]))
    entry_points(problem)["tabulate"](point, packed, table)
    return table


def _demand_none(failed: int, points: int, what: str) -> None:
    if failed:
        raise RuntimeError(f"{what}: {failed} of {points} points did not converge; their time means nothing")


Job = Callable[[], object]
