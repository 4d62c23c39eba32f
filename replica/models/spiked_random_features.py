"""Spiked random features: a two-layer network after one giant gradient step, readout then trained with a convex loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import sympy as sp

from ..averages import GaussianAverage, gaussian
from ..finite_batch import Batch, Blocks, Layer
from ..free_entropy import FreeEntropy
from ..functions import normal_cdf
from ..model import (
    ChoiceOption,
    Conjugate,
    Definition,
    FunctionOption,
    LossOption,
    OrderParameter,
    Parameter,
    WholeOption,
    opaque,
)  # fmt: skip
from ..output import channel
from ..projection import projection
from .simulations import train_two_layer
from .supervised import SIGN, Supervised
from .training import Labels

half = sp.Rational(1, 2)
kappa, zeta, omega, g, z, xi = gaussian("kappa zeta omega g z xi")
#: Numbers of groups of neurons other than one.
SEVERAL = ("2", "3")
EXACT = {"bulk": "exact"}
GROUP, PAIR = ("group",), ("group", "group_other")
#: Order parameters scale with the square of the activation, which can be anything: convergence is judged relatively.
TINY = 1e-30


def entries(value: Any) -> list[Any]:
    """Values by group, of what may be a scalar because there is one group."""
    return list(value) if isinstance(value, sp.MatrixBase) else [value]


def square(value: Any) -> Any:
    """The same for pairs of groups, as a matrix."""
    return sp.Matrix(value) if isinstance(value, sp.MatrixBase) else sp.Matrix([[value]])


class SpikedRandomFeatures(Supervised):
    """Spiked random features after one giant gradient step, readout trained with any convex loss.

    Asymptotics n, p, n0, d -> infinity at fixed n/d = alpha, p/d = beta, n0/d = alpha0.  Labels
    ``y = target(<w*, x>) + sqrt(noise) xi``, x ~ N(0, I); first-layer rows of unit norm, one gradient step of rate
    ``eta * p`` on n0 samples and the square loss, then ``sum loss(y, f) + reg |w|^2 / 2`` over the readout w on n fresh
    samples, features normalised by sqrt(p).  With ``labels="sign"`` labels are the sign of all that, flipped with probability
    `flip`, in both stages.  Isotropic bulk with the variance c of docs/theory/srf.md section 2, which differs from the
    published one unless the activation is odd and noise = 0.  Replica symmetric, conditional Gaussian equivalence.

    The readout during the step is 1, or, with ``groups=2`` or more, takes the values ``u_k`` in shares ``share_k`` of the neurons
    (relative; they are normalised); then order parameters, and most definitions, carry an index of the group.

    At ``reg = 0`` below interpolation (square loss of real labels) it is the readout of least norm: responses are in units of
    1/reg, conjugates of reg (q1_hat, q2_hat of reg^2), the free entropy of reg.  ``mean_mode="finite"`` keeps the ridge cost of
    the mean readout, the largest finite-size effect.

    ``bulk="isotropic"`` is the model of the paper: rows are a random direction plus the spike; ``bulk="notebook"`` has the
    published variance.  In the trained network the step also rescales row i by ``1 + coupling <v, w_i>``, of relative size
    d^(-1/2) but aligned with theta, so it changes the error at leading order (by some per cent); ``bulk="coupled"`` has
    it.  docs/theory/srf.md section 3.  ``bulk="exact"`` has that and the anisotropy of rows that remember a finite batch:
    the theory of the trained network at any alpha0 (section 5.1 there).

    Source: arXiv:2402.04980; docs/theory/srf.md section 9 for the free entropy in these variables.
    """

    name: ClassVar[str] = "srf"
    title: ClassVar[str] = "Spiked random features after one giant gradient step"
    references: ClassVar[str] = "arXiv:2402.04980; docs/theory/srf.md"

    alpha = Parameter("samples per dimension, n/d", lower=0, lower_open=True, latex=r"\alpha")
    beta = Parameter("width per dimension, p/d", lower=0, lower_open=True, default=1.0, latex=r"\beta")
    alpha0 = Parameter(
        "gradient-step samples per dimension, n0/d; 0 for no step, inf for the population step",
        lower=0, infinite=True, latex=r"\alpha_0",
    )  # fmt: skip
    eta = Parameter("rate of the gradient step, in units of the width", lower=0, latex=r"\tilde\eta")
    reg = Parameter("ridge penalty lambda", lower=0, latex=r"\lambda")
    noise = Parameter("label noise variance (inside the sign, with labels=sign)", lower=0, default=0.0, latex=r"\Delta")
    flip = Parameter("probability that a label is flipped", lower=0, upper=0.5, default=0.0, latex="f", only=SIGN)

    activation = FunctionOption("activation of the first layer", "tanh", r"\sigma")
    target = FunctionOption("target, a function of the teacher field", "sin", r"\sigma_\star")
    labels = ChoiceOption("real labels, or the sign of the target", "real", ("real", "sign"))
    loss = LossOption("training loss of the readout", "square")
    bulk = ChoiceOption(
        "first-layer rows off the spike: isotropic, with norms coupled to the spike as trained rows have, as published, or exact",
        "isotropic", ("isotropic", "coupled", "notebook", "exact"),
    )  # fmt: skip
    mean_mode = ChoiceOption(
        "ridge cost of the mean readout: dropped, as in the limit, or that of `width` neurons",
        "limit", ("limit", "finite"),
    )  # fmt: skip
    groups = WholeOption("number of values of the readout during the step", "1", 1, 3)
    u = Parameter("readout of a group of neurons during the step", default=1.0, index=GROUP, only={"groups": SEVERAL})
    share = Parameter("share of the neurons in a group, relative to the others", lower=0, lower_open=True, default=1.0,
                      index=GROUP, latex=r"\pi", only={"groups": SEVERAL})  # fmt: skip
    width = Parameter("number of neurons that the mean readout's cost belongs to", lower=1, latex="p",
                      only={"mean_mode": "finite"})  # fmt: skip

    V1 = OrderParameter("response conjugate to q1", index=PAIR, symmetric=True, lower=0, start=1.0, floor=TINY)
    V2 = OrderParameter("response conjugate to q2", index=GROUP, lower=0, start=1.0, floor=TINY)
    q1 = OrderParameter("readout norm through the first layer, off the spike", index=PAIR, symmetric=True, lower=0, start=0.1,
                        floor=TINY, exceeds=("psi", None))  # fmt: skip
    q2 = OrderParameter("readout norm per neuron", index=GROUP, lower=0, start=0.1, floor=TINY)
    theta = OrderParameter("overlap with the spike", index=GROUP, latex=r"\theta")
    psi = OrderParameter("overlap with the target direction orthogonal to the spike", index=GROUP, latex=r"\psi")
    m = OrderParameter("mean readout, rescaled by sqrt(p)", index=GROUP, free=True)
    nu = OrderParameter("overlap of the readout with initial rows along the spike", index=GROUP, latex=r"\nu", only=EXACT)
    G1 = OrderParameter("pull of the data on the rows' outputs, screened by the rows", index=PAIR, symmetric=True, lower=0,
                        start=0.5, latex="G_1", only=EXACT)  # fmt: skip
    G12 = OrderParameter("the same times the kept part of the initial rows", index=PAIR, start=0.3, latex="G_{12}", only=EXACT)
    G2 = OrderParameter("share of the initial rows that the data do not see", index=PAIR, symmetric=True, lower=0, start=0.5,
                        latex="G_2", only=EXACT)  # fmt: skip
    R1 = OrderParameter("change of G1 along the forces", index=PAIR, symmetric=True, latex="R_1", only=EXACT)
    R12 = OrderParameter("change of G12 along the forces", index=PAIR, latex="R_{12}", only=EXACT)
    R2 = OrderParameter("change of G2 along the forces", index=PAIR, symmetric=True, latex="R_2", only=EXACT)
    q1_hat = Conjugate(V1, -half)
    q2_hat = Conjugate(V2, -half)
    V1_hat = Conjugate(q1, half)
    V2_hat = Conjugate(q2, half)
    theta_hat = Conjugate(theta, -1)
    psi_hat = Conjugate(psi, -1)
    m_hat = Conjugate(m, -1, only={"mean_mode": "finite"})
    nu_hat = Conjugate(nu, -1, only=EXACT)
    R1_hat = Conjugate(G1, -half, only=EXACT)
    R12_hat = Conjugate(G12, -1, only=EXACT)
    R2_hat = Conjugate(G2, -half, only=EXACT)
    G1_hat = Conjugate(R1, -half, only=EXACT)
    G12_hat = Conjugate(R12, -1, only=EXACT)
    G2_hat = Conjugate(R2, -half, only=EXACT)

    h0 = Definition("mean of the activation", latex="h_0")
    h1 = Definition("mean slope of the activation (almost everywhere)", latex="h_1")
    e2 = Definition("mean of z times the slope", latex="e_2")
    slope_var = Definition("variance of the slope", latex=r"{\rm var}\,\sigma'")
    e3 = Definition("mean of z^2 - 1 times the slope", latex="e_3")
    t0 = Definition("mean label", latex=r"h_0^\star")
    t1 = Definition("first Hermite coefficient of the label", latex=r"h_1^\star")
    t2 = Definition("second Hermite coefficient of the label", latex=r"e_2^\star")
    residual_mean = Definition("mean residual at initialisation", latex=r"\bar e")
    residual_var = Definition("mean squared residual at initialisation", latex=r"\overline{e^2}")
    batch = Definition("inverse batch ratio, 1/alpha0 (0 if no step is taken)", latex=r"\alpha_0^{-1}")
    step = Definition("rate of the step actually taken", latex=r"\tilde\eta_+")
    r = Definition("spike strength", index=GROUP)
    gamma = Definition("alignment of the spike with the target direction", latex=r"\gamma")
    rho = Definition("sqrt(1 - gamma^2)", latex=r"\rho")
    c = Definition("bulk variance", index=GROUP)
    c_spike = Definition("bulk variance along the spike", index=GROUP, latex="c_v")
    row = Definition("factor of the initial row in the bulk", index=GROUP, latex="a")
    row_spike = Definition("factor of the initial row along the spike", index=GROUP, latex="a_v")
    coupling = Definition("relative growth of a row's norm per unit of its overlap with the spike", index=GROUP,
                          latex=r"\varepsilon")  # fmt: skip
    mu0 = Definition("mean feature given kappa", of="kappa", index=GROUP, latex=r"\mu_0")
    mu1 = Definition("linear feature given kappa", of="kappa", index=GROUP, latex=r"\mu_1")
    mu2sq = Definition("variance of the remaining feature given kappa", of="kappa", index=GROUP, latex=r"\mu_2^2")

    pressure = Definition("inverse batch ratio over the norm of the spike before scaling; 0 without batch or step",
                          latex=r"\wp", only=EXACT)  # fmt: skip
    kept = Definition("coefficient of the batch's matrix M in the rows, per unit of u", latex="a", only=EXACT)
    shaken = Definition("coefficient of the batch's matrix N in the rows' covariance, per unit of u^2", latex="b", only=EXACT)
    idle = Definition("1 without batch or step, else 0", only=EXACT)
    inverse_rho = Definition("1/rho, or 0 without batch or step", latex=r"\rho^{-1}", only=EXACT)
    aim = Definition("mean label given the teacher field", of="kappa", latex=r"\bar y", only=EXACT)
    bent = Definition("response of the mean feature to an initial row's overlap with the spike", of="kappa",
                      index=GROUP, latex=r"\chi_0", only=EXACT)  # fmt: skip
    chi = Definition("response of the mean feature to a row's overlap with the spike", of="kappa", index=GROUP, latex=r"\chi")

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.finite = self.choices["mean_mode"] == "finite"
        self.exact = self.choices["bulk"] == "exact"
        if self.sign:
            self.choices["label"] = self.choices["target"].signed()

    def weights_per_dimension(self) -> Any:
        return self.beta

    def _mean_label(self, t: Any) -> Any:
        """Mean label given the teacher field."""
        if not self.sign:
            return self.target(t)
        smeared = 2 * normal_cdf(self.target(t) / sp.sqrt(self.noise)) - 1
        sharp = opaque("label", r"{\rm sign}\,\sigma_\star")(t)
        return (1 - 2 * self.flip) * sp.Piecewise((sharp, sp.Eq(self.noise, 0)), (smeared, True))

    def sizes(self) -> dict[str, int | None]:
        count = self.choices["groups"]
        return dict.fromkeys(PAIR, count if count > 1 else None)

    def _shares(self) -> list[Any]:
        shares = entries(self.share) if self.choices["groups"] > 1 else [sp.S.One]
        return [s / sp.Add(*shares) for s in shares]

    def _readouts(self) -> list[Any]:
        return entries(self.u) if self.choices["groups"] > 1 else [sp.S.One]

    def _first_output(self) -> Any:
        """What the network predicts before the step."""
        return sp.Add(*[s * u for s, u in zip(self._shares(), self._readouts(), strict=True)]) * self.h0

    def definitions(self) -> Mapping[Any, Any]:
        sigma, slope, target = self.activation, self.activation.almost_everywhere, self._mean_label
        start = self._first_output()
        if self.sign:  # labels have unit square
            residual_var = 1 - 2 * start * self.t0 + start**2
        elif self.bulk == "notebook":  # as published: residuals are taken for labels, and labels for noiseless ones
            residual_var = GaussianAverage(target(z) ** 2, z)
        else:
            residual_var = GaussianAverage((target(z) - start) ** 2, z) + self.noise
        spike = sp.sqrt(self.t1**2 + self.residual_var * self.batch)
        population = sp.Piecewise((-1, self.t1 < 0), (1, True))
        shared = {
            self.h0: GaussianAverage(sigma(z), z),
            self.h1: GaussianAverage(slope(z), z),
            self.e2: GaussianAverage(z * slope(z), z),
            self.e3: GaussianAverage((z**2 - 1) * slope(z), z),
            self.slope_var: GaussianAverage((slope(z) - self.h1) ** 2, z),
            self.t0: GaussianAverage(target(z), z),
            self.t1: GaussianAverage(z * target(z), z),
            self.t2: GaussianAverage((z**2 - 1) * target(z), z),
            self.residual_mean: self.t0 - start if self.bulk != "notebook" else sp.S.Zero,
            self.residual_var: residual_var,
            self.batch: sp.Piecewise((0, sp.Eq(self.alpha0, 0)), (1 / self.alpha0, True)),
            self.step: sp.Piecewise((0, sp.Eq(self.alpha0, 0)), (self.eta, True)),
            # Without a step gamma is arbitrary; at infinite batch the spike is +- the target direction, even if r = 0.
            self.gamma: sp.Piecewise(
                (0, sp.Eq(self.step, 0)), (population, sp.Eq(self.batch, 0)), (self.t1 / spike, True)
            ),
            self.rho: sp.Piecewise(
                (1, sp.Eq(self.step, 0)),
                (0, sp.Eq(self.batch, 0)),
                (sp.sqrt(self.residual_var * self.batch) / spike, True),  # no cancellation as gamma -> 1
            ),
        }
        if self.exact:
            slope_rest = GaussianAverage((slope(z) - self.h1 - self.e2 * z) ** 2, z)
            shared |= {
                self.kept: self.step * self.e2,
                self.shaken: self.step**2 * slope_rest * self.batch,
                self.idle: sp.Piecewise((1, sp.Eq(self.step * self.batch, 0)), (0, True)),
                self.pressure: sp.Piecewise((0, sp.Eq(self.idle, 1)), (self.batch / spike, True)),
                self.inverse_rho: sp.Piecewise((0, sp.Eq(self.idle, 1)), (1 / self.rho, True)),
                self.aim(kappa): target(kappa),
            }
        grouped = [self.r, self.row, self.row_spike, self.c, self.c_spike, self.coupling]
        grouped += [f(kappa) for f in (self.mu0, self.mu1, self.mu2sq, self.chi)]
        if self.exact:
            grouped.append(self.bent(kappa))
        by_group = [self._group(k, self.step * u, spike) for k, u in enumerate(self._readouts())]
        shared |= {
            name: values[0] if len(values) == 1 else sp.ImmutableMatrix(values)
            for name, *values in zip(grouped, *by_group, strict=True)
        }
        return shared

    def _curvature(self, k: int) -> Any:
        """Mean second derivative of the activation given kappa, by Stein's lemma."""
        c, feature = entries(self.c)[k], self.activation(entries(self.r)[k] * kappa + g)
        return GaussianAverage((g**2 - c) * feature, g, [[c]]) / c**2

    def _group(self, k: int, rate: Any, spike: Any) -> list[Any]:
        """Definitions of group k, whose rows move at `rate`, in the order in which `definitions` names them."""
        feature = self.activation(entries(self.r)[k] * kappa + g)
        c, row, row_spike, c_spike, coupling = (
            entries(e)[k] for e in (self.c, self.row, self.row_spike, self.c_spike, self.coupling)
        )
        mu0, mu1 = (entries(e(kappa))[k] for e in (self.mu0, self.mu1))
        stretched = sp.Piecewise((rate * self.e2 * self.t2, sp.Eq(self.alpha0, sp.oo)), (0, True))
        bent = coupling * row * self._curvature(k)
        return [
            rate * self.h1 * spike,
            1 + rate * self.e2 * self.residual_mean,
            row + (stretched if self.bulk != "notebook" else 0),
            row**2 + rate**2 * self.slope_var * self.residual_var * self.batch,
            sp.Piecewise((row_spike**2, sp.Eq(self.alpha0, sp.oo)), (c, True)),
            rate * self.e3 * spike if self.bulk in ("coupled", "exact") else sp.S.Zero,
            GaussianAverage(feature, g, [[c]]),
            GaussianAverage(g * feature, g, [[c]]) / c,
            # Two passes: as a difference of moments it can come out negative.
            GaussianAverage((feature - mu0 - mu1 * g) ** 2, g, [[c]]),
            # A row's norm changes the mean feature through its curvature.
            kappa * mu1 + (0 if self.exact else bent * row_spike / c_spike),
            *([bent] if self.exact else []),
        ]

    def _given_kappa(self) -> tuple[Any, Any, Any, Any]:
        """Mean prediction, its covariance with the orthogonal teacher field zeta, its variance, and the response."""
        mu0, mu1, mu2sq, chi = (sp.Matrix(entries(f(kappa))) for f in (self.mu0, self.mu1, self.mu2sq, self.chi))
        m, theta, psi, q2, v2 = (sp.Matrix(entries(e)) for e in (self.m, self.theta, self.psi, self.q2, self.V2))

        def spread(linear: Any, rest: Any) -> Any:
            return (mu1.T * square(linear) * mu1)[0] + mu2sq.dot(rest)

        bent = sp.Matrix(entries(self.bent(kappa))).dot(sp.Matrix(entries(self.nu))) if self.exact else 0
        return mu0.dot(m) + chi.dot(theta) + bent, mu1.dot(psi), spread(self.q1, q2), spread(self.V1, v2)

    def closed_fields(self) -> tuple[Any, Any, Any]:
        mean, _, _, response = self._given_kappa()
        label = self.target(self.gamma * kappa + self.rho * zeta) + sp.sqrt(self.noise) * xi
        return label, mean + omega, response

    def closed_average(self, f: Any) -> Any:
        """E over kappa, the orthogonal teacher field zeta, the predictor fluctuation omega and the label noise."""
        _, covariance, variance, _ = self._given_kappa()
        inner = GaussianAverage(f, (zeta, omega, xi), [[1, covariance, 0], [covariance, variance, 0], [0, 0, 1]])
        return GaussianAverage(inner, kappa)

    def channel_average(self, moment: str) -> Any:
        mean, covariance, variance, response = self._given_kappa()
        flip = self.flip if self.sign else sp.S.Zero
        labels = (self.gamma * kappa, self.rho)
        return GaussianAverage(channel(moment)(mean, *labels, covariance, variance, response, self.noise, flip), kappa)

    def free_entropy(self) -> FreeEntropy:
        psi_hat, c = sp.Matrix(entries(self.psi_hat)), entries(self.c)
        weights = sp.S.Zero
        for k, share in enumerate(self._shares()):
            q2_hat, v2_hat, theta_hat, c_spike = (
                entries(e)[k] for e in (self.q2_hat, self.V2_hat, self.theta_hat, self.c_spike)
            )
            force = q2_hat + (0 if self.exact else self.beta * c_spike * theta_hat**2)
            if self.finite:
                force += self.width * entries(self.m_hat)[k] ** 2
            weights += share * force / (self.penalty + v2_hat)
        if self.exact:
            layer = self._remembering_layer()
        else:
            forces = square(self.q1_hat) + self.beta * psi_hat * psi_hat.T
            layer = projection(entries(self.V2), entries(self.q2), square(self.V1_hat), forces, c, self.beta)
        return FreeEntropy(
            self.couplings,
            potential_hat=half * weights,
            potential=-self.alpha / self.beta * self.envelope(),
            free=self.free,
            mixed=layer,
        )

    def _remembering_layer(self) -> Any:
        """The layer whose rows remember the batch of the step: docs/theory/srf.md section 5.1."""
        residual, start = sp.Symbol("residual", real=True), self._first_output()

        def average(f: Any) -> Any:
            if self.sign:
                values = [((1 + y * self.aim(kappa)) / 2, y - start) for y in (1, -1)]
                return GaussianAverage(sp.Add(*[p * f.xreplace({residual: e}) for p, e in values]), kappa)
            e = self.aim(kappa) - start + sp.sqrt(self.noise) * xi
            return GaussianAverage(GaussianAverage(f.xreplace({residual: e}), xi), kappa)

        batch = Batch(average, kappa, residual, [self.kept * u for u in self._readouts()],
                      [self.shaken * u**2 for u in self._readouts()], self.batch, self.gamma, self.rho, self.pressure,
                      self.inverse_rho, self.idle)  # fmt: skip
        v2, q2 = entries(self.V2), entries(self.q2)
        root = sp.diag(*[sp.sqrt(self.beta * v) for v in v2])  # rows' outputs in units of their own response
        pull, pulled = root * square(self.V1_hat) * root, root * square(self.q1_hat) * root
        shrunk = pull * sp.diag(*[q / v for q, v in zip(q2, v2, strict=True)])
        g, change, g_hat, change_hat = (
            Blocks(*(square(getattr(self, f"{name}{suffix}")) for name in names))
            for suffix in ("", "_hat") for names in (("G1", "G12", "G2"), ("R1", "R12", "R2"))
        )  # fmt: skip
        layer = Layer(batch, pull, g, g_hat)
        traced = layer.trace_term((pulled - (shrunk + shrunk.T) / 2) / self.beta, change, change_hat)
        forces = sp.Matrix([sp.Matrix(root * sp.Matrix(entries(f))) for f in (self.theta_hat, self.psi_hat, self.nu_hat)])
        return half * (traced + (forces.T * layer.response() * forces)[0])

    def constraints(self) -> Mapping[str, Any]:
        out = {}
        for k, share in enumerate(self._shares()):
            q1, psi, theta, c_spike, q2 = (
                (square(self.q1)[k, k], *(entries(e)[k] for e in (self.psi, self.theta, self.c_spike, self.q2)))
            )
            group = f" in group {k}" if self.choices["groups"] > 1 else ""
            out[f"psi^2 <= q1{group}"] = q1 - psi**2
            if self.exact:
                out[f"nu^2 <= beta q2{' share' if group else ''}{group}"] = self.beta * share * q2 - entries(self.nu)[k] ** 2
                continue
            out[f"theta^2 <= beta c_v q2{' share' if group else ''}{group}"] = self.beta * c_spike * share * q2 - theta**2
        return out

    def simulate(self, parameters: Mapping[str, float], size: int, rng: Any) -> dict[str, float]:
        """Train the true two-layer network once in dimension `size`: one gradient step, then the readout on fresh samples."""
        sigma, given = self.choices["activation"], dict(parameters)
        given.pop("width", None)
        labels = Labels(self.choices["target"], self.sign, given.pop("noise"), given.pop("flip", 0.0))
        readouts, shares = ([given.pop(f"{n}_{k}", 1.0) for k in range(self.choices["groups"])] for n in ("u", "share"))
        return train_two_layer(
            sigma.numeric(), sigma.numeric_derivative(), labels, loss=self.choices["loss"], readouts=readouts, shares=shares,
            **given, size=size, rng=rng,
        )  # fmt: skip
