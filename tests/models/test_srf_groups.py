"""Spiked random features whose readout has several values during the step: sections 5.2, 9 and 13 of the note."""

import math
from functools import cache

import numpy as np
import pytest
from by_hand import ByHand, check_gradient, check_minimum

from replica.model import OptionError
from replica.models import SpikedRandomFeatures
from replica.models.simulations import train_spiked_features
from replica.models.training import Labels
from solvers import Newton, ParameterError, solve, solve_points

POINT = {"alpha": 1.3, "beta": 1.2, "alpha0": 6.0, "eta": 1.5, "reg": 0.2, "noise": 0.1}
VALUES = {2: {"u_0": 0.5, "u_1": 1.5, "share_0": 2.0}, 3: {"u_0": -1.0, "u_1": 0.3, "u_2": 1.5, "share_1": 0.5}}
SIGNS = {"labels": "sign", "target": "identity"}
CASES = [
    (2, {}),
    pytest.param((3, {}), marks=pytest.mark.slow),
    (2, {"activation": "relu", "target": "tanh", "bulk": "coupled", "mean_mode": "finite"}),
    (2, {"loss": "huber(0.5)", "target": "identity"}),
    pytest.param((2, {"loss": "logistic", **SIGNS, "mean_mode": "finite"}), marks=pytest.mark.slow),
]

EVERY_LOSS = [
    ("square", {}), ("huber(0.5)", {"target": "identity"}), ("absolute", {"target": "identity"}),
    ("quantile(0.3)", {"target": "identity"}), ("logistic", SIGNS), ("hinge", SIGNS), ("squared_hinge", SIGNS),
    ("square", SIGNS), ("log(1 + exp((y - z)**2/2))", {"target": "identity"}),
]  # fmt: skip


@cache
def compiled(count, **options):
    return SpikedRandomFeatures(groups=count, **options).compile()


def solved(count, options):
    point = {**POINT, **VALUES.get(count, {}), **({"width": 500.0} if "mean_mode" in options else {})}
    problem = compiled(count, **options)
    return problem, point, solve(problem, method=Newton(rtol=1e-12), throw=True, **point)


@pytest.fixture(scope="module", params=CASES, ids=lambda c: f"{c[0]} groups {c[1].get('loss', 'square')}")
def case(request):
    return solved(*request.param)


def test_the_gradient_of_the_free_entropy_vanishes(case):
    check_gradient(*case)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("loss, options", EVERY_LOSS, ids=lambda x: x if isinstance(x, str) else "")
def test_the_gradient_vanishes_for_every_loss_and_number_of_groups(loss, options, count):
    check_gradient(*solved(count, {"loss": loss, **options}))


def test_the_free_entropy_is_the_minimum_of_the_training_objective(case):
    check_minimum(*case, h=2e-3)


@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("shares", [(1, 1, 1), (5, 1, 0.3)])
def test_equal_groups_are_one_group(count, shares):
    one = solve(SpikedRandomFeatures(), method=Newton(rtol=1e-12), throw=True, **POINT)
    given = {f"share_{k}": shares[k] for k in range(count)}
    many = solve(compiled(count), method=Newton(rtol=1e-12), throw=True, **POINT, **given)
    for name in ("V1", "V2", "q1", "q2", "m", "theta", "psi"):
        assert np.sum(many[name]) == pytest.approx(one[name], rel=1e-11), name
    for name in ("test_error", "train_error", "free_entropy"):
        assert many[name] == pytest.approx(one[name], rel=1e-12), name
    fractions = np.array(shares[:count]) / sum(shares[:count])
    np.testing.assert_allclose(many["V2"], fractions * one["V2"], rtol=1e-11)


def test_of_a_mean_that_only_a_sum_fixes_the_least_is_taken():
    """Equal groups share the mean of one: both ways to solve for it, in a block or in the map, know no other."""
    one, two = (solve(compiled(k), throw=True, **POINT) for k in (1, 2))
    np.testing.assert_allclose(two["m"], one["m"] / 2, rtol=1e-9)


def test_one_point_begins_as_a_scan_does_and_may_begin_at_a_solution():
    problem = compiled(2)
    point, method = {**POINT, **VALUES[2]}, Newton(max_steps=3)
    alone, listed = solve(problem, method=method, **point), solve_points(problem, problem.point(point)[None], method)
    assert alone.steps == listed.steps[0]
    np.testing.assert_array_equal(problem.unknowns.pack(alone.values), listed.values[0, : problem.unknowns.size])
    found = solve(problem, throw=True, **point)
    assert found["V1"][0, 1] < 0  # only the diagonal has bounds
    again = solve(problem, throw=True, start={q.name: found[q.name] for q in problem.unknowns.quantities}, **point)
    assert again.steps < found.steps
    with pytest.raises(ParameterError, match=r"V1\[1,1\] = -1 is outside its range"):
        solve(problem, start={"V1": [[1, 0], [0, -1]]}, **point)


