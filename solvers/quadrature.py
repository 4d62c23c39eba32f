"""Quadrature rules for averages over standard normals.

Integrands with kinks (ReLU, sign): composite Gauss-Legendre whose panel edges lie on the kinks, geometrically refined where
a kink is smeared over a small width.  Smooth integrands: Gauss-Hermite for the inner averages that make up the table, and
the trapezoidal rule for the grid over which the solver's averages run.  The grid's integrands are analytic in a strip that
narrows as responses grow; there the trapezoidal rule gains a digit per fixed number of nodes where Gauss-Hermite gains it
per square root (measured on spiked random features: 80 nodes for 1e-13 against 106, and at small reg 1e-10 against 1e-6).

`rule` packs everything a generated kernel needs, at one level of refinement, in one flat array.

Averages over the output of a loss depend on an outer field as sharply as the order parameters make them.  Their grid is
only a table, fine enough to interpolate in; `outer_rule` chooses nodes for the state at hand.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numba import njit
from scipy.special import roots_hermitenorm, roots_legendre

#: Panels and grid cover [-CUT, CUT]; the Gaussian weight beyond is 2e-21, and 1e-12 with an extra factor z^8.
CUT = 9.5
PANEL_WIDTH = 1.5
#: Doublings of a panel's width away from a smeared kink: from 1e-12 up to the ordinary width.
REFINEMENTS = 42
#: Half-width of what `uniform` and `outer_rule` resolve; the Gaussian weight beyond is 2e-17.
REACH = 8.5
#: Nodes per panel of a grid to interpolate in, more than the panels of the same level have.
FINER = 9
#: `outer_rule` halves panels over which a place moves by more than this many units, so often at most.
MOVED, HALVINGS = 2.0, 40
#: It uses equidistant nodes while they are at most so many times the order of the panels, and gives up at so many panels.
MOST_UNIFORM, MOST_PANELS = 16, 300
#: Gauss-Hermite weights below this are dropped: n nodes reach out to sqrt(4 n), where nothing is left to integrate.
NEGLIGIBLE = 1e-25
#: An average smaller than this fraction of the average of its absolute value is rounding noise (of the weights).
ROUNDING = 1e-13


def gauss_hermite(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights for E[f(z)], z ~ N(0, 1).

    Parameters
    ----------
    n : int
        Order; exact for polynomials of degree ``2 n - 1`` up to rounding.

    Returns
    -------
    nodes, weights : ndarray, shape (at most n,), float64, dimensionless
        Symmetric to the last bit; weights sum to 1 within 1e-14.  Nodes of weight below 1e-25 are left out.

    Raises
    ------
    ValueError
        If ``n < 1``.

    Notes
    -----
    Poles near the real axis (tanh) slow convergence: compare n with 2n.
    """
    if n < 1:
        raise ValueError(f"gauss_hermite needs n >= 1, got {n}")
    z = roots_hermitenorm(n)[0]
    z = ((z - z[::-1]) / 2).astype(np.longdouble)
    near = np.abs(z) < np.sqrt(-2 * np.log(NEGLIGIBLE)) + 2
    z = z[near]
    # Orthonormal polynomials p_{n-1}, p_n: one Newton step for the nodes, and Christoffel's 1/sum p_k^2 for the weights, since
    # those of SciPy lose digits in proportion to n (1e-14 at 600 nodes).
    for polish in (True, False):
        before, p, squares = np.zeros_like(z), np.ones_like(z), np.zeros_like(z)
        for k in range(n):
            squares += p * p
            before, p = p, (z * p - np.sqrt(np.longdouble(k)) * before) / np.sqrt(np.longdouble(k + 1))
        if polish:
            z = z - p / (np.sqrt(np.longdouble(n)) * before)
    w = 1 / squares
    w = (w / w.sum()).astype(float)
    keep = w > NEGLIGIBLE
    return z[keep].astype(float), w[keep]


