"""Spiked random features against reference values, closed forms, limits and identities (docs/theory/srf.md)."""

import math
from pathlib import Path

import numpy as np
import pytest
from by_hand import ByHand
from scipy.special import erf, ndtr

from replica.models import SpikedRandomFeatures
from solvers.methods import Anderson, DampedIteration, Newton
from solvers.solve import solve

TIGHT = Newton(rtol=1e-12)
DEFAULT = {"alpha0": 20, "eta": 3, "reg": 0.1}
POINT = {"alpha": 0.9, **DEFAULT}
DATA = Path(__file__).parents[1] / "data" / "srf_reference.csv"
REFERENCE = np.genfromtxt(DATA, delimiter=",", names=True, skip_header=2)
STARTS = [
    {},
    {"V1": 100.0, "V2": 0.01, "q1": 10.0, "m": -3.0},
    {"V1": 1e-3, "V2": 1e3, "q2": 5.0, "theta": 2.0, "psi": -2.0},
]


@pytest.fixture(scope="module")
def compiled():
    """Problems by activation and target; the kernel is shared, only the table is compiled anew."""
    known = {}

    def get(activation, target="sin"):
        key = activation, target
        if key not in known:
            model = SpikedRandomFeatures(activation=activation, target=target)
            known[key] = model, model.compile()
        return known[key]

    return get


@pytest.mark.parametrize("start", STARTS, ids=["cold", "far", "farther"])
@pytest.mark.parametrize("method", [Newton, DampedIteration, Anderson])
@pytest.mark.parametrize("row", REFERENCE, ids=lambda row: f"alpha={row['alpha']}")
def test_reference_values(srf, row, method, start):
    solution = solve(srf, method=method(rtol=1e-11), start=start, throw=True, alpha=row["alpha"], **DEFAULT)
    for name in REFERENCE.dtype.names[1:]:
        assert solution[name] == pytest.approx(row[name], abs=1e-9), name  # the agreement of the two implementations


def test_spike_strength_bulk_variance_and_alignment_at_the_reference_point(srf):
    found = ByHand.at(srf, **POINT).definitions(SpikedRandomFeatures())
    assert found["r"] == pytest.approx(1.1340555092826186, rel=1e-12)
    assert found["c"] == pytest.approx(1.018973200458186, rel=1e-12)
    assert found["gamma"] == pytest.approx(0.9718544444873879, rel=1e-12)
    assert found["gamma"] ** 2 + found["rho"] ** 2 == pytest.approx(1, abs=1e-14)


def density(x):
    return np.exp(-x * x / 2) / np.sqrt(2 * np.pi)


def sin_moments(t, c):
    mu0, mu1 = np.exp(-c / 2) * np.sin(t), np.exp(-c / 2) * np.cos(t)
    return mu0, mu1, (1 - np.exp(-2 * c) * np.cos(2 * t)) / 2 - mu0**2 - c * mu1**2


def relu_moments(t, c):
    s = np.sqrt(c)
    mu0, mu1 = t * ndtr(t / s) + s * density(t / s), ndtr(t / s)
    return mu0, mu1, (t**2 + c) * ndtr(t / s) + t * s * density(t / s) - mu0**2 - c * mu1**2


def erf_moments(t, c):
    return erf(t / np.sqrt(1 + 2 * c)), 2 / np.sqrt(np.pi * (1 + 2 * c)) * np.exp(-(t**2) / (1 + 2 * c)), None


def hermite_moments(t, c):
    return t**2 + c - 1 + t, 2 * t + 1, 2 * c**2 + 0 * t


@pytest.mark.parametrize("eta", [0.0, 1.5, 40.0])
@pytest.mark.parametrize(
    ("activation", "moments"),
    [("sin", sin_moments), ("relu", relu_moments), ("erf", erf_moments), ("he2(z) + z", hermite_moments)],
)
def test_tabulated_features_have_their_closed_forms(compiled, activation, moments, eta):
    model, problem = compiled(activation)
    found = ByHand.at(problem, alpha=1.0, alpha0=5.0, eta=eta, reg=0.1).definitions(model)
    t = found["r"] * found["z"]
    for name, expected in zip(("mu0", "mu1", "mu2sq"), moments(t, found["c"]), strict=True):
        if expected is not None:
            # mu2sq as a difference of moments loses digits in the closed form, not in the table.
            scale = 1 + t**2 + found["c"]
            np.testing.assert_array_less(np.abs(found[name] - expected), 4e-13 * scale**2, err_msg=name)
    assert np.all(found["mu2sq"] >= 0)


