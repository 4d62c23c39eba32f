"""The line network: against 50-digit arithmetic, against the raw weights, and in every limit."""

from __future__ import annotations

from dataclasses import replace

import mpmath as mp
import numpy as np
import pytest

from replica.models import DecayingLineNetwork, LineNetwork, WeightedLineNetwork, WideLineNetwork
from replica.models.line_network import mechanisms
from replica.models.linear_simulations import line_flow, square_slope
from replica.models.schemes import SCHEMES, sample_weights
from solvers import ParameterError, Result, solve, solve_trajectory

DIGITS = 400  # the textbook form cancels exp(-rate t) against 1


def exact(u, w, t, gamma, eta_u, eta_w, A, B, c_loss):
    """Gap, kernel and weights by the textbook Riccati solution ``(P - P+)/(P - P-)``, in high precision."""
    u, w = [mp.mpf(x) for x in u], [mp.mpf(x) for x in w]
    gamma, eta_u, eta_w, A, B, c = (mp.mpf(x) for x in (gamma, eta_u, eta_w, A, B, 2 * c_loss))
    kappa = mp.sqrt(eta_u * eta_w)
    F0, target = gamma * sum(a * b for a, b in zip(u, w, strict=True)), B / A
    if kappa == 0:  # linear regression on the layer that moves
        theta = gamma**2 * (eta_u * sum(b * b for b in w) + eta_w * sum(a * a for a in u))
        gap = (F0 - target) * mp.exp(-c * A * theta * t)
        s = (target + gap - F0) / (gamma * theta / gamma**2) if theta * gamma != 0 else mp.mpf(0)
        return gap, theta, [a + eta_u * s * b for a, b in zip(u, w, strict=True)], [
            b + eta_w * s * a for a, b in zip(u, w, strict=True)]  # fmt: skip
    if gamma == 0:
        return F0 - target, mp.mpf(0), u, w
    p = [(a / mp.sqrt(eta_u) + b / mp.sqrt(eta_w)) / 2 for a, b in zip(u, w, strict=True)]
    q = [(a / mp.sqrt(eta_u) - b / mp.sqrt(eta_w)) / 2 for a, b in zip(u, w, strict=True)]
    P0, Q0 = sum(x * x for x in p), sum(x * x for x in q)
    k, S = 2 * (c / 2) * 2 * A * gamma**2 * kappa**2 / 1, target / (gamma * kappa)
    grown, shrunk = _riccati(P0, Q0, S, k, t), _riccati(Q0, P0, -S, k, t)
    ep = grown / P0 if P0 else (Q0 / shrunk if Q0 else mp.mpf(1))
    ep = mp.sqrt(ep)
    gap = gamma * kappa * (grown - shrunk) - target
    theta = 2 * gamma**2 * kappa**2 * (grown + shrunk)
    now_u = [mp.sqrt(eta_u) * (a * ep + b / ep) for a, b in zip(p, q, strict=True)]
    now_w = [mp.sqrt(eta_w) * (a * ep - b / ep) for a, b in zip(p, q, strict=True)]
    return gap, theta, now_u, now_w


def _riccati(P0, Q0, S, k, t):
    """P' = -k (P^2 - S P - P0 Q0)."""
    D = mp.sqrt(S * S + 4 * P0 * Q0)
    if P0 == 0:
        return mp.mpf(0)
    if D == 0:
        return P0 / (1 + k * P0 * t)
    high, low = (S + D) / 2, (S - D) / 2
    e = mp.exp(-k * D * t) * (P0 - high) / (P0 - low) if P0 != low else mp.mpf(0)
    return low if P0 == low else (high - low * e) / (1 - e)


def random_case(rng):
    """Any width, scale and edge: P0 or Q0 zero or tiny, zero target, frozen, a rate or the multiplier zero."""
    d = int(rng.choice([1, 2, 3, 10]))
    scale = 10 ** rng.uniform(-8, 1)
    u, w = scale * rng.standard_normal(d), scale * rng.standard_normal(d) * 10 ** rng.uniform(-1, 1)
    eta_u, eta_w = (float(2.0 ** rng.integers(-4, 4)) for _ in range(2))
    gamma, A, B = rng.normal(), 10 ** rng.uniform(-1, 1), rng.normal() * 10 ** rng.uniform(-2, 2)
    edge = rng.choice(["", "", "", "p", "q", "p tiny", "q tiny", "target", "frozen", "eta_u", "eta_w", "gamma", "both"])
    if edge in ("p", "q", "p tiny", "q tiny"):
        eta_w = eta_u  # so that the combination vanishes exactly
        w = (-u if edge[0] == "p" else u).copy()
        if "tiny" in edge:
            w[0] = np.nextafter(w[0], np.inf)
    if edge == "target":
        B = 0.0
    if edge == "eta_u":
        eta_u = 0.0
    if edge == "eta_w":
        eta_w = 0.0
    if edge == "both":
        eta_u = eta_w = 0.0
    if edge == "gamma":
        gamma = 0.0
    if edge == "frozen":
        A, gamma, u, w = 1.0, 1.0, np.round(u / scale * 8) / 8, np.round(w / scale * 8) / 8
        B = float(u @ w)
    return u, w, {"gamma": gamma, "eta_u": eta_u, "eta_w": eta_w, "A": A, "B": B, "c_loss": float(rng.choice([0.5, 1.0]))}


