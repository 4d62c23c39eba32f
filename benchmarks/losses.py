"""Logistic regression: the package against a straightforward compiled iteration with fixed Gauss-Hermite nodes.

Part f of ``python benchmarks/run.py``.
"""

from __future__ import annotations

import math
import time

import numpy as np
from numba import njit

from replica.models import GeneralisedLinear, SpikedRandomFeatures
from solvers import Newton
from solvers.quadrature import gauss_hermite
from solvers.solve import solve_points

#: Tolerance both sides solve to.
RTOL = 1e-8
EASY, HARD = {"alpha": 1.5, "reg": 0.1}, {"alpha": 20.0, "reg": 1e-3}


@njit(error_model="numpy")
def picard(alpha, reg, nodes, weights, rtol, max_steps):
    """Damped iteration in (V, q, m) for noiseless signs, as one writes it in an afternoon; returns V, q, m, steps."""
    V, q, m = 1.0, 0.1, 0.1
    for step in range(max_steps):
        s = math.sqrt(q)
        tilt = m / math.sqrt(max(q - m * m, 1e-300))
        V_hat = q_hat = m_hat = 0.0
        for i in range(nodes.size):
            w = s * nodes[i]
            z = w
            for _ in range(50):
                p = 1.0 / (1.0 + math.exp(z))
                move = (z - w - V * p) / (1.0 + V * p * (1.0 - p))
                z -= min(max(move, -2.0), 2.0)
                if abs(move) < 1e-12:
                    break
            p = 1.0 / (1.0 + math.exp(z))
            label = math.erfc(-tilt * nodes[i] / math.sqrt(2.0))
            V_hat += weights[i] * label * p * (1.0 - p) / (1.0 + V * p * (1.0 - p))
            q_hat += weights[i] * label * p * p
            density = 2.0 * math.exp(-0.5 * (tilt * nodes[i]) ** 2) / math.sqrt(2.0 * math.pi)
            m_hat += weights[i] * density * p * math.sqrt(q / max(q - m * m, 1e-300))
        new_V = 1.0 / (reg + alpha * V_hat)
        new_m = alpha * m_hat * new_V
        new_q = new_m * new_m + alpha * q_hat * new_V * new_V
        moved = max(abs(new_V / V - 1.0), abs(new_q / q - 1.0), abs(new_m / m - 1.0))
        V, q, m = 0.5 * (V + new_V), 0.5 * (q + new_q), 0.5 * (m + new_m)
        if moved < rtol:
            return V, q, m, step
    return V, q, m, max_steps


def logistic(repeats: int) -> dict[str, float]:
    """Milliseconds per point on easy, hard and random points, by us and by the baseline, and the baseline's error in q."""
    problem, method = GeneralisedLinear(loss="logistic", labels="sign").compile(), Newton(rtol=RTOL, quadrature_rtol=RTOL)
    nodes, weights = gauss_hermite(96)
    rng = np.random.default_rng(0)
    anywhere = [{"alpha": 10 ** rng.uniform(-1, 1), "reg": 10 ** rng.uniform(-2, 1)} for _ in range(100)]
    found: dict[str, float] = {}
    for name, points in (("easy", [EASY] * 50), ("hard", [HARD] * 50), ("random", anywhere)):
        rows = np.array([problem.point(p) for p in points])
        batch = solve_points(problem, rows, method)
        theirs = [picard(p["alpha"], p["reg"], nodes, weights, RTOL, 100_000) for p in points]
        ours_best = theirs_best = math.inf
        for _ in range(repeats):
            start = time.perf_counter()
            solve_points(problem, rows, method)
            ours_best = min(ours_best, time.perf_counter() - start)
            start = time.perf_counter()
            for p in points:
                picard(p["alpha"], p["reg"], nodes, weights, RTOL, 100_000)
            theirs_best = min(theirs_best, time.perf_counter() - start)
        found[f"{name} ours"] = 1e3 * ours_best / len(points)
        found[f"{name} theirs"] = 1e3 * theirs_best / len(points)
        q = problem.values.component_names.index("q")
        found[f"{name} error"] = max(abs(t[1] / v[q] - 1) for t, v in zip(theirs, batch.values, strict=True))
        found[f"{name} failed"] = float((batch.result != 0).sum())
    return found


#: Spiked random features with any loss: a point of moderate noise, and one whose label is sharp given the spike.
SPIKED = {"alpha": 1.5, "beta": 1.2, "alpha0": 4.0, "eta": 1.0, "reg": 0.2, "noise": 0.2}
SHARP = {**SPIKED, "alpha0": 20.0, "eta": 2.0, "noise": 0.0}


def spiked(repeats: int) -> dict[str, float]:
    """Milliseconds per point of spiked random features at the default accuracy, tables shared; nan if it does not converge."""
    found: dict[str, float] = {}
    for loss, labels, point in (("logistic", "sign", SPIKED), ("logistic", "sign", SHARP), ("hinge", "sign", SPIKED),
                                ("huber", "real", SPIKED)):  # fmt: skip
        problem = SpikedRandomFeatures(loss=loss, labels=labels, target="identity").compile()
        rows, best = np.array([problem.point(point)] * 3), math.inf
        for _ in range(repeats):
            start = time.perf_counter()
            batch = solve_points(problem, rows, Newton())
            best = min(best, time.perf_counter() - start)
        name = f"{loss}, alpha0 = {point['alpha0']:g}, noise = {point['noise']:g}"
        found[name] = 1e3 * best / len(rows) if not batch.result.any() else math.nan
    return found
