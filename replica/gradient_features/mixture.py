"""Gaussian mixtures with labelled clusters: gradient, batch noise, Bayes error, and the few coordinates that matter.

References
----------
.. [1] Z. Shi, J. Wei, Y. Liang, arXiv:2310.12408, section on mixtures of Gaussians.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.special import erf, erfinv, ndtr

from solvers.half_spaces import mixture_gradients

from .base import ProblemError, Value, check, neurons
from .initial import normals, uniforms

#: Directions of smaller singular value, relative to the largest, are rounding.
FLAT = 1e-9


class GaussianMixture:
    """``x | j ~ N(mu_j, Sigma_j)`` with probability `weights[j]` and label `labels[j]`.

    Parameters
    ----------
    means : array_like, shape (clusters, d)
    labels : array_like of +-1, shape (clusters,)
    weights : array_like, shape (clusters,), optional
        Equal if left out.
    covariances : float, array_like of shape (clusters,), (d, d) or (clusters, d, d)
        A number stands for that variance in all directions.

    Raises
    ------
    ProblemError
        If a label is not +-1, weights are no probabilities, or a covariance is not symmetric and positive definite.
    """

    def __init__(self, means: Any, labels: Any, weights: Any = None, covariances: Any = 1.0) -> None:
        self.means = np.atleast_2d(np.asarray(means, dtype=float))
        count, d = self.means.shape
        if self.means.ndim != 2 or not np.isfinite(self.means).all() or not d:
            raise ProblemError(f"means of shape {np.shape(means)} are not one finite vector per cluster")
        self.labels = np.atleast_1d(np.asarray(labels, dtype=float))
        if self.labels.shape != (count,):
            raise ProblemError(f"labels of shape {self.labels.shape} do not fit {count} clusters")
        if wrong := [y for y in self.labels.tolist() if y not in (1.0, -1.0)]:
            raise ProblemError(f"labels has {wrong[0]:g}; labels are 1 or -1")
        self.weights = np.full(count, 1 / count) if weights is None else np.asarray(weights, dtype=float)
        if self.weights.shape != (count,) or not (self.weights > 0).all() or abs(self.weights.sum() - 1) > 1e-9:
            raise ProblemError(f"weights = {self.weights.tolist()} are not {count} positive numbers that sum to 1")
        self.covariances, self.isotropic = _covariances(covariances, count, d)

    @classmethod
    def xor(cls, d: int, mean: float, sigma: float = 1.0) -> GaussianMixture:
        """Clusters at +-mean e_1 labelled 1, at +-mean e_2 labelled -1, of equal weight."""
        d = check("d", d, 2, 10**7, whole=True, closed="[]")
        mean, sigma = check("mean", mean, 0, math.inf), check("sigma", sigma, 0, math.inf)
        means = np.zeros((4, d))
        means[0, 0], means[1, 0], means[2, 1], means[3, 1] = mean, -mean, mean, -mean
        return cls(means, [1, 1, -1, -1], covariances=sigma**2)

    @classmethod
    def pair(cls, d: int, mean: float, sigma: float = 1.0) -> GaussianMixture:
        """Clusters at mean e_1 labelled 1 and at -mean e_1 labelled -1."""
        d = check("d", d, 1, 10**7, whole=True, closed="[]")
        mean, sigma = check("mean", mean, 0, math.inf), check("sigma", sigma, 0, math.inf)
        means = np.zeros((2, d))
        means[0, 0], means[1, 0] = mean, -mean
        return cls(means, [1, -1], covariances=sigma**2)

    @property
    def dimension(self) -> int:
        return int(self.means.shape[1])

    @property
    def charges(self) -> np.ndarray:
        """Weight times label."""
        return self.weights * self.labels

    def full_covariances(self) -> np.ndarray:
        """Shape (clusters, d, d)."""
        if self.covariances is None:
            return self.isotropic[:, None, None] * np.eye(self.dimension)
        return self.covariances

    # ---------------------------------------------------------------- gradient and batch noise

    def gradient(self, w: Any, b: Any = 0.0) -> Value:
        """Exact: ``sum_j p_j y_j [mu_j Phi(t_j) + Sigma_j w phi(t_j)/sd_j]``; the error is rounding."""
        rows, biases = neurons(w, b, self.dimension)
        if self.covariances is None:
            return self._isotropic_gradient(rows, biases)
        out = np.empty_like(rows)
        mixture_gradients(rows, biases, self.means, self.charges, self.covariances, out)
        return Value(out, 1e-15 * (1 + np.abs(out).max(axis=1)))

    def _isotropic_gradient(self, w: np.ndarray, b: np.ndarray) -> Value:
        sd = np.sqrt(self.isotropic) * np.linalg.norm(w, axis=1)[:, None]
        t = (w @ self.means.T - b[:, None]) / sd
        density = np.exp(-(t**2) / 2) / math.sqrt(2 * math.pi)
        along = (self.charges * self.isotropic * density / sd).sum(axis=1)
        out = (self.charges * ndtr(t)) @ self.means + along[:, None] * w
        return Value(out, 1e-15 * (1 + np.abs(out).max(axis=1)))

    def second_moment(self, w: Any, b: Any = 0.0) -> Value:
        """``E[x x^T 1(w.x > b)]``, shape (neurons, d, d), exact."""
        rows, biases = neurons(w, b, self.dimension)
        total = np.zeros((len(rows), self.dimension, self.dimension))
        for p, mu, Sigma in zip(self.weights, self.means, self.full_covariances(), strict=True):
            v = rows @ Sigma
            sd = np.sqrt((v * rows).sum(axis=1))
            t = (rows @ mu - biases) / sd
            density = np.exp(-(t**2) / 2) / math.sqrt(2 * math.pi) / sd
            cross = v[:, :, None] * mu
            total += p * ndtr(t)[:, None, None] * (np.outer(mu, mu) + Sigma)
            total += (p * density)[:, None, None] * (cross + cross.transpose(0, 2, 1))
            total -= (p * t * density / sd)[:, None, None] * v[:, :, None] * v[:, None, :]
        return Value(total, 1e-15 * (1 + np.abs(total).max(axis=(1, 2))))

    # ---------------------------------------------------------------- data

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Inputs (n, d) and labels (n,)."""
        which = rng.choice(len(self.labels), size=n, p=self.weights)
        x = rng.standard_normal((n, self.dimension))
        if self.covariances is None:
            x *= np.sqrt(self.isotropic)[which, None]
        else:
            for j, Sigma in enumerate(self.covariances):
                x[which == j] = x[which == j] @ np.linalg.cholesky(Sigma).T
        return x + self.means[which], self.labels[which]

    def bayes_error(self, points: int = 2**12, replicates: int = 16) -> Value:
        """Least probability of a wrong label, ``1/2 - E|P(+|x) - P(-|x)|/2``, by quasi-Monte Carlo over the clusters.

        The error is three standard errors over scrambled replicates.  In many dimensions it is done in the coordinates of
        `Reduced`, when all clusters have the same variance outside them.
        """
        core = self.reduced
        small = core.mixture
        if core.rest and np.ptp(core.spreads) == 0 and small.dimension < self.dimension:
            if core.rank == 0:  # all clusters are the same
                return Value(float(min(self.weights[self.labels > 0].sum(), self.weights[self.labels < 0].sum())), 0.0)
            inner = small.full_covariances()[:, :-1, :-1]
            small = GaussianMixture(small.means[:, :-1], self.labels, self.weights, inner)
            return small._bayes_error(points, replicates)
        return self._bayes_error(points, replicates)

    def _bayes_error(self, points: int, replicates: int) -> Value:
        d = self.dimension
        roots = np.linalg.cholesky(self.full_covariances())
        found = []
        for u in uniforms(d, points, replicates):
            z = normals(u)
            wrong = 0.0
            for p, y, mu, root in zip(self.weights, self.labels, self.means, roots, strict=True):
                # P(the other label | x) averaged over x of this cluster
                share = self._label_share(mu + z @ root.T)
                wrong += p * np.where(y > 0, share < 0.5, share >= 0.5).mean()
            found.append(wrong)
        return Value(float(np.mean(found)), 3 * float(np.std(found, ddof=1)) / math.sqrt(replicates))

    def _label_share(self, x: np.ndarray) -> np.ndarray:
        """P(y = 1 | x)."""
        logs = []
        for p, mu, Sigma in zip(self.weights, self.means, self.full_covariances(), strict=True):
            root = np.linalg.cholesky(Sigma)
            white = np.linalg.solve(root, (x - mu).T)
            logs.append(math.log(p) - np.log(np.diag(root)).sum() - (white**2).sum(axis=0) / 2)
        scaled = np.exp(np.array(logs) - np.max(logs, axis=0))
        return scaled[self.labels > 0].sum(axis=0) / scaled.sum(axis=0)

    # ---------------------------------------------------------------- the coordinates that matter

    @cached_property
    def reduced(self) -> Reduced:
        """The mixture as G sees it: coordinates along means and unusual covariance directions, and one for all the rest."""
        return reduce_mixture(self)


