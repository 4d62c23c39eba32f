"""Targets: Hermite tensors by algebra against tensor quadrature, invariance under rotation, and refusals in one line."""

import itertools
import math

import numpy as np
import pytest
import sympy as sp

from replica.activations import make_activation
from replica.hermite import coefficients
from replica.targets import MAX_QUADRATURE, TargetError, grid, half_line_rule, make_target

POLYNOMIALS = ["z1 + z1*z2", "sqrt(2)/2*z1*z2 + z3", "0.1*z1**2*z3", "he3(z1)*z2 + pi*z3", "(z1 + 2*z2 - z3)**4/10 - 3"]
CLOSED = [
    "sign(z1*z2)", "abs(z1)*z2 - z2", "sign(z1)*z2**2 + relu(z1)", "erf(z1)*exp(z2/2) + cos(z1 + z2)*z3", "sign(z1*z2*z3)",
    "sin(z1)*cos(z2)", "relu(z1)*(z1 + z2)**2*exp(z2/3)", "sin(z1)*cos(z1)*sin(z2)", "erf(z1 + z2)*(z1 - 2*z2)**2",
    "sin(z1 + z2)*sin(z1 - 2*z2)*z1", "exp(z1/2 + z2/3)*z2", "normal_cdf(z1)*z2", "sign(z1)*erf(z2)*z1*z2",
]  # fmt: skip
OPEN = ["tanh(z1)*z2", "softplus(z1)*z2", "sqrt(1 + z1**2)*z2", "tanh(z1)*sign(z1)*z2", "exp(z1*z2/5)", "arctan(z1*z2)"]


def coefficients_by_quadrature(target, order):
    """E[He_mu g] on the tensor grid, one exponent at a time."""
    points, weights = grid(target.r, {1: 60, 2: 40, 3: 20}[target.r])
    values = target.numeric(points) * weights
    basis = [np.polynomial.hermite_e.HermiteE.basis(k)(points) for k in range(order + 1)]
    for mu in itertools.product(range(order + 1), repeat=target.r):
        if sum(mu) <= order:
            he = math.prod(basis[n][:, i] for i, n in enumerate(mu))
            yield mu, float(values @ he)


@pytest.mark.parametrize("text", [*POLYNOMIALS, *CLOSED, *OPEN])
def test_coefficients_are_the_integrals(text):
    target = make_target(text)
    assert target.exact == (text not in OPEN)
    for mu, value in coefficients_by_quadrature(target, 4):
        assert float(target.coefficient(mu)) == pytest.approx(value, abs=2e-10)  # arctan(z1 z2): poles near the axes


@pytest.mark.parametrize("text", [*POLYNOMIALS, *CLOSED, *OPEN])
def test_second_moment_is_the_integral_and_the_sum_of_squares(text):
    target = make_target(text)
    points, weights = grid(target.r, {1: 60, 2: 40, 3: 20}[target.r])
    second = float(target.second_moment())
    assert second == pytest.approx(float(weights @ target.numeric(points) ** 2), rel=1e-9)
    energy = sum(float(c) ** 2 * math.prod(map(math.factorial, p)) for p, c in target.series(6).items())
    assert energy <= second * (1 + 1e-12)
    if target.degree is not None:
        assert energy == pytest.approx(second, rel=1e-12)


def test_tensors_are_symmetric_derivatives():
    target = make_target("z1 + z1*z2 + z1*z2*z3")
    assert target.tensor(0) == 0 and list(target.tensor(1)) == [1, 0, 0]
    assert target.tensor(2).tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
    third = target.tensor(3)
    assert third.sum() == 6 and all(third[p] == 1 for p in itertools.permutations(range(3)))
    assert make_target("tanh(z1)*z2").tensor(2).dtype == float


def test_sign_of_a_product_is_exact():
    c = make_target("sign(z1*z2)").tensor(2)
    assert c[0, 1] == 2 / sp.pi and c[0, 0] == 0
    assert make_target("sign(z1*z2)").second_moment() == 1
    assert make_target("sign((z1 - z2)*(z1**2 + 1))").tensor(1)[0] == 1 / sp.sqrt(sp.pi)
    inside = make_target("sign(z1**2 - 2)").coefficient((0,))
    assert sp.simplify(inside - (1 - 2 * sp.erf(1))) == 0  # P(|z| > sqrt 2) - P(|z| < sqrt 2)


def test_orthogonal_directions_stay_exact_in_any_frame():
    """sign(u.z) sign(v.z), u and v orthogonal: C_2 = (2/pi)(u v + v u)."""
    target = make_target("sign(2*z1 + 2*z2 + z3)*sign(z1 - 2*z2 + 2*z3)")
    u, v = sp.Matrix([2, 2, 1]) / 3, sp.Matrix([1, -2, 2]) / 3
    assert target.exact and sp.Matrix(target.tensor(2)) == 2 / sp.pi * (u * v.T + v * u.T)
    overlapping = make_target("sign(z1)*sign(z1 + z2)")
    assert not overlapping.exact and abs(float(overlapping.coefficient((0, 0))) - 0.5) < overlapping.error
    assert abs(overlapping.second_moment() - 1) < 1e-12


