"""Cones around directions: how often a random neuron's gradient falls into one, which directions gradients prefer, and batches.

A direction is a unit vector D, its cone ``{u: |u.D| > (1 - gamma)|u|}``; the gradient feature set S_{p, gamma, B} holds the
directions (and bias signs) that a random neuron hits with probability at least p by a gradient of norm at least B.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtr

from .base import Problem, ProblemError, Value, check
from .dictionary import Dictionary
from .initial import POINTS, REPLICATES, UNBIASED, Initialisation, averaged, coordinates, normals, radius, uniforms
from .mixture import GaussianMixture, reduce_mixture
from .parity import SparseParity, leading_order

#: Steps of the mean shift that moves a candidate to the middle of its cone.
SHIFTS = 12
#: Relative error of sampled gradients, far below the width of any cone of use; a tiny gradient gets no more than these nodes.
ROUGH, ROUGH_NODES = 1e-4, 4096


@dataclass(frozen=True)
class Feature:
    """A direction that gradients prefer.

    Attributes
    ----------
    direction : ndarray, shape (d,)
        Of unit norm; its sign means nothing.
    sign : int
        Of the bias; 0 if both count.
    probability : Value
        Of a random neuron's gradient being in its cone, long enough, with this sign.
    """

    direction: np.ndarray
    sign: int
    probability: Value


def unit(direction: Any, dimension: int) -> np.ndarray:
    """A direction as a unit vector; ProblemError if it is none."""
    D = np.asarray(direction, dtype=float)
    size = float(np.linalg.norm(D)) if D.shape == (dimension,) else math.nan
    if not (math.isfinite(size) and size > 0):
        raise ProblemError(f"direction of shape {D.shape} is not a vector of {dimension} finite components that is not 0")
    return D / size


# ---------------------------------------------------------------- mixtures: an integral over few coordinates


def mixture_hits(
    problem: GaussianMixture,
    directions: Any,
    gamma: float,
    init: Initialisation = UNBIASED,
    *,
    least: float = 0.0,
    batch: float = math.inf,
    sign: int = 0,
    points: int = POINTS,
    replicates: int = REPLICATES,
) -> Value:
    """Probability that the gradient of a random neuron is in the cone around each direction.

    An integral over rank + 2 coordinates whatever the dimension: those of `Reduced`, the norm of the rest of w, and the bias.

    Parameters
    ----------
    problem : GaussianMixture
    directions : array_like, shape (directions, d)
    gamma : float
        In (0, 1).
    init : Initialisation
    least : float
        B: shorter gradients do not count.
    batch : float
        Samples per gradient.  A finite batch adds Gaussian noise of the exact covariance (central limit law).
    sign : {-1, 0, 1}
        Count neurons with this sign of the bias only.
    points, replicates : int
        Quasi-Monte Carlo points; the error is three standard errors over the replicates.

    Returns
    -------
    Value
        Arrays of shape (directions,).
    """
    hits = mixture_indicators(problem, directions, gamma, init, least=least, batch=batch, sign=sign, points=points,
                              replicates=replicates)  # fmt: skip
    return averaged(hits.mean(axis=1), points)


def mixture_indicators(
    problem: GaussianMixture, directions: Any, gamma: float, init: Initialisation = UNBIASED, *, least: float = 0.0,
    batch: float = math.inf, sign: int = 0, points: int = POINTS, replicates: int = REPLICATES,
) -> np.ndarray:  # fmt: skip
    """Which points of the integral of `mixture_hits` are hits: bool, shape (replicates, points, directions)."""
    gamma = check("gamma", gamma, 0, 1)
    found, counts = mixture_cosines(problem, directions, init, least=least, batch=batch, sign=sign, points=points,
                                    replicates=replicates)  # fmt: skip
    return (found > 1 - gamma) & counts


def mixture_cosines(
    problem: GaussianMixture, directions: Any, init: Initialisation = UNBIASED, *, least: float = 0.0,
    batch: float = math.inf, sign: int = 0, points: int = POINTS, replicates: int = REPLICATES,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """The law of |cos(G, D)| over neurons, and over batches if they are finite, as a sample of equal weights.

    Parameters are those of `mixture_hits`.

    Returns
    -------
    cosines : ndarray, shape (replicates, points, directions)
    counts : ndarray of bool, shape (replicates, points, 1)
        Whether the gradient is long enough, and the bias has the wanted sign.
    """
    least = check("least", least, 0, math.inf, closed="[")
    batch = check("batch", batch, 1, math.inf, closed="[]")
    units = np.array([unit(D, problem.dimension) for D in np.atleast_2d(np.asarray(directions, dtype=float))])
    core, inside = _with_directions(problem, units)
    room = core.mixture.dimension
    more = 0 if math.isinf(batch) else room + 1
    w, bias, further = coordinates(init.norm, core.rank, core.rest, points, replicates, more)
    b = init.biases(bias)
    g = core.mixture.gradient(w, b).value
    square = np.einsum("ij,ij->i", g, g)
    if math.isfinite(batch):
        g, outside = _noisy(core, w, b, g, batch, further)
        square = (g**2).sum(axis=1) + outside**2
    length = np.sqrt(square)[:, None]
    along = np.abs(g[:, : core.rank] @ inside.T)
    found = np.divide(along, length, out=np.zeros_like(along), where=length > 0)
    counts = (square >= least**2) & _has_sign(b, sign)
    return found.reshape(replicates, points, -1), counts.reshape(replicates, points, 1)


def _with_directions(problem: GaussianMixture, units: np.ndarray) -> tuple[Any, np.ndarray]:
    """Reduced coordinates that contain the directions too, and the directions in them."""
    core = problem.reduced
    inside = units @ core.basis
    if (outside := np.linalg.norm(units - inside @ core.basis.T, axis=1)).max() > 1e-9:
        # a direction off the basis: a cluster mean of weight nothing would widen it, so widen it by hand
        core = reduce_mixture(problem, extra=units[outside > 1e-9])
        inside = units @ core.basis
    return core, inside


def _noisy(
    core: Any, w: np.ndarray, b: np.ndarray, g: np.ndarray, batch: float, u: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of a batch in reduced coordinates, and the length of what the noise adds outside them."""
    room = core.mixture.dimension
    covariance = core.mixture.second_moment(w, b).value - g[:, :, None] * g[:, None, :]
    root = np.linalg.cholesky(covariance + 1e-14 * np.trace(covariance, axis1=1, axis2=2)[:, None, None] * np.eye(room))
    noisy = g + np.einsum("ijk,ik->ij", root, normals(u[:, :room])) / math.sqrt(batch)
    left = core.rest - 1  # dimensions orthogonal to the basis and to w
    if left < 1:
        return noisy, np.zeros(len(g))
    small = core.mixture
    sd = np.sqrt(np.einsum("ij,cjk,ik->ic", w, small.full_covariances(), w))
    active = ndtr((w @ small.means.T - b[:, None]) / sd)
    bulk = active @ (small.weights * core.spreads)
    return noisy, np.sqrt(bulk / batch) * radius(u[:, room], left)