@dataclass(frozen=True)
class Reduced:
    """A mixture in rank + 1 coordinates that hold all that a gradient depends on, whatever the dimension.

    Attributes
    ----------
    basis : ndarray, shape (d, rank)
        Orthonormal; spans the means and the directions in which a covariance is not that of the bulk.
    mixture : GaussianMixture
        In rank + 1 dimensions: the basis, then the direction of the rest of w (absent if nothing is left).
    spreads : ndarray, shape (clusters,)
        Variance outside the basis.
    rest : int
        Dimensions outside the basis.
    """

    basis: np.ndarray
    mixture: GaussianMixture
    spreads: np.ndarray
    rest: int

    @property
    def rank(self) -> int:
        return int(self.basis.shape[1])


def reduce_mixture(problem: GaussianMixture, extra: np.ndarray | None = None) -> Reduced:
    """Reduced coordinates; `extra` rows are directions the basis shall contain as well."""
    d = problem.dimension
    columns = [problem.means.T] if extra is None else [problem.means.T, max(np.abs(problem.means).max(), 1.0) * extra.T]
    if problem.covariances is None:
        spreads = problem.isotropic
    else:
        spectra, vectors = zip(*(np.linalg.eigh(Sigma) for Sigma in problem.covariances), strict=True)
        spreads = np.array([np.median(s) for s in spectra])
        columns += [v * (s - m) for s, v, m in zip(spectra, vectors, spreads, strict=True)]
    left, size, _ = np.linalg.svd(np.hstack(columns), full_matrices=False)
    rank = int((size > FLAT * max(size[0], 1e-300)).sum())
    basis = left[:, :rank]
    rest = d - rank
    inside = np.einsum("ik,jil,lm->jkm", basis, problem.full_covariances(), basis) if problem.covariances is not None else (
        problem.isotropic[:, None, None] * np.eye(rank))  # fmt: skip
    room = rank + (rest > 0)
    covariances = np.zeros((len(spreads), room, room))
    covariances[:, :rank, :rank] = (inside + inside.transpose(0, 2, 1)) / 2
    means = np.zeros((len(spreads), room))
    means[:, :rank] = problem.means @ basis
    if rest:
        covariances[:, rank, rank] = spreads
    small = GaussianMixture(means, problem.labels, problem.weights, covariances)
    return Reduced(basis, small, spreads, rest)


