"""One mode of a deep linear network: balanced layers of any depth.

References
----------
.. [1] A. Saxe, J. McClelland, S. Ganguli, arXiv:1312.6120; docs/theory/linear_network.md, sections B.2 and B.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import sympy as sp

from ..dynamics import DynamicModel, State, time_parameter
from ..model import Observable, Parameter
from ..relaxation import elapsed
from .linear_simulations import deep_chain


class DeepMode(DynamicModel):
    """One mode of a deep linear network with balanced layers, trained by gradient flow.

    The strength u is a product of `depth` equal layers x that learn a correlation s: ``x' = x^(N-1) (s - x^N)``, the gradient
    flow of ``(s - product)^2/2`` of N equal layers (whitened inputs).  Exact; arXiv:1312.6120.
    """

    name: ClassVar[str] = "deep-mode"
    title: ClassVar[str] = "Balanced mode of a deep linear network"
    references: ClassVar[str] = "arXiv:1312.6120; docs/theory/linear_network.md, sections B.2 and B.3"
    kind: ClassVar[str] = "flow"

    depth = Parameter("number of layers", lower=1, upper=50, whole=True, default=2.0, latex="N")
    s = Parameter("input-output correlation of the mode", lower=0, lower_open=True, default=1.0)
    u0 = Parameter("strength at time 0", lower=0, lower_open=True, latex="u_0")
    time = time_parameter(infinite=False)

    # Of the ratio, so that neither the slow start nor the slow end loses digits.
    y = State("log of strength over correlation")

    strength = Observable("strength of the mode", lower=0, latex="u")
    gap = Observable("strength minus correlation", latex="u - s")
    loss = Observable("half the squared gap", lower=0, latex=r"\ell")

    def initial(self) -> Mapping[Any, Any]:
        return {self.y: sp.log(self.u0 / self.s)}

    def _gap(self) -> Any:
        return self.s * elapsed(1, self.y)

    def field(self) -> Mapping[Any, Any]:
        # y' = N x'/x, with x^N = s exp(y) and x^N - s without its cancellation
        log_x = (sp.log(self.s) + self.y) / self.depth
        return {self.y: -self.depth * sp.exp((self.depth - 2) * log_x) * self._gap()}

    def observables(self) -> Mapping[Any, Any]:
        return {self.strength: self.s * sp.exp(self.y), self.gap: self._gap(), self.loss: self._gap() ** 2 / 2}

    def simulate(self, parameters: Mapping[str, float], size: int, rng: Any) -> dict[str, float]:
        """All layers of the chain trained; `size` and `rng` play no part."""
        p = dict(parameters)
        u = float(deep_chain(int(p["depth"]), p["s"], p["u0"], [p["time"]])[0])
        return {"strength": u, "gap": u - p["s"], "loss": (u - p["s"]) ** 2 / 2}
