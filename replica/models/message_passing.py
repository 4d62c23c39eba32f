"""Generalised approximate message passing for the Bayes-optimal generalised linear model, in plain numpy.

The algorithm whose fixed points at infinite size the theory describes, written from the posterior means of one entry and of one
projection; it knows nothing of the theory.

References
----------
.. [1] S. Rangan, arXiv:1010.5141.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_ndtr

Array = NDArray[np.float64]
MOST_STEPS = 300
#: Overlap of the first estimate with the signal, well above the 1/sqrt(d) of random vectors.
SIDE_INFORMATION = 0.05


def posterior(prior: str, b: Array, a: float, density: float) -> tuple[Array, Array]:
    """Mean and variance of an entry x of weight ``prior(x) exp(b x - a x^2/2)``."""
    if prior == "gaussian":
        return b / (1 + a), np.full_like(b, 1 / (1 + a))
    if prior == "binary":
        mean = np.tanh(b)
        return mean, 1 - mean**2
    on = expit(math.log(density / (1 - density)) - 0.5 * math.log1p(a / density) + b**2 / (2 * (a + density)))
    mean = b / (a + density)
    return on * mean, on * (1 / (a + density) + mean**2) - (on * mean) ** 2


def response(channel: str, y: Array, field: Array, spread: float) -> tuple[Array, Array]:
    """Slope g of log P(y | field + N(0, spread)) in the field, and minus its second derivative, or what has the same mean."""
    if channel == "linear":
        return (y - field) / spread, np.full_like(y, 1 / spread)
    if channel == "sign":
        scale = math.sqrt(spread)
        h = y * field / scale
        ratio = np.exp(-(h**2) / 2 - log_ndtr(h)) / math.sqrt(2 * math.pi)
        return y * ratio / scale, ratio * (ratio + h) / spread
    mean = y * np.tanh(y * field / spread)
    g, curvature = (mean - field) / spread, (1 - (y**2 - mean**2) / spread) / spread
    # The second derivative changes sign, and at little overlap so may its mean over finitely many samples; then g^2, which has
    # the same expectation under the posterior.
    return g, curvature if curvature.mean() > 0 else g**2


def infer(prior: str, channel: str, parameters: Mapping[str, float], size: int, rng: Any) -> dict[str, float]:
    """Draw a signal and data, run message passing, and return the errors of its estimate.

    The first estimate knows a little of the signal, as through a Gaussian channel, which breaks the symmetry of the modulus.

    Returns
    -------
    dict
        `v`, the mean squared error of the signal; `q`, its overlap with the estimate; `test_error` (linear) or `zero_one` (sign)
        of a new sample, given the estimate.
    """
    n, noise = round(parameters["alpha"] * size), parameters["noise"]
    density = parameters.get("density", 1.0)
    if prior == "binary":
        x = rng.choice([-1.0, 1.0], size)
    else:
        x = rng.standard_normal(size)
        if prior == "sparse":
            x *= (rng.random(size) < density) / math.sqrt(density)
    rows = rng.standard_normal((n, size)) / math.sqrt(size)
    seen = rows @ x + math.sqrt(noise) * rng.standard_normal(n)
    y = {"linear": seen, "sign": np.sign(seen), "modulus": np.abs(seen)}[channel]
    snr = SIDE_INFORMATION / (1 - SIDE_INFORMATION)
    mean, variance = posterior(prior, snr * x + math.sqrt(snr) * rng.standard_normal(size), snr, density)
    g = np.zeros(n)
    for _ in range(MOST_STEPS):
        spread = float(variance.mean())
        field = rows @ mean - spread * g
        g, curvature = response(channel, y, field, spread + noise)
        a = n / size * float(curvature.mean())
        old, (mean, variance) = mean, posterior(prior, rows.T @ g + a * mean, a, density)
        if np.mean((mean - old) ** 2) < 1e-20 or variance.mean() + noise < 1e-14:
            break
    if channel == "modulus" and x @ mean < 0:  # the global sign cannot be known
        mean = -mean
    error, overlap = float(np.mean((x - mean) ** 2)), float(x @ mean) / size
    out = {"v": error, "q": overlap}
    if channel == "linear":
        out["test_error"] = error + noise
    if channel == "sign":
        cosine = overlap / math.sqrt(float(mean @ mean) / size * (float(x @ x) / size + noise))
        out["zero_one"] = math.acos(min(cosine, 1.0)) / math.pi
    return out
