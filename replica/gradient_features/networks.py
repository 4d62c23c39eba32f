"""What a two-layer network achieves after one gradient step and a second-layer fit: predictions.

A mixture is predicted in a reduced model: inputs enter through the coordinates of `mixture.Reduced`, and through Gaussian
projections on whatever parts of the neurons lie outside them.  The experiments beside it are in `experiments`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import lstsq
from scipy.special import ndtr

from .base import ProblemError, Value, check
from .cones import StepLaw, dictionary_step, unit
from .dictionary import Dictionary
from .initial import UNBIASED, Initialisation
from .mixture import GaussianMixture, Reduced

#: How neurons are chosen and trained.
FEATURES = ("gradient", "random", "ticket")
#: Smallest singular value the fit keeps, relative to the largest: pairs of parallel neurons are nearly dependent.
KEEP = 1e-8
#: Relative variance that stands for none, where a covariance must be positive definite.
TINY = 1e-12


@dataclass(frozen=True)
class Setting:
    """One experiment: neurons in pairs +-w of opposite readout, one step on a batch, a least-squares readout on fresh samples.

    Attributes
    ----------
    pairs : int
    batch : float
        Samples of the step; inf for the population gradient (predictions only).
    fit, test : int
        Samples the readout is fitted to, and tested on.
    features : {"gradient", "random", "ticket"}
        The weights after the step; those before it; or those after it of the best neuron per direction among `pool`, chosen by
        the cosine of its gradient *at initialisation* (``pairs`` is then the number of directions).
    pool : int
    init : Initialisation
    """

    pairs: int
    batch: float = math.inf
    fit: int = 4000
    test: int = 4000
    features: str = "gradient"
    pool: int = 0
    init: Initialisation = UNBIASED

    def __post_init__(self) -> None:
        check("pairs", self.pairs, 1, 10**5, whole=True, closed="[]")
        check("batch", self.batch, 1, math.inf, closed="[]")
        check("fit", self.fit, 2, 10**8, whole=True, closed="[]")
        check("test", self.test, 2, 10**8, whole=True, closed="[]")
        if self.features not in FEATURES:
            raise ProblemError(f"unknown features {self.features!r}; known are {', '.join(FEATURES)}")
        if self.features == "ticket" and self.pool < 1:
            raise ProblemError(f"pool = {self.pool} is outside its range [1, inf): a ticket is drawn from a pool of neurons")


def readout_accuracy(features: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray) -> float:
    """Accuracy of the sign of a least-squares readout with intercept; a prediction of 0 counts one half."""
    scale = np.sqrt((features**2).mean(axis=0))
    scale[scale == 0] = 1.0

    def with_one(f: np.ndarray) -> np.ndarray:
        return np.hstack([f / scale, np.ones((len(f), 1))])

    a = lstsq(with_one(features), labels, cond=KEEP, lapack_driver="gelsy", check_finite=False)[0]
    return float(((np.sign(with_one(test) @ a) * truth + 1) / 2).mean())


def relu_pairs(projections: np.ndarray) -> np.ndarray:
    """ReLU features of +-w."""
    return np.maximum(np.hstack([projections, -projections]), 0.0)


# ---------------------------------------------------------------- mixtures: the reduced model


def predicted_accuracy(
    problem: GaussianMixture, setting: Setting, directions: Any = None, *, draws: int = 16, seed: int = 0
) -> Value:
    """Mean accuracy over random neurons (and batches), in the reduced model.

    Given its cluster, the activations of different neurons on a sample are taken as independent of each other and of the sample,
    which is right up to O(1/sqrt d); only a finite batch makes use of it.

    Parameters
    ----------
    problem : GaussianMixture
    setting : Setting
    directions : array_like, shape (pairs, d)
        For tickets: one neuron is chosen per direction.
    draws, seed : int
        Independent draws of everything; the error is three standard errors of their mean.
    """
    draws = check("draws", draws, 2, 10**6, whole=True, closed="[]")
    core = problem.reduced
    inside = None
    if setting.features == "ticket":
        inside = np.array([unit(D, problem.dimension) for D in np.atleast_2d(directions)]) @ core.basis
        if len(inside) != setting.pairs:
            raise ProblemError(f"pairs = {setting.pairs} but there are {len(inside)} directions")
    streams = np.random.SeedSequence(seed).spawn(draws)
    found = np.array([_one_draw(core, setting, inside, np.random.default_rng(s)) for s in streams])
    return Value(float(found.mean()), 3 * float(found.std(ddof=1)) / math.sqrt(draws))


def _one_draw(core: Any, setting: Setting, inside: np.ndarray | None, rng: np.random.Generator) -> float:
    count = setting.pairs if inside is None else setting.pool
    # coordinates of w, and the rest of it as actual vectors, so that overlaps between neurons are those of a real network
    z, e = rng.standard_normal((count, core.rank)), rng.standard_normal((count, core.rest))
    size = np.sqrt((z**2).sum(axis=1) + (e**2).sum(axis=1)) if setting.init.norm == "sphere" else np.full(
        count, math.sqrt(core.rank + core.rest))  # fmt: skip
    z, e = z / size[:, None], e / size[:, None]
    b = setting.init.biases(rng.uniform(1e-12, 1 - 1e-12, count))
    if setting.features == "random":
        along, across = z, e
    else:
        along, across = _step(core, z, e, b, setting.batch, rng)
        if inside is not None:
            size = np.sqrt((along**2).sum(axis=1) + (across**2).sum(axis=1))
            best = np.abs(along @ inside.T / size[:, None]).argmax(axis=0)
            along, across = _step(core, z[best], e[best], b[best], setting.batch, rng)
    sets = []
    for n in (setting.fit, setting.test):
        u, y = _fields(core, along, across, n, rng)
        sets += [relu_pairs(u), y]
    return readout_accuracy(*sets)


def _fields(
    core: Any, along: np.ndarray, across: np.ndarray, n: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """What neurons see of n inputs, and their labels: projections outside the basis are Gaussian with the neurons' overlaps."""
    size, vectors = np.linalg.eigh(across @ across.T)
    root = vectors * np.sqrt(np.maximum(size, 0.0))
    x, y, scale = _inputs(core, n, rng)
    outside = rng.standard_normal((n, len(root))) @ root.T * scale[:, None] if core.rest else 0.0
    return x @ along.T + outside, y


