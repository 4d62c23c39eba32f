"""Gaussian averages: construction, calculus, and exact integration of what is polynomial."""

import itertools

import numpy as np
import pytest
import sympy as sp
from averages_by_quadrature import numeric, slope

from replica.averages import GaussianAverage, gaussian, marginalise, outermost
from replica.model import ModelError, opaque

u, v, w = gaussian("u v w")
m, q, t, a = sp.symbols("m q t a", real=True)
teacher = opaque("teacher", r"\sigma_\star")
PAIR = [[1, m], [m, q]]
NODES = [
    GaussianAverage(sp.tanh(u), u),
    GaussianAverage(sp.tanh(u) * v, (u, v), PAIR),
    GaussianAverage(sp.tanh(u + a * v) + v**2, (u, v), PAIR),
    GaussianAverage(teacher(u) * sp.exp(-(v**2)), (u, v), PAIR),
    GaussianAverage(sp.exp(-u) * GaussianAverage(sp.tanh(u + v), v, [[q]]), u),
]


@pytest.mark.parametrize("node", NODES, ids=str)
def test_a_node_is_rebuilt_from_its_arguments(node):
    # When this fails, sympy's traversals drop the average in silence.
    assert node.func(*node.args) == node
    assert sp.simplify(node) == node
    assert node.xreplace({sp.Symbol("absent"): 1}) == node


def test_factors_and_constants_come_out_of_an_average():
    assert GaussianAverage(a, u) == a
    assert GaussianAverage(a * q * sp.tanh(u), u) == a * q * GaussianAverage(sp.tanh(u), u)


def test_averages_are_linear():
    node = GaussianAverage(a * sp.tanh(u) * v + q * sp.exp(v) + t, (u, v), PAIR)
    expected = a * GaussianAverage(sp.tanh(u) * v, (u, v), PAIR) + q * GaussianAverage(sp.exp(v), v, [[q]]) + t
    assert node.split() == expected


def test_unused_variables_are_marginalised_away():
    node = GaussianAverage(sp.tanh(v), (u, v, w), [[1, m, t], [m, q, a], [t, a, 2]])
    assert node == GaussianAverage(sp.tanh(v), v, [[q]])
    assert node.free_symbols == {q}


def test_covariances_of_the_wrong_shape_or_not_symmetric_are_refused():
    for covariance in ([[1]], [[1, m], [q, 1]], [[1, 0, 0], [0, 1, 0]]):
        with pytest.raises(ValueError, match="symmetric 2 x 2"):
            GaussianAverage(u * v, (u, v), covariance)


@pytest.mark.parametrize("parameter", [t, q, a])
@pytest.mark.parametrize(
    "f", [sp.tanh(u) * v, sp.tanh(u + a * v), sp.sin(u * v), sp.exp(-(u**2) / 4) * sp.cos(a * v), u**3 * v + v**2 * a]
)
def test_derivatives_through_the_covariance_agree_with_differences_of_the_integral(f, parameter):
    # The covariance depends on t through every entry: Price's theorem has all its terms.
    node = GaussianAverage(f, (u, v), [[1 + t**2, t * sp.cos(q)], [t * sp.cos(q), q + t]])
    at = {t: 0.4, q: 0.8, a: 0.7}
    derived = numeric(sp.diff(node, parameter), at)
    explicit = slope(lambda x: numeric(node, at | {parameter: x}), at[parameter])
    assert derived == pytest.approx(explicit, abs=1e-9)  # fourth-order difference with step 2e-3


def test_second_derivatives_commute():
    node = GaussianAverage(sp.tanh(u) * sp.sin(v), (u, v), [[1, t * q], [t * q, q]])
    at = {t: 0.4, q: 0.8}
    assert numeric(sp.diff(node, t, q), at) == pytest.approx(numeric(sp.diff(node, q, t), at), abs=1e-12)
    explicit = slope(lambda x: numeric(sp.diff(node, t), at | {q: x}), at[q])
    assert numeric(sp.diff(node, t, q), at) == pytest.approx(explicit, abs=1e-9)


def test_derivatives_do_not_touch_bound_variables():
    node = GaussianAverage(sp.tanh(u + a), u)
    assert node.diff(u) == 0
    assert (u * node).diff(u) == node
    assert u not in node.diff(a).free_symbols


def test_substitution_avoids_capture():
    node = GaussianAverage(sp.tanh(u + a), u, [[q]])
    moved = node.subs(a, u)  # this u is the outer one
    assert moved.free_symbols == {u, q}
    assert numeric(moved, {q: 0.5, u: 0.3}) == pytest.approx(numeric(node, {q: 0.5, a: 0.3}), abs=1e-14)
    wide = node.subs(q, u**2)
    assert numeric(wide, {a: 0.2, u: 0.7}) == pytest.approx(numeric(node, {q: 0.49, a: 0.2}), abs=1e-14)
    assert node.subs(u, 5) == node


def test_an_inner_average_may_bind_the_same_variable():
    inner = GaussianAverage(sp.tanh(u) ** 2, u, [[q]])
    node = GaussianAverage(sp.tanh(u + inner), u)
    assert inner in outermost(node)[0].f.atoms(GaussianAverage)
    assert node.diff(q).has(GaussianAverage)
    assert node.subs(u, 3) == node


