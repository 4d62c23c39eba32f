"""The symbolic primitives, their jitted twins and their numpy faces are the same functions."""

import math
import os
import subprocess
import sys

import mpmath
import numpy as np
import pytest
import sympy as sp

from replica.functions import NUMPY_FACES, PRIMITIVES, Kinked, almost_everywhere_derivative, evaluate, relu, sgn, step
from solvers import special

z = sp.Symbol("z", real=True)
GRID = [-1e4, -800.0, -38.0, -20.5, -19.5, -8.0, -2.5, -1.0, -0.3, -1e-3, -1e-9]
GRID += [-x for x in GRID] + [0.0]

# Written independently of replica.functions; evaluated with 60 digits.
REFERENCE = {
    "relu": lambda x: x if x > 0 else mpmath.mpf(0),
    "step": lambda x: mpmath.mpf(x > 0) if x else mpmath.mpf("0.5"),
    "sgn": lambda x: mpmath.mpf((x > 0) - (x < 0)),
    "absolute": lambda x: x if x > 0 else -x,
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "sigmoid": lambda x: (1 + mpmath.tanh(x / 2)) / 2 if x > -50 else mpmath.exp(x) / (1 + mpmath.exp(x)),
    "normal_cdf": lambda x: mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
    "log_ndtr": lambda x: (
        mpmath.log1p(-mpmath.erfc(x / mpmath.sqrt(2)) / 2)
        if x > 0
        else mpmath.log(mpmath.erfc(-x / mpmath.sqrt(2)) / 2)
    ),
    "logcosh": lambda x: mpmath.log1p(2 * mpmath.sinh(x / 2) ** 2),
    "bit_entropy": lambda x: exactly(lambda y: mpmath.cosh(y) * mpmath.log(2 * mpmath.cosh(y)) - y * mpmath.sinh(y), x),
    "bit_slope": lambda x: exactly(lambda y: mpmath.sinh(y) * mpmath.log(2 * mpmath.cosh(y)) - y * mpmath.cosh(y), x),
}


def exactly(formula, x):
    """A formula whose terms cancel to exp(-2|x|) of themselves, with enough digits."""
    with mpmath.extradps(10 + int(abs(x))):
        return formula(x)


@pytest.fixture(autouse=True)
def sixty_digits():
    with mpmath.workdps(60):
        yield


def relative_errors(name, function):
    for x in GRID:
        exact = REFERENCE[name](mpmath.mpf(x))
        value = function(x)
        if abs(exact) < 1e-290:  # below float64: has to underflow to zero
            assert abs(value) < 1e-290
        else:
            yield x, float(abs((mpmath.mpf(float(value)) - exact) / exact))


@pytest.mark.parametrize("name", PRIMITIVES)
def test_jitted_twin_equals_symbolic_face_and_both_the_definition(name):
    for x, error in relative_errors(name, getattr(special, name)):
        # rounding x/sqrt(2) alone costs x^2 eps in a Gaussian tail; everything else a few eps
        in_tail = (name == "normal_cdf" and x < 0) or (name == "log_ndtr" and x > 0)
        assert error < 1e-15 + (2e-16 * x * x if in_tail else 0), (name, x, error)
    for x, error in relative_errors(name, lambda x: float(PRIMITIVES[name](z).evalf(30, subs={z: sp.Float(x, 40)}))):
        assert error < 1e-15, (name, x, error)


