"""The original learning problems at finite size, by plain linear algebra.

Nothing of the theory enters here: networks are built, trained and tested as their definition says, so that the
fixed points of the models have something independent to be compared with.  Repeating and averaging is left to
`replica.validation`.  All arrays are float64; one call at ``size = 1000`` takes a few seconds.

Conventions are those of the models: ``alpha`` = samples/dimension, ``beta`` = width/dimension, ``noise`` = variance of
the label noise, errors are mean squared residuals without factors 1/2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.polynomial.hermite_e import hermevander
from numpy.typing import NDArray

from ..dense import product
from ..losses import Loss, make_loss
from .training import Labels, fit, gaussian_rule, trained

Array = NDArray[np.float64]
Function = Callable[[Array], Array]

SQUARE = make_loss("square")

# Inputs per dimension on which test errors are measured: the error of the mean, about 1.4/sqrt(10 d) relative, stays
# below the fluctuation between training sets.
TEST_SAMPLES = 10

# Overlaps of random unit vectors are about d^(-1/2), so the series of the population step ends far below rounding of
# the statistics: the neglected term is below 0.3^13 for the worst neuron at d = 200.
HERMITE_ORDER = 12


def train_two_layer(
    sigma: Function,
    dsigma: Function,
    labels: Labels,
    alpha: float,
    beta: float,
    alpha0: float,
    eta: float,
    reg: float,
    size: int,
    rng: np.random.Generator,
    loss: Loss = SQUARE,
    readouts: Sequence[float] = (1.0,),
    shares: Sequence[float] = (1.0,),
) -> dict[str, float]:
    """Two-layer network after one giant gradient step, readout refitted with a convex loss.

    Inputs ``x ~ N(0, I_d)``, labels drawn given ``<w*, x>``, ``|w*| = 1``, ``p = beta d`` neurons
    with rows on the unit sphere and readout ``u_i/sqrt(p)``.  The rows take one step

        w_i <- w_i + eta u_i (1/n0) sum_mu (y_mu - f(x_mu)) sigma'(<w_i, x_mu>) x_mu,   f(x) = (1/p) sum_i u_i sigma(<w_i, x>),

    and the readout w minimises ``sum_mu loss(y_mu, <w, sigma(W x_mu)>/sqrt(p)) + reg |w|^2/2`` on fresh
    samples.

    Parameters
    ----------
    sigma, dsigma : callable
        Activation and its derivative (almost everywhere), acting elementwise on arrays.
    labels : Labels
    alpha, beta : float
        Fresh samples and neurons per dimension, > 0.
    alpha0 : float
        Samples of the gradient step per dimension.  ``inf``: the population gradient, with the initial output
        replaced by its infinite-width limit ``E sigma(z)``.  0: no step.
    eta : float
        Learning rate divided by the width.  0: no step.
    reg : float
        Ridge penalty (> 0; for the square loss of real labels also 0, if ``alpha > beta``).
    size : int
        Dimension d of the inputs.
    rng : numpy.random.Generator
    loss : Loss
    readouts, shares : sequence of float, of equal length
        Values that u_i takes, and their relative numbers of neurons.

    Returns
    -------
    dict
        The observables of the model `srf`.

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
    teacher, rows = trained_rows(sigma, dsigma, labels, beta, alpha0, eta, size, rng, readouts, shares)
    _, errors = _fit_readout(sigma, labels, rows, teacher, _count(alpha, size), reg, rng, loss)
    return errors


def trained_rows(
    sigma: Function, dsigma: Function, labels: Labels, beta: float, alpha0: float, eta: float, size: int,
    rng: np.random.Generator, readouts: Sequence[float] = (1.0,), shares: Sequence[float] = (1.0,),
) -> tuple[Array, Array]:  # fmt: skip
    """Teacher and rows of the first layer after the step of `train_two_layer`, shapes (d,) and (p, d)."""
    teacher = _unit_rows(1, size, rng)[0]
    rows = _unit_rows(_count(beta, size), size, rng)
    u = _by_group(readouts, shares, len(rows))
    if eta != 0 and alpha0 != 0:
        if math.isinf(alpha0):
            gradient = _population_gradient(sigma, dsigma, labels.mean, rows, teacher, u.mean())
        else:
            gradient = _batch_gradient(sigma, dsigma, labels, rows, teacher, u, _count(alpha0, size), rng)
        rows += eta * u[:, None] * gradient
    return teacher, rows


