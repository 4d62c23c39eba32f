"""The original learning problems at finite size, by plain linear algebra.

Nothing of the theory enters here: networks are built, trained and tested as their definition says, so that the
fixed points of the models have something independent to be compared with.  Repeating and averaging is left to
`replica.validation`.  All arrays are float64; one call at ``size = 1000`` takes a few seconds.

Conventions are those of the models: ``alpha`` = samples/dimension, ``beta`` = width/dimension, ``noise`` = variance of
the label noise, errors are mean squared residuals without factors 1/2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.polynomial.hermite_e import hermevander
from numpy.polynomial.legendre import leggauss
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

Array = NDArray[np.float64]
Function = Callable[[Array], Array]

# Inputs per dimension on which test errors are measured: the error of the mean, about 1.4/sqrt(10 d) relative, stays
# below the fluctuation between training sets.
TEST_SAMPLES = 10

# Overlaps of random unit vectors are about d^(-1/2), so the series of the population step ends far below rounding of
# the statistics: the neglected term is below 0.3^13 for the worst neuron at d = 200.
HERMITE_ORDER = 12


def train_two_layer(
    sigma: Function,
    dsigma: Function,
    target: Function,
    alpha: float,
    beta: float,
    alpha0: float,
    eta: float,
    reg: float,
    noise: float,
    size: int,
    rng: np.random.Generator,
) -> dict[str, float]:
    """Two-layer network after one giant gradient step, readout refitted by ridge regression.

    Inputs ``x ~ N(0, I_d)``, labels ``y = target(<w*, x>) + sqrt(noise) eps``, ``|w*| = 1``, ``p = beta d`` neurons
    with rows on the unit sphere and readout ``1/sqrt(p)``.  The rows take one step

        w_i <- w_i + eta (1/n0) sum_mu (y_mu - f(x_mu)) sigma'(<w_i, x_mu>) x_mu,   f(x) = (1/p) sum_i sigma(<w_i, x>),

    and the readout w minimises ``sum_mu (y_mu - <w, sigma(W x_mu)>/sqrt(p))^2 + reg |w|^2`` on fresh samples.

    Parameters
    ----------
    sigma, dsigma, target : callable
        Activation, its derivative (almost everywhere) and the teacher's function, all acting elementwise on arrays.
    alpha, beta : float
        Fresh samples and neurons per dimension, > 0.
    alpha0 : float
        Samples of the gradient step per dimension.  ``inf``: the population gradient, with the initial output
        replaced by its infinite-width limit ``E sigma(z)``.  0: no step.
    eta : float
        Learning rate divided by the width.  0: no step.
    reg, noise : float
        Ridge penalty (> 0, or ``alpha > beta``) and label noise variance, >= 0.
    size : int
        Dimension d of the inputs.
    rng : numpy.random.Generator

    Returns
    -------
    dict
        ``test_error`` (label noise included) and ``train_error``, mean squared residuals.

    Raises
    ------
    numpy.linalg.LinAlgError
        If ``reg = 0`` and the readout is not determined by the data.

    Notes
    -----
    Besides adding a spike v, the step multiplies row i by ``1 + (r/h1) E[sigma'(z) (z^2 - 1)] <v, w_i>``, with r and
    ``h1 = E sigma'`` the strength of the spike and the mean slope.  That is of order d^(-1/2), but in line with
    ``<v, w_i>``, which the readout can learn: the test error differs by a few per cent from that of spiked features,
    and the difference does not vanish with d.
    """
    teacher = _unit_rows(1, size, rng)[0]
    rows = _unit_rows(_count(beta, size), size, rng)
    if eta != 0 and alpha0 != 0:
        if math.isinf(alpha0):
            rows += eta * _population_gradient(sigma, dsigma, target, rows, teacher)
        else:
            samples = _count(alpha0, size)
            rows += eta * _batch_gradient(sigma, dsigma, target, rows, teacher, samples, noise, rng)
    _, errors = _fit_readout(sigma, target, rows, teacher, _count(alpha, size), reg, noise, rng)
    return errors


def train_spiked_features(
    sigma: Function,
    target: Function,
    alpha: float,
    beta: float,
    r: float,
    c: float,
    gamma: float,
    reg: float,
    noise: float,
    size: int,
    rng: np.random.Generator,
) -> dict[str, float]:
    """Ridge regression on spiked random features: rows ``sqrt(c) w0_i + r v``, ``<v, w*> = gamma``.

    As `train_two_layer`, with the trained first layer replaced by independent unit vectors ``w0_i`` and a spike along
    the unit vector v.

    Parameters
    ----------
    sigma, target : callable
        Activation and the teacher's function, acting elementwise on arrays.
    alpha, beta : float
        Samples and neurons per dimension, > 0.
    r, c, gamma : float
        Strength of the spike, variance of the bulk (> 0) and overlap of the spike with the teacher, in [-1, 1].
    reg, noise, size, rng
        As in `train_two_layer`.

    Returns
    -------
    dict
        ``test_error``, ``train_error`` and the order parameters of the readout w, with ``s = sqrt(c/p) sum_i w_i w0_i``
        and ``zhat`` the direction of ``w* - gamma v``: ``m = p^(-1/2) sum_i w_i``, ``theta = <s, v>``,
        ``psi = <s, zhat>``, ``q1 = |s|^2 - <s, v>^2``, ``q2 = |w|^2/p``.

    Notes
    -----
    The limit drops the ridge cost of m, which is of order 1/p: m is the order parameter with the largest finite-size
    effect, the more so the closer ``E sigma(r kappa + sqrt(c) g | kappa)`` is to zero.
    """
    # v and zhat first, then w* from them: no division by sqrt(1 - gamma^2), so gamma = 1 needs no exception.
    spike, zhat = np.linalg.qr(rng.standard_normal((size, 2)))[0].T
    teacher = gamma * spike + math.sqrt(1 - gamma**2) * zhat
    initial = _unit_rows(_count(beta, size), size, rng)
    rows = math.sqrt(c) * initial + r * spike
    readout, errors = _fit_readout(sigma, target, rows, teacher, _count(alpha, size), reg, noise, rng)
    p = len(readout)
    s = math.sqrt(c / p) * (readout @ initial)
    theta = float(s @ spike)
    return errors | {
        "m": float(readout.sum()) / math.sqrt(p),
        "theta": theta,
        "psi": float(s @ zhat),
        "q1": float(s @ s) - theta**2,
        "q2": float(readout @ readout) / p,
    }


def train_ridge(
    target: Function, alpha: float, reg: float, noise: float, size: int, rng: np.random.Generator
) -> dict[str, float]:
    """Ridge regression of a teacher's labels on the inputs themselves.

    Inputs ``x ~ N(0, I_d/d)``, labels ``y = target(<w*, x>) + sqrt(noise) eps`` with ``|w*|^2 = d``, and the student w
    minimises ``(1/2) sum_mu (y_mu - <w, x_mu>)^2 + (reg/2) |w|^2`` over ``alpha d`` samples.

    Parameters
    ----------
    target : callable
        Function of the teacher's field, acting elementwise on arrays.
    alpha : float
        Samples per dimension, > 0.
    reg, noise : float
        Ridge penalty (> 0, or ``alpha > 1``) and label noise variance, >= 0.
    size : int
        Dimension d.
    rng : numpy.random.Generator

    Returns
    -------
    dict
        ``test_error`` (label noise included) and ``train_error``, mean squared residuals; overlaps ``m = <w, w*>/d``
        and ``q = |w|^2/d``.  The test error is the exact average over new samples given the student: the two fields
        are jointly Gaussian.
    """
    teacher = math.sqrt(size) * _unit_rows(1, size, rng)[0]
    x = rng.standard_normal((_count(alpha, size), size)) / math.sqrt(size)
    y = _labels(target, x @ teacher, noise, rng)
    student = _ridge(x, y, reg)
    m = float(student @ teacher) / size
    q = float(student @ student) / size
    z, weights = _gaussian_rule()
    values = target(z)
    return {
        "test_error": float(weights @ values**2) + noise - 2 * m * float(weights @ (z * values)) + q,
        "train_error": float(np.mean((y - x @ student) ** 2)),
        "m": m,
        "q": q,
    }


def _batch_gradient(
    sigma: Function,
    dsigma: Function,
    target: Function,
    rows: Array,
    teacher: Array,
    samples: int,
    noise: float,
    rng: np.random.Generator,
) -> Array:
    """(1/n0) sum_mu (y_mu - f(x_mu)) sigma'(<w_i, x_mu>) x_mu for every row; shape (p, d)."""
    gradient = np.zeros_like(rows)
    for x in _batches(samples, rows.shape[1], rng):
        fields = x @ rows.T
        error = _labels(target, x @ teacher, noise, rng) - sigma(fields).mean(axis=1)
        gradient += (error[:, None] * dsigma(fields)).T @ x
    return gradient / samples


def _population_gradient(sigma: Function, dsigma: Function, target: Function, rows: Array, teacher: Array) -> Array:
    """E[(target(g) - E sigma) sigma'(a) x] for every unit row w, with a = <w, x> and g = <w*, x>; shape (p, d).

    The average lies in the plane of w and w*.  With t = <w, w*>, e(g) = target(g) - E sigma and He_k the Hermite
    polynomials, Stein's lemma and Mehler's formula give

        w sum_k E[e He_k] E[a sigma' He_k] t^k/k!  +  (w* - t w) sum_k E[e He_(k+1)] E[sigma' He_k] t^k/k! .
    """
    z, weights = _gaussian_rule()
    hermite = hermevander(z, HERMITE_ORDER + 1).T * weights
    derivative = dsigma(z)
    error = hermite @ (target(z) - weights @ sigma(z))
    factorials = np.array([math.factorial(k) for k in range(HERMITE_ORDER + 1)], dtype=float)
    overlap = rows @ teacher
    powers = overlap[:, None] ** np.arange(HERMITE_ORDER + 1) / factorials
    along = powers @ (error[:-1] * (hermite[:-1] @ (z * derivative)))
    across = powers @ (error[1:] * (hermite[:-1] @ derivative))
    gradient: Array = (along - overlap * across)[:, None] * rows + np.outer(across, teacher)
    return gradient


def _fit_readout(
    sigma: Function,
    target: Function,
    rows: Array,
    teacher: Array,
    samples: int,
    reg: float,
    noise: float,
    rng: np.random.Generator,
) -> tuple[Array, dict[str, float]]:
    """Ridge readout on fresh samples, and its errors."""
    p, size = rows.shape

    def features(x: Array) -> Array:
        return sigma(x @ rows.T) / math.sqrt(p)

    x = rng.standard_normal((samples, size))
    y = _labels(target, x @ teacher, noise, rng)
    phi = features(x)
    readout = _ridge(phi, y, reg)
    train_error = float(np.mean((y - phi @ readout) ** 2))
    # Tested against noiseless labels: adding the noise afterwards is exact and fluctuates less.
    total = 0.0
    for x in _batches(TEST_SAMPLES * size, size, rng):
        total += float(np.sum((target(x @ teacher) - features(x) @ readout) ** 2))
    return readout, {"test_error": total / (TEST_SAMPLES * size) + noise, "train_error": train_error}


def _ridge(phi: Array, y: Array, reg: float) -> Array:
    """Minimiser of |y - phi w|^2 + reg |w|^2, by Cholesky on the smaller of the two Gram matrices."""
    n, p = phi.shape
    gram = phi.T @ phi if p <= n else phi @ phi.T
    gram[np.diag_indices_from(gram)] += reg
    factor = cho_factor(gram, lower=True, overwrite_a=True)
    solution: Array = cho_solve(factor, phi.T @ y) if p <= n else phi.T @ cho_solve(factor, y)
    return solution


def _labels(target: Function, fields: Array, noise: float, rng: np.random.Generator) -> Array:
    labels: Array = target(fields) + math.sqrt(noise) * rng.standard_normal(len(fields))
    return labels


def _batches(samples: int, size: int, rng: np.random.Generator) -> Iterator[Array]:
    """Standard normal inputs in blocks: many samples never lie in memory together."""
    for start in range(0, samples, 2048):
        yield rng.standard_normal((min(2048, samples - start), size))


def _unit_rows(count: int, size: int, rng: np.random.Generator) -> Array:
    """Independent uniform unit vectors.

    The normalisation is exact: Gaussian rows have norms that fluctuate by d^(-1/2), and this changes the limit once
    sigma' has even Hermite components.
    """
    rows: Array = rng.standard_normal((count, size))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def _gaussian_rule() -> tuple[Array, Array]:
    """Nodes and weights for E[f(z)], z ~ N(0, 1), f smooth but for kinks or jumps at multiples of 0.1."""
    nodes, weights = leggauss(8)
    centres = np.arange(-99, 100, 2) / 10
    z = (centres[:, None] + 0.1 * nodes).ravel()
    gaussian = np.tile(0.1 * weights, len(centres)) * np.exp(-(z**2) / 2)
    return z, gaussian / gaussian.sum()


def _count(ratio: float, size: int) -> int:
    """Number of samples or neurons at this ratio to the dimension, at least one."""
    return max(1, round(ratio * size))
