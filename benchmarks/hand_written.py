"""Ridge regression on spiked random features, written and optimised by hand.

The yardstick for generated kernels: one group of neurons, odd activation, every average a sum over the nodes of a
table, (V1, V2) by Newton with its analytic Jacobian, all else linear.  Equations: the closed Marchenko-Pastur traces
and the block structure that ridge regression has; nothing here uses the packages.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.polynomial.hermite_e import hermegauss
from numpy.typing import NDArray

Array = NDArray[np.float64]
Function = Callable[[Array], Array]

NAMES = ("test_error", "train_error", "V1", "V2", "q1", "q2", "m", "theta", "psi")
STATE = ("V1", "V2", "q1", "q2", "theta", "psi", "m")

# tanh student, sin teacher, alpha0 = 20, eta = 3, beta = 1, reg = 0.1, no noise, from an independent implementation.
# alpha, test_error, V1, V2, q1, q2, m, theta, psi
REFERENCE = (
    (0.2, 0.04848290192, 7.95047854566, 8.72375079585, 0.02404186581, 0.01479382752, 1.09521027830, 0.01276128619,
     0.03444033218),
    (0.9, 0.04250392872, 3.74517721959, 5.61817938305, 0.05680546478, 0.05068356519, 1.11182480304, 0.04268608713,
     0.11570926894),
    (1.6, 0.03731132808, 2.19819802740, 3.98506333857, 0.06196251701, 0.06842958525, 1.11967661978, 0.05798582750,
     0.15541895768),
    (2.3, 0.03430466475, 1.50481292794, 3.05872153953, 0.06321299220, 0.07860407648, 1.12358599366, 0.06663387140,
     0.17640850499),
    (3.0, 0.03251820801, 1.13060935999, 2.47513640597, 0.06383303640, 0.08526352473, 1.12578861101, 0.07209424329,
     0.18892175265),
)  # fmt: skip


class Table(NamedTuple):
    """Averages at fixed spike field kappa; each row of `rows` lies contiguous in memory."""

    c: float
    rows: Array  # weight, mu1^2, mu2^2, mu0, kappa mu1, mu1, h, h1, hh: shape (9, nodes)


def tabulate(
    sigma: Function,
    dsigma: Function,
    target: Function,
    alpha0: float,
    eta: float,
    noise: float,
    nodes: int = 96,
    inner: int = 200,
    grid: tuple[Array, Array] | None = None,
) -> Table:
    """Spike parameters and channel averages of an odd activation after one gradient step.

    Parameters
    ----------
    sigma, dsigma, target : callable
        Activation (odd), its derivative and the teacher's function, elementwise.
    alpha0, eta, noise : float
        Samples per dimension of the step (> 0), learning rate over width, label noise variance.
    nodes, inner : int
        Gauss-Hermite nodes over kappa, and over the Gaussian inside.  The poles of tanh slow convergence: with 32, 64,
        96 nodes the order parameters of `REFERENCE` are within 8e-7, 2e-9, 5e-12 (half a last digit).
    grid : pair of ndarray, optional
        Nodes and weights over kappa, instead of Gauss-Hermite: those of the kernel to be compared with.
    """
    kappa, weights = grid if grid is not None else _gauss_hermite(nodes)
    z, p = _gauss_hermite(inner)
    slope = p @ dsigma(z)
    variance = p @ (dsigma(z) - slope) ** 2
    teacher_slope = p @ (z * target(z))
    power = p @ target(z) ** 2 + noise
    spike = math.sqrt(teacher_slope**2 + power / alpha0)
    r, gamma = eta * slope * spike, teacher_slope / spike
    c = 1 + eta**2 * variance * power / alpha0

    s = sigma(r * kappa[:, None] + math.sqrt(c) * z)
    mu0 = s @ p
    mu1 = (s @ (p * z)) / math.sqrt(c)
    # Residual form: as a difference of second moments mu2^2 loses its digits when sigma is nearly linear.
    mu2_squared = (s - mu0[:, None] - math.sqrt(c) * np.outer(mu1, z)) ** 2 @ p
    t = target(gamma * kappa[:, None] + math.sqrt(1 - gamma**2) * z)
    rows = np.array(
        [weights, mu1**2, mu2_squared, mu0, kappa * mu1, mu1, t @ p, t @ (p * z), t**2 @ p + noise], dtype=np.float64
    )
    return Table(float(c), rows)


def _gauss_hermite(n: int) -> tuple[Array, Array]:
    nodes, weights = hermegauss(n)
    return nodes, weights / weights.sum()


@njit(inline="always")
def _bulk(beta, c, ell, V1h):
    """Traces T, X1 and Y0, Y1, Y2 of the Marchenko-Pastur law at t = c V1h/ell."""
    t = c * V1h / ell
    b = 1.0 + (1.0 - beta) * t
    N = math.sqrt(b * b + 4.0 * beta * t)
    if b >= 0.0:
        T = 2.0 / (b + N)
        X1 = T * (1.0 - beta + beta * T)
    else:
        T = (N - b) / (2.0 * beta * t)
        X1 = (1.0 - T) / t
    Y1 = X1 / N
    return T, X1, T - t * Y1, Y1, X1 * (1.0 - beta + 2.0 * beta * T) / N


@njit("int64(float64, float64, float64, float64, float64[:, ::1], float64[::1])",
      nogil=True, cache=True, error_model="numpy")  # fmt: skip
def solve(alpha, beta, reg, c, rows, out):
    """Fixed point at one point; writes `NAMES` to `out`, returns the Newton steps taken (-1: not converged)."""
    weight, a, b = rows[0], rows[1], rows[2]
    mu0, kmu1, mu1 = rows[3], rows[4], rows[5]
    h, h1, hh = rows[6], rows[7], rows[8]
    n = weight.size
    delta = alpha / beta

    # No response exceeds this one, and V - F(V) is convex along the way: Newton from here descends to the solution.
    V1, V2 = c / reg, 1.0 / reg
    steps = 0
    while True:
        V1h = V2h = Saa = Sab = Sbb = 0.0
        for i in range(n):
            w = 1.0 / (1.0 + a[i] * V1 + b[i] * V2)
            aw, bw, g = a[i] * w, b[i] * w, weight[i]
            V1h += g * aw
            V2h += g * bw
            Saa += g * aw * aw
            Sab += g * aw * bw
            Sbb += g * bw * bw
        V1h, V2h, Saa, Sab, Sbb = delta * V1h, delta * V2h, delta * Saa, delta * Sab, delta * Sbb
        ell = reg + V2h
        T, X1, Y0, Y1, Y2 = _bulk(beta, c, ell, V1h)
        F1, F2 = c * X1 / ell, T / ell
        # P = -dF/d(V1h, V2h); J = 1 - P S is both Newton's matrix and that of the equations for q.
        P11, P12, P22 = c * c * Y2 / ell**2, c * Y1 / ell**2, Y0 / ell**2
        J11, J12 = 1.0 - P11 * Saa - P12 * Sab, -P11 * Sab - P12 * Sbb
        J21, J22 = -P12 * Saa - P22 * Sab, 1.0 - P12 * Sab - P22 * Sbb
        D = 1.0 / (J11 * J22 - J12 * J21)
        d1 = D * (J22 * (F1 - V1) - J12 * (F2 - V2))
        d2 = D * (J11 * (F2 - V2) - J21 * (F1 - V1))
        steps += 1
        # The traces of this step serve the linear blocks below, so the point they belong to must be converged itself:
        # no stopping one step early on the strength of quadratic convergence.
        if abs(d1) <= 1e-12 * V1 and abs(d2) <= 1e-12 * V2:
            break
        if steps == 100 or not math.isfinite(d1 + d2):
            out[:] = math.nan
            return -1
        V1, V2 = (V1 + d1, V2 + d2) if V1 + d1 > 0.0 and V2 + d2 > 0.0 else (F1, F2)

    S00 = S0k = Skk = H0 = Hk = H1 = 0.0
    for i in range(n):
        g = weight[i] / (1.0 + a[i] * V1 + b[i] * V2)
        g0, gk = g * mu0[i], g * kmu1[i]
        S00 += g0 * mu0[i]
        S0k += g0 * kmu1[i]
        Skk += gk * kmu1[i]
        H0 += g0 * h[i]
        Hk += gk * h[i]
        H1 += g * mu1[i] * h1[i]
    B = alpha * c * V2
    if S00 > 1e-24:
        theta = B * (Hk - S0k * H0 / S00) / (1.0 + B * (Skk - S0k * S0k / S00))
        m = (H0 - S0k * theta) / S00
    else:  # no spike: mu0 vanishes up to rounding, and m with it from every average
        theta, m = B * Hk / (1.0 + B * Skk), 0.0
    psih = delta * H1
    psi = beta * V1 * psih
    thetah = theta / (beta * c * V2)

    R0 = Rw = Ra = Rb = Ea = Eb = Wa = Wb = 0.0
    for i in range(n):
        w = 1.0 / (1.0 + a[i] * V1 + b[i] * V2)
        C = mu0[i] * m + kmu1[i] * theta
        g = weight[i]
        gw = g * w * w
        R = hh[i] - C * (2.0 * h[i] - C) - 2.0 * psi * mu1[i] * h1[i]
        R0 += g * R
        Rw += gw * R
        Ra += gw * a[i] * R
        Rb += gw * b[i] * R
        Ea += g * a[i]
        Eb += g * b[i]
        Wa += gw * a[i]
        Wb += gw * b[i]
    A0 = delta * Ra + beta * psih * psih
    B0 = delta * Rb + beta * c * thetah * thetah
    r1, r2 = P11 * A0 + P12 * B0, P12 * A0 + P22 * B0
    q1, q2 = D * (J22 * r1 - J12 * r2), D * (J11 * r2 - J21 * r1)
    out[0], out[1] = R0 + Ea * q1 + Eb * q2, Rw + Wa * q1 + Wb * q2
    out[2], out[3], out[4], out[5] = V1, V2, q1, q2
    out[6], out[7], out[8] = m, theta, psi
    return steps


@njit("void(float64, float64, float64, float64, float64[:, ::1], float64[::1], float64[::1])",
      nogil=True, cache=True, error_model="numpy")  # fmt: skip
def update(alpha, beta, reg, c, rows, x, out):
    """The undamped map of `STATE`: m at its exact value for the other order parameters, the rest by their overlaps."""
    weight, a, b = rows[0], rows[1], rows[2]
    mu0, kmu1, mu1 = rows[3], rows[4], rows[5]
    h, h1, hh = rows[6], rows[7], rows[8]
    n = weight.size
    delta = alpha / beta
    V1, V2, q1, q2, theta, psi = x[0], x[1], x[2], x[3], x[4], x[5]

    V1h = V2h = S00 = S0k = Skk = H0 = Hk = H1 = 0.0
    for i in range(n):
        g = weight[i] / (1.0 + a[i] * V1 + b[i] * V2)
        g0, gk = g * mu0[i], g * kmu1[i]
        V1h += g * a[i]
        V2h += g * b[i]
        S00 += g0 * mu0[i]
        S0k += g0 * kmu1[i]
        Skk += gk * kmu1[i]
        H0 += g0 * h[i]
        Hk += gk * h[i]
        H1 += g * mu1[i] * h1[i]
    m = (H0 - S0k * theta) / S00 if S00 > 1e-24 else 0.0
    thetah, psih = delta * (Hk - S0k * m - Skk * theta), delta * H1

    Ra = Rb = 0.0
    for i in range(n):
        w = 1.0 / (1.0 + a[i] * V1 + b[i] * V2)
        C = mu0[i] * m + kmu1[i] * theta
        R = hh[i] - C * (2.0 * h[i] - C) - 2.0 * psi * mu1[i] * h1[i] + a[i] * q1 + b[i] * q2
        R *= weight[i] * w * w
        Ra += a[i] * R
        Rb += b[i] * R
    ell = reg + delta * V2h
    T, X1, Y0, Y1, Y2 = _bulk(beta, c, ell, delta * V1h)
    A0, B0 = delta * Ra + beta * psih * psih, delta * Rb + beta * c * thetah * thetah
    scale = 1.0 / (ell * ell)
    out[0], out[1] = c * X1 / ell, T / ell
    out[2], out[3] = scale * c * (c * Y2 * A0 + Y1 * B0), scale * (c * Y1 * A0 + Y0 * B0)
    out[4], out[5] = beta * c * T / ell * thetah, beta * c * X1 / ell * psih
    out[6] = m


@njit("void(float64[::1], float64[::1], float64[::1], float64, float64[:, ::1], float64[:, ::1], float64[:, ::1])",
      nogil=True, cache=True, error_model="numpy")  # fmt: skip
def update_many(alpha, beta, reg, c, rows, states, out):
    """`update` at every point of equally long arrays."""
    for i in range(alpha.size):
        update(alpha[i], beta[i], reg[i], c, rows, states[i], out[i])


@njit("int64(float64[::1], float64[::1], float64[::1], float64, float64[:, ::1], float64[:, ::1])",
      nogil=True, cache=True, error_model="numpy")  # fmt: skip
def solve_many(alpha, beta, reg, c, rows, out):
    """`solve`, from a cold start, at every point of equally long arrays; returns how many did not converge."""
    failed = 0
    for i in range(alpha.size):
        failed += solve(alpha[i], beta[i], reg[i], c, rows, out[i]) < 0
    return failed


def tanh_sin_table(nodes: int = 96) -> Table:
    """The table behind `REFERENCE`."""
    return tabulate(np.tanh, lambda x: 1 - np.tanh(x) ** 2, np.sin, alpha0=20, eta=3, noise=0, nodes=nodes)


def time_per_point(table: Table, points: int = 20000, repeats: int = 5) -> float:
    """Microseconds per point, best of `repeats` scans over alpha in [0.2, 3] and reg in [1e-3, 1]."""
    alpha = np.linspace(0.2, 3, points)
    reg = 10 ** np.random.default_rng(0).uniform(-3, 0, points)
    out = np.empty((points, len(NAMES)))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        failed = solve_many(alpha, np.ones(points), reg, table.c, table.rows, out)
        seconds.append(time.perf_counter() - start)
        if failed:
            raise RuntimeError(f"{failed} of {points} points did not converge")
    return 1e6 * min(seconds) / points


def main() -> None:
    table = tanh_sin_table()
    out = np.empty(len(NAMES))
    print("alpha  steps  test error      largest difference from the reference values")
    for alpha, *reference in REFERENCE:
        steps = solve(alpha, 1.0, 0.1, table.c, table.rows, out)
        difference = np.abs(np.delete(out, 1) - reference).max()
        print(f"{alpha:5.1f}  {steps:5d}  {out[0]:.11f}  {difference:.1e}")
    for nodes in (32, 64, 96):
        print(f"{nodes} nodes: {time_per_point(tanh_sin_table(nodes)):.2f} us per point, one thread, cold start")


if __name__ == "__main__":
    main()
