"""Every converter gives the predictor of the other objective, minimised as its own documentation writes it."""

import numpy as np
import pytest
from scipy.optimize import minimize

from replica import conventions
from replica.conventions import CONVENTIONS, from_reg, to_reg
from replica.losses import make_loss
from replica.models import RidgeRegression
from replica.models.training import fit
from solvers import solve

N, D, STRENGTH = 40, 8, 0.3
#: Losses that a general objective is tried with, as any textbook writes them, of label and prediction.
LOSSES = {
    "square": lambda y, z: (y - z) ** 2 / 2,
    "huber": lambda y, z: np.where(np.abs(y - z) < 1, (y - z) ** 2 / 2, np.abs(y - z) - 0.5),
    "logistic": lambda y, z: np.logaddexp(0, -y * z),
    "squared_hinge": lambda y, z: np.maximum(0, 1 - y * z) ** 2,
    "hinge": lambda y, z: np.maximum(0, 1 - y * z),
}
#: The objectives of other conventions: loss per sample, label, prediction, squared norm, strength -> number.
OBJECTIVES = {
    "sum": lambda f, y, z, w2, s: np.sum(f(y, z)) + s * w2,
    "sum, half": lambda f, y, z, w2, s: np.sum(f(y, z)) + s * w2 / 2,
    "mean": lambda f, y, z, w2, s: np.mean(f(y, z)) + s * w2,
    "mean, half": lambda f, y, z, w2, s: np.mean(f(y, z)) + s * w2 / 2,
    "sum of squares": lambda f, y, z, w2, s: np.sum((y - z) ** 2) + s * w2,
    "mean square": lambda f, y, z, w2, s: np.mean((y - z) ** 2) + s * w2,
    "half mean square": lambda f, y, z, w2, s: np.mean((y - z) ** 2) / 2 + s * w2,
    "sklearn Ridge": lambda f, y, z, w2, s: np.sum((y - z) ** 2) + s * w2,
    "sklearn LogisticRegression": lambda f, y, z, w2, s: s * np.sum(np.log(1 + np.exp(-y * z))) + w2 / 2,
    "sklearn SVC": lambda f, y, z, w2, s: s * np.sum(np.maximum(0, 1 - y * z)) + w2 / 2,
    "sklearn LinearSVC": lambda f, y, z, w2, s: s * np.sum(np.maximum(0, 1 - y * z) ** 2) + w2 / 2,
    "sklearn SGD": lambda f, y, z, w2, s: np.mean(f(y, z)) + s * w2 / 2,
    "torch MSELoss": lambda f, y, z, w2, s: np.mean((y - z) ** 2) + s * w2 / 2,
    "torch BCEWithLogitsLoss": lambda f, y, z, w2, s: np.mean(np.log(1 + np.exp(-y * z))) + s * w2 / 2,
}


def data(sign, scale):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, D)) * scale
    y = x @ rng.standard_normal(D) / scale / np.sqrt(D) + 0.5 * rng.standard_normal(N)
    return x, np.sign(y) if sign else y


def minimiser(objective, start):
    """Of a convex function without kinks, whose gradient is differenced."""
    return minimize(objective, start, method="BFGS", jac="3-point", options={"gtol": 1e-8}).x


def descends(objective, w):
    """Whether a convex function falls in some direction from w; a wrong penalty makes it fall along w."""
    directions = [w, -w, *0.3 * np.random.default_rng(1).standard_normal((100, len(w)))]
    return any(objective(w + step * u) < objective(w) * (1 - 1e-12) for u in directions for step in (1e-4, 1e-2))


