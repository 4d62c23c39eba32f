"""Plateaux: textbook values, conditional variances by quadrature, and regression on the functions a readout can reach."""

import itertools
import json
import math

import numpy as np
import pytest
import sympy as sp
from catalogue import CATALOGUE, conditional, grid_values, rotated, rotation
from click.testing import CliRunner

from replica.cli import cli
from replica.plateaux import PlateauError, plateaux
from replica.staircase import staircase
from replica.targets import grid, half_line_rule, make_target

POLYNOMIALS = [text for text in CATALOGUE if not any(name in text for name in ("sign", "abs", "relu"))]
half = sp.Rational(1, 2)


def of(text, activation=None, **options):
    return plateaux(staircase(text, activation), **options)


def test_examples_of_the_theory():
    assert of("z1 + z1*z2").exact == ((2, 1, 0), (1, 0, 0), (0, 0, 0))
    assert of("z1 + z2 + z1*z2").exact[1] == (half, half, 0)
    assert of("(4*z1 + z1**2 + z2)/2").exact[1] == (sp.Rational(33, 578), sp.Rational(1, 578), 0)


def test_activations_without_biases_lose_what_they_cannot_see():
    """z1 z2 z3 costs 1 for ReLU even with e1 and e2 known; with biases nothing."""
    blind = of("z1 + z1*z2 + z1*z2*z3", "relu")
    assert blind.dims == (0, 1, 2) and blind.exact[-1] == (1, 1, 1, 1)
    seeing = plateaux(staircase("z1 + z1*z2 + z1*z2*z3", "relu", bias=True))
    assert seeing.exact[2] == (1, 0, 0, 0) and seeing.exact[3] == (0, 0, 0, 0)
    assert of("1 + z1", "erf").exact[-1] == (1, 1)  # the mean too: an odd network has none


def variance_by_quadrature(target, basis, kappa, nodes=8):
    """E g^2 - sum_k E||E[He_k(z_perp) g | z_U]||^2/k!, point by point in z_U."""
    x, w = half_line_rule(nodes)
    m = len(basis)
    if m:
        q = np.linalg.qr(np.array(basis, dtype=float).T, mode="complete")[0].T
    else:
        q = np.eye(target.r)
    values = grid_values(target, q, x)
    weight = np.ones(())
    for _ in range(m):
        weight = np.multiply.outer(weight, w)
    total = float(conditional(values**2, x, w, 0, (0,) * target.r))
    for nu in itertools.product(range(kappa + 1), repeat=target.r - m):
        if sum(nu) <= kappa:
            part = conditional(values, x, w, m, nu)
            total -= float(np.sum(weight * part**2)) / math.prod(map(math.factorial, nu))
    return total


@pytest.mark.parametrize("text", POLYNOMIALS)
def test_polynomials_are_the_conditional_variances(text):
    found = staircase(text)
    errors = plateaux(found, range(4))
    assert errors.exact is not None and not errors.remainder.any()
    scale = float(found.target.second_moment())
    for i in range(len(errors.dims)):
        for kappa in range(4):
            reference = variance_by_quadrature(found.target, found.basis(i), kappa)
            assert errors.values[i, kappa] == pytest.approx(reference, abs=1e-12 * scale)


@pytest.mark.parametrize("text", ["z1 + z1*z2 + z1*z2*z3", "(4*z1 + z1**2 + z2)/2", "z1 + z2 + z1*z2", "z1**2*z2 + z1"])
def test_plateaux_do_not_depend_on_the_axes(text):
    matrix = rotation(make_target(text).r, 1)
    assert plateaux(staircase(rotated(text, matrix))).exact == of(text).exact


def test_stairway_goes_down():
    for text in POLYNOMIALS:
        values = of(text).values
        assert (np.diff(values, axis=0) <= 0).all() and (np.diff(values, axis=1) <= 0).all() and (values >= 0).all()


def test_noise_adds():
    assert of("z1 + z1*z2", noise=0.1).exact[0] == (sp.Rational(21, 10), sp.Rational(11, 10), sp.Rational(1, 10))
    assert of("tanh(z1)*z2", noise=0.5).values[-1, 0] == 0.5


def test_remainder_covers_what_the_order_leaves_out():
    """sign(z1) + z1 z2 learned along e1: R_0 = 1 whatever the order; truncation may only add."""
    for order in (3, 5, 8):
        errors = plateaux(staircase("sign(z1) + z1*z2", order=order))
        assert errors.exact is None and errors.dims == (0, 1, 2)
        assert errors.values[1, 0] - errors.remainder[1, 0] <= 1 <= errors.values[1, 0] + 1e-12
        assert not errors.remainder[0].any() and errors.values[0, 0] == pytest.approx(2, rel=1e-14)
        assert errors.values[2].max() == 0 == errors.remainder[2].max()  # all is known: g is a function of z_U
    floats = plateaux(staircase(make_target(lambda z: z[:, 0] + z[:, 0] * z[:, 1], r=2)))
    np.testing.assert_allclose(floats.values[:, :2], [[2, 1], [1, 0], [0, 0]], atol=floats.error)


@pytest.mark.parametrize("text, stage, kappa", [("z1 + z1*z2", 1, 0), ("z1 + z2 + z1*z2", 1, 1), ("z1 + z1*z2", 0, 1)])
def test_regression_on_reachable_functions_stops_at_the_plateau(text, stage, kappa):
    """Least squares on monomials of z_U (degree 6) times monomials of degree kappa in the rest, on the Gaussian grid."""
    found = staircase(text)
    target = found.target
    q = np.linalg.qr(np.array(found.basis(stage), dtype=float).reshape(stage, 2).T, mode="complete")[0].T if stage else np.eye(2)
    points, weights = grid(2, 10)
    t = points @ q.T
    exponents = [e for e in itertools.product(range(7), repeat=2) if sum(e[stage:]) <= kappa and sum(e) <= 6]
    design = np.stack([t[:, 0] ** a * t[:, 1] ** b for a, b in exponents], axis=1) * np.sqrt(weights)[:, None]
    residual = np.linalg.lstsq(design, target.numeric(points) * np.sqrt(weights), rcond=None)[0]
    error = float(np.sum((target.numeric(points) * np.sqrt(weights) - design @ residual) ** 2))
    assert error == pytest.approx(plateaux(found).values[stage, kappa], abs=1e-10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise": -1.0}, r"noise = -1.0 is outside its range \[0, inf\)"),
        ({"noise": math.nan}, "noise = nan"),
        ({"degrees": [-1]}, r"degrees = \[-1\] are not whole numbers"),
        ({"degrees": []}, r"degrees = \[\]"),
        ({"degrees": [0.5]}, r"degrees = \[0.5\]"),
    ],
)
def test_bad_input_is_one_line(options, message):
    with pytest.raises(PlateauError, match=message):
        of("z1", **options)


def test_command_shows_the_stairway():
    run = CliRunner().invoke(cli, ["staircase", "(4*z1+z1**2+z2)/2"])
    assert "33/578" in run.output
    out = json.loads(CliRunner().invoke(cli, ["staircase", "z1*z2*z3", "--activation", "relu", "--json"]).output)
    assert out["network"]["plateaux"]["values"] == [[1, 1, 1, 1]] and out["plateaux"]["values"][-1] == [0, 0, 0, 0]
    rough = CliRunner().invoke(cli, ["staircase", "sign(z1) + z1*z2"])
    assert "<=" in rough.output
