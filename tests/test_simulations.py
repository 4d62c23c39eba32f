"""Finite-size simulations against what is known without the theory they are meant to check."""

import math
from typing import ClassVar

import numpy as np
import pytest

from replica.activations import make_activation
from replica.models import RidgeRegression, simulations
from replica.models.training import Labels, gaussian_rule, ridge
from replica.validation import DisagreementError, compare, simulate_points


def tanh_slope(x):
    return 1 - np.tanh(x) ** 2


class TwoLayer:
    """tanh network, sin teacher."""

    defaults: ClassVar = {"alpha": 2.0, "beta": 1.0, "alpha0": 20.0, "eta": 3.0, "reg": 0.1, "noise": 0.0}

    def simulate(self, parameters, size, rng):
        given = self.defaults | parameters
        labels = Labels(make_activation("sin"), noise=given.pop("noise"))
        return simulations.train_two_layer(np.tanh, tanh_slope, labels, **given, size=size, rng=rng)


class SpikedFeatures:
    """tanh features, sin teacher, spike of the default two-layer network."""

    defaults: ClassVar = {"alpha": 1.6, "beta": 1.0, "r": 1.13405550928, "c": 1.0189732005, "gamma": 0.97185444449}

    def simulate(self, parameters, size, rng):
        given = self.defaults | {"reg": 0.1, "noise": 0.0} | parameters
        labels = Labels(make_activation("sin"), noise=given.pop("noise"))
        return simulations.train_spiked_features(np.tanh, labels, **given, size=size, rng=rng)


def textbook_ridge(alpha, reg, noise):
    """Ridge regression of a linear teacher, |w*|^2 = d, from the resolvent of the Marchenko-Pastur law.

    g = tr (X^T X + reg)^(-1)/d solves g = 1/(reg + alpha/(1 + g)); the student's mean is (1 - reg g) w*, bias and
    variance of it are derivatives of g in reg.
    """
    b = reg + alpha - 1
    g = 2 / (b + math.sqrt(b**2 + 4 * reg))
    slope = -1 / (1 / g**2 - alpha / (1 + g) ** 2)
    bias, variance = -(reg**2) * slope, noise * (g + reg * slope)
    error = bias + variance + noise
    # |w|^2 = |w*|^2 - 2 <w*, w* - w> + |w* - w|^2
    m = 1 - reg * g
    return {"test_error": error, "train_error": error / (1 + g) ** 2, "m": m, "q": 2 * m - 1 + bias + variance}


def test_linear_teacher_gives_textbook_ridge():
    parameters = {"alpha": 1.5, "reg": 0.3, "noise": 0.2}
    report = compare(
        RidgeRegression(), {**parameters, "rho": 1.0}, 400, 30, 1, textbook_ridge(**parameters)
    )
    report.check(sigmas=4, allowance=1e-3)  # 1/d corrections


def test_ridge_is_the_minimum_for_more_and_for_fewer_samples_than_weights():
    rng = np.random.default_rng(0)
    for n, p in ((30, 20), (20, 30)):
        phi, y = rng.standard_normal((n, p)), rng.standard_normal(n)
        w = ridge(phi, y, 0.1)
        np.testing.assert_allclose(phi.T @ (y - phi @ w), 0.1 * w, atol=1e-12)


def test_gaussian_rule_is_exact_for_moments_and_kinks():
    z, weights = gaussian_rule()
    for f, exact in (
        (z**2, 1),
        (z**8, 105),
        (abs(z), math.sqrt(2 / math.pi)),
        (z * np.sign(z), math.sqrt(2 / math.pi)),
    ):
        assert weights @ f == pytest.approx(exact, rel=1e-12)


def test_population_gradient_is_the_average_of_the_batch_gradient():
    rng = np.random.default_rng(3)
    size, width, samples = 30, 400, 100_000

    def relu(x):
        return np.maximum(x, 0)

    def step(x):
        return (x > 0).astype(float)

    def target(x):
        return np.sin(x) + x**2

    teacher, rows = simulations._unit_rows(1, size, rng)[0], simulations._unit_rows(width, size, rng)
    exact = simulations._population_gradient(relu, step, target, rows, teacher, 1.0)
    labels = Labels(make_activation("sin(z) + z**2"))
    batch = simulations._batch_gradient(relu, step, labels, rows, teacher, np.ones(width), samples, rng)
    # Components along the row and along the teacher, averaged over rows: Monte Carlo error about 1e-2, and the initial
    # output differs from its infinite-width limit by terms of order size^(-1).
    for direction in (rows, teacher):
        assert np.mean(batch * direction) * size == pytest.approx(np.mean(exact * direction) * size, abs=0.03)
    assert np.linalg.norm(exact - batch) < 0.1 * np.linalg.norm(exact)


def test_no_batch_and_no_rate_are_the_same_untrained_layer():
    model, seed = TwoLayer(), 4
    no_batch = model.simulate({"alpha0": 0.0}, 60, np.random.default_rng(seed))
    no_rate = model.simulate({"eta": 0.0}, 60, np.random.default_rng(seed))
    assert no_batch == no_rate