@pytest.mark.parametrize("unit_inputs", [False, True], ids=["inputs 1/d", "inputs 1"])
@pytest.mark.parametrize(
    ("name", "loss"), [(name, loss) for name, known in CONVENTIONS.items() for loss in known.losses if loss in LOSSES]
)
def test_both_objectives_have_one_predictor(name, loss, unit_inputs):
    sign = loss in ("logistic", "hinge", "squared_hinge")
    ours, y = data(sign, 1 / np.sqrt(D))
    theirs = ours * np.sqrt(D) if unit_inputs else ours
    reg = to_reg(name, STRENGTH, n=N, d=D if unit_inputs else None)
    w = fit(make_loss(loss), ours, y, reg, sign)

    def objective(v):
        return OBJECTIVES[name](LOSSES[loss], y, theirs @ v, v @ v, STRENGTH)

    start = w / np.sqrt(D) if unit_inputs else w
    assert not descends(objective, start) and descends(objective, 1.01 * start)
    if loss != "hinge":  # a kink stops BFGS before the minimum
        found = theirs @ minimiser(objective, 0.9 * start)
        assert np.abs(found - ours @ w).max() < 1e-5  # gradients by differences; a wrong factor moves it by a hundredth


def test_every_convention_is_tested():
    assert set(OBJECTIVES) == set(CONVENTIONS)


@pytest.mark.parametrize("name", CONVENTIONS)
def test_there_and_back(name):
    assert from_reg(name, to_reg(name, 0.7, n=30, d=10), n=30, d=10) == pytest.approx(0.7, rel=1e-15)


def test_scale_of_the_huber_regressor_is_part_of_the_threshold():
    x, y = data(False, 1 / np.sqrt(D))
    alpha, epsilon = 0.2, 1.35

    def objective(v):
        w, s = v[:-1], np.exp(v[-1])
        u = (x @ w - y) / s
        h = np.where(np.abs(u) < epsilon, u**2, 2 * epsilon * np.abs(u) - epsilon**2)
        return np.sum(s + h * s) + alpha * w @ w

    found = minimiser(objective, np.zeros(D + 1))
    a, reg = conventions.huber_from_sklearn(alpha, epsilon, float(np.exp(found[-1])))
    assert np.abs(x @ (fit(make_loss(f"huber({a!r})"), x, y, reg, False) - found[:-1])).max() < 1e-5


def test_theory_of_a_mean_square_on_unit_inputs():
    """Ridge regression with 1/n and inputs of variance 1: the risk by the Stieltjes transform m of Marchenko and Pastur."""
    gamma, penalty, noise, rho = 0.6, 0.2, 0.25, 1.7  # gamma = d/n; rho = |w*|^2

    def m(z):  # of x^T x / n
        return (1 - gamma - z - np.sqrt((1 - gamma - z) ** 2 - 4 * gamma * z)) / (2 * gamma * z)

    slope = (m(-penalty + 1e-5) - m(-penalty - 1e-5)) / 2e-5
    risk = rho * penalty**2 * slope + noise * gamma * (m(-penalty) - penalty * slope)
    alpha = conventions.alpha_from_aspect(gamma)
    reg = to_reg("mean square", penalty, n=alpha, d=1)
    found = solve(RidgeRegression(), alpha=alpha, reg=reg, noise=conventions.noise_from_std(0.5), rho=rho)
    assert conventions.excess_error(found["test_error"], noise) == pytest.approx(risk, rel=1e-7)  # slope by differences


def test_small_converters():
    assert conventions.noise_from_snr(4.0, rho=2.0) == 0.5
    assert conventions.cosine(m=1.0, q=4.0) == 0.5
    assert conventions.damping_from_mixing(0.3) == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("nonsense", 1.0, {}), "known are sum"),
        (("mean", 1.0, {}), "number n is needed"),
        (("sklearn SVC", 0.0, {}), "must be positive"),
        (("sum", -1.0, {}), "must be not negative"),
        (("sum", 1.0, {"d": 0}), "d = 0 must be positive"),
    ],
)
def test_what_cannot_be_converted_is_said_in_one_line(given, message):
    name, strength, sizes = given
    for convert in (to_reg, from_reg):
        with pytest.raises(ValueError, match=message):
            convert(name, strength, **sizes)
