"""Bayes-optimal generalised linear model: what can be known, and what a fast algorithm finds, of a random signal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import sympy as sp

from ..averages import GaussianAverage, gaussian
from ..free_entropy import FreeEntropy
from ..functions import bit_entropy, log_ndtr, softplus
from ..model import ChoiceOption, Conjugate, Model, Observable, OrderParameter, Parameter
from ..relaxation import variance
from .message_passing import infer

half = sp.Rational(1, 2)
t, u = gaussian("t u")


class BayesOptimal(Model):
    """Bayes-optimal inference of a signal from random projections, at n, d -> infinity with n/d = alpha.

    Signal x in R^d with independent entries of variance 1, rows a ~ N(0, 1/d), ``y = channel(<a, x> + sqrt(noise) xi)``: the
    argument itself (linear), its sign (perceptron) or its modulus (phase retrieval).  The prior is known: Gaussian, binary
    (+-1), or sparse (a fraction `density` of Gaussian entries of variance 1/density, the others zero).

    v = 1 - q is the mean squared error of the posterior mean at the fixed point of largest free entropy, q its overlap with the
    signal; q_hat is the signal-to-noise ratio of the scalar channel ``x + z/sqrt(q_hat)`` that an entry is seen through.  The
    free entropy is ``(1/d) E log P(y)``.  Several fixed points: the one reached from `start` is what approximate message passing
    finds, the one reached from `informed` what it finds from next to the signal.  Replica symmetric, proven [1].
    Source: free entropy, Eq. (4) of [1] with rho = 1 and noise inside the channel; for the form of its averages,
    docs/theory/bayes_optimal.md.

    References
    ----------
    .. [1] J. Barbier, F. Krzakala, N. Macris, L. Miolane, L. Zdeborova, PNAS 116, 5451 (2019), arXiv:1708.03395.
    """

    name: ClassVar[str] = "bayes-optimal"
    title: ClassVar[str] = "Bayes-optimal generalised linear model"
    method: ClassVar[str] = "damped"
    references: ClassVar[str] = "Barbier, Krzakala, Macris, Miolane, Zdeborova, PNAS 116, 5451 (2019), arXiv:1708.03395"

    alpha = Parameter("samples per dimension, n/d", lower=0, lower_open=True, latex=r"\alpha")
    noise = Parameter("variance of the noise inside the channel", lower=0, default=0.0, latex=r"\Delta")
    density = Parameter("fraction of entries that are not zero", lower=0, upper=1, lower_open=True, upper_open=True,
                        latex=r"\rho", only={"prior": "sparse"})  # fmt: skip

    prior = ChoiceOption("law of the entries of the signal", "binary", ("gaussian", "binary", "sparse"))
    channel = ChoiceOption("what is seen of a projection", "sign", ("linear", "sign", "modulus"))

    v = OrderParameter("mean squared error of the signal, 1 - q", lower=0, upper=1, start=0.999, informed=1e-12,
                       floor=1e-300)  # fmt: skip
    q_hat = Conjugate(v, half, latex=r"\hat q")

    q = Observable("overlap of estimate and signal", latex="q")
    test_error = Observable("mean squared error of a new observation", lower=0, latex=r"\epsilon_{\rm test}",
                            only={"channel": "linear"})  # fmt: skip
    zero_one = Observable("probability of a wrong sign on a new input", lower=0, latex=r"\epsilon_{01}", only={"channel": "sign"})

    def free_entropy(self) -> FreeEntropy:
        return FreeEntropy(self.couplings, potential_hat=self.prior_entropy(), potential=self.alpha * self.channel_entropy())

    def channel_entropy(self) -> Any:
        """E log P(y | the part of the projection that is known): N(0, q) of N(0, 1), the rest being noise of variance v.

        The averages over ``t ~ N(0, q/(v + noise))`` have been weighted by exp(-t^2/2), with which their integrands fall off:
        so they are as smooth at tiny v as at v = 1.
        """
        unknown, total = self.v + self.noise, 1 + self.noise
        weight, known = sp.sqrt(unknown) / sp.sqrt(total), variance((1 - self.v) / total)
        if self.channel == "sign":  # sum over both signs of P log P, equal by symmetry
            both = 2 * sp.exp(t**2 / 2 + log_ndtr(t)) * log_ndtr(t)
            return weight * GaussianAverage(both, t, [[known]])
        linear = -half * sp.log(2 * sp.pi * sp.E * unknown)
        if self.channel == "linear":
            return linear
        # The entropy of the lost sign, in nats, is what separates it from the linear channel.
        return linear + weight * GaussianAverage(bit_entropy(t * u), (t, u), [[known, 0], [0, 1]])

    def prior_entropy(self) -> Any:
        """E log of the normalisation of the posterior of an entry seen at ``q_hat``, less q_hat/2."""
        seen = self.q_hat
        if self.prior == "gaussian":
            return -half * sp.log(1 + seen)
        if self.prior == "binary":  # minus the entropy of the sign; weighted as the averages of the channel
            return sp.exp(-seen / 2) * GaussianAverage(bit_entropy(t), t, [[variance(seen)]]) - sp.log(2)
        ratio = seen / self.density
        odds = sp.log(self.density / (1 - self.density)) - half * sp.log(1 + ratio) + half * t**2 * ratio / (1 + ratio)
        mixed = sp.log(1 - self.density) + softplus(odds) + sp.exp(odds) * softplus(-odds)
        return (1 - self.density) * GaussianAverage(mixed, t) + self.density * (sp.log(self.density) - half * sp.log(1 + ratio))

    def observables(self) -> Mapping[Any, Any]:
        out = {self.q: 1 - self.v}
        if self.channel == "linear":
            out[self.test_error] = self.v + self.noise
        if self.channel == "sign":  # angle between the argument of the sign and its best estimate
            out[self.zero_one] = sp.asin(sp.sqrt((self.v + self.noise) / (1 + self.noise))) / sp.pi
        return out

    def simulate(self, parameters: Mapping[str, float], size: int, rng: Any) -> dict[str, float]:
        """Approximate message passing on one draw in dimension `size`, from a little side information."""
        return infer(self.prior, self.channel, parameters, size, rng)