def test_five_hundred_random_points_against_high_precision():
    """Relative 1e-12 in gap and kernel, and in the weights relative to their norm; |zeta| = |kappa clock| up to 200."""
    rng = np.random.default_rng(20261124)
    worst = 0.0
    largest = 0.0
    base = WeightedLineNetwork([1.0], [1.0]).compile()  # the text is the same for all weights
    with mp.workdps(DIGITS):
        for _ in range(500):
            u, w, parameters = random_case(rng)
            network = WeightedLineNetwork(u, w)
            problem = replace(base, data=(u, w))
            rate = solve(problem, time=0.0, **parameters)["rate"]
            t = float(rng.choice([10 ** rng.uniform(-3, 2.6), 400.0], p=[0.9, 0.1]) / (rate if rate > 0 else 1.0))
            solution = solve(problem, time=t, **parameters)
            assert solution.result is Result.CONVERGED
            assert not any(np.isnan(v) for v in solution.values.values()), (parameters, solution.values)
            gap, theta, now_u, now_w = exact(u, w, mp.mpf(t), **parameters)
            # 400 digits leave something of a gap that is exactly zero.
            errors = [abs(solution["gap"] - gap) / abs(gap) if abs(gap) > 1e-300 else mp.mpf(abs(solution["gap"]))]
            errors.append(abs(solution["ntk"] - theta) / theta if theta else mp.mpf(abs(solution["ntk"])))
            found = network.weights(solution["clock"], parameters["eta_u"], parameters["eta_w"])
            # A layer that vanishes on the way (width 1, say) has only the other one to be small against.
            size = mp.sqrt(sum(x * x for x in [*now_u, *now_w]))
            for ours, true in zip(found, (now_u, now_w), strict=True):
                error = max(abs(a - b) for a, b in zip(ours, true, strict=True))
                errors.append(error / size if size else error)
            assert max(errors) < 1e-12, (u, w, t, parameters, [float(e) for e in errors])
            worst = max(worst, float(max(errors)))
            largest = max(largest, abs(solution["clock"]) * np.sqrt(parameters["eta_u"] * parameters["eta_w"]))
    assert 0 < worst
    assert largest > 180


