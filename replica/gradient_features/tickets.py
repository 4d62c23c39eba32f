"""Lottery tickets: a neuron wins for a direction if its gradient at initialisation is in the cone around it.

Neurons are independent, so winners among m are binomial, and a random subnetwork covers a set of directions with a probability
that inclusion and exclusion gives.
"""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from .base import ProblemError, check


class Winners(NamedTuple):
    """Number of winning neurons: mean, standard deviation, probability of none."""

    mean: float
    sd: float
    none: float


def winners(p: float, neurons: int) -> Winners:
    """Binomial(neurons, p)."""
    p, m = check("p", p, 0, 1, closed="[]"), check("neurons", neurons, 1, math.inf, whole=True, closed="[")
    from scipy.stats import binom  # slow to import
    law = binom(m, p)
    return Winners(float(law.mean()), float(law.std()), float(law.pmf(0)))


def coverage(hits: Any, neurons: int) -> float:
    """Probability that every direction is hit by at least one of `neurons` random neurons.

    ``sum_T (-1)^|T| (1 - sum_{D in T} p_D)^neurons`` over sets T of directions whose cones do not overlap.

    Parameters
    ----------
    hits : array_like, shape (directions,)
        Hit probabilities; disjoint, so their sum is at most 1.
    neurons : int

    Raises
    ------
    ProblemError
        If a probability is out of range or they sum to more than 1.
    """
    p = np.atleast_1d(np.asarray(hits, dtype=float))
    s = check("neurons", neurons, 1, math.inf, whole=True, closed="[")
    for x in p:
        check("hits", x, 0, 1, closed="[]")
    if p.sum() > 1 + 1e-9:
        raise ProblemError(f"hits sum to {p.sum():g}, above 1: their cones overlap")
    if np.ptp(p) == 0:  # equal ones: sets of a size count alike
        terms = [(-1) ** k * math.comb(len(p), k) * max(0.0, 1 - k * p[0]) ** s for k in range(len(p) + 1)]
    elif len(p) > 20:
        raise ProblemError(f"{len(p)} directions of unequal probability; inclusion and exclusion is done up to 20")
    else:
        terms = [
            (-1) ** k * max(0.0, 1 - sum(p[list(T)])) ** s for k in range(len(p) + 1) for T in combinations(range(len(p)), k)
        ]
    # alternating terms cancel for many directions: fsum rounds once
    return min(1.0, max(0.0, math.fsum(terms)))


def sampled_coverage(hits: np.ndarray, neurons: int) -> float:
    """`coverage` for cones that may overlap, from which directions sampled neurons hit: bool, shape (sample, directions).

    The probability of hitting none of a set of directions is taken from the sample.
    """
    s = check("neurons", neurons, 1, math.inf, whole=True, closed="[")
    count = hits.shape[1]
    if count > 12:
        raise ProblemError(f"{count} directions; inclusion and exclusion over a sample is done up to 12")
    sets = (T for k in range(count + 1) for T in combinations(range(count), k))
    return min(1.0, max(0.0, math.fsum((-1) ** len(T) * (~hits[:, list(T)].any(axis=1)).mean() ** s for T in sets)))


def neurons_to_cover(hits: Any, probability: float = 0.95) -> int:
    """Fewest random neurons that cover all directions with at least this probability."""
    probability = check("probability", probability, 0, 1)
    p = np.atleast_1d(np.asarray(hits, dtype=float))
    if not (p > 0).all():
        raise ProblemError("a direction of hit probability 0 is never covered")
    low, high = 0, 1
    while coverage(p, high) < probability:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if coverage(p, middle) >= probability else (middle, high)
    return high
