"""One giant step, n = alpha d^l: how far the gradient of a neuron points into the teacher space.

Formulas are asymptotic (d -> infinity at fixed alpha) and need a dozen numbers: the Hermite coefficients of activation and
target.  ``y = g(z) + sqrt(noise) xi``; one step is ``w + t u`` with ``u = (1/n) sum_v (y - f) s'(<w,x>) x``.

References
----------
.. [1] Y. Dandi et al., arXiv:2305.18270; docs/theory/giant_steps.md, A2 and A3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from .law import NeuronLaw
from .moments import ZERO, GiantStepError, Moments

Array = np.ndarray

REMOVALS = ("none", "mean", "moments", "least-squares")
"""What is removed from the labels on the same batch: nothing, their mean, or mean and linear part (two estimators)."""

@dataclass(frozen=True)
class Readout:
    """A readout that is not symmetric, so that the network is not 0 at the start; p -> infinity.

    Attributes
    ----------
    square : float
        A2 = |a|^2/p, for weights a_i of order 1 and a network ``p^{-1/2} sum a_i s(<w_i, x>)``.
    mean : float
        sum_i a_i / sqrt(p).
    """

    square: float = 0.0
    mean: float = 0.0


@dataclass(frozen=True)
class Alignment:
    """Alignment after one step.

    Attributes
    ----------
    leap : int
        l of n = alpha d^l.
    cos2 : float
        Squared cosine between the moved weight w + t u and the teacher space; for leap >= 2 its mean over neurons.
    cos : ndarray, shape (r,)
        Cosines with the teacher directions (leap 1); for leap >= 2 the roots of the mean squares.
    share : ndarray, shape (r, r)
        E[cos_i cos_j] over neurons.
    top : float
        The same squared cosine for the top right singular vector of the gradients of all neurons; nan for leap >= 2.
    norm : float
        Norm of the gradient u, times d^{(l-1)/2} for leap l; for leap >= 2 the root of its mean square.
    quantiles : dict of float to float
        Quantiles of cos2 over neurons; empty for leap 1, where all neurons are alike.
    error : float
        Estimate of the numerical error of cos2.
    claim, regime : str
        What kind of statement this is, and in which limit.
    """

    leap: int
    cos2: float
    cos: Array
    share: Array
    top: float
    norm: float
    quantiles: Mapping[float, float] = field(default_factory=dict)
    error: float = 0.0
    claim: str = "asymptotic"
    regime: str = ""


def noise_scale(moments: Moments, noise: float, removal: str, readout: Readout) -> float:
    """T: variance of the batch noise of the gradient, per coordinate and sample."""
    residual = _residual(moments, noise, removal, readout)
    if removal in ("moments", "least-squares"):
        c1_square = moments.c[1] ** 2
        # The part c_1 of the slope is what the regression has projected out.
        return residual * (moments.slope - c1_square) + (c1_square * moments.linear if removal == "moments" else 0.0)
    return residual * moments.slope


def _residual(moments: Moments, noise: float, removal: str, readout: Readout) -> float:
    """E[(y - f)^2] once the removal is done."""
    energy = moments.second + noise
    if removal != "none":
        energy -= moments.mean**2
    if removal in ("moments", "least-squares"):
        return energy - moments.linear
    c0, mean = moments.c[0], moments.mean if removal == "none" else 0.0
    return energy + readout.square * (moments.square - c0**2) + (c0 * readout.mean) ** 2 - 2 * mean * c0 * readout.mean


def align(
    moments: Moments,
    alpha: float,
    noise: float = 0.0,
    *,
    leap: int = 1,
    step: float = math.inf,
    d: float = math.inf,
    width: float = math.inf,
    removal: str = "none",
    readout: Readout = Readout(),
    probabilities: Sequence[float] = (0.1, 0.25, 0.5, 0.75, 0.9),
) -> Alignment:
    """Alignment of one neuron with the teacher space after one step on n = alpha d^leap samples.

    Parameters
    ----------
    moments : Moments
    alpha : float
        Samples per d^leap, in (0, inf].
    noise : float
        Variance of the label noise.
    leap : int
        The scale of n; tensors of lower order must vanish, or be removed from the labels.
    step : float
        t of w + t u, in (0, inf]; inf is the gradient itself, and what step sizes t >> d^{(leap-1)/2} give.
    d : float
        Dimension, for the share r/d of batch noise and old weight that lies in the teacher space; inf to leave it out.
    width : float
        Number of distinct neurons behind `top`.
    removal : str
        One of `REMOVALS`.
    readout : Readout
        Of a network that is not 0 at the start, leap 1 only.
    probabilities : sequence of float
        Of the quantiles over neurons.

    Raises
    ------
    GiantStepError
        For values out of range, or a leap the target does not have.
    """
    _check(moments, alpha, noise, leap, step, d, width, removal, readout)
    for p in probabilities:
        if not 0 < p < 1:
            raise GiantStepError(f"alignment: probability {p:g} of a quantile is outside its range (0, 1)")
    if leap == 1:
        return _proportional(moments, alpha, noise, step, d, width, removal, readout)
    return _specialised(moments, alpha, noise, leap, d, removal, probabilities)


def _proportional(
    moments: Moments, alpha: float, noise: float, step: float, d: float, width: float, removal: str, readout: Readout
) -> Alignment:
    c = moments.c
    C1 = np.asarray(moments.C[1], dtype=float)
    spurious = c[1] ** 2 * readout.square  # squared norm of the linear part of the network at the start
    mean = (0.0 if removal == "mean" else moments.mean) - c[0] * readout.mean
    residual = _residual(moments, noise, removal, readout) / alpha
    batch = residual * moments.slope
    signal = c[1] ** 2 * float(C1 @ C1)
    along = c[2] * mean
    inside, r = 1 / d, moments.r
    across = signal + c[1] ** 2 * spurious + batch
    with np.errstate(invalid="ignore", divide="ignore"):
        old = np.float64(1 / step + along) ** 2
        total = old + across
        # Batch noise and the old weight are random directions, and so is the linear part of a random network.
        within = inside * (total - signal) / total
        cos2 = float(signal / total + r * within)
        direction = c[1] * C1 / np.sqrt(total)
        common = c[1] ** 2 * (float(C1 @ C1) + spurious + residual)
        own = residual * (moments.slope - c[1] ** 2) + along**2
        top = float(np.float64(signal) / (common + own / width))
        share = np.outer(direction, direction) + within * np.eye(r)
    return Alignment(
        1, cos2, direction, share, top, math.sqrt(along**2 + across),
        error=_propagated(moments), regime=_regime(1, d),
    )  # fmt: skip


def _specialised(
    moments: Moments, alpha: float, noise: float, leap: int, d: float, removal: str, probabilities: Sequence[float]
) -> Alignment:
    batch = noise_scale(moments, noise, removal, Readout()) / alpha
    law = NeuronLaw(np.asarray(moments.C[leap], dtype=float), moments.c[leap])
    share, error = law.share(batch)
    mean = float(np.trace(share))
    share = share + (1 - mean) / d * np.eye(moments.r)
    if math.isinf(d) or batch == 0 or not probabilities:
        quantiles = {p: law.quantile(p, batch) for p in probabilities}
    else:
        quantiles = dict(zip(probabilities, law.finite_quantiles(probabilities, batch, d), strict=True))
    energy = (moments.c[leap] / math.factorial(leap - 1)) ** 2 * _mean_square(law.tensor)
    return Alignment(
        leap, float(np.trace(share)), np.sqrt(np.diag(share)), share, math.nan, math.sqrt(energy + batch), quantiles,
        error + _propagated(moments), regime=_regime(leap, d),
    )  # fmt: skip


def _mean_square(tensor: Array) -> float:
    """E|C[., zeta, ..., zeta]|^2 by an exact Gauss-Hermite rule."""
    r, m = len(tensor), tensor.ndim - 1
    node, weight = np.polynomial.hermite_e.hermegauss(m + 1)
    weight = weight / weight.sum()
    total = 0.0
    for index in np.ndindex(*(m + 1,) * r):
        zeta, v = node[list(index)], tensor
        for _ in range(m):
            v = v @ zeta
        total += float(np.prod(weight[list(index)]) * np.sum(v**2))
    return total


def _propagated(moments: Moments) -> float:
    """Errors of the moments, relative to the smallest one that is divided by."""
    return moments.error / max(moments.slope * moments.second, 1e-300) * 4 if moments.error else 1e-15


def _regime(leap: int, d: float) -> str:
    power = "d" if leap == 1 else f"d^{leap}"
    return f"n = alpha {power}, d -> infinity" + ("" if math.isinf(d) else f", with the share r/d of what is random at d = {d:g}")


def _check(
    moments: Moments, alpha: float, noise: float, leap: int, step: float, d: float, width: float, removal: str,
    readout: Readout,
) -> None:  # fmt: skip
    for name, value, text, good in (
        ("alpha", alpha, "(0, inf]", alpha > 0),
        ("noise", noise, "[0, inf)", 0 <= noise < math.inf),
        ("step", step, "(0, inf]", step > 0),
        ("d", d, "[r, inf]", d >= moments.r),
        ("width", width, "[1, inf]", width >= 1),
        ("readout.square", readout.square, "[0, inf)", 0 <= readout.square < math.inf),
    ):
        if not good:
            raise GiantStepError(f"alignment: {name} = {value:g} is outside its range {text}")
    if removal not in REMOVALS:
        raise GiantStepError(f"alignment: unknown removal {removal!r}; it is one of {', '.join(REMOVALS)}")
    if not (isinstance(leap, int) and 1 <= leap < len(moments.C)):
        raise GiantStepError(f"alignment: leap = {leap!r} is not a whole number between 1 and {len(moments.C) - 1}")
    if leap == 1:
        if removal in ("moments", "least-squares"):
            raise GiantStepError(f"alignment: removal = {removal} takes away all that n = alpha d samples can see; use leap >= 2")
        return
    if readout != Readout():
        raise GiantStepError(f"alignment: leap = {leap} is known for a symmetric readout only (network 0 at the start)")
    if not math.isinf(step):
        raise GiantStepError(f"alignment: leap = {leap} needs steps t >> d^{(leap - 1) / 2:g}: leave step = inf")
    removed = {"none": (), "mean": (0,), "moments": (0, 1), "least-squares": (0, 1)}[removal]
    for k in range(leap):
        if k not in removed and not moments.vanishes(k):
            raise GiantStepError(
                f"alignment: E[grad^{k} g] is not 0, so it dominates the gradient at n = alpha d^{leap}; "
                + (f"remove it from the labels (removal = {('mean', 'least-squares')[k]})" if k < 2 else f"use leap = {k}")
            )
    if moments.vanishes(leap):
        raise GiantStepError(f"alignment: E[grad^{leap} g] = 0, so n = alpha d^{leap} samples show nothing; use a higher leap")
    if abs(moments.c[leap]) <= ZERO * math.sqrt(moments.square):
        raise GiantStepError(f"alignment: the activation has c_{leap} = 0 and does not see this leap; add a bias")
