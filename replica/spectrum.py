"""Bulk spectrum and outliers of the sample covariance of spiked random features.

The resolvent ``(1/p) tr (Phi^T Phi/p - z)^(-1)``, Phi the n x p matrix of features, is the response V2 of ridge regression
continued to ``reg = -z``: the same two equations, with a complex solution.  They are solved by Newton's method on the way
down from large imaginary part, where the solution is known; the density is ``Im V2/pi`` on the real axis.

References
----------
.. [1] docs/theory/srf.md; docs/spectrum.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from solvers import ParameterError
from solvers.kernels import entry_points
from solvers.quadrature import grid_capacity, rule, table_size

from .compile import Compiler
from .models import SpikedRandomFeatures

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]
#: Largest residual of a resolvent, relative to its terms.
RESIDUAL = 1e-10
#: Distance from the real axis, relative to x, at which the support is looked for.
ABOVE = 1e-11


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of Phi^T Phi/p for n, p, d to infinity.

    Attributes
    ----------
    x, density : ndarray, shape (points,)
        Eigenvalues inside the bulk, increasing, and their density; it integrates to ``1 - atom``.
    atom : float
        Weight of the eigenvalue zero, ``max(0, 1 - n/p)``.
    edges : list of (float, float)
        Intervals of the support.
    mass : float
        Atom plus integral of the density: 1 up to the error of the integral.
    mean : float
        First moment of the density.
    residual : float
        Largest relative residual of the resolvent equations.
    mean_outlier : float
        The eigenvalue of the mean feature, per neuron: it is p times this, to leading order.
    spike_outliers : list of float
        Eigenvalues of the spike direction beyond the bulk; mostly there are none.
    parameters : dict
    """

    x: Array
    density: Array
    atom: float
    edges: list[tuple[float, float]]
    mass: float
    mean: float
    residual: float
    mean_outlier: float
    spike_outliers: list[float]
    parameters: Mapping[str, float]


