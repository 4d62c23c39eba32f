"""Everything there is to say about the gradient features of a mixture, as plain data."""

from __future__ import annotations

from typing import Any

import numpy as np

from .base import ProblemError
from .cones import feature_set, mixture_indicators
from .initial import Initialisation, averaged
from .mixture import GaussianMixture
from .tickets import sampled_coverage, winners


def mixture_report(
    problem: GaussianMixture, p: float, gamma: float, init: Initialisation, least: float, neurons: int
) -> dict[str, Any]:
    """The feature set with its probabilities, winners among `neurons`, coverage by them, and the Bayes error.

    Errors are three standard errors; coverage is of all directions of the set, whatever the sign of the bias (at most 12).
    """
    features = feature_set(problem, p, gamma, init, least=least)
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
        hits = mixture_indicators(problem, np.array([f.direction for f in features]), gamma, init, least=least)
        found = averaged([sampled_coverage(part, neurons) for part in hits])
        covered = {"value": float(found.value), "error": float(found.error)}
    elif len(features) > 12:
        raise ProblemError(f"{len(features)} directions; coverage is computed for up to 12: raise p or gamma")
    return {
        "model": "mixture",
        "dimension": problem.dimension,
        "gamma": gamma,
        "p": p,
        "features": rows,
        "coverage": {**covered, "neurons": neurons},
        "bayes_error": {"value": bayes.value, "error": bayes.error},
    }
