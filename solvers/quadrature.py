"""Quadrature rules for averages over standard normals.

Integrands with kinks (ReLU, sign): composite Gauss-Legendre whose panel edges lie on the kinks, geometrically refined where
a kink is smeared over a small width.  Smooth integrands: Gauss-Hermite for the inner averages that make up the table, and
the trapezoidal rule for the grid over which the solver's averages run.  The grid's integrands are analytic in a strip that
narrows as responses grow; there the trapezoidal rule gains a digit per fixed number of nodes where Gauss-Hermite gains it
per square root (measured on spiked random features: 80 nodes for 1e-13 against 106, and at small reg 1e-10 against 1e-6).

`rule` packs everything a generated kernel needs, at one level of refinement, in one flat array.
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
    """All rules of one level, packed: ``[sizes, grid z, grid w, inner z, inner w, legendre x, legendre w]``.

    The grid is the outermost variable; inner averages are done once per parameter set and see poles that averaging
    removes from the grid, so they get four times the nodes.
    """
    grid, inner, panel = trapezoidal(nodes), gauss_hermite(4 * nodes), gauss_legendre(max(2, nodes // 8))
    sizes = [float(len(part[0])) for part in (grid, inner, panel)]
    packed = np.concatenate([sizes, *grid, *inner, *panel])
    packed.setflags(write=False)
    return packed


def grid_capacity(nodes: int, features: int) -> int:
    """Largest number of grid nodes a table needs at this level."""
    packed = rule(nodes)
    return panel_capacity(features) * int(packed[2]) if features else int(packed[0])


def table_size(shape: Any, nodes: int) -> int:
    """Numbers in the table of a `TableShape` at this level: count, scalars, grid with its columns, panel rule."""
    capacity = grid_capacity(nodes, shape.features) if shape.grid else 0
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
