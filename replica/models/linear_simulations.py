"""Experiments with linear networks: the real weights, trained; nothing here knows the theory.

Each function draws one problem (or takes its weights), trains, and returns observables by name, time first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

Array = np.ndarray


def line_flow(
    u: Array, w: Array, times: Any, slope: Callable[[float], float], *, gamma: float, eta_u: float, eta_w: float,
    decay: float = 0.0,
) -> dict[str, Array]:  # fmt: skip
    """Gradient flow on the raw weights of ``f = gamma sum_i u_i w_i x``.

    Parameters
    ----------
    u, w : ndarray, shape (width,)
    times : array_like
        Ascending, finite.
    slope : callable
        Minus the derivative of the loss in the output slope F.
    gamma, eta_u, eta_w, decay : float
        Multiplier, learning rates, rate of decay of all weights.
    """
    d = u.size

    def velocity(t: float, x: Array) -> Array:
        a, b = x[:d], x[d:]
        pull = gamma * slope(gamma * float(a @ b))
        return np.concatenate([eta_u * pull * b, eta_w * pull * a]) - decay * x

    times = _finite(times)
    start = np.concatenate([u, w])
    end = max(float(times[-1]), 1e-300)
    found = solve_ivp(velocity, (0.0, end), start, "DOP853", t_eval=times, rtol=1e-13, atol=1e-16)
    if not found.success:
        raise RuntimeError(f"the raw weights could not be integrated: {found.message}")
    return _read(found.y[:d].T, found.y[d:].T, gamma, eta_u, eta_w)


def draw_weights(start: Mapping[str, float], width: int, rng: Any) -> tuple[Array, Array]:
    """Weights of a width with norms `norm_u0`, `norm_w0` and the cosine `cos_angle0` between them, in a random direction."""
    u, w, c = start["norm_u0"], start["norm_w0"], start["cos_angle0"]
    pair = _vectors(np.array([[u * u, u * w * c], [u * w * c, w * w]]), width, rng)
    return pair[0], pair[1]


def square_slope(A: float, B: float, c_loss: float) -> Callable[[float], float]:
    """Minus the derivative of ``c_loss E(f - y)^2`` in the output slope."""
    return lambda F: 2 * c_loss * (B - A * F)


def line_descent(
    u: Array, w: Array, steps: Any, slope: Callable[[float], float], *, step: float, gamma: float, eta_u: float, eta_w: float
) -> dict[str, Array]:
    """Gradient descent on the raw weights, read at the given numbers of steps (ascending)."""
    us, ws = [], []
    done = 0
    for wanted in _finite(steps).astype(int):
        for _ in range(wanted - done):
            pull = step * gamma * slope(gamma * float(u @ w))
            u, w = u + eta_u * pull * w, w + eta_w * pull * u
        done = int(wanted)
        us.append(u)
        ws.append(w)
    return _read(np.array(us), np.array(ws), gamma, eta_u, eta_w)


def deep_chain(depth: int, s: float, u0: float, times: Any) -> Array:
    """Strength of a chain of equal scalar layers that learns s by gradient flow on ``(s - product)^2/2``."""

    def velocity(t: float, x: Array) -> Array:
        product = float(np.prod(x))
        others = np.array([np.prod(np.delete(x, i)) for i in range(depth)])
        return (s - product) * others

    times = _finite(times)
    start = np.full(depth, u0 ** (1 / depth))
    found = solve_ivp(velocity, (0.0, max(float(times[-1]), 1e-300)), start, "DOP853", t_eval=times, rtol=1e-12, atol=1e-14)
    return np.prod(found.y, axis=0)


def _finite(times: Any) -> Array:
    """Times as an array; an integrator would never come to an infinite one."""
    given = np.asarray(times, dtype=float)
    if not np.isfinite(given).all():
        raise ValueError("an experiment cannot run to an infinite time")
    return given


def _read(u: Array, w: Array, gamma: float, eta_u: float, eta_w: float) -> dict[str, Array]:
    overlap, uu, ww = (u * w).sum(1), (u * u).sum(1), (w * w).sum(1)
    norms = np.sqrt(uu * ww)
    return {
        "output": gamma * overlap,
        "ntk": gamma**2 * (eta_u * ww + eta_w * uu),
        "cos_angle": np.divide(overlap, norms, out=np.zeros_like(norms), where=norms > 0),
        "norm_u": np.sqrt(uu),
        "norm_w": np.sqrt(ww),
        "u": u,
        "w": w,
    }


def ridge_flow_student(
    size: int, rng: Any, *, alpha: float, reg: float, noise: float, signal: float, q0: float, m0: float, times: Any
) -> dict[str, Array]:
    """Gradient flow of ridge regression on one draw of data, exactly, through the eigenvectors of the inputs.

    Raises
    ------
    ValueError
        If no vectors have the overlaps `signal`, `q0`, `m0`.
    """
    n = round(alpha * size)
    teacher, student = _vectors(np.array([[signal, m0], [m0, q0]]), size, rng)
    X = rng.standard_normal((n, size))
    y = X @ teacher + np.sqrt(noise) * rng.standard_normal(n)
    _, singular, Vt = np.linalg.svd(X, full_matrices=True)
    h = np.zeros(size)
    h[: singular.size] = singular**2 / n
    start, pull = Vt @ student, Vt @ (X.T @ y / n)
    out: dict[str, list[float]] = {name: [] for name in ("m", "q", "test_error", "train_error")}
    for t in np.asarray(times, dtype=float):
        rate = h + reg
        with np.errstate(invalid="ignore", divide="ignore"):
            kept = np.where(rate > 0, np.exp(-np.where(rate > 0, rate, 1) * t), 1.0)
            gained = np.where(rate > 0, -np.expm1(-rate * t) / rate, 0.0)  # nothing pulls where h = 0
        w = Vt.T @ (kept * start + gained * pull)
        out["m"].append(w @ teacher)
        out["q"].append(w @ w)
        out["test_error"].append(np.sum((w - teacher) ** 2) + noise)
        out["train_error"].append(np.mean((X @ w - y) ** 2))
    return {name: np.array(values) for name, values in out.items()}


def two_layer_student(
    size: int, rng: Any, *, alpha: float, noise: float, signal: float, gamma: float, eta_u: float, eta_w: float,
    decay: float, u0: Array, K0: Array, o0: Array, times: Any,
) -> dict[str, Array]:  # fmt: skip
    """Full-batch gradient flow of all weights of ``f = gamma u.W x`` on one draw of data.

    Raises
    ------
    ValueError
        If no weights have the overlaps `K0`, `o0`, `signal`.
    """
    n, k = round(alpha * size), len(u0)
    gram = np.block([[np.atleast_2d(K0), np.reshape(o0, (k, 1))], [np.reshape(o0, (1, k)), np.array([[signal]])]])
    vectors = _vectors(gram, size, rng)
    teacher = vectors[k]
    X = rng.standard_normal((n, size))
    y = X @ teacher + np.sqrt(noise) * rng.standard_normal(n)
    # In the eigenvectors of the inputs the covariance is diagonal: the same flow of the same weights, turned.
    _, singular, Vt = np.linalg.svd(X, full_matrices=True)
    h = np.zeros(size)
    h[: singular.size] = singular**2 / n
    pull, turned = Vt @ (X.T @ y / n), vectors[:k] @ Vt.T
    floor = float(np.mean(y**2))

    def velocity(t: float, x: Array) -> Array:
        u, W = x[:k], x[k:].reshape(k, size)
        slope = gamma * (h * (gamma * u @ W) - pull)
        du = -eta_u * (W @ slope + decay * u)
        dW = -eta_w * (np.outer(u, slope) + decay * W)
        return np.concatenate([du, dW.ravel()])

    times = np.asarray(times, dtype=float)
    start = np.concatenate([u0, turned.ravel()])
    end = max(float(times[-1]), 1e-300)
    found = solve_ivp(velocity, (0.0, end), start, "DOP853", t_eval=times, rtol=1e-9, atol=1e-11)
    target = Vt @ teacher
    u, W = found.y[:k].T, found.y[k:].T.reshape(-1, k, size)
    student = gamma * np.einsum("tk,tkd->td", u, W)
    return {
        "test_error": ((student - target) ** 2).sum(1) + noise,
        "train_error": (h * student**2).sum(1) - 2 * student @ pull + floor,
        "u": u,
        "norm_w2": (W**2).sum((1, 2)),
        "overlap": student @ target,
    }


def online_student(
    size: int, rng: Any, *, eta_w: float, eta_v: float, noise: float, a: Array, T: Array, v0: Array, R0: Array, Q0: Array,
    times: Any,
) -> dict[str, Array]:  # fmt: skip
    """One-pass stochastic gradient descent in dimension `size`; time is samples over dimension.

    Raises
    ------
    ValueError
        If no weights have the overlaps `T`, `R0`, `Q0`.
    """
    m = len(a)
    vectors = _vectors(np.block([[T, R0.T], [R0, Q0]]) * size, size, rng)
    teacher, W, v = vectors[:m], vectors[m:].copy(), np.array(v0, dtype=float)
    out: dict[str, list[Any]] = {name: [] for name in ("test_error", "R", "Q", "v")}
    done = 0
    for t in np.asarray(times, dtype=float):
        wanted = round(t * size)
        while done < wanted:
            block = min(1000, wanted - done)
            X = rng.standard_normal((block, size)) / np.sqrt(size)
            y = X @ teacher.T @ a + np.sqrt(noise) * rng.standard_normal(block)
            for x, label in zip(X, y, strict=True):
                field = W @ x
                delta = label - v @ field
                W += eta_w * delta * np.outer(v, x)
                v = v + eta_v * delta * field / size
            done += block
        R, Q = W @ teacher.T / size, W @ W.T / size
        out["test_error"].append(a @ T @ a - 2 * v @ R @ a + v @ Q @ v + noise)
        out["R"].append(R)
        out["Q"].append(Q)
        out["v"].append(v)
    return {name: np.array(values) for name, values in out.items()}


def _vectors(gram: Array, size: int, rng: Any) -> Array:
    """Random vectors, as rows, with exactly this Gram matrix."""
    values, directions = np.linalg.eigh(gram)
    if values.min() < -1e-10 * max(1.0, values.max()) or size < len(gram):
        raise ValueError(f"no vectors in dimension {size} have the overlaps {gram.tolist()}")
    root = directions * np.sqrt(np.maximum(values, 0.0))  # rounding of a singular matrix, checked above
    orthonormal = np.linalg.qr(rng.standard_normal((size, len(gram))))[0]
    return root @ orthonormal.T
