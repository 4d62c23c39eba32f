"""An activation is a name and a formula; everything else follows from the formula."""

import dataclasses
import pickle

import numpy as np
import pytest
import sympy as sp

from replica.activations import NAMED, Activation, Z, make_activation
from replica.expressions import ExpressionError, check_real

u = sp.Symbol("u", real=True)


@pytest.mark.parametrize("name", NAMED)
def test_named_activations_pass_the_checks_of_user_expressions(name):
    activation = make_activation(name)
    assert activation is NAMED[name] and str(activation) == name
    check_real(activation.expression, Z)
    check_real(activation.derivative(Z), Z)


@pytest.mark.parametrize("text", [*NAMED, "tanh(2*z) + he3(z)/6", "max(z, 0.25*z - 1)", "abs(z**2 - 2)*z"])
def test_numeric_derivative_is_the_slope_of_numeric(text):
    activation = make_activation(text)
    z = np.linspace(-3.01, 3.02, 60)  # no kink within 1e-6 of these
    h = 1e-6
    slope = (activation.numeric()(z + h) - activation.numeric()(z - h)) / (2 * h)
    np.testing.assert_allclose(activation.numeric_derivative()(z), slope, atol=1e-7)  # h^2 f''' and eps f/h


@pytest.mark.parametrize("name", NAMED)
def test_numeric_is_elementwise_for_any_shape(name):
    activation, z = NAMED[name], np.random.default_rng(0).normal(size=(3, 4))
    for function in (activation.numeric(), activation.numeric_derivative()):
        assert function(z).shape == (3, 4) and function(z).dtype == np.float64
        assert np.shape(function(0.5)) == ()
        np.testing.assert_array_equal(function(z)[1], function(z[1]))


def test_conventions_of_the_named():
    z = np.array([-1.0, 0.5])
    np.testing.assert_allclose(NAMED["erf"].numeric()(0.5), 0.5204998778130465, rtol=1e-14)  # erf(z), not erf(z/sqrt 2)
    np.testing.assert_array_equal(NAMED["leaky_relu"].numeric()(z), [-0.01, 0.5])
    np.testing.assert_allclose(NAMED["gelu"].numeric()(z), [-0.15865525393145707, 0.34573123063700656], rtol=1e-14)


def test_hermite_activations_are_orthogonal():
    nodes, weights = np.polynomial.hermite_e.hermegauss(10)
    values = np.array([NAMED[name].numeric()(nodes) for name in ("identity", "he2", "he3", "he4")])
    np.testing.assert_allclose((values * weights) @ values.T / weights.sum(), np.diag([1.0, 2, 6, 24]), atol=1e-12)


@pytest.mark.parametrize(
    ("text", "kinks"),
    [
        ("tanh", ()),
        ("relu", (0.0,)),
        ("leaky_relu", (0.0,)),
        ("sign", (0.0,)),
        ("relu(2*z - 1) + abs(z + 3)", (-3.0, 0.5)),
        ("max(z, 0.25*z - 1)", (-4 / 3,)),
        ("abs(z**2 - 2)", (-np.sqrt(2), np.sqrt(2))),
        ("sqrt(z**2)", (0.0,)),
        ("relu(z**2 + 1)", ()),
        ("tanh(relu(z))", (0.0,)),
        ("relu(tanh(z))", ()),  # a documented limit: not a polynomial argument
    ],
)
def test_kinks(text, kinks):
    assert make_activation(text).kinks == pytest.approx(kinks, abs=1e-12)


def test_kink_of_a_double_root_is_one_point():
    assert make_activation("abs((z - 1)**2)").kinks == pytest.approx((1.0,), abs=1e-6)


def test_formula_and_derivative_take_any_argument():
    assert make_activation("z**2 + tanh(z)").formula(u / 2) == u**2 / 4 + sp.tanh(u / 2)
    assert make_activation("z**2 + tanh(z)").derivative(u) == 2 * u + 1 - sp.tanh(u) ** 2
    assert NAMED["relu"].formula(-3) == 0
    assert NAMED["sign"].derivative(u) == 0


def test_activation_is_frozen_comparable_and_picklable():
    activation, again = make_activation("tanh(z)*relu(z)"), make_activation("tanh(z)*relu(z)")
    assert activation == again and hash(activation) == hash(again)
    assert isinstance(pickle.loads(pickle.dumps(activation)), Activation)
    assert pickle.loads(pickle.dumps(activation)) == activation
    z = np.linspace(-1, 1, 5)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(activation.numeric()))(z), activation.numeric()(z))
    with pytest.raises(dataclasses.FrozenInstanceError):
        activation.name = "other"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Tanh", "found the name 'Tanh'"),
        ("swish", "found the name 'swish'"),
        ("3", "constant"),
        ("z - z", "constant"),
        ("log(z)", "infinite at z = 0"),
        ("sqrt(abs(z))", "its derivative"),
        ("exp(z**2)", "overflows|not square integrable"),
        ("__import__('os')", "found the character"),
        ("z\n", "found the character"),
        (3, "found int"),
        (["tanh"], "found list"),
    ],
)
def test_refusals_list_the_known_names_in_one_line(text, reason):
    with pytest.raises(ExpressionError, match=reason) as error:
        make_activation(text)
    message = str(error.value)
    assert message.isprintable() and "Known names: tanh, erf, relu" in message and "an expression in z" in message
