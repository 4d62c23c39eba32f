"""Figures that ship with the package: one function each, from models to an image.

Every curve is theory, from a compiled solver or exact; dots are simulations of the real network.  `FIGURES` is what
``replica figure`` offers; `draw` writes an image and the numbers behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from solvers import Grid, solve_trajectory
from solvers.solve import default_method, solve_points

from .figures_giant_steps import FIGURES as GIANT_STEPS
from .figures_srf import FIGURES as FIGURES_SRF
from .gradient_figures import FIGURES as GRADIENT_FIGURES
from .models import DeepMode, LinearStudent, LineNetwork, WeightedLineNetwork
from .models.linear_simulations import line_descent, ridge_flow_student, square_slope
from .models.schemes import SCHEMES, sample_weights
from .panels import Curve, Drawing, Panel, draw_panels
from .phases import NAMES, PHASES, Exponents, phase_map
from .plateaux import plateaux
from .plotting import checked_output
from .results import check_table, save_table
from .staircase import staircase


class FigureError(ValueError):
    """An unknown figure; one line with the known names."""


def line_widths() -> Drawing:
    """Loss and kernel of line networks in time, theory against gradient descent, at three widths and two schemes."""
    panels = []
    step = 2e-3
    times = np.linspace(0, 3, 61)
    for quantity, label in (("loss", r"loss $\ell$"), ("ntk", r"kernel $\Theta/\Theta_0$")):
        curves = []
        for scheme, dashed in (("xavier", False), ("ntk", True)):
            for colour, width in enumerate((10, 100, 1000)):
                u, w, gamma = sample_weights(scheme, width, 3)
                theory = solve_trajectory(WeightedLineNetwork(u, w), times, gamma=gamma, c_loss=0.5)
                dots = np.arange(0, 61, 10)
                raw = line_descent(u, w, np.round(times[dots] / step), square_slope(1.0, 1.0, 0.5),
                                   step=step, gamma=gamma, eta_u=1.0, eta_w=1.0)  # fmt: skip
                raw["loss"] = 0.5 * (raw["output"] - 1.0) ** 2
                scale = theory["ntk"][0] if quantity == "ntk" else 1.0
                curves.append(Curve(times, theory[quantity] / scale, f"{scheme}, d = {width}", colour, dashed=dashed))
                curves.append(Curve(times[dots], raw[quantity] / scale, "", colour, dots=True))
        panels.append(Panel("time $t$", label, curves, ylog=quantity == "loss"))
    return Drawing(panels, f"Line network: closed form (lines), gradient descent with step {step:g} (dots)")


def mechanisms() -> Drawing:
    """Alignment, disalignment and rescaling: angle and norms in time for three starts."""
    cases: dict[str, dict[str, Any]] = {
        "small start: aligns, then grows": {"norm_u0": 0.02, "norm_w0": 0.02, "cos_angle0": 0.1},
        "zero target: disaligns": {"B": 0.0, "cos_angle0": 0.95},
        "wrong sign: turns through a right angle": {"norm_u0": 1.0, "norm_w0": 0.7, "cos_angle0": -0.8},
        "wide: kernel": {"norm_u0": 6.0, "norm_w0": 6.0, "cos_angle0": 0.0},
    }
    times = np.linspace(0, 6, 400)
    solved = {name: solve_trajectory(LineNetwork(), times, c_loss=0.5, **p) for name, p in cases.items()}
    shown: dict[str, Callable[[Any], Any]] = {
        r"$\cos\theta$": lambda t: t["cos_angle"],
        r"$|u||w|$ over its start": lambda t: t["norm_u"] * t["norm_w"] / (t["norm_u"] * t["norm_w"])[0],
        r"kernel $\Theta/\Theta_0$": lambda t: t["ntk"] / t["ntk"][0],
    }
    panels = []
    for k, (ylabel, values) in enumerate(shown.items()):
        curves = [Curve(times, values(t), name if k == len(shown) - 1 else "", i) for i, (name, t) in enumerate(solved.items())]
        panels.append(Panel("time $t$", ylabel, curves, ylog=k > 0))
    return Drawing(panels, "Mechanisms of feature learning in a line network")


def phases() -> Drawing:
    """Phase diagram in the exponents of the two variances, and in those of the two learning rates."""
    panels = []
    for x, y, xlabel, ylabel, base, title in (
        ("c_u", "c_w", "$c_u$: outer variance $d^{c_u}$", "$c_w$: inner variance $d^{c_w}$",
         Exponents(0, -1, -1), r"$\gamma = \eta = 1$"),
        ("c_gamma", "c_eta_u", r"$c_\gamma$: multiplier $d^{c_\gamma}$", r"$c_{\eta_u}$: outer rate $d^{c_{\eta_u}}$",
         Exponents(0, 0, 0), "unit variances, inner rate 1"),
    ):  # fmt: skip
        xs, ys = np.linspace(-2, 1, 301), np.linspace(-2, 1, 301)
        named = [(name, Exponents.of_scheme(name)) for name in SCHEMES]
        dots = [
            Curve(np.array([getattr(e, x)]), np.array([getattr(e, y)]), name, colour, dots=True)
            for colour, (name, e) in enumerate(named)
            if all(getattr(e, other) == getattr(base, other) for other in NAMES if other not in (x, y))
        ]
        panels.append(Panel(xlabel, ylabel, dots, title, regions=(xs, ys, phase_map(x, y, xs, ys, base), PHASES)))
    return Drawing(panels, "Phases of a wide line network")


def deep_modes() -> Drawing:
    """Stages of learning: strength of modes in time, by correlation at depth 2 and by depth."""
    times = np.linspace(0, 25, 500)
    stages = [
        Curve(times, solve_trajectory(DeepMode(), times, s=s, u0=1e-3)["strength"], f"s = {s:g}", i)
        for i, s in enumerate((2.0, 1.0, 0.5, 0.25))
    ]
    long = np.linspace(0, 10, 500)
    depths = [
        Curve(long, solve_trajectory(DeepMode(), long, depth=n, u0=0.02)["strength"], f"N = {n}", i)
        for i, n in enumerate((1, 2, 3, 4, 6))
    ]
    return Drawing(
        [
            Panel("time $t$", "strength $u$", stages, "two layers, $u_0 = 10^{-3}$"),
            Panel("time $t$", "strength $u$", depths, "by depth, $s = 1$, $u_0 = 0.02$"),
        ],
        "Modes of deep linear networks",
    )


def linear_student() -> Drawing:
    """Test and training error in time and against alpha: early stopping and double descent, with simulations."""
    rng = np.random.default_rng(0)
    problem = LinearStudent().compile()
    times = np.logspace(-1, 4, 120)
    p: dict[str, Any] = {"noise": 0.3, "signal": 1.0}
    in_time = []
    for i, alpha in enumerate((0.5, 1.0, 2.0)):
        t = solve_trajectory(problem, times, alpha=alpha, **p)
        in_time.append(Curve(times, t["test_error"], rf"test, $\alpha$ = {alpha:g}", i))
        in_time.append(Curve(times, t["train_error"], "", i, dashed=True))
        dots = np.array([0.3, 1.0, 3.0, 10.0, 30.0])
        setting: dict[str, Any] = {"alpha": alpha, "reg": 0.0, "q0": 0.0, "m0": 0.0, "times": dots, **p}
        runs = [ridge_flow_student(300, rng, **setting)["test_error"] for _ in range(8)]
        in_time.append(Curve(dots, np.mean(runs, axis=0), "", i, dots=True, sem=np.std(runs, axis=0) / np.sqrt(7)))
    alphas = np.linspace(0.1, 4, 118)
    grid = Grid(alpha=alphas, time=np.concatenate([times, [np.inf]]))
    points = grid.points(problem, p).vectors((slice(None), slice(None)), (0, 1))
    batch = solve_points(problem, points, default_method(problem))
    # Trained to the end at alpha = 1 the error is infinite; the quadrature says so, and the point is left out.
    errors = np.where(batch.result == 0, problem.values.unpack(batch.values)["test_error"], np.nan).reshape(grid.shape)
    against = [
        Curve(alphas, errors[:, -1], "trained to the end", 1),
        Curve(alphas, np.nanmin(errors, axis=1), "stopped at the best time", 2),
        *(Curve(alphas, errors[:, np.argmin(abs(times - t))], f"t = {t:g}", 3 + i) for i, t in enumerate((1.0, 10.0))),
    ]
    return Drawing(
        [
            Panel("time $t$", "error", in_time, "test (dots: d = 300), train dashed", xlog=True, ylog=True, ylim=(1e-2, 40.0)),
            Panel(r"samples per dimension $\alpha$", "test error", against, "double descent and early stopping", ylog=True),
        ],
        r"Linear student, no penalty, noise $\Delta$ = 0.3",
    )


def plateaux_stairway() -> Drawing:
    """Plateaux of the error while giant steps learn one direction after the other, by degree of the readout."""
    first, second = "z1 + z1*z2 + z1*z2*z3", "z1 + z1*z2 + z3*z4 + z1*z4*z5"
    panels = []
    for text, activation, note in ((first, None, ""), (first, "relu", ", ReLU without biases"), (second, None, "")):
        found = staircase(text, activation)
        errors = plateaux(found, [0, 1, 2])
        edges = np.repeat(np.arange(len(errors.dims) + 1), 2)[1:-1]
        curves = [
            Curve(edges, np.repeat(errors.values[:, kappa], 2), rf"$\kappa$ = {kappa}", kappa + 1, dashed=kappa == 1)
            for kappa in (0, 1, 2)
        ]
        title = f"{text.replace('*', ' ')}{note}\nleaps {', '.join(map(str, found.leaps))}"
        panels.append(Panel("stages learned", r"plateau $R_\kappa$", curves, title, ylim=(-0.1, 4.1), whole=True))
    return Drawing(panels, r"Stairway of plateaux: readout with $n, p$ between $d^\kappa$ and $d^{\kappa+1}$")


def phase_diagram(x: str, y: str, exponents: Exponents, output: str | Path) -> Path:
    """Phases over any two exponents between -2 and 2, the others as given."""
    xs = ys = np.linspace(-2, 2, 401)
    codes = phase_map(x, y, xs, ys, exponents)
    rest = ", ".join(f"{name} = {getattr(exponents, name):g}" for name in NAMES if name not in (x, y))
    return draw_panels(Drawing([Panel(x, y, title=rest, regions=(xs, ys, codes, PHASES))]), output)


FIGURES: dict[str, Callable[[], Drawing]] = {
    **FIGURES_SRF,
    "line-widths": line_widths,
    "mechanisms": mechanisms,
    "phases": phases,
    "deep-modes": deep_modes,
    "linear-student": linear_student,
    **GIANT_STEPS,
    "staircase": plateaux_stairway,
    **GRADIENT_FIGURES,
}


def draw(name: str, output: str | Path) -> tuple[Path, Path]:
    """Draw a figure by name, and write its numbers beside it.

    Returns
    -------
    image, table : Path
        The table, an HDF5 file of the same name, has a row for every point of every curve.

    Raises
    ------
    FigureError
        For an unknown name.
    PlotError, StoreError
        If a file cannot be written, or a file that is no such table would be replaced; the first is found out at once.
    """
    if name not in FIGURES:
        raise FigureError(f"unknown figure {name!r}; the figures are {', '.join(FIGURES)}")
    table = checked_output(output).with_suffix(".h5")
    check_table(table)
    drawing = FIGURES[name]()
    return draw_panels(drawing, output), save_table(table, drawing.table(), drawing.title, name)
