"""Real two-layer networks trained on samples: what the predictions are compared with.  Nothing here knows the theory."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtr

from .base import Problem, ProblemError
from .cones import cosines
from .dictionary import Dictionary
from .networks import Setting, random_knots, readout_accuracy, relu_pairs, spread_features


def batch_gradient(w: np.ndarray, b: np.ndarray, x: np.ndarray, y: np.ndarray, smear: float = 0.0) -> np.ndarray:
    """``(1/n) sum y x slope(w.x - b)`` by row of w: step function, or its average over injected noise."""
    u = x @ w.T - b
    slope = ndtr(u / smear) if smear > 0 else (u > 0).astype(float)
    return (slope * y[:, None]).T @ x / len(x)


def network_accuracy(
    problem: Problem, setting: Setting, rng: np.random.Generator, directions: np.ndarray | None = None
) -> float:
    """One network: pairs +-w of opposite readout (so that it is zero at the start), one step whose weight decay erases the
    initial weights, a least-squares readout on fresh samples, accuracy on further ones."""
    if math.isinf(setting.batch) and setting.features != "random":
        raise ProblemError("a real network needs a finite batch")
    count = setting.pool if setting.features == "ticket" else setting.pairs
    w, b = setting.init.sample(count, problem.dimension, rng)
    if setting.features != "random":
        first = batch_gradient(w, b, *problem.sample(int(setting.batch), rng))
        if directions is not None and setting.features == "ticket":
            best = [int(np.abs(cosines(first, D)).argmax()) for D in np.atleast_2d(directions)]
            w, b = w[best], b[best]
            first = batch_gradient(w, b, *problem.sample(int(setting.batch), rng))
        w = first
    (x, y), (xt, yt) = problem.sample(setting.fit, rng), problem.sample(setting.test, rng)
    return readout_accuracy(relu_pairs(x @ w.T), y, relu_pairs(xt @ w.T), yt)


def dictionary_network(
    problem: Dictionary, neurons: int, batch: int, step: int, rng: np.random.Generator, *, fit: int = 4000, test: int = 4000,
    size: float = 1e-3, smear: float = 1.0,
) -> dict[str, float]:  # fmt: skip
    """One network after 0, 1 or 2 steps, each on a fresh batch: mean |cosine| of its neurons, and accuracy of a fitted readout.

    The step size makes weights of norm `size` after the first step, so that the output stays small and in the second step the
    injected noise `smear` decides which neurons are active.  For the readout neurons get unit spread and random biases.
    """
    w = rng.standard_normal((neurons, problem.D)) / math.sqrt(problem.D)
    b = np.zeros(neurons)
    for k in range(step):
        x, y = problem.sample(batch, rng)
        g = batch_gradient(w, b, x, y, smear if k else 0.0)
        w = size * g / np.linalg.norm(g, axis=1).mean()
    aligned = float(np.abs(cosines(w, problem.direction)).mean())
    (x, y), (xt, yt) = problem.sample(fit, rng), problem.sample(test, rng)
    u, ut = x @ w.T, xt @ w.T
    scale, (signs, knots) = u.std(axis=0), random_knots(neurons, rng)
    features = [spread_features(part, scale, signs, knots) for part in (u, ut)]
    return {"cosine": aligned, "accuracy": readout_accuracy(features[0], y, features[1], yt)}
