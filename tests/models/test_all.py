"""Claims every model of the package satisfies, at random parameters over all named activations and targets."""

from __future__ import annotations

import numpy as np
import pytest
from by_hand import ByHand

from replica.activations import NAMED
from replica.models import MODELS
from solvers import Anderson, DampedIteration, Newton, Result, solve_points

POINTS = 12  # per pair of functions: 17 pairs, so 204 points of srf
ANY = 20261123


def _pairs():
    """Every named function once as activation and once as target."""
    names = list(NAMED)
    srf = [("srf", {"activation": a, "target": names[(5 * i + 3) % len(names)]}) for i, a in enumerate(names)]
    ridge = [("ridge", {"target": name}) for name in ("identity", "sign", "he3")]
    coupled = [("srf", {"activation": "softplus", "target": "sigmoid", "bulk": "coupled"})]
    return srf + ridge + coupled


CASES = _pairs()
IDS = ["-".join([name, *options.values()]) for name, options in CASES]


def random_points(problem, seed):
    """Parameters over the ranges of interest, the limits alpha0 = 0, alpha0 = inf, eta = 0 and noise = 0 included."""
    rng = np.random.default_rng([ANY, seed])

    def draw():
        return {
            "alpha": 10 ** rng.uniform(-1, 1),
            "beta": 10 ** rng.uniform(-0.5, 0.5),
            "alpha0": rng.choice([0.0, np.inf, *10 ** rng.uniform(-0.3, 1.7, 2)]),
            "eta": rng.choice([0.0, *rng.uniform(0, 4, 2)]),
            "reg": 10 ** rng.uniform(-4, 1),
            "noise": rng.choice([0.0, 0.3]),
        }

    names = [q.name for q in problem.parameters]
    return np.array([problem.point({k: v for k, v in draw().items() if k in names}) for _ in range(POINTS)])


@pytest.fixture(scope="module", params=range(len(CASES)), ids=IDS)
def case(request):
    name, options = CASES[request.param]
    model = MODELS[name](**options)
    problem = model.compile()
    points = random_points(problem, request.param)
    return model, problem, points, solve_points(problem, points, Newton(rtol=1e-12))


def relative(a, b):
    return np.abs(a - b) / np.maximum(1, np.abs(b))


def test_three_methods_converge_to_the_same_solution(case):
    _, problem, points, newton = case
    assert (newton.result == Result.CONVERGED).all()
    for method in (DampedIteration(rtol=1e-12, max_steps=200_000), Anderson(rtol=1e-12)):
        other = solve_points(problem, points, method)
        assert (other.result == Result.CONVERGED).all(), method
        # 1e-12 in the residual, contraction up to 0.999
        assert relative(other.values, newton.values).max() < 1e-9, method


def test_free_entropy_is_stationary_at_the_fixed_point(case):
    """Fourth-order differences of the compiled free entropy in every order parameter and conjugate."""
    model, problem, points, batch = case
    n_x, n_hat = problem.unknowns.size, len(model.couplings)
    names = list(problem.values.component_names[: n_x + n_hat])
    partner = {}
    for x, h, c in model.couplings:
        i, j = names.index(_flat(x, names)), names.index(_flat(h, names))
        partner[i], partner[j] = (j, float(c)), (i, float(c))
    for p, values, nodes in zip(points, batch.values, batch.nodes, strict=True):
        named = dict(zip([q.name for q in problem.parameters], p, strict=True))
        phi = ByHand.at(problem, int(nodes), **named).entropy
        y = values[: n_x + n_hat]
        size = abs(phi(y)) + sum(abs(c * y[k] * y[i]) for k, (i, c) in partner.items())
        for k in range(n_x + n_hat):
            if y[k] == 0:  # an overlap that vanishes by symmetry has no scale to difference on
                continue
            h = 1e-3 * abs(y[k])
            shifted = [phi(y + h * s * np.eye(len(y))[k]) for s in (-2, -1, 1, 2)]
            slope = (shifted[0] - 8 * shifted[1] + 8 * shifted[2] - shifted[3]) / (12 * h)
            own = abs(partner[k][1] * y[k] * y[partner[k][0]]) if k in partner else size
            # relative 1e-7 of the term that the gradient balances; 1e-12 / 1e-3 is the rounding of the differences
            assert abs(slope * y[k]) < 1e-7 * own + 1e-9 * size, names[k]


def _flat(symbol, names):
    """Component name of a symbol: m -> m, V_0_1 -> V[0,1]."""
    text = str(symbol)
    return text if text in names else next(n for n in names if n.replace("[", "_").replace(",", "_").rstrip("]") == text)


@pytest.mark.parametrize("method", [Newton(), DampedIteration(), Anderson()], ids=lambda m: m.name)
def test_reported_error_bounds_the_true_error(case, method):
    """Against a solve with eight times the nodes and a tighter tolerance."""
    _, problem, points, _ = case
    batch = solve_points(problem, points, method)
    exact = solve_points(problem, points, Newton(rtol=1e-13, nodes=576, max_nodes=576, quadrature_rtol=0.1))
    good = batch.result == Result.CONVERGED
    assert good.all()
    true = np.abs(batch.values - exact.values).max(axis=1)
    assert (true <= 3 * (batch.error + batch.quadrature_error)).all()


def test_converged_points_are_physical(case):
    model, problem, _, batch = case
    values = problem.values.unpack(batch.values)
    for q in problem.values.quantities:
        if np.isfinite(q.lower):
            assert (values[q.name] >= q.lower - 1e-10).all(), q.name
    if model.name == "srf":
        assert (values["V1"] > 0).all()
        assert (values["V2"] > 0).all()
        assert (values["psi"] ** 2 <= values["q1"] + 1e-10).all()
