"""Bulk spectrum and outliers of the sample covariance of spiked random features.

The resolvent ``(1/p) tr (Phi^T Phi/p - z)^(-1)``, Phi the n x p matrix of features, is the response V2 of ridge regression
continued to ``reg = -z``: the first block of the derived equations, with a complex solution.  It is solved by Newton's method
on the way down from large imaginary part, where the solution is known; the density is ``Im V2/pi`` on the real axis.
Outliers are where the block of the spike's overlap, derived as well, becomes singular.

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
import sympy as sp
from numpy.typing import NDArray
from scipy.optimize import brentq

from solvers import ParameterError
from solvers.kernels import load
from solvers.problem import KernelSource
from solvers.quadrature import grid_capacity, rule, table_size

from .compile import Compiler
from .free_entropy import SaddlePoint
from .model import Parameter
from .models import SpikedRandomFeatures
from .relaxation import finite_part, penalty
from .structure import SymbolicBlock, analyse, slope_symbol
from .walk import pieces, replaced, symbols_in

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
    mean_outliers : list of float
        Eigenvalues of the mean features (one per group of neurons), per neuron: they are p times this, to leading order.
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
    mean_outliers: list[float]
    spike_outliers: list[float]
    parameters: Mapping[str, float]


def _with(model: SpikedRandomFeatures, **changes: Any) -> dict[str, Any]:
    """Options of a model, but for the square loss without cost of the mean."""
    kept = {name: choice for name, choice in model.choices.items() if name in model.options}
    return {**kept, "loss": "square", "mean_mode": "limit", **changes}


class _Continued(Compiler):
    """Blocks of the ridge equations as functions of a complex penalty."""

    def __init__(self, model: SpikedRandomFeatures) -> None:
        super().__init__(model)
        # Labels enter through the step, that is, the table; the responses of the square loss do not know them.
        real = type(model)(**_with(model, labels="real"))
        saddle = real.free_entropy().saddle_point
        self.saddle = SaddlePoint(
            *({name: self._plain(e) for name, e in side.items()} for side in (saddle.hats, saddle.overlaps, saddle.stationarity))
        )
        self.blocks = analyse(self.saddle, self.unknowns)
        self.bulk = self.blocks[0]
        self.spike = next(b for b in self.blocks if any(str(x).startswith("theta") for x in b.unknowns))

    def _plain(self, e: Any) -> Any:
        """Without reg = 0 as a case of its own."""
        rule = {c: c.args[0] for c in pieces(e, penalty)} | {c: sp.S.One for c in pieces(e, finite_part)}
        return replaced(e, rule)

    def source(self) -> KernelSource:
        """``continued(which, x, z, p, table, residual, jacobian)`` for the bulk (0) and the spike (1), many points at once."""
        w = self._writer("continued", ["_which", "_xs", "_zs", "_p", "_table", "_rs", "_js"])
        size = len(self.bulk.unknowns)
        w.write("for _k in range(_zs.size):")
        w.level += 1
        w.write("reg = -_zs[_k]")
        for i, x in enumerate(self.bulk.unknowns):
            w.write(f"{x} = _xs[_k * {size} + {i}]")
        for which, block in enumerate((self.bulk, self.spike)):
            w.write(f"if _which == {which}:")
            w.level += 1
            self._write(w, block, residual=which == 0)
            w.level -= 1
        given = [name for name in self.model.active(Parameter) if name != "reg"]
        names = [name if name in given else "_" for name in self.model.active(Parameter)]
        text = self._finish(w, [("_p", names)]).replace("math.sqrt(", "np.sqrt(")  # of complex numbers
        tabulate, _ = self._tabulate(True)
        return KernelSource(f"{tabulate}\n\n{text}", ("tabulate", "continued"))

    def _write(self, w: Any, block: SymbolicBlock, residual: bool) -> None:
        n = len(block.unknowns)
        entries = {sp.Symbol(f"_j{i}_{j}"): block.jacobian(i, j) for i in range(n) for j in range(n)}
        if residual:
            entries |= {sp.Symbol(f"_r{i}"): e for i, e in enumerate(block.residual)}
        targets = {slope_symbol(h, x): e for (h, x), e in block.hat_slopes.items()} | entries
        wanted = set().union(*[symbols_in(e) for e in targets.values()])
        for h in reversed(block.hats):  # those of the residual alone contain unknowns of their own
            if h in wanted:
                targets[h] = self.saddle.hats[h]
                wanted |= symbols_in(targets[h])
        self._evaluate(w, {name: self._lower(e) for name, e in targets.items()})
        for i in range(n if residual else 0):
            w.write(f"_rs[_k * {n} + {i}] = _r{i}")
        for i in range(n):
            for j in range(n):
                w.write(f"_js[(_k * {n} + {i}) * {n} + {j}] = _j{i}_{j}")


class _Resolvent:
    """The bulk's equations at one parameter set."""

    def __init__(self, model: SpikedRandomFeatures, parameters: Mapping[str, float], nodes: int) -> None:
        compiler = _Continued(type(model)(**_with(model)))
        problem = compiler.problem()
        point = problem.point({**parameters, "reg": 1.0})
        self.parameters = dict(zip([q.name for q in problem.parameters], point.tolist(), strict=True))
        self._entries, self._point = load(compiler.source()), point
        shape, capacity = problem.table, grid_capacity(nodes, problem.table.features, problem.table.panels)
        self._table = np.zeros(table_size(shape, nodes))
        self._entries["tabulate"](point, rule(nodes), self._table)
        count = int(self._table[0])
        scalars = dict(zip(compiler.table.scalars, self._table[1 : 1 + shape.scalars], strict=True))
        blocks = self._table[1 + shape.scalars : 1 + shape.scalars + (2 + shape.columns) * capacity]
        columns = dict(zip(["kappa", "weight", *compiler.table.columns], blocks.reshape(-1, capacity)[:, :count], strict=True))
        groups = model.choices["groups"]

        def grouped(values: Mapping[str, Any], name: str) -> Any:
            return np.array([values[name if groups == 1 else f"{name}_{k}"] for k in range(groups)])

        self.weight, self.mu0 = columns["weight"], grouped(columns, "mu0")
        self.mu1, self.mu2sq, self.c = grouped(columns, "mu1"), grouped(columns, "mu2sq"), grouped(scalars, "c")
        self.mu1sq = self.mu1**2
        shares = np.array([self.parameters.get(f"share_{k}", 1.0) for k in range(groups)])
        self.share = shares / shares.sum()
        self.delta = self.parameters["alpha"] / self.parameters["beta"]
        self.names, self._spike = [str(x) for x in compiler.bulk.unknowns], [str(x) for x in compiler.spike.unknowns]
        self.scale = self.delta * float(self.share @ ((self.c[:, None] * self.mu1sq + self.mu2sq) @ self.weight))

    def _pieces(self, which: int, z: Complex, v: Complex) -> tuple[Any, Any]:
        """Residual, shape (n, points), and Jacobian, shape (points, n, n), of the bulk (0) or spike (1) block."""
        n = len(self.names if which == 0 else self._spike)
        r, j = np.zeros(n * z.size, dtype=complex), np.zeros(n * n * z.size, dtype=complex)
        x = np.ascontiguousarray(v.T).ravel()
        self._entries["continued"](which, x, np.ascontiguousarray(z, dtype=complex), self._point, self._table, r, j)
        return r.reshape(-1, n).T, j.reshape(-1, n, n)

    def start(self, z: Complex) -> Complex:
        """The solution far from the spectrum."""
        out = []
        for name in self.names:
            kind, *groups = name.split("_")
            k, other = (int(groups[0]), int(groups[-1])) if groups else (0, 0)
            if kind == "G2":
                out.append(np.full(z.shape, float(k == other), dtype=complex))
            elif kind in ("G1", "G12"):  # the pull of the data, on rows that do not yet screen it
                mutual = (self.mu1[k] * self.mu1[other]) @ self.weight
                root = np.sqrt(self.share[k] * self.share[other])
                out.append(-self.parameters["beta"] * self.delta * root * mutual / z)
            else:
                size = self.share[k] * (self.c[k] if kind == "V1" else 1.0) if k == other else 0.0
                out.append(-size / z)
        return np.array(out)

    def newton(self, z: Complex, v: Complex, steps: int) -> Complex:
        for _ in range(steps):
            r, j = self._pieces(0, z, v)
            step = np.linalg.solve(j, r.T[:, :, None])[:, :, 0].T
            v = v - step
            if np.all(np.abs(step) <= 1e-14 * np.abs(v)):
                break
        return v

    def on_axis(self, x: Array, above: float = ABOVE) -> tuple[Complex, Array]:
        """The solution just above the real axis, and its relative residuals; from far above, in steps of 0.4 the distance."""
        height = np.full(x.shape, 10 * (self.scale + 1))
        v = self.start(x + 1j * height)
        while np.any(height > above * x):
            height = np.maximum(0.4 * height, above * x)
            z = x + 1j * height
            v = self.newton(z, v, 2)
        v = self.newton(z, v, 40)
        r, _ = self._pieces(0, z, v)
        return v, np.abs(r / v).max(axis=0)

    def density(self, v: Complex) -> Array:
        return sum(v[i].imag for i, name in enumerate(self.names) if name.startswith("V2")) / np.pi

    def spike(self, x: float) -> float:
        """What vanishes at an outlier of the spike direction, x beyond the bulk: the block's determinant, means eliminated.

        Means that the features do not determine (collinear ones, or none) drop out with a pseudo-inverse.
        """
        v, _ = self.on_axis(np.array([x]))
        _, jacobian = self._pieces(1, np.array([x], dtype=complex), v.real.astype(complex))
        j = jacobian[0].real
        mean = [i for i, name in enumerate(self._spike) if name.startswith("m")]
        rest = [i for i in range(len(j)) if i not in mean]
        through = j[np.ix_(rest, mean)] @ np.linalg.pinv(j[np.ix_(mean, mean)], rcond=1e-12) @ j[np.ix_(mean, rest)]
        return float(np.linalg.det(j[np.ix_(rest, rest)] - through))


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
        density = r.density(v)
        xs.append(x)
        densities.append(density)
        mass += float(density @ measure)
        mean += float((density * x) @ measure)
        worst = max(worst, float(residual.max()))
    if not worst < 1e-6:
        raise ParameterError(f"spectrum: the resolvent was not found to better than {worst:.1e}; raise nodes")
    return Spectrum(
        np.concatenate(xs), np.concatenate(densities), max(0.0, 1 - r.delta), edges, mass, mean, worst,
        _mean_outliers(r), _spike_outliers(r, edges[-1][1]), r.parameters,
    )  # fmt: skip


