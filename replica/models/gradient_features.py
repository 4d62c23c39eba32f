"""Gradient features as models: a mixture of Gaussians, a sparse parity, a structured dictionary.

References
----------
.. [1] Z. Shi, J. Wei, Y. Liang, arXiv:2310.12408 (mixtures, parities) and arXiv:2206.01717 (dictionaries).
.. [2] docs/theory/gradient_features.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from ..evaluated import EvaluatedModel, Formula
from ..model import ChoiceOption, Observable, Parameter

HITS, ACCURACY, TICKETS = ({"predict": word} for word in ("hits", "accuracy", "tickets"))
CONES, NETWORKS = {"predict": ("hits", "tickets")}, {"predict": ("accuracy", "tickets")}
MEASURED = {"fixed": ("relu", "kernel")}
#: Largest D of fixed features that are measured on all inputs.
MOST_LISTED = 14
#: Nodes per independent network of an average over networks.
NODES_PER_DRAW = 16
#: How far accuracies were off in the simulations of docs/theory/gradient_features.md.
MODEL_ERROR = {
    "mixture": "networks at d = 60 agree within 4 standard errors, and a model error of 0.003 on small batches",
    "dictionary": "networks at D = 100 agree within 4 standard errors, and a model error of 0.005",
}


def cone() -> Parameter:
    """Opening of the cone around a direction."""
    return Parameter("cone: cosines above 1 - gamma are hits", lower=0, upper=1, lower_open=True, upper_open=True, default=0.1,
                     latex=r"\gamma")  # fmt: skip


def batch_size() -> Parameter:
    """Samples of one gradient step."""
    return Parameter("samples of a gradient step", lower=1, infinite=True, default=math.inf,
                     latex="n")  # fmt: skip


class GradientFeatures(EvaluatedModel):
    """What the three problems share."""

    references: ClassVar[str] = "arXiv:2310.12408, arXiv:2206.01717; docs/theory/gradient_features.md"
    text: ClassVar[tuple[str, ...]] = ("replica.gradient_features", "solvers.half_spaces")


class Mixture(GradientFeatures):
    """Two-layer network on a Gaussian mixture: how often gradients find the cluster directions, and what is then achieved.

    `xor`: clusters at +-mean e_1 (label 1) and +-mean e_2 (label -1); `pair`: at mean e_1 (1) and -mean e_1 (-1).  Inputs have
    variance sigma^2; a neuron is active where w.x > bias.
    """

    name: ClassVar[str] = "mixture"
    title: ClassVar[str] = "Gradient features of a Gaussian mixture"
    slowest: ClassVar[tuple[str, ...]] = ("d",)

    clusters = ChoiceOption("arrangement", "xor", ("xor", "pair"))
    norm = ChoiceOption("law of w: |w| = 1, or N(0, I/d)", "sphere", ("sphere", "gaussian"))
    bias_law = ChoiceOption("law of the bias: bias, +-bias, uniform in +-bias, or N(0, bias^2)", "fixed",
                            ("fixed", "sign", "uniform", "normal"))  # fmt: skip
    predict = ChoiceOption("hit probabilities, accuracies after one step, or lottery tickets", "hits",
                           ("hits", "accuracy", "tickets"))  # fmt: skip

    d = Parameter("dimension", lower=2, upper=1e6, whole=True)
    mean = Parameter("norm of the cluster means", lower=0, lower_open=True, latex=r"\|\mu\|")
    sigma = Parameter("standard deviation of a cluster", lower=0, lower_open=True, default=1.0, latex=r"\sigma")
    bias = Parameter("scale of the bias", default=0.0, latex="b")
    batch = batch_size()
    gamma = Parameter("cone: cosines above 1 - gamma are hits", lower=0, upper=1, lower_open=True, upper_open=True, default=0.1,
                      latex=r"\gamma", only=CONES)  # fmt: skip
    least = Parameter("norm below which a gradient does not count", lower=0, default=0.0, latex="B", only=CONES)
    neurons = Parameter("neurons of the network at initialisation", lower=1, upper=1e9, whole=True, default=100.0, latex="m",
                        only=CONES)  # fmt: skip
    pairs = Parameter("pairs of neurons +-w", lower=1, upper=4096, whole=True, default=4.0, latex="s", only=ACCURACY)
    fit = Parameter("samples the readout is fitted to", lower=2, upper=1e6, whole=True, default=4000.0, only=NETWORKS)

    hit = Observable("probability that a neuron's gradient is in the cone of a mean", lower=0, latex="p", index=("direction",),
                     only=CONES)  # fmt: skip
    cosine = Observable("mean |cosine| of a gradient with a mean", lower=0, latex="c", index=("direction",), only=HITS)
    coverage = Observable("probability that all directions are hit", lower=0, latex=r"P_{\rm cover}", only=CONES)
    winners = Observable("mean number of winning neurons, a binomial number", lower=0, index=("direction",), only=TICKETS)
    no_winner = Observable("probability of no winner", lower=0, latex="P_0", index=("direction",), only=TICKETS)
    ticket_accuracy = Observable("accuracy of the best neuron per direction at initialisation, trained alone", lower=0,
                                 only=TICKETS)  # fmt: skip
    pair_accuracy = Observable("accuracy of as many random neurons", lower=0, only=TICKETS)
    accuracy = Observable("accuracy after one step and a least-squares readout", lower=0, only=ACCURACY)
    random_accuracy = Observable("accuracy of random features with the same readout", lower=0, only=ACCURACY)
    bayes_error = Observable("least probability of a wrong label", lower=0, latex=r"\epsilon_{\rm Bayes}")

    def sizes(self) -> dict[str, int | None]:
        return {"direction": 2 if self.choices["clusters"] == "xor" else 1}

    def formulas(self) -> Mapping[str, Formula]:
        xor = self.choices["clusters"] == "xor"
        return {
            "hit": Formula(
                "P(|G.D| > (1 - gamma)|G|, |G| >= B), G = sum_j p_j y_j [mu_j Phi(t_j) + sigma w/|w| phi(t_j)] (+ batch noise)",
                r"P\bigl(|G\cdot D| > (1-\gamma)\|G\|,\ \|G\|\ge B\bigr),\quad G = \sum_j p_j y_j\Bigl[\mu_j\Phi(t_j)"
                r" + \sigma\tfrac{w}{\|w\|}\varphi(t_j)\Bigr],\quad t_j = \frac{w\cdot\mu_j - b}{\sigma\|w\|}",
            ),
            "cosine": Formula("E |G.D|/|G|", r"\mathbb{E}\,|G\cdot D|/\|G\|"),
            "winners": Formula("m p", "m p"),
            "no_winner": Formula("(1 - p)^m", "(1-p)^m"),
            "ticket_accuracy": Formula(
                "E P(sign f(x) = y), f on the neurons of largest |cos(G_i, D)| at initialisation",
                r"\mathbb{E}\,P({\rm sign} f(x) = y),\quad f\text{ on the neurons of largest } |\cos(G_i, D)|"
                r"\text{ at initialisation}",
            ),
            "pair_accuracy": Formula("the same with random neurons", r"\text{the same with random neurons}"),
            "coverage": Formula(
                "sum_T (-1)^|T| P(no direction of T is hit)^m", r"\sum_T (-1)^{|T|}\,P(\text{no direction of } T\text{ is hit})^m"
            ),
            "accuracy": Formula(
                "E P(sign f(x) = y), f least squares on relu(+-G_i.x)",
                r"\mathbb{E}\,P({\rm sign} f(x) = y),\quad f\text{ least squares on } {\rm relu}(\pm G_i\cdot x)",
            ),
            "random_accuracy": Formula("the same with w_i for G_i", r"\text{the same with } w_i \text{ for } G_i"),
            "bayes_error": Formula(
                "2 q (1 - q), q = Phi(-mean/(sigma sqrt 2))" if xor else "Phi(-mean/sigma)",
                r"2q(1-q),\quad q = \Phi(-\|\mu\|/\sigma\sqrt2)" if xor else r"\Phi(-\|\mu\|/\sigma)",
            ),
        }

    joint: ClassVar[tuple[str, ...]] = ("bias",)

    def check(self, parameters: Mapping[str, float]) -> None:
        self.initialisation(parameters)

    def statement(self) -> dict[str, str]:
        if self.choices["predict"] == "hits":
            return {
                "claim": "exact; asymptotic on a batch",
                "regime": "population gradients at any d; on a batch the central limit law, up to 1/n",
            }
        return {"claim": "asymptotic", "regime": "reduced model, right up to 1/sqrt(d); " + MODEL_ERROR["mixture"]}

    def problem(self, p: Mapping[str, float]) -> Any:
        """The mixture at these parameters."""
        from ..gradient_features import GaussianMixture

        make = GaussianMixture.xor if self.choices["clusters"] == "xor" else GaussianMixture.pair
        return make(int(p["d"]), p["mean"], p["sigma"])

    def initialisation(self, p: Mapping[str, float]) -> Any:
        """The law of a neuron."""
        from ..gradient_features import Initialisation

        return Initialisation(self.choices["norm"], self.choices["bias_law"], p["bias"])

    def setting(self, p: Mapping[str, float], features: str) -> Any:
        """The experiment behind an accuracy."""
        from ..gradient_features import Setting

        pairs = p["pairs"] if self.choices["predict"] == "accuracy" else len(self.directions(p))
        pool = int(p["neurons"]) if features == "ticket" else 0
        return Setting(int(pairs), batch=p["batch"], fit=int(p["fit"]), features=features, pool=pool, init=self.initialisation(p))

    def directions(self, p: Mapping[str, float]) -> np.ndarray:
        """Directions of the means, as rows."""
        return np.eye(self.sizes()["direction"] or 1, int(p["d"]))

    def evaluate(self, parameters: Mapping[str, float], nodes: int) -> Mapping[str, tuple[Any, Any]]:
        from scipy.special import ndtr

        from ..gradient_features import sampled_coverage, xor_bayes_error
        from ..gradient_features.cones import mixture_cosines
        from ..gradient_features.initial import averaged

        p = parameters
        problem = self.problem(p)
        xor = self.choices["clusters"] == "xor"
        bayes = xor_bayes_error(p["mean"], p["sigma"]) if xor else float(ndtr(-p["mean"] / p["sigma"]))
        found: dict[str, tuple[Any, Any]] = {"bayes_error": (bayes, 1e-15)}
        predict = self.choices["predict"]
        if predict != "hits":
            found |= self._accuracies(problem, p, max(2, nodes // NODES_PER_DRAW))
        if predict == "accuracy":
            return found
        cosines, counts = mixture_cosines(problem, self.directions(p), self.initialisation(p), least=p["least"],
                                          batch=p["batch"], points=nodes)  # fmt: skip
        hits = (cosines > 1 - p["gamma"]) & counts
        found["hit"] = averaged(hits.mean(axis=1), hits.shape[1])
        found["cosine"] = averaged(cosines.mean(axis=1))
        found["coverage"] = averaged([sampled_coverage(part, int(p["neurons"])) for part in hits])
        probability, error = found["hit"]
        m = p["neurons"]
        found["winners"] = m * probability, m * error
        found["no_winner"] = (1 - probability) ** m, m * (1 - probability) ** (m - 1) * error
        return found

    def _accuracies(self, problem: Any, p: Mapping[str, float], draws: int) -> dict[str, tuple[Any, Any]]:
        from ..gradient_features import predicted_accuracy

        axes = self.directions(p)
        return {
            name: predicted_accuracy(problem, self.setting(p, features), axes if features == "ticket" else None, draws=draws)
            for name, features in self._networks()
        }

    def _networks(self) -> tuple[tuple[str, str], ...]:
        """Accuracies, and the features they belong to."""
        if self.choices["predict"] == "accuracy":
            return ("accuracy", "gradient"), ("random_accuracy", "random")
        return ("ticket_accuracy", "ticket"), ("pair_accuracy", "gradient")

    def simulate(self, parameters: Mapping[str, float], size: int, rng: Any) -> dict[str, Any]:
        """Accuracies of one real network, or hits and cosines of `size` real neurons with a batch each; dimension `d`."""
        from ..gradient_features import cosines, network_accuracy
        from ..gradient_features.experiments import batch_gradient

        p = parameters
        problem = self.problem(p)
        if self.choices["predict"] != "hits":
            axes = self.directions(p)
            return {
                name: network_accuracy(problem, self.setting(p, features), rng, axes if features == "ticket" else None)
                for name, features in self._networks()
            }
        w, b = self.initialisation(p).sample(size, problem.dimension, rng)
        if math.isinf(p["batch"]):
            g = problem.gradient(w, b).value
        else:
            each = zip(w, b, strict=True)
            g = np.vstack([batch_gradient(row[None], bias, *problem.sample(int(p["batch"]), rng)) for row, bias in each])
        long = np.linalg.norm(g, axis=1) >= p["least"]
        found = np.abs([cosines(g, D) for D in self.directions(p)])
        return {"hit": ((found > 1 - p["gamma"]) & long).mean(axis=1), "cosine": found.mean(axis=1)}


class Parity(GradientFeatures):
    """Two-layer network on a sparse parity of uniform signs: how often gradients find the sum of the relevant coordinates.

    Uniform inputs have no structure to find: a batch must be of order D^k.  `leading` is the leading order in 1/D; `sampled` the
    exact gradients of random neurons.
    """

    name: ClassVar[str] = "parity"
    title: ClassVar[str] = "Gradient features of a sparse parity"
    slowest: ClassVar[tuple[str, ...]] = ("k", "D")
    joint: ClassVar[tuple[str, ...]] = ("D", "k", "least", "batch", "features")

    law = ChoiceOption("leading order in 1/D, or sampled neurons", "leading", ("leading", "sampled"))
    fixed = ChoiceOption("fixed features measured beside their bound: none, random ReLUs, or the ReLU kernel on random samples",
                         "none", ("none", "relu", "kernel"))  # fmt: skip

    D = Parameter("number of coordinates", lower=1, whole=True, infinite=True)
    k = Parameter("relevant coordinates", lower=1, upper=64, whole=True)
    gamma = cone()
    beta = Parameter("bias in units of |w|", default=0.0, latex=r"\beta")
    least = Parameter("norm below which a gradient does not count", lower=0, default=0.0, latex="B")
    batch = Parameter("samples of a gradient step", lower=1, infinite=True, default=math.inf, latex="n",
                      only={"law": "leading"})  # fmt: skip
    features = Parameter("fixed features to compare with", lower=0, whole=True, default=0.0, latex="N")

    hit = Observable("probability that a neuron's gradient is in the cone", lower=0, latex="p")
    limit_hit = Observable("the same at D = inf", lower=0, latex=r"p_\infty")
    error_bound = Observable("least mean squared error of that many fixed features", lower=0, latex=r"\epsilon_N")
    fixed_error = Observable("measured error of that many fixed features, over all parities of k", lower=0, only=MEASURED)

    def formulas(self) -> Mapping[str, Formula]:
        leading = self.choices["law"] == "leading"
        return {
            "hit": Formula(
                "P(|G.D| > (1 - gamma)|G|, |G| >= B), D = sum_A e_j/sqrt k, G_j = hhat(A xor {j})"
                + (" ~ prod_S (q_l/|q|) He_{|S|-1}(beta) phi(beta)" if leading else ", exact"),
                r"P\bigl(|G\cdot D| > (1-\gamma)\|G\|,\ \|G\|\ge B\bigr),\quad G_j = \hat h(A\,\triangle\,\{j\})"
                + (r",\quad \hat h(S)\simeq \prod_{l\in S}\tfrac{q_l}{\|q\|}\,{\rm He}_{|S|-1}(\beta)\,\varphi(\beta)"
                   if leading else ""),
            ),
            "limit_hit": Formula(
                "P(|sum_A 1/q_j| > (1 - gamma) sqrt(k sum_A 1/q_j^2)), q ~ N(0, I_k)",
                r"P\Bigl(\bigl|\textstyle\sum_A 1/q_j\bigr| > (1-\gamma)\sqrt{k \sum_A 1/q_j^2}\Bigr),\quad"
                r" q\sim\mathcal N(0, I_k)",
            ),
            "error_bound": Formula("max(0, 1 - N/C(D, k))", r"\max\bigl(0, 1 - N/\tbinom{D}{k}\bigr)"),
            "fixed_error": Formula(
                "E_A min_h E(h - chi_A)^2, h a combination of N fixed features",
                r"\mathbb{E}_A\min_h\mathbb{E}(h-\chi_A)^2,\quad h\text{ a combination of } N\text{ fixed features}",
            ),
        }  # fmt: skip

    def check(self, parameters: Mapping[str, float]) -> None:
        from ..gradient_features import ProblemError

        if parameters["k"] > parameters["D"]:
            raise ProblemError(f"k = {parameters['k']:g} is outside its range [1, D] with D = {parameters['D']:g}")
        if math.isinf(parameters["D"]):
            if self.choices["law"] == "sampled":
                raise ProblemError("D = inf has no neurons to sample; use law = leading")
            if parameters["least"] > 0 or math.isfinite(parameters["batch"]):
                raise ProblemError("at D = inf gradients have no length: least must be 0 and batch inf")
        if self.choices["fixed"] == "none":
            return
        if parameters["D"] > MOST_LISTED:
            D = parameters["D"]
            raise ProblemError(f"D = {D:g} is outside [1, {MOST_LISTED}], where fixed features are measured on all inputs")
        if parameters["features"] < 1:
            raise ProblemError("features = 0: there are no fixed features to measure; give at least 1")

    def statement(self) -> dict[str, str]:
        if self.choices["law"] == "sampled":
            return {"claim": "exact", "regime": "any D, up to the reported sampling error; limit_hit is the limit D -> infinity"}
        return {
            "claim": "asymptotic",
            "regime": "D -> infinity, corrections of relative order k^2/D; hits are within 0.003 of exact gradients at D = 100 "
            "(k = 2, 3, 4); error_bound is exact at any D",
        }

    def evaluate(self, parameters: Mapping[str, float], nodes: int) -> Mapping[str, tuple[Any, Any]]:
        from ..gradient_features import measured_fixed_error, parity_hits, square_bound

        p = parameters
        k = int(p["k"])
        bound = 1.0 if math.isinf(p["D"]) else square_bound(int(p["features"]), int(p["D"]), k)
        if self.choices["law"] == "sampled":
            hit = self._sampled(p, 4 * nodes)
        else:
            hit = parity_hits(p["D"], k, p["gamma"], p["beta"], least=p["least"], batch=p["batch"], points=nodes)
        measured = {}
        if self.choices["fixed"] != "none":
            measured["fixed_error"] = measured_fixed_error(self.choices["fixed"], int(p["D"]), k, int(p["features"]))
        return {
            "hit": hit,
            "limit_hit": parity_hits(math.inf, k, p["gamma"], points=nodes),
            "error_bound": (bound, 1e-15),
            **measured,
        }

    def _sampled(self, p: Mapping[str, float], count: int, seed: int = 0) -> Any:
        from ..gradient_features import Initialisation, SparseParity, sampled_gradients, sampled_hits

        problem = SparseParity(int(p["D"]), int(p["k"]))
        g, b = sampled_gradients(problem, count, seed, Initialisation(scale=p["beta"]))
        return sampled_hits(g, b, problem.direction, p["gamma"], least=p["least"])

    def simulate(self, parameters: Mapping[str, float], size: int, rng: Any) -> dict[str, float]:
        """Exact gradients of `size` random neurons in D coordinates."""
        return {"hit": self._sampled({"batch": math.inf, **parameters}, size, int(rng.integers(2**31))).value}


class StructuredDictionary(GradientFeatures):
    """Two-layer network on dictionary inputs (arXiv:2206.01717): how a batch aligns neurons with the relevant elements.

    Labels depend on how many of k relevant elements are present.  `parity`: uniform with probability rho, else all or none
    (k odd); `threshold`: at least `count` of k, each present with probability `rate`.  Large D, bias 0.
    """

    name: ClassVar[str] = "dictionary"
    title: ClassVar[str] = "Gradient features of a structured dictionary"

    labels = ChoiceOption("what decides the label", "parity", ("parity", "threshold"))
    predict = ChoiceOption("laws of one neuron, or accuracies of networks too", "laws", ("laws", "accuracy"))

    D = Parameter("dictionary elements", lower=2, upper=1e6, whole=True)
    k = Parameter("relevant elements", lower=1, upper=14, whole=True)
    rho = Parameter("probability of uniform relevant elements; 1 removes the structure", lower=0, upper=1, default=0.5,
                    latex=r"\rho", only={"labels": "parity"})  # fmt: skip
    count = Parameter("present relevant elements that make the label 1", lower=1, upper=14, whole=True, default=1.0,
                      only={"labels": "threshold"})  # fmt: skip
    rate = Parameter("probability of a relevant element", lower=0, upper=1, lower_open=True, upper_open=True, default=0.5,
                     latex="p", only={"labels": "threshold"})  # fmt: skip
    background = Parameter("probability of any other element", lower=0, upper=1, lower_open=True, upper_open=True, default=0.5,
                           latex="p_o")  # fmt: skip
    batch = batch_size()
    gamma = cone()
    features = Parameter("fixed features to compare with", lower=0, whole=True, default=0.0, latex="N")
    readout = Parameter("norm of their readout", lower=0, default=1.0, latex="B")
    neurons = Parameter("neurons of the network", lower=1, upper=4096, whole=True, default=300.0, latex="m", only=ACCURACY)
    fit = Parameter("samples the readout is fitted to", lower=2, upper=1e6, whole=True, default=4000.0, only=ACCURACY)

    slope = Observable("E[y bit] - E y E bit of a relevant element", latex="s")
    signal = Observable("squared norm of E[y x] of balanced labels, per batch noise 1/n", lower=0, latex="S")
    cosine = Observable("mean |cosine| with the relevant direction", lower=0, latex=r"c", index=("step",))
    hit = Observable("probability of being in its cone", lower=0, latex="p_{\\gamma}", index=("step",))
    accuracy = Observable("best accuracy after step 2", lower=0)
    network_accuracy = Observable("accuracy of networks with a least-squares readout", lower=0, index=("step",), only=ACCURACY)
    loss_bound = Observable("hinge loss that fixed features exceed for some relevant set", lower=0, latex=r"\epsilon_{N,B}")

    joint: ClassVar[tuple[str, ...]] = ("D", "k", "rho", "count", "rate", "background")

    def sizes(self) -> dict[str, int | None]:
        return {"step": 3}

    def formulas(self) -> Mapping[str, Formula]:
        return {
            "slope": Formula(
                "sum_c P(c) y_c c/k - E y E bit",
                r"\tfrac1k\sum_c P(c)\,y_c\,c - \mathbb{E}y\,\mathbb{E}\tilde\phi_i",
            ),
            "signal": Formula("k slope^2/sig^2", r"k s^2/\sigma_\phi^2"),
            "cosine": Formula(
                "E|g.D|/|g|; g random, then N(sqrt(S)/2 D, C/(2n)), then N(sqrt(S) D, C/n), C the covariance of x",
                r"\mathbb{E}\frac{|g\cdot D|}{\|g\|},\quad g_0\text{ random},\quad g_1\sim\mathcal N\bigl(\tfrac{\sqrt S}2 D, "
                r"\tfrac{C}{2n}\bigr),\quad g_2\sim\mathcal N\bigl(\sqrt S D, \tfrac{C}{n}\bigr)",
            ),
            "hit": Formula("P(|g.D| > (1 - gamma)|g|)", r"P\bigl(|g\cdot D| > (1-\gamma)\|g\|\bigr)"),
            "accuracy": Formula(
                "int max(P(+, t), P(-, t)) dt, t = g_2.x/|g_2|",
                r"\int\max\bigl(P(+,t), P(-,t)\bigr)dt,\quad t = g_2\cdot x/\|g_2\|"
            ),
            "network_accuracy": Formula(
                "E P(sign f(x) = y), f least squares on m ReLUs of g.x with random biases",
                r"\mathbb{E}\,P({\rm sign} f(x) = y),\quad f\text{ least squares on } m\text{ ReLUs of } g\cdot x"
                r"\text{ with random biases}",
            ),
            "loss_bound": Formula(
                "max(0, rho (1 - B sqrt(N/C(D, k)))), rho the fraction of uniform relevant elements (0 for thresholds)",
                r"\max\Bigl(0, \rho\bigl(1 - B\sqrt{N/\tbinom Dk}\bigr)\Bigr)",
            ),
        }

    def problem(self, p: Mapping[str, float]) -> Any:
        """The dictionary at these parameters."""
        from ..gradient_features import Dictionary

        if self.choices["labels"] == "parity":
            return Dictionary.parity(int(p["D"]), int(p["k"]), p["rho"], p["background"])
        return Dictionary.threshold(int(p["D"]), int(p["k"]), int(p["count"]), p["rate"], p["background"])

    def check(self, parameters: Mapping[str, float]) -> None:
        self.problem(parameters)

    def statement(self) -> dict[str, str]:
        regime = "D -> infinity, bias 0, central limit law on a batch; accuracy: the best readout of one direction"
        if self.choices["predict"] == "accuracy":
            regime += "; network_accuracy: " + MODEL_ERROR["dictionary"]
        return {"claim": "asymptotic", "regime": regime + "; loss_bound is exact at any D"}

    def evaluate(self, parameters: Mapping[str, float], nodes: int) -> Mapping[str, tuple[Any, Any]]:
        from ..gradient_features import dictionary_step, hinge_bound, predicted_dictionary_accuracy, two_step_accuracy

        p = parameters
        problem = self.problem(p)
        laws = [dictionary_step(problem, p["batch"], step) for step in (0, 1, 2)]
        cosine, hit = [law.mean_cosine(nodes) for law in laws], [law.hits(p["gamma"], nodes) for law in laws]
        networks = {}
        if self.choices["predict"] == "accuracy":
            size = {"neurons": int(p["neurons"]), "fit": int(p["fit"]), "draws": max(2, nodes // NODES_PER_DRAW // 4)}
            found = [predicted_dictionary_accuracy(problem, p["batch"], step, **size) for step in (0, 1, 2)]
            networks["network_accuracy"] = [v.value for v in found], [v.error for v in found]
        bound = hinge_bound(int(p["features"]), int(p["D"]), int(p["k"]), p["readout"], p.get("rho", 0.0))
        return {
            **networks,
            "loss_bound": (bound, 1e-15),
            "slope": (problem.slope, 1e-15),
            "signal": (problem.signal, 1e-15),
            "cosine": ([c.value for c in cosine], [c.error for c in cosine]),
            "hit": ([h.value for h in hit], [h.error for h in hit]),
            "accuracy": (two_step_accuracy(problem, p["batch"]), 1e-8),
        }

    def simulate(self, parameters: Mapping[str, float], size: int, rng: Any) -> dict[str, Any]:
        """Real networks of `size` neurons after 0, 1 and 2 steps; the dimension is `D`."""
        from ..gradient_features import dictionary_network

        problem = self.problem(parameters)
        p, networks = parameters, self.choices["predict"] == "accuracy"
        neurons, fit = (int(p["neurons"]), int(p["fit"])) if networks else (size, 4000)
        runs = [dictionary_network(problem, neurons, int(p["batch"]), step, rng, fit=fit) for step in (0, 1, 2)]
        cosine, accuracy = (np.array([run[name] for run in runs]) for name in ("cosine", "accuracy"))
        return {"cosine": cosine, "accuracy": accuracy[2], **({"network_accuracy": accuracy} if networks else {})}
