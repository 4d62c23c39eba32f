"""Figures of gradient features: predictions as lines, real networks as dots with standard errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .gradient_features import (
    Dictionary,
    GaussianMixture,
    Setting,
    SparseParity,
    cosines,
    coverage,
    dictionary_network,
    dictionary_step,
    fixed_feature_error,
    kernel_functions,
    mixture_hits,
    network_accuracy,
    parity_hits,
    predicted_accuracy,
    predicted_dictionary_accuracy,
    random_relu,
    sampled_gradients,
    sampled_hits,
    square_bound,
    two_step_accuracy,
    xor_bayes_error,
)
from .gradient_features.initial import Initialisation
from .panels import Curve, Drawing, Panel

#: The XOR problem of the figures.
DIMENSION, MEAN, CONE = 60, 4.0, 0.1
#: Networks behind a dot of coverage.
NETWORKS = 100


def _dots(x: Any, runs: Any, label: str, colour: int) -> Curve:
    """Mean over runs (the last axis) with its standard error."""
    runs = np.asarray(runs, dtype=float)
    sem = runs.std(axis=1, ddof=1) / math.sqrt(runs.shape[1])
    return Curve(np.asarray(x, dtype=float), runs.mean(axis=1), label, colour, dots=True, sem=sem)


def xor_width() -> Drawing:
    """Accuracy and coverage of XOR against width: gradient features, random features, Bayes; real networks as dots."""
    problem, directions = GaussianMixture.xor(DIMENSION, MEAN), np.eye(2, DIMENSION)
    widths = np.array([1, 2, 4, 8, 16, 32, 64])
    rng = np.random.default_rng(0)
    accuracy = []
    for colour, features in enumerate(("gradient", "random")):
        settings = [Setting(int(s), batch=4000, features=features) for s in widths]
        theory = [predicted_accuracy(problem, s, draws=120 if s.pairs < 8 else 24).value for s in settings]
        accuracy.append(Curve(widths, np.array(theory), f"{features} features", colour))
        runs = [[network_accuracy(problem, s, rng) for _ in range(24)] for s in settings]
        accuracy.append(_dots(widths, runs, "", colour))
    accuracy.append(Curve(widths, np.full(len(widths), 1 - xor_bayes_error(MEAN)), "Bayes", 2, dashed=True))
    covered = []
    for colour, (label, batch) in enumerate((("population", math.inf), ("n = 1000", 1000.0), ("n = 200", 200.0))):
        hits = mixture_hits(problem, directions, CONE, batch=batch).value
        every = np.arange(1, 65)
        covered.append(Curve(every, np.array([coverage(hits, int(s)) for s in every]), label, colour))
        found = []
        for s in widths:
            g, _ = sampled_gradients(problem, NETWORKS * int(s), int(s), batch=batch)
            inside = np.array([np.abs(cosines(g, D)) > 1 - CONE for D in directions]).reshape(2, NETWORKS, s)
            found.append(inside.any(axis=2).all(axis=0).astype(float))
        covered.append(_dots(widths, found, "", colour))
    return Drawing(
        [
            Panel("pairs of neurons $s$", "accuracy", accuracy, "one step, n = 4000", xlog=True),
            Panel("neurons $s$", "both directions hit", covered, rf"coverage, $\gamma$ = {CONE:g}", xlog=True),
        ],
        rf"XOR mixture, d = {DIMENSION}, $\|\mu\|$ = {MEAN:g}, $\sigma$ = 1",
    )


def dictionary_steps() -> Drawing:
    """Cosine and accuracy of dictionary networks against n, after 0, 1 and 2 steps, with a structure-removed control."""
    sizes = np.array([100, 300, 1000, 3000, 10_000])
    fine = np.geomspace(100, 10_000, 60)
    structured, control = Dictionary.parity(100, 5, 0.5), Dictionary.parity(100, 5, 1.0)
    rng, neurons, fit = np.random.default_rng(0), 100, 2000
    panels: dict[str, list[Curve]] = {"cosine": [], "accuracy": []}
    for colour, (problem, step, label) in enumerate(
        [(structured, 0, "step 0"), (structured, 1, "step 1"), (structured, 2, "step 2"), (control, 2, "step 2, no structure")]
    ):
        theory = [dictionary_step(problem, n, step).mean_cosine().value for n in fine]
        panels["cosine"].append(Curve(fine, np.array(theory), label, colour, dashed=problem is control))
        reached = [
            predicted_dictionary_accuracy(problem, n, step, neurons, fit=fit, test=fit, draws=8).value
            for n in (sizes if step else sizes[:1])  # what random weights reach does not depend on n
        ]
        panels["accuracy"].append(Curve(sizes, np.resize(reached, len(sizes)), label, colour, dashed=problem is control))
        runs = [
            [dictionary_network(problem, neurons, int(n), step, rng, fit=fit, test=fit) for _ in range(8)] for n in sizes
        ]
        for name, curves in panels.items():
            curves.append(_dots(sizes, [[run[name] for run in each] for each in runs], "", colour))
    limit = np.array([two_step_accuracy(structured, n) for n in fine])
    panels["accuracy"].append(Curve(fine, limit, "best readout, step 2", 4, dashed=True))
    return Drawing(
        [
            Panel("samples per step $n$", "mean |cosine| with relevant sum", panels["cosine"], "", xlog=True),
            Panel("samples per step $n$", f"accuracy of {neurons} neurons", panels["accuracy"], "", xlog=True),
        ],
        r"Structured parity of k = 5 of D = 100 elements, $\rho$ = 1/2 (dots: 8 networks)",
    )


def lottery_ticket() -> Drawing:
    """Winning ticket against a random pair of neurons on XOR, by the size of the pool it is drawn from."""
    problem, directions = GaussianMixture.xor(DIMENSION, MEAN), np.eye(2, DIMENSION)
    pools = np.array([2, 4, 8, 16, 32, 64, 128])
    rng = np.random.default_rng(1)
    tickets = [Setting(2, batch=4000, features="ticket", pool=int(m)) for m in pools]
    theory = [predicted_accuracy(problem, t, directions, draws=150).value for t in tickets]
    runs = [[network_accuracy(problem, t, rng, directions) for _ in range(40)] for t in tickets]
    pair = Setting(2, batch=4000)
    alone = predicted_accuracy(problem, pair, draws=400).value
    trained = [[network_accuracy(problem, pair, rng) for _ in range(200)]]  # knows nothing of the pool
    curves = [
        Curve(pools, np.array(theory), "winning ticket", 0), _dots(pools, runs, "", 0),
        Curve(pools, np.full(len(pools), alone), "random pair", 1), _dots(pools[3:4], trained, "", 1),
        Curve(pools, np.full(len(pools), 1 - xor_bayes_error(MEAN)), "Bayes", 2, dashed=True),
    ]  # fmt: skip
    return Drawing(
        [Panel("neurons at initialisation $m$", "accuracy of two pairs", curves, "best neuron per direction", xlog=True)],
        rf"Lottery tickets: XOR, d = {DIMENSION}, $\|\mu\|$ = {MEAN:g}, n = 4000",
    )


def parity_cone() -> Drawing:
    """Hit probability of a sparse parity's direction against the cone, at D = inf and D = 100, exact gradients as dots."""
    gammas, dots = np.linspace(0.01, 0.6, 60), np.array([0.05, 0.1, 0.2, 0.3, 0.45])
    curves = []
    for colour, (k, beta) in enumerate(((2, 0.5), (3, 0.5), (4, 0.5))):
        limit = np.array([parity_hits(math.inf, k, g).value for g in gammas])
        finite = np.array([parity_hits(100, k, g, beta).value for g in gammas])
        curves.append(Curve(gammas, limit, f"k = {k}, D = $\\infty$", colour))
        curves.append(Curve(gammas, finite, f"k = {k}, D = 100", colour, dashed=True))
        problem = SparseParity(100, k)
        g, b = sampled_gradients(problem, 4000, 0, Initialisation(scale=beta))
        found = [sampled_hits(g, b, problem.direction, gamma) for gamma in dots]
        values, sems = np.array([f.value for f in found]), np.array([f.error / 3 for f in found])
        curves.append(Curve(dots, values, "", colour, dots=True, sem=sems))
    exact = Curve(gammas, 2 / math.pi * np.arccos(1 - gammas), r"$2\arccos(1-\gamma)/\pi$", 3, dashed=True)
    return Drawing(
        [Panel(r"cone $\gamma$", "hit probability", [*curves, exact], r"bias $\beta$ = 1/2 in units of $\|w\|$")],
        "Sparse parity (dots: exact gradients, D = 100)",
    )


def fixed_features() -> Drawing:
    """Error of random features and of a kernel method on all parities of 3 of 12 bits, above the lower bound for any of them."""
    D, counts = 12, np.array([5, 20, 40, 80, 120, 160, 220])
    fine = np.arange(0, 221, 2)
    rng = np.random.default_rng(0)
    bound = np.array([square_bound(int(N), D, 3) for N in fine])
    curves = [Curve(fine, bound, "lower bound $1 - N/C(D,k)$", 0)]
    for colour, (label, make) in enumerate((("random ReLUs", random_relu), ("ReLU kernel, N samples", kernel_functions)), 1):
        runs = [[fixed_feature_error(make(D, int(N), rng), 3).value for _ in range(4)] for N in counts]
        curves.append(_dots(counts, runs, label, colour))
    return Drawing(
        [Panel("features or samples $N$", "error, mean over parities", curves, "bars are smaller than the dots", ylim=(0, 1.05))],
        "Fixed features and sparse parities: D = 12, k = 3",
    )


FIGURES = {
    "xor-width": xor_width,
    "dictionary-steps": dictionary_steps,
    "lottery-ticket": lottery_ticket,
    "parity-cone": parity_cone,
    "fixed-features": fixed_features,
}
