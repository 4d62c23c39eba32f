"""Exact derivatives against fourth-order central differences; optima against what is known."""

import itertools
import json

import numpy as np
import pytest
from click.testing import CliRunner

from replica.cli import cli
from replica.models import GeneralisedLinear, LineNetwork, RidgeRegression, SpikedRandomFeatures
from replica.optimise import Optimiser, optimise
from replica.sensitivity import Differentiable, sensitivity
from solvers import Newton, ParameterError, solve

SRF = {"alpha": 1.5, "reg": 0.1, "noise": 0.2, "eta": 2.0, "beta": 1.2, "alpha0": 4.0}
GLM = {"alpha": 1.5, "reg": 0.1, "noise": 0.2, "rho": 1.3}
CASES = [
    (RidgeRegression(target="tanh"), {"alpha": 1.5, "reg": 0.1, "noise": 0.2, "rho": 1.3}),
    (SpikedRandomFeatures(), SRF),
    (SpikedRandomFeatures(activation="relu", target="sign", bulk="coupled"), SRF),
    (SpikedRandomFeatures(activation="softplus", target="he2", mean_mode="finite"), {**SRF, "width": 300.0}),
    (GeneralisedLinear(loss="logistic", labels="sign"), {**GLM, "flip": 0.05}),
    (GeneralisedLinear(loss="hinge", labels="sign"), {**GLM, "flip": 0.05}),
    (GeneralisedLinear(loss="huber(0.5)"), GLM),
    pytest.param(SpikedRandomFeatures(loss="huber(0.5)", target="identity"), SRF, marks=pytest.mark.slow),
]
SLOW = [
    (GeneralisedLinear(loss="huber(0.5)", target="tanh"), GLM),
    (SpikedRandomFeatures(bulk="exact"), {"alpha": 1.5, "reg": 0.1, "noise": 0.2, "eta": 2.0, "alpha0": 4.0}),
    (SpikedRandomFeatures(loss="logistic", labels="sign", target="identity"), {**SRF, "flip": 0.05}),
    (SpikedRandomFeatures(loss="hinge", labels="sign", target="identity", activation="relu"), {**SRF, "flip": 0.05}),
    (GeneralisedLinear(loss="hinge", labels="sign", target="sin(2*z) + 0.2"), {**GLM, "flip": 0.05}),
    (SpikedRandomFeatures(groups="2", activation="softplus"), {**SRF, "u_0": 1.0, "u_1": -0.5, "share_0": 1.0, "share_1": 0.7}),
]


@pytest.mark.parametrize("model, point", [*CASES, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)],
                         ids=lambda x: "-".join(x.options.values()) if hasattr(x, "options") else "")  # fmt: skip
def test_derivatives_are_those_of_the_solution(model, point):
    smooth = Differentiable(model, tuple(point))
    found = smooth(**point)
    assert found.error < 1e-9
    assert set(found.derivatives) == set(smooth.problem.values.names)
    for name in point:
        h = 1e-3 * point[name]
        f = [solve(smooth.problem, method=Newton(rtol=1e-13), **{**point, name: point[name] + k * h}) for k in (-2, -1, 1, 2)]
        for value, slopes in found.derivatives.items():
            g = [np.asarray(s[value]) for s in f]
            numeric = (g[0] - 8 * g[1] + 8 * g[2] - g[3]) / (12 * h)
            noise = 1e-8 * (1 + np.abs(g[0]) / abs(point[name]))
            assert np.shape(slopes[name]) == g[0].shape
            np.testing.assert_allclose(slopes[name], numeric, rtol=1e-6, atol=noise.max(), err_msg=f"{name} {value}")


