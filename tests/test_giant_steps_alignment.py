"""Alignment after one giant step: published formulas, closed laws, identities between observables, and refusals."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import sympy as sp
from click.testing import CliRunner
from scipy.special import erfc, exp1

from replica.cli import cli
from replica.giant_steps.alignment import Readout, align
from replica.giant_steps.law import NeuronLaw, radial_rule
from replica.giant_steps.moments import GiantStepError, formula, lowest_order, step_moments
from replica.giant_steps.problem import alignment, reuse
from replica.model import OptionError
from replica.models import GiantLeap, GiantStep
from replica.results import open_results
from replica.targets import make_target
from replica.validation import compare
from solvers import Grid, ParameterError, Scan, solve, solve_trajectory

ALPHA, DELTA = sp.symbols("alpha Delta", positive=True)
NOTEBOOK = "(4*z1 + z1**2 + z2)/2"
ERF = "erf(z/sqrt(2))"

PUBLISHED = [
    ("z1+z1*z2", "relu", ALPHA / (ALPHA + 4 + 2 * DELTA)),
    ("z1+z1*z2", ERF, 3 * ALPHA / (3 * ALPHA + 4 * sp.sqrt(3) + 2 * sp.sqrt(3) * DELTA)),
    (NOTEBOOK, "relu", 17 * sp.pi * ALPHA / ((17 * sp.pi + 2) * ALPHA + 40 * sp.pi + 8 * sp.pi * DELTA)),
]


@pytest.mark.parametrize("target, activation, expected", PUBLISHED)
def test_formulas_are_the_known_ones_exactly(target, activation, expected):
    assert sp.simplify(formula(target, activation) - expected) == 0


EXACT = [*((t, a) for t, a, _ in PUBLISHED), ("z1 - z2 + he3(z1)", "abs(z+1)"), ("z1", "erf")]


@pytest.mark.parametrize("target, activation", EXACT)
def test_numbers_agree_with_the_formula(target, activation):
    exact = formula(target, activation).subs({ALPHA: sp.Rational(17, 10), DELTA: sp.Rational(3, 10)})
    assert alignment(target, activation, alpha=1.7, noise=0.3).cos2 == pytest.approx(float(exact), rel=1e-13)


def test_without_exact_numbers_there_is_no_formula():
    assert formula("z1", "tanh") is None


@pytest.mark.parametrize("target, activation, alpha, noise", [("z1+z1*z2", "relu", 2, 0.1), (NOTEBOOK, "tanh(z+0.3)", 0.7, 0)])
def test_one_neuron_is_its_own_singular_vector_and_many_align_better(target, activation, alpha, noise):
    one = alignment(target, activation, alpha=alpha, noise=noise, width=1)
    assert one.top == pytest.approx(one.cos2, rel=1e-12)
    many = [alignment(target, activation, alpha=alpha, noise=noise, width=p).top for p in (1, 10, 100, math.inf)]
    assert np.all(np.diff(many) > 0)


def test_long_steps_are_the_gradient_and_short_ones_the_old_weight():
    gradient = alignment(NOTEBOOK, "relu", alpha=2.0)
    assert alignment(NOTEBOOK, "relu", alpha=2.0, step=1e9).cos2 == pytest.approx(gradient.cos2, rel=1e-8)
    assert alignment(NOTEBOOK, "relu", alpha=2.0, step=1e-4).cos2 < 1e-7


def test_rotating_the_teacher_directions_rotates_the_cosines():
    rotation = np.array([[2, 2, 1], [-2, 1, 2], [1, -2, 2]]) / 3
    z = ["(2*z1+2*z2+z3)/3", "(-2*z1+z2+2*z3)/3", "(z1-2*z2+2*z3)/3"]
    plain = alignment("z1 + 2*z2 + z1*z2*z3", "relu", alpha=2.0, noise=0.1)
    turned = alignment(f"({z[0]}) + 2*({z[1]}) + ({z[0]})*({z[1]})*({z[2]})", "relu", alpha=2.0, noise=0.1)
    assert turned.cos2 == pytest.approx(plain.cos2, rel=1e-13)
    np.testing.assert_allclose(rotation @ turned.cos, plain.cos, atol=1e-14)


def test_a_constant_in_the_labels_is_undone_by_removing_their_mean():
    raw, centred = (alignment("1 + z1", "relu", alpha=2.0, removal=r) for r in ("none", "mean"))
    assert raw.cos2 < centred.cos2
    assert centred.cos2 == pytest.approx(alignment("z1", "relu", alpha=2.0).cos2, rel=1e-14)


def test_a_readout_that_is_not_symmetric_costs_alignment():
    plain = alignment("z1+z1*z2", "relu", alpha=2.0)
    spread = alignment("z1+z1*z2", "relu", alpha=2.0, readout=Readout(square=1.0))
    assert spread.cos2 < plain.cos2
    assert spread.top < plain.top
    # a mean readout that cancels C_0 helps: the labels seen by the gradient are centred
    c0 = 1 / math.sqrt(2 * math.pi)
    helped = alignment("1+z1", "relu", alpha=math.inf, readout=Readout(mean=1 / c0))
    assert helped.cos2 == pytest.approx(1.0, rel=1e-12)


# ---------------------------------------------------------------- law over neurons


def mean_of_exponential(scale, noise):
    """E[X/(X + noise)] for X exponential with this mean."""
    t = noise / scale
    return 1 - t * math.exp(t) * exp1(t)


def test_leap_2_with_two_directions_is_an_exponential_law():
    """z1 z2: |v|^2 = c_2^2 (zeta_1^2 + zeta_2^2)."""
    m = step_moments("z1*z2", "relu", 2)
    scale, noise = 2 * m.c[2] ** 2, m.slope / 3.0
    found = alignment("z1*z2", "relu", alpha=3.0)
    assert found.cos2 == pytest.approx(mean_of_exponential(scale, noise), rel=1e-11)
    x = -scale * math.log(1 - 0.25)
    assert found.quantiles[0.25] == pytest.approx(x / (x + noise), rel=1e-9)
    assert found.error < 1e-10


def test_leap_2_with_one_direction_is_the_square_of_a_gaussian():
    """He2: |v|^2 = (2 c_2)^2 zeta^2, and E[x^2/(x^2 + t)] = 1 - sqrt(pi t/2) exp(t/2) erfc(sqrt(t/2))."""
    m = step_moments("he2(z1)", "relu", 2)
    t = m.second * m.slope / 5.0 / (2 * m.c[2]) ** 2
    expected = 1 - math.sqrt(math.pi * t / 2) * math.exp(t / 2) * erfc(math.sqrt(t / 2))
    assert alignment("he2(z1)", "relu", alpha=5.0).cos2 == pytest.approx(expected, rel=1e-11)


def test_leap_2_in_four_dimensions_is_a_gamma_law_within_the_reported_error():
    """z1 z2 + z3 z4: |v|^2 = c_2^2 chi^2_4; E[X/(X + t)] for the density x exp(-x) is 1 - t + t^2 exp(t) E_1(t)."""
    m = step_moments("z1*z2 + z3*z4", "relu", 2)
    t = m.second * m.slope / 2.0 / (2 * m.c[2] ** 2)
    expected = 1 - t + t**2 * math.exp(t) * exp1(t)
    found = alignment("z1*z2 + z3*z4", "relu", alpha=2.0)
    assert abs(found.cos2 - expected) < found.error + 1e-12
    assert found.error < 1e-3


def test_leap_3_agrees_with_sampling_the_random_overlaps():
    law = NeuronLaw(np.array(make_target("z1*z2*z3").tensor(3), dtype=float), 0.7)
    zeta = np.random.default_rng(0).standard_normal((400_000, 3))
    v = 0.7 * np.stack([zeta[:, 1] * zeta[:, 2], zeta[:, 0] * zeta[:, 2], zeta[:, 0] * zeta[:, 1]], axis=1)
    size = np.sum(v**2, axis=1)
    cos2 = size / (size + 0.4)
    share, error = law.share(0.4)
    assert error < 1e-8
    assert abs(np.trace(share) - cos2.mean()) < 4 * cos2.std() / math.sqrt(len(cos2))
    for q in (0.1, 0.5, 0.9):
        assert np.mean(cos2 < law.quantile(q, 0.4)) == pytest.approx(q, abs=4 * math.sqrt(q * (1 - q) / len(cos2)))


def test_only_the_range_of_the_tensor_is_filled():
    """z1 z2 + z2 z3 = sqrt(2) z2 (z1 + z3)/sqrt(2): nothing along (1, 0, -1)."""
    share = alignment("z1*z2 + z2*z3", "relu", alpha=2.0).share
    hidden = np.array([1.0, 0.0, -1.0]) / math.sqrt(2)
    assert hidden @ share @ hidden == pytest.approx(0, abs=1e-15)
    assert np.linalg.matrix_rank(share, tol=1e-12) == 2


def test_least_squares_beats_the_moment_estimate_and_both_restore_the_second_order():
    found = {r: alignment("z1+z1*z2", "relu", alpha=2.0, leap=2, removal=r).cos2 for r in ("moments", "least-squares")}
    assert found["moments"] < found["least-squares"]
    # without a linear part the two estimators agree, and both gain on the raw labels: c_1 is projected out
    pure = [alignment("z1*z2", "relu", alpha=2.0, removal=r).cos2 for r in ("moments", "least-squares", "none")]
    assert pure[0] == pytest.approx(pure[1], rel=1e-14)
    assert pure[1] > pure[2]
    assert found["least-squares"] == pytest.approx(pure[1], rel=1e-12)


def test_without_batch_noise_all_neurons_are_inside():
    for target, leap in (("z1+z1*z2", 1), ("z1*z2", 2)):
        assert alignment(target, "erf(z+0.2)" if leap == 1 else "relu", alpha=math.inf).cos2 == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("r", [1, 2, 3, 5])
def test_radial_rule_has_the_moments_of_the_chi_law(r):
    radius, weight = radial_rule(r, 1)
    assert weight.sum() == pytest.approx(1, rel=1e-12)
    assert weight @ radius**2 == pytest.approx(r, rel=1e-12)


def test_lowest_order_is_the_leap_index():
    expected = {"z1": 1, "z1*z2": 2, "he2(z1)+z1*z2": 2, "z1*z2*z3": 3, "sign(z1*z2)": 2, "he4(z1)": 4}
    assert {t: lowest_order(make_target(t)) for t in expected} == expected


# ---------------------------------------------------------------- model, commands, refusals


def test_the_model_is_the_function_at_random_parameters():
    rng = np.random.default_rng(1)
    for target, activation in (("z1+z1*z2", "relu"), (NOTEBOOK, ERF), ("tanh(z1)+z2**2", "silu")):
        for labels, removal in (("raw", "none"), ("centred", "mean")):
            model = GiantStep(target=target, activation=activation, labels=labels).compile()
            for _ in range(3):
                step = 10 ** rng.uniform(-1, 1)
                shared = {"alpha": 10 ** rng.uniform(-1, 1), "noise": rng.uniform(), "width": 10 ** rng.uniform(0, 3), "d": 500}
                point = solve(model, time=step, **shared)
                direct = alignment(target, activation, leap=1, step=step, removal=removal, **shared)
                for name, value in (("cos2", direct.cos2), ("top_cos2", direct.top), ("norm", direct.norm)):
                    assert point[name] == pytest.approx(value, rel=1e-12), name


def test_the_model_scans_and_moves_in_steps(tmp_path):
    report = Scan(GiantStep(), Grid(alpha=[0.5, 1.0, math.inf], noise=[0.0, 0.5])).run(tmp_path / "step.h5", workers=1)
    assert set(report.counts) == {0}
    t = solve_trajectory(GiantStep(), [0.0, 1.0, math.inf], alpha=2.0)
    assert t.converged
    assert t["cos2"][0] == 0
    assert t["cos2"][2] == pytest.approx(1 / 3, rel=1e-12)


def test_a_point_without_gradient_is_not_called_converged():
    """sign has slope 0 almost everywhere: nothing moves and the direction is 0/0."""
    assert not solve(GiantStep(activation="sign"), alpha=1.0).converged
    assert math.isnan(alignment("z1", "sign", alpha=1.0).cos2)
    done = CliRunner().invoke(cli, ["alignment", "z1", "--activation", "sign", "alpha=1", "--json"])
    assert (done.exit_code, json.loads(done.output.splitlines()[0])["result"]) == (3, "NONFINITE")


def test_command_prints_formula_claim_and_regime():
    done = CliRunner().invoke(cli, ["alignment", "z1+z1*z2", "alpha=2", "noise=0.1", "--json"])
    out = json.loads(done.output)
    assert done.exit_code == 0
    assert out["cos2"] == pytest.approx(2 / 6.2, rel=1e-12)
    assert (out["claim"], out["result"], out["leap"]) == ("asymptotic", "CONVERGED", 1)
    assert sp.simplify(sp.sympify(out["formula"], locals={"alpha": ALPHA, "Delta": DELTA}) - PUBLISHED[0][2]) == 0
    curve = CliRunner().invoke(cli, ["alignment", "z1*z2", "alpha=1:3:3", "--json"])
    assert len(json.loads(curve.output)["points"]) == 3


BAD = [
    ({"alpha": -1.0}, "alpha = -1 is outside its range"),
    ({"alpha": 1.0, "noise": -0.1}, "noise = -0.1 is outside its range"),
    ({"alpha": 1.0, "step": 0.0}, "step = 0 is outside its range"),
    ({"alpha": 1.0, "d": 1.0}, "d = 1 is outside its range"),
    ({"alpha": 1.0, "removal": "all"}, "unknown removal 'all'; it is one of none, mean, moments, least-squares"),
    ({"alpha": 1.0, "leap": 2}, "remove it from the labels"),
    ({"alpha": 1.0, "probabilities": (1.5,)}, "probability 1.5 of a quantile is outside its range (0, 1)"),
    ({"alpha": 1.0, "leap": 9}, "leap = 9 is not a whole number in"),
    ({"alpha": 1.0, "leap": 1, "removal": "least-squares"}, "use leap >= 2"),
]


@pytest.mark.parametrize("options, message", BAD)
def test_what_cannot_be_answered_is_refused_in_one_line(options, message):
    with pytest.raises(GiantStepError) as error:
        alignment("z1+z1*z2", "relu", **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_orders_that_are_not_there_or_not_seen_are_refused():
    assert alignment("z1*z2", "relu", alpha=1.0, leap=1).cos2 == 0  # too few samples is an answer
    with pytest.raises(GiantStepError, match=r"E\[grad\^2 g\] = 0"):
        alignment("z1*z2*z3", "relu", alpha=1.0, leap=2)
    with pytest.raises(GiantStepError, match="c_3 = 0"):
        alignment("z1*z2*z3", "relu", alpha=1.0)
    with pytest.raises(GiantStepError, match="symmetric readout"):
        align(step_moments("z1*z2", "relu", 2), 1.0, leap=2, readout=Readout(1.0))
    with pytest.raises(ParameterError):
        solve(GiantStep(), alpha=0.0)
    with pytest.raises(OptionError, match="target"):
        GiantStep(target="z1 + q")


# ---------------------------------------------------------------- batch reuse


def test_reusing_the_batch_shows_what_a_fresh_one_hides():
    """He3 with erf, alpha = t = 2: the published-note value is -0.1006(2)."""
    same, fresh = (reuse("he3(z1)/sqrt(6)", ERF, alpha=2.0, step=2.0, reused=r) for r in (True, False))
    assert same.overlap[0] == pytest.approx(-0.1006, abs=3e-4)
    assert fresh.overlap[0] == pytest.approx(0, abs=1e-12)
    assert same.error < 1e-6


def test_even_targets_stay_hidden_by_symmetry():
    assert abs(reuse("he2(z1)", ERF, alpha=2.0, step=1.0).overlap[0]) < 1e-12


def test_large_batches_make_reuse_the_population_step():
    """alpha -> inf: no self-interaction, no noise; the fresh step is then the population gradient."""
    for target in ("z1+z1*z2", NOTEBOOK):
        same, fresh = (reuse(target, ERF, alpha=math.inf, step=1.0, reused=r) for r in (True, False))
        np.testing.assert_allclose(same.overlap, fresh.overlap, atol=1e-13)


def test_noise_and_relu_go_the_sampled_and_the_kinked_way():
    """The product rule with kinks against sampling the four variables."""
    found = reuse("z1 + he3(z1)/3", "relu", alpha=2.0, step=1.5, noise=0.0)
    rng = np.random.default_rng(2)
    lam, z, xi = rng.standard_normal((3, 1_000_000))
    m = step_moments("z1 + he3(z1)/3", "relu")
    y = z + (z**3 - 3 * z) / 3
    h = lam + 1.5 * (y * (lam > 0) / 2 + 0.5 * z + math.sqrt(m.second * 0.5 / 2) * xi)
    sampled = y * (h > 0) * z
    assert abs(found.overlap[0] - sampled.mean()) < 4 * sampled.std() / 1000 + found.error
    assert found.error < 1e-3


# ---------------------------------------------------------------- the law as a model


def test_the_law_over_neurons_is_a_model_with_scans_and_files(tmp_path):
    model = GiantLeap(target="z1+z1*z2", removal="least-squares")
    assert model.order == 2 and model.statement()["claim"] == "asymptotic"
    Scan(model, Grid(alpha=[0.5, 2.0, math.inf], noise=[0.0, 0.3])).run(tmp_path / "law.h5", workers=1)
    with open_results(tmp_path / "law.h5") as data:
        assert data.attrs["claim"] == "asymptotic" and "n = alpha d^2" in data.attrs["regime"]
        assert (data.result == 0).all() and data.share.dims == ("alpha", "noise", "direction")
        at = data.sel(alpha=2.0, noise=0.3)
        law = alignment("z1+z1*z2", "relu", alpha=2.0, noise=0.3, leap=2, removal="least-squares", probabilities=(0.1, 0.5, 0.9))
        assert float(at.cos2) == law.cos2 and float(at.norm) == law.norm
        np.testing.assert_array_equal(at.share, np.diag(law.share))
        np.testing.assert_array_equal([at.low, at["median"], at.high], list(law.quantiles.values()))
        np.testing.assert_allclose(data.sel(alpha=math.inf, noise=0.0).cos2, 1.0, atol=1e-12)


def test_the_model_of_the_law_simulates_what_it_solves():
    model, point = GiantLeap(target="z1*z2", activation="relu"), {"alpha": 1.0, "noise": 0.1, "d": 50.0}
    report = compare(model, point, 50, 20, 12, solve(model, **point).values)
    report.check(sigmas=4, allowance=0.03)  # 1/d


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": "z1"}, ["leap = 1", "giant-step"]),
        ({"target": "z1+z1*z2", "leap": 2}, ["E[grad^1 g] is not 0", "least-squares"]),
        ({"target": "z1*z2", "activation": "erf"}, ["c_2 = 0", "bias"]),
        ({"target": "z1*z2", "leap": 9}, ["'9'", "[0, 8]"]),
        ({"target": "z1*z2", "removal": "median"}, ["'median'", "moments"]),
        ({"target": "5"}, ["E[grad^k g] = 0"]),
    ],
)
def test_laws_that_do_not_exist_are_refused_at_once(options, words):
    with pytest.raises(ValueError) as error:
        GiantLeap(**{name: str(value) for name, value in options.items()})
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_every_command_on_giant_steps_says_claim_and_regime():
    """In JSON and in words: exact, asymptotic or conjectured, and where."""
    commands = [
        ["alignment", "z1+z1*z2", "alpha=2"],
        ["alignment", "z1*z2", "alpha=2", "--leap", "2"],
        ["giant-steps", "z1+z1*z2", "alpha=2", "eta=1", "--activation", "erf(z/sqrt(2))", "--steps", "1"],
        ["giant-steps", "z1+z1*z2", "alpha=inf", "eta=1", "--steps", "1"],
        ["giant-steps", "z1", "eta=1", "--activation", "erf(z/sqrt(2))", "--flow", "0,1"],
        ["solve", "giant-step", "alpha=2"],
        ["solve", "giant-step", "alpha=2", "--times", "1,2"],
        ["solve", "giant-leap", "alpha=2"],
    ]
    for command in commands:
        answer = json.loads(CliRunner().invoke(cli, [*command, "--json"]).output)
        assert answer["claim"] in ("exact", "asymptotic", "conjectured"), command
        assert answer["regime"] in CliRunner().invoke(cli, command).output, command
        assert not any(isinstance(value, str) for value in answer.get("values", {}).values()), command
    again = ["alignment", "he3(z1)/sqrt(6)", "--activation", "erf(z/sqrt(2))", "--leap", "3", "--reuse", "alpha=2", "step=2"]
    steps = json.loads(CliRunner().invoke(cli, [*again, "--json"]).output)["second_step"]
    assert all(step["claim"] == "asymptotic" and "correlation loss" in step["regime"] for step in steps.values())
