"""Losses: a declared prox is certified, a missing one is replaced by a node with the right derivatives."""

import numpy as np
import pytest
import sympy as sp
from averages_by_quadrature import slope
from scipy.optimize import brentq

from replica.functions import logcosh
from replica.losses import Loss, Square

y, w, z = sp.symbols("y w z", real=True)
V = sp.Symbol("V", positive=True)


class Logistic(Loss):
    name = "logistic"

    def __call__(self, y, z):
        return sp.log(1 + sp.exp(-y * z))


class LogCosh(Loss):
    name = "logcosh"

    def __call__(self, y, z):
        return logcosh(y - z)


class BareSquare(Loss):
    """The square loss without its closed form."""

    name = "bare_square"

    def __call__(self, y, z):
        return (y - z) ** 2 / 2


NUMPY = {
    "logistic": (lambda y, z: np.logaddexp(0, -y * z), lambda y, z: -y / (1 + np.exp(y * z))),
    "logcosh": (lambda y, z: np.log(np.cosh(y - z)), lambda y, z: np.tanh(z - y)),
    "bare_square": (lambda y, z: (y - z) ** 2 / 2, lambda y, z: z - y),
}


def brute_prox(name, y, w, width):
    """The minimiser: the increasing function slope + (z - w)/width has one zero."""
    f = NUMPY[name][1]
    return brentq(lambda z: f(y, z) + (z - w) / width, w - 50 * width - 5, w + 50 * width + 5, xtol=1e-15, rtol=1e-15)


def brute_envelope(name, y, w, width):
    z = brute_prox(name, y, w, width)
    return NUMPY[name][0](y, z) + (z - w) ** 2 / (2 * width)


def numeric(expression, name, at):
    modules = [
        {
            f"prox_{name}": lambda *a: brute_prox(name, *a),
            f"moreau_{name}": lambda *a: brute_envelope(name, *a),
            "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
            "sgn": np.sign,
            "logcosh": lambda x: np.log(np.cosh(x)),
        },
        "numpy",
    ]
    return sp.lambdify((y, w, V), expression, modules)(*at)


def test_the_prox_of_the_square_loss_is_stationary_and_attains_the_envelope():
    loss = Square()
    objective = loss(y, z) + (z - w) ** 2 / (2 * V)
    prox = loss.prox(y, w, V)
    assert sp.simplify(sp.diff(objective, z).subs(z, prox)) == 0
    assert sp.diff(objective, z, 2).is_positive  # so the stationary point is the minimum
    assert sp.simplify(objective.subs(z, prox) - loss.moreau(y, w, V)) == 0
    assert sp.simplify(Loss.moreau(loss, y, w, V) - loss.moreau(y, w, V)) == 0  # the override says the same


def test_the_square_residual_does_not_cancel_at_large_width():
    residual = sp.lambdify((y, w, V), y - Square().prox(y, w, V))
    assert residual(2.0, 1.0, 1e12) == pytest.approx(1e-12, rel=1e-3)  # y + (w - y)/(1 + V) keeps 4 digits beside y = 2


@pytest.mark.parametrize("at", [(1.0, 0.3, 0.5), (-1.0, 2.0, 3.0), (1.0, -1.5, 0.1), (0.7, 0.2, 10.0)])
@pytest.mark.parametrize("loss", [Logistic(), LogCosh(), BareSquare()], ids=lambda loss: loss.name)
def test_a_loss_without_closed_form_has_the_derivatives_of_its_minimum(loss, at):
    envelope, prox = loss.moreau(y, w, V), loss.prox(y, w, V)
    for i, symbol in enumerate((y, w, V)):

        def along(f, i=i):
            return slope(lambda x: f(loss.name, *at[:i], x, *at[i + 1 :]), at[i])

        # Fourth-order differences with step 2e-3; the minimum is known to rounding, the minimiser to 1e-15.
        assert numeric(sp.diff(envelope, symbol), loss.name, at) == pytest.approx(along(brute_envelope), abs=1e-8)
        assert numeric(sp.diff(prox, symbol), loss.name, at) == pytest.approx(along(brute_prox), abs=1e-7)


@pytest.mark.parametrize("loss", [Logistic(), LogCosh()], ids=lambda loss: loss.name)
@pytest.mark.parametrize("pair", [(w, w), (w, V), (V, V), (y, w), (y, V)], ids=str)
def test_second_derivatives_of_the_envelope_agree_with_differences_of_the_first(loss, pair):
    at = (0.8, 0.3, 0.6)
    envelope = loss.moreau(y, w, V)
    first, i = sp.diff(envelope, pair[0]), (y, w, V).index(pair[1])
    expected = slope(lambda x: numeric(first, loss.name, (*at[:i], x, *at[i + 1 :])), at[i])
    assert numeric(sp.diff(envelope, *pair), loss.name, at) == pytest.approx(expected, abs=1e-8)
    assert numeric(sp.diff(envelope, *pair[::-1]), loss.name, at) == pytest.approx(expected, abs=1e-8)


def test_the_nodes_of_the_square_loss_agree_with_its_closed_form():
    at = (0.8, -0.3, 2.5)
    bare, closed = BareSquare(), Square()
    for symbol in (y, w, V):
        derived = numeric(sp.diff(bare.moreau(y, w, V), symbol), "bare_square", at)
        assert derived == pytest.approx(numeric(sp.diff(closed.moreau(y, w, V), symbol), "bare_square", at), abs=1e-13)


def test_a_loss_without_formula_says_what_is_missing():
    with pytest.raises(TypeError, match="__call__"):
        Loss()(y, z)
