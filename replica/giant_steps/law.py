"""Law over neurons of one gradient step at n = alpha d^l, l >= 2: neurons specialise, each to its own direction.

A neuron whose overlap with the teacher space is ``zeta/sqrt(d)``, zeta ~ N(0, I_r), moves along
``v = c_l/(l-1)! C_l[., zeta, ..., zeta]``.  Averages over zeta split into radius and direction, since v is homogeneous.

References
----------
.. [1] Y. Dandi et al., arXiv:2305.18270; docs/theory/giant_steps.md, A3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import brentq
from scipy.special import chdtr, ndtri

Array = np.ndarray

#: Directions per angle of the coarse rule; the fine rule has twice as many.
ANGLES = 96
#: Random directions, as a power of two, and independent sets of them, where the teacher space has more than 3 dimensions.
QMC_POWER, QMC_SETS = 12, 8


@dataclass(frozen=True)
class NeuronLaw:
    """Law of the gradient direction over neurons.

    Attributes
    ----------
    tensor : ndarray, shape (r,) * l
        E[grad^l g], symmetric, not zero.
    coefficient : float
        c_l = E[He_l s] of the activation.
    """

    tensor: Array
    coefficient: float

    @property
    def order(self) -> int:
        return self.tensor.ndim

    @cached_property
    def range_basis(self) -> Array:
        """Orthonormal rows that span the range of the tensor: the only teacher directions that are learned."""
        rows = self.tensor.reshape(len(self.tensor), -1)
        left, size, _ = np.linalg.svd(rows, full_matrices=False)
        return left[:, size > 1e-10 * size[0]].T

    def _samples(self, level: int) -> list[tuple[Array, Array]]:
        """Directions v at |zeta| = 1 and weights; one rule, or independent random ones."""
        basis = self.range_basis
        out = []
        for omega, weight in directions(len(basis), level):
            v, scale = self.tensor, self.coefficient / math.factorial(self.order - 1)
            zeta = omega @ basis
            v = np.broadcast_to(v, (len(zeta), *v.shape))
            for _ in range(self.order - 1):
                v = np.einsum("n...i,ni->n...", v, zeta)
            out.append((scale * v, weight))
        return out

    def share(self, noise: float) -> tuple[Array, float]:
        """E[v v^T / (|v|^2 + noise)] and its error estimate; the trace is the mean cos^2.

        Parameters
        ----------
        noise : float
            Batch noise T/alpha, in [0, inf].

        Returns
        -------
        share : ndarray, shape (r, r)
        error : float
        """
        coarse, fine = (self._share(noise, level) for level in (0, 1))
        if len(fine) > 1:
            return np.mean(fine, axis=0), 3.0 * float(np.max(np.std(fine, axis=0, ddof=1))) / math.sqrt(len(fine))
        return fine[0], float(np.max(np.abs(fine[0] - coarse[0]))) + 1e-14

    def _share(self, noise: float, level: int) -> list[Array]:
        r = len(self.range_basis)
        radius, weight = radial_rule(r, 1 + level)
        found = []
        for v, w in self._samples(level):
            size = np.sum(v**2, axis=1)
            part = np.zeros(len(v))
            for rho, radial in zip(radius, weight, strict=True):
                growth = rho ** (2 * (self.order - 1))
                # v = 0 and noise = 0 together are a set of measure zero
                part += radial * growth / np.maximum(growth * size + noise, 1e-300)
            found.append(np.einsum("n,ni,nj->ij", w * part, v, v))
        return found

    def quantile(self, probability: float, noise: float) -> float:
        """cos^2 below which the given fraction of neurons lies."""
        x = self.energy_quantile(probability)
        return x / (x + noise) if x > 0 else 0.0

    def energy_quantile(self, probability: float) -> float:
        """The same for |v|^2."""
        samples = self._samples(1)
        size = np.concatenate([np.sum(v**2, axis=1) for v, _ in samples])
        weight = np.concatenate([w for _, w in samples]) / len(samples)
        r, m = len(self.range_basis), self.order - 1
        scale = float(weight @ size) ** (1 / m)

        def excess(log_square: float) -> float:
            with np.errstate(divide="ignore"):
                return float(weight @ chdtr(r, scale * math.exp(log_square) / size ** (1 / m))) - probability

        return (scale * math.exp(brentq(excess, -80.0, 20.0, xtol=1e-13))) ** m

    def finite_quantiles(self, probabilities: Sequence[float], noise: float, d: float) -> list[float]:
        """Quantiles of cos^2 when batch noise of variance noise/d enters each teacher direction; accurate to about 1e-3.

        Given X = |v|^2, ``cos^2 (X + noise) d/noise`` is non-central chi^2 with r degrees of freedom (of the whole space).
        """
        from scipy.stats import ncx2  # slow to import

        r, x = len(self.tensor), self._energies()
        degree = x * d / noise

        def below(q: float) -> float:
            return float(np.mean(ncx2.cdf(q * (x + noise) * d / noise, r, degree)))

        return [float(brentq(lambda q, p=p: below(q) - p, 0.0, 1.5, xtol=1e-9)) for p in probabilities]

    def _energies(self, count: int = 256) -> Array:
        """|v|^2 at equally likely levels, by inverting its distribution function on a grid."""
        v, weight = self._samples(-1 if len(self.range_basis) == 3 else 0)[0]
        size, m = np.sum(v**2, axis=1), self.order - 1
        square = np.geomspace(1e-12, 200.0, 500)
        root = (size / float(weight @ size)) ** (1 / m)
        with np.errstate(divide="ignore"):
            cdf = np.array([float(weight @ chdtr(len(self.range_basis), s / root)) for s in square])
        wanted = (np.arange(count) + 0.5) / count
        grown = np.concatenate([[True], np.diff(np.maximum.accumulate(cdf)) > 1e-14])
        return float(weight @ size) * np.exp(m * np.interp(wanted, cdf[grown], np.log(square[grown])))


def directions(r: int, level: int) -> list[tuple[Array, Array]]:
    """Unit vectors and weights for averages over the sphere in r dimensions.

    One product rule for r <= 3; for more, independent scrambled Sobol sets whose scatter is the error.
    """
    count = round(ANGLES * 2.0**level)
    if r == 1:
        return [(np.array([[1.0], [-1.0]]), np.array([0.5, 0.5]))]
    angle = (np.arange(2 * count) + 0.5) * (math.pi / count)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    if r == 2:
        return [(circle, np.full(2 * count, 0.5 / count))]
    if r == 3:
        height, weight = np.polynomial.legendre.leggauss(count)
        flat = np.sqrt(1 - height**2)[:, None, None] * circle
        vectors = np.concatenate([flat, np.broadcast_to(height[:, None, None], (count, 2 * count, 1))], axis=2)
        return [(vectors.reshape(-1, 3), np.repeat(weight / 2, 2 * count) / (2 * count))]
    from scipy.stats import qmc  # slow to import

    found = []
    for seed in range(QMC_SETS):
        points = qmc.Sobol(r, rng=np.random.default_rng(seed)).random_base2(QMC_POWER + level)
        normal = ndtri(np.clip(points, 1e-16, 1 - 1e-16))
        found.append((normal / np.linalg.norm(normal, axis=1, keepdims=True), np.full(len(normal), 1 / len(normal))))
    return found


def radial_rule(r: int, level: int) -> tuple[Array, Array]:
    """Radii and weights of the chi law with r degrees of freedom: trapezoidal in log radius."""
    step = 0.1 / level
    s = np.arange(-40.0 / r, 2.6, step)
    log_density = r * s - np.exp(2 * s) / 2 - (r / 2 - 1) * math.log(2) - math.lgamma(r / 2)
    return np.exp(s), step * np.exp(log_density)