def test_population_step_is_the_limit_of_a_large_batch():
    points = [{"alpha": 1.0, "alpha0": alpha0} for alpha0 in (math.inf, 500.0)]
    exact, batch = simulate_points(TwoLayer(), points, size=60, repeats=12, seed=5)
    difference = exact["test_error"].mean - batch["test_error"].mean
    assert abs(difference) < 4 * math.hypot(exact["test_error"].sem, batch["test_error"].sem)


def test_two_layer_network_is_near_the_spiked_model_at_the_default_point():
    # The spiked model has 0.0355, between 0.0373 at alpha = 1.6 and 0.0343 at 2.3.  The network lies up to 3 % lower:
    # its step also rescales the rows (Notes of train_two_layer).
    (result,) = simulate_points(TwoLayer(), [{}], size=200, repeats=8, seed=6)
    mean, sem = result["test_error"]
    assert abs(mean - 0.0355) < 4 * sem + 0.03 * 0.0355


def test_step_rescales_rows_by_their_overlap_with_the_spike():
    rng = np.random.default_rng(13)
    slope, third, teacher_slope = 0.605706, -0.363595, math.exp(-0.5)  # E tanh', E tanh' (z^2 - 1), E sin'
    teacher, rows = simulations._unit_rows(1, 400, rng)[0], simulations._unit_rows(300, 400, rng)
    gradient = simulations._population_gradient(np.tanh, tanh_slope, np.sin, rows, teacher, 1.0)
    rescaling = teacher_slope * third * (rows @ teacher)[:, None] * rows
    rest = gradient - teacher_slope * slope * teacher - rescaling
    # The next term carries one more power of the overlap, 1/20 at this size.
    assert np.linalg.norm(rest) < 0.1 * np.linalg.norm(rescaling)


def test_spiked_features_give_the_order_parameters_of_the_theory():
    theory = {
        "test_error": 0.03731132808,
        "q1": 0.06196251701,
        "q2": 0.06842958525,
        "m": 1.11967661978,
        "theta": 0.05798582750,
        "psi": 0.15541895768,
    }
    report = compare(SpikedFeatures(), {}, size=250, repeats=16, seed=7, theory=theory)
    report.check(sigmas=4, allowance=2e-3)  # 1/d corrections, largest in m


@pytest.mark.parametrize("model", [TwoLayer(), SpikedFeatures()])
@pytest.mark.parametrize("alpha, beta", [(0.5, 1.5), (2.0, 0.5)])
def test_errors_are_finite_and_reproduced_by_the_seed(model, alpha, beta):
    parameters = {"alpha": alpha, "beta": beta, "noise": 0.1}
    first, second = (model.simulate(parameters, 40, np.random.default_rng(8)) for _ in range(2))
    assert first == second
    assert all(type(value) is float and math.isfinite(value) for value in first.values())
    assert first["train_error"] < first["test_error"]
    assert first["test_error"] > 0.1  # never below the noise


def test_aligned_spike_needs_no_exception():
    assert all(map(math.isfinite, SpikedFeatures().simulate({"gamma": 1.0}, 40, np.random.default_rng(9)).values()))


def test_streams_do_not_depend_on_the_other_points():
    first, second = {"alpha": 0.7, "reg": 0.1, "noise": 0.0}, {"alpha": 1.4, "reg": 0.1, "noise": 0.0}
    model = RidgeRegression()
    alone = simulate_points(model, [first], size=30, repeats=3, seed=10)
    together = simulate_points(model, [first, second], size=30, repeats=3, seed=10)
    assert together[0] == alone[0]
    same_point_twice = simulate_points(model, [first, first], size=30, repeats=3, seed=10)
    assert same_point_twice[0] != same_point_twice[1]


def test_report_catches_a_wrong_theory_and_a_missing_number():
    parameters = {"alpha": 1.5, "reg": 0.3, "noise": 0.2}
    right = textbook_ridge(**parameters)
    wrong = right | {"test_error": 1.2 * right["test_error"]}
    report = compare(RidgeRegression(), parameters, size=200, repeats=20, seed=11, theory=wrong)
    assert abs(report.z("test_error")) > 4 > abs(report.z("m"))
    with pytest.raises(DisagreementError, match=r"test_error \(z = -"):
        report.check()
    report.check(allowance=0.2 * right["test_error"])

    report.theory["test_error"] = math.nan
    with pytest.raises(DisagreementError, match="test_error"):
        report.check(allowance=1.0)


def test_report_prints_every_observable():
    parameters = {"alpha": 1.5, "reg": 0.3, "noise": 0.2}
    report = compare(RidgeRegression(), parameters, size=20, repeats=3, seed=12, theory={"q": 0.5, "V": 1.0})
    lines = str(report).splitlines()
    assert lines[0] == "size 20, 3 repeats, alpha = 1.5, reg = 0.3, noise = 0.2"
    assert [line.split()[0] for line in lines[2:]] == ["m", "q", "test_error", "train_error", "train_loss"]
    assert lines[3].split()[1] == "0.5"


def test_impossible_comparisons_are_refused():
    parameters = {"alpha": 1.5, "reg": 0.3, "noise": 0.2}
    with pytest.raises(ValueError, match="at least 2"):
        compare(RidgeRegression(), parameters, size=20, repeats=1, seed=0, theory={"q": 1.0})
    with pytest.raises(ValueError, match="nothing to compare"):
        compare(RidgeRegression(), parameters, size=20, repeats=2, seed=0, theory={"V": 1.0})
