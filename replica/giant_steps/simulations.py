"""Experiments with real two-layer networks and giant steps; nothing here knows the theory.

Neurons share their batch and are not independent: one batch is one repeat, and everything is averaged over neurons before
repeats are compared (`replica.validation`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .averages import Student

Array = np.ndarray
Function = Callable[[Array], Array]

#: Samples drawn and used together.
BLOCK = 20_000


def sphere(p: int, d: int, rng: np.random.Generator) -> Array:
    """Random unit vectors as rows."""
    w = rng.standard_normal((p, d))
    return w / np.linalg.norm(w, axis=1, keepdims=True)


def gradients(
    W: Array, target: Function, r: int, slope: Function, n: int, noise: float, rng: np.random.Generator, *,
    removal: str = "none", network: Function | None = None,
) -> Array:  # fmt: skip
    """Rows u_i of one batch; the teacher space is the first r coordinates.

    Parameters
    ----------
    W : ndarray, shape (p, d)
    target, slope : callable
        g on (n, r), s' elementwise.
    removal : str
        What is taken from the labels on the same batch: none, mean, moments, least-squares.
    network : callable, optional
        Output of the network from its fields (n, p), subtracted from the labels.
    """
    d = W.shape[1]
    if removal in ("moments", "least-squares"):
        return _without_linear_part(W, target, r, slope, n, noise, rng, removal)
    u, s_x, total = np.zeros_like(W), np.zeros_like(W), 0.0
    for first in range(0, n, BLOCK):
        count = min(BLOCK, n - first)
        x = rng.standard_normal((count, d))
        y = target(x[:, :r]) + math.sqrt(noise) * rng.standard_normal(count)
        lam = x @ W.T
        if network is not None:
            y = y - network(lam)
        tilt = slope(lam)
        u += (y[:, None] * tilt).T @ x
        if removal == "mean":
            s_x += tilt.T @ x
            total += float(y.sum())
    return u / n - total / n * s_x / n


def _without_linear_part(
    W: Array, target: Function, r: int, slope: Function, n: int, noise: float, rng: np.random.Generator, removal: str
) -> Array:
    """Two passes over one batch, drawn twice from the same seed instead of kept."""
    d, seed = W.shape[1], rng.integers(2**63)

    def batch() -> Any:
        again = np.random.default_rng(seed)
        for first in range(0, n, BLOCK):
            count = min(BLOCK, n - first)
            x = again.standard_normal((count, d))
            yield x, target(x[:, :r]) + math.sqrt(noise) * again.standard_normal(count)

    gram, moment = np.zeros((d + 1, d + 1)), np.zeros(d + 1)
    for x, y in batch():
        one = np.concatenate([np.ones((len(x), 1)), x], axis=1)
        gram += one.T @ one
        moment += one.T @ y
    fit = moment / n if removal == "moments" else np.linalg.solve(gram, moment)
    u = np.zeros_like(W)
    for x, y in batch():
        u += ((y - fit[0] - x @ fit[1:])[:, None] * slope(x @ W.T)).T @ x
    return u / n


def first_step(
    target: Function, r: int, slope: Function, *, alpha: float, noise: float, leap: int, step: float, d: int, p: int,
    rng: np.random.Generator, removal: str = "none", readout: Array | None = None, activation: Function | None = None,
) -> dict[str, Any]:  # fmt: skip
    """One giant step of p neurons on n = alpha d^leap samples: averages over the neurons of one batch.

    Returns
    -------
    dict
        `cos2` of the moved weight with the teacher space, `cos` with every teacher direction, `share` E[cos_i cos_j],
        `top` for the first right singular vector of all gradients, `norm2` of the gradient times d^(leap-1).
    """
    n, W = round(alpha * d**leap), sphere(p, d, rng)
    network = None
    if readout is not None and activation is not None:
        network = lambda lam: activation(lam) @ readout / math.sqrt(p)
    u = gradients(W, target, r, slope, n, noise, rng, removal=removal, network=network)
    moved = u if math.isinf(step) else W + step * u
    direction = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    inside = direction[:, :r]
    top = np.linalg.svd(u, full_matrices=False)[2][0]
    return {
        "cos2": float(np.mean(np.sum(inside**2, axis=1))),
        "cos": np.mean(inside, axis=0),
        "share": inside.T @ inside / p,
        "top": float(np.sum(top[:r] ** 2)),
        "norm2": float(np.mean(np.sum(u**2, axis=1))) * d ** (leap - 1),
        "all_cos2": np.sum(inside**2, axis=1),
    }


def weights_with_overlaps(M: Array, Q: Array, d: int, rng: np.random.Generator) -> Array:
    """Rows with exactly these overlaps, in a random orthogonal complement; the teacher space is the first r coordinates."""
    p, r = M.shape
    values, vectors = np.linalg.eigh(Q - M @ M.T)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    basis = np.linalg.qr(rng.standard_normal((d - r, p)))[0].T
    return np.concatenate([M, root @ basis], axis=1)


def train(
    target: Function, student: Student, M: Array, Q: Array, *, alpha: float, eta: float, noise: float, steps: int, d: int,
    rng: np.random.Generator, reuse: bool = False,
) -> dict[str, Array]:  # fmt: skip
    """Train the first layer of a real network by giant steps from weights with the given overlaps.

    Parameters
    ----------
    reuse : bool
        The same batch at every step, instead of fresh ones.

    Returns
    -------
    dict
        `M` and `Q`, time first.
    """
    s, slope = student.activation.numeric(), student.activation.numeric_derivative()
    r, n = M.shape[1], round(alpha * d)
    W = weights_with_overlaps(M, Q, d, rng)
    t = eta * student.outer
    out: dict[str, list[Array]] = {"M": [W[:, :r]], "Q": [W @ W.T]}
    x = y = None
    for _ in range(steps):
        if x is None or y is None or not reuse:
            x = rng.standard_normal((n, d))
            y = target(x[:, :r]) + math.sqrt(noise) * rng.standard_normal(n)
        field = x @ W.T + student.biases
        rest = y - s(field) @ student.outer if student.loss == "square" else y
        W = W + t[:, None] * ((rest[:, None] * slope(field)).T @ x) / n
        out["M"].append(W[:, :r])
        out["Q"].append(W @ W.T)
    return {name: np.array(values) for name, values in out.items()}


def train_online(
    target: Function, student: Student, M: Array, Q: Array, *, eta: float, noise: float, times: Array, d: int,
    rng: np.random.Generator,
) -> dict[str, Array]:  # fmt: skip
    """One-pass SGD, one sample per step of size eta/d; `M` and `Q` at the given samples/d."""
    s, slope = student.activation.numeric(), student.activation.numeric_derivative()
    r = M.shape[1]
    W, t = weights_with_overlaps(M, Q, d, rng), eta * student.outer / d
    out: dict[str, list[Array]] = {"M": [], "Q": []}
    done = 0
    for wanted in np.round(np.asarray(times) * d).astype(int):
        x = rng.standard_normal((wanted - done, d))
        y = target(x[:, :r]) + math.sqrt(noise) * rng.standard_normal(len(x))
        for row, label in zip(x, y, strict=True):
            field = W @ row + student.biases
            rest = label - s(field) @ student.outer if student.loss == "square" else label
            W = W + (t * rest * slope(field))[:, None] * row
        done = int(wanted)
        out["M"].append(W[:, :r])
        out["Q"].append(W @ W.T)
    return {name: np.array(values) for name, values in out.items()}
