"""Kinks that move with order parameters, averages in closed form; mistakes of authors are named."""

import math
from itertools import pairwise

import numpy as np
import pytest
import sympy as sp
from scipy.integrate import quad

from replica.averages import GaussianAverage, gaussian
from replica.calculus import derivative
from replica.free_entropy import FreeEntropy, ModelError
from replica.functions import absolute, evaluate, plain, relu, sgn, step
from replica.half_lines import half_line
from replica.model import Conjugate, Model, Observable, OrderParameter, Parameter
from replica.models import RidgeRegression
from solvers import Newton, solve

h = gaussian("h")
v, c = sp.symbols("v c", real=True)
half = sp.Rational(1, 2)
AT = {v: 0.7, c: 0.4}
KINKED = [
    relu(h - c) ** 2, step(h - c), relu(h - c), absolute(2 * h + c) ** 3, sgn(c - h) * h**2, absolute(h - c) + h,
    relu(1 - 3 * h) * h + h**2 * step(1 - 3 * h), relu(h - c) ** 4,
]  # fmt: skip


def integral(f):
    """E f(h) by adaptive quadrature with the kinks as break points."""
    density = sp.exp(-(h**2) / (2 * v)) / sp.sqrt(2 * sp.pi * v)
    value = lambda x: float(evaluate((f * density).xreplace(AT), {h: np.float64(x)}))
    edges = [-12.0, -0.2, 1 / 3, 0.4, 12.0]
    return sum(quad(value, a, b, epsabs=1e-13)[0] for a, b in pairwise(edges))


@pytest.mark.parametrize("f", KINKED, ids=str)
def test_closed_forms_are_the_integrals(f):
    found = half_line(GaussianAverage(f, h, [[v]]))
    assert float(evaluate(found.xreplace(AT), {})) == pytest.approx(integral(f), rel=1e-11)


@pytest.mark.parametrize("f", [sp.tanh(h) * relu(h), relu(h) * relu(h - c), relu(h**2 - c), relu(h) ** 2 / (1 + h**2)], ids=str)
def test_what_is_no_polynomial_with_one_kink_is_left_alone(f):
    assert half_line(GaussianAverage(f, h, [[v]])) is None


@pytest.mark.parametrize("f", [relu(h - c) ** 2, relu(2 * h - c), h**2 * step(h - c), absolute(h - c) * (1 + h)], ids=str)
@pytest.mark.parametrize("x", [v, c])
def test_derivatives_through_kinks_are_those_of_the_closed_form(f, x):
    """First and second, the second with point masses that are integrated."""
    average = GaussianAverage(f, h, [[v]])
    closed = half_line(average)
    for _ in range(2):
        average, closed = derivative(average, x), sp.diff(closed, x)
        assert not average.atoms(sp.DiracDelta)
        mine = average.replace(lambda e: isinstance(e, GaussianAverage), half_line)
        value, wanted = (float(evaluate(e.xreplace(AT), {})) for e in (mine, closed))
        assert value == pytest.approx(wanted, rel=1e-11, abs=1e-13)


def test_products_of_kinks_are_written_so_that_they_can_be_differentiated():
    assert plain(relu(h) * sp.DiracDelta(h)) == 0
    assert plain(step(h) ** 2 + relu(h) ** 2 * step(h)) == step(h) + relu(h) ** 2
    assert plain(sp.tanh(h) * step(h)) == sp.tanh(h) * step(h)


class Lasso(Model):
    """Soft threshold of a Gaussian teacher: docs/add_a_model.md has it with a sparse one."""

    name = "lasso"
    title = "LASSO"
    references = "here"
    alpha = Parameter("samples per dimension", lower=0, lower_open=True)
    reg = Parameter("penalty", lower=0, lower_open=True)
    noise = Parameter("label noise variance", lower=0)
    V = OrderParameter("response", lower=0, start=1.0)
    q = OrderParameter("norm", lower=0, start=0.1)
    m = OrderParameter("overlap", start=0.1)
    q_hat = Conjugate(V, -half)
    V_hat = Conjugate(q, half)
    m_hat = Conjugate(m, -1)
    test_error = Observable("test error", lower=0)

    def free_entropy(self):
        weights = GaussianAverage(relu(h - self.reg) ** 2, h, [[self.q_hat + self.m_hat**2]]) / self.V_hat
        error = 1 - 2 * self.m + self.q + self.noise
        return FreeEntropy(self.couplings, potential_hat=weights, potential=-self.alpha * error / (2 * (1 + self.V)))

    def observables(self):
        return {self.test_error: 1 - 2 * self.m + self.q + self.noise}


def test_a_soft_threshold_is_derived_and_solved_to_rounding():
    """The equations by hand with scipy's erfc."""
    at = {"alpha": 1.5, "reg": 0.3, "noise": 0.1}
    found = solve(Lasso(), method=Newton(rtol=1e-12), throw=True, **at)
    V, q, m = found["V"], found["q"], found["m"]
    v_hat = at["alpha"] / (1 + V)
    width = math.sqrt(v_hat**2 + at["alpha"] * (1 - 2 * m + q + at["noise"]) / (1 + V) ** 2)
    t = at["reg"] / width
    beyond, density = math.erfc(t / math.sqrt(2)), math.exp(-(t**2) / 2) / math.sqrt(2 * math.pi)
    assert pytest.approx(beyond / v_hat, rel=1e-11) == V
    assert pytest.approx(beyond, rel=1e-11) == m
    assert pytest.approx(width**2 * ((1 + t**2) * beyond - 2 * t * density) / v_hat**2, rel=1e-11) == q
    assert found.steps < 30


# ---------------------------------------------------------------- mistakes of authors


class Stray(Lasso):
    def free_entropy(self):
        given = super().free_entropy()
        return FreeEntropy(self.couplings, given.potential_hat, given.potential * sp.Symbol("zz", real=True))


class Bare(Lasso):
    def free_entropy(self):
        return super().free_entropy().expression


class StrayObservable(Lasso):
    def observables(self):
        return {self.test_error: self.q + sp.Symbol("w", real=True)}


class Taken(Lasso):
    steps = Parameter("taken by files", default=1.0)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Stray, ["lasso", "free_entropy()", "zz"]),
        (Bare, ["lasso", "free_entropy() returned", "FreeEntropy(self.couplings"]),
        (StrayObservable, ["test_error", "w"]),
        (Taken, ["'steps'", "files"]),
    ],
)
def test_mistakes_of_authors_are_named_when_a_model_is_compiled(model, words):
    with pytest.raises(ModelError) as caught:
        model().compile()
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_class_in_place_of_a_model_is_named():
    with pytest.raises(TypeError, match=r"write RidgeRegression\(\)"):
        solve(RidgeRegression, alpha=1.0, reg=0.1)
