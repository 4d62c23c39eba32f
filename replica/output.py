"""Output channels: averages over label and prediction of what a loss makes of them, as symbolic nodes.

Given everything else, teacher field and prediction are Gaussian:

    t = T + rho zeta,    omega with mean C, variance S and covariance Psi with zeta ~ N(0, 1).

``channel(moment)(C, T, rho, Psi, S, V, noise, flip)`` is the average of a moment (names in `solvers.channels.MOMENTS`) over
both and the label.  The first is the mean Moreau envelope; derivatives of nodes are nodes, by

    dM/d omega = -g,  dg/d omega = -k,  dM/dV = -g^2/2   (envelope theorem),
    d/dC = E[d/d omega],  d/dS = E[d^2/d omega^2]/2,  d/dPsi = E[d/d zeta d/d omega]   (Price's theorem),

with derivatives of k moved onto the Gaussian, and those of the label by ``E[zeta f] = E[df/d zeta] + Psi E[df/d omega]``.

Derivatives in what moves the label (T, rho, noise, flip) are `label_change`.  A solution needs none, its derivatives do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import sympy as sp

from .activations import Activation, Z
from .free_entropy import ModelError
from .losses import Loss
from .walk import pieces

#: Arguments of every node, in order.
ARGUMENTS = ("C", "T", "rho", "Psi", "S", "V", "noise", "flip")


class ChannelNode(sp.Function):
    """Average of one moment over a channel; `moment` is its name."""

    nargs = len(ARGUMENTS)
    is_real = True
    moment = ""

    def fdiff(self, argindex: int = 1) -> Any:
        direction = ARGUMENTS[argindex - 1]
        if self.moment == "fit":  # the loss at the prox: the envelope less V g^2/2
            V = sp.Dummy("V", real=True)
            held = [*self.args[:5], V, *self.args[6:]]
            held[argindex - 1] = V if direction == "V" else sp.Dummy(direction, real=True)
            identity = channel("envelope")(*held) - held[5] * channel("g2")(*held) / 2
            back = dict(zip(held, self.args, strict=True))
            return sp.diff(identity, held[argindex - 1]).xreplace(back)
        if self.moment == "wrong_fit" and direction == "V":  # the density of fits at zero
            return channel_slope("wrong_fit", "V")(sp.S.One, *self.args)
        rule = _SLOPES.get(self.moment, {}).get(direction)
        if rule is None:
            raise ModelError(f"the channel average of {self.moment} has no derivative with respect to {direction}")
        psi = self.args[ARGUMENTS.index("Psi")]
        return sp.Add(*[
            factor * psi**power * channel(name)(*self.args) for name, terms in rule.items() for factor, power in [terms]
        ])  # fmt: skip

    @classmethod
    def meaning(cls) -> str:
        """Arguments, and what is averaged."""
        return f"of ({', '.join(ARGUMENTS)}): {_MEANING.get(cls.moment, cls.moment)}, averaged over label and prediction"

    @classmethod
    def sign(cls) -> str:
        """How it is set in LaTeX, without its arguments."""
        return rf"\left\langle {_LATEX.get(cls.moment, cls.moment)} \right\rangle"

    def _latex(self, printer: Any, exp: Any = None) -> str:
        c, t, rho, psi, s, v = (printer._print(a) for a in self.args[:6])
        text = rf"{self.sign()}_{{C={c},\,T={t},\,\rho={rho},\,"
        text += rf"\Psi={psi},\,S={s},\,V={v}}}"
        return text if exp is None else rf"{{{text}}}^{{{exp}}}"


@cache
def channel(moment: str) -> Any:
    """The node of a moment."""
    return type(f"channel_{moment}", (ChannelNode,), {"moment": moment})


class ChannelSlope(sp.Function):
    """Change of the average of `moment` as its argument `direction` is moved by the first argument: by a pass of its own."""

    nargs = 1 + len(ARGUMENTS)
    is_real = True
    moment, direction = "", ""

    def fdiff(self, argindex: int = 1) -> Any:
        raise ModelError(f"no second derivatives of the channel average of {self.moment}, one of them in {self.direction}")


@cache
def channel_slope(moment: str, direction: str) -> Any:
    """The node of the change of a moment in a direction (names in `solvers.label_slopes`)."""
    name = f"channel_{moment}_by_{direction}"
    return type(name, (ChannelSlope,), {"moment": moment, "direction": direction})


half = sp.Rational(1, 2)
#: d moment / d argument as {moment: (factor, power of Psi)}.
_SLOPES: dict[str, dict[str, dict[str, tuple[Any, int]]]] = {
    "envelope": {
        "C": {"g": (-1, 0)}, "S": {"k": (half, 0)}, "Psi": {"zg": (-1, 0), "k": (-1, 1)}, "V": {"g2": (-half, 0)},
    },
    "g": {
        "C": {"k": (-1, 0)}, "S": {"d_k": (-half, 0)}, "Psi": {"zk": (-1, 0), "d_k": (1, 1)}, "V": {"gk": (-1, 0)},
    },
    "g2": {
        "C": {"gk": (-2, 0)}, "S": {"d_gk": (-1, 0)}, "Psi": {"zgk": (-2, 0), "d_gk": (2, 1)}, "V": {"g2k": (-2, 0)},
    },
    "k": {
        "C": {"d_k": (1, 0)}, "S": {"dd_k": (half, 0)}, "Psi": {"z_d_k": (1, 0), "dd_k": (-1, 1)}, "V": {"d_gk": (1, 0)},
    },
    "zg": {
        "C": {"zk": (-1, 0)}, "S": {"z_d_k": (-half, 0)}, "V": {"zgk": (-1, 0)},
        "Psi": {"zzk": (-1, 0), "z_d_k": (1, 1)},
    },
}  # fmt: skip
for _f in ("square", "residual", "wrong", "wrong_fit", "margin"):
    _SLOPES[_f] = {
        "C": {f"d_{_f}": (1, 0)}, "S": {f"dd_{_f}": (half, 0)}, "Psi": {f"z_d_{_f}": (1, 0), f"dd_{_f}": (-1, 1)}, "V": {},
    }  # fmt: skip
    if _f in ("residual", "margin"):
        _SLOPES[_f]["V"] = {f"v_{_f}": (1, 0)}
del _SLOPES["wrong_fit"]["V"]
_MEANING = {
    "envelope": "M, the least of loss(y, x) + (x - omega)^2/(2 V) over x", "g": "g = -dM/d omega",
    "g2": "g^2, g = -dM/d omega with M the Moreau envelope of the loss", "k": "the second derivative of M in omega",
    "zg": "zeta g, zeta the teacher's own Gaussian", "fit": "the loss at the prox of omega", "square": "(y - omega)^2",
    "residual": "(y - prox)^2", "wrong": "1 where y omega < 0", "wrong_fit": "1 where y prox < 0", "margin": "y prox",
}  # fmt: skip
_LATEX = {
    "envelope": r"\mathcal{M}", "g": "g", "g2": "g^2", "k": r"\partial^2\mathcal{M}", "zg": r"\zeta g", "fit": r"\ell",
    "square": r"(y-\omega)^2", "residual": r"(y-{\rm prox})^2", "wrong": r"1_{y\omega<0}", "wrong_fit": r"1_{y\,{\rm prox}<0}",
    "margin": r"y\,{\rm prox}", "gk": r"g\,\partial g", "g2k": r"g^2\partial g", "zk": r"\zeta\partial g",
    "zgk": r"\zeta g\,\partial g", "zzk": r"\zeta^2\partial g", "d_gk": r"\partial(g\,\partial g)", "d_k": r"\partial^2 g",
    "dd_k": r"\partial^3 g", "z_d_k": r"\zeta\partial^2 g",
}  # fmt: skip


@dataclass(frozen=True)
class OutputChannel:
    """Where labels come from and what they are fitted with.

    Parameters
    ----------
    loss : Loss
    target : Activation
        Function of the teacher field.
    sign : bool
        Labels are the sign of the target plus noise, with flips; otherwise the target plus noise.

    Raises
    ------
    ValueError
        If the loss does not fit such labels; one line.
    """

    loss: Loss
    target: Activation
    sign: bool

    def __post_init__(self) -> None:
        self.loss.check(self.labels)

    @property
    def closed(self) -> bool:
        """Whether the averages are those of squares, which need no channel: the square loss of real labels."""
        return self.loss.quadratic and not self.sign

    @property
    def labels(self) -> tuple[float, ...]:
        return (1.0, -1.0) if self.sign else (0.0,)

    @property
    def linear(self) -> bool:
        """Whether the target is the teacher field itself, which saves an integral."""
        return bool(self.target.expression == Z)

    @property
    def kinks(self) -> tuple[float, ...]:
        """Teacher fields at which labels jump or bend."""
        return self.target.zeros if self.sign else self.target.kinks

    @property
    def even(self) -> bool:
        """Whether labels and loss are the same with all signs reversed: an odd target and a loss of the product y z."""
        odd = sp.expand(self.target.formula(-Z) + self.target.expression) == 0
        return bool(odd) and self.loss.even

    def steps(self, reach: float) -> tuple[list[float], list[float], float]:
        """Where the sign of the target changes, the probability of label 1 before, between and after, and up to which fields.

        That is 0, nothing is known, if the target vanishes or is not a number on an interval.
        """
        steps = list(self.target.zeros_within(reach))
        edges = [-reach, *steps, reach]
        fields = np.concatenate([np.linspace(a, b, 402)[1:-1] for a, b in pairwise(edges)])
        signs = np.sign(self.target.numeric()(fields)).reshape(len(edges) - 1, -1)
        clear = bool((np.abs(signs[:, :1]) == 1).all() and (signs == signs[:, :1]).all())
        return steps, [float(0.5 + 0.5 * s) for s in np.nan_to_num(signs[:, 0])], reach if clear else 0.0


#: What moves the label.
LABEL = ("T", "rho", "noise", "flip")
#: d moment / d rho for labels T + rho zeta + noise: less the average of zeta times the moment's d/d omega.
_RHO = {"envelope": {"zg": 1}, "g": {"zk": 1}, "g2": {"zgk": 2}, "k": {"z_d_k": -1}, "zg": {"zzk": 1}}
_RHO |= {f: {f"z_d_{f}": -1} for f in ("square", "residual")}


def label_change(node: Any, direction: str, moved: Any, output: OutputChannel) -> Any:
    """Change of a channel node as T, rho, noise or flip is moved.

    Where prediction and label enter as their difference, moving the label is moving the prediction.
    """
    if node.moment == "fit":
        envelope, g2 = (label_change(channel(m)(*node.args), direction, moved, output) for m in ("envelope", "g2"))
        return envelope - node.args[ARGUMENTS.index("V")] * g2 / 2
    if not output.sign and direction == "noise":
        return moved * node.fdiff(1 + ARGUMENTS.index("S"))
    if not output.sign and output.linear and direction == "T":
        return -moved * node.fdiff(1 + ARGUMENTS.index("C"))
    if not output.sign and output.linear and direction == "rho" and node.moment in _RHO:
        return moved * sp.Add(*[factor * channel(m)(*node.args) for m, factor in _RHO[node.moment].items()])
    return channel_slope(node.moment, direction)(moved, *node.args)


def channel_nodes(expressions: Iterable[Any]) -> dict[tuple[Any, ...], list[Any]]:
    """Nodes in expressions by their arguments, in a fixed order."""
    return _grouped(expressions, ChannelNode, lambda node: node.args)


def slope_nodes(expressions: Iterable[Any]) -> dict[tuple[Any, ...], list[Any]]:
    """Nodes of derivatives, one list per pass."""
    return _grouped(expressions, ChannelSlope, lambda node: (node.direction, node.args))


def _grouped(expressions: Iterable[Any], kind: type, key: Callable[[Any], tuple[Any, ...]]) -> dict[tuple[Any, ...], list[Any]]:
    found: dict[tuple[Any, ...], dict[Any, None]] = {}
    nodes = set().union(*[pieces(e, kind) for e in expressions])
    for node in sorted(nodes, key=sp.default_sort_key):
        found.setdefault(key(node), {})[node] = None
    return {k: list(group) for k, group in found.items()}