def _has_sign(b: np.ndarray, sign: int) -> np.ndarray:
    if sign not in (-1, 0, 1):
        raise ProblemError(f"sign = {sign!r} is not one of -1, 0, 1")
    return np.ones(len(b), dtype=bool) if sign == 0 else np.sign(b) == sign


# ---------------------------------------------------------------- parities


def parity_hits(
    D: float,
    k: int,
    gamma: float,
    beta: float = 0.0,
    *,
    least: float = 0.0,
    batch: float = math.inf,
    points: int = POINTS,
    replicates: int = REPLICATES,
) -> Value:
    """Hit probability of the sum of the relevant dictionary elements of a uniform parity, to leading order in 1/D.

    Within the relevant coordinates the gradient is along ``1/q_j``, not along their sum; at D = inf this is a k-dimensional
    integral, and for k = 2 it is ``(2/pi) arccos(1 - gamma)``.  A finite D adds what background coordinates see; a finite batch
    adds isotropic noise of variance ``Phi(-beta)/batch`` per coordinate.  Both are right up to relative corrections k^2/D.

    Parameters
    ----------
    D : float
        Whole, or inf.
    k : int
    gamma : float
        In (0, 1).
    beta : float
        Bias in units of |w|.  Gradients vanish at zeros of ``He_{k-2}`` (odd k at beta = 0).
    least : float
        Shorter gradients do not count; with D = inf it must be 0.
    batch : float
    """
    k = check("k", k, 1, 64, whole=True, closed="[]")
    gamma = check("gamma", gamma, 0, 1)
    beta, least = check("beta", beta, -math.inf, math.inf), check("least", least, 0, math.inf, closed="[")
    batch = check("batch", batch, 1, math.inf, closed="[]")
    if not math.isinf(D):
        D = check("D", D, k, math.inf, whole=True, closed="[")
    elif least > 0 or math.isfinite(batch):
        raise ProblemError("at D = inf gradients have no length: least must be 0 and batch inf")
    found: list[Any] = []
    for u in uniforms(k + 1 + 2, points, replicates):
        q = normals(u[:, :k])
        if math.isinf(D):
            inverse = 1 / q
            cosine = np.abs(inverse.sum(axis=1)) / np.linalg.norm(inverse, axis=1) / math.sqrt(k)
            found.append((cosine > 1 - gamma).mean())
            continue
        square = (q**2).sum(axis=1) + (radius(u[:, k], int(D) - k) ** 2 if D > k else 0.0)
        g, background = leading_order(q, np.sqrt(square), np.full(len(q), beta))
        along, across = g.sum(axis=1) / math.sqrt(k), (g**2).sum(axis=1) + background**2
        if math.isfinite(batch) and D > 1:
            noise = math.sqrt(ndtr(-beta) / batch)
            off = np.sqrt(np.maximum(0.0, across - along**2)) + noise * normals(u[:, k + 1])
            along = along + noise * normals(u[:, k + 2])
            # signal and one noise component off the direction, then the length of all the other noise, near its mean
            across = along**2 + off**2 + noise**2 * (D - 2)
        found.append(((np.abs(along) > (1 - gamma) * np.sqrt(across)) & (across >= least**2) & (across > 0)).mean())
    return averaged(found, points)


