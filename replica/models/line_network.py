"""One-hidden-layer linear network on data along a line: exact trajectories at any width and any initialisation.

f(x) = gamma sum_i u_i w_i x.  One clock moves all neurons, so the whole network is a Riccati equation with a closed form;
it is derived and certified in `derivation`, and evaluated in a form without cancellations: every quantity is a quotient of
positive numbers in rho = 2 rate/(exp(rate t) - 1).

References
----------
.. [1] Y. Xu, L. Ziyin, arXiv:2401.07085; docs/theory/linear_network.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import sympy as sp

from ..dynamics import DataSum, Derivation, DynamicModel, column, time_parameter
from ..line_certificates import derive
from ..model import Definition, Observable, Parameter, WholeOption
from ..relaxation import half_log, hypotenuse, layer_norm, pace, pace_time, part, ratio, times, upper_root
from .linear_simulations import draw_weights, line_flow, square_slope
from .schemes import check_weights, standard_normals

half = sp.Rational(1, 2)
#: Largest width whose weights are drawn one by one.
LARGEST_WIDTH = 1_000_000


class Line(DynamicModel):
    """What every variant of the line network shares: learning rates, and what is read off a state.

    How the initial weights enter is the business of a mixin, which gives `initial_weights`; so are the data (`Moments`).
    """

    references: ClassVar[str] = "arXiv:2401.07085; docs/theory/linear_network.md"
    A: Any
    B: Any
    noise: Any
    c_loss: Any

    gamma = Parameter("output multiplier", default=1.0, latex=r"\gamma")
    eta_u = Parameter("learning rate of the outer layer", lower=0, default=1.0, latex=r"\eta_u")
    eta_w = Parameter("learning rate of the inner layer", lower=0, default=1.0, latex=r"\eta_w")
    plus = Definition("|sqrt(eta_w) u + sqrt(eta_u) w|^2 at time 0", latex="p_0")
    minus = Definition("|sqrt(eta_w) u - sqrt(eta_u) w|^2 at time 0", latex="q_0")
    imbalance = Definition("eta_w |u|^2 - eta_u |w|^2, conserved", latex="X")
    overlap0 = Definition("u.w at time 0", latex="g_0")
    area = Definition("area of the parallelogram of u and w, conserved", latex="a")
    start_u = Definition("|u|^2 at time 0", latex="|u_0|^2")
    start_w = Definition("|w|^2 at time 0", latex="|w_0|^2")
    kappa = Definition("sqrt(eta_u eta_w)", latex=r"\kappa")
    target = Definition("B/A: slope of the best fit", latex=r"F_\star")
    output0 = Definition("slope of the network at time 0", latex="F_0")

    output = Observable("slope of the network", latex="F")
    gap = Observable("slope of the network minus slope of the best fit", latex=r"F - F_\star")
    loss = Observable("training loss", lower=0, latex=r"\ell")
    ntk = Observable("neural tangent kernel, weighted by the learning rates", lower=0, latex=r"\Theta")
    clock = Observable("clock s: every neuron has moved by the hyperbolic angle kappa s", latex="s")
    cos_angle = Observable("cosine of the angle between u and w; 0 if one vanishes", latex=r"\cos\theta")
    angle = Observable("angle between u and w", lower=0, latex=r"\theta")
    norm_u = Observable("norm of the outer layer", lower=0, latex="|u|")
    norm_w = Observable("norm of the inner layer, along the data", lower=0, latex="|w|")

    def initial_weights(self) -> Mapping[Any, Any]:
        """plus, minus, imbalance, overlap0, area, start_u, start_w from whatever describes the initial weights."""
        raise TypeError(f"{type(self).__name__} does not say how the initial weights enter")

    def definitions(self) -> Mapping[Any, Any]:
        return {
            **self.initial_weights(),
            self.kappa: sp.sqrt(self.eta_u * self.eta_w),
            self.target: self.B / self.A,
            self.output0: self.gamma * self.overlap0,
        }

    def is_pure(self) -> Any:
        """One of plus and minus vanishes, and for ever: the other is u.w itself."""
        return sp.Or(sp.Eq(self.plus, 0), sp.Eq(self.minus, 0))

    def read(self, overlap: Any, output: Any, gap: Any, ntk: Any, clock: Any, shrink: Any = 1) -> dict[Any, Any]:
        """Observables from u.w, slope, gap, kernel and clock; `shrink` multiplies area and imbalance, if not conserved."""
        area, imbalance = self.area * sp.Abs(shrink), self.imbalance * shrink
        product = hypotenuse(overlap, area)
        return {
            self.output: output,
            self.gap: gap,
            self.loss: self.c_loss * (self.A * gap**2 + self.noise),
            self.ntk: ntk,
            self.clock: clock,
            self.cos_angle: part(overlap, product),
            self.angle: sp.atan2(area, overlap),
            self.norm_u: layer_norm(imbalance, product, self.eta_u, self.eta_w, sp.sqrt(self.start_u * sp.Abs(shrink))),
            self.norm_w: layer_norm(-imbalance, product, self.eta_w, self.eta_u, sp.sqrt(self.start_w * sp.Abs(shrink))),
        }

    def derivation(self) -> Derivation:
        return derive()


def relative_rates(model: Line) -> tuple[Any, Any, Any]:
    """The larger rate, and sqrt(eta_w), sqrt(eta_u) in units of its root: exactly 1 and 1 for equal rates.

    So weights that differ in their last digit still do after multiplication, and what should vanish does.
    """
    fastest = sp.Max(model.eta_u, model.eta_w)
    return fastest, sp.sqrt(part(model.eta_w, fastest)), sp.sqrt(part(model.eta_u, fastest))


class Moments(Line):
    """Mixin: data and square loss by their moments."""

    A = Parameter("input second moment E[x^2]", lower=0, lower_open=True, default=1.0)
    B = Parameter("input-label moment E[x y]", default=1.0)
    noise = Parameter("label variance that no line explains, E[y^2] - B^2/A", lower=0, default=0.0, latex=r"\Delta")
    c_loss = Parameter("prefactor of the loss c E(f - y)^2", lower=0, lower_open=True, default=1.0, latex=r"c_\ell")

    def trained(self, found: Mapping[str, np.ndarray], parameters: Mapping[str, float]) -> dict[str, float]:
        """Observables of raw weights at one time."""
        values = {name: float(found[name][0]) for name in ("output", "ntk", "cos_angle", "norm_u", "norm_w")}
        gap = values["output"] - parameters["B"] / parameters["A"]
        loss = parameters["c_loss"] * (parameters["A"] * gap**2 + parameters["noise"])
        return {**values, "gap": gap, "loss": loss}


class Norms(Line):
    """Mixin: initial weights by their norms and angle, which is all that matters."""

    norm_u0 = Parameter("norm of the outer layer at time 0", lower=0, default=1.0, latex="|u_0|")
    norm_w0 = Parameter("norm of the inner layer at time 0", lower=0, default=1.0, latex="|w_0|")
    cos_angle0 = Parameter("cosine of the angle between u and w at time 0", lower=-1, upper=1, default=0.0,
                           latex=r"\cos\theta_0")  # fmt: skip

    def initial_weights(self) -> Mapping[Any, Any]:
        fastest, of_u, of_w = relative_rates(self)
        u, w = of_u * self.norm_u0, of_w * self.norm_w0
        return {
            # |a +- b|^2 as a sum of squares: no cancellation as the angle tends to 0 or pi.
            self.plus: fastest * ((u - w) ** 2 + 2 * u * w * (1 + self.cos_angle0)),
            self.minus: fastest * ((u - w) ** 2 + 2 * u * w * (1 - self.cos_angle0)),
            self.imbalance: fastest * (u - w) * (u + w),
            self.overlap0: self.norm_u0 * self.norm_w0 * self.cos_angle0,
            self.area: self.norm_u0 * self.norm_w0 * sp.sqrt((1 - self.cos_angle0) * (1 + self.cos_angle0)),
            self.start_u: self.norm_u0**2,
            self.start_w: self.norm_w0**2,
        }


class ClosedForm(Moments):
    """The exact solution, common to all ways of giving the initial weights."""

    kind: ClassVar[str] = "closed"

    loss_level = Parameter("loss that `reach_time` is about", lower=0, default=0.0, latex=r"\ell_1")
    time = time_parameter(infinite=True)

    growth = Definition("c_loss A gamma^2 p_0", latex="P")
    decline = Definition("c_loss A gamma^2 q_0", latex="Q")
    drive = Definition("4 c_loss gamma kappa B: pull of the target", latex="S")
    upper = Definition("D + S, without cancellation", latex="D_+")
    lower = Definition("D - S, without cancellation", latex="D_-")
    speed = Definition("relaxation rate sqrt(S^2 + 4 P Q)", latex="D")
    n = Definition("D + S + 2 Q", latex="n")
    m = Definition("D - S + 2 P", latex="m")

    conserved_area = Observable("area of the parallelogram of u and w, conserved", lower=0, latex="a")
    conserved_imbalance = Observable("eta_w |u|^2 - eta_u |w|^2, conserved", latex="X")
    conserved_kernel = Observable("least kernel, where the slope is zero: sqrt(ntk^2 - (2 gamma kappa F)^2)", lower=0,
                                  latex=r"\Theta_{\min}")  # fmt: skip
    limit_output = Observable("slope at time inf", latex=r"F_\infty")
    limit_ntk = Observable("kernel at time inf", lower=0, latex=r"\Theta_\infty")
    rate = Observable("relaxation rate", lower=0, latex=r"\lambda")
    stuck = Observable("1 if the best fit is never reached, else 0", lower=0)
    reach_time = Observable("time at which the loss falls to `loss_level`; inf if never", lower=0, latex="t_1")
    ntk_ratio = Observable("kernel at time inf over kernel at time 0", lower=0, latex=r"\Theta_\infty/\Theta_0")
    angle_share = Observable("share of the change of slope made by turning, not growing", lower=0)
    cos_change = Observable("|cos angle| at time inf minus at time 0", latex=r"\Delta|\cos\theta|")
    norm_change = Observable("log of |u||w| at time inf over at time 0", latex=r"\Delta\log|u||w|")

    def definitions(self) -> Mapping[Any, Any]:
        c = self.c_loss * self.A * self.gamma**2
        return {
            **super().definitions(),
            self.growth: c * self.plus,
            self.decline: c * self.minus,
            self.drive: 4 * self.c_loss * self.gamma * self.kappa * self.B,
            self.upper: upper_root(self.drive, self.growth * self.decline),
            self.lower: upper_root(-self.drive, self.growth * self.decline),
            self.speed: half * (self.upper + self.lower),
            self.n: self.upper + 2 * self.decline,
            self.m: self.lower + 2 * self.growth,
        }

    @classmethod
    def timeless(cls) -> list[str]:
        """Observables that the initial condition decides, equal at all times."""
        return [name for name in cls.declared(Observable) if name not in Line.declared(Observable)]

    def at(self, rho: Any) -> dict[str, Any]:
        """Overlap, slope, gap, kernel, clock in terms of rho, which is inf at the start and 0 at the end."""
        low, high = sp.Min(self.n, self.m), sp.Max(self.n, self.m)
        slow = ratio(0, low, rho)
        left = slow * ratio(2 * self.speed, high, rho)
        done = part(self.n, self.n + rho) * part(self.m, self.m + rho) + 2 * slow * part(
            self.growth + self.decline, high + rho
        )
        grown = times(self.plus, ratio(self.n, self.m, rho))
        shrunk = times(self.minus, ratio(self.m, self.n, rho))
        # With p or q zero the other is u.w itself, to all digits, also where u.w tends to zero.
        pure = sp.And(self.is_pure(), self.kappa > 0)
        overlap = sp.Piecewise(
            (part(grown - shrunk, 4 * self.kappa), pure),
            (left * self.overlap0 + part(done * self.target, self.gamma), True),
        )
        slope = 8 * self.c_loss * self.gamma * (self.B - self.A * self.output0)
        return {
            "overlap": overlap,
            "output": left * self.output0 + done * self.target,
            "gap": (self.output0 - self.target) * left,
            "ntk": half * self.gamma**2 * (grown + shrunk),
            "clock": half_log(self.n + rho, self.m + rho, slope, self.kappa),
        }

    def _reach_time(self) -> Any:
        """The gap shrinks by f when rho (rho + 2 D) = f (n + rho)(m + rho): a quadratic equation in rho."""
        excess, start = self.loss_level / self.c_loss - self.noise, self.A * (self.output0 - self.target) ** 2
        f = sp.sqrt(part(excess, start))
        b = 2 * f * (self.growth + self.decline) - 2 * (1 - f) * self.speed
        rho = upper_root(b, f * (1 - f) * self.n * self.m) / (2 * (1 - f))
        return sp.Piecewise((sp.oo, excess < 0), (0, excess >= start), (pace_time(self.speed, rho), True))

    def observables(self) -> Mapping[Any, Any]:
        now, end = self.at(pace(self.speed, self.time)), self.at(sp.S.Zero)
        g0, g1, a = self.overlap0, end["overlap"], self.area
        change = g1 - g0
        product0, product1 = hypotenuse(g0, a), hypotenuse(g1, a)
        sine, cosine, sine1, cosine1 = part(a, product0), part(g0, product0), part(a, product1), part(g1, product1)
        turned = sp.atan2(times(sine, part(change, product1)), sine * sine1 + cosine * cosine1)
        start = half * self.gamma**2 * (self.plus + self.minus)
        share = sp.Piecewise(
            (sine**2, sp.Eq(change, 0)),
            (part(a * turned, change), True),
        )
        return {
            **self.read(**now),
            self.conserved_area: self.area,
            self.conserved_imbalance: self.imbalance,
            self.conserved_kernel: self.gamma**2 * sp.sqrt(self.plus * self.minus),
            self.limit_output: end["output"],
            self.limit_ntk: end["ntk"],
            self.rate: self.speed,
            self.stuck: sp.Piecewise((0, sp.Eq(end["gap"], 0)), (1, True)),
            self.reach_time: self._reach_time(),
            self.ntk_ratio: part(end["ntk"], start),
            self.angle_share: share,
            self.cos_change: sp.Abs(cosine1) - sp.Abs(cosine),
            self.norm_change: sp.Piecewise((0, sp.Eq(product1, product0)), (sp.log(product1 / product0), True)),
        }


class LineNetwork(Norms, ClosedForm):
    """Linear network on data along a line: the exact trajectory from initial norms and angle.

    ``f(x) = gamma sum_i u_i w_i x``, gradient flow with a learning rate per layer on ``c_loss E(f - y)^2``, any width and
    any initialisation; `A` = E[x^2], `B` = E[xy], `noise` = E[y^2] - B^2/A.  Exact; arXiv:2401.07085,
    docs/theory/linear_network.md.  `WeightedLineNetwork` takes the weights themselves, `WideLineNetwork` draws them.
    """

    name: ClassVar[str] = "line-network"
    title: ClassVar[str] = "Linear network on data along a line, exact in time"

    def simulate(self, parameters: Mapping[str, float], size: int, rng: Any) -> dict[str, float]:
        """Gradient flow on the raw weights of a network of width `size`, in a random direction."""
        p = dict(parameters)
        slope = square_slope(p["A"], p["B"], p["c_loss"])
        rates: dict[str, Any] = {name: p[name] for name in ("gamma", "eta_u", "eta_w")}
        found = line_flow(*draw_weights(p, size, rng), [p["time"]], slope, **rates)
        return self.trained(found, p)


def _from_rows(model: Line, u: Any, w: Any) -> dict[Any, Any]:
    """The seven numbers as sums over the neurons; `u`, `w` are the weights in a row of the data."""
    fastest, of_u, of_w = relative_rates(model)
    a, b = of_u * u, of_w * w
    # The part of w orthogonal to u: |u|^2 |w|^2 - (u.w)^2 would cancel for weights that are almost parallel.
    aside = w - part(model.overlap0, model.start_u) * u
    return {
        model.start_u: DataSum(u**2),
        model.start_w: DataSum(w**2),
        model.overlap0: DataSum(u * w),
        model.plus: fastest * DataSum((a + b) ** 2),
        model.minus: fastest * DataSum((a - b) ** 2),
        model.imbalance: fastest * DataSum((a + b) * (a - b)),
        model.area: sp.sqrt(model.start_u * DataSum(aside**2)),
    }


class WeightedLineNetwork(ClosedForm):
    """Linear network on data along a line, started from weights given one by one.

    Parameters
    ----------
    u, w : array_like, shape (width,)
        Initial weights of the outer layer, and of the inner one along the data.

    Raises
    ------
    WeightError
        If they are empty, not finite or of unequal length.
    """

    name: ClassVar[str] = "line-network"
    title: ClassVar[str] = "Linear network on data along a line, from given weights"

    def __init__(self, u: Any, w: Any) -> None:
        super().__init__()
        self.u0, self.w0 = check_weights(u, w)

    @property
    def options(self) -> dict[str, str]:
        return {"width": str(self.u0.size)}

    def data(self) -> Mapping[str, np.ndarray]:
        return {"u": self.u0, "w": self.w0}

    def initial_weights(self) -> Mapping[Any, Any]:
        return _from_rows(self, column("u"), column("w"))

    def weights(self, clock: Any, eta_u: float = 1.0, eta_w: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """The weights themselves at clock values, time first.

        Parameters
        ----------
        clock : array_like, shape (times,) or scalar
            The observable `clock` of this network.
        eta_u, eta_w : float
            Learning rates it was computed with.

        Returns
        -------
        u, w : ndarray, shape (times, width)
            Relative accuracy (of the norm) a few 1e-14 times 1 + |log| of the change of the weights.
        """
        s = np.asarray(clock, dtype=float)[..., None]
        kappa = np.sqrt(eta_u * eta_w)
        if kappa == 0:
            return self.u0 + eta_u * s * self.w0, self.w0 + eta_w * s * self.u0
        of_u, of_w = np.sqrt(np.array([eta_w, eta_u]) / max(eta_u, eta_w))
        a, b = of_u * self.u0 + of_w * self.w0, of_u * self.u0 - of_w * self.w0
        # exp(inf) belongs to a combination that is exactly zero or exactly absent.
        grown, shrunk = a * np.exp(np.where(a == 0, 0, kappa * s)), b * np.exp(np.where(b == 0, 0, -kappa * s))
        return (grown + shrunk) / (2 * of_u), (grown - shrunk) / (2 * of_w)


class WideLineNetwork(ClosedForm):
    """Linear network on a line with random weights: every scale is a power of the width.

    ``gamma d^c_gamma`` multiplies the output, ``d^c_u`` and ``d^c_w`` are the variances of the weights,
    ``eta_u d^c_eta_u`` and ``eta_w d^c_eta_w`` the learning rates.  The weights are one draw (option `seed`); a smaller width
    has the first of them.
    """

    name: ClassVar[str] = "wide-line-network"
    title: ClassVar[str] = "Linear network on data along a line, scaled with its width"

    width = Parameter("number of hidden units", lower=1, upper=LARGEST_WIDTH, whole=True, latex="d")
    c_gamma = Parameter("exponent of the multiplier", default=0.0, latex=r"c_\gamma")
    c_u = Parameter("exponent of the outer variance", default=-1.0, latex="c_u")
    c_w = Parameter("exponent of the inner variance", default=-1.0, latex="c_w")
    c_eta_u = Parameter("exponent of the outer learning rate", default=0.0, latex=r"c_{\eta_u}")
    c_eta_w = Parameter("exponent of the inner learning rate", default=0.0, latex=r"c_{\eta_w}")
    seed = WholeOption("seed of the initial weights", "0")

    def data(self) -> Mapping[str, np.ndarray]:
        u, w = standard_normals(LARGEST_WIDTH, self.seed)
        return {"u": u, "w": w}

    def rows(self) -> Any:
        return self.width

    def initial_weights(self) -> Mapping[Any, Any]:
        return _from_rows(self, self.width ** (self.c_u / 2) * column("u"), self.width ** (self.c_w / 2) * column("w"))

    def simulate(self, parameters: Mapping[str, float], size: int, rng: Any) -> dict[str, float]:
        """Gradient flow on the raw weights that option `seed` draws for `width`; `size` and `rng` play no part."""
        p, d = dict(parameters), int(parameters["width"])
        u, w = (d ** (p[f"c_{name}"] / 2) * self.data()[name][:d] for name in ("u", "w"))
        rates: dict[str, Any] = {name: p[name] * d ** p[f"c_{name}"] for name in ("gamma", "eta_u", "eta_w")}
        return self.trained(line_flow(u, w, [p["time"]], square_slope(p["A"], p["B"], p["c_loss"]), **rates), p)

    def _scaled(self, given: Mapping[Any, Any]) -> dict[Any, Any]:
        d = self.width
        scales = {self.gamma: d**self.c_gamma, self.eta_u: d**self.c_eta_u, self.eta_w: d**self.c_eta_w}
        return {s: sp.sympify(e, strict=True).xreplace({x: x * scale for x, scale in scales.items()}) for s, e in given.items()}

    def definitions(self) -> Mapping[Any, Any]:
        return self._scaled(super().definitions())

    def observables(self) -> Mapping[Any, Any]:
        return self._scaled(super().observables())


def mechanisms(values: Mapping[str, Any], tol: float = 0.1) -> list[str]:
    """Which of the feature-learning mechanisms a trajectory uses, read off the initial condition alone.

    Parameters
    ----------
    values : mapping
        Values of a line network's closed form at any time: `ntk_ratio`, `cos_change`, `norm_change` are used.
    tol : float
        Change that counts: of |cos angle|, of log |u||w|, of the logarithm of the kernel.

    Returns
    -------
    list of str
        Of "alignment", "disalignment", "rescaling", "kernel", in the order in which they happen from a small start.
        "kernel" says that the kernel stays; with unequal layers the others may happen beside it.
    """
    found = []
    if values["cos_change"] > tol:
        found.append("alignment")
    if values["cos_change"] < -tol:
        found.append("disalignment")
    if abs(values["norm_change"]) > tol:
        found.append("rescaling")
    if values["ntk_ratio"] > 0 and abs(np.log(values["ntk_ratio"])) < tol:
        found.append("kernel")
    return found