def test_the_parameters_of_the_spike_follow_the_theory_for_relu(compiled):
    # Hermite coefficients of relu and of sin; section 2 of the theory, with label noise.
    model, problem = compiled("relu")
    eta, alpha0, noise = 1.5, 5.0, 0.2
    found = ByHand.at(problem, alpha=1.0, alpha0=alpha0, eta=eta, reg=0.1, noise=noise).definitions(model)
    h0, h1, e2, var1 = 1 / math.sqrt(2 * math.pi), 0.5, 1 / math.sqrt(2 * math.pi), 0.25
    t1, s2 = math.exp(-0.5), (1 - math.exp(-2)) / 2
    mean, square = -h0, s2 + noise + h0**2
    assert found["r"] == pytest.approx(eta * h1 * math.sqrt(t1**2 + square / alpha0), rel=1e-12)
    assert found["gamma"] == pytest.approx(t1 / math.sqrt(t1**2 + square / alpha0), rel=1e-12)
    assert found["c"] == pytest.approx((1 + eta * e2 * mean) ** 2 + eta**2 * var1 * square / alpha0, rel=1e-12)
    assert found["c_spike"] == found["c"]
    population = ByHand.at(problem, alpha=1.0, alpha0=math.inf, eta=eta, reg=0.1, noise=noise).definitions(model)
    assert population["c"] == pytest.approx((1 + eta * e2 * mean) ** 2, rel=1e-12)
    assert population["c_spike"] == pytest.approx((1 + eta * e2 * mean) ** 2, rel=1e-12)  # sin has no e2*
    assert (population["gamma"], population["rho"]) == (1, 0)


# ------------------------------------------------------------------------------------------------ limits


def values(problem, **point):
    solution = solve(problem, method=TIGHT, throw=True, **point)
    return np.array([solution[name] for name in problem.values.names])


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_no_step_and_a_step_of_rate_zero_are_plain_random_features(compiled, activation):
    _, problem = compiled(activation)
    plain = values(problem, alpha=0.9, alpha0=0, eta=3, reg=0.1, noise=0.1)
    for alpha0 in (1e-3, 20, math.inf):
        found = values(problem, alpha=0.9, alpha0=alpha0, eta=0, reg=0.1, noise=0.1)
        np.testing.assert_allclose(found, plain, rtol=1e-13)
    model, _ = compiled(activation)
    found = ByHand.at(problem, alpha=0.9, alpha0=0, eta=3, reg=0.1).definitions(model)
    assert (found["r"], found["c"], found["gamma"]) == (0, 1, 0)


def test_random_features_obey_the_linear_baseline(compiled):
    # They cannot beat the best linear predictor, s2* - h1*^2 for sin, and come close with much data and width.
    _, problem = compiled("tanh")
    best = (1 - math.exp(-2)) / 2 - math.exp(-1)
    for alpha, beta, reg in ((0.5, 1, 0.1), (3, 0.5, 1e-3), (10, 30, 0.5)):
        assert solve(problem, alpha=alpha, beta=beta, alpha0=0, eta=0, reg=reg)["test_error"] > best
    near = solve(problem, throw=True, alpha=1e4, beta=1e2, alpha0=0, eta=0, reg=0.1)["test_error"]
    assert best < near < 1.05 * best


@pytest.mark.parametrize("activation", ["tanh", "erf", "he3(z)/6 + z"])
def test_a_population_step_is_the_limit_of_large_batches_for_odd_activations(compiled, activation):
    # Corrections are O(1/alpha0) in r and c, and O(alpha0^(-1/2)) in rho, whose odd powers do not enter the error.
    _, problem = compiled(activation)
    population, large = (
        solve(problem, method=TIGHT, throw=True, alpha=0.9, alpha0=alpha0, eta=2, reg=0.1) for alpha0 in (math.inf, 1e9)
    )
    for name in ("test_error", "train_error", "V1", "V2", "q1", "q2", "m", "theta", "free_entropy"):
        assert large[name] == pytest.approx(population[name], rel=1e-7), name


def test_the_gap_to_the_population_step_closes_like_one_over_the_batch(srf):
    batches = (math.inf, 1e4, 1e5, 1e6)
    exact, *errors = (solve(srf, method=TIGHT, **POINT | {"alpha0": alpha0})["test_error"] for alpha0 in batches)
    gaps = [error - exact for error in errors]
    assert gaps[0] / gaps[1] == pytest.approx(10, rel=0.02)
    assert gaps[1] / gaps[2] == pytest.approx(10, rel=0.02)