# ---------------------------------------------------------------- any problem: sampled neurons


def sampled_gradients(
    problem: Problem, count: int, seed: int = 0, init: Initialisation = UNBIASED, batch: float = math.inf
) -> tuple[np.ndarray, np.ndarray]:
    """Population gradients (or, with a finite batch, draws of their central limit law) of random neurons, and the biases."""
    rng = np.random.default_rng(seed)
    w, b = init.sample(check("count", count, 1, 10**7, whole=True, closed="[]"), problem.dimension, rng)
    if math.isinf(batch):
        return problem.gradient(w, b, **_rough(problem)).value, b
    return np.array([batch_gradients(problem, row, bias, batch, 1, rng)[0] for row, bias in zip(w, b, strict=True)]), b


def _rough(problem: Problem) -> dict[str, Any]:
    """Options of gradients that are integrals: sampled neurons need few digits."""
    return {"rtol": ROUGH, "max_nodes": ROUGH_NODES} if isinstance(problem, SparseParity | Dictionary) else {}


def batch_gradients(
    problem: Problem, w: np.ndarray, b: float, batch: float, draws: int, rng: np.random.Generator
) -> np.ndarray:
    """Draws of the gradient of one neuron on a batch, by the central limit law ``N(G, C/batch)``.

    Its cosine with a direction must be sampled: the ratio of mean squares is too high where C is anisotropic.
    """
    batch = check("batch", batch, 1, math.inf, closed="[")
    rough = _rough(problem)
    g = problem.gradient(w, b, **rough).value[0]
    covariance = problem.second_moment(w, b, **rough).value[0] - np.outer(g, g)
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    return g + rng.standard_normal((draws, len(g))) @ root.T / math.sqrt(batch)


