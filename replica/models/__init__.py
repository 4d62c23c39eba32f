"""The models that ship with the package.  To add one: one file here, one line in `MODELS` (outside code just uses its class)."""

from ..model import Model
from .bayes_optimal import BayesOptimal
from .deep_mode import DeepMode
from .generalised_linear import GeneralisedLinear
from .giant_leap import GiantLeap
from .giant_step import GiantStep
from .gradient_features import Mixture, Parity, StructuredDictionary
from .line_network import LineNetwork, WeightedLineNetwork, WideLineNetwork
from .line_variants import AnyLossLineNetwork, DecayingLineNetwork, LineDescent
from .linear_students import LinearStudent, OnlineStudent, TwoLayerStudent
from .ridge_regression import RidgeRegression
from .spiked_random_features import SpikedRandomFeatures

MODELS: dict[str, type[Model]] = {
    model.name: model
    for model in (
        RidgeRegression,
        SpikedRandomFeatures,
        GeneralisedLinear,
        BayesOptimal,
        LineNetwork,
        WideLineNetwork,
        LineDescent,
        DecayingLineNetwork,
        DeepMode,
        LinearStudent,
        TwoLayerStudent,
        OnlineStudent,
        GiantStep,
        GiantLeap,
        Mixture,
        Parity,
        StructuredDictionary,
    )
}

__all__ = [
    "MODELS", "AnyLossLineNetwork", "BayesOptimal", "DecayingLineNetwork", "DeepMode", "GeneralisedLinear", "GiantLeap",
    "GiantStep", "LineDescent", "LineNetwork", "LinearStudent", "Mixture", "OnlineStudent", "Parity", "RidgeRegression",
    "SpikedRandomFeatures", "StructuredDictionary", "TwoLayerStudent", "WeightedLineNetwork", "WideLineNetwork",
]  # fmt: skip