def _inputs(core: Any, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs on the basis, labels, and the standard deviation outside it."""
    small = core.mixture
    which = rng.choice(len(small.labels), size=n, p=small.weights)
    roots = np.linalg.cholesky(small.full_covariances())[:, : core.rank, : core.rank]
    x = small.means[which, : core.rank]
    noise = rng.standard_normal((n, core.rank))
    for j, root in enumerate(roots):
        x[which == j] += noise[which == j] @ root.T
    return x, small.labels[which], np.sqrt(core.spreads[which])


def _step(
    core: Any, z: np.ndarray, e: np.ndarray, b: np.ndarray, batch: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients on the basis and outside it."""
    small = core.mixture
    length = np.linalg.norm(e, axis=1)
    w = np.hstack([z, length[:, None]]) if core.rest else z
    g = small.gradient(w, b).value
    along = g[:, : core.rank].copy()
    across = g[:, core.rank :] * e / length[:, None] if core.rest else np.zeros((len(z), 0))
    if math.isinf(batch):
        return along, across
    sd = np.sqrt(np.einsum("ij,cjk,ik->ic", w, small.full_covariances(), w))
    active = ndtr((w @ small.means.T - b[:, None]) / sd)
    # Sums of y x 1(active) over a batch: a part that all neurons share and a part of each alone, cluster by cluster.
    shares = np.sqrt(small.weights)
    fluctuation = rng.standard_normal(len(shares))
    fluctuation -= shares * (shares @ fluctuation)  # samples are dealt out among clusters
    roots = np.linalg.cholesky(small.full_covariances())[:, : core.rank, : core.rank]
    for c, y in enumerate(small.labels):
        common, own = active[:, c, None], np.sqrt(active[:, c] * (1 - active[:, c]))[:, None]
        weight = y * math.sqrt(small.weights[c] / batch)
        inner = rng.standard_normal((1, core.rank)) * common + own * rng.standard_normal((len(z), core.rank))
        outer = rng.standard_normal((1, core.rest)) * common + own * rng.standard_normal((len(z), core.rest))
        number = weight * (fluctuation[c] * common + own * rng.standard_normal((len(z), 1)))
        along += number * small.means[c, : core.rank] + weight * inner @ roots[c].T
        across = across + weight * math.sqrt(core.spreads[c]) * outer
    return along, across


# ---------------------------------------------------------------- the class of networks on given features


def induced_accuracy(
    problem: GaussianMixture, directions: Any, *, knots: int = 1, samples: int = 20_000, draws: int = 8, seed: int = 0
) -> Value:
    """Accuracy of the best least-squares network on given directions (both signs): what gradient features could achieve.

    Parameters
    ----------
    directions : array_like, shape (directions, d)
    knots : int
        Biases per direction and sign, at quantiles of the projection; 1 is bias 0.
    samples, draws, seed : int
        Each draw fits and tests on fresh samples; the error is three standard errors of their mean.
    """
    units = np.array([unit(D, problem.dimension) for D in np.atleast_2d(np.asarray(directions, dtype=float))])
    found = []
    for stream in np.random.SeedSequence(seed).spawn(draws):
        rng = np.random.default_rng(stream)
        (x, y), (xt, yt) = problem.sample(samples, rng), problem.sample(samples, rng)
        u = x @ units.T
        found.append(readout_accuracy(_on_knots(u, u, knots), y, _on_knots(xt @ units.T, u, knots), yt))
    return Value(float(np.mean(found)), 3 * float(np.std(found, ddof=1)) / math.sqrt(draws))


def _on_knots(u: np.ndarray, reference: np.ndarray, knots: int) -> np.ndarray:
    levels = np.zeros((1, u.shape[1])) if knots == 1 else np.quantile(reference, np.linspace(0.02, 0.98, knots), axis=0)
    return np.hstack([relu_pairs(u - level) for level in levels])


def induced_loss(features: np.ndarray, labels: np.ndarray, bound: float, weights: np.ndarray | None = None) -> float:
    """OPT: least mean hinge loss of ``sum a_i f_i(x)`` with ``sum |a_i| <= bound``, by linear programming.

    Parameters
    ----------
    features : ndarray, shape (samples, neurons)
    labels : ndarray of +-1, shape (samples,)
    bound : float
        On the 1-norm of the readout.
    weights : ndarray, shape (samples,), optional
        Probabilities, if the rows are all inputs and not a sample.
    """
    n, m = features.shape
    bound = check("bound", bound, 0, math.inf)
    p = np.full(n, 1 / n) if weights is None else weights
    # variables a+, a-, slack; slack >= 1 - y f(x)
    signed = labels[:, None] * features
    rows = np.vstack([np.hstack([-signed, signed, -np.eye(n)]), np.hstack([np.ones(2 * m), np.zeros(n)])])
    from scipy.optimize import linprog  # slow to import
    done = linprog(np.concatenate([np.zeros(2 * m), p]), A_ub=rows, b_ub=np.concatenate([-np.ones(n), [bound]]), bounds=(0, None))
    if not done.success:
        raise ProblemError(f"the linear program of OPT failed: {done.message}")
    return float(done.fun)


# ---------------------------------------------------------------- dictionaries


def limiting_accuracy(problem: Dictionary, law: StepLaw) -> float:
    """Best accuracy of any readout that sees inputs through one direction of the law's typical cosine.

    The projection is a mixture over counts of Gaussians (everything but the relevant direction), so this is a one-dimensional
    integral; accurate to 1e-8.
    """
    noise = law.along + law.across
    cosine2 = (law.signal**2 + law.along) / (law.signal**2 + noise)
    c = np.arange(problem.k + 1)
    centres = math.sqrt(cosine2) * (c - problem.k * problem.rate) / math.sqrt(problem.variance * problem.k)
    width = math.sqrt((1 - cosine2) * (1 - problem.variance_along) / (problem.D - 1))
    if width < 1e-9:
        return 1.0
    t = np.linspace(centres.min() - 9 * width, centres.max() + 9 * width, 20_001)
    density = np.exp(-(((t[:, None] - centres) / width) ** 2) / 2) / (width * math.sqrt(2 * math.pi))
    plus, minus = density @ (problem.counts * (problem.labels > 0)), density @ (problem.counts * (problem.labels < 0))
    return float(np.maximum(plus, minus).sum() * (t[1] - t[0]))


def two_step_accuracy(problem: Dictionary, batch: float) -> float:
    """Best accuracy after the second step, where all neurons share one direction.

    In the first step half of a neuron's noise is its own; a readout that averages over many neurons is left with the same
    signal-to-noise ratio.  (With few samples it may do better, using the neurons' own parts as random features.)
    """
    return limiting_accuracy(problem, dictionary_step(problem, batch, 2))


def spread_features(fields: np.ndarray, scale: np.ndarray, signs: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """ReLU features of fields brought to unit spread, each with its own sign and bias."""
    return np.maximum(signs * (fields / scale) - knots, 0.0)


def random_knots(neurons: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Signs, and biases over 2.5 standard deviations of a field to either side."""
    return rng.choice([-1.0, 1.0], neurons), rng.uniform(-2.5, 2.5, neurons)


def predicted_dictionary_accuracy(
    problem: Dictionary, batch: float, step: int, neurons: int, *, fit: int = 4000, test: int = 4000, draws: int = 16,
    seed: int = 0,
) -> Value:  # fmt: skip
    """Mean accuracy of networks of so many neurons with random biases after 0, 1 or 2 steps, in the reduced model, D large.

    Given the number of relevant elements an input is Gaussian across the relevant direction, so a dictionary is a mixture with
    one cluster per count.  First-step neurons have a noise of their own, which the readout can use as random features but also
    has to fit; in the second step all share one direction.  Right up to O(1/sqrt D), as `predicted_accuracy`.

    Parameters
    ----------
    problem : Dictionary
    batch : float
        Samples of each step; inf for population gradients.
    step : int
        0, 1 or 2.
    neurons : int
    fit, test : int
        Samples the readout is fitted to, and tested on.
    draws, seed : int
        Independent draws of everything; the error is three standard errors of their mean.
    """
    batch = check("batch", batch, 1, math.inf, closed="[]")
    neurons = check("neurons", neurons, 1, 10**5, whole=True, closed="[]")
    draws = check("draws", draws, 2, 10**6, whole=True, closed="[]")
    if step not in (0, 1, 2):
        raise ProblemError(f"step = {step!r} is not one of 0, 1, 2")
    core, found = _as_mixture(problem), []
    for stream in np.random.SeedSequence(seed).spawn(draws):
        rng = np.random.default_rng(stream)
        along, across = _dictionary_neurons(problem, core, batch, step, neurons, rng)
        (u, y), (ut, yt) = _fields(core, along, across, fit, rng), _fields(core, along, across, test, rng)
        if step == 2:
            u, ut = np.repeat(u, neurons, axis=1), np.repeat(ut, neurons, axis=1)
        scale, (signs, knots) = u.std(axis=0), random_knots(neurons, rng)
        found.append(readout_accuracy(spread_features(u, scale, signs, knots), y, spread_features(ut, scale, signs, knots), yt))
    return Value(float(np.mean(found)), 3 * float(np.std(found, ddof=1)) / math.sqrt(draws))


def _as_mixture(problem: Dictionary) -> Reduced:
    """One cluster per count of relevant elements, in the coordinates along their sum and across it.

    Across it the c present ones are any of k: a variance c (k - c)/k in all, beside that of the background.
    """
    counts = np.flatnonzero(problem.counts > 0)
    means = np.zeros((len(counts), 2))
    means[:, 0] = (counts - problem.k * problem.rate) / math.sqrt(problem.variance * problem.k)
    background = (problem.D - problem.k) * problem.background * (1 - problem.background)
    spreads = (counts * (problem.k - counts) / problem.k + background) / problem.variance / (problem.D - 1)
    spreads = np.maximum(spreads, TINY * spreads.max())
    weights = problem.counts[counts] / problem.counts[counts].sum()
    small = GaussianMixture(means, problem.labels[counts], weights, [np.diag([TINY * s, s]) for s in spreads])
    return Reduced(problem.direction[:, None], small, spreads, problem.D - 1)


def _dictionary_neurons(
    problem: Dictionary, core: Reduced, batch: float, step: int, neurons: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Weights along the relevant direction and outside it; one row if all neurons are alike."""
    if step == 2:
        noise = 0.0 if math.isinf(batch) else 1 / math.sqrt(batch)
        along = math.sqrt(problem.signal) + noise * math.sqrt(problem.variance_along) * rng.standard_normal((1, 1))
        return along, noise * math.sqrt(core.mixture.weights @ core.spreads) * rng.standard_normal((1, core.rest))
    w = rng.standard_normal((neurons, 1 + core.rest)) / math.sqrt(problem.D)
    z, e = w[:, :1], w[:, 1:]
    return (z, e) if step == 0 else _step(core, z, e, np.zeros(neurons), batch, rng)
