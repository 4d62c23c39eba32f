"""Spectral averages against the Marchenko-Pastur density itself, and their compiled twins against 60 digits."""

import itertools
from functools import partial

import mpmath
import numpy as np
import pytest
import sympy as sp

from replica.spectral import (
    SpectralAverage,
    closed_form,
    mp_companion,
    mp_root,
    mp_transform,
    rational_average,
)
from solvers import spectra

x = sp.Symbol("x", positive=True)
t, r, a, b = sp.symbols("t r a b", real=True)
RATIOS = [1e-3, 0.25, 0.999, 1.0, 1.001, 4.0, 1e3]
TWINS = {f.__name__: f for f in (spectra.mp_transform, spectra.mp_companion, spectra.mp_root)}


def value(expression, **at):
    names = {str(s): s for s in expression.free_symbols}
    f = sp.lambdify([names[k] for k in at if k in names], expression, [TWINS, "numpy"])
    return float(f(*[v for k, v in at.items() if k in names]))


def dense(f, ratio):
    """<f(x)> by the density, x = 1 + ratio - 2 sqrt(ratio) cos(phi), panels refined towards the hard edge phi = 0.

    The law of G G^T/d has an atom of mass 1 - 1/ratio at zero for ratio > 1.
    """
    nodes, weights = np.polynomial.legendre.leggauss(24)
    edges = np.concatenate([[0.0], np.pi * 2.0 ** np.arange(-44, 1)])
    half = np.diff(edges)[:, None] / 2
    phi = (edges[:-1, None] + half * (1 + nodes)).ravel()
    w = (half * weights).ravel()
    s = np.sqrt(ratio)
    at = (1 - s) ** 2 + 4 * s * np.sin(phi / 2) ** 2
    atom = (1 - 1 / ratio) * f(0.0) if ratio > 1 else 0.0
    return atom + 2 / np.pi * np.sum(w * np.sin(phi) ** 2 / at * f(at))


@pytest.mark.parametrize("ratio", RATIOS)
def test_the_density_used_here_is_normalised_and_has_mean_one(ratio):
    assert dense(lambda y: 1.0 + 0 * y, ratio) == pytest.approx(1, rel=1e-12)
    assert dense(lambda y: y, ratio) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize(("j", "k"), [(j, k) for k in (1, 2) for j in range(k + 1)])
def test_first_and_second_powers_agree_with_the_density_to_rounding(j, k, ratio):
    # No cancellation at any t: a relative bound, from t = 1e-8 to 1e8, at the hard edge too.
    for s in 10.0 ** np.arange(-8, 9, 2):
        expected = dense(lambda y, s=s: y**j / (1 + s * y) ** k, ratio)
        got = value(rational_average(j, k, t, r), t=s, r=ratio)
        assert got == pytest.approx(expected, rel=2e-12), (s, got, expected)  # 1e-12 is the density's own rounding


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("j", range(4))
def test_third_powers_agree_with_the_density(j, ratio):
    # These follow by differentiation in t of the second powers, d/dt <x^(j-1)/(1 + t x)^2>, which falls like that
    # average over t: relative to the result, digits are lost only where t x is large and the result falls faster.
    for s in 10.0 ** np.arange(-8, 9, 2):
        expected = dense(lambda y, s=s: y**j / (1 + s * y) ** 3, ratio)
        got = value(rational_average(j, 3, t, r), t=s, r=ratio)
        second = dense(lambda y, s=s: y ** max(j - 1, 0) / (1 + s * y) ** 2, ratio) / (s if j else 1)
        assert abs(got - expected) <= 1e-11 * expected + (1e-15 * second if s * ratio > 1 else 0), (s, got, expected)


def quadratic(s, ratio):
    """T, C and N of the quadratic equation in 60 digits."""
    s, ratio = mpmath.mpf(s), mpmath.mpf(ratio)
    linear = 1 + (1 - ratio) * s
    root = mpmath.sqrt(linear**2 + 4 * ratio * s)
    transform = (root - linear) / (2 * ratio * s)
    return {"mp_transform": transform, "mp_companion": 1 - ratio + ratio * transform, "mp_root": root}


@pytest.mark.parametrize("name", TWINS)
def test_compiled_transforms_solve_the_quadratic_to_rounding_at_extreme_arguments(name):
    powers = [-12, -8, -4, -1, 0, 1, 4, 8, 12]
    ratios = [10.0**k for k in (-6, -3, -1, 0, 1, 3, 6)] + [0.5, 1 - 1e-12, 1 + 1e-12, 1 + 1e-6, 2.0]
    with mpmath.workdps(60):
        for power, ratio in itertools.product(powers, ratios):
            for s in (10.0**power, 3.7 * 10.0**power):
                expected = quadratic(s, ratio)[name]
                error = abs(TWINS[name](s, ratio) / expected - 1)
                assert error < 1e-13, (s, ratio, error)


def test_all_transforms_are_one_at_zero():
    for ratio in RATIOS:
        assert [f(0.0, ratio) for f in TWINS.values()] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("symbol", [t, r])
