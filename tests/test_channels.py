"""Output channels: derivatives of nodes, agreement of the ways over the fields, accuracy against adaptive quadrature."""

import math
from itertools import pairwise

import numpy as np
import pytest
from numba import njit
from scipy.integrate import quad
from scipy.special import ndtr
from test_losses import compiled

from replica.activations import make_activation
from replica.loss_kernel import feature_count
from replica.losses import make_loss
from replica.output import _SLOPES, ARGUMENTS
from solvers import channels
from solvers.quadrature import gauss_legendre

ORDER = gauss_legendre(18)
PLACE = {"C": 0.3, "T": 0.2, "rho": 0.8, "Psi": 0.5, "S": 1.4, "V": 0.9, "noise": 0.3, "flip": 0.05}
ZEROS = np.array(make_activation("sin(2*z) + 0.2").zeros)
LEVELS = (np.arange(len(ZEROS) + 1) + (np.sin(-24) + 0.2 > 0)) % 2.0


@njit
def wave(t):
    return math.sin(2 * t) + 0.2


@njit
def same(t):
    return t


def moments(kind, loss, place, *, even=None, order=ORDER, target=wave, kinks=None, smooth=None, observe=True):
    sign = kind.startswith("sign")
    labels = (1.0, -1.0) if sign else (0.0,)
    head = [*compiled(loss, labels), feature_count(loss, labels)]
    head += [kind == "sign_linear" if even is None else even] if sign else []
    head += [loss.smooth(labels) if smooth is None else smooth, *order, observe]
    if kind.endswith("general"):
        default = ZEROS if sign else np.zeros(0)
        head += [target, default if kinks is None else kinks]
    if kind == "sign_general":
        steps, levels, known = (ZEROS, LEVELS, 12.0) if target is wave else (kinks, np.array([0.0, 1.0]), 12.0)
        head += [steps, levels, known]
    out = np.empty(channels.COUNT)
    getattr(channels, kind)(*head, *(place[name] for name in ARGUMENTS), out)
    return dict(zip(channels.MOMENTS, out, strict=True))


CASES = [
    ("sign_linear", "logistic"), ("sign_linear", "hinge"), ("sign_linear", "squared_hinge"), ("residual_linear", "huber"),
    ("residual_linear", "absolute"), ("residual_linear", "square"), ("sign_general", "hinge"), ("sign_general", "logistic"),
    ("residual_general", "huber"), ("residual_general", "quantile(0.3)"),
]  # fmt: skip


@pytest.mark.parametrize("kind, name", CASES)
def test_derivatives_of_nodes(kind, name):
    """Every rule of `replica.output` against fourth-order differences; kinks included."""
    loss, h = make_loss(name), 3e-3
    base = moments(kind, loss, PLACE)
    for moment, rules in _SLOPES.items():
        if kind.startswith("residual") and moment in ("wrong", "wrong_fit", "margin"):
            continue
        for argument, rule in rules.items():
            f = [moments(kind, loss, {**PLACE, argument: PLACE[argument] + s * h})[moment] for s in (-2, -1, 1, 2)]
            numeric = (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * h)
            exact = sum(float(c) * PLACE["Psi"] ** power * base[m] for m, (c, power) in rule.items())
            assert exact == pytest.approx(numeric, abs=2e-9), (moment, argument)


@pytest.mark.parametrize("name", ["logistic", "hinge"])
def test_one_integral_is_two_integrals_for_classes(name):
    loss = make_loss(name)
    one = moments("sign_linear", loss, PLACE)
    two = moments("sign_general", loss, PLACE, target=same, kinks=np.zeros(1))
    for m in channels.MOMENTS:
        assert one[m] == pytest.approx(two[m], abs=1e-9), m


@pytest.mark.parametrize("name", ["huber", "absolute"])
def test_one_integral_is_two_integrals_for_residuals(name):
    loss = make_loss(name)
    one, two = moments("residual_linear", loss, PLACE), moments("residual_general", loss, PLACE, target=same)
    # Weights of derivatives differ by a total derivative, their sums with Psi do not: the first-order ones are compared.
    for m in ("envelope", "g", "g2", "k", "zg", "gk", "zk", "fit", "square", "residual"):
        assert one[m] == pytest.approx(two[m], abs=1e-9), m