def pairings(indices, covariance):
    """Isserlis: the sum over perfect matchings of products of covariances."""
    if not indices:
        return sp.S.One
    if len(indices) % 2:
        return sp.S.Zero
    first, *rest = indices
    return sum(covariance[first, j] * pairings([*rest[:k], *rest[k + 1 :]], covariance) for k, j in enumerate(rest))


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_moments_of_three_correlated_gaussians_are_sums_over_pairings(degree):
    covariance = sp.Matrix(3, 3, lambda i, j: sp.Symbol(f"c{min(i, j)}{max(i, j)}", real=True))
    for indices in itertools.combinations_with_replacement(range(3), degree):
        moment = GaussianAverage(sp.prod([(u, v, w)[i] for i in indices]), (u, v, w), covariance)
        assert sp.cancel(marginalise(moment) - pairings(list(indices), covariance)) == 0


def test_polynomials_are_integrated_without_dividing_by_a_covariance():
    # E[(u - v)^2] = a - 2 m + q must hold at q = 0 too, and must not hide which order parameters enter.
    error = marginalise(GaussianAverage((u - v) ** 2, (u, v), [[a, m], [m, q]]))
    assert sp.expand(error - (a - 2 * m + q)) == 0
    assert sp.diff(error, q).free_symbols == set()


def test_the_square_loss_of_an_opaque_teacher_needs_two_moments_of_it():
    error = marginalise(GaussianAverage((teacher(u) - v) ** 2, (u, v), PAIR))
    second = GaussianAverage(teacher(u) ** 2, u)
    overlap = GaussianAverage(u * teacher(u), u)
    assert sp.expand(error - (second - 2 * m * overlap + q)) == 0


def test_integrating_out_is_exact_for_sums_of_smooth_and_polynomial_pieces():
    f = sp.tanh(u) * (v - a) ** 2 + sp.exp(-v) * u + sp.cos(u * v) + v**4 * u**2
    node = GaussianAverage(f, (u, v), PAIR)
    at = {m: 0.3, q: 0.7, a: 0.9}
    assert numeric(marginalise(node), at) == pytest.approx(numeric(node, at), abs=1e-12)


def test_a_variable_between_two_others_is_conditioned_on_both():
    covariance = [[1, m, t], [m, q, a], [t, a, 2]]
    node = GaussianAverage(sp.tanh(u) * v**2 * sp.sin(w), (u, v, w), covariance)
    at = {m: 0.3, q: 0.7, a: 0.2, t: -0.4}
    reduced = marginalise(node)
    assert all(len(inner.variables) == 2 for inner in reduced.atoms(GaussianAverage))
    assert numeric(reduced, at) == pytest.approx(numeric(node, at), abs=1e-11)  # 89 nodes, analytic integrands


@pytest.mark.parametrize("power", [1, 2, 3])
@pytest.mark.parametrize("parameter", [m, q])
def test_integrating_out_commutes_with_differentiation(power, parameter):
    # Stein: for a smooth teacher Price's theorem (which differentiates it) and the moments (which do not) must agree.
    node = GaussianAverage(sp.tanh(u) * v**power, (u, v), PAIR)
    at = {m: 0.3, q: 0.7}
    first = numeric(sp.diff(marginalise(node), parameter), at)
    assert first == pytest.approx(numeric(sp.diff(node, parameter), at), abs=1e-12)


def test_a_derivative_that_would_fall_on_an_opaque_teacher_is_refused_unless_integrated_out_first():
    node = GaussianAverage(teacher(u) * v, (u, v), PAIR)
    with pytest.raises(ModelError, match="teacher"):
        sp.diff(node, m)
    assert sp.diff(marginalise(node), m) == GaussianAverage(u * teacher(u), u)


def test_a_variable_tied_to_a_degenerate_pair_is_left_alone():
    # v = w: the regression of u on them does not exist, so there is nothing to integrate out exactly.
    covariance = [[1, t, t], [t, 1, 1], [t, 1, 1]]
    node = GaussianAverage(u * sp.tanh(v) * sp.sin(v * w), (u, v, w), covariance)
    assert node.marginalise() == node
    assert marginalise(GaussianAverage(u * sp.tanh(v) * sp.tanh(w) + u**2, (u, v, w), covariance)).has(u)


def test_nested_averages_are_integrated_out_from_the_inside():
    kappa = gaussian("kappa")
    inner = GaussianAverage((v + kappa * w) ** 2, (v, w), [[q, m * kappa], [m * kappa, 1]])
    value = marginalise(GaussianAverage(inner, kappa))
    assert sp.expand(value - (q + 2 * m + 1)) == 0  # E[v^2] + 2 E[kappa^2] m + E[kappa^2]


def test_moments_of_high_degree_in_random_covariances_agree_with_quadrature():
    rng = np.random.default_rng(3)
    for _ in range(5):
        root = rng.normal(size=(2, 2))
        covariance = [[sp.Float(e, 17) for e in row] for row in (root @ root.T).tolist()]
        covariance[1][0] = covariance[0][1]
        i, j = (int(k) for k in rng.integers(1, 6, 2))
        node = GaussianAverage(u**i * v**j, (u, v), covariance)
        # The rule is exact here; moments of degree 10 are sums of numbers some 1e4 times the result.
        assert float(marginalise(node)) == pytest.approx(numeric(node), rel=1e-9, abs=1e-10)