@pytest.mark.parametrize("transform", [mp_transform, mp_companion, mp_root])
def test_derivatives_of_the_transforms_agree_with_differences(transform, symbol):
    twins = {name: lambda s, ratio, name=name: quadratic(s, ratio)[name] for name in TWINS}
    slope = sp.lambdify((t, r), sp.diff(transform(t, r), symbol), [twins, "mpmath"])
    exact = twins[transform.__name__]
    with mpmath.workdps(60):
        for s, ratio in itertools.product(["1e-6", "0.3", "7", "1e5"], ["0.1", "1", "2.5"]):
            s, ratio = mpmath.mpf(s), mpmath.mpf(ratio)
            along = partial(exact, ratio=ratio) if symbol is t else partial(exact, s)
            expected = mpmath.diff(along, s if symbol is t else ratio, h=mpmath.mpf(10) ** -25 * s)
            assert abs(slope(s, ratio) - expected) < 1e-15 * abs(expected)


@pytest.mark.parametrize("ratio", [0.4, 1.0, 2.5])
@pytest.mark.parametrize(
    "f",
    [
        1 / ((1 + 2 * x) * (3 + x)),
        x / ((1 + 2 * x) ** 2 * (3 + x)),
        x**3 / (1 + x),
        x**2 + 1 / (2 + x) + 3,
        (1 + x) ** 2 / (2 + 5 * x) ** 2,
        x**4 / ((2 + x) * (1 + x)),
        x**2 - 3 * x**5,
    ],
    ids=str,
)
def test_partial_fractions_and_polynomial_parts_agree_with_the_density(f, ratio):
    numeric = sp.lambdify(x, f, "numpy")
    assert value(closed_form(SpectralAverage(f, x, sp.Float(ratio, 17)))) == pytest.approx(
        dense(numeric, ratio), rel=1e-11
    )


def test_poles_may_have_symbolic_coefficients():
    node = closed_form(SpectralAverage((a + x) / ((1 + a * x) * (b + x)), x, r))
    at = {"a": 0.7, "b": 2.2, "r": 1.3}
    expected = dense(lambda y: (0.7 + y) / ((1 + 0.7 * y) * (2.2 + y)), 1.3)
    assert value(node, **at) == pytest.approx(expected, rel=1e-12)


def test_low_moments_are_those_of_wishart_matrices():
    moments = [closed_form(SpectralAverage(x**k, x, r)) for k in range(4)]
    assert [sp.expand(e - f) for e, f in zip(moments, [1, 1, 1 + r, 1 + 3 * r + r**2], strict=True)] == [0] * 4


@pytest.mark.parametrize("f", [sp.sqrt(x), sp.exp(-x), 1 / (1 + x**2), 1 / (1 + sp.sqrt(x))], ids=str)
def test_what_is_not_rational_with_linear_poles_is_refused(f):
    with pytest.raises(ValueError, match="no closed form"):
        SpectralAverage(f, x, r).closed_form()


@pytest.mark.parametrize("ratio", [0.4, 1.0, 2.5])
def test_derivatives_with_respect_to_the_ratio_agree_with_differences(ratio):
    node = SpectralAverage((1 + x) / (2 + 3 * x) ** 2, x, r)
    h = 1e-3
    f = [dense(lambda y: (1 + y) / (2 + 3 * y) ** 2, ratio + k * h) for k in (-2, -1, 1, 2)]
    difference = (8 * (f[2] - f[1]) - (f[3] - f[0])) / (12 * h)
    assert value(sp.diff(node, r), r=ratio) == pytest.approx(difference, abs=1e-11)  # h^4, and rounding over h


def test_derivatives_with_respect_to_a_parameter_commute_with_the_closed_form():
    node = SpectralAverage(x / (1 + a * x), x, r)
    at = {"a": 0.7, "r": 1.7}
    before, after = closed_form(sp.diff(node, a)), sp.diff(closed_form(node), a)
    assert value(before, **at) == pytest.approx(value(after, **at), rel=1e-13)
    inside = SpectralAverage(x / (1 + a * x), x, a**2)  # the parameter is in the law too
    expected = [dense(lambda y, s=s: y / (1 + s * y), s**2) for s in (0.7 - 1e-4, 0.7 + 1e-4)]
    assert value(sp.diff(inside, a), a=0.7) == pytest.approx((expected[1] - expected[0]) / 2e-4, abs=1e-7)


def test_nodes_are_rebuilt_from_their_arguments_and_keep_their_variable_bound():
    node = SpectralAverage(a / (1 + a * x), x, r)
    (inner,) = node.atoms(SpectralAverage)
    assert inner.func(*inner.args) == inner
    assert node.free_symbols == {a, r}
    assert node.diff(x) == 0
    assert sp.simplify(inner) == inner
    moved = inner.subs(a, x)  # this x is an outer one
    assert moved.free_symbols == {x, r}
    assert value(closed_form(moved), x=0.3, r=0.8) == pytest.approx(value(closed_form(inner), a=0.3, r=0.8), rel=1e-14)