class _Resolvent:
    """The two equations at one parameter set."""

    def __init__(self, model: SpikedRandomFeatures, parameters: Mapping[str, float], nodes: int) -> None:
        compiler = Compiler(model)
        problem = compiler.problem()
        point = problem.point({**parameters, "reg": 1.0})
        self.parameters = dict(zip([q.name for q in problem.parameters], point.tolist(), strict=True))
        shape, capacity = problem.table, grid_capacity(nodes, problem.table.features, problem.table.panels)
        table = np.zeros(table_size(shape, nodes))
        entry_points(problem)["tabulate"](point, rule(nodes), table)
        count = int(table[0])
        scalars = dict(zip(compiler.table.scalars, table[1 : 1 + shape.scalars], strict=True))
        blocks = table[1 + shape.scalars : 1 + shape.scalars + (2 + shape.columns) * capacity].reshape(-1, capacity)[:, :count]
        columns = dict(zip(["kappa", "weight", *compiler.table.columns], blocks, strict=True))
        self.kappa, self.weight, self.mu0 = columns["kappa"], columns["weight"], columns["mu0"]
        self.mu1sq, self.mu2sq, self.chi = columns["mu1"] ** 2, columns["mu2sq"], columns["chi"]
        self.c, self.c_spike = float(scalars["c"]), float(scalars["c_spike"])
        self.alpha, self.beta = self.parameters["alpha"], self.parameters["beta"]
        self.delta = self.alpha / self.beta

    def _pieces(self, z: Complex, v: Complex) -> tuple[Any, Any]:
        """Residual, and Jacobian, at V = (V1, V2); shapes (2, points) and (2, 2, points)."""
        w = 1 / (1 + np.multiply.outer(v[0], self.mu1sq) + np.multiply.outer(v[1], self.mu2sq))
        a1, a2 = (self.delta * (w @ (self.weight * m)) for m in (self.mu1sq, self.mu2sq))
        w2 = w * w
        squares = (self.mu1sq, self.mu2sq)
        slopes = [[-self.delta * (w2 @ (self.weight * m * k)) for k in squares] for m in squares]
        c, beta = self.c, self.beta
        below = 1 + beta * c * a1 * v[1]
        level = a2 - z + c * a1 / below
        r = np.array([v[0] - c * v[1] / below, v[1] - 1 / level])
        j = np.zeros((2, 2, *z.shape), dtype=complex)
        for k in range(2):
            moved = beta * c * (slopes[0][k] * v[1] + (a1 if k == 1 else 0))
            lifted = slopes[1][k] + c * slopes[0][k] / below - c * a1 * moved / below**2
            j[0, k] = (1 if k == 0 else 0) - (c / below if k == 1 else 0) + c * v[1] * moved / below**2
            j[1, k] = (1 if k == 1 else 0) + lifted / level**2
        return r, j

    def newton(self, z: Complex, v: Complex, steps: int) -> Complex:
        for _ in range(steps):
            r, j = self._pieces(z, v)
            determinant = j[0, 0] * j[1, 1] - j[0, 1] * j[1, 0]
            step = np.array([j[1, 1] * r[0] - j[0, 1] * r[1], j[0, 0] * r[1] - j[1, 0] * r[0]]) / determinant
            v = v - step
            if np.all(np.abs(step) <= 1e-14 * np.abs(v)):
                break
        return v

    def on_axis(self, x: Array, above: float = ABOVE) -> tuple[Complex, Array]:
        """(V1, V2) just above the real axis, and their relative residuals; from far above, halving the distance."""
        top = 10 * (self.delta * float(self.weight @ (self.c * self.mu1sq + self.mu2sq)) + 1)
        height = np.full(x.shape, top)
        z = x + 1j * height
        v = np.array([-self.c / z, -1 / z])
        while np.any(height > above * x):
            height = np.maximum(0.4 * height, above * x)
            z = x + 1j * height
            v = self.newton(z, v, 4)
        v = self.newton(z, v, 40)
        r, _ = self._pieces(z, v)
        return v, np.abs(r / v).max(axis=0)

    def real(self, x: float) -> tuple[float, float]:
        """(V1, V2) at a real x beyond the bulk."""
        v, _ = self.on_axis(np.array([x]))
        return float(v[0, 0].real), float(v[1, 0].real)

    def spike(self, x: float) -> float:
        """What vanishes at an outlier of the spike direction."""
        v1, v2 = self.real(x)
        w = self.weight / (1 + v1 * self.mu1sq + v2 * self.mu2sq)
        mixed, mean = float(w @ (self.chi * self.mu0)), float(w @ self.mu0**2)
        inner = float(w @ self.chi**2) - (mixed**2 / mean if mean > 1e-12 else 0.0)
        return 1 + self.alpha * self.c_spike * v2 * inner


