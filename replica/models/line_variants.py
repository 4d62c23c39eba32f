"""Line networks without a closed form: discrete gradient descent, weight decay, other losses.

One clock still moves all neurons, so a network of any width is a map of three numbers, or one scalar differential equation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import sympy as sp

from ..dynamics import DataSum, State, column, time_parameter
from ..expressions import ExpressionError, parse_expression
from ..model import OptionError, Parameter
from ..relaxation import elapsed, part, times
from .line_network import Moments, Norms, half
from .linear_simulations import draw_weights, line_descent, line_flow, square_slope
from .schemes import data_moments

#: Integration does not tell p from q closer than this.
UNTOLD = sp.Float(1e-11)


class LineDescent(Norms, Moments):
    """Gradient descent with a finite step on a line network: an exact map of two norms, for any width.

    Time counts steps.  ``p <- (1 + e) p``, ``q <- (1 - e) q`` for every neuron, with one e for all; so catapults and
    divergence are those of the network.  Source: docs/theory/linear_network.md, section A.9.
    """

    name: ClassVar[str] = "line-descent"
    title: ClassVar[str] = "Linear network on data along a line, gradient descent"
    kind: ClassVar[str] = "map"

    step = Parameter("step size of gradient descent", lower=0, lower_open=True, latex=r"\tau")
    time = Parameter("number of steps", lower=0, whole=True, latex="t")

    p = State("|sqrt(eta_w) u + sqrt(eta_u) w|^2", lower=0)
    q = State("|sqrt(eta_w) u - sqrt(eta_u) w|^2", lower=0)
    g = State("u.w")
    shrink = State("area over its first value", latex="r")
    s = State("clock: sum of the steps")

    def initial(self) -> Mapping[Any, Any]:
        return {self.p: self.plus, self.q: self.minus, self.g: self.overlap0, self.shrink: 1, self.s: 0}

    def field(self) -> Mapping[Any, Any]:
        slope = 2 * self.c_loss * self.gamma * (self.B - self.A * self.gamma * self.g) * self.step
        e = self.kappa * slope
        return {
            self.p: (1 + e) ** 2 * self.p,
            self.q: (1 - e) ** 2 * self.q,
            # (p - q)/(4 kappa), in a form that is regular at kappa = 0
            self.g: (1 + e**2) * self.g + half * slope * (self.p + self.q),
            self.shrink: (1 - e) * (1 + e) * self.shrink,
            self.s: self.s + slope,
        }

    def observables(self) -> Mapping[Any, Any]:
        output = self.gamma * self.g
        ntk = half * self.gamma**2 * (self.p + self.q)
        return self.read(self.g, output, output - self.target, ntk, self.s, self.shrink)

    def simulate(self, parameters: Mapping[str, float], size: int, rng: Any) -> dict[str, float]:
        """Gradient descent on the raw weights of a network of width `size`, in a random direction."""
        p = dict(parameters)
        slope = square_slope(p["A"], p["B"], p["c_loss"])
        rates: dict[str, Any] = {name: p[name] for name in ("step", "gamma", "eta_u", "eta_w")}
        return self.trained(line_descent(*draw_weights(p, size, rng), [p["time"]], slope, **rates), p)


class _Clock(Norms):
    """One scalar equation for the clock; subclasses give minus the derivative of the loss in the slope."""

    kind: ClassVar[str] = "flow"

    decay = Parameter("rate of weight decay, eta_u mu_u = eta_w mu_w", lower=0, default=0.0, latex=r"\mu")
    time = time_parameter(infinite=False)

    z = State("clock less its drift")

    def drift(self) -> Any:
        """Speed of the clock at late times, if it is known: decay keeps it running for ever."""
        return sp.S.Zero

    def now(self) -> Any:
        """The clock."""
        return self.z + self.drift() * self.time

    def pair(self) -> tuple[Any, Any]:
        """p and q; the drift and the decay, which nearly cancel, are put together first."""
        turned, lost = 2 * self.kappa * self.z, 2 * self.kappa * self.drift()
        up, down = turned + (lost - 2 * self.decay) * self.time, -turned - (lost + 2 * self.decay) * self.time
        return times(self.plus, sp.exp(up)), times(self.minus, sp.exp(down))

    def overlap(self) -> Any:
        """p - q, or, where that cancels, regular as a learning rate vanishes.

        The difference is good to integration error; of parallel layers the sign would be all that is left, so it is 0 there.
        """
        s, (p, q) = self.now(), self.pair()
        turned = self.plus * elapsed(2 * self.kappa, s) + self.minus * elapsed(-2 * self.kappa, s)
        near = sp.exp(-2 * self.decay * self.time) * (self.overlap0 + half * turned)
        exact = sp.Piecewise((near, sp.Abs(self.kappa * s) < half), ((p - q) / (4 * self.kappa), True))
        lost = sp.And(sp.Eq(self.area, 0), p * q > 0, sp.Abs(p - q) < UNTOLD * (p + q))
        return sp.Piecewise((0, lost), (exact, True))

    def slope(self, output: Any) -> Any:
        """Minus the derivative of the loss in the slope of the network."""
        raise TypeError("a line network without a loss")

    def initial(self) -> Mapping[Any, Any]:
        return {self.z: 0}

    def field(self) -> Mapping[Any, Any]:
        return {self.z: self.gamma * self.slope(self.gamma * self.overlap()) - self.drift()}

    def observables(self) -> Mapping[Any, Any]:
        p, q = self.pair()
        output = self.gamma * self.overlap()
        shrink = sp.exp(-2 * self.decay * self.time)
        return self.read(self.overlap(), output, output - self.target, half * self.gamma**2 * (p + q), self.now(), shrink)


class DecayingLineNetwork(_Clock, Moments):
    """Line network with equal weight decay in both layers: one scalar equation for the clock, for any width.

    `decay` is the rate at which weights shrink by themselves, the same in both layers.  Without decay it repeats
    `line-network` by integration.  Source: docs/theory/linear_network.md, section A.10.
    """

    name: ClassVar[str] = "decaying-line-network"
    title: ClassVar[str] = "Linear network on data along a line, with weight decay"

    faded = State("minus the log of what is left of u.w, if the target is 0")

    def overlap(self) -> Any:
        """p - q; with target 0 that is rounding in the end, and the sign of a vanishing layer would be lost with it."""
        return sp.Piecewise((self.overlap0 * sp.exp(-self.faded), sp.Eq(self.B, 0)), (super().overlap(), True))

    def initial(self) -> Mapping[Any, Any]:
        return {**super().initial(), self.faded: 0}

    def field(self) -> Mapping[Any, Any]:
        """(u.w)' = gamma slope (p + q)/2 - 2 decay u.w, with a slope proportional to u.w."""
        p, q = self.pair()
        rate = self.c_loss * self.gamma**2 * self.A * (p + q) + 2 * self.decay
        return {**super().field(), self.faded: sp.Piecewise((rate, sp.Eq(self.B, 0)), (0, True))}

    def slope(self, output: Any) -> Any:
        return 2 * self.c_loss * (self.B - self.A * output)

    def drift(self) -> Any:
        """The growth of the weights makes up for their decay, or, if the target is too weak for that, pulls at full force."""
        pull = 2 * self.c_loss * self.gamma * self.kappa * self.B
        return part(sp.sign(pull) * sp.Min(self.decay, sp.Abs(pull)), self.kappa)

    def simulate(self, parameters: Mapping[str, float], size: int, rng: Any) -> dict[str, float]:
        """Decaying gradient flow on the raw weights of a network of width `size`, in a random direction."""
        p = dict(parameters)
        slope = square_slope(p["A"], p["B"], p["c_loss"])
        rates: dict[str, Any] = {name: p[name] for name in ("gamma", "eta_u", "eta_w", "decay")}
        return self.trained(line_flow(*draw_weights(p, size, rng), [p["time"]], slope, **rates), p)