def test_population_gradient_from_the_tensors():
    """E[g s'(w.x) x] = W^T B + w A with B = sum c_{k+1}/k! C_{k+1}[pi^k], A = sum c_{k+2}/k! C_k[pi^k], against quadrature."""
    target, pi = make_target("z1 + z1*z2 + he3(z2)/3 - z1**2*z2/2"), np.array([0.6, -0.3])
    slope = make_activation("erf").numeric_derivative()
    points, weights = grid(3, 24)  # z1, z2, and x along the part of w outside the teacher
    w = np.array([*pi, np.sqrt(1 - pi @ pi)])
    direct = (weights * target.numeric(points[:, :2]) * slope(points @ w)) @ points
    c = coefficients("erf", 6)

    def contracted(k, times):
        tensor = target.tensor(k).astype(float)
        for _ in range(times):
            tensor = tensor @ pi
        return tensor

    b = sum(c[k + 1] / math.factorial(k) * contracted(k + 1, k) for k in range(3))
    a = sum(c[k + 2] / math.factorial(k) * contracted(k, k) for k in range(4))
    np.testing.assert_allclose(direct, [*(b + a * pi), a * w[2]], atol=1e-9)  # erf' on 48 nodes per axis


def test_radicals_inside_a_sign_are_found():
    target = make_target("sign((sqrt(2)*z1 + z2)*(z1 - sqrt(2)*z2))")
    u, v = sp.Matrix([sp.sqrt(2), 1]) / sp.sqrt(3), sp.Matrix([1, -sp.sqrt(2)]) / sp.sqrt(3)
    assert (sp.Matrix(target.tensor(2)) - 2 / sp.pi * (u * v.T + v * u.T)).applyfunc(sp.simplify) == sp.zeros(2, 2)
    assert target.second_moment() == 1


def test_sum_of_overlapping_directions_is_exact_but_its_second_moment_is_not():
    target = make_target("sign(z1) + sign(z1 + z2)")
    assert target.exact
    assert abs(target.second_moment() - 3) < target.second_moment_error < 1e-2  # arcsine law: E sign sign = 1/2


def test_callables_and_numbers_of_variables():
    target = make_target(lambda z: z[:, 0] + z[:, 0] * z[:, 1], r=2)
    assert target.tensor(2)[0, 1] == pytest.approx(1, abs=1e-13) and target.second_moment() == pytest.approx(2, rel=1e-13)
    assert make_target("z1*z3").r == 3 and make_target("z1", r=4).r == 4
    named = make_target("x*y + x", variables=("y", "x"))
    assert named.r == 2 and list(named.tensor(1)) == [0, 1]
    x = sp.Symbol("z2")
    assert make_target(x**2).tensor(2)[1, 1] == 2
    assert make_target("0.1*z1").tensor(1)[0] == sp.Rational(1, 10)
    z = np.random.default_rng(0).normal(size=(3, 5, 2))
    assert target.numeric(z).shape == (3, 5) and make_target("2", r=2).numeric(z).shape == (3, 5)


def test_half_line_rule_is_exact_for_polynomials_with_a_kink():
    x, w = half_line_rule(8)
    for k in range(16):  # E|x|^k = 2^(k/2) Gamma((k+1)/2)/sqrt(pi)
        exact = 2 ** (k / 2) * math.gamma((k + 1) / 2) / math.sqrt(math.pi)
        assert w @ np.abs(x) ** k == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("z1 + q", "found the name 'q'"),
        ("z0", "found the name 'z0'"),
        ("z30", "at most 20 variables"),
        ("", "incomplete"),
        ("1/z1", "infinite at t = 0"),
        ("log(z1)", "infinite at t = 0"),
        ("exp(z1**2)", "overflows"),
        ("exp(z1*z2)", "not square integrable"),
        ("sqrt(-1)*z1", "complex number"),
        ("(z1+z2+z3+z4+z5+z6+z7+z8)**20", "more than 20000 terms"),
        ("sqrt(1 + z1**2 + z2**2 + z3**2 + z4**2 + z5**2)", "r = 5 is too large for quadrature"),
        ("__import__('os')", "found the character"),
        (3, "found int"),
        (sp.I * sp.Symbol("z1"), "not a finite real number"),
        (sp.oo * sp.Symbol("z1"), "not a finite real number"),
        (sp.Symbol("q"), "unknown variable 'q'"),
        (sp.Symbol("z1") ** 200, "degree 200, more than 60"),
    ],
)
def test_refusals_are_one_line(given, message):
    with pytest.raises(TargetError, match=message) as error:
        make_target(given)
    assert str(error.value).isprintable()


def test_refusals_of_functions():
    with pytest.raises(TargetError, match="r = None"):
        make_target(lambda z: z[:, 0])
    with pytest.raises(TargetError, match=f"from 1 to {MAX_QUADRATURE}"):
        make_target(lambda z: z[:, 0], r=5)
    with pytest.raises(TargetError, match="returned shape"):
        make_target(lambda z: z, r=2)
    with pytest.raises(TargetError, match="fails on an array"):
        make_target(lambda z: z[:, 7], r=2)
    with pytest.raises(TargetError, match="is complex, of type complex128; it must be real"):
        make_target(lambda z: z[:, 0] * (1 + 1j), r=1)
    with pytest.raises(TargetError, match="r = 5 of a target given by a function is not a whole number from 1 to 4"):
        make_target(lambda z: z[:, 0], r=5)
    with pytest.raises(TargetError, match="not finite at z"):
        make_target(lambda z: np.where(z[:, 0] > 0, np.inf, 0.0), r=1)
    with pytest.raises(TargetError, match="cannot be treated exactly"):
        make_target("tanh(z1)", exact=True)
    with pytest.raises(TargetError, match=r"r = 1 is not a whole number of at least 2"):
        make_target("z2", r=1)
    with pytest.raises(TargetError, match="entries"):
        make_target("z20").tensor(6)