@pytest.mark.parametrize("name", PRIMITIVES)
def test_numpy_face_equals_jitted_twin(name):
    x = np.array(GRID)
    twin = np.array([getattr(special, name)(value) for value in GRID])
    # scipy's log_ndtr and ndtr lose a few digits in the tails; simulations do not need them
    np.testing.assert_allclose(NUMPY_FACES[PRIMITIVES[name]](x), twin, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", PRIMITIVES)
def test_fdiff_is_the_slope_away_from_kinks(name):
    slope = almost_everywhere_derivative(PRIMITIVES[name](z), z)
    for x in [-30.25, -2.5, -0.3, 0.3, 2.5, 30.25]:
        expected = mpmath.diff(REFERENCE[name], mpmath.mpf(x))  # at 60 digits the difference quotient has 30
        assert abs(mpmath.mpf(sp.N(slope.subs(z, sp.Rational(x)), 30)) - expected) <= 1e-20 * (1 + abs(expected))


def test_slope_of_log_ndtr_survives_the_underflow_of_normal_cdf():
    slope = evaluate(PRIMITIVES["log_ndtr"](z).diff(z), {z: -1000.0})
    assert slope == pytest.approx(1000.001, abs=1e-6)  # inverse Mills ratio: -x - 1/x + O(x^-3)


def test_stability_far_out():
    assert special.softplus(800.0) == 800.0 and special.softplus(-800.0) == 0.0
    assert special.sigmoid(800.0) == 1.0 and special.sigmoid(-800.0) == 0.0
    assert special.logcosh(-800.0) == 800.0 - np.log(2.0)
    assert special.log_ndtr(-np.inf) == -np.inf and special.log_ndtr(np.inf) == 0.0


@pytest.mark.parametrize("name", PRIMITIVES)
def test_nan_passes_through(name):
    assert np.isnan(getattr(special, name)(np.nan))
    assert PRIMITIVES[name](sp.nan) is sp.nan


def test_log_ndtr_is_continuous_where_the_asymptotic_series_takes_over():
    inside, outside = special.log_ndtr(-20.0), special.log_ndtr(np.nextafter(-20.0, -21.0))
    assert abs(inside - outside) < 1e-13 * abs(inside)


def test_twins_run_as_plain_python():
    names = list(PRIMITIVES)
    code = f"from solvers import special\nprint([getattr(special, n)(x) for n in {names} for x in (-800.0, -0.5, 0.5, 800.0)])"
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    jitted = [getattr(special, n)(x) for n in names for x in (-800.0, -0.5, 0.5, 800.0)]
    plain = [float(word) for word in run.stdout.strip("[]\n ").split(",")]
    np.testing.assert_allclose(plain, jitted, rtol=4e-16)  # same formulas, two mathematical libraries


def test_values_are_exact_only_where_trivial():
    assert (relu(3), relu(0), relu(-2), sgn(-2), sgn(0), step(0), step(5)) == (3, 0, 0, -1, 0, sp.S.Half, 1)
    assert PRIMITIVES["absolute"](sp.Rational(-1, 3)) == sp.Rational(1, 3)
    assert isinstance(relu(sp.sin(3) - 1), relu)  # not decided
    assert PRIMITIVES["softplus"](2 * z + 2).args == (2 * z + 2,)


@pytest.mark.parametrize("name", PRIMITIVES)
def test_nodes_rebuild_to_themselves_and_are_real(name):
    node = PRIMITIVES[name](2 * z - 1)
    assert node.func(*node.args) == node
    assert node.is_real
    assert node.kinks == ((0,) if issubclass(node.func, Kinked) else ())


def test_point_masses_are_kept_by_diff_and_dropped_almost_everywhere():
    assert sgn(z).diff(z) == 2 * sp.DiracDelta(z)
    assert almost_everywhere_derivative(sgn(z), z) == 0
    assert almost_everywhere_derivative(z * step(z) + z**2, z) == step(z) + 2 * z
    assert almost_everywhere_derivative(almost_everywhere_derivative(relu(z) ** 2, z), z) == 2 * step(z) ** 2


def test_evaluate_equals_sympy():
    expr = sp.tanh(z) * sp.sqrt(1 + z**2) - sp.erf(z) / 3 + sp.atan(z) ** 3 + sp.log(2 + sp.sin(z))
    expr += sp.cos(z) * sp.exp(-z) + 1 / (2 + z**4) + relu(z) * sp.pi
    for x in (-2.0, 0.0, 0.7):
        assert evaluate(expr, {z: x}) == pytest.approx(float(expr.subs(z, x)), rel=1e-14)


def test_evaluate_names_the_function_it_lacks():
    with pytest.raises(TypeError, match="gamma has no array version"):
        evaluate(sp.gamma(z), {z: 1.0})


def test_two_normals_below_edges_against_an_integral():
    """Near and far correlations, equal and infinite edges."""
    rng = np.random.default_rng(4)
    for case in range(60):
        h, k = rng.normal(size=2) * 2
        k = h if case % 7 == 0 else k
        r = float(rng.choice([rng.uniform(-1, 1), 1 - 10 ** rng.uniform(-6, -1), 10 ** rng.uniform(-6, -1) - 1]))
        with mpmath.workdps(20):
            rest = mpmath.sqrt(1 - mpmath.mpf(r) ** 2)
            edges = [k / r + c * float(rest) for c in (-20, -4, 0, 4, 20)] if r else []
            exact = mpmath.quad(
                lambda x, r=r, k=k, rest=rest: mpmath.npdf(x) * mpmath.ncdf((k - r * x) / rest),
                sorted({-12.0, -5.0 if h > -5 else h - 1, *(e for e in edges if -12 < e < h), h}),
            )
        assert special.both_below(h, k, r) == pytest.approx(float(exact), abs=2e-15), (h, k, r)
    assert special.both_below(math.inf, 0.3, 0.5) == special.normal_cdf(0.3)
    assert special.both_below(-math.inf, 0.3, 0.99) == 0.0
    assert special.both_below(0.3, 0.2, 1.0) == pytest.approx(special.normal_cdf(0.2), abs=1e-16)
    assert special.both_below(0.3, 0.2, -1.0) == pytest.approx(special.normal_cdf(0.3) - special.normal_cdf(-0.2), abs=1e-16)
    assert math.isnan(special.both_below(math.nan, 1.0, 0.2))
