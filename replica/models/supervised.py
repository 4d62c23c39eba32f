"""What models trained on labels of a single-index teacher share: labels, losses, and the observables of both."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from ..model import Model, Observable, OptionError
from ..output import OutputChannel
from ..relaxation import finite_part, penalty

#: Declarations that exist with labels of two classes only.
SIGN = {"labels": "sign"}


class Supervised(Model):
    """Base of `glm` and `srf`: options `target`, `labels` and `loss`, and every average over the output.

    Subclasses declare those options and the parameters, and give `closed_fields` with `closed_average` (the square loss of
    real labels, whose averages are closed) and `channel_average` (everything else).
    """

    loss: Any
    alpha: Any
    reg: Any

    test_error = Observable("mean squared test error, label noise included", lower=0, latex=r"\epsilon_{\rm test}")
    train_error = Observable("mean squared training residual", lower=0, latex=r"\epsilon_{\rm train}")
    train_loss = Observable("mean training loss", latex=r"\ell_{\rm train}")
    zero_one = Observable("probability of a wrong sign on a new input", lower=0, latex=r"\epsilon_{01}", only=SIGN)
    train_zero_one = Observable("fraction of wrong signs in training", lower=0, latex=r"\epsilon_{01,\rm train}", only=SIGN)
    margin = Observable("mean of label times prediction in training", latex=r"\langle y f \rangle", only=SIGN)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.sign = self.choices["labels"] == "sign"
        try:
            self._output = OutputChannel(self.choices["loss"], self.choices["target"], self.sign)
        except ValueError as error:
            raise OptionError(f"{self.name}: {error}") from None

    def output_channel(self) -> OutputChannel | None:
        """None for the square loss of real labels, whose averages are closed."""
        return None if self._output.closed else self._output

    def weights_per_dimension(self) -> Any:
        """Trained weights per dimension, in the units of `alpha`."""
        raise TypeError(f"{type(self).__name__} does not say how many weights it trains")

    def closed_fields(self) -> tuple[Any, Any, Any]:
        """Label, prediction and response, under `closed_average`."""
        raise TypeError(f"{type(self).__name__} does not give its fields")

    def closed_average(self, f: Any) -> Any:
        """E over label and prediction, as Gaussian averages."""
        raise TypeError(f"{type(self).__name__} does not average over its fields")

    def channel_average(self, moment: str) -> Any:
        """E of a moment of the output channel."""
        raise TypeError(f"{type(self).__name__} has no channel")

    @cached_property
    def penalty(self) -> Any:
        """`reg`, or what takes its place at reg = 0 below interpolation."""
        ridgeless = self.output_channel() is None
        return penalty(self.reg, self.alpha, self.weights_per_dimension()) if ridgeless else self.reg

    @cached_property
    def _unit(self) -> Any:
        return finite_part(self.reg, self.alpha, self.weights_per_dimension())

    def envelope(self) -> Any:
        """Mean Moreau envelope of the loss, the data side of the free entropy."""
        if self.output_channel() is not None:
            return self.channel_average("envelope")
        label, prediction, response = self.closed_fields()
        return self.closed_average(self.loss.moreau(label, prediction, response, self._unit))

    def observables(self) -> Mapping[Any, Any]:
        if self.output_channel() is None:
            label, prediction, response = self.closed_fields()
            residual = self.closed_average((label - self.loss.prox(label, prediction, response, self._unit)) ** 2)
            test = self.closed_average((label - prediction) ** 2)
            return {self.test_error: test, self.train_error: residual, self.train_loss: residual / 2}
        moments = {"test_error": "square", "train_error": "residual", "train_loss": "fit"}
        if self.sign:
            moments |= {"zero_one": "wrong", "train_zero_one": "wrong_fit", "margin": "margin"}
        return {getattr(self, name): self.channel_average(moment) for name, moment in moments.items()}
