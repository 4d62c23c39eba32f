"""The models that ship with the package.  To add one: one file here, one line in `MODELS` (outside code just uses its class)."""

from .ridge_regression import RidgeRegression
from .spiked_random_features import SpikedRandomFeatures

MODELS = {model.name: model for model in (RidgeRegression, SpikedRandomFeatures)}

__all__ = ["MODELS", "RidgeRegression", "SpikedRandomFeatures"]