def test_wide_linear_random_features_are_ridge_regression(compiled, ridge):
    # f = <a, x> with a = W^T w/sqrt(p), and W^T W -> p/d: the penalty is that of ridge on a, up to O(1/beta).
    _, problem = compiled("identity", "identity")
    for alpha, reg, noise in ((0.7, 0.1, 0.3), (2.0, 0.5, 0.1)):
        features = solve(problem, throw=True, alpha=alpha, beta=1e6, alpha0=0, eta=0, reg=reg, noise=noise)
        plain = solve(ridge, throw=True, alpha=alpha, reg=reg, noise=noise)
        for name, other in {
            "test_error": "test_error",
            "train_error": "train_error",
            "psi": "m",
            "q1": "q",
            "V1": "V",
        }.items():
            assert features[name] == pytest.approx(plain[other], rel=1e-5), name


@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_a_linear_target_along_the_spike_is_learned_exactly_by_linear_features(compiled, beta):
    # The mean readout m costs nothing in the limit; f = m r kappa is the target for m = 1/r.
    model, problem = compiled("identity", "identity")
    point = {"alpha": 0.9, "beta": beta, "alpha0": math.inf, "eta": 2.0, "reg": 0.1}
    solution = solve(problem, throw=True, **point)
    assert ByHand.at(problem, **point).definitions(model)["r"] == pytest.approx(2.0, rel=1e-12)
    assert solution["m"] == pytest.approx(0.5, rel=1e-11)
    for name in ("test_error", "train_error", "q1", "q2", "theta", "psi"):
        assert solution[name] == pytest.approx(0, abs=1e-12), name


def test_wide_linear_features_fit_only_noise_off_the_spike(compiled):
    # The spike is learned for free; the other directions are ridge regression of pure noise.
    _, problem = compiled("identity", "identity")
    alpha, reg, noise = 0.9, 0.1, 0.5
    solution = solve(problem, throw=True, alpha=alpha, beta=1e6, alpha0=math.inf, eta=2.0, reg=reg, noise=noise)
    b = reg + alpha - 1
    response = (math.sqrt(b * b + 4 * reg) - b) / (2 * reg)
    expected = noise / (1 - alpha * (response / (1 + response)) ** 2)
    assert solution["V1"] == pytest.approx(response, rel=1e-5)
    assert solution["test_error"] == pytest.approx(expected, rel=1e-5)


def test_an_even_activation_makes_no_spike_and_learns_nothing_of_an_odd_target(compiled):
    model, problem = compiled("he2(z)")
    found = ByHand.at(problem, **POINT).definitions(model)
    assert (found["h1"], found["r"]) == (0, 0)
    solution = solve(problem, throw=True, **POINT)
    assert (solution["theta"], solution["psi"]) == (0, 0)
    assert solution["test_error"] >= (1 - math.exp(-2)) / 2


def test_the_ridgeless_limit_is_approached_linearly_above_interpolation(srf):
    # Below interpolation too, but only for a penalty small beside mu2^2, which tanh makes tiny.
    point = {"alpha": 2.0, "alpha0": 20, "eta": 3}
    limit = solve(srf, method=TIGHT, throw=True, reg=0, **point)["test_error"]
    gaps = [solve(srf, method=TIGHT, throw=True, reg=reg, **point)["test_error"] - limit for reg in (1e-5, 1e-6, 1e-7)]
    assert gaps[0] / gaps[1] == pytest.approx(10, rel=0.01)
    assert gaps[1] / gaps[2] == pytest.approx(10, rel=0.01)


def test_a_huge_penalty_leaves_the_free_mean_only(srf):
    reg = 1e6
    solution = solve(srf, throw=True, alpha=2.0, beta=1.5, alpha0=20, eta=3, reg=reg)
    assert solution["V2"] * reg == pytest.approx(1, rel=1e-5)
    hand = ByHand.at(srf, alpha=2.0, beta=1.5, alpha0=20, eta=3, reg=reg).definitions(SpikedRandomFeatures())
    z, w, mu0 = hand["z"], hand["w"], hand["mu0"]
    h = np.exp(-(hand["rho"] ** 2) / 2) * np.sin(hand["gamma"] * z)  # E_zeta sin(gamma kappa + rho zeta)
    m = (w @ (h * mu0)) / (w @ mu0**2)
    assert solution["m"] == pytest.approx(m, rel=1e-4)
    assert solution["test_error"] == pytest.approx((1 - math.exp(-2)) / 2 - m**2 * (w @ mu0**2), rel=1e-4)


# ------------------------------------------------------------------------------------------------ identities


POINTS = [
    POINT,
    {"alpha": 2.0, "beta": 0.6, "alpha0": 3, "eta": 1.5, "reg": 0.02, "noise": 0.3},
    {"alpha": 0.4, "beta": 3.0, "alpha0": math.inf, "eta": 5, "reg": 1.0, "noise": 0.1},
]


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("point", POINTS, ids=range(3))
def test_the_free_entropy_is_minus_the_minimum_of_the_training_objective_per_weight(compiled, activation, point):
    solution = solve(compiled(activation)[1], method=TIGHT, throw=True, **point)
    delta = point["alpha"] / point.get("beta", 1)
    objective = delta * solution["train_error"] / 2 + point["reg"] * solution["q2"] / 2  # train_error has no 1/2
    assert -solution["free_entropy"] == pytest.approx(objective, rel=1e-11)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("point", POINTS, ids=range(3))
