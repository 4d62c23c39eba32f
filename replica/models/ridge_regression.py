"""Teacher-student ridge regression: the textbook check of the whole pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import sympy as sp

from ..averages import GaussianAverage, gaussian
from ..free_entropy import FreeEntropy
from ..model import Conjugate, FunctionOption, LossOption, Model, Observable, OrderParameter, Parameter
from .simulations import train_ridge

half = sp.Rational(1, 2)
s, h, xi = gaussian("s h xi")


class RidgeRegression(Model):
    """Ridge regression on labels of a single-index teacher, at n, d -> infinity with n/d = alpha.

    Inputs x ~ N(0, 1/d), labels ``y = target(<w*, x>) + sqrt(noise) xi`` with ``|w*|^2 = d``; the student minimises
    ``sum (y - <w, x>)^2 / 2 + reg |w|^2 / 2``.  Overlaps per dimension: m = <w, w*>/d, q = <w, w>/d, V the response.
    Replica symmetric, exact for this convex problem.  Source: the free entropy of docs/theory/ridge.md; for a linear
    target its stationarity is the textbook ridge saddle point.
    """

    name: ClassVar[str] = "ridge"
    title: ClassVar[str] = "Teacher-student ridge regression"
    references: ClassVar[str] = "docs/theory/ridge.md; Hastie et al., arXiv:1903.08560 (linear target)"

    alpha = Parameter("samples per dimension, n/d", lower=0, lower_open=True, latex=r"\alpha")
    reg = Parameter("ridge penalty lambda", lower=0, latex=r"\lambda")
    noise = Parameter("label noise variance", lower=0, default=0.0, latex=r"\Delta")

    target = FunctionOption("teacher, a function of the teacher field", "identity", r"\sigma_\star")
    loss = LossOption("training loss", "square")

    V = OrderParameter("student response (variance)", lower=0, start=1.0, floor=1e-12)
    q = OrderParameter("student self-overlap", lower=0, start=0.1)
    m = OrderParameter("teacher-student overlap", start=0.1)
    q_hat = Conjugate(V, -half)
    V_hat = Conjugate(q, half)
    m_hat = Conjugate(m, -1)

    test_error = Observable("mean squared test error, label noise included", lower=0, latex=r"\epsilon_{\rm test}")
    train_error = Observable("mean squared training residual", lower=0, latex=r"\epsilon_{\rm train}")

    def _channel(self, f: Any) -> Any:
        return GaussianAverage(f, (s, h, xi), [[1, self.m, 0], [self.m, self.q, 0], [0, 0, 1]])

    def free_entropy(self) -> FreeEntropy:
        y = self.target(s) + sp.sqrt(self.noise) * xi
        return FreeEntropy(
            self.couplings,
            potential_hat=half * (self.m_hat**2 + self.q_hat) / (self.reg + self.V_hat),
            potential=-self.alpha * self._channel(self.loss.moreau(y, h, self.V)),
        )

    def observables(self) -> Mapping[Any, Any]:
        y = self.target(s) + sp.sqrt(self.noise) * xi
        return {
            self.test_error: self._channel((y - h) ** 2),
            self.train_error: self._channel((y - self.loss.prox(y, h, self.V)) ** 2),
        }

    def constraints(self) -> Mapping[str, Any]:
        return {"m^2 <= q": self.q - self.m**2}

    def simulate(self, parameters: Mapping[str, float], size: int, rng: Any) -> dict[str, float]:
        """Train on ``alpha * size`` samples in dimension `size`; the student's exact test error, one draw."""
        return train_ridge(self.choices["target"].numeric(), **parameters, size=size, rng=rng)
