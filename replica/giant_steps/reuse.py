"""A second giant step on the same batch (correlation loss): labels reach the gradient through themselves.

On a sample of the first batch the pre-activation after the step contains that sample's own contribution,

    h = lam + t (y s'(lam)/alpha + c_1 <C_1, z> + C_0 c_2 lam + sqrt(T/alpha) xi),    W* u_2 -> E[y s'(h) z],

so nonlinear functions of y act as new labels, and targets of a higher leap can be seen.  On a fresh batch the first term in
the bracket is missing.

References
----------
.. [1] docs/theory/giant_steps.md, A4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from ..activations import Activation
from .alignment import Readout, noise_scale
from .moments import GiantStepError, Moments
from .pair_averages import REACH, _panels, gauss_legendre

Array = np.ndarray

#: Most nodes of the product rule over (lam, z, label noise); more dimensions take Sobol points.
MOST_NODES = 600_000
SETS, POWER = 8, 14
BLOCK = 4_000
#: Steps of the trapezoidal rule in z and the noise, and Gauss-Legendre nodes per panel in lam; the finest two that fit are used.
LEVELS = ((0.45, 8), (0.35, 10), (0.25, 12), (0.18, 16))


@dataclass(frozen=True)
class SecondStep:
    """Overlap of the second gradient of a neuron with the teacher directions.

    Attributes
    ----------
    overlap : ndarray, shape (r,)
        W* u_2; d -> infinity.
    error : float
        Estimate of its numerical error.
    reused : bool
    """

    overlap: Array
    error: float
    reused: bool
    claim: str = "asymptotic"
    regime: str = "correlation loss, n = alpha d, d -> infinity, |w| = 1 and no overlap at the start"


def second_step(
    numeric: Callable[[Array], Array], activation: Activation, moments: Moments, *, alpha: float, step: float,
    noise: float = 0.0, reused: bool = True,
) -> SecondStep:  # fmt: skip
    """Overlap of the gradient of the second step.

    Parameters
    ----------
    numeric : callable
        g on arrays (n, r).
    activation : Activation
    moments : Moments
        Of this target and activation, to order 1 at least.
    alpha : float
        Samples per dimension, in (0, inf].
    step : float
        t of the first step.
    noise : float
        Variance of the label noise.
    reused : bool
        The batch of the first step again, or a fresh one.

    Raises
    ------
    GiantStepError
        For values out of range.
    """
    for name, value, text, good in (
        ("alpha", alpha, "(0, inf]", alpha > 0),
        ("step", step, "(-inf, inf)", math.isfinite(step)),
        ("noise", noise, "[0, inf)", 0 <= noise < math.inf),
    ):
        if not good:
            raise GiantStepError(f"second step: {name} = {value:g} is outside its range {text}")
    rules = _rules(moments.r, noise > 0, activation)
    found = np.array([_overlap(numeric, activation, moments, alpha, step, noise, reused, points, n) for points, n in rules])
    if len(found) > 2:
        return SecondStep(found.mean(axis=0), 3 * float(found.std(axis=0, ddof=1).max()) / math.sqrt(len(found)), reused)
    return SecondStep(found[1], float(np.abs(found[1] - found[0]).max()) + 1e-14, reused)


Points = Callable[[], Iterator[tuple[Array, Array]]]


def _rules(r: int, noisy: bool, activation: Activation) -> list[tuple[Points, int]]:
    """Nodes of (lam, z, label noise) and weights: two product rules, or independent sets of points."""
    size = [len(_line(h)) ** (r + noisy) * len(_panels(activation.kinks, n)[0]) for h, n in LEVELS]
    fit = sum(n <= MOST_NODES for n in size)
    if fit >= 2:
        return [(_product(r + noisy, h, n, activation), n) for h, n in LEVELS[fit - 2 : fit]]
    return [(_sobol(1 + r + noisy, seed), LEVELS[1][1]) for seed in range(SETS)]


def _line(h: float) -> Array:
    return np.arange(-REACH, REACH + h / 2, h)


def _product(dimension: int, h: float, nodes: int, activation: Activation) -> Points:
    def points() -> Iterator[tuple[Array, Array]]:
        lam, w = _panels(activation.kinks, nodes)
        line = _line(h)
        gauss = np.exp(-(line**2) / 2)
        gauss = gauss / gauss.sum()
        total = lam.size * line.size**dimension
        for first in range(0, total, BLOCK):
            index = np.unravel_index(np.arange(first, min(first + BLOCK, total)), (lam.size, *(line.size,) * dimension))
            x = np.stack([lam[index[0]], *(line[i] for i in index[1:])], axis=1)
            yield x, w[index[0]] * np.prod([gauss[i] for i in index[1:]], axis=0)

    return points


def _sobol(dimension: int, seed: int) -> Points:
    def points() -> Iterator[tuple[Array, Array]]:
        from scipy.stats import qmc  # slow to import
        unit = qmc.Sobol(dimension, rng=np.random.default_rng([seed, dimension])).random_base2(POWER)
        normal = ndtri(np.clip(unit, 1e-16, 1 - 1e-16))
        for first in range(0, len(normal), BLOCK):
            block = normal[first : first + BLOCK]
            yield block, np.full(len(block), 1 / len(normal))

    return points


def _overlap(
    numeric: Callable[[Array], Array], activation: Activation, moments: Moments, alpha: float, step: float, noise: float,
    reused: bool, points: Points, nodes: int,
) -> Array:  # fmt: skip
    slope, r = activation.numeric_derivative(), moments.r
    C1 = np.asarray(moments.C[1], dtype=float)
    width = abs(step) * math.sqrt(noise_scale(moments, noise, "none", Readout()) / alpha)
    total = np.zeros(r)
    for x, weight in points():
        lam, z = x[:, 0], x[:, 1 : 1 + r]
        y = numeric(z) + (math.sqrt(noise) * x[:, 1 + r] if noise else 0.0)
        h = lam + step * (moments.c[1] * (z @ C1) + moments.mean * moments.c[2] * lam)
        if reused:
            h = h + step * y * slope(lam) / alpha
        total += (weight * y * smoothed(slope, activation.kinks, h, width, nodes)) @ z
    return total


def smoothed(f: Callable[[Array], Array], kinks: tuple[float, ...], mean: Array, width: float, nodes: int) -> Array:
    """E f(mean + width xi) for xi ~ N(0, 1), on panels split at the kinks; shape of `mean`, one-dimensional."""
    if width == 0:
        return f(mean)
    fixed = np.arange(-REACH, REACH + 0.1, 2.25)
    moving = np.clip((np.array(kinks)[None, :] - mean[:, None]) / width, -REACH, REACH)
    edges = np.sort(np.concatenate([np.broadcast_to(fixed, (mean.size, fixed.size)), moving], axis=1), axis=1)
    t, w = gauss_legendre(nodes)
    half = np.diff(edges, axis=1)[:, :, None] / 2
    xi = (edges[:, :-1, None] + half * (t + 1)).reshape(mean.size, -1)
    weight = (half * w).reshape(mean.size, -1) * np.exp(-(xi**2) / 2) / math.sqrt(2 * math.pi)
    return np.sum(weight * f(mean[:, None] + width * xi), axis=1)