@pytest.mark.parametrize("V, S", [(0.01, 0.1), (1.0, 1.0), (7.0, 550.0), (500.0, 0.6), (1e4, 1e4)])
@pytest.mark.parametrize("name", ["logistic", "hinge", "squared_hinge"])
def test_sharp_channels_against_adaptive_quadrature(name, V, S):
    """A large norm or width makes steps at 0 and -V that a fixed Gauss-Hermite rule walks over."""
    loss = make_loss(name)
    rule = compiled(loss, (1.0, -1.0))[0]
    s, overlap = math.sqrt(S), 0.97
    place = {"C": 0.0, "T": 0.0, "rho": 1.0, "Psi": overlap * s, "S": S, "V": V, "noise": 0.0, "flip": 0.0}
    found = moments("sign_linear", loss, place, order=gauss_legendre(9))

    def integrand(xi):
        label = ndtr(overlap * xi / math.sqrt(1 - overlap**2))
        g = rule(1.0, s * xi, V, math.nan)[1]
        return 2 * label * g**2 * math.exp(-xi * xi / 2) / math.sqrt(2 * math.pi)

    edges = np.unique(np.clip(np.concatenate([
        np.array([0.0, 1.0, -V, 1 - V, 1 - 2 * V]) / s, np.geomspace(1e-4, 9, 25), -np.geomspace(1e-4, 9, 25),
        (np.array([0.0, 1.0, -V, 1 - V])[:, None] / s + np.array([-9, -3, -1, 1, 3, 9]) / s).ravel(),
    ]), -9, 9))  # fmt: skip
    exact = sum(quad(integrand, a, b, epsabs=0, epsrel=1e-12)[0] for a, b in pairwise(edges))
    assert found["g2"] == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("name", ["logistic", "hinge"])
def test_a_reflected_label_gives_the_same(name):
    place = {**PLACE, "C": 0.0, "T": 0.0}
    one, both = (moments("sign_linear", make_loss(name), place, even=even) for even in (True, False))
    for m in channels.MOMENTS:
        assert one[m] == pytest.approx(both[m], abs=1e-12), m


def test_what_means_nothing_is_nan():
    loss = make_loss("hinge")
    for bad in ({"S": -1.0}, {"S": 0.1}, {"V": 0.0}, {"C": math.nan}):
        assert all(math.isnan(x) for x in moments("sign_linear", loss, {**PLACE, **bad}).values())


@pytest.mark.parametrize("name", ["logistic", "exp(-y*z)", "sqrt(1 + (y-z)**2)", "square"])
@pytest.mark.parametrize("S, V, overlap", [(0.02, 0.01, 0.3), (1.0, 1.0, 0.5), (6.0, 30.0, 0.9), (300.0, 5.0, 0.97)])
def test_equidistant_nodes_and_panels_agree_for_smooth_losses(name, S, V, overlap):
    """Also the probabilities of wrong signs, closed on one side and counted on the other."""
    loss, s = make_loss(name), math.sqrt(S)
    place = {"C": 0.3 * s, "T": 0.2, "rho": 0.8, "Psi": overlap * s, "S": S, "V": V, "noise": 0.1, "flip": 0.02}
    if name.startswith("exp") and S > 10:
        pytest.skip("exp(-w) has its mean beyond the cut")
    even, panels = (moments("sign_linear", loss, place, smooth=k, order=gauss_legendre(27)) for k in (None, 0.0))
    for m in channels.MOMENTS:
        size = max(abs(panels[n]) for n in channels.MOMENTS if n.startswith(m[:2]))
        assert even[m] == pytest.approx(panels[m], abs=1e-10 * max(size, 1)), m


@pytest.mark.parametrize("name", ["logistic", "hinge"])
def test_signs_of_any_target_without_noise_are_closed(name):
    """The law of the label given the prediction, as a sum over sign changes against an integral."""
    loss, place = make_loss(name), {**PLACE, "noise": 0.0}
    labels = (1.0, -1.0)
    closed = moments("sign_general", loss, place)
    out = np.empty(channels.COUNT)
    channels.sign_general(
        *compiled(loss, labels), feature_count(loss, labels), False, loss.smooth(labels), *ORDER, True, wave, ZEROS, ZEROS,
        LEVELS, 0.0, *(place[n] for n in ARGUMENTS), out,
    )  # fmt: skip
    for m, integrated in zip(channels.MOMENTS, out, strict=True):
        assert closed[m] == pytest.approx(integrated, abs=1e-10), m