def cosines(gradients: np.ndarray, direction: Any) -> np.ndarray:
    """Cosine of every row with a direction; 0 for a gradient that vanishes."""
    D = unit(direction, gradients.shape[1])
    length = np.linalg.norm(gradients, axis=1)
    return np.divide(gradients @ D, length, out=np.zeros(len(length)), where=length > 0)


def sampled_hits(
    gradients: np.ndarray, biases: np.ndarray, direction: Any, gamma: float, *, least: float = 0.0, sign: int = 0
) -> Value:
    """Fraction of rows in a cone, and three binomial standard errors (at least one hit's worth)."""
    gamma, least = check("gamma", gamma, 0, 1), check("least", least, 0, math.inf, closed="[")
    long = np.linalg.norm(gradients, axis=1) >= least
    hits = (np.abs(cosines(gradients, direction)) > 1 - gamma) & long & _has_sign(biases, sign)
    p = float(hits.mean())
    return Value(p, 3 * math.sqrt(max(p * (1 - p), 1 / len(hits)) / len(hits)))


def hit_probability(
    problem: Problem, direction: Any, gamma: float, init: Initialisation = UNBIASED, *, least: float = 0.0,
    batch: float = math.inf, sign: int = 0, count: int = 4096, seed: int = 0,
) -> Value:  # fmt: skip
    """Probability that a random neuron's gradient is in a cone: an integral for mixtures, sampled otherwise.

    `batch` is that of `mixture_hits`; `count` and `seed` belong to the sampled neurons.
    """
    if isinstance(problem, GaussianMixture):
        p = mixture_hits(problem, [direction], gamma, init, least=least, batch=batch, sign=sign)
        return Value(float(p.value[0]), float(p.error[0]))
    g, b = sampled_gradients(problem, count, seed, init, batch)
    return sampled_hits(g, b, direction, gamma, least=least, sign=sign)


def dominant_directions(gradients: np.ndarray, gamma: float, least: float, most: int = 20) -> list[np.ndarray]:
    """Directions whose cones hold the largest fractions of a sample of gradients, largest first.

    Greedy: the fullest cone around any sampled gradient, moved to the middle of its members, which are then set aside.

    Parameters
    ----------
    gradients : ndarray, shape (sample, d)
    gamma : float
    least : float
        Stop at cones with a smaller fraction of the sample.
    most : int
        Stop after this many.
    """
    gamma = check("gamma", gamma, 0, 1)
    length = np.linalg.norm(gradients, axis=1)
    left = gradients[length > 0] / length[length > 0, None]
    total = len(gradients)
    found: list[np.ndarray] = []
    while len(left) and len(found) < most:
        inside = np.abs(left @ left.T) > 1 - gamma
        best = int(inside.sum(axis=1).argmax())
        if inside[best].sum() < least * total:
            break
        D, members = left[best], inside[best]
        for _ in range(SHIFTS):
            middle = np.linalg.svd(left[members], full_matrices=False)[2][0]
            moved = np.abs(left @ middle) > 1 - gamma
            if moved.sum() < members.sum():  # the middle of a lopsided cone may hold fewer
                break
            D, settled, members = middle, bool((moved == members).all()), moved
            if settled:
                break
        left = left[~members]
        if all(abs(D @ other) <= 1 - gamma for other in found):  # else the rim of a cone that is already there
            found.append(D)
    return found