def test_groups_obey_the_scalings_of_the_model():
    """Readouts twice as large are a rate twice as large, shares count relative to each other, equal groups are one group."""
    readouts = {"u_0": 1.0, "u_1": -0.5, "share_0": 1.0, "share_1": 0.7}
    smooth = Differentiable(SpikedRandomFeatures(groups="2"), ("eta", "reg", *readouts))
    slopes = smooth(**SRF, **readouts).derivatives
    assert slopes["V1"]["reg"].shape == (2, 2)
    for name in ("test_error", "train_error", "psi", "V2"):  # psi and V2: one entry per group
        d = slopes[name]
        along = sum(readouts[f"u_{k}"] * d[f"u_{k}"] for k in range(2))  # tanh is odd: its residuals do not depend on the readout
        np.testing.assert_allclose(along, SRF["eta"] * d["eta"], rtol=1e-8, atol=1e-12)
    d = slopes["test_error"]
    assert d["share_0"] * 1.0 + d["share_1"] * 0.7 == pytest.approx(0, abs=1e-10)
    equal = smooth(**SRF, u_0=1.0, u_1=1.0, share_0=1.0, share_1=0.7).derivatives["test_error"]
    one = Differentiable(SpikedRandomFeatures(), tuple(SRF))(**SRF).derivatives["test_error"]
    assert equal["eta"] == pytest.approx(one["eta"], rel=1e-8)
    assert equal["reg"] == pytest.approx(one["reg"], rel=1e-8)


@pytest.mark.slow
def test_the_exact_bulk():
    """In the rate by central differences; in the noise at 0 from above, where its root has no derivative."""
    smooth = Differentiable(SpikedRandomFeatures(bulk="exact"), ("noise", "eta"))
    point, h = {**SRF, "noise": 0.0}, 2e-3
    f = [solve(smooth.problem, method=Newton(rtol=1e-13), **{**point, "eta": SRF["eta"] + k * h}) for k in (-2, -1, 1, 2)]
    for name in ("test_error", "V1", "G12", "R2_hat", "nu"):
        numeric = (f[0][name] - 8 * f[1][name] + 8 * f[2][name] - f[3][name]) / (12 * h)
        assert smooth(**point).derivatives[name]["eta"] == pytest.approx(numeric, rel=1e-6)
    h = 2e-5
    f = [solve(smooth.problem, method=Newton(rtol=1e-13), **{**point, "noise": k * h})["test_error"] for k in range(4)]
    numeric = (-11 * f[0] + 18 * f[1] - 9 * f[2] + 2 * f[3]) / (6 * h)
    assert smooth(**point).derivatives["test_error"]["noise"] == pytest.approx(numeric, rel=1e-6)


def test_label_noise_of_a_probit_is_a_longer_teacher():
    """sign(t + sqrt(noise) xi) depends on noise/rho only, but for the scale of m: an identity between two derivatives."""
    slopes = sensitivity(GeneralisedLinear(loss="hinge", labels="sign"), (*GLM, "flip"), **GLM).derivatives
    for name in ("test_error", "train_loss", "zero_one", "train_zero_one", "margin", "q", "V"):
        d = slopes[name]
        assert GLM["noise"] * d["noise"] + GLM["rho"] * d["rho"] == pytest.approx(0, abs=1e-9), name


def test_every_limit_of_the_step_has_derivatives_in_the_rest():
    smooth = Differentiable(SpikedRandomFeatures(), ("reg", "alpha", "eta"))
    for alpha0 in (0.0, np.inf):
        slopes = smooth(**{**SRF, "alpha0": alpha0}).derivatives["test_error"]
        assert np.isfinite(list(slopes.values())).all()
        assert (slopes["eta"] == 0) == (alpha0 == 0)
    with pytest.raises(ParameterError, match="no derivative in eta at 0: definitions jump"):
        smooth(**{**SRF, "eta": 0.0})  # the spike has a direction at any rate but this one


@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_the_first_bit_of_penalty(alpha):
    """At reg = 0, on both sides of interpolation, against one-sided differences."""
    smooth = Differentiable(RidgeRegression(), ("reg", "alpha"))
    found, h = smooth(alpha=alpha, reg=0.0, noise=0.3), 1e-5
    f = [solve(smooth.problem, alpha=alpha, reg=k * h, noise=0.3)["test_error"] for k in range(4)]
    slope = (-11 * f[0] + 18 * f[1] - 9 * f[2] + 2 * f[3]) / (6 * h)
    assert found.derivatives["test_error"]["reg"] == pytest.approx(slope, rel=1e-6)
    exact = -1 + 0.3 / (1 - alpha) ** 2 if alpha < 1 else -0.3 / (alpha - 1) ** 2
    assert found.derivatives["test_error"]["alpha"] == pytest.approx(exact, rel=1e-10)