def _dense(r: _Resolvent, x: Array) -> NDArray[np.bool_]:
    """Where there is a density: its imaginary part is far larger than the distance from the axis explains."""
    v, _ = r.on_axis(x)
    return np.asarray(r.density(v) * np.pi * x > 1e-7)


def _support(r: _Resolvent) -> list[tuple[float, float]]:
    grid = np.geomspace(1e-6 * r.scale, 1e3 * r.scale, 700)
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


def _mean_outliers(r: _Resolvent) -> list[float]:
    root = np.sqrt(r.share)
    return [float(x) for x in np.linalg.eigvalsh(r.delta * root[:, None] * ((r.mu0 * r.weight) @ r.mu0.T) * root)[::-1]]


def _spike_outliers(r: _Resolvent, edge: float) -> list[float]:
    grid = edge * np.geomspace(1 + 1e-6, 1e4, 80)
    values = np.array([r.spike(x) for x in grid])
    crossing = np.flatnonzero(values[1:] * values[:-1] < 0)
    return [float(brentq(r.spike, grid[k], grid[k + 1], rtol=1e-12)) for k in crossing]


def draw(found: Spectrum, output: str | Path) -> Path:
    """Draw the density; the format follows from the suffix.  PlotError for one that is not known."""
    from .panels import Curve, Drawing, Panel, draw_panels

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
    return draw_panels(Drawing([panel], "Spiked random features"), output)