def trapezoidal(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Equidistant nodes on [-CUT, CUT] and weights for E[f(z)], z ~ N(0, 1); doubling n halves the spacing.

    Parameters
    ----------
    n : int
        Number of intervals; an integrand analytic in a strip of half-width a leaves an error of about
        ``exp(-2 pi a n / 19)``.

    Raises
    ------
    ValueError
        If ``n < 1``.
    """
    if n < 1:
        raise ValueError(f"trapezoidal needs n >= 1, got {n}")
    z = np.linspace(-CUT, CUT, n + 1)
    z = (z - z[::-1]) / 2
    return z, np.exp(-z * z / 2) / np.sqrt(2 * np.pi) * (2 * CUT / n)


def gauss_legendre(m: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on [-1, 1], symmetric; weights sum to 2."""
    if m < 1:
        raise ValueError(f"gauss_legendre needs m >= 1, got {m}")
    x, w = roots_legendre(m)  # numpy's diagonalises a full matrix, which takes a second at the larger orders
    return (x - x[::-1]) / 2, (w + w[::-1]) / 2


@cache
def rule(nodes: int) -> np.ndarray:
    """All rules of one level, packed: ``[sizes, grid z, grid w, inner z, inner w, legendre x, legendre w, dense x, dense w]``.

    The grid is the outermost variable; inner averages are done once per parameter set and see poles that averaging
    removes from the grid, so they get four times the nodes.  `dense` is the panel of a grid to interpolate in.
    """
    order = max(2, nodes // 8)
    grid, inner, panel, dense = trapezoidal(nodes), gauss_hermite(4 * nodes), gauss_legendre(order), gauss_legendre(order + FINER)
    sizes = [float(len(part[0])) for part in (grid, inner, panel, dense)]
    packed = np.concatenate([sizes, *grid, *inner, *panel, *dense])
    packed.setflags(write=False)
    return packed


def grid_capacity(nodes: int, features: int, dense: bool = False) -> int:
    """Largest number of grid nodes a table needs at this level; `dense`: a grid to interpolate in."""
    packed = rule(nodes)
    if dense:
        return panel_capacity(features) * int(packed[3])
    return panel_capacity(features) * int(packed[2]) if features else int(packed[0])


def table_size(shape: Any, nodes: int) -> int:
    """Numbers in the table of a `TableShape` at this level: count, scalars, grid with its columns, panel rule."""
    capacity = grid_capacity(nodes, shape.features, shape.panels) if shape.grid else 0
    tail = 1 + 2 * int(rule(nodes)[2]) if shape.panels else 0
    return 1 + int(shape.scalars) + (2 + int(shape.columns)) * capacity + tail


def panel_capacity(features: int) -> int:
    """Largest number of panels `panels` makes."""
    return 2 * math.ceil(CUT / PANEL_WIDTH) + (2 * REFINEMENTS + 2) * features + 1


@njit(cache=True, error_model="numpy")
def panel_room(features):
    """`panel_capacity` for compiled callers."""
    return 2 * math.ceil(CUT / PANEL_WIDTH) + (2 * REFINEMENTS + 2) * features + 1


@njit(cache=True, error_model="numpy")
def panels(features, x, w, nodes, weights):
    """Composite Gauss-Legendre rule for E[f(z)] with panel edges on the features; returns the number of nodes.

    `features` holds centre and width of each feature in turn: width 0 is a kink, otherwise panels shrink geometrically
    to that width around the centre.  Features off the real line (not finite) or beyond the cut are ignored.
    `nodes` and `weights` are filled from the start.
    """
    count = features.size // 2
    edges, scales = np.empty(2 + (2 * REFINEMENTS + 1) * count), np.zeros(2 + (2 * REFINEMENTS + 1) * count)
    edges[0], edges[1] = -CUT, CUT
    n_edges = 2
    for k in range(count):
        centre, width = features[2 * k], features[2 * k + 1]
        if not abs(centre) < CUT:  # also true for nan
            continue
        edges[n_edges] = centre
        n_edges += 1
        if not 0.0 < width < PANEL_WIDTH:
            continue
        reach = max(width, 1e-12)
        while reach < PANEL_WIDTH:
            for side in (-reach, reach):
                if abs(centre + side) < CUT:
                    edges[n_edges], scales[n_edges] = centre + side, 0.5 * reach
                    n_edges += 1
            reach *= 2.0
    order = np.argsort(edges[:n_edges])
    ordered, kept = np.empty(n_edges), 0
    for k in range(n_edges):
        # Edges that only grade the panels may be left out next to another one; kinks and centres may not.
        i = order[k]
        if kept > 0 and edges[i] - ordered[kept - 1] < scales[i]:
            continue
        ordered[kept] = edges[i]
        kept += 1
    n_edges, total = kept, 0
    for k in range(n_edges - 1):
        left, length = ordered[k], ordered[k + 1] - ordered[k]
        if length < 1e-14:
            continue
        parts = math.ceil(length / PANEL_WIDTH)
        half = 0.5 * length / parts
        for j in range(parts):
            middle = left + (2 * j + 1) * half
            for i in range(x.size):
                z = middle + half * x[i]
                nodes[total] = z
                weights[total] = half * w[i] * math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
                total += 1
    return total


@njit(cache=True, error_model="numpy")
def spacing(sharpness, order):
    """Spacing of `uniform` at the level of panels of this order, for a product of smooth functions with the Gaussian weight.

    `sharpness` is the sum of inverse squares of their scales, 1 for the weight among them.  For Gaussian smears the rule is
    off by ``2 exp(-2 pi^2/(spacing^2 sharpness))``, 3e-12 at order 9.
    """
    return 0.85 * 9.0 / (order * math.sqrt(sharpness))


@njit(cache=True, error_model="numpy")
def uniform(h, nodes, weights):
    """Trapezoidal rule of spacing h for E[f(z)], up to `REACH`; returns the number of nodes."""
    half = int(REACH / h)
    for i in range(2 * half + 1):
        z = (i - half) * h
        nodes[i] = z
        weights[i] = h * math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    return 2 * half + 1


@njit(cache=True, error_model="numpy")
def outer_rule(places, grid, n, x, w):
    """A rule for averages that are as sharp as `places` are steep, interpolated from a dense grid.

    Parameters
    ----------
    places : array, shape (n, number of places)
        At every node of the grid, how far the integrand is from where it changes, in units of what smears the change.
    grid : array, shape (2 + number of columns, at least n)
        Nodes, weights and tabulated functions, on panels of ``x.size + FINER`` nodes each.
    x, w : arrays
        Gauss-Legendre rule of a panel.

    Returns
    -------
    rows : array, shape (2 + number of columns, number of nodes)
    """
    m = x.size + FINER
    edges, links, factors = panel_edges(grid, n, m), links_of(grid, m), np.empty(m)
    steepest = 0.0
    for i in range(n - 1):
        for k in range(places.shape[1]):
            moved = _within(places[i + 1, k]) - _within(places[i, k])
            steepest = max(steepest, abs(moved) / (grid[0, i + 1] - grid[0, i]))
    h = spacing(1.0 + 2.0 * steepest * steepest, x.size)
    if 2.0 * REACH <= MOST_UNIFORM * x.size * h:
        out, panel = np.empty((grid.shape[0], 2 * int(REACH / h) + 1)), 0
        uniform(h, out[0], out[1])
        for i in range(out.shape[1]):
            while panel < n // m - 1 and out[0, i] > edges[panel, 1]:
                panel += 1
            _link(grid, panel * m, links, out[0, i], factors)
            _interpolate(grid, panel * m, factors, out, i)
        return out
    intervals, count = halved(places, grid, edges, links)
    out, total = np.empty((grid.shape[0], count * x.size)), 0
    for j in range(count):
        middle, half = 0.5 * (intervals[j, 0] + intervals[j, 1]), 0.5 * (intervals[j, 1] - intervals[j, 0])
        for i in range(x.size):
            z = middle + half * x[i]
            out[0, total], out[1, total] = z, half * w[i] * math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
            _link(grid, int(intervals[j, 2]) * m, links, z, factors)
            _interpolate(grid, int(intervals[j, 2]) * m, factors, out, total)
            total += 1
    return out


@njit(cache=True, error_model="numpy")
def _within(place):
    return min(max(place, -REACH), REACH)


@njit(cache=True, error_model="numpy")
def panel_edges(grid, n, m):
    """Both ends of every panel of m nodes, from its weights."""
    edges = np.empty((n // m, 2))
    for j in range(n // m):
        middle, half = 0.5 * (grid[0, j * m] + grid[0, (j + 1) * m - 1]), 0.0
        for i in range(j * m, (j + 1) * m):
            half += 0.5 * grid[1, i] * math.sqrt(2.0 * math.pi) * math.exp(0.5 * grid[0, i] * grid[0, i])
        edges[j, 0], edges[j, 1] = middle - half, middle + half
    return edges


@njit(cache=True, error_model="numpy")
def links_of(grid, m):
    """Barycentric weights of the nodes of a panel, up to a factor: products of distances, in units of a quarter of its width."""
    links = np.ones(m)
    unit = 0.25 * (grid[0, m - 1] - grid[0, 0])
    for i in range(m):
        for j in range(m):
            if j != i:
                links[i] *= unit / (grid[0, i] - grid[0, j])
    return links


@njit(cache=True, error_model="numpy")
def _link(grid, first, links, z, factors):
    """Weights of interpolation at z between the nodes of a panel."""
    total = 0.0
    for i in range(links.size):
        away = z - grid[0, first + i]
        if away == 0.0:
            factors[:] = 0.0
            factors[i] = 1.0
            return
        factors[i] = links[i] / away
        total += factors[i]
    for i in range(links.size):
        factors[i] /= total


@njit(cache=True, error_model="numpy")
def _interpolate(grid, first, factors, out, at):
    for c in range(2, grid.shape[0]):
        value = 0.0
        for i in range(factors.size):
            value += factors[i] * grid[c, first + i]
        out[c, at] = value


@njit(cache=True, error_model="numpy")
def halved(places, grid, edges, links):
    """Panels, halved until no place moves by more than `MOVED` within `REACH`; rows of left, right, panel, and their number."""
    m = links.size
    intervals, count, factors = np.empty((64, 3)), 0, np.empty(m)
    stack = np.empty((HALVINGS + 2, 3))
    for panel in range(edges.shape[0]):
        if edges[panel, 0] >= REACH or edges[panel, 1] <= -REACH:
            continue
        stack[0, 0], stack[0, 1], stack[0, 2], top = edges[panel, 0], edges[panel, 1], 0.0, 1
        while top > 0:
            top -= 1
            left, right, depth = stack[top, 0], stack[top, 1], stack[top, 2]
            if depth < HALVINGS and count < MOST_PANELS and _moves(places, grid, panel * m, links, left, right, factors) > MOVED:
                middle = 0.5 * (left + right)
                stack[top, 0], stack[top, 1], stack[top, 2] = middle, right, depth + 1.0
                stack[top + 1, 0], stack[top + 1, 1], stack[top + 1, 2] = left, middle, depth + 1.0
                top += 2
                continue
            if count == intervals.shape[0]:
                longer = np.empty((2 * count, 3))
                longer[:count] = intervals
                intervals = longer
            intervals[count, 0], intervals[count, 1], intervals[count, 2] = left, right, float(panel)
            count += 1
    return intervals, count


@njit(cache=True, error_model="numpy")
def _moves(places, grid, first, links, left, right, factors):
    """The most that a place moves between two points of a panel, as five points see it."""
    least, most = np.full(places.shape[1], math.inf), np.full(places.shape[1], -math.inf)
    for j in range(5):
        _link(grid, first, links, left + 0.25 * j * (right - left), factors)
        for k in range(places.shape[1]):
            place = 0.0
            for i in range(links.size):
                place += factors[i] * min(max(places[first + i, k], -1e100), 1e100)
            place = _within(place)
            least[k], most[k] = min(least[k], place), max(most[k], place)
    farthest = 0.0
    for k in range(places.shape[1]):
        farthest = max(farthest, most[k] - least[k])
    return farthest