def feature_set(
    problem: Problem,
    p: float,
    gamma: float,
    init: Initialisation = UNBIASED,
    *,
    least: float = 0.0,
    batch: float = math.inf,
    count: int = 1024,
    seed: int = 0,
) -> list[Feature]:
    """The gradient feature set S_{p, gamma, B}, its directions found automatically; none is in the cone of another.

    Directions come from one sample of neurons, their probabilities from an integral or an independent sample, so that the choice
    does not flatter them.

    Parameters
    ----------
    problem : Problem
    p : float
        Least probability, in (0, 1].
    gamma : float
    init : Initialisation
    least : float
        B, the least norm.
    batch : float
        Samples per gradient; a finite batch enters by the central limit law.
    count, seed : int
        Neurons sampled, and their seed.
    """
    p = check("p", p, 0, 1, closed="]")
    g, b = sampled_gradients(problem, count, seed, init, check("batch", batch, 1, math.inf, closed="[]"))
    signs = [s for s in (-1, 1) if (np.sign(b) == s).any()] or [0]
    features = []
    for sign in signs:
        kept = g[(np.linalg.norm(g, axis=1) >= least) & ((np.sign(b) == sign) | (sign == 0))]
        share = len(kept) / len(g)
        for D in dominant_directions(kept, gamma, p / share / 2) if share else []:
            found = hit_probability(problem, D, gamma, init, least=least, batch=batch, sign=sign, count=4 * count, seed=seed + 1)
            if found.value >= p:
                features.append(Feature(D, sign, found))
    return sorted(features, key=lambda f: -f.probability.value)


# ---------------------------------------------------------------- dictionaries: one and two steps on a batch


@dataclass(frozen=True)
class StepLaw:
    """Law of the cosine with the relevant direction after a step on a batch: ``(signal + u)/|...|``, u Gaussian.

    Attributes
    ----------
    signal : float
        Mean component along the direction.
    along, across : float
        Variance of the noise along it, and the summed variance in the `rest` other dimensions.
    rest : int
    """

    signal: float
    along: float
    across: float
    rest: int

    def mean_cosine(self, points: int = POINTS, replicates: int = REPLICATES) -> Value:
        """E|cos|."""
        return averaged([np.abs(self._cosines(u)).mean() for u in uniforms(2, points, replicates)])

    def hits(self, gamma: float, points: int = POINTS, replicates: int = REPLICATES) -> Value:
        """P(|cos| > 1 - gamma)."""
        gamma = check("gamma", gamma, 0, 1)
        return averaged([(np.abs(self._cosines(u)) > 1 - gamma).mean() for u in uniforms(2, points, replicates)], points)

    def _cosines(self, u: np.ndarray) -> np.ndarray:
        x = self.signal + math.sqrt(self.along) * normals(u[:, 0])
        size = np.sqrt(x**2 + self.across * radius(u[:, 1], self.rest) ** 2 / self.rest)
        return np.divide(x, size, out=np.zeros(len(x)), where=size > 0)


def dictionary_step(problem: Dictionary, batch: float, step: int) -> StepLaw:
    """Step 0, 1 or 2 at large D and bias 0.

    Step 0 is a random direction.  A first-step neuron sees the half of the batch on which it is active: signal
    ``slope sqrt(k)/(2 sig)``, noise 1/(2 batch).  In the second step, with small weights and large injected noise, every sample
    counts alike: twice the signal, twice the noise, so cos^2 = n S/(n S + 1) instead of n S/(n S + 2).  Labels that are not
    balanced add ``E y`` times the mean active input, along the neuron's own random weight, to the first step.
    """
    batch = check("batch", batch, 1, math.inf, closed="[]")
    along, rest = problem.variance_along, problem.D - 1
    if rest < 1:
        raise ProblemError("D = 1 has no direction but one")
    if step not in (0, 1, 2):
        raise ProblemError(f"step = {step!r} is not one of 0, 1, 2")
    if step == 0:
        return StepLaw(0.0, 1.0, float(rest), rest)
    active = 0.5 if step == 1 else 1.0
    own = problem.balance**2 / (2 * math.pi * problem.D) if step == 1 else 0.0
    return StepLaw(
        active * math.sqrt(problem.signal), active * along / batch + own / problem.D, active * (1 - along) / batch + own, rest
    )