def _covariances(given: Any, count: int, d: int) -> tuple[np.ndarray | None, np.ndarray]:
    """Full covariances, or None and one variance per cluster."""
    raw = np.asarray(given, dtype=float)
    if raw.shape in ((), (count,)):
        variances = np.ascontiguousarray(np.broadcast_to(raw, (count,)))
        for j, v in enumerate(variances.tolist()):
            if not (v > 0 and math.isfinite(v)):
                raise ProblemError(f"covariances: cluster {j} has variance {v:g}, outside its range (0, inf)")
        return None, variances
    if raw.shape not in ((d, d), (count, d, d)):
        raise ProblemError(f"covariances have shape {raw.shape}; known are a number, ({count},), ({d}, {d}), ({count}, {d}, {d})")
    full = np.ascontiguousarray(np.broadcast_to(raw, (count, d, d)))
    for j, Sigma in enumerate(full):
        least = float(np.linalg.eigvalsh(Sigma)[0]) if np.isfinite(Sigma).all() else math.nan
        if not np.allclose(Sigma, Sigma.T, rtol=1e-10, atol=1e-12) or not least > 0:
            raise ProblemError(f"covariances: cluster {j} is not symmetric positive definite (least eigenvalue {least:g})")
    return full, np.full(count, math.nan)


def xor_limit(m: float, gamma: float) -> Value:
    """Hit probability of one mean direction of XOR at b = 0, d -> infinity with |mean| = m sigma sqrt(d).

    ``Pr(|erf(m Zb/sqrt 2)| < tan(arccos(1 - gamma)) |erf(m Za/sqrt 2)|)``; for m -> 0, ``(2/pi) arctan tan(arccos(1 - gamma))``.
    """
    m, gamma = check("m", m, 0, math.inf, closed="["), check("gamma", gamma, 0, 1)
    slope = math.tan(math.acos(1 - gamma))
    if m == 0:
        return Value(2 / math.pi * math.atan(slope), 1e-16)

    def inside(a: float) -> float:
        """Density of |Za| times P(|Zb| below the border)."""
        border = slope * erf(m * a / math.sqrt(2))
        most = 1.0 if border >= 1 else erf(math.sqrt(2) / m * erfinv(border) / math.sqrt(2))
        return math.sqrt(2 / math.pi) * math.exp(-a * a / 2) * most

    corner = erfinv(1 / slope) * math.sqrt(2) / m if slope > 1 else math.inf
    pieces = [0.0, *([corner] if 0 < corner < 9 else []), 9.0]
    from scipy.integrate import quad  # slow to import
    parts = [quad(inside, lo, hi, epsabs=1e-12, epsrel=1e-12, limit=200) for lo, hi in pairwise(pieces)]
    return Value(float(sum(p[0] for p in parts)), float(sum(p[1] for p in parts)) + 1e-15)


def xor_bayes_error(mean: float, sigma: float = 1.0) -> float:
    """``2 q (1 - q)`` with ``q = Phi(-mean/(sigma sqrt 2))``."""
    q = float(ndtr(-mean / (sigma * math.sqrt(2))))
    return 2 * q * (1 - q)