def test_the_free_entropy_falls_with_the_penalty_at_rate_q2_over_two(compiled, activation, point):
    problem, h = compiled(activation)[1], 1e-4 * point["reg"]
    up, down = (solve(problem, method=TIGHT, throw=True, **point | {"reg": point["reg"] + s}) for s in (h, -h))
    slope = (up["free_entropy"] - down["free_entropy"]) / (2 * h)
    # Central difference: relative h^2, and rounding over h.
    assert slope == pytest.approx(-solve(problem, **point)["q2"] / 2, rel=1e-6, abs=1e-15 / h)


@pytest.mark.parametrize("target", ["sign", "relu"])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_discontinuous_functions_of_the_spike_are_resolved(compiled, activation, target):
    # At infinite batch the label is a function of kappa, with its jump or kink at zero.
    _, problem = compiled(activation, target)
    solution = solve(problem, throw=True, alpha=0.9, alpha0=math.inf, eta=2, reg=0.1)
    assert solution.quadrature_error < 1e-10
    nearly = solve(problem, throw=True, alpha=0.9, alpha0=1e8, eta=2, reg=0.1)  # jump smeared over 1e-4
    if activation == "tanh":
        assert nearly["test_error"] == pytest.approx(solution["test_error"], rel=1e-3)
        assert abs(nearly["test_error"] - solution["test_error"]) > 1e-9


def test_solutions_are_physical_over_the_parameter_space(srf):
    rng = np.random.default_rng(11)
    for _ in range(60):
        point = {
            "alpha": 10.0 ** rng.uniform(-1.5, 1.5),
            "beta": 10.0 ** rng.uniform(-1, 1),
            "alpha0": rng.choice([0.0, 10.0 ** rng.uniform(-0.5, 2), math.inf]),
            "eta": rng.uniform(0, 10),
            "reg": 10.0 ** rng.uniform(-6, 3),
            "noise": rng.choice([0.0, 0.5]),
        }
        solution = solve(srf, **point)
        assert solution.converged, point
        assert solution["psi"] ** 2 <= solution["q1"] + 1e-12
        assert solution["test_error"] >= point["noise"]
        assert 0 <= solution["train_error"] <= solution["test_error"]
        assert 0 < solution["V2"] * point["reg"] <= 1 + 1e-12  # a trace of reg/(reg + positive)
        assert min(solution[name] for name in ("V1_hat", "V2_hat", "q1_hat", "q2_hat")) >= 0


@pytest.mark.parametrize("alpha", [0.5, 0.8, 1.3, 2.0])
def test_the_ridgeless_limit_is_reached_from_both_sides_of_interpolation(srf, alpha):
    point = {**DEFAULT, "alpha": alpha, "alpha0": 4.0, "eta": 1.5, "noise": 0.1}
    limit = solve(srf, throw=True, **{**point, "reg": 0})
    distance = [solve(srf, throw=True, **{**point, "reg": reg})["test_error"] - limit["test_error"] for reg in (1e-6, 1e-7)]
    assert abs(distance[0]) < 1e-2
    assert distance[0] == pytest.approx(10 * distance[1], rel=0.05)
    assert (limit["train_error"] == 0) == (alpha < 1)


def test_the_cost_of_the_mean_goes_with_the_width():
    point = {**DEFAULT, "alpha": 1.6}
    limit = solve(SpikedRandomFeatures(), throw=True, **point)
    finite = SpikedRandomFeatures(mean_mode="finite").compile()
    errors = np.array([solve(finite, throw=True, width=w, **point)["test_error"] for w in (1e3, 1e4, 1e5)])
    excess = errors - limit["test_error"]
    np.testing.assert_allclose(excess[:-1] / excess[1:], 10, rtol=0.05)
    s = solve(finite, throw=True, width=800.0, **point)
    assert s["m"] == pytest.approx(800 * s["V2"] * s["m_hat"], rel=1e-9)


def test_the_published_variance_is_ours_for_odd_activations_and_clean_labels():
    point = {**DEFAULT, "alpha": 1.6, "alpha0": 4.0}
    for options, same in (({"activation": "tanh", "target": "sin"}, True), ({"activation": "relu", "target": "tanh"}, False)):
        ours, theirs = (solve(SpikedRandomFeatures(bulk=b, **options), **point) for b in ("isotropic", "notebook"))
        assert (abs(ours["test_error"] / theirs["test_error"] - 1) < 1e-9) == same
