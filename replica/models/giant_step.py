"""One giant gradient step on n = alpha d samples: alignment of a neuron with the teacher space.

Closed in a handful of Hermite coefficients, which enter the equations as the exact numbers they are wherever those are known.

References
----------
.. [1] Y. Dandi et al., arXiv:2305.18270; docs/theory/giant_steps.md, A2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import sympy as sp

from ..dynamics import DynamicModel
from ..giant_steps.moments import ZERO, Moments, exact_slope, has_jumps, step_moments
from ..giant_steps.simulations import first_step
from ..hermite import coefficient
from ..model import ChoiceOption, Definition, FunctionOption, Observable, Option, OptionError, Parameter
from ..targets import Target, make_target

#: Largest error of the numbers a formula is evaluated with.
MOST_ERROR = 1e-10


class TargetOption(Option):
    """A multi-index target."""

    hint: ClassVar[str] = "an expression in z1, z2, ..."

    def parse(self, value: Any) -> Target:
        return make_target(value)

    def __get__(self, model: Any, owner: type) -> Any:
        return self if model is None else model.choices[self.name]


class GiantStep(DynamicModel):
    """Alignment with the teacher space after one giant gradient step on n = alpha d samples, d -> infinity.

    Labels ``y = g(z) + sqrt(noise) xi`` of r teacher directions, a neuron of unit norm in a network that is 0 at the start
    (symmetric readout); it moves to ``w + t u``.  The role of time is played by t; at t = inf it is the gradient u itself.
    Asymptotic; only the linear part of the target is seen, so one direction at most.
    """

    name: ClassVar[str] = "giant-step"
    title: ClassVar[str] = "Alignment after one giant gradient step, n = alpha d"
    references: ClassVar[str] = "arXiv:2305.18270; docs/theory/giant_steps.md, A2"
    kind: ClassVar[str] = "closed"

    target = TargetOption("target g of the teacher directions", "z1 + z1*z2")
    activation = FunctionOption("activation of the network", "relu", r"\sigma")
    labels = ChoiceOption("labels as they are, or with their mean removed", "raw", ("raw", "centred"))

    alpha = Parameter("samples per dimension, n/d", lower=0, lower_open=True, infinite=True, latex=r"\alpha")
    noise = Parameter("label noise variance", lower=0, default=0.0, latex=r"\Delta")
    d = Parameter("dimension, for the share r/d of batch noise and old weight inside the teacher space; inf leaves it out",
                  lower=20, infinite=True, default=math.inf)  # fmt: skip
    width = Parameter("number of distinct neurons behind `top_cos2`", lower=1, infinite=True, default=math.inf, latex="p")
    time = Parameter("step t of w + t u; inf is the gradient itself", lower=0, infinite=True, default=math.inf, latex="t")

    c_1 = Definition("E[s'] of the activation", latex="c_1")
    along = Definition("c_2 C_0: gradient along the old weight", latex="c_2 C_0")
    slope = Definition("E[s'^2]", latex=r"\langle s'^2\rangle")
    linear = Definition("squared norm of the linear part of the target", latex="|C_1|^2")
    energy = Definition("E[y^2] without label noise", latex=r"\langle g^2\rangle")

    cos2 = Observable("squared cosine of the moved weight with the teacher space", lower=0, latex=r"\cos^2")
    cos = Observable("cosine with the one direction that is learned, the linear part of the target", latex=r"\cos")
    top_cos2 = Observable("the same squared cosine for the top right singular vector of all gradients", lower=0,
                          latex=r"\cos^2_{\rm top}")  # fmt: skip
    norm = Observable("norm of the gradient", lower=0, latex="|u|")

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if not self._moments.error < MOST_ERROR:
            raise OptionError(
                f"{self.name}: the Hermite coefficients of {self.choices['target']} are known to {self._moments.error:.1e} only, "
                f"more than {MOST_ERROR:g}; `replica alignment` reports the error instead"
            )

    @cached_property
    def _moments(self) -> Moments:
        return step_moments(self.choices["target"], self.choices["activation"])

    def _numbers(self) -> tuple[Any, Any, Any, Any, Any, Any]:
        """c_1, c_2, E s'^2, C_0, |C_1|^2, E g^2: exact where they are known."""
        target, activation, m = self.choices["target"], self.choices["activation"], self._moments
        found: list[Any] = [coefficient(activation, 1).exact, coefficient(activation, 2).exact, exact_slope(activation)]
        if has_jumps(activation):
            found[:2] = None, None
        found += [target.tensor(0).item(), sum(x**2 for x in target.tensor(1)), target.second_moment()]
        numbers = [m.c[1], m.c[2], m.slope, m.mean, m.linear, m.second]
        return tuple(sp.sympify(n if e is None else e) for e, n in zip(found, numbers, strict=True))

    def statement(self) -> dict[str, str]:
        return {
            "claim": "asymptotic",
            "regime": "n = alpha d, d -> infinity at fixed alpha, |w| = 1, network 0 at the start; finite d adds one term of 1/d",
        }

    def definitions(self) -> Mapping[Any, Any]:
        c_1, c_2, slope, mean, linear, energy = self._numbers()
        if self.choices["labels"] == "centred":
            mean, energy = sp.S.Zero, energy - mean**2
        return {self.c_1: c_1, self.along: c_2 * mean, self.slope: slope, self.linear: linear, self.energy: energy}

    def observables(self) -> Mapping[Any, Any]:
        signal = self.c_1**2 * self.linear
        batch = (self.energy + self.noise) * self.slope / self.alpha
        inside = self.choices["target"].r / self.d
        old = (1 / self.time + self.along) ** 2
        total = old + signal + batch
        own = (self.energy + self.noise) * (self.slope - self.c_1**2) / self.alpha + self.along**2
        common = signal + (self.energy + self.noise) * self.c_1**2 / self.alpha
        return {
            self.cos2: signal / total + inside * (1 - signal / total),
            self.cos: self.c_1 * sp.sqrt(self.linear) / sp.sqrt(total),
            self.top_cos2: signal / (common + own / self.width),
            self.norm: sp.sqrt(self.along**2 + signal + batch),
        }

    def simulate(self, parameters: Mapping[str, float], size: int, rng: Any) -> dict[str, float]:
        """One step of 50 real neurons in dimension `size`."""
        p, target, activation = dict(parameters), self.choices["target"], self.choices["activation"]
        found = first_step(
            target.numeric, target.r, activation.numeric_derivative(), alpha=p["alpha"], noise=p["noise"], leap=1,
            step=p["time"], d=size, p=50 if math.isinf(p["width"]) else int(p["width"]), rng=rng,
            removal="mean" if self.choices["labels"] == "centred" else "none",
        )  # fmt: skip
        C1 = np.asarray(self._moments.C[1], dtype=float)
        along = float(found["cos"] @ C1) / math.sqrt(max(float(C1 @ C1), ZERO**2))
        return {"cos2": found["cos2"], "cos": along, "top_cos2": found["top"], "norm": math.sqrt(found["norm2"])}

