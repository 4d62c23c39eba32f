"""Spiked random features with any loss: stationarity, identities, and trained networks."""

import math

import numpy as np
import pytest

from replica.models import SpikedRandomFeatures
from solvers import Newton, Result, solve
from solvers.kernels import entry_points
from solvers.quadrature import rule, table_size
from solvers.solve import solve_points

POINT = {"alpha": 1.5, "beta": 1.2, "alpha0": 4.0, "eta": 1.0, "reg": 0.2, "noise": 0.2}
CASES = [{"loss": "huber(0.5)", "target": "identity"}, {"loss": "hinge", "labels": "sign", "target": "identity"}]


@pytest.fixture(scope="module", params=CASES, ids=lambda c: c["loss"])
def case(request):
    problem = SpikedRandomFeatures(**request.param).compile()
    return problem, solve(problem, method=Newton(rtol=1e-12), throw=True, **POINT)


def test_the_gradient_of_the_free_entropy_vanishes(case):
    problem, s = case
    entries, p, packed = entry_points(problem), problem.point(POINT), rule(s.nodes)
    table = np.zeros(table_size(problem.table, s.nodes))
    entries["tabulate"](p, packed, table)
    names = [*problem.unknowns.names, *(n for n in problem.outputs.names if n.endswith("_hat"))]
    x, out = np.array([float(s[n]) for n in names]), np.empty(1)

    def phi(y):
        entries["entropy"](y, p, table, out)
        return out[0]

    for k, name in enumerate(names):
        h = 1e-3 * max(abs(x[k]), 1e-3)
        f = [phi(x + j * h * np.eye(len(x))[k]) for j in (-2, -1, 1, 2)]
        slope = (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * h)
        assert abs(slope) * max(abs(x[k]), 1e-3) < 3e-9 * (1 + abs(s["free_entropy"])), name


def test_the_free_entropy_is_the_minimum_of_the_training_objective(case):
    """Per weight: -Phi = delta mean loss + reg q2/2, and its slope in reg is q2/2 (note 9.4)."""
    problem, s = case
    delta, h = POINT["alpha"] / POINT["beta"], 2e-3
    assert -s["free_entropy"] == pytest.approx(delta * s["train_loss"] + POINT["reg"] * s["q2"] / 2, rel=1e-8)
    f = [-solve(problem, method=Newton(rtol=1e-12), **{**POINT, "reg": POINT["reg"] + k * h})["free_entropy"]
         for k in (-2, -1, 1, 2)]  # fmt: skip
    assert (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * h) == pytest.approx(s["q2"] / 2, rel=1e-8)


@pytest.mark.slow
def test_a_large_threshold_makes_huber_ridge():
    ridge = solve(SpikedRandomFeatures(target="identity"), throw=True, **POINT)
    huber = solve(SpikedRandomFeatures(target="identity", loss="huber(1000)"), throw=True, **POINT)
    for name in ("V1", "V2", "q1", "q2", "m", "theta", "psi", "test_error", "train_error", "free_entropy"):
        assert huber[name] == pytest.approx(ridge[name], rel=1e-8, abs=1e-10), name


def anywhere(count):
    """Random points, penalties from 1e-2 to 30: at large ones the mean prediction crosses kinks of the prox in narrow steps."""
    rng = np.random.default_rng(5)
    return [{"alpha": 10 ** rng.uniform(-0.7, 1), "beta": 10 ** rng.uniform(-0.5, 0.5), "alpha0": 10 ** rng.uniform(-0.3, 1.5),
             "eta": rng.uniform(0.2, 2.5), "reg": 10 ** rng.uniform(-2, 1.5), "noise": 10 ** rng.uniform(-2, 0)}
            for _ in range(count)]  # fmt: skip


LOSSES = [("hinge", "sign"), ("huber(0.5)", "real"), ("absolute", "real"), ("logistic", "sign")]


def check_random_points(loss, labels, count):
    """All converge, and none is further from the solution with doubled nodes than both say."""
    problem = SpikedRandomFeatures(loss=loss, labels=labels, target="identity").compile()
    points = np.array([problem.point(p) for p in anywhere(count)])
    found = solve_points(problem, points, Newton())
    assert (found.result == Result.CONVERGED.value).all(), found.result
    worst = 0.0
    for k, point in enumerate(points):
        fine = solve_points(problem, point[None], Newton(nodes=2 * int(found.nodes[k]), max_nodes=2304))
        allowed = found.error[k] + found.quadrature_error[k] + fine.error[0] + fine.quadrature_error[0]
        worst = max(worst, np.abs(found.values[k] - fine.values[0]).max() / allowed)
        assert fine.result[0] == Result.CONVERGED.value, k
    print(f"{loss}: {count} points, largest difference over what the errors allow {worst:.2f}")
    assert worst <= 1.1  # one Newton sweep at the doubled nodes tells their difference to first order


@pytest.mark.parametrize("loss, labels", LOSSES[:2])
def test_random_points_converge_and_know_their_error(loss, labels):
    check_random_points(loss, labels, 5)


@pytest.mark.slow
@pytest.mark.parametrize("loss, labels", LOSSES)
def test_sixty_random_points_converge_and_know_their_error(loss, labels):
    check_random_points(loss, labels, 60)


NETWORKS = [
    ({"loss": "huber", "target": "sin"}, {"alpha": 1.5, "alpha0": 20.0, "eta": 2.0, "reg": 0.1, "noise": 0.2}),
    ({"loss": "logistic", "labels": "sign"}, {"alpha": 1.5, "alpha0": 20.0, "eta": 1.0, "reg": 0.1, "noise": 0.3}),
    ({"loss": "hinge", "labels": "sign"}, {"alpha": 1.5, "alpha0": 20.0, "eta": 1.0, "reg": 0.3, "noise": 0.3}),
    ({"loss": "logistic", "labels": "sign", "activation": "relu"},
     {"alpha": 1.5, "alpha0": math.inf, "eta": 1.0, "reg": 0.1, "noise": 0.1, "flip": 0.05}),
    ({"loss": "squared_hinge", "labels": "sign", "activation": "softplus"},
     {"alpha": 1.0, "alpha0": 0.0, "eta": 1.0, "reg": 0.3, "noise": 0.1, "beta": 2.0}),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("options, point", NETWORKS, ids=lambda x: x.get("loss", ""))
def test_trained_networks_are_predicted(options, point):
    """|z| < 4 against 12 networks at d = 400, the cost of the mean at that width, an allowance of 5/d of the value."""
    size, rng, largest = 400, np.random.default_rng(20261124), 0.0
    model = SpikedRandomFeatures(bulk="coupled", mean_mode="finite", **{"target": "identity", **options})
    theory = solve(model, throw=True, width=size * point.get("beta", 1.0), **point)
    runs = [model.simulate(theory.parameters, size, rng) for _ in range(12)]
    for name in runs[0]:
        values = np.array([r[name] for r in runs])
        z = (values.mean() - theory[name]) / math.hypot(values.std(ddof=1) / math.sqrt(12), 5 / size * abs(theory[name]))
        largest = max(largest, abs(z))
        assert abs(z) < 4, (name, values.mean(), theory[name])
    print(f"{options}: largest |z| {largest:.2f}")
