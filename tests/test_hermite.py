"""Hermite coefficients of activations: every exact value against integration, symmetries exactly, errors that bound."""

import math

import mpmath
import numpy as np
import pytest
import sympy as sp

from replica.activations import NAMED, make_activation
from replica.hermite import HermiteError, coefficient, coefficients, slope_moments, visible
from replica.smoothing import moments

CLOSED = [
    "erf", "relu", "leaky_relu", "gelu", "sin", "cos", "sign", "abs", "identity", "square", "he2", "he3", "he4",
    "erf(z/sqrt(2))", "exp(z/2)", "z**2*sign(z - 1)", "sin(2*z)*exp(z/3)", "cos(z)**3*z", "erf(z - 1)*exp(z/2)*z",
    "relu(z - 1)*relu(z + 1)", "abs(z**2 - 1)", "normal_cdf(2*z + 1)", "z + he2(z)/2 + he4(z)/24", "max(z, 0.25*z - 1)",
    "sign(z)*sin(z)*0 + z**3*relu(2 - z)", "sqrt(2)*z**2 + pi*z", "cos(z + 1)*sin(z/2)", "exp(-z/3)*relu(z)",
]  # fmt: skip
OPEN = ["tanh", "softplus", "silu", "sigmoid", "sign(z)*tanh(z)", "arctan(exp(z))", "sqrt(1 + z**2)", "tanh(z - 0.3)"]


@pytest.mark.parametrize("text", CLOSED)
def test_closed_forms_are_the_integrals(text):
    activation = make_activation(text)
    values, errors = moments(activation.numeric(), activation.kinks, 12)
    for k in range(13):
        c = coefficient(activation, k)
        assert c.exact is not None and not c.exact.has(sp.Float)
        assert abs(c.value - values[k]) <= 4 * errors[k] + 1e-14  # the estimate is rounding for integrands split at kinks


@pytest.mark.parametrize("text", ["relu(z - 1)*relu(z + 1)", "tanh(z - 0.3)", "exp(-z/3)*relu(z)", "softplus"])
def test_both_routes_agree_with_mpmath(text):
    activation = make_activation(text)
    f = activation.numeric()
    cuts = [-12, *activation.kinks, 12]
    for k in (0, 1, 4, 7):
        he = np.polynomial.hermite_e.HermiteE.basis(k)
        exact = mpmath.quad(lambda x, he=he: float(he(float(x))) * float(f(np.array([float(x)]))[0]) * mpmath.npdf(x), cuts)
        c = coefficient(activation, k)
        assert abs(c.value - float(exact)) < 1e-10  # mpmath sees a float integrand


@pytest.mark.parametrize("text", [*CLOSED, *OPEN])
def test_coefficients_are_averages_of_derivatives_of_the_shifted_function(text):
    """d/dm E s(m + x) = c_1, and so on: c_k(m) is the derivative of c_{k-1}(m)."""
    activation = make_activation(text)
    f, kinks = activation.numeric(), activation.kinks
    h = 1e-3
    shifted = [moments(lambda x, m=m: f(x + m), [k - m for k in kinks], 3)[0] for m in (-h, h)]
    slope = (shifted[1] - shifted[0]) / (2 * h)
    np.testing.assert_allclose(coefficients(activation, 4)[1:], slope, atol=3e-4)  # h^2 c_{k+3}/6, c_7 below 2000


@pytest.mark.parametrize("text", OPEN)
def test_error_of_quadrature_bounds_the_true_error(text):
    activation = make_activation(text)
    f = activation.numeric()
    x = np.linspace(-14, 14, 40_001)  # trapezoidal rule: converges faster than any power for these
    weight = np.exp(-x * x / 2) / math.sqrt(2 * math.pi) * (28 / 40_000)
    for k in range(7):
        he = np.polynomial.hermite_e.HermiteE.basis(k)(x)
        reference = float(np.sum(f(x) * he * weight))
        c = coefficient(activation, k)
        smooth = 0 if "sign" not in text else 1e-6  # a kink at a node
        assert abs(c.value - reference) <= c.error + 1e-14 * math.sqrt(math.factorial(k)) + smooth


def test_textbook_values():
    root = sp.sqrt(2 * sp.pi)
    for k, c in enumerate([1 / root, sp.Rational(1, 2), 1 / root, 0, -1 / root]):
        assert sp.expand(coefficient("relu", k).exact - c) == 0
    for k in (1, 3, 5, 7):  # c_k of erf(a x): 2a/sqrt(pi(1+2a^2)) (-2a^2/(1+2a^2))^((k-1)/2) (k-2)!!
        a2 = sp.Rational(1, 2)
        sign = (-2 * a2 / (1 + 2 * a2)) ** ((k - 1) // 2) * sp.factorial2(max(k - 2, 0))
        assert sp.simplify(coefficient("erf(z/sqrt(2))", k).exact - 2 / sp.sqrt(2) / sp.sqrt(sp.pi * 2) * sign) == 0
    assert coefficient("z**3", 1).exact == 3 and coefficient("z**3", 3).exact == 6  # He_3 with no 1/3!


def test_symmetry_is_exact():
    for text in ("softplus", "silu", "gelu", "relu", "leaky_relu"):  # x/2 (times a constant) plus an even function
        assert all(coefficient(text, k).exact == 0 for k in (3, 5, 7))
    assert all(coefficient("tanh", k).exact == 0 for k in (0, 2, 4))
    assert coefficient("softplus", 1).exact == sp.Rational(1, 2) and coefficient("sigmoid", 0).exact == sp.Rational(1, 2)
    assert coefficient("sqrt(1 + z**2)", 3).exact == 0
    assert coefficient("arctan(exp(z))", 2).exact is None  # a zero that only quadrature knows of
    assert abs(coefficient("arctan(exp(z))", 2).value) <= coefficient("arctan(exp(z))", 2).error + 1e-16


@pytest.mark.parametrize("name", NAMED)
def test_slope_moments_are_averages_of_the_slope(name):
    activation = NAMED[name]
    mean, square = slope_moments(activation)
    slope = activation.numeric_derivative()
    values, errors = moments(slope, activation.kinks, 0)
    squares, more = moments(lambda x: slope(x) ** 2, activation.kinks, 0)
    assert abs(mean.value - values[0]) <= 4 * errors[0] + 1e-15 and abs(square.value - squares[0]) <= 4 * more[0] + 1e-15
    if name != "sign":  # integration by parts, for continuous activations
        assert mean.value == pytest.approx(coefficient(activation, 1).value, abs=1e-14)
    else:
        assert (mean.exact, square.exact) == (0, 0)


def test_what_is_visible_at_some_scale_and_bias():
    assert [visible("relu", k) for k in range(7)] == [True, True, True, False, True, False, True]
    assert [visible("erf", k) for k in range(5)] == [False, True, False, True, False]
    assert all(visible(name, k, bias=True) for name in ("relu", "erf", "softplus", "tanh") for k in range(10))
    # c_1 of He3 vanishes at unit norm only; beyond its degree a polynomial sees nothing, with biases or without.
    assert [visible("he3", k) for k in range(6)] == [False, True, False, True, False, False]
    assert [visible("he3", k, bias=True) for k in range(6)] == [True, True, True, True, False, False]


@pytest.mark.parametrize("k", [-1, 61, 1.5, True, "2"])
def test_bad_orders_are_refused(k):
    with pytest.raises(HermiteError, match=r"order k = .* is not a whole number from 0 to 60"):
        coefficient("relu", k)
