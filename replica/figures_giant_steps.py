"""Figures of giant steps: alignment against samples, neurons in the teacher plane, a batch used twice.

Each draws theory over experiments with real networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .giant_steps.averages import Student
from .giant_steps.problem import alignment, giant_steps, make_student, reuse
from .giant_steps.simulations import first_step, train
from .panels import Curve, Drawing, Panel
from .targets import Target, make_target

ERF = "erf(z/sqrt(2))"


def alignment_curves() -> Drawing:
    """Alignment of a neuron after one giant step against samples: leap 1 by activation, leap 2 and 3 with quantiles."""
    rng = np.random.default_rng(0)
    alphas, dots = np.geomspace(0.1, 100, 31), np.array([0.3, 1.0, 3.0, 10.0])
    first = []
    for colour, (target, activation) in enumerate((("z1+z1*z2", "relu"), ("z1+z1*z2", ERF), ("(4*z1+z1**2+z2)/2", "relu"))):
        theory = [alignment(target, activation, alpha=a, noise=0.1) for a in alphas]
        label = f"{target}, {activation}"
        first.append(Curve(alphas, np.array([t.cos2 for t in theory]), label, colour))
        first.append(Curve(alphas, np.array([t.top for t in theory]), "", colour, dashed=True))
        first += _experiment(target, activation, dots, 1, 400, ("cos2", "top"), colour, rng)
    later = []
    for colour, (target, activation, leap, d) in enumerate((("z1*z2", "relu", 2, 60), ("he3(z1)/sqrt(6)", ERF, 3, 40)), 3):
        theory = [alignment(target, activation, alpha=a, leap=leap, noise=0.1, probabilities=(0.1, 0.9)) for a in alphas]
        finite = [alignment(target, activation, alpha=a, leap=leap, noise=0.1, d=d, probabilities=()).cos2 for a in alphas]
        later.append(Curve(alphas, np.array(finite), f"{target}, {activation}, d = {d}: mean", colour))
        for p, label in ((0.1, "10% and 90% of neurons, d = \u221e"), (0.9, "")):
            later.append(Curve(alphas, np.array([t.quantiles[p] for t in theory]), label, colour, dashed=True))
        later += _experiment(target, activation, dots if leap == 2 else dots[:3], leap, d, ("cos2",), colour, rng)
    label = r"$\cos^2$ with the teacher space"
    return Drawing(
        [
            Panel(r"$\alpha = n/d$", label, first, "leap 1 (dashed: top singular vector)", xlog=True, ylim=(0, 1)),
            Panel(r"$\alpha = n/d^\ell$", label, later, r"$\ell$ = 2, 3: a law over neurons, up to 1/d", xlog=True, ylim=(0, 1)),
        ],
        r"One giant step, noise $\Delta$ = 0.1; dots: networks with standard errors over batches, d = 400 on the left",
    )


def _experiment(
    target: str, activation: str, alphas: np.ndarray, leap: int, d: int, names: Sequence[str], colour: int,
    rng: np.random.Generator,
) -> list[Curve]:  # fmt: skip
    g, s = make_target(target), make_student(activation, [1.0]).activation
    # Neurons share their batch: more of them help little, and heavy tails want many batches for an error bar to mean something.
    repeats, p = {1: (10, 50), 2: (40, 30), 3: (40, 12)}[leap]
    shared: dict[str, Any] = {"noise": 0.1, "leap": leap, "step": math.inf, "d": d, "p": p, "rng": rng}
    runs = [
        [first_step(g.numeric, g.r, s.numeric_derivative(), alpha=a, **shared) for _ in range(repeats)] for a in alphas
    ]  # fmt: skip
    curves = []
    for name in names:
        values = np.array([[run[name] for run in row] for row in runs])
        sem = values.std(axis=1, ddof=1) / math.sqrt(repeats)
        curves.append(Curve(alphas, values.mean(axis=1), "", colour, dots=True, sem=sem))
    return curves


def neuron_clouds() -> Drawing:
    """Neurons in the teacher plane over three giant steps: z1 is learned, then z2, as the recursion says."""
    target, steps, p, d, alpha, eta = "z1+z1*z2", 3, 8, 500, 6.0, 2.0
    rng = np.random.default_rng(1)
    readout, biases = rng.choice([-1.0, 1.0], p) * np.sqrt(p) * rng.uniform(0.5, 1.0, p), rng.uniform(-1.0, 1.0, p)
    network = giant_steps(
        target, "relu", readout=readout, biases=biases, loss="correlation", alpha=alpha, eta=eta, power=11
    )  # fmt: skip
    theory, g = network.run(steps), make_target(target)
    runs = [train(g.numeric, network.student, network.M, network.Q, alpha=alpha, eta=eta, noise=0.0, steps=steps, d=d, rng=rng)
            for _ in range(12)]  # fmt: skip
    panels = []
    for k in range(1, steps + 1):
        clouds = np.concatenate([r["M"][k] / np.sqrt(np.diagonal(r["Q"][k]))[:, None] for r in runs])
        centre = theory["M"][k] / np.sqrt(np.diagonal(theory["Q"][k]))[:, None]
        angle = np.linspace(0, 2 * math.pi, 200)
        curves = [
            Curve(np.cos(angle), np.sin(angle), "", 6),
            Curve(clouds[:, 0], clouds[:, 1], f"{len(runs)} networks, d = {d}" if k == steps else "", 5, dots=True),
            Curve(centre[:, 0], centre[:, 1], "recursion" if k == steps else "", 0, dots=True, marker="x"),
        ]
        panels.append(Panel(r"$\cos(w, e_1)$", r"$\cos(w, e_2)$", curves, f"after step {k}", ylim=(-1.08, 1.08), equal=True))
    return Drawing(panels, f"{target}, ReLU with biases, p = {p}, n = {alpha:g} d per step, correlation loss")


def batch_reuse() -> Drawing:
    """Second gradient on the same batch and on a fresh one, against the step: reuse sees a target of leap 3."""
    target, steps, dots, d = "he3(z1)/sqrt(6)", 4 * np.linspace(0, 1, 17) ** 1.5, np.array([0.5, 1.0, 2.0, 3.0, 4.0]), 400
    rng = np.random.default_rng(2)
    g, student = make_target(target), make_student(ERF, [1.0], loss="correlation")
    curves = []
    for colour, alpha in enumerate((1.0, 2.0, 4.0)):
        curves.append(Curve(steps, _overlaps(target, alpha, steps, True), rf"same batch, $\alpha$ = {alpha:g}", colour))
        curves.append(_second_steps(g, student, alpha, dots, 25, True, d, rng, colour))
    curves.append(Curve(steps, _overlaps(target, 2.0, steps, False), r"fresh batch, $\alpha$ = 2", 3, dashed=True))
    curves.append(_second_steps(g, student, 2.0, dots, 60, False, d, rng, 3))  # a fresh batch fluctuates more
    panel = Panel("step $t$", r"$\langle w_*, u_2\rangle$", curves, f"correlation loss; dots: networks, d = {d}")
    return Drawing([panel], f"Second gradient and teacher: {target}, erf")


def _overlaps(target: str, alpha: float, steps: Sequence[float] | np.ndarray, reused: bool) -> np.ndarray:
    return np.array([reuse(target, ERF, alpha=alpha, step=float(t), reused=reused).overlap[0] for t in steps])


def _second_steps(
    g: Target, student: Student, alpha: float, steps: np.ndarray, repeats: int, reused: bool, d: int, rng: np.random.Generator,
    colour: int,
) -> Curve:  # fmt: skip
    mean, sem = [], []
    for t in steps:
        start = (g.numeric, student, np.zeros((1, 1)), np.eye(1))
        runs = [
            train(*start, alpha=alpha, eta=t, noise=0.0, steps=2, d=d, rng=rng, reuse=reused)["M"] for _ in range(repeats)
        ]
        second = np.array([(M[2, 0, 0] - M[1, 0, 0]) / t for M in runs])
        mean.append(second.mean())
        sem.append(second.std(ddof=1) / math.sqrt(len(second)))
    return Curve(np.asarray(steps), np.array(mean), "", colour, dots=True, sem=np.array(sem))


FIGURES = {"alignment": alignment_curves, "neuron-clouds": neuron_clouds, "batch-reuse": batch_reuse}
