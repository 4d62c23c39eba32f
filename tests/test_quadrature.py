"""Quadrature rules for standard normals: exact where they claim it, accurate at kinks, within their capacity."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import erfcx, factorial2, ndtr

from solvers.quadrature import (
    CUT,
    FINER,
    PANEL_WIDTH,
    REACH,
    gauss_hermite,
    gauss_legendre,
    grid_capacity,
    outer_rule,
    panel_capacity,
    panels,
    rule,
    spacing,
    trapezoidal,
    uniform,
)


def density(x):
    return np.exp(-x * x / 2) / np.sqrt(2 * np.pi)


def panel_rule(features, m=18):
    """Nodes and weights of the panel rule, in arrays twice as long as it may need."""
    features = np.array(features, dtype=float).reshape(-1)
    x, w = gauss_legendre(m)
    most = panel_capacity(features.size // 2) * m
    nodes, weights = np.full(2 * most, np.nan), np.full(2 * most, np.nan)
    n = panels(features, x, w, nodes, weights)
    assert n <= most
    assert np.isnan(nodes[n:]).all()
    return nodes[:n], weights[:n]


@pytest.mark.parametrize("n", [1, 2, 3, 8, 15, 20])
def test_gauss_hermite_is_exact_for_polynomials_up_to_degree_2n_minus_1(n):
    z, w = gauss_hermite(n)
    for degree in range(2 * n):
        expected = 0.0 if degree % 2 else factorial2(degree - 1) if degree else 1.0
        assert w @ z**degree == pytest.approx(expected, rel=1e-12, abs=1e-13 * (w @ np.abs(z) ** degree))
    assert w @ z ** (2 * n) != pytest.approx(factorial2(2 * n - 1), rel=1e-9)  # and not beyond


RULES = [(make, n) for make in (gauss_hermite, trapezoidal) for n in (1, 2, 7, 72, 288, 4608)]
RULES += [(gauss_legendre, n) for n in (1, 2, 9, 144)]


@pytest.mark.parametrize(("make", "n"), RULES)
def test_rules_are_symmetric_to_the_last_bit(make, n):
    z, w = make(n)
    assert np.array_equal(z, -z[::-1])
    assert np.array_equal(w, w[::-1])
    assert np.all(np.diff(z) > 0)
    assert np.all(w > 0)


@pytest.mark.parametrize("n", [1, 10, 72, 288, 4608])
def test_gauss_hermite_weights_sum_to_one(n):
    assert gauss_hermite(n)[1].sum() == pytest.approx(1, abs=1e-14)


@pytest.mark.parametrize("n", [0, -3])
@pytest.mark.parametrize("make", [gauss_hermite, trapezoidal, gauss_legendre])
def test_no_nodes_are_refused(make, n):
    with pytest.raises(ValueError, match="needs"):
        make(n)


@pytest.mark.parametrize("a", [0.3, 1.0, np.pi / 2])
def test_the_trapezoidal_rule_gains_digits_per_node_as_it_says(a):
    # Poles at +- i a; E[1/(1 + z^2/a^2)] = a sqrt(pi/2) erfcx(a/sqrt 2).
    exact = a * math.sqrt(math.pi / 2) * erfcx(a / math.sqrt(2))
    for n in (10, 20, 40, 80, 160, 320):
        z, w = trapezoidal(n)
        error = abs(w @ (1 / (1 + (z / a) ** 2)) - exact)
        # The residue at the pole is exp(a^2/2) a sqrt(pi/2); the estimate in the docstring times twice that.
        assert error <= 4 * math.exp(a * a / 2) * a * math.exp(-2 * math.pi * a * n / (2 * CUT)) + 1e-15
    assert trapezoidal(80)[1].sum() == pytest.approx(1, abs=1e-15)


def test_doubling_the_trapezoidal_rule_keeps_its_nodes():
    coarse, fine = trapezoidal(36)[0], trapezoidal(72)[0]
    np.testing.assert_allclose(fine[::2], coarse, rtol=0, atol=1e-14)


@pytest.mark.parametrize("features", [[], [(0.3, 0.0)], [(0.3, 1e-6), (-2.0, 0.1), (9.4, 0.5)]])
def test_panel_weights_sum_to_one_and_nodes_ascend_within_the_cut(features):
    z, w = panel_rule(features, m=9)
    assert w.sum() == pytest.approx(1, abs=1e-13)  # 9 nodes on a panel of width 1.5
    assert np.all(np.diff(z) > 0)
    assert np.abs(z).max() < CUT


@pytest.mark.parametrize("a", [0.0, 1e-9, -0.7, 2.123, 6.0, -9.49])
def test_kinks_and_jumps_on_a_panel_edge_cost_nothing(a):
    z, w = panel_rule([(a, 0.0)])
    assert w @ np.abs(z - a) == pytest.approx(2 * density(a) + a * (2 * ndtr(a) - 1), rel=1e-13)
    assert w @ np.sign(z - a) == pytest.approx(1 - 2 * ndtr(a), abs=1e-14)
    assert w @ np.maximum(z - a, 0) ** 2 == pytest.approx((1 + a * a) * ndtr(-a) - a * density(a), rel=1e-12, abs=1e-14)


def test_without_the_feature_the_same_kink_is_not_resolved():
    z, w = panel_rule([])
    assert abs(w @ np.sign(z - 0.77) - (1 - 2 * ndtr(0.77))) > 1e-4


@pytest.mark.parametrize("width", [1e-6, 1e-4, 1e-2, 0.1, 0.3, 1.0, 1.4, 3.0])
@pytest.mark.parametrize("a", [0.0, 0.77, -3.1])
def test_smeared_kinks_and_jumps_are_resolved_at_any_width(a, width):
    # Seen through another standard normal: E_g sign(z - a + width g) and E_g |z - a + width g|.
    z, w = panel_rule([(a, width)])
    u = (z - a) / width
    spread = math.hypot(1, width)
    b = a / spread
    assert w @ (2 * ndtr(u) - 1) == pytest.approx(1 - 2 * ndtr(b), abs=1e-13)
    smeared = width * (2 * density(u) + u * (2 * ndtr(u) - 1))
    assert w @ smeared == pytest.approx(spread * (2 * density(b) + b * (2 * ndtr(b) - 1)), rel=1e-13)


@pytest.mark.parametrize("width", [1e-6, 1e-3, 0.1, 1.0])
def test_a_narrow_tanh_is_resolved_with_the_nodes_of_the_default_rule(width):
    # Poles at distance pi/2 widths from the axis.  9 nodes per panel (72 per average) against 36.
    values = []
    for m in (9, 36):
        z, w = panel_rule([(0.4, width)], m)
        values.append(w @ np.tanh((z - 0.4) / width) ** 2)
    assert values[0] == pytest.approx(values[1], abs=1e-9)


@pytest.mark.parametrize("bad", [(np.nan, 0.0), (np.inf, 0.0), (-np.inf, 1e-3), (np.nan, np.nan), (20.0, 1e-3)])
def test_features_off_the_line_are_ignored(bad):
    plain, with_bad = panel_rule([(0.3, 1e-3)]), panel_rule([bad, (0.3, 1e-3)])
    assert np.array_equal(plain, with_bad)


@pytest.mark.parametrize("width", [np.nan, np.inf, PANEL_WIDTH])
def test_a_feature_of_no_or_unlimited_width_is_at_most_an_edge(width):
    assert np.array_equal(panel_rule([(0.3, width)]), panel_rule([(0.3, 0.0)]))


def test_capacity_is_never_exceeded():
    rng = np.random.default_rng(0)
    special = [0.0, CUT, -CUT, np.nextafter(CUT, 0), 1e-15, 1.5, -1.5, np.nan, np.inf]
    for _ in range(3000):
        count = rng.integers(0, 6)
        centres = np.where(rng.random(count) < 0.3, rng.choice(special, count), rng.normal(size=count) * 3)
        widths = np.where(rng.random(count) < 0.2, 0.0, 10.0 ** rng.uniform(-18, 1, count))
        if count > 1 and rng.random() < 0.3:  # nearly coinciding features
            centres[1] = centres[0] + 10.0 ** rng.uniform(-18, -8)
        _, w = panel_rule(np.column_stack([centres, widths]), m=6)  # asserts the capacity
        assert w.sum() == pytest.approx(1, abs=1e-7)  # six nodes per panel


@pytest.mark.parametrize("nodes", [4, 8, 72, 1152])
def test_a_packed_rule_gives_back_its_parts(nodes):
    packed = rule(nodes)
    order = max(2, nodes // 8)
    parts = trapezoidal(nodes), gauss_hermite(4 * nodes), gauss_legendre(order), gauss_legendre(order + FINER)
    assert np.array_equal(packed[:4], [len(z) for z, _ in parts])
    assert np.array_equal(packed[4:], np.concatenate([side for part in parts for side in part]))
    assert not packed.flags.writeable
    assert grid_capacity(nodes, 0) == nodes + 1
    assert grid_capacity(nodes, 3) == panel_capacity(3) * len(parts[2][0])


@pytest.mark.parametrize("scale", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("order", [9, 18])
def test_uniform_nodes_are_as_accurate_as_their_spacing_says(scale, order):
    """A step smeared over a scale; the rule is off by exp(-2 pi^2/(h^2 sharpness)), less than 1e-11 from order 9 on."""
    nodes, weights = np.empty(500), np.empty(500)
    n = uniform(spacing(1 + scale**-2, order), nodes, weights)
    z, w = nodes[:n], weights[:n]
    assert w.sum() == pytest.approx(1, abs=2e-11)
    for a in (0.0, 0.37, -1.9):
        assert w @ ndtr((z - a) / scale) == pytest.approx(ndtr(-a / math.hypot(1, scale)), abs=2e-11)


def dense_grid(functions, m=9):
    """A dense grid with columns, as a table holds it."""
    z, w = panel_rule([], m + FINER)
    return np.ascontiguousarray([z, w, *(f(z) for f in functions)])


@pytest.mark.parametrize("s", [2.0, 0.3, 1e-2, 1e-5, 1e-9])
def test_the_outer_rule_finds_where_its_places_are_steep(s):
    """E_z Phi((C(z) - 0.4)/s) for a bent C against adaptive quadrature split where C = 0.4; the columns are interpolated."""
    grid = dense_grid([lambda z: z + 0.1 * np.sin(z), np.cos])
    places = ((grid[2] - 0.4) / s)[:, None]
    rows = outer_rule(np.ascontiguousarray(places), grid, grid.shape[1], *gauss_legendre(9))
    again = outer_rule(np.ascontiguousarray(places), grid, grid.shape[1], *gauss_legendre(9))
    assert np.array_equal(rows, again)  # to the last bit
    z, w, c, d = rows
    np.testing.assert_allclose(c, z + 0.1 * np.sin(z), atol=1e-13)  # 18 nodes per panel of width 1.5
    np.testing.assert_allclose(d, np.cos(z), atol=1e-13)
    assert np.abs(z).max() <= CUT
    root = brentq(lambda t: t + 0.1 * np.sin(t) - 0.4, 0, 1, xtol=1e-15)
    edges = [-REACH, *(root + k * s for k in (-40, -8, -2, 0, 2, 8, 40) if abs(k * s) < 6), REACH]
    exact = sum(quad(lambda t: ndtr((t + 0.1 * np.sin(t) - 0.4) / s) * density(t), a, b, epsabs=1e-14, epsrel=1e-13)[0]
                for a, b in pairwise(edges))  # fmt: skip
    assert w @ ndtr((c - 0.4) / s) == pytest.approx(exact, abs=3e-11)
    assert len(z) < 700


def test_places_that_are_no_numbers_or_jump_do_no_harm():
    grid = dense_grid([np.tanh])
    for bad in (np.nan, np.inf, -np.inf, 1e300):
        places = np.full((grid.shape[1], 2), bad)
        places[:, 1] = grid[0]
        z, w, c = outer_rule(places, grid, grid.shape[1], *gauss_legendre(9))
        assert w.sum() == pytest.approx(1, abs=1e-10)
        np.testing.assert_allclose(c, np.tanh(z), atol=1e-8)  # poles at distance pi/2 from a panel of half-width 0.75