def test_what_cannot_be_differentiated_is_named():
    with pytest.raises(ParameterError, match="unknown parameter 'lambda'"):
        sensitivity(RidgeRegression(), ("lambda",), alpha=1, reg=1)
    with pytest.raises(ParameterError, match="no derivative in alpha0 at inf"):
        sensitivity(SpikedRandomFeatures(), ("alpha0",), **{**SRF, "alpha0": np.inf})
    with pytest.raises(ParameterError, match="no derivative in noise at 0, a case of its own"):
        sensitivity(SpikedRandomFeatures(labels="sign", target="identity"), ("noise",), **{**SRF, "noise": 0.0})


@pytest.mark.slow
def test_noise_that_comes_to_a_sharp_label_needs_the_slope_of_the_target():
    with pytest.raises(ParameterError, match="in noise at 0"):
        sensitivity(GeneralisedLinear(loss="hinge", labels="sign", target="sin"), ("noise",), alpha=1, reg=1)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("noise, rho", [(0.3, 1.0), (0.05, 2.0)])
def test_the_best_penalty_of_ridge_is_the_bayesian_one(alpha, noise, rho):
    """Prior variance rho, noise variance noise: reg = noise/rho."""
    best = optimise(RidgeRegression(), ["reg"], alpha=alpha, noise=noise, rho=rho)
    assert best.status == "interior"
    assert best.parameters["reg"] == pytest.approx(noise / rho, rel=1e-8)


def test_an_optimum_in_two_parameters_is_not_beaten_nearby():
    best = Optimiser(SpikedRandomFeatures(), ["reg", "eta"], bounds={"eta": (0.01, 20)})(alpha=2.0, alpha0=4.0, noise=0.2)
    assert best.status == "interior"
    assert max(abs(x) for x in best.gradient.values()) < 1e-9
    rng, problem = np.random.default_rng(1), SpikedRandomFeatures().compile()
    for _ in range(200):
        near = {k: v * np.exp(rng.normal(0, 0.3)) for k, v in best.parameters.items()}
        other = solve(problem, alpha=2.0, alpha0=4.0, noise=0.2, **near)
        assert other["test_error"] >= best.value - 1e-12


def test_an_end_of_the_range_is_said_to_be_one():
    """Without noise less penalty is better, down to the end."""
    best = optimise(RidgeRegression(), ["reg"], alpha=2.0, noise=0.0)
    assert best.status == "at the lower end of reg"


def test_the_command_prints_a_curve_and_keeps_files(tmp_path):
    output = tmp_path / "best.csv"
    run = ["optimise", "ridge", "--over", "reg", "alpha=0.5:2:4", "noise=0.3", "--json", "--output", str(output)]
    done = CliRunner().invoke(cli, run, catch_exceptions=False)
    assert done.exit_code == 0
    optima = json.loads(done.output)["optima"]
    assert [row["alpha"] for row in optima] == [0.5, 1.0, 1.5, 2.0]
    assert all(row["reg"] == pytest.approx(0.3, rel=1e-8) for row in optima)
    assert len(output.read_text().splitlines()) == 5
    assert "exists" in CliRunner().invoke(cli, run).output


BAD = [
    (["--over", "reg", "reg=1", "alpha=1"], "reg is optimised"), (["--over", "reg,reg", "alpha=1"], "different parameters"),
    (["--over", "gamma", "alpha=1"], "unknown parameter 'gamma'"),
    (["--over", "reg", "--minimise", "loss", "alpha=1"], "one of V"),
    (["--over", "reg", "--range", "reg=2:1", "alpha=1"], "must be positive"),
    (["--over", "reg", "alpha=1:2"], "first:last:count"),
    (["--over", "reg", "--range", "alpha=1:2", "alpha=1"], "not optimised"), (["--over", "reg", "alpha=-1"], "alpha = -1"),
]  # fmt: skip


@pytest.mark.parametrize("arguments, message", BAD)
def test_bad_requests_are_named(arguments, message):
    done = CliRunner().invoke(cli, ["optimise", "ridge", *arguments])
    assert done.exit_code != 0
    assert message in str(done.exception) + done.output
    assert isinstance(done.exception, ValueError | SystemExit)


def test_models_in_time_are_refused():
    with pytest.raises(ValueError, match="moves in time"):
        optimise(LineNetwork(), ["eta_u"], "loss", time=1.0)


def test_the_same_bits_twice():
    smooth = Differentiable(RidgeRegression(), ("reg",))
    first, second = (smooth(alpha=1.2, reg=0.4).derivatives for _ in range(2))
    for a, b in itertools.zip_longest(first.values(), second.values()):
        assert a == b
