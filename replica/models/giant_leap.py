"""One giant gradient step on n = alpha d^l samples, l >= 2: the law over neurons of the alignment with the teacher space.

References
----------
.. [1] Y. Dandi et al., arXiv:2305.18270; docs/theory/giant_steps.md, A3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from ..evaluated import EvaluatedModel, Formula
from ..giant_steps.alignment import REMOVALS, align
from ..giant_steps.moments import lowest_order, step_moments
from ..giant_steps.simulations import first_step
from ..model import ChoiceOption, FunctionOption, Observable, OptionError, Parameter, WholeOption
from .giant_step import TargetOption

#: Quantiles over neurons that are reported.
LOW, MIDDLE, HIGH = 0.1, 0.5, 0.9
#: Neurons of an experiment.
NEURONS = 100


class GiantLeap(EvaluatedModel):
    """Law over neurons of the alignment with the teacher space after one giant step on n = alpha d^l samples, l >= 2.

    Labels ``y = g(z) + sqrt(noise) xi``; a network that is 0 at the start (symmetric readout), and a step t >> d^{(l-1)/2}, so
    that a neuron becomes its gradient.  Tensors of the target below order l must vanish or be removed from the labels.
    """

    name: ClassVar[str] = "giant-leap"
    title: ClassVar[str] = "Law over neurons after one giant step, n = alpha d^l"
    references: ClassVar[str] = "arXiv:2305.18270; docs/theory/giant_steps.md, A3"
    text: ClassVar[tuple[str, ...]] = (
        "replica.giant_steps.alignment", "replica.giant_steps.law", "replica.giant_steps.moments", "replica.hermite",
        "replica.smoothing", "replica.targets", "replica.terms",
    )  # fmt: skip

    target = TargetOption("target g of the teacher directions", "z1*z2")
    activation = FunctionOption("activation of the network", "relu", r"\sigma")
    leap = WholeOption("l of n = alpha d^l; 0 takes the lowest order of the target that the removal leaves", "0", 0, 8)
    removal = ChoiceOption("what is removed from the labels on the same batch", "none", REMOVALS)

    alpha = Parameter("samples per d^l", lower=0, lower_open=True, infinite=True, latex=r"\alpha")
    noise = Parameter("label noise variance", lower=0, default=0.0, latex=r"\Delta")
    d = Parameter("dimension, for the share r/d of batch noise inside the teacher space; inf leaves it out", lower=20,
                  infinite=True, default=math.inf)  # fmt: skip

    cos2 = Observable("mean over neurons of the squared cosine with the teacher space", lower=0, latex=r"\cos^2")
    share = Observable("mean squared cosine with every teacher direction", lower=0, latex=r"\cos^2_i", index=("direction",))
    low = Observable("10% of neurons have a smaller squared cosine", lower=0, latex=r"\cos^2_{10\%}")
    median = Observable("half of the neurons have a smaller one", lower=0, latex=r"\cos^2_{50\%}")
    high = Observable("90% of neurons have a smaller one", lower=0, latex=r"\cos^2_{90\%}")
    norm = Observable("root mean squared norm of the gradient, times d^{(l-1)/2}", lower=0, latex="|u|")

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        removed = {"mean": 0, "moments": 1, "least-squares": 1}.get(self.choices["removal"], 0)
        self.order = self.choices["leap"] or lowest_order(self.choices["target"], above=removed)
        if self.order < 2:
            raise OptionError(f"{self.name}: leap = {self.order} has no law over neurons: all are alike; use giant-step")
        self._moments = step_moments(self.choices["target"], self.choices["activation"], self.order)
        self._aligned(1.0, 0.0, math.inf)  # refuses what this target and activation cannot do

    def _aligned(self, alpha: float, noise: float, d: float) -> Any:
        shared: dict[str, Any] = {"leap": self.order, "removal": self.choices["removal"], "d": d}
        return align(self._moments, alpha, noise, probabilities=(LOW, MIDDLE, HIGH), **shared)

    def sizes(self) -> dict[str, int | None]:
        return {"direction": self.choices["target"].r}

    def statement(self) -> dict[str, str]:
        size = f"d^{self.order}"
        return {
            "claim": "asymptotic",
            "regime": f"n = alpha {size}, d -> infinity at fixed alpha, steps t >> d^{(self.order - 1) / 2:g}, network 0 at the "
            "start; finite d adds one term of 1/d",
        }

    def formulas(self) -> Mapping[str, Formula]:
        ratio = r"\frac{|v|^2}{|v|^2+T/\alpha}"
        return {
            "cos2": Formula(
                "E |v|^2/(|v|^2 + T/alpha), v = c_l/(l-1)! C_l[., zeta, .., zeta], zeta ~ N(0, I_r)",
                rf"\mathbb{{E}}\,{ratio},\quad v=\tfrac{{c_l}}{{(l-1)!}}C_l[\cdot,\zeta,\ldots,\zeta],"
                r"\quad \zeta\sim\mathcal N(0,I_r)",
            ),
            "share": Formula("E v_i^2/(|v|^2 + T/alpha)", r"\mathbb{E}\,\frac{v_i^2}{|v|^2+T/\alpha}"),
            **{
                name: Formula(f"{100 * p:g}% quantile over zeta of |v|^2/(|v|^2 + T/alpha)", rf"q_{{{p:g}}}\Bigl({ratio}\Bigr)")
                for name, p in (("low", LOW), ("median", MIDDLE), ("high", HIGH))
            },
            "norm": Formula("sqrt(E |v|^2 + T/alpha)", r"\sqrt{\mathbb{E}|v|^2+T/\alpha}"),
        }

    def evaluate(self, parameters: Mapping[str, float], nodes: int) -> Mapping[str, tuple[Any, Any]]:
        """The rules of the law are its own; `nodes` plays no part."""
        found = self._aligned(parameters["alpha"], parameters["noise"], parameters["d"])
        quantiles = dict(zip(("low", "median", "high"), found.quantiles.values(), strict=True))
        values = {"cos2": found.cos2, "share": np.diag(found.share), **quantiles, "norm": found.norm}
        # Quantiles at a finite dimension come from 256 levels of |v|^2.
        coarse = 1e-3 if math.isfinite(parameters["d"]) else found.error
        return {name: (value, coarse if name in quantiles else found.error) for name, value in values.items()}

    def simulate(self, parameters: Mapping[str, float], size: int, rng: Any) -> dict[str, Any]:
        """One step of 100 real neurons in dimension `size`."""
        target, activation = self.choices["target"], self.choices["activation"]
        found = first_step(
            target.numeric, target.r, activation.numeric_derivative(), alpha=parameters["alpha"], noise=parameters["noise"],
            leap=self.order, step=math.inf, d=size, p=NEURONS, rng=rng, removal=self.choices["removal"],
        )  # fmt: skip
        low, median, high = np.quantile(found["all_cos2"], [LOW, MIDDLE, HIGH])
        return {
            "cos2": found["cos2"], "share": np.diag(found["share"]), "low": low, "median": median, "high": high,
            "norm": math.sqrt(found["norm2"]),
        }  # fmt: skip
