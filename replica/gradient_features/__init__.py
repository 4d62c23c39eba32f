"""Gradient features: what the first gradient of a two-layer network knows of a problem, and what the network then achieves.

`mixture`, `parity` and `dictionary` are the problems, with their population gradients; `cones` asks which directions random
neurons' gradients prefer and how batches blur them; `networks` predicts accuracies, `tickets` counts winning neurons,
`separation` bounds what fixed features can do; `experiments` trains the real networks.

References
----------
.. [1] Z. Shi, J. Wei, Y. Liang, arXiv:2206.01717 and arXiv:2310.12408; docs/theory/gradient_features.md.
"""

from .base import ProblemError, Value
from .cones import (
    Feature,
    StepLaw,
    batch_gradients,
    cosines,
    dictionary_step,
    dominant_directions,
    feature_set,
    hit_probability,
    mixture_cosines,
    mixture_hits,
    parity_hits,
    sampled_gradients,
    sampled_hits,
)
from .dictionary import Dictionary
from .experiments import dictionary_network, network_accuracy
from .initial import Initialisation
from .mixture import GaussianMixture, xor_bayes_error, xor_limit
from .networks import (
    Setting,
    induced_accuracy,
    induced_loss,
    limiting_accuracy,
    predicted_accuracy,
    predicted_dictionary_accuracy,
    two_step_accuracy,
)
from .parity import SparseParity, leading_order
from .separation import (
    fixed_feature_error,
    hinge_bound,
    kernel_functions,
    measured_fixed_error,
    published_hinge_bound,
    random_relu,
    square_bound,
)
from .tickets import coverage, neurons_to_cover, sampled_coverage, winners

__all__ = [
    "Dictionary", "Feature", "GaussianMixture", "Initialisation", "ProblemError", "Setting", "SparseParity", "StepLaw", "Value",
    "batch_gradients", "cosines", "coverage", "dictionary_network", "dictionary_step", "dominant_directions", "feature_set",
    "fixed_feature_error", "hinge_bound", "hit_probability", "induced_accuracy", "induced_loss", "kernel_functions",
    "leading_order", "limiting_accuracy", "measured_fixed_error", "mixture_cosines", "mixture_hits", "network_accuracy",
    "neurons_to_cover", "parity_hits", "predicted_accuracy", "predicted_dictionary_accuracy", "published_hinge_bound",
    "random_relu", "sampled_coverage", "sampled_gradients", "sampled_hits", "square_bound", "two_step_accuracy", "winners",
    "xor_bayes_error", "xor_limit",
]  # fmt: skip
