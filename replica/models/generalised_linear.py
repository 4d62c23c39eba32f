"""Teacher-student generalised linear model: any convex loss, real labels or classes; ridge regression is its square loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import sympy as sp

from ..averages import GaussianAverage, gaussian
from ..free_entropy import FreeEntropy
from ..model import ChoiceOption, Conjugate, FunctionOption, LossOption, OrderParameter, Parameter
from ..output import channel
from .supervised import SIGN, Supervised
from .training import Labels, train_generalised_linear

half = sp.Rational(1, 2)
s, h, xi = gaussian("s h xi")


class GeneralisedLinear(Supervised):
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

    def weights_per_dimension(self) -> Any:
        return sp.S.One

    def closed_fields(self) -> tuple[Any, Any, Any]:
        return self.target(s) + sp.sqrt(self.noise) * xi, h, self.V

    def closed_average(self, f: Any) -> Any:
        return GaussianAverage(f, (s, h, xi), [[self.rho, self.m, 0], [self.m, self.q, 0], [0, 0, 1]])

    def channel_average(self, moment: str) -> Any:
        flip, root = self.flip if self.sign else sp.S.Zero, sp.sqrt(self.rho)
        return channel(moment)(sp.S.Zero, sp.S.Zero, root, self.m / root, self.q, self.V, self.noise, flip)

    def free_entropy(self) -> FreeEntropy:
        return FreeEntropy(
            self.couplings,
            potential_hat=half * (self.rho * self.m_hat**2 + self.q_hat) / (self.penalty + self.V_hat),
            potential=-self.alpha * self.envelope(),
        )

    def constraints(self) -> Mapping[str, Any]:
        return {"m^2 <= rho q": self.rho * self.q - self.m**2}

    def simulate(self, parameters: Mapping[str, float], size: int, rng: Any) -> dict[str, float]:
        """Train on ``alpha * size`` samples in dimension `size`, to machine precision; one draw."""
        given = dict(parameters)
        labels = Labels(self.choices["target"], self.sign, given.pop("noise"), given.pop("flip", 0.0))
        return train_generalised_linear(self.choices["loss"], labels, **given, size=size, rng=rng)
