"""Trajectories of line networks: compiled closed form against integrating the weights, and against NumPy by hand.

Part e of ``python benchmarks/run.py``.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from replica.models import LineNetwork, WeightedLineNetwork
from replica.models.linear_simulations import line_flow, square_slope
from solvers import Grid, Scan, solve_trajectory
from solvers.solve import default_method, solve_points

TIMES = np.linspace(0, 5, 50)


def by_hand(norm_u: np.ndarray, norm_w: np.ndarray, B: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Output of a network with orthogonal layers and unit rates, vectorised; the cancellation-free form too."""
    p = 0.5 * (norm_u**2 + norm_w**2) * 2 * 0.5
    drive = 2 * B
    rate = np.hypot(drive, 2 * p)
    small = 4 * p * p / (rate + np.abs(drive))
    above, below = np.where(drive > 0, rate + drive, small), np.where(drive > 0, small, rate - drive)
    n, m = above + 2 * p, below + 2 * p
    with np.errstate(divide="ignore", over="ignore"):
        rho = 2 * rate / np.expm1(rate * t)
    left = np.where(t > 0, rho / (np.minimum(n, m) + rho) * (rho + 2 * rate) / (np.maximum(n, m) + rho), 1.0)
    return B * (1 - left)


def weights_by_ode(times: np.ndarray, width: int = 100) -> tuple[float, float]:
    """Seconds per trajectory by scipy on the raw weights (rtol 1e-13), and the largest difference from the closed form."""
    u, w = np.random.default_rng(0).standard_normal((2, width)) / np.sqrt(width)
    start = time.perf_counter()
    raw = line_flow(u, w, times, square_slope(1.0, 1.0, 0.5), gamma=1.0, eta_u=1.0, eta_w=1.0)
    seconds = time.perf_counter() - start
    ours = solve_trajectory(WeightedLineNetwork(u, w), times, c_loss=0.5)
    return seconds, float(np.abs(raw["output"] - ours["output"]).max())


def grid_of_trajectories(side: int) -> tuple[float, float, float]:
    """Seconds per point of a grid of `side` x `side` starts and targets at one time, by us and by hand; the difference."""
    problem = LineNetwork().compile()
    norms, targets = np.linspace(0.1, 3, side), np.linspace(-2, 2, side)
    grid = Grid(norm_u0=norms, B=targets)
    points = grid.points(problem, {"time": 5.0, "c_loss": 0.5}).vectors((slice(None), slice(None)), (0, 1))
    solve_points(problem, points[:10], default_method(problem))
    start = time.perf_counter()
    # In blocks, as a scan does.
    parts = np.array_split(points, max(1, len(points) // 4096))
    blocks = [solve_points(problem, part, default_method(problem)) for part in parts]
    ours = (time.perf_counter() - start) / len(points)
    column = problem.values.component_names.index("output")
    found = np.concatenate([block.values[:, column] for block in blocks])
    start = time.perf_counter()
    output = by_hand(*np.meshgrid(norms, [1.0], targets, [5.0], indexing="ij")).ravel()
    hand = (time.perf_counter() - start) / len(points)
    return ours, hand, float(np.abs(found - output).max())


def scan(side: int) -> float:
    """Seconds of a whole scan into a file, two workers."""
    grid = Grid(norm_u0=np.linspace(0.1, 3, side), B=np.linspace(-2, 2, side))
    with tempfile.TemporaryDirectory() as folder:
        task = Scan(LineNetwork(), grid, fixed={"time": 5.0, "c_loss": 0.5})
        return task.run(Path(folder) / "scan.h5", workers=2).seconds


def trajectory(repeats: int = 200) -> float:
    """Seconds per trajectory of 50 times, many in one call."""
    problem = LineNetwork().compile()
    grid = Grid(norm_u0=np.linspace(0.1, 3, repeats), time=TIMES)
    points = grid.points(problem, {"c_loss": 0.5}).vectors((slice(None), slice(None)), (0, 1))
    solve_points(problem, points[:50], default_method(problem))
    start = time.perf_counter()
    solve_points(problem, points, default_method(problem))
    return (time.perf_counter() - start) / repeats
