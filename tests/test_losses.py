"""Losses: pieces, prox and envelope against brute force; what is refused; the generated code is the same function."""

import math
from functools import cache

import numpy as np
import pytest
from numba import njit
from scipy.optimize import minimize_scalar

from replica.functions import evaluate
from replica.loss_kernel import loss_text
from replica.losses import NAMED, Y, Z, make_loss
from replica.models.training import prox
from solvers import special

RESIDUAL = ["square", "absolute", "huber", "huber(0.3)", "quantile(0.2)", "(y-z)**4/4 + (y-z)**2/2", "sqrt(1 + (y-z)**2)",
            "abs(y-z)**1.5", "max(abs(y-z) - 0.1, 0)"]
MARGIN = ["square", "logistic", "hinge", "squared_hinge", "huber", "exp(-y*z)", "max(0, 1 - y*z) + z**2/10"]
CASES = [(name, (0.0,)) for name in RESIDUAL] + [(name, (1.0, -1.0)) for name in MARGIN]


def value(loss, y, z):
    return float(evaluate(loss.expression, {Y: np.float64(y), Z: np.float64(z)}))


def compiled(loss, labels):
    """The helpers of a generated kernel, compiled once."""
    return _compiled(loss.name, labels)


@cache
def _compiled(name, labels):
    loss = make_loss(name)
    namespace = {"njit": njit, "math": math, "np": np, "_special": special}
    exec(loss_text(loss, labels), namespace)  # text of our own making
    return namespace["_loss_prox"], namespace["_loss_value"], namespace["_loss_features"]


@pytest.mark.parametrize("name, labels", CASES)
def test_the_prox_minimises(name, labels):
    """Against a bracketing minimiser, and by stationarity to 1e-12 away from kinks."""
    loss, rng = make_loss(name), np.random.default_rng(3)
    loss.check(labels)
    rule, at_value, _ = compiled(loss, labels)
    for _ in range(40):
        y, w, width = rng.choice(labels), rng.normal(0, 4), 10 ** rng.uniform(-2, 2)
        if name.startswith("exp"):
            w, width = w / 3, min(width, 1.0)
        z, g, k = rule(y, w, width, math.nan)
        reach = abs(width * g) + 3

        def total(t, y=y, w=w, width=width):
            return value(loss, y, t) + (t - w) ** 2 / (2 * width)

        best = minimize_scalar(total, bounds=(w - reach, w + reach), method="bounded", options={"xatol": 1e-11})
        assert z == pytest.approx(best.x, abs=2e-4 * (1 + width) ** 0.5)  # a minimum is flat
        assert total(z) <= best.fun + 1e-12 * (1 + abs(best.fun))
        assert g == pytest.approx((z - w) / width, abs=1e-11 * (1 + abs(w)) / width)
        assert at_value(y, z) == pytest.approx(value(loss, y, z), rel=1e-12, abs=1e-14)
        assert 0 <= k <= 1 / width * (1 + 1e-12)
        # Any guess leads to the same place.
        assert rule(y, w, width, z + rng.normal())[0] == pytest.approx(z, abs=1e-13 * (1 + abs(w)))


@pytest.mark.parametrize("name, labels", CASES)
def test_the_derivative_of_the_prox(name, labels):
    loss, rng = make_loss(name), np.random.default_rng(4)
    rule, _, _ = compiled(loss, labels)
    for _ in range(20):
        y, w, width, h = rng.choice(labels), rng.normal(), 10 ** rng.uniform(-1, 1), 1e-5
        left, here, right = (rule(y, w + d, width, math.nan) for d in (-h, 0, h))
        if abs(left[2] - right[2]) < 0.1 * here[2] + 1e-3:  # no kink between
            assert here[2] == pytest.approx((left[1] - right[1]) / (2 * h), rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("name, labels", CASES)
def test_simulations_use_the_same_prox(name, labels):
    loss, rng = make_loss(name), np.random.default_rng(5)
    rule, _, _ = compiled(loss, labels)
    y, w = rng.choice(labels, 50), rng.normal(0, 2, 50)
    for width in (0.1, 1.0):
        z, slope, curvature = prox(loss, y, w, width, len(labels) > 1)
        for i in range(50):
            np.testing.assert_allclose((z[i], slope[i], curvature[i]), rule(y[i], w[i], width, math.nan), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name, labels", CASES)
def test_features_are_where_the_prox_bends(name, labels):
    """Between features of width zero, the generalised curvature is smooth: no jump is missed."""
    loss = make_loss(name)
    rule, _, features = compiled(loss, labels)
    out = np.empty(40)
    for y in labels:
        count = features(y, 0.7, out)
        kinks = np.array([out[2 * i] for i in range(count) if out[2 * i + 1] == 0])
        w = np.linspace(-8, 8, 4001)
        if name.startswith("exp"):
            w = np.linspace(-2, 2, 4001)
        k = np.array([rule(y, x, 0.7, math.nan)[2] for x in w])
        for i in np.flatnonzero(np.abs(np.diff(k)) > 0.05):
            assert np.abs(kinks - w[i]).min() < 0.01, (y, w[i])


def test_kinds_of_losses():
    assert make_loss("square").quadratic
    assert make_loss("0.5*(y - z)**2").quadratic
    assert not make_loss("huber").quadratic
    assert [name for name in NAMED if make_loss(name).of_residual] == ["square", "absolute", "huber", "quantile"]
    assert make_loss("max(y - z, 0)**2 + abs(2*z - 2*y)").of_residual
    assert make_loss("huber(2)").name == "huber(2)"


@pytest.mark.parametrize(
    "text, labels, message",
    [
        ("logit", (0.0,), "Known losses: square, absolute"),
        ("huber(-1)", (0.0,), "must be positive"),
        ("quantile(1.5)", (0.0,), r"in \(0, 1\)"),
        ("square(2)", (0.0,), "Known losses"),
        ("__import__('os')", (0.0,), "Known losses"),
        ("hinge", (0.0,), "not a function of y - z"),
        ("-(y-z)**2", (0.0,), "not convex"),
        ("sin(y-z)", (0.0,), "not convex"),
        ("tanh(-y*z)", (1.0, -1.0), "not convex"),
        ("log(1 + y*z)", (1.0, -1.0), "not a finite number"),
        ("y**2", (1.0, -1.0), "does not depend on z"),
        ("max(0, z**2 - 1)", (1.0, -1.0), "does not depend linearly on z"),
    ],
)
def test_what_is_not_a_loss_is_refused(text, labels, message):
    with pytest.raises(ValueError, match=message) as caught:
        loss = make_loss(text)
        loss.check(labels)
    assert "\n" not in str(caught.value)
