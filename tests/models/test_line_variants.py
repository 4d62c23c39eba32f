"""Line networks without a closed form, against their raw weights and against special functions."""

import mpmath as mp
import numpy as np
import pytest

from replica.model import OptionError
from replica.models import AnyLossLineNetwork, DecayingLineNetwork, LineDescent, LineNetwork
from replica.models.linear_simulations import draw_weights, line_flow
from replica.models.schemes import WeightError
from solvers import Integrate, Result, solve, solve_trajectory
from solvers.solve import solve_points

rng = np.random.default_rng(20261124)
START = {"norm_u0": 0.8, "norm_w0": 1.1, "cos_angle0": -0.3}


@pytest.mark.parametrize("rates", [{}, {"eta_u": 0.3, "eta_w": 1.4}, {"eta_u": 0.0}, {"gamma": -0.7}])
def test_descent_is_the_descent_of_the_raw_weights(rates):
    solution = solve(LineDescent(), step=0.07, time=40, B=0.7, **START, **rates)
    raw = LineDescent().simulate(solution.parameters, 13, rng)
    for name, value in raw.items():
        assert solution[name] == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize("sharpness", [2.5, 3.5, 3.9])
def test_catapults(sharpness):
    """A wide lazy network; step x c A kernel starts above 2: the loss grows, then converges where that product is below."""
    width = 1e6
    start = {"norm_u0": width**0.5, "norm_w0": width**0.5, "cos_angle0": 0.0, "gamma": width**-0.5, "c_loss": 0.5}
    step = sharpness / 2.0
    t = solve_trajectory(LineDescent(), np.arange(0, 4000), step=step, **start)
    assert t.converged
    assert t["loss"].max() > 3 * t["loss"][0]
    assert t["loss"][-1] < 1e-20
    assert step * t["ntk"][-1] < 2
    early = solve(LineDescent(), step=step, time=12, **start)
    raw = LineDescent().simulate(early.parameters, 50, rng)  # norms and angle are all that matters, not the width
    assert early["output"] == pytest.approx(raw["output"], rel=1e-8)  # unstable: the map amplifies rounding


def test_steps_that_are_too_large_diverge_and_say_so():
    start = {"norm_u0": 1e3, "norm_w0": 1e3, "cos_angle0": 0.0, "gamma": 1e-3, "c_loss": 0.5}
    assert solve(LineDescent(), step=4.5 / 2, time=500, **start).result is Result.NONFINITE


@pytest.mark.parametrize("decay", [0.05, 0.4, 2.0])
def test_decay_is_the_decay_of_the_raw_weights(decay):
    solution = solve(DecayingLineNetwork(), decay=decay, time=2.0, B=1.5, eta_u=0.6, **START)
    raw = DecayingLineNetwork().simulate(solution.parameters, 9, rng)
    for name, value in raw.items():
        assert solution[name] == pytest.approx(value, abs=1e-9), name


def test_decay_against_bessel_functions():
    """P(t) of the note's closed form; P - Q is the output."""
    B, m, times = 1.5, 0.2, [0.3, 1.0, 3.0]
    t = solve_trajectory(DecayingLineNetwork(), times, decay=m, B=B, c_loss=0.5, **START)
    first = solve(LineNetwork(), time=0.0, B=B, c_loss=0.5, **START)
    p, q = ((first["norm_u"] ** 2 + first["norm_w"] ** 2) / 4 + sign * first["output"] / 2 for sign in (1, -1))
    with mp.workdps(40):
        k, S = mp.mpf(2), mp.mpf(B)
        z0, drive = k * mp.sqrt(p * q) / (2 * m), k * S - 2 * m
        nu, s, r = abs(drive) / (4 * m), mp.sign(drive), mp.sqrt(mp.mpf(p) / q)
        cI = mp.besselk(nu + s, z0) - r * mp.besselk(nu, z0)
        cK = mp.besseli(nu + s, z0) + r * mp.besseli(nu, z0)
        for time, output in zip(times, t["output"], strict=True):
            z = z0 * mp.exp(-2 * m * time)
            top = cK * mp.besselk(nu + s, z) - cI * mp.besseli(nu + s, z)
            P = mp.sqrt(p * q) * mp.exp(-2 * m * time) * top / (cK * mp.besselk(nu, z) + cI * mp.besseli(nu, z))
            Q = p * q * mp.exp(-4 * m * time) / P
            assert output == pytest.approx(float(P - Q), rel=1e-9)


@pytest.mark.parametrize("decay, limit", [(0.3, 0.7), (0.9, 0.1), (1.1, 0.0)])
def test_decay_shrinks_the_limit_and_collapses_the_network_above_a_threshold(decay, limit):
    """|F| = |F*| - m/(c A gamma kappa), or zero: B = 1, c = 1."""
    solution = solve(DecayingLineNetwork(), decay=decay, time=200.0, c_loss=0.5, **START)
    assert solution["output"] == pytest.approx(limit, abs=1e-8)