def train_spiked_features(
    sigma: Function,
    labels: Labels,
    alpha: float,
    beta: float,
    r: float | Sequence[float],
    c: float | Sequence[float],
    gamma: float,
    reg: float,
    size: int,
    rng: np.random.Generator,
    loss: Loss = SQUARE,
    shares: Sequence[float] = (1.0,),
) -> dict[str, Any]:
    """Training on spiked random features: rows ``sqrt(c) w0_i + r v``, ``<v, w*> = gamma``.

    As `train_two_layer`, with the trained first layer replaced by independent unit vectors ``w0_i`` and a spike along
    the unit vector v.

    Parameters
    ----------
    sigma : callable
        Activation, acting elementwise on arrays.
    labels : Labels
    alpha, beta : float
        Samples and neurons per dimension, > 0.
    r, c, gamma : float
        Strength of the spike, variance of the bulk (> 0) and overlap of the spike with the teacher, in [-1, 1]; r and c one
        number, or one for every group of neurons.
    reg, size, rng, loss, shares
        As in `train_two_layer`.

    Returns
    -------
    dict
        The observables and the order parameters of the readout w, with ``s = sqrt(c/p) sum_i w_i w0_i``
        and ``zhat`` the direction of ``w* - gamma v``: ``m = p^(-1/2) sum_i w_i``, ``theta = <s, v>``,
        ``psi = <s, zhat>``, ``q1 = |s|^2 - <s, v>^2``, ``q2 = |w|^2/p``; arrays, if there are groups, whose sums run over theirs.

    Notes
    -----
    The limit drops the ridge cost of m, which is of order 1/p: m is the order parameter with the largest finite-size
    effect, the more so the closer ``E sigma(r kappa + sqrt(c) g | kappa)`` is to zero.
    """
    # v and zhat first, then w* from them: no division by sqrt(1 - gamma^2), so gamma = 1 needs no exception.
    spike, zhat = np.linalg.qr(rng.standard_normal((size, 2)))[0].T
    teacher = gamma * spike + math.sqrt(1 - gamma**2) * zhat
    initial = _unit_rows(_count(beta, size), size, rng)
    group = np.arange(len(shares)) == _by_group(range(len(shares)), shares, len(initial))[:, None]
    strength, root = (group @ np.broadcast_to(e, len(shares)) for e in (r, np.sqrt(c)))
    rows = root[:, None] * initial + np.outer(strength, spike)
    readout, errors = _fit_readout(sigma, labels, rows, teacher, _count(alpha, size), reg, rng, loss)
    p = len(readout)
    s = (group.T * readout * root) @ initial / math.sqrt(p)
    theta = s @ spike
    order = {
        "m": group.T @ readout / math.sqrt(p),
        "theta": theta,
        "psi": s @ zhat,
        "q1": s @ s.T - np.outer(theta, theta),
        "q2": group.T @ readout**2 / p,
    }
    return errors | (order if len(shares) > 1 else {name: value.item() for name, value in order.items()})


def _batch_gradient(
    sigma: Function,
    dsigma: Function,
    labels: Labels,
    rows: Array,
    teacher: Array,
    u: Array,
    samples: int,
    rng: np.random.Generator,
) -> Array:
    """(1/n0) sum_mu (y_mu - f(x_mu)) sigma'(<w_i, x_mu>) x_mu for every row; shape (p, d)."""
    gradient = np.zeros_like(rows)
    for x in _batches(samples, rows.shape[1], rng):
        fields = product(x, rows.T)
        error = labels.draw(x @ teacher, rng) - sigma(fields) @ u / len(u)
        gradient += product((error[:, None] * dsigma(fields)).T, x)
    return gradient / samples


def _population_gradient(
    sigma: Function, dsigma: Function, target: Function, rows: Array, teacher: Array, u_mean: float
) -> Array:
    """E[e(g) sigma'(a) x], e = target(g) - u_mean E sigma, for every unit row w, a = <w, x>, g = <w*, x>; shape (p, d).

    The average lies in the plane of w and w*.  With t = <w, w*> and He_k the Hermite
    polynomials, Stein's lemma and Mehler's formula give

        w sum_k E[e He_k] E[a sigma' He_k] t^k/k!  +  (w* - t w) sum_k E[e He_(k+1)] E[sigma' He_k] t^k/k! .
    """
    z, weights = gaussian_rule()
    hermite = hermevander(z, HERMITE_ORDER + 1).T * weights
    derivative = dsigma(z)
    error = hermite @ (target(z) - u_mean * (weights @ sigma(z)))
    factorials = np.array([math.factorial(k) for k in range(HERMITE_ORDER + 1)], dtype=float)
    overlap = rows @ teacher
    powers = overlap[:, None] ** np.arange(HERMITE_ORDER + 1) / factorials
    along = powers @ (error[:-1] * (hermite[:-1] @ (z * derivative)))
    across = powers @ (error[1:] * (hermite[:-1] @ derivative))
    gradient: Array = (along - overlap * across)[:, None] * rows + np.outer(across, teacher)
    return gradient


def _fit_readout(
    sigma: Function,
    labels: Labels,
    rows: Array,
    teacher: Array,
    samples: int,
    reg: float,
    rng: np.random.Generator,
    loss: Loss,
) -> tuple[Array, dict[str, float]]:
    """Readout trained on fresh samples, and the observables."""
    p, size = rows.shape

    def features(x: Array) -> Array:
        return sigma(product(x, rows.T)) / math.sqrt(p)

    x = rng.standard_normal((samples, size))
    y = labels.draw(x @ teacher, rng)
    phi = features(x)
    readout = fit(loss, phi, y, reg, labels.sign)
    square = wrong = 0.0
    for x in _batches(TEST_SAMPLES * size, size, rng):
        fields, predictions = x @ teacher, features(x) @ readout
        # Tested against mean labels: adding their variance afterwards is exact and fluctuates less.
        square += float(np.sum((labels.mean(fields) - predictions) ** 2 + labels.variance(fields)))
        wrong += float(np.sum(0.5 * (1 - labels.mean(fields) * np.sign(predictions))))
    tested = {"test_error": square / (TEST_SAMPLES * size)}
    if labels.sign:
        tested["zero_one"] = wrong / (TEST_SAMPLES * size)
    return readout, tested | trained(loss, labels.sign, y, phi @ readout)


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


def _by_group(values: Sequence[float], shares: Sequence[float], count: int) -> Array:
    """A value for each of `count` neurons, in numbers as near to the shares as whole numbers are."""
    ends = np.rint(np.cumsum(shares) / np.sum(shares) * count).astype(int)
    return np.repeat(np.asarray(values, dtype=float), np.diff(ends, prepend=0))


def _count(ratio: float, size: int) -> int:
    """Number of samples or neurons at this ratio to the dimension, at least one."""
    return max(1, round(ratio * size))
