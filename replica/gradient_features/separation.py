"""Fixed features against sparse parities: lower bounds that hold for any features, and errors measured exactly.

The C(D, k) parities of k bits are orthonormal, so N features, or a kernel method on N samples, cannot be near many of them.
"""

from __future__ import annotations

import math

import numpy as np

from .base import ProblemError, Value, check

#: All 2^D inputs are listed.
LARGEST = 16


def square_bound(features: int, D: int, k: int) -> float:
    """``E_A min_h E(h - chi_A)^2 >= 1 - N/C(D, k)`` for any N fixed features or N-sample kernel, any readout, random A."""
    N, D = check("features", features, 0, math.inf, whole=True, closed="["), check("D", D, 1, 10**6, whole=True, closed="[]")
    k = check("k", k, 0, D, whole=True, closed="[]")
    return max(0.0, 1 - N / math.comb(D, k))


def hinge_bound(features: int, D: int, k: int, readout: float, rho: float = 1.0) -> float:
    """For features bounded by 1 and a readout of norm at most `readout`, some A has hinge loss at least
    ``rho (1 - B sqrt(N/C(D, k)))``; rho is the fraction of uniform inputs."""
    N, D = check("features", features, 0, math.inf, whole=True, closed="["), check("D", D, 1, 10**6, whole=True, closed="[]")
    k, rho = check("k", k, 0, D, whole=True, closed="[]"), check("rho", rho, 0, 1, closed="[]")
    readout = check("readout", readout, 0, math.inf, closed="[")
    return max(0.0, rho * (1 - readout * math.sqrt(N / math.comb(D, k))))


def published_hinge_bound(features: int, k: int, readout: float, rho: float = 1.0) -> float:
    """The form of arXiv:2206.01717, ``rho (1 - sqrt(2 N) B/2^k)``; weaker than `hinge_bound` for D >= 16 k [recalled]."""
    return max(0.0, rho * (1 - math.sqrt(2 * features) * readout / 2**k))


def walsh(values: np.ndarray) -> np.ndarray:
    """Fourier coefficients of functions on {-1, 1}^D: columns of shape (2^D, functions), bit j of the row index is coordinate j
    (0 stands for +1); row S of the result is the coefficient of the parity of the bits of S."""
    out = np.array(values, dtype=float)
    rows = len(out)
    step = 1
    while step < rows:
        pairs = out.reshape(rows // (2 * step), 2, step, -1)
        out = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], axis=1).reshape(rows, -1)
        step *= 2
    return out / rows


def cube(D: int) -> np.ndarray:
    """All sign vectors in the order of `walsh`, shape (2^D, D)."""
    D = check("D", D, 1, LARGEST, whole=True, closed="[]")
    return 1.0 - 2.0 * (np.arange(2**D)[:, None] >> np.arange(D) & 1)


def fixed_feature_error(features: np.ndarray, k: int) -> Value:
    """``E_A min_h E(h - chi_A)^2`` over all parities A of k bits, exactly: uniform inputs, least squares on the features.

    Parameters
    ----------
    features : ndarray, shape (2^D, N)
        Every feature at every input of `cube(D)`.
    k : int
    """
    rows = len(features)
    D = rows.bit_length() - 1
    if rows != 2**D or D > LARGEST:
        raise ProblemError(f"features have {rows} rows; they need 2^D, D <= {LARGEST}")
    k = check("k", k, 0, D, whole=True, closed="[]")
    left, size, _ = np.linalg.svd(features, full_matrices=False)
    basis = left[:, size > 1e-10 * size[0]] * math.sqrt(rows)
    weight = (np.arange(rows)[:, None] >> np.arange(D) & 1).sum(axis=1)
    captured = float((walsh(basis)[weight == k] ** 2).sum())
    return Value(1 - captured / math.comb(D, k), 1e-12)


def random_relu(D: int, features: int, rng: np.random.Generator) -> np.ndarray:
    """Random ReLU features ``relu(w.phi - b)`` with w ~ N(0, I/D) and b ~ N(0, 1) on `cube(D)`, shape (2^D, features)."""
    w, b = rng.standard_normal((features, D)) / math.sqrt(D), rng.standard_normal(features)
    return np.maximum(cube(D) @ w.T - b, 0.0)


def kernel_functions(D: int, samples: int, rng: np.random.Generator) -> np.ndarray:
    """The functions that a kernel method on random samples combines, ``K(x, x_i)`` on `cube(D)`, shape (2^D, samples).

    K is the arc-cosine kernel of infinitely many ReLUs with biases: an angle theta between (x, sqrt D) and (x_i, sqrt D) counts
    ``sin theta + (pi - theta) cos theta``.
    """
    inputs = cube(D)
    cosine = np.clip((inputs @ inputs[rng.integers(len(inputs), size=samples)].T + D) / (2 * D), -1, 1)
    theta = np.arccos(cosine)
    return np.sin(theta) + (math.pi - theta) * cosine


def measured_fixed_error(kind: str, D: int, k: int, features: int, *, draws: int = 4, seed: int = 0) -> Value:
    """Mean of `fixed_feature_error` over random features, ``relu`` or ``kernel``, and three standard errors."""
    made = {"relu": random_relu, "kernel": kernel_functions}
    if kind not in made:
        raise ProblemError(f"unknown fixed features {kind!r}; known are {', '.join(made)}")
    features = check("features", features, 1, 2**LARGEST, whole=True, closed="[]")
    draws = check("draws", draws, 2, 10**6, whole=True, closed="[]")
    streams = np.random.SeedSequence(seed).spawn(draws)
    found = [fixed_feature_error(made[kind](D, features, np.random.default_rng(s)), k).value for s in streams]
    return Value(float(np.mean(found)), 3 * float(np.std(found, ddof=1)) / math.sqrt(draws))