def test_logistic_loss_is_that_of_the_raw_weights():
    x, y = rng.standard_normal(40), np.sign(rng.standard_normal(40))
    y = np.where(rng.random(40) < 0.7, np.sign(x), y)
    network = AnyLossLineNetwork(x, y, "softplus(-y*f)")
    times = np.array([0.0, 0.5, 2.0])
    t = solve_trajectory(network, times, eta_u=0.7, **START)
    u, w = draw_weights(START, 6, rng)

    def slope(F):
        return float(np.mean(x * y / (1 + np.exp(y * F * x))))

    raw = line_flow(u, w, times, slope, gamma=1.0, eta_u=0.7, eta_w=1.0)
    for name in ("output", "ntk", "norm_u", "norm_w"):
        np.testing.assert_allclose(t[name], raw[name], rtol=1e-9, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(t["loss"], [np.mean(np.log1p(np.exp(-y * F * x))) for F in t["output"]], rtol=1e-9)


def test_square_loss_on_data_repeats_the_closed_form():
    x, y = rng.standard_normal(30), rng.standard_normal(30)
    t = solve_trajectory(AnyLossLineNetwork(x, y, "(y - f)**2"), [0.0, 1.0], **START)
    A, B = np.mean(x**2), np.mean(x * y)
    line = solve_trajectory(LineNetwork(), [0.0, 1.0], A=A, B=B, noise=np.mean(y**2) - B**2 / A, **START)
    for name in t.values:
        np.testing.assert_allclose(t[name], line[name], rtol=1e-9, atol=1e-9, err_msg=name)


def test_bad_data_and_losses_are_named():
    for x, y, message in (([], [], "non-empty"), ([1.0], [1.0, 2.0], "equal length"), ([0.0], [1.0], "all zero"),
                          ([np.nan], [1.0], "not finite"), (["a"], [1.0], "not lists of numbers")):  # fmt: skip
        with pytest.raises(WeightError, match=message):
            AnyLossLineNetwork(x, y)
    with pytest.raises(OptionError, match="loss"):
        AnyLossLineNetwork([1.0], [1.0], "__import__('os')")


@pytest.mark.parametrize("B, gamma", [(-1.0, 1.0), (1.0, -1.0), (-2.0, 0.5)])
@pytest.mark.parametrize("share", [0.25, 0.9, 1.2])
def test_a_network_collapses_where_the_decay_exceeds_half_the_drive_whatever_the_signs(B, gamma, share):
    """Zero iff |kS| <= 2 m, kS = 2 c gamma kappa B; else |F| = |F*| - m/(c A |gamma| kappa)."""
    eta_u, A = 0.5, 1.3
    force = abs(gamma) * eta_u**0.5 * abs(B)  # |kS|/2 at c = 1
    t = 300.0 / force
    given = {"A": A, "B": B, "gamma": gamma, "eta_u": eta_u, "c_loss": 0.5, **START}
    solution = solve(DecayingLineNetwork(), decay=share * force, time=t, **given)
    assert solution["output"] == pytest.approx(B / A * max(0.0, 1 - share), abs=1e-8)


PARALLEL = {"norm_u0": 0.8, "norm_w0": 1.1, "cos_angle0": 1.0, "B": 0.0, "c_loss": 0.5}


@pytest.mark.parametrize("decay, rtol, time", [(1e-6, 1e-10, 1e3), (0.0, 1e-11, 1e3), (0.0, 1e-8, 200.0), (0.3, 1e-10, 200.0)])
def test_parallel_layers_stay_parallel_while_they_vanish(decay, rtol, time):
    """u.w is exponentially small, and keeps its sign: nothing may be subtracted to get it."""
    s = solve(DecayingLineNetwork(), method=Integrate(rtol=rtol), decay=decay, time=time, **PARALLEL)
    assert s.converged
    assert s["cos_angle"] == 1
    assert s["angle"] == 0


@pytest.mark.parametrize("time", [0.0, 1.0, 100.0, 300.0, 1000.0])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_saddles_and_vanishing_weights_are_finite_at_all_times(time, decay):
    saddle = {"norm_u0": 1.0, "norm_w0": 1.0, "cos_angle0": -1.0, "B": 1.0}
    s = solve(DecayingLineNetwork(), decay=decay, time=time, **saddle)
    assert s.converged
    assert s["output"] <= 0
    assert s["cos_angle"] in (-1, 0)  # 0 once the weights have left the range of floating point
    zero = solve(DecayingLineNetwork(), decay=decay, time=time, **{**saddle, "norm_u0": 0.0, "norm_w0": 0.0})
    assert zero.converged
    assert zero["output"] == zero["norm_u"] == zero["norm_w"] == zero["cos_angle"] == 0


def test_ordinary_points_converge_at_default_settings():
    """Those that do not are amplified by a start near a saddle, and say so."""
    draw, problem = np.random.default_rng(5), DecayingLineNetwork().compile()
    start = {"norm_u0": (-2, 1), "norm_w0": (-2, 1), "A": (-1, 1), "eta_u": (-1, 1), "decay": (-3, 0), "time": (-1, 2)}
    points = [
        {name: 10 ** draw.uniform(*r) for name, r in start.items()} | {"cos_angle0": draw.uniform(-1, 1), "B": draw.normal()}
        for _ in range(200)
    ]
    rows = np.array([problem.point(p) for p in points])
    batch = solve_points(problem, rows, Integrate())
    assert np.mean(batch.result == 0) >= 0.99
    exact = solve_points(problem, rows, Integrate(rtol=1e-8))
    agree = np.abs(exact.values - batch.values).max(axis=1) <= 1.1 * (exact.error + batch.error)
    assert agree.all()
