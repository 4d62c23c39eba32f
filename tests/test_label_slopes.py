"""Derivatives of channel averages in what moves the label: against differences of the channels, in all ways over the fields."""

import math
from functools import cache

import numpy as np
import pytest
import sympy as sp
from numba import njit
from test_channels import ORDER, PLACE, ZEROS, moments, wave
from test_losses import compiled

from replica.activations import make_activation
from replica.loss_kernel import at_zero_text, feature_count
from replica.losses import make_loss
from replica.output import ARGUMENTS, LABEL, OutputChannel, channel, label_change
from solvers import channels, label_slopes

#: All ways over the fields; smooth losses, kinked ones, and one that bends where the sign of a fit changes.
ALL = [
    ("sign_linear", "logistic"), ("sign_linear", "hinge"), ("sign_linear", "max(0, -y*z)"), ("sign_general", "hinge"),
    ("sign_general", "max(0, -y*z)"), ("residual_linear", "huber"), ("residual_general", "quantile(0.3)"),
]  # fmt: skip


@cache
def at_zero(name):
    namespace = {"njit": njit, "math": math}
    exec(at_zero_text(make_loss(name), (1.0, -1.0)), namespace)  # text of our own making
    return namespace["_loss_at_zero"]


def slopes(kind, name, place, direction, moved=1.0):
    loss = make_loss(name)
    labels = (1.0, -1.0) if kind.startswith("sign") else (0.0,)
    zero = at_zero(name) if kind.startswith("sign") else at_zero("hinge")
    head = [*compiled(loss, labels), zero, feature_count(loss, labels), *ORDER, label_slopes.DIRECTIONS[direction], moved]
    if kind.endswith("general"):
        head += [wave, ZEROS if kind.startswith("sign") else np.zeros(0)]
    out = np.empty(len(label_slopes.SLOPES))
    getattr(label_slopes, f"{kind}_slope")(*head, *(place[a] for a in ARGUMENTS), out)
    return dict(zip(label_slopes.SLOPES, out, strict=True))


def differences(kind, name, argument, h=3e-3):
    """Fourth order, in the moments of the channel."""
    loss = make_loss(name)
    f = [moments(kind, loss, {**PLACE, argument: PLACE[argument] + s * h}) for s in (-2, -1, 1, 2)]
    return {m: (f[0][m] - 8 * f[1][m] + 8 * f[2][m] - f[3][m]) / (12 * h) for m in channels.MOMENTS}


def exact(kind, name, moment, argument, base):
    """What `label_change` says, evaluated with the moments at hand."""
    sign, linear = kind.startswith("sign"), kind.endswith("linear")
    output = OutputChannel(make_loss(name), make_activation("identity" if linear else "sin(2*z) + 0.2"), sign)
    symbols = sp.symbols(" ".join(ARGUMENTS), real=True)
    change = label_change(channel(moment)(*symbols), argument, sp.S.One, output)
    found = {}
    for node in change.atoms(sp.Function):
        is_slope = hasattr(type(node), "direction")
        found[node] = sp.Float(slopes(kind, name, PLACE, argument)[node.moment] if is_slope else base[node.moment])
    return float(change.xreplace(found).subs({s: PLACE[a] for s, a in zip(symbols, ARGUMENTS, strict=True)}))


@pytest.mark.parametrize("kind, name", ALL)
def test_moving_the_label(kind, name):
    """Every moment that equations and observables are made of; jumps of label and prediction included."""
    base = moments(kind, make_loss(name), PLACE)
    for argument in LABEL if kind.startswith("sign") else LABEL[:3]:
        numeric = differences(kind, name, argument)
        for moment in (*label_slopes.SLOPES, "fit"):
            if kind.startswith("residual") and moment in ("wrong", "wrong_fit", "margin"):
                continue
            found = exact(kind, name, moment, argument, base)
            # h^4 of the difference formula; the sharpest law of a label here has width 0.5.
            assert found == pytest.approx(numeric[moment], abs=2e-8), (moment, argument)


@pytest.mark.parametrize("kind, name", [case for case in ALL if case[0].startswith("sign")])
def test_wrong_fits_move_with_the_response(kind, name):
    numeric = differences(kind, name, "V")["wrong_fit"]
    assert slopes(kind, name, PLACE, "V")["wrong_fit"] == pytest.approx(numeric, abs=2e-8)


def test_sharp_labels_have_a_derivative_in_the_noise_that_comes():
    """At noise = 0 from above; second order is all that one side gives to 1e-7."""
    place, h = {**PLACE, "noise": 0.0}, 1e-4
    f = [moments("sign_linear", make_loss("hinge"), {**place, "noise": k * h})["g"] for k in range(4)]
    numeric = (-11 * f[0] + 18 * f[1] - 9 * f[2] + 2 * f[3]) / (6 * h)
    assert slopes("sign_linear", "hinge", place, "noise")["g"] == pytest.approx(numeric, abs=1e-7)
    assert math.isnan(slopes("sign_general", "hinge", place, "noise")["g"])


def test_without_a_field_only_what_moves_it_is_undefined():
    """At rho = 0 the label is that of T: flips and noise move it smoothly, and nothing moved is nothing."""
    place = {**PLACE, "rho": 0.0}
    for kind in ("sign_linear", "sign_general"):
        assert all(math.isfinite(x) for d in ("noise", "flip") for x in slopes(kind, "hinge", place, d).values())
    assert math.isnan(slopes("sign_general", "hinge", place, "T")["g"])
    assert set(slopes("sign_general", "hinge", place, "T", moved=0.0).values()) == {0.0}


def test_changes_are_linear_in_the_move():
    one, three = (slopes("residual_general", "huber", PLACE, "T", moved) for moved in (1.0, 3.0))
    for m in label_slopes.SLOPES:
        assert three[m] == pytest.approx(3 * one[m], rel=1e-13, abs=1e-15)
