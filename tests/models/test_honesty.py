"""Ten thousand random points over all models: the reported error against the true one, and physical constraints.

The truth is a solution of doubled accuracy: twice the quadrature nodes that the point used, a hundredth of the tolerance or
less.  Formulas in closed form are their own truth here; tests of their models compare them with many digits.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from replica.models import MODELS
from solvers import DampedIteration, FixedPointProblem, Integrate, Ladder, Newton, Result, solve_points
from solvers.solve import default_method

SEED = 20261126


def log(low, high):
    return lambda rng: 10 ** rng.uniform(low, high)


def uniform(low, high):
    return lambda rng: rng.uniform(low, high)


def one_of(*values):
    return lambda rng: float(rng.choice(values))


def zero_or(draw):
    return lambda rng: 0.0 if rng.random() < 0.2 else draw(rng)


def whole(low, high):
    return lambda rng: float(rng.integers(low, high + 1))


TEACHER = {"alpha": log(-1, 1.3), "reg": log(-4, 1), "noise": zero_or(log(-2, 0)), "rho": log(-1, 1)}
CLASSES = {"alpha": log(-1, 1.3), "reg": log(-4, 1), "noise": zero_or(log(-2, 0)), "flip": zero_or(uniform(0, 0.3))}
SRF = {"alpha": log(-1, 1), "beta": log(-0.5, 0.5), "alpha0": one_of(0.0, 0.5, 2.0, 8.0, 30.0, math.inf), "reg": log(-4, 1),
       "eta": zero_or(uniform(0, 4)), "noise": zero_or(uniform(0, 0.5))}  # fmt: skip
LINE = {"gamma": uniform(0.2, 2), "eta_u": log(-1, 1), "eta_w": log(-1, 1), "A": log(-1, 1), "B": uniform(-2, 2),
        "noise": zero_or(log(-2, 0)), "time": log(-1, 1.5)}  # fmt: skip
START = {"norm_u0": log(-2, 0.5), "norm_w0": log(-2, 0.5), "cos_angle0": uniform(-1, 1)}

#: model, options, number of points, how each parameter is drawn; what is left out takes its default.
CASES = [
    ("ridge", {}, 1000, TEACHER),
    ("ridge", {"target": "sign"}, 500, TEACHER),
    ("ridge", {"target": "he3"}, 500, TEACHER),
    *(("srf", {"activation": a, "target": t}, 250, SRF) for a, t in (
        ("tanh", "sin"), ("relu", "sign"), ("erf", "he2"), ("identity", "relu"), ("softplus", "tanh"), ("sigmoid", "abs"))),
    *(("glm", {"loss": loss}, 100, TEACHER) for loss in ("square", "huber", "absolute", "quantile(0.3)")),
    *(("glm", {"loss": loss, "labels": "sign"}, 100, CLASSES) for loss in ("square", "logistic", "hinge", "squared_hinge")),
    *(("bayes-optimal", options, 60, {"alpha": log(-1, 0.7), "noise": log(-3, 0), "density": uniform(0.05, 0.9)}) for options in (
        {"prior": "gaussian", "channel": "linear"}, {"prior": "binary", "channel": "sign"},
        {"prior": "sparse", "channel": "linear"}, {"prior": "gaussian", "channel": "modulus"})),
    ("line-network", {}, 1500, LINE | START | {"c_loss": log(-1, 1), "time": one_of(0.0, 0.3, 1.0, 3.0, 30.0, math.inf)}),
    ("wide-line-network", {}, 300, LINE | {"width": whole(1, 1000), "c_gamma": uniform(-1, 0.5), "c_u": uniform(-1, 0)}),
    ("line-descent", {}, 700, LINE | START | {"step": log(-3, -1), "time": whole(0, 300)}),
    ("decaying-line-network", {}, 700, LINE | START | {"decay": zero_or(log(-3, 0))}),
    ("deep-mode", {}, 700, {"depth": whole(1, 8), "s": log(-1, 1), "u0": log(-2, 0), "time": log(-1, 1)}),
    ("linear-student", {}, 500, {"alpha": log(-1, 1), "noise": zero_or(log(-2, 0)), "reg": zero_or(log(-3, 0)),
                                 "q0": zero_or(log(-1, 0)), "cos_angle0": uniform(-1, 1), "time": log(-1, 2)}),
    ("two-layer-student", {}, 60, {"alpha": log(-0.5, 0.7), "noise": zero_or(log(-2, 0)), "gamma": uniform(0.5, 1.5),
                                   "decay": zero_or(log(-3, -1)), "scale_u": uniform(0.2, 1), "time": log(-1, 0.7)}),
    ("online-student", {}, 340, {"eta_w": log(-1, 0), "eta_v": zero_or(log(-1, 0)), "noise": zero_or(log(-2, 0)),
                                 "time": log(-1, 1)}),
    ("giant-step", {}, 300, {"alpha": log(-1, 1), "noise": zero_or(log(-2, 0)), "time": one_of(0.0, 0.5, 1.0, 3.0, math.inf)}),
    ("giant-leap", {}, 20, {"alpha": log(-1, 1), "noise": zero_or(log(-2, 0)), "d": one_of(200, math.inf)}),
    ("mixture", {}, 40, {"d": whole(2, 200), "mean": log(-0.5, 1), "bias": uniform(-1, 1), "gamma": uniform(0.02, 0.4)}),
    ("parity", {}, 400, {"D": whole(8, 60), "k": whole(1, 8), "gamma": uniform(0.02, 0.4), "beta": uniform(-1, 1)}),
    ("dictionary", {}, 160, {"D": whole(10, 300), "k": one_of(1, 3, 5, 7), "rho": uniform(0, 1), "gamma": uniform(0.02, 0.4),
                             "batch": log(2, 5)}),
]  # fmt: skip
IDS = ["-".join([name, *options.values()]) for name, options, _, _ in CASES]


def draw_points(problem, draws, count):
    rng = np.random.default_rng([SEED, len(problem.parameters), count])
    known = {q.name for q in problem.parameters}
    return np.array([problem.point({k: d(rng) for k, d in draws.items() if k in known}) for _ in range(count)])


def doubled(problem, points, nodes):
    """The same points with doubled accuracy."""
    method = default_method(problem)
    if isinstance(method, DampedIteration):  # the model's own: another method may reach another fixed point
        finest = {"rtol": 1e-12, "nodes": 2 * nodes, "max_nodes": 2 * nodes, "quadrature_rtol": 0.5}
        return solve_points(problem, points, replace(method, **finest))
    if isinstance(problem, FixedPointProblem):
        return solve_points(problem, points, Newton(rtol=1e-12, nodes=2 * nodes, max_nodes=2 * nodes, quadrature_rtol=0.5))
    finest = 2 * nodes
    if isinstance(method, Integrate):
        more = {"nodes": finest, "max_nodes": finest, "quadrature_rtol": 0.5} if nodes else {}
        return solve_points(problem, points, replace(method, **more))
    return solve_points(problem, points, replace(method, nodes=finest, max_nodes=finest, quadrature_rtol=0.9))


def test_there_are_ten_thousand_points():
    assert sum(count for _, _, count, _ in CASES) >= 10_000
    assert {name for name, _, _, _ in CASES} == set(MODELS)


def test_a_trajectory_of_few_steps_is_not_taken_for_exact():
    """Both tolerances take the same eight steps."""
    problem = MODELS["deep-mode"]().compile()
    points = np.array([problem.point({"depth": 6, "s": 0.2537, "u0": 0.0598, "time": 2.6326})])
    rough, fine = solve_points(problem, points, Integrate(rtol=1e-5)), solve_points(problem, points, Integrate())
    true = np.abs(rough.values - fine.values).max()
    assert 1e-12 < true <= 3 * rough.error[0]


def test_an_event_that_no_point_sees_is_not_taken_for_impossible():
    problem = MODELS["parity"]().compile()
    points = np.array([problem.point({"D": 42, "k": 7, "gamma": 0.037, "beta": 0.012})])
    batch = solve_points(problem, points, default_method(problem))
    finer = doubled(problem, points, int(batch.nodes[0]))
    true = np.abs(batch.values - finer.values).max()
    assert 1e-5 < true <= 3 * (batch.error + batch.quadrature_error)[0]


@pytest.mark.slow
@pytest.mark.parametrize("case", range(len(CASES)), ids=IDS)
def test_reported_errors_are_honest_and_converged_points_physical(case):
    name, options, count, draws = CASES[case]
    problem = MODELS[name](**options).compile()
    points = draw_points(problem, draws, count)
    method = default_method(problem)
    if isinstance(method, Newton):
        method = Ladder()
    if isinstance(method, Integrate):
        method = Integrate(rtol=1e-7)  # the default is at the limit of double precision, with nothing more accurate to compare
    batch = solve_points(problem, points, method)
    good = batch.result == Result.CONVERGED
    # Alone, without neighbours to continue from, kinked losses at small reg fail now and then; they say so.
    assert good.mean() > 0.9, np.bincount(batch.result)

    worst, beyond, checked = 0.0, 0, 0
    for nodes in np.unique(batch.nodes[good]):
        rows = np.flatnonzero(good & (batch.nodes == nodes))
        truth = doubled(problem, points[rows], int(nodes))
        with np.errstate(invalid="ignore"):  # inf - inf, where a time or a limit is infinite
            off = np.abs(batch.values[rows] - truth.values)
        off[batch.values[rows] == truth.values] = 0.0
        usable = np.isin(truth.result, (Result.CONVERGED, Result.QUADRATURE_UNRESOLVED, Result.STALLED)) & np.isfinite(
            truth.error + truth.quadrature_error
        )
        true = off.max(axis=1)[usable]
        reported = (batch.error + batch.quadrature_error)[rows][usable]
        worst = max(worst, float(np.max(true / reported, initial=0.0)))
        beyond += int(np.count_nonzero(true > 3 * reported))
        checked += int(np.count_nonzero(usable))
    print(f"{IDS[case]}: {good.sum()} of {count} converged, {checked} checked, largest true/reported {worst:.2g}")
    assert checked > 0.95 * good.sum()
    assert beyond == 0

    values = {key: v[good] for key, v in problem.values.unpack(batch.values).items()}
    for q in problem.values.quantities:
        assert not np.isnan(values[q.name]).any(), q.name
        if not (q.symmetric and q.shape):
            assert (values[q.name] >= q.lower - 1e-10).all(), q.name
            assert (values[q.name] <= q.upper + 1e-10).all(), q.name
    given = {q.name: points[good, i] for i, q in enumerate(problem.parameters)}
    slack = 1 + 1e-9
    if name in ("ridge", "glm"):
        assert (values["m"] ** 2 <= given["rho"] * values["q"] * slack + 1e-10).all()
        assert (values["V"] > 0).all()
    if name == "srf":
        assert (values["psi"] ** 2 <= values["q1"] * slack + 1e-10).all()
        assert (np.minimum(values["V1"], values["V2"]) > 0).all()
    for key in values:
        if "cos" in key:
            assert (np.abs(values[key]) <= slack).all(), key