def test_readouts_of_both_signs_are_one_group_for_an_odd_activation():
    """Flipping a row and its readout changes nothing; the means are collinear, so only their difference is determined."""
    one = solve(SpikedRandomFeatures(activation="tanh", target="sin"), throw=True, **POINT)
    for share in (1.0, 4.0):
        both = solve(compiled(2), throw=True, u_1=-1.0, share_0=share, **POINT)
        assert both["test_error"] == pytest.approx(one["test_error"], rel=1e-10)
        assert both["m"][0] - both["m"][1] == pytest.approx(one["m"], rel=1e-9)


LIMITS = [{"alpha0": 0.0}, {"alpha0": math.inf}, {"reg": 0.0, "alpha": 3.0}, {"reg": 0.0, "alpha": 0.4}]


@pytest.mark.parametrize("change", LIMITS, ids=str)
def test_limits_are_values_of_parameters(change):
    s = solve(compiled(2), throw=True, **{**POINT, **VALUES[2], **change})
    near = {"alpha0": 1e-9, "reg": 1e-9} if change.get("alpha0", 0) == 0 else {"alpha0": 1e9, "reg": 1e-9}
    beside = {k: near[k] if k in near else v for k, v in change.items()}
    if change == {"alpha0": 0.0}:  # no step is not the limit of few samples: compare with no rate
        beside = {"eta": 0.0}
    n = solve(compiled(2), throw=True, **{**POINT, **VALUES[2], **beside})
    assert s["test_error"] == pytest.approx(n["test_error"], rel=1e-5)


def test_bad_groups_are_refused_in_one_line():
    with pytest.raises(OptionError, match=r"groups: '4' is not a whole number in \[1, 3\]"):
        SpikedRandomFeatures(groups="4")
    with pytest.raises(ParameterError, match="unknown parameter 'u_2'"):
        solve(SpikedRandomFeatures(groups=2), u_2=1.0, **POINT)
    with pytest.raises(ParameterError, match="share_0 = 0 is outside its range"):
        solve(SpikedRandomFeatures(groups=2), share_0=0.0, **POINT)


def against_features(count, options, point, size, repeats, allowance=10.0):
    """Largest |z| of observables and order parameters against trained spiked features."""
    model = SpikedRandomFeatures(groups=count, mean_mode="finite", **options)
    problem, width = model.compile(), round(size * point["beta"])
    theory = solve(problem, throw=True, width=float(width), **point)
    definitions = ByHand.at(problem, width=float(width), **point).definitions(model)
    spike = {"gamma": definitions["gamma"]} | {
        name: [definitions[f"{name}_{k}"] for k in range(count)] for name in ("r", "c")
    }
    labels = Labels(model.choices["target"], model.sign, point["noise"])
    rest = {name: point[name] for name in ("alpha", "beta", "reg")}
    shares = [point.get(f"share_{k}", 1.0) for k in range(count)]
    rng = np.random.default_rng(7)
    runs = [
        train_spiked_features(
            model.choices["activation"].numeric(), labels, **rest, **spike, size=size, rng=rng, loss=model.choices["loss"],
            shares=shares,
        )
        for _ in range(repeats)
    ]  # fmt: skip
    largest = 0.0
    for name in ("test_error", "train_error", "q2", "theta", "m"):
        values = np.array([r[name] for r in runs])
        sem = values.std(axis=0, ddof=1) / math.sqrt(repeats)
        scale = allowance / size * np.abs(theory[name]).max()
        z = (values.mean(axis=0) - theory[name]) / np.hypot(sem, scale)
        print(f"{name}: {np.round(z, 2)}")
        largest = max(largest, float(np.abs(z).max()))
    return largest


def test_spiked_features_in_groups_are_predicted():
    assert against_features(2, {}, {**POINT, **VALUES[2]}, 200, 12) < 4


@pytest.mark.slow
@pytest.mark.parametrize(
    "count, options, change",
    [
        (2, {}, {}),
        (3, {}, {}),
        (3, {"activation": "relu", "target": "tanh"}, {"alpha": 2.5, "reg": 0.05}),
        (2, {"activation": "softplus", "target": "relu"}, {"beta": 0.6, "eta": 1.0}),
        (2, {"loss": "logistic", "labels": "sign", "target": "identity"}, {}),
        (2, {"loss": "huber(0.5)", "target": "identity"}, {}),
    ],
    ids=str,
)
def test_spiked_features_in_groups_are_predicted_at_size(count, options, change):
    assert against_features(count, options, {**POINT, **VALUES[count], **change}, 600, 12) < 4


@pytest.mark.slow
@pytest.mark.parametrize("options, alpha0", [({}, 30.0), ({"activation": "relu", "target": "tanh"}, math.inf)])
def test_trained_networks_in_groups_are_predicted(options, alpha0):
    model = SpikedRandomFeatures(groups=2, bulk="coupled", mean_mode="finite", **options)
    size, rng = 500, np.random.default_rng(5)
    theory = solve(model, throw=True, width=size * POINT["beta"], **{**POINT, **VALUES[2], "alpha0": alpha0})
    runs = [model.simulate(theory.parameters, size, rng) for _ in range(16)]
    for name in ("test_error", "train_error"):
        values = np.array([r[name] for r in runs])
        z = (values.mean() - theory[name]) / math.hypot(values.std(ddof=1) / 4, 10 / size * theory[name])
        print(f"{name}: {z:+.2f}")
        assert abs(z) < 4