class AnyLossLineNetwork(_Clock):
    """Line network trained on given data with any loss of label y and output f.

    Parameters
    ----------
    x, y : array_like, shape (n,)
        Data; the loss is averaged over them.
    loss : str
        An expression in y and f, such as ``softplus(-y*f)`` (logistic) or ``0.5*(y - f)**2``.

    Raises
    ------
    WeightError, OptionError
        If the data or the expression cannot be used.
    """

    name: ClassVar[str] = "any-loss-line-network"
    title: ClassVar[str] = "Linear network on data along a line, any loss"

    def __init__(self, x: Any, y: Any, loss: str = "softplus(-y*f)") -> None:
        super().__init__()
        moments = data_moments(x, y)
        self.A, self.B, self.noise, self.c_loss = moments["A"], moments["B"], moments["noise"], 1.0
        self.x, self.y, self.text = np.asarray(x, dtype=float), np.asarray(y, dtype=float), loss
        try:
            self.expression = parse_expression(loss, ("y", "f"))
        except ExpressionError as error:
            raise OptionError(f"{self.name}: loss: {error}") from None

    @property
    def options(self) -> dict[str, str]:
        return {"loss": self.text, "samples": str(self.x.size)}

    def data(self) -> Mapping[str, np.ndarray]:
        return {"x": self.x, "y": self.y}

    def _mean(self, expression: Any, output: Any) -> Any:
        y, f = (sp.Symbol(name, real=True) for name in ("y", "f"))
        return DataSum(expression.xreplace({y: column("y"), f: column("x") * output})) / self.x.size

    def slope(self, output: Any) -> Any:
        f = sp.Symbol("f", real=True)
        return -self._mean(self.expression.diff(f) * column("x"), output)

    def observables(self) -> Mapping[Any, Any]:
        given = dict(super().observables())
        return {**given, self.loss: self._mean(self.expression, given[self.output])}
