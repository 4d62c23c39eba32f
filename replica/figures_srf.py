"""Figures of spiked random features: learning curves, what one giant step is worth, hyper-parameters, the spectrum.

Theory is that of the trained network at any batch, ``bulk="exact"``; dots are such networks, trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from solvers import Ladder, solve_points

from .model import Model
from .models import RidgeRegression, SpikedRandomFeatures
from .models.simulations import trained_rows
from .models.training import Labels
from .panels import Curve, Drawing, Panel
from .spectrum import spectrum
from .validation import simulate_points

Array = np.ndarray
#: Networks of a dot, their dimension, and the seed they come from.
NETWORKS, DIMENSION, SEED = 8, 300, 0
DOTS = f"dots: {NETWORKS} networks, d = {DIMENSION}"
TEST = "test error"


def _errors(problem: Any, points: Sequence[Mapping[str, float]]) -> Array:
    """Test error at points; nan where there is no solution."""
    batch = solve_points(problem, np.array([problem.point(p) for p in points]), Ladder())
    return np.where(batch.result == 0, problem.values.unpack(batch.values)["test_error"], np.nan)


def _curve(problem: Any, name: str, values: Array, fixed: Mapping[str, float]) -> Array:
    """Test error along one parameter."""
    return _errors(problem, [{**fixed, name: float(v)} for v in values])


def _dots(model: Model, x: Sequence[float] | Array, points: Sequence[Mapping[str, float]], colour: int) -> Curve:
    """Mean and standard error over trained networks."""
    runs = [found["test_error"] for found in simulate_points(model, points, DIMENSION, NETWORKS, SEED)]
    means, sems = (np.array([getattr(run, which) for run in runs]) for which in ("mean", "sem"))
    return Curve(np.array(x), means, "", colour, dots=True, sem=sems)


def _networks(model: Model, name: str, values: Sequence[float], fixed: Mapping[str, float], colour: int) -> Curve:
    """The same along one parameter."""
    return _dots(model, values, [{**fixed, name: v} for v in values], colour)


def learning_curves() -> Drawing:
    """Test error against samples after one giant step, by size of the step and by its batch, with networks."""
    model = SpikedRandomFeatures(bulk="exact")
    problem = model.compile()
    alphas, dots = np.geomspace(0.1, 6, 60), (0.3, 0.6, 1.2, 2.4, 4.8)
    fixed = {"beta": 1.0, "reg": 0.03, "noise": 0.0}
    panels = []
    for title, name, values, rest in (
        (r"by step, $\alpha_0$ = 2", "eta", (0.0, 1.0, 3.0), {"alpha0": 2.0}),
        (r"by batch, $\tilde\eta$ = 3", "alpha0", (0.5, 2.0, 8.0, np.inf), {"eta": 3.0}),
    ):
        curves = []
        for colour, value in enumerate(values):
            given = {**fixed, **rest, name: value}
            symbol, text = {"eta": r"\tilde\eta", "alpha0": r"\alpha_0"}[name], r"\infty" if np.isinf(value) else f"{value:g}"
            curves.append(Curve(alphas, _curve(problem, "alpha", alphas, given), f"${symbol} = {text}$", colour))
            if np.isfinite(value):  # a network has a batch
                curves.append(_networks(model, "alpha", dots, given, colour))
        panels.append(Panel(r"samples per dimension $\alpha = n/d$", TEST, curves, title, xlog=True))
    return Drawing(panels, rf"tanh network, sine target, $\beta$ = 1, $\lambda$ = 0.03 ({DOTS})")


def trained_features() -> Drawing:
    """Trained features against random features and the best linear predictor, by penalty of the readout chosen best."""
    alphas, regs = np.geomspace(0.1, 20, 50), np.geomspace(1e-4, 10, 60)
    model, linear = SpikedRandomFeatures(bulk="exact", target="tanh"), RidgeRegression(target="tanh")
    problem, ridge, fixed = model.compile(), linear.compile(), {"beta": 2.0, "alpha0": 8.0, "noise": 0.0}
    plane = [{"alpha": float(a), "reg": float(r)} for a in alphas for r in regs]
    shape, shown, curves = (len(alphas), len(regs)), np.arange(5, len(alphas), 11), []
    for colour, (eta, label) in enumerate(((3.0, "trained features"), (0.0, "random features"))):
        errors = _errors(problem, [{**fixed, "eta": eta, **p} for p in plane]).reshape(shape)
        curves.append(Curve(alphas, np.nanmin(errors, axis=1), label, colour))
        chosen = [{**fixed, "eta": eta, "alpha": float(alphas[i]), "reg": float(regs[np.nanargmin(errors[i])])} for i in shown]
        curves.append(_dots(model, alphas[shown], chosen, colour))
    errors = _errors(ridge, [{"noise": 0.0, **p} for p in plane]).reshape(shape)
    curves.append(Curve(alphas, np.nanmin(errors, axis=1), "ridge regression on the inputs", 2))
    best = _curve(ridge, "alpha", np.array([1e9]), {"reg": 1e-3, "noise": 0.0})
    curves.append(Curve(alphas, np.full(len(alphas), best[0]), "best linear predictor", 3, dashed=True))
    title = r"tanh network, tanh target, $\beta$ = 2, $\alpha_0$ = 8"
    panel = Panel(r"samples per dimension $\alpha = n/d$", TEST, curves, title, xlog=True, ylog=True)
    return Drawing([panel], rf"What one giant step is worth ({DOTS})")


def hyper_parameters() -> Drawing:
    """Test error against size of the step, width and penalty, by samples, with networks."""
    model = SpikedRandomFeatures(bulk="exact")
    problem = model.compile()
    fixed = {"beta": 1.0, "reg": 0.03, "noise": 0.1, "alpha0": 2.0, "eta": 2.0}
    panels = []
    for name, values, dots, label in (
        # Without eta = 0, where the error jumps: the spike of any step, however small, is of order sqrt(p).
        ("eta", 8 * np.linspace(0, 1, 80)[1:] ** 3, (0.5, 2.0, 4.0, 7.0), r"size of the step $\tilde\eta$"),
        ("beta", np.geomspace(0.1, 10, 60), (0.2, 0.7, 2.0, 6.0), r"width per dimension $\beta = p/d$"),
        ("reg", np.geomspace(1e-4, 10, 60), (1e-3, 0.03, 0.3, 3.0), r"penalty $\lambda$"),
    ):
        curves = []
        for colour, alpha in enumerate((0.5, 1.0, 3.0)):
            given = {**fixed, "alpha": alpha}
            curves.append(Curve(values, _curve(problem, name, values, given), rf"$\alpha$ = {alpha:g}", colour))
            curves.append(_networks(model, name, dots, given, colour))
        panels.append(Panel(label, TEST, curves, xlog=name != "eta", ylog=name == "reg"))
    fixed_at = r"$\tilde\eta$ = 2, $\beta$ = 1, $\lambda$ = 0.03, $\alpha_0$ = 2, $\Delta$ = 0.1 where not varied"
    return Drawing(panels, f"tanh network, sine target, {fixed_at} ({DOTS})")


def feature_spectrum() -> Drawing:
    """Spectrum of the feature covariance after steps of two sizes and without, with eigenvalues of a network."""
    model, rng, d = SpikedRandomFeatures(activation="relu"), np.random.default_rng(SEED), 800
    fixed: dict[str, Any] = {"alpha": 3.0, "beta": 1.0, "alpha0": 4.0}
    sigma, labels = model.choices["activation"], Labels(model.choices["target"], False, 0.0)
    panels = []
    for eta in (0.0, 2.0, 6.0):
        found = spectrum(model, eta=eta, points=300, **fixed)
        _, rows = trained_rows(sigma.numeric(), sigma.numeric_derivative(), labels, 1.0, fixed["alpha0"], eta, d, rng)
        features = sigma.numeric()(rng.standard_normal((3 * d, d)) @ rows.T)
        values = np.linalg.svd(features, compute_uv=False) ** 2 / d
        edges = np.linspace(0, found.edges[-1][1], 31)
        heights, _ = np.histogram(values, edges)
        middles, width = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
        curves = [
            Curve(found.x, found.density, "theory", 0),
            Curve(middles, heights / (d * width), f"network, d = {d}", 1, dots=True, sem=np.sqrt(heights) / (d * width)),
        ]
        panels.append(Panel("eigenvalue", "density", curves, rf"$\tilde\eta$ = {eta:g}"))
    return Drawing(panels, r"Eigenvalues of $\Phi^T\Phi/p$: ReLU network, sine target, $\alpha$ = 3, $\beta$ = 1, $\alpha_0$ = 4")


FIGURES = {
    "srf-learning": learning_curves,
    "srf-features": trained_features,
    "srf-parameters": hyper_parameters,
    "srf-spectrum": feature_spectrum,
}
