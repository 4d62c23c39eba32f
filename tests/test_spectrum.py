"""Spectrum of the features: sum rules, the ridge solver, and simulated eigenvalues."""

import json

import numpy as np
import pytest
from by_hand import ByHand
from click.testing import CliRunner

from replica.cli import cli
from replica.models import SpikedRandomFeatures
from replica.spectrum import _Resolvent, spectrum
from solvers import ParameterError, solve

CASES = [
    ({}, {"alpha": 2.0, "alpha0": 4.0, "eta": 2.0}),
    ({"activation": "relu"}, {"alpha": 1.5, "beta": 1.5, "alpha0": 10.0, "eta": 1.0}),
    ({"activation": "erf"}, {"alpha": 1.0, "beta": 2.0, "alpha0": 0.0, "eta": 1.0}),
]

MORE = [
    pytest.param({"groups": 2, "activation": "tanh"}, {"alpha": 2.0, "alpha0": 4.0, "eta": 2.0, "u_0": 0.5, "u_1": 1.5,
                                                      "share_0": 2.0}, marks=pytest.mark.slow),
    pytest.param({"bulk": "exact", "activation": "relu"}, {"alpha": 1.5, "beta": 1.5, "alpha0": 2.0, "eta": 1.0},
                 marks=pytest.mark.slow),
    ({"labels": "sign", "loss": "hinge"}, {"alpha": 2.0, "alpha0": 4.0, "eta": 2.0, "noise": 0.1}),
]


@pytest.mark.parametrize("options, point", MORE, ids=lambda x: str(x)[:30])
def test_groups_and_every_bulk(options, point):
    """Sum rules, and ridge regression on the negative axis, whose labels the responses do not see."""
    model = SpikedRandomFeatures(**options)
    nodes = 40 if model.exact else 144  # averages over label noise as well: a hundred times the work
    found, r = spectrum(model, points=150, nodes=nodes, **point), _Resolvent(model, point, nodes)
    assert found.mass == pytest.approx(1, abs=1e-6 if model.exact else 1e-8)
    assert found.mean == pytest.approx(r.scale, rel=1e-6 if model.exact else 1e-8)
    assert len(found.mean_outliers) == options.get("groups", 1)
    v = r.start(np.array([-1e3 + 0j]))
    for x in np.geomspace(1e3, 0.5, 20):
        v = r.newton(np.array([-x + 0j]), v, 100)
    ridge = SpikedRandomFeatures(**{**options, "loss": "square", "labels": "real", "target": "sin"})
    if "labels" not in options:  # the step of sign labels is another one
        s = solve(ridge, reg=0.5, throw=True, **point)
        assert r.density(1j * v)[0] * np.pi == pytest.approx(np.sum(s["V2"]), rel=1e-6 if model.exact else 1e-9)


@pytest.mark.parametrize("options, point", CASES)
def test_sum_rules(options, point):
    model = SpikedRandomFeatures(**options)
    found, r = spectrum(model, points=200, **point), _Resolvent(model, point, 144)
    assert found.mass == pytest.approx(1, abs=1e-9)
    assert found.mean == pytest.approx(r.delta * float(r.share @ ((r.c[:, None] * r.mu1sq + r.mu2sq) @ r.weight)), rel=1e-9)
    assert (found.density > 0).all()
    assert found.atom == max(0, 1 - r.delta)
    assert found.residual < 1e-12
    assert not found.spike_outliers


@pytest.mark.parametrize("reg", [0.01, 1.0])
def test_on_the_negative_axis_it_is_ridge_regression(reg):
    options, point = CASES[1]
    model = SpikedRandomFeatures(**options)
    r, v = _Resolvent(model, point, 144), np.ones((2, 1), dtype=complex)
    for x in np.geomspace(10, reg, 12):  # another solution lies near a cold start
        v = r.newton(np.array([-x + 0j]), v, 100)
    s = solve(model, reg=reg, throw=True, **point)
    assert v[0, 0] == pytest.approx(s["V1"], rel=1e-9)
    assert v[1, 0] == pytest.approx(s["V2"], rel=1e-9)


@pytest.mark.parametrize("options, point", CASES)
def test_simulated_eigenvalues_have_this_density(options, point):
    """L1 distance below 5 % at d = 700, the extensive outlier of the mean apart."""
    model, d, rng = SpikedRandomFeatures(**options), 700, np.random.default_rng(4)
    found, r = spectrum(model, points=400, **point), _Resolvent(model, point, 144)
    p, n = round(r.parameters["beta"] * d), round(r.parameters["alpha"] * d)
    rows = rng.standard_normal((p, d))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    spike = np.zeros(d)
    definitions = ByHand.at(model.compile(), reg=1.0, **point).definitions(model)
    spike[0] = definitions["r"]
    rows = np.sqrt(r.c[0]) * rows + spike
    features = model.choices["activation"].numeric()(rng.standard_normal((n, d)) @ rows.T)
    eigenvalues = np.sort(np.linalg.svd(features, compute_uv=False) ** 2 / p)
    assert eigenvalues[-1] / p == pytest.approx(found.mean_outliers[0], rel=0.1, abs=0.02)
    bulk = eigenvalues[eigenvalues < 1.2 * found.edges[-1][1]]
    bins = np.linspace(max(found.edges[0][0], 0.02), found.edges[-1][1], 21)
    heights = np.histogram(bulk, bins)[0] / p
    cumulative = np.interp(bins, found.x, np.concatenate([[0], np.cumsum(
        0.5 * (found.density[1:] + found.density[:-1]) * np.diff(found.x))]))  # fmt: skip
    assert np.abs(heights - np.diff(cumulative)).sum() < 0.05 * np.diff(cumulative).sum()


def test_the_command(tmp_path):
    output = tmp_path / "density.png"
    arguments = ["spectrum", "alpha=2", "alpha0=4", "eta=2", "--points", "60", "--json", "--output", str(output)]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert abs(json.loads(done.output)["mass"] - 1) < 1e-6
    assert output.stat().st_size > 5000


def test_bad_input_is_named():
    with pytest.raises(ParameterError, match="points = 3"):
        spectrum(points=3, alpha=1.0, alpha0=1.0, eta=1.0)
    with pytest.raises(ParameterError, match="alpha = -1"):
        spectrum(alpha=-1.0, alpha0=1.0, eta=1.0)
