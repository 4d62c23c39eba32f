"""Laws of a neuron at initialisation, and the points at which averages over them are taken.

Averages are quasi-Monte Carlo: scrambled Sobol points with fixed seeds, in replicates, so that a number is the same whenever it
is asked for and has an error estimate (three standard errors over the replicates).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.special import chdtri, ndtri

from .base import ProblemError, Value, check

POINTS, REPLICATES = 1024, 16
NORMS = ("sphere", "gaussian")
BIASES = ("fixed", "sign", "uniform", "normal")
#: Scrambled points are moved this far off 0 and 1, where quantiles are infinite.
EDGE = 1e-12


@dataclass(frozen=True)
class Initialisation:
    """A random neuron: ``w`` in a uniform direction, and its bias.

    Attributes
    ----------
    norm : {"sphere", "gaussian"}
        |w| = 1, or w ~ N(0, I/d).
    bias : {"fixed", "sign", "uniform", "normal"}
        ``b = scale``; +-scale with equal probability; uniform on [-scale, scale]; N(0, scale^2).
    scale : float
    """

    norm: str = "sphere"
    bias: str = "fixed"
    scale: float = 0.0

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise ProblemError(f"unknown norm {self.norm!r}; known are {', '.join(NORMS)}")
        if self.bias not in BIASES:
            raise ProblemError(f"unknown bias law {self.bias!r}; known are {', '.join(BIASES)}")
        check("scale", self.scale, -math.inf, math.inf)
        if self.bias != "fixed" and self.scale < 0:
            raise ProblemError(f"scale = {self.scale:g} is outside its range [0, inf) of the bias law {self.bias}")

    def biases(self, u: np.ndarray) -> np.ndarray:
        """Biases from uniforms on (0, 1)."""
        if self.bias == "fixed":
            return np.full(u.shape, float(self.scale))
        if self.bias == "sign":
            return np.where(u < 0.5, -self.scale, self.scale)
        return self.scale * (2 * u - 1) if self.bias == "uniform" else self.scale * ndtri(u)

    def sample(self, n: int, d: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Weights (n, d) and biases (n,)."""
        w = rng.standard_normal((n, d))
        w /= np.linalg.norm(w, axis=1)[:, None] if self.norm == "sphere" else math.sqrt(d)
        return w, self.biases(rng.uniform(EDGE, 1 - EDGE, n))


@lru_cache(maxsize=32)
def coordinates(norm: str, rank: int, rest: int, points: int, replicates: int, more: int = 0) -> tuple[np.ndarray, ...]:
    """Weights seen through a few coordinates, replicate after replicate; kept, since a scan asks for them again and again.

    Parameters
    ----------
    norm : {"sphere", "gaussian"}
    rank, rest : int
        Coordinates looked at, and all others: d = rank + rest.
    points, replicates : int
    more : int
        Further uniforms wanted.

    Returns
    -------
    w : ndarray, shape (replicates * points, rank + 1), or (.., rank) if there are no others
        The coordinates, then the norm of the others.
    bias : ndarray, shape (replicates * points,)
        Uniforms.
    further : ndarray, shape (replicates * points, more)
    """
    u = np.concatenate(uniforms(rank + 2 + more, points, replicates))
    w = ndtri(u[:, :rank])
    if rest:
        w = np.hstack([w, radius(u[:, rank], rest)[:, None]])
    w = np.ascontiguousarray(w / (np.linalg.norm(w, axis=1)[:, None] if norm == "sphere" else math.sqrt(rank + rest)))
    w.setflags(write=False)
    return w, u[:, rank + 1], u[:, rank + 2 :]


#: |w| = 1 and no bias.
UNBIASED = Initialisation()


def radius(u: np.ndarray, dimensions: int) -> np.ndarray:
    """Norm of a standard Gaussian vector, from uniforms."""
    return np.sqrt(chdtri(dimensions, u))


@lru_cache(maxsize=64)
def uniforms(dimensions: int, points: int = POINTS, replicates: int = REPLICATES) -> tuple[np.ndarray, ...]:
    """Scrambled Sobol points, shape (points, dimensions) per replicate, the same whenever they are asked for."""
    if points < 2 or points & (points - 1):
        raise ProblemError(f"points = {points} is not a power of two")
    out = []
    for seed in range(replicates):
        from scipy.stats import qmc  # slow to import
        u = qmc.Sobol(dimensions, scramble=True, seed=np.random.default_rng([seed, dimensions])).random(points)
        u = np.clip(u, EDGE, 1 - EDGE)
        u.setflags(write=False)
        out.append(u)
    return tuple(out)


def normals(u: np.ndarray) -> np.ndarray:
    """Standard normals from uniforms."""
    return ndtri(u)


def averaged(parts: Any, points: int = 0) -> Value:
    """Mean over replicates (the first axis) and three standard errors.

    With `points`, parts are fractions of so many points: if all or none of them count, the error is three events' worth.
    """
    parts = np.asarray(parts, dtype=float)
    mean, error = parts.mean(axis=0), 3 * parts.std(axis=0, ddof=1) / math.sqrt(len(parts))
    if points:
        error = np.maximum(error, ((mean == 0) | (mean == 1)) * 3 / (points * len(parts)))
    return Value(mean, error)