@pytest.mark.parametrize("width", [1, 3, 20])
def test_trajectories_are_those_of_the_raw_weights(width):
    rng = np.random.default_rng(width)
    times = np.array([0.0, 0.1, 0.5, 2.0, 5.0])
    for _ in range(10):
        u, w = rng.standard_normal((2, width)) / np.sqrt(width)
        p = {"gamma": 1.0 + rng.random(), "eta_u": rng.random(), "eta_w": rng.random()}
        p |= {"A": 1.2, "B": rng.normal(), "c_loss": 0.5}
        network = WeightedLineNetwork(u, w)
        theory = solve_trajectory(network, times, **p)
        rates = {name: p[name] for name in ("gamma", "eta_u", "eta_w")}
        raw = line_flow(u, w, times, square_slope(p["A"], p["B"], p["c_loss"]), **rates)
        for name in ("output", "ntk", "cos_angle", "norm_u", "norm_w"):
            np.testing.assert_allclose(theory[name], raw[name], rtol=1e-9, atol=1e-9, err_msg=name)  # the ODE's tolerance
        now_u, now_w = network.weights(theory["clock"], p["eta_u"], p["eta_w"])
        np.testing.assert_allclose(now_u, raw["u"], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(now_w, raw["w"], rtol=1e-9, atol=1e-9)


def test_norms_and_angle_say_as_much_as_the_weights():
    rng = np.random.default_rng(3)
    u, w = rng.standard_normal((2, 7))
    norms = {"norm_u0": np.linalg.norm(u), "norm_w0": np.linalg.norm(w)}
    norms["cos_angle0"] = u @ w / (norms["norm_u0"] * norms["norm_w0"])
    p = {"eta_u": 0.3, "eta_w": 2.0, "B": -0.7, "noise": 0.2}
    times = [0, 0.1, 3, np.inf]
    one = solve_trajectory(WeightedLineNetwork(u, w), times, **p)
    other = solve_trajectory(LineNetwork(), times, **p, **norms)
    for name in one.values:
        np.testing.assert_allclose(one[name], other[name], rtol=1e-11, atol=1e-13, err_msg=name)


LIMITS = {
    "saddle": ({"cos_angle0": -1.0}, 0.0, 1.0),
    "mirrored saddle": ({"cos_angle0": 1.0, "B": -1.0}, 0.0, 1.0),
    "logistic": ({"cos_angle0": 1.0, "B": 2.0, "norm_u0": 1e-6, "norm_w0": 1e-6}, 2.0, 0.0),
    "zero target": ({"B": 0.0}, 0.0, 0.0),
    "zero target, algebraic": ({"B": 0.0, "cos_angle0": 1.0}, 0.0, 0.0),
    "frozen at the target": ({"B": 1.0, "cos_angle0": 1.0}, 1.0, 0.0),
    "no weights": ({"norm_u0": 0.0, "norm_w0": 0.0}, 0.0, 1.0),
    "one dead layer": ({"norm_u0": 0.0}, 1.0, 0.0),
    "linear regression": ({"eta_u": 0.0}, 1.0, 0.0),
    "no rates": ({"eta_u": 0.0, "eta_w": 0.0}, 0.0, 1.0),
    "no multiplier": ({"gamma": 0.0}, 0.0, 1.0),
}


@pytest.mark.parametrize("case", LIMITS)
def test_limits_are_reached_without_a_nan(case):
    parameters, limit, stuck = LIMITS[case]
    trajectory = solve_trajectory(LineNetwork(), [0.0, 1e-300, 1e-3, 1.0, 1e3, 1e300, np.inf], **parameters)
    assert trajectory.converged
    assert not any(np.isnan(v).any() for v in trajectory.values.values())
    assert trajectory["output"][-1] == pytest.approx(limit, abs=1e-15)
    assert (trajectory["limit_output"] == trajectory["limit_output"][0]).all()
    assert (trajectory["stuck"] == stuck).all()


def test_layers_that_vanish_keep_their_angle_and_norms():
    """|u|, |w| ~ exp(-rate t/2): u.w underflows long after its square would."""
    start = {"norm_u0": 0.8, "norm_w0": 1.1, "cos_angle0": 1.0, "B": 0.0, "c_loss": 0.5}
    t = solve_trajectory(LineNetwork(), [100.0, 500.0, 1000.0, 1200.0], **start)
    assert t.converged
    rate = 1.1**2 - 0.8**2
    np.testing.assert_array_equal(t["cos_angle"], 1)
    np.testing.assert_allclose(t["norm_w"], rate**0.5, rtol=1e-13)
    later = np.log(t["norm_u"][1:] / t["norm_u"][:-1])
    np.testing.assert_allclose(later, [-400 * rate, -500 * rate, -200 * rate], rtol=1e-12)


def test_invariants_are_conserved():
    """The kernel is a function of the output, the area and the imbalance stay."""
    t = solve_trajectory(LineNetwork(), np.linspace(0, 3, 50), eta_u=0.3, eta_w=1.7, gamma=0.8, B=1.5, cos_angle0=-0.4)
    least = t["ntk"] ** 2 - (2 * 0.8 * np.sqrt(0.3 * 1.7) * t["output"]) ** 2
    np.testing.assert_allclose(least, t["conserved_kernel"] ** 2, rtol=1e-12)
    np.testing.assert_allclose(t["norm_u"] * t["norm_w"] * np.sin(t["angle"]), np.sqrt(1 - 0.4**2), rtol=1e-12)
    np.testing.assert_allclose(1.7 * t["norm_u"] ** 2 - 0.3 * t["norm_w"] ** 2, t["conserved_imbalance"], rtol=1e-12)
    assert t["conserved_area"][0] == pytest.approx(np.sqrt(1 - 0.4**2))
    assert t["conserved_imbalance"][0] == pytest.approx(1.4)


def test_time_to_a_loss_is_the_time_at_which_it_is_reached():
    rng, problem = np.random.default_rng(8), LineNetwork().compile()
    for _ in range(50):
        p = {"norm_u0": 10 ** rng.uniform(-3, 1), "norm_w0": rng.random(), "cos_angle0": rng.uniform(-1, 1), "B": rng.normal(),
             "eta_u": rng.random(), "noise": 0.1, "c_loss": 0.5}  # fmt: skip
        first = solve(problem, time=0.0, **p)["loss"]
        level = 0.05 + (first - 0.05) * rng.uniform(0.01, 0.99)
        when = solve(problem, time=0.0, loss_level=level, **p)["reach_time"]
        assert solve(problem, time=when, **p)["loss"] == pytest.approx(level, rel=1e-9)
    assert solve(problem, time=0.0, noise=0.5, loss_level=0.4)["reach_time"] == np.inf
    assert solve(problem, time=0.0, loss_level=100.0)["reach_time"] == 0.0
    assert solve(problem, time=0.0, cos_angle0=-1.0, loss_level=0.5)["reach_time"] == np.inf  # the saddle


MECHANISMS = {
    "small start": ({"norm_u0": 1e-3, "norm_w0": 1e-3}, ["alignment", "rescaling"]),
    "large layers": ({"norm_u0": 30.0, "norm_w0": 30.0}, ["kernel"]),
    "zero target": ({"B": 0.0, "cos_angle0": 0.9}, ["disalignment", "rescaling"]),
    "parallel": ({"cos_angle0": 1.0, "norm_u0": 0.1, "norm_w0": 0.1}, ["rescaling"]),
    "imbalanced kernel": ({"norm_u0": 100.0, "norm_w0": 1e-4}, ["alignment", "rescaling", "kernel"]),
}


@pytest.mark.parametrize("case", MECHANISMS)
def test_mechanisms_are_named_from_the_initial_condition(case):
    parameters, labels = MECHANISMS[case]
    solution = solve(LineNetwork(), time=0.0, **parameters)
    assert mechanisms(solution.values) == labels
    later = solve(LineNetwork(), time=np.inf, **parameters)
    assert later["ntk"] / solution["ntk"] == pytest.approx(solution["ntk_ratio"], rel=1e-12)
    assert abs(later["cos_angle"]) - abs(solution["cos_angle"]) == pytest.approx(solution["cos_change"], abs=1e-12)


def test_angle_share_is_the_time_resolved_share_integrated():
    """dG = cos^2 dG [norms] + sin^2 dG [angle]."""
    p = {"norm_u0": 0.7, "norm_w0": 0.4, "cos_angle0": 0.3, "B": 1.5}
    ends = solve(LineNetwork(), time=np.inf, **p)
    t = solve_trajectory(LineNetwork(), np.linspace(0, 20, 20001), **p)
    overlap, sine2 = t["output"], np.sin(t["angle"]) ** 2
    share = np.trapezoid(sine2, overlap) / (overlap[-1] - overlap[0])
    assert share == pytest.approx(ends["angle_share"], abs=1e-5)  # the trapezoidal rule's


@pytest.mark.parametrize("scheme, ratio, cosine", [("xavier", 2**0.5, 0.5**0.5), ("mean-field", 2**0.5, 0.5**0.5),
                                                   ("ntk", 1, 0), ("kaiming-fan-in", 1, 0), ("unit", 1, 0)])  # fmt: skip
def test_standard_schemes_at_large_width(scheme, ratio, cosine):
    c = SCHEMES[scheme]
    p = {"c_gamma": c.c_gamma, "c_u": c.c_u, "c_w": c.c_w, "c_eta_u": c.c_eta, "c_eta_w": c.c_eta}
    solution = solve(WideLineNetwork(seed=1), width=1e6, time=np.inf, **p)
    assert solution["ntk_ratio"] == pytest.approx(ratio, abs=5e-3)  # d^-1/2 fluctuations
    assert solution["cos_angle"] == pytest.approx(cosine, abs=5e-3)
    u, w, gamma = sample_weights(scheme, 1000, 1)
    same = solve(WeightedLineNetwork(u, w), time=0.5, gamma=gamma, eta_u=1000**c.c_eta, eta_w=1000**c.c_eta)
    wide = solve(WideLineNetwork(seed=1), width=1000, time=0.5, **p)
    assert wide["output"] == pytest.approx(same["output"], rel=1e-10)


def test_integration_without_decay_repeats_the_closed_form():
    p = {"norm_u0": 0.3, "norm_w0": 0.01, "cos_angle0": -0.3, "B": 1.5, "eta_u": 0.2}
    times = [0.0, 0.3, 1.0, 10.0]
    one, other = solve_trajectory(LineNetwork(), times, **p), solve_trajectory(DecayingLineNetwork(), times, **p)
    for name in other.values:
        np.testing.assert_allclose(other[name], one[name], rtol=1e-9, atol=1e-9, err_msg=name)  # rtol of the method


@pytest.mark.parametrize("bad", [{"eta_u": -1.0}, {"time": -1.0}, {"A": 0.0}, {"B": np.nan}, {"cos_angle0": 1.5}])
def test_bad_parameters_are_named(bad):
    name, value = next(iter(bad.items()))
    with pytest.raises(ParameterError, match=f"{name} = {value:g}"):
        solve(LineNetwork(), **{"time": 1.0, **bad})