def spectrum(
    model: SpikedRandomFeatures | None = None, *, points: int = 400, nodes: int = 144, **parameters: float
) -> Spectrum:
    """The spectrum of the features of one spiked random feature model.

    Parameters
    ----------
    model : SpikedRandomFeatures, optional
        Activation, target and bulk; the default model if left out.
    points : int
        Points per interval of the support, at least 20.
    nodes : int
        Quadrature nodes over the spike direction.
    **parameters : float
        Those of the model; `reg` plays no part.

    Raises
    ------
    ParameterError
        For bad parameters, or no step of Newton's method that reaches the real axis.
    """
    if not isinstance(points, int) or points < 20:
        raise ParameterError(f"spectrum: points = {points!r} is not a whole number of at least 20")
    model = model or SpikedRandomFeatures()
    if model.choices["groups"] > 1:
        raise ParameterError(f"spectrum: groups = {model.choices['groups']}; it is known for one group of neurons")
    r = _Resolvent(model, parameters, nodes)
    edges = _support(r)
    if not edges:
        raise ParameterError("spectrum: no bulk was found; all features but their mean vanish at these parameters")
    xs, densities, mass, mean, worst = [], [], max(0.0, 1 - r.delta), 0.0, 0.0
    for low, high in edges:
        # Equidistant in an angle in which square-root edges are smooth, and so is a 1/sqrt(x) edge at 0.
        half = (np.arange(points) + 0.5) / points
        if low == 0.0:
            root, slope = np.sqrt(high) * np.sin(0.5 * np.pi * half), np.sqrt(high) * np.cos(0.5 * np.pi * half) * 0.5 * np.pi
            x, measure = root**2, 2 * root * slope / points
        else:
            x = 0.5 * (low + high) - 0.5 * (high - low) * np.cos(np.pi * half)
            measure = 0.5 * (high - low) * np.sin(np.pi * half) * np.pi / points
        v, residual = r.on_axis(x)
        density = v[1].imag / np.pi
        xs.append(x)
        densities.append(density)
        mass += float(density @ measure)
        mean += float((density * x) @ measure)
        worst = max(worst, float(residual.max()))
    if not worst < 1e-6:
        raise ParameterError(f"spectrum: the resolvent was not found to better than {worst:.1e}; raise nodes")
    return Spectrum(
        np.concatenate(xs), np.concatenate(densities), max(0.0, 1 - r.delta), edges, mass, mean, worst,
        r.delta * float(r.weight @ r.mu0**2), _spike_outliers(r, edges[-1][1]), r.parameters,
    )  # fmt: skip


def _dense(r: _Resolvent, x: Array) -> NDArray[np.bool_]:
    """Where there is a density: its imaginary part is far larger than the distance from the axis explains."""
    v, _ = r.on_axis(x)
    return np.asarray(v[1].imag * x > 1e-7)


def _support(r: _Resolvent) -> list[tuple[float, float]]:
    scale = r.delta * float(r.weight @ (r.c * r.mu1sq + r.mu2sq))
    grid = np.geomspace(1e-6 * scale, 1e3 * scale, 700)
    inside = _dense(r, grid)
    if inside[0]:  # a hard edge: the density reaches down to zero
        grid, inside = np.concatenate([[0.0], grid]), np.concatenate([[False], inside])
    changes = np.flatnonzero(inside[1:] != inside[:-1])
    low, high, before = grid[changes], grid[changes + 1], inside[changes]
    hard = low == 0.0
    for _ in range(36):
        middle = np.where(hard, high, 0.5 * (low + high))
        same = _dense(r, middle) == before
        low, high = np.where(same & ~hard, middle, low), np.where(same, high, middle)
    found = [float(x) for x in np.where(hard, 0.0, 0.5 * (low + high))]
    return list(zip(found[::2], found[1::2], strict=False))


def _spike_outliers(r: _Resolvent, edge: float) -> list[float]:
    grid = edge * np.geomspace(1 + 1e-6, 1e4, 80)
    values = np.array([r.spike(x) for x in grid])
    crossing = np.flatnonzero(values[1:] * values[:-1] < 0)
    return [float(brentq(r.spike, grid[k], grid[k + 1], rtol=1e-12)) for k in crossing]


def draw(found: Spectrum, output: str | Path) -> Path:
    """Draw the density; the format follows from the suffix.  PlotError for one that is not known."""
    from .plotting import Curve, Panel, plot_panels

    curves = []
    for low, high in found.edges:
        mine = (found.x >= low) & (found.x <= high)
        curves.append(Curve(found.x[mine], found.density[mine], "", 0))
    for k, x in enumerate(found.spike_outliers):
        curves.append(Curve(np.array([x, x]), np.array([0.0, 0.1 * found.density.max()]), f"outlier {x:.3g}", 1 + k))
    shown = np.quantile(found.density, 0.98) * 1.3  # a hard edge at zero would hide the rest
    atom = f", weight {found.atom:.3g} at 0" if found.atom else ""
    title = f"eigenvalues of $\\Phi^T\\Phi/p${atom}"
    panel = Panel("eigenvalue", "density", curves, title, ylim=(0.0, float(shown)))
    return plot_panels([panel], output, "Spiked random features")
