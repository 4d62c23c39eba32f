"""Teacher-student generalised linear model: any convex loss, real labels or classes; ridge regression is its square loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import sympy as sp

from ..averages import GaussianAverage, gaussian
from ..free_entropy import FreeEntropy
from ..model import (
    ChoiceOption,
    Conjugate,
    FunctionOption,
    LossOption,
    Model,
    Observable,
    OptionError,
    OrderParameter,
    Parameter,
)  # fmt: skip
from ..output import OutputChannel, channel
from ..relaxation import finite_part, penalty
from .training import train_generalised_linear

half = sp.Rational(1, 2)
s, h, xi = gaussian("s h xi")
SIGN = {"labels": "sign"}


class GeneralisedLinear(Model):
    """Penalised regression or classification on labels of a single-index teacher, at n, d -> infinity with n/d = alpha.

    Inputs x ~ N(0, 1/d), teacher field ``t = <w*, x>`` with ``|w*|^2 = rho d``; labels ``target(t) + sqrt(noise) xi``, or with
    ``labels="sign"`` the sign of that, flipped with probability `flip`.  The student minimises
    ``sum loss(y, <w, x>) + reg |w|^2 / 2``.  Overlaps per dimension: m = <w, w*>/d, q = <w, w>/d, V the response.
    Replica symmetric, exact for these convex problems.  At ``reg = 0`` below interpolation (square loss of real labels) it is the
    fit of least norm: V is in units of 1/reg, V_hat and m_hat of reg, q_hat of reg^2, the free entropy of reg.
    Source: the free entropy of docs/theory/glm.md.
    """

    name: ClassVar[str] = "glm"
    title: ClassVar[str] = "Teacher-student generalised linear model"
    references: ClassVar[str] = "docs/theory/glm.md; Aubin et al., arXiv:2006.06560; Loureiro et al., arXiv:2102.08127"

    alpha = Parameter("samples per dimension, n/d", lower=0, lower_open=True, latex=r"\alpha")
    reg = Parameter("ridge penalty lambda", lower=0, latex=r"\lambda")
    noise = Parameter("label noise variance (inside the sign, with labels=sign)", lower=0, default=0.0, latex=r"\Delta")
    rho = Parameter("squared norm of the teacher per dimension", lower=0, lower_open=True, default=1.0, latex=r"\rho")
    flip = Parameter("probability that a label is flipped", lower=0, upper=0.5, default=0.0, latex="f", only=SIGN)

    target = FunctionOption("teacher, a function of the teacher field", "identity", r"\sigma_\star")
    labels = ChoiceOption("real labels, or the sign of the target", "real", ("real", "sign"))
    loss = LossOption("training loss", "square")

    V = OrderParameter("student response (variance)", lower=0, start=1.0, floor=1e-12)
    q = OrderParameter("student self-overlap", lower=0, start=0.1, exceeds=("m", "rho"))
    m = OrderParameter("teacher-student overlap", start=0.1)
    q_hat = Conjugate(V, -half)
    V_hat = Conjugate(q, half)
    m_hat = Conjugate(m, -1)

    test_error = Observable("mean squared test error, label noise included", lower=0, latex=r"\epsilon_{\rm test}")
    train_error = Observable("mean squared training residual", lower=0, latex=r"\epsilon_{\rm train}")
    train_loss = Observable("mean training loss", latex=r"\ell_{\rm train}")
    zero_one = Observable("probability of a wrong sign on a new input", lower=0, latex=r"\epsilon_{01}", only=SIGN)
    train_zero_one = Observable("fraction of wrong signs in training", lower=0, latex=r"\epsilon_{01,\rm train}", only=SIGN)
    margin = Observable("mean of label times prediction in training", latex=r"\langle y f \rangle", only=SIGN)

    def output_channel(self) -> OutputChannel | None:
        """None for the square loss of real labels, whose averages are closed."""
        loss, sign = self.choices["loss"], self.choices["labels"] == "sign"
        if loss.quadratic and not sign:
            return None
        try:
            return OutputChannel(loss, self.choices["target"], sign)
        except ValueError as error:
            raise OptionError(f"{self.name}: {error}") from None

    def _closed(self, f: Any) -> Any:
        return GaussianAverage(f, (s, h, xi), [[self.rho, self.m, 0], [self.m, self.q, 0], [0, 0, 1]])

    def _channel(self, moment: str) -> Any:
        flip = self.flip if self.choices["labels"] == "sign" else sp.S.Zero
        root = sp.sqrt(self.rho)
        return channel(moment)(sp.S.Zero, sp.S.Zero, root, self.m / root, self.q, self.V, self.noise, flip)

    def free_entropy(self) -> FreeEntropy:
        if self.output_channel() is None:
            envelope = self._closed(self.loss.moreau(self._label(), h, self.V, self._unit()))
        else:
            envelope = self._channel("envelope")
        return FreeEntropy(
            self.couplings,
            potential_hat=half * (self.rho * self.m_hat**2 + self.q_hat) / (self._penalty() + self.V_hat),
            potential=-self.alpha * envelope,
        )

    def _unit(self) -> Any:
        return finite_part(self.reg, self.alpha, 1)

    def _penalty(self) -> Any:
        return self.reg if self.output_channel() is not None else penalty(self.reg, self.alpha, 1)

    def _label(self) -> Any:
        return self.target(s) + sp.sqrt(self.noise) * xi

    def observables(self) -> Mapping[Any, Any]:
        if self.output_channel() is None:
            y = self._label()
            residual = self._closed((y - self.loss.prox(y, h, self.V, self._unit())) ** 2)
            return {
                self.test_error: self._closed((y - h) ** 2),
                self.train_error: residual,
                self.train_loss: residual / 2,
            }
        found = {
            self.test_error: self._channel("square"),
            self.train_error: self._channel("residual"),
            self.train_loss: self._channel("fit"),
        }
        if self.choices["labels"] == "sign":
            found[self.zero_one] = self._channel("wrong")
            found[self.train_zero_one] = self._channel("wrong_fit")
            found[self.margin] = self._channel("margin")
        return found

    def constraints(self) -> Mapping[str, Any]:
        return {"m^2 <= rho q": self.rho * self.q - self.m**2}

    def simulate(self, parameters: Mapping[str, float], size: int, rng: Any) -> dict[str, float]:
        """Train on ``alpha * size`` samples in dimension `size`, to machine precision; one draw."""
        return train_generalised_linear(
            self.choices["loss"], self.choices["target"], self.choices["labels"] == "sign", **parameters, size=size, rng=rng
        )
