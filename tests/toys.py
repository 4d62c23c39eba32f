"""A hand-built problem and a solver for it in closed form, for tests of everything around the solver.

Run as a script, it scans slowly until it is killed: ``python toys.py PATH``.
"""

from __future__ import annotations

import math
import sys
import time
from types import SimpleNamespace

import numpy as np

from solvers import scan
from solvers.grid import Grid
from solvers.methods import Method
from solvers.problem import Block, FixedPointProblem, KernelSource, Layout, Quantity, TableShape
from solvers.result import Result

PROBLEM = FixedPointProblem(
    name="toy",
    title="A toy with a table",
    parameters=(
        Quantity("alpha", "samples per dimension", r"\alpha", lower=0, lower_open=True, infinite=True),
        Quantity("reg", "ridge penalty", r"\lambda", lower=0),
        Quantity("gain", "slope of the activation", "g", lower=0),
        Quantity("noise", "label noise variance", r"\Delta", lower=0, default=0.25),
    ),
    unknowns=Layout(
        (
            Quantity("m", "teacher-student overlap", "m"),
            Quantity("q", "student overlaps", "q", dims=("student", "student_other"), shape=(2, 2), symmetric=True),
        )
    ),
    outputs=Layout((Quantity("test_error", "generalisation error", r"\epsilon_g"),)),
    constraints=(),
    blocks=(Block((0, 1, 2, 3), False),),
    free=(),
    table=TableShape(1, 0, 0, True),
    tabulated=("gain",),
    tabulate_source=KernelSource("# toy table\n", ("tabulate",)),
    kernel_source=KernelSource("# toy kernel\n", ("update", "observe")),
    options={"teacher": "Identity()"},
    provenance={"equations": r"m = \alpha / (\alpha + \lambda)", "references": "none"},
)

GRID = Grid(alpha=np.linspace(0.5, 3.0, 6), reg=np.logspace(-3, 1, 5), gain=[1.0, 2.0, 3.0])


def solve_points(problem: FixedPointProblem, points: np.ndarray, method: Method) -> SimpleNamespace:
    """Values in closed form; alpha above 2.9 at the smallest reg leaves the domain."""
    alpha, reg, gain, noise = points.T
    m = np.tanh(alpha) / (1 + reg) * np.sqrt(gain)
    left = (alpha > 2.9) & (reg < 2e-3)
    values = np.stack([m, m + 1, m - 1, m + 2, 1 / (1 + alpha) + 0.1 * np.log10(reg + 0.1) ** 2 + noise / gain], axis=1)
    n = len(points)
    return SimpleNamespace(
        result=np.where(left, Result.LEFT_DOMAIN.value, Result.CONVERGED.value).astype("i1"),
        steps=np.full(n, 7, dtype="i4"),
        nodes=np.full(n, 32, dtype="i4"),
        residual=np.where(left, 1.0, 1e-13 * alpha),
        contraction=np.full(n, 0.5),
        error=np.full(n, 2e-13),
        quadrature_error=np.full(n, 1e-15),
        rung=np.zeros(n, dtype="i1"),
        violated=np.where(left, 0, -1).astype("i4"),
        values=values,
    )


class Recorder:
    """The toy solver, remembering the points it was given."""

    def __init__(self) -> None:
        self.batches: list[np.ndarray] = []

    @property
    def points(self) -> int:
        return sum(map(len, self.batches))

    def __call__(self, problem: FixedPointProblem, points: np.ndarray, method: Method) -> SimpleNamespace:
        self.batches.append(points.copy())
        return solve_points(problem, points, method)


def spread(shape: tuple[int, ...]) -> Grid:
    """A grid of toy parameters of the given shape."""
    names = ("alpha", "reg", "gain")
    return Grid(**{name: np.linspace(0.1, math.pi, n) for name, n in zip(names, shape, strict=True)})


if __name__ == "__main__":

    def slowly(problem: FixedPointProblem, points: np.ndarray, method: Method) -> SimpleNamespace:
        time.sleep(0.01)
        return solve_points(problem, points, method)

    scan.solve_points = slowly  # type: ignore[assignment]
    scan.Scan(PROBLEM, GRID).run(sys.argv[1], workers=2, progress=lambda done, total: print(done, flush=True))
