"""Everything there is to say about the gradient features of a mixture, as plain data."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .base import ProblemError
from .cones import feature_set, mixture_indicators
from .initial import Initialisation, averaged
from .mixture import GaussianMixture
from .networks import induced_accuracy
from .tickets import sampled_coverage, winners

#: Biases per direction and sign, and samples, of the networks on a feature set.
KNOTS, SAMPLES = 5, 10_000


def mixture_report(
    problem: GaussianMixture, p: float, gamma: float, init: Initialisation, least: float, neurons: int, batch: float
) -> dict[str, Any]:
    """The feature set with its probabilities, winners among `neurons`, coverage by them, what networks on the set can achieve,
    and the Bayes error.

    Errors are three standard errors; coverage is of all directions of the set, whatever the sign of the bias (at most 12);
    `induced_accuracy` is that of the best least-squares readout of ReLUs on the set.
    """
    features = feature_set(problem, p, gamma, init, least=least, batch=batch)
    bayes = problem.bayes_error()
    rows = [
        {
            "direction": f.direction.tolist(),
            "bias_sign": f.sign,
            "probability": float(f.probability.value),
            "error": float(f.probability.error),
            "winners": winners(float(f.probability.value), neurons)._asdict(),
        }
        for f in features
    ]
    covered: dict[str, Any] = {"value": None, "error": None}
    if 1 <= len(features) <= 12:
        hits = mixture_indicators(problem, np.array([f.direction for f in features]), gamma, init, least=least,
                                  batch=batch)  # fmt: skip
        found = averaged([sampled_coverage(part, neurons) for part in hits])
        covered = {"value": float(found.value), "error": float(found.error)}
    elif len(features) > 12:
        raise ProblemError(f"{len(features)} directions; coverage is computed for up to 12: raise p or gamma")
    best: dict[str, Any] = {"value": None, "error": None}
    if features:
        best = induced_accuracy(problem, [f.direction for f in features], knots=KNOTS, samples=SAMPLES, draws=4)._asdict()
    whole = math.isinf(batch)
    return {
        "model": "mixture",
        "claim": "exact" if whole else "asymptotic",
        "regime": "population gradients, any dimension" if whole else "central limit law of a batch, up to 1/n",
        "batch": None if whole else batch,
        "dimension": problem.dimension,
        "gamma": gamma,
        "p": p,
        "features": rows,
        "induced_accuracy": best,
        "coverage": {**covered, "neurons": neurons},
        "bayes_error": {"value": bayes.value, "error": bayes.error},
    }
