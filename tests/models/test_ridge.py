"""Ridge regression against closed forms and identities."""

import mpmath
import numpy as np
import pytest

from replica.models import RidgeRegression
from solvers.methods import Newton
from solvers.solve import solve

TIGHT = Newton(rtol=1e-12)


def closed_form(alpha, reg, noise):
    """The saddle point for a linear teacher: one quadratic equation, two linear ones, in 60 digits."""
    with mpmath.workdps(60):
        alpha, reg, noise = mpmath.mpf(alpha), mpmath.mpf(reg), mpmath.mpf(noise)
        b = reg + alpha - 1
        V = (mpmath.sqrt(b * b + 4 * reg) - b) / (2 * reg)  # reg V^2 + (reg + alpha - 1) V = 1
        m = alpha * V / (1 + V)
        slope = alpha * (V / (1 + V)) ** 2
        q = (m**2 + slope * (1 + noise - 2 * m)) / (1 - slope)
        test = 1 + noise + q - 2 * m
        found = {"V": V, "q": q, "m": m, "test_error": test, "train_error": test / (1 + V) ** 2}
        return {name: float(x) for name, x in found.items()} | {"slope": float(slope)}


def random_points(count):
    rng = np.random.default_rng(5)
    for k in range(count):
        alpha = [rng.uniform(0.1, 0.9), rng.uniform(1.1, 5), 10.0 ** rng.uniform(-3, 3)][k % 3]
        yield {"alpha": alpha, "reg": 10.0 ** rng.uniform(-8, 3), "noise": rng.choice([0.0, 0.01, 1.0])}


@pytest.mark.parametrize("point", list(random_points(50)), ids=lambda p: " ".join(f"{k}={v:.2g}" for k, v in p.items()))
def test_a_linear_teacher_has_the_closed_form(ridge, point):
    solution = solve(ridge, method=TIGHT, throw=True, **point)
    exact = closed_form(**point)
    # Rounding of q and m, amplified by the slope of the map.
    tolerance = 1e-12 * max(1, exact["q"]) / (1 - exact["slope"])
    for name in ("V", "q", "m", "test_error", "train_error"):
        assert solution[name] == pytest.approx(exact[name], rel=1e-12, abs=tolerance), name
        bound = solution.error + 2 * solution.quadrature_error + 4e-16 * abs(exact[name])
        assert abs(solution[name] - exact[name]) <= bound


@pytest.mark.parametrize("reg", [1e-8, 1e-4])
def test_the_closed_form_holds_at_the_interpolation_peak(ridge, reg):
    solution, exact = solve(ridge, method=TIGHT, throw=True, alpha=1, reg=reg, noise=0.1), closed_form(1, reg, 0.1)
    # V = reg^(-1/2): the slope is 1 - 2 sqrt(reg), which costs the digits of 1/sqrt(reg).
    assert solution["V"] == pytest.approx(exact["V"], rel=1e-11)
    assert solution["test_error"] == pytest.approx(exact["test_error"], rel=1e-10)
    assert abs(solution["test_error"] - exact["test_error"]) <= solution.error + 2 * solution.quadrature_error


@pytest.mark.parametrize("alpha", [0.05, 0.5, 0.9, 1.1, 3.0])
def test_the_ridgeless_limit_is_that_of_least_squares(ridge, alpha):
    """1 - alpha + noise/(1 - alpha) of the fit of least norm below interpolation, noise alpha/(alpha - 1) above."""
    s = solve(ridge, alpha=alpha, reg=0, noise=0.3, throw=True)
    exact = 1 - alpha + 0.3 / (1 - alpha) if alpha < 1 else 0.3 * alpha / (alpha - 1)
    assert s["test_error"] == pytest.approx(exact, rel=1e-12)
    near = solve(ridge, alpha=alpha, reg=1e-9, noise=0.3, throw=True)
    assert s["test_error"] == pytest.approx(near["test_error"], rel=1e-6)
    assert s["train_error"] == pytest.approx(near["train_error"], abs=1e-9)


MOMENTS = {  # first Hermite coefficient and second moment of the target
    "sin(z)": (np.exp(-0.5), (1 - np.exp(-2)) / 2),
    "relu": (0.5, 0.5),
    "sign": (np.sqrt(2 / np.pi), 1.0),
    "2*z + he2(z)/3": (2.0, 4 + 2 / 9),
}


@pytest.mark.parametrize("target", MOMENTS)
def test_any_teacher_is_a_linear_one_with_effective_noise(ridge, target):
    h1, power = MOMENTS[target]
    problem = RidgeRegression(target=target).compile()
    for alpha, reg, noise in ((0.5, 0.1, 0.0), (3.0, 1e-3, 0.2), (1.0, 10.0, 0.0)):
        solution = solve(problem, throw=True, alpha=alpha, reg=reg, noise=noise)
        linear = solve(ridge, throw=True, alpha=alpha, reg=reg, noise=(power - h1**2 + noise) / h1**2)
        for name, scale in (("V", 1), ("m", h1), ("q", h1**2), ("test_error", h1**2), ("train_error", h1**2)):
            assert solution[name] == pytest.approx(scale * linear[name], rel=1e-11), name


def test_an_even_teacher_cannot_be_learned():
    problem = RidgeRegression(target="he2(z)").compile()
    solution = solve(problem, throw=True, alpha=2.0, reg=0.5)
    assert solution["m"] == 0.0
    assert solution["test_error"] == pytest.approx(2 + solution["q"], rel=1e-12)  # E he2^2 = 2


def test_a_huge_penalty_leaves_one_gradient_step(ridge):
    reg = 1e5
    solution = solve(ridge, throw=True, alpha=2.0, reg=reg, noise=0.3)
    # w = X^T y / reg to leading order; corrections are O(1/reg).
    assert solution["V"] * reg == pytest.approx(1, rel=3 / reg)
    assert solution["m"] * reg == pytest.approx(2.0, rel=10 / reg)
    assert solution["q"] * reg**2 == pytest.approx(2.0**2 + 2.0 * 1.3, rel=10 / reg)
    assert solution["test_error"] == pytest.approx(1.3 - 4.0 / reg, rel=30 / reg**2)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 3.0])
def test_the_best_penalty_is_the_noise_and_there_the_student_is_bayesian(ridge, alpha):
    def test_error(reg):
        return solve(ridge, method=TIGHT, alpha=alpha, reg=reg, noise=0.4)["test_error"]

    best = solve(ridge, method=TIGHT, alpha=alpha, reg=0.4, noise=0.4)
    assert best["q"] == pytest.approx(best["m"], rel=1e-12)  # Nishimori: student and teacher are two posterior samples
    h = 1e-4
    assert (test_error(0.4 + h) - test_error(0.4 - h)) / (2 * h) == pytest.approx(0, abs=1e-7)  # h^2
    assert test_error(0.4 + h) > best["test_error"] < test_error(0.4 - h)


@pytest.mark.parametrize("point", [{"alpha": 0.5, "reg": 0.1}, {"alpha": 3, "reg": 0.01, "noise": 0.5}], ids=str)
def test_the_free_entropy_is_minus_the_minimum_of_the_training_objective(ridge, point):
    solution = solve(ridge, method=TIGHT, **point)
    objective = point["alpha"] * solution["train_error"] / 2 + point["reg"] * solution["q"] / 2
    assert -solution["free_entropy"] == pytest.approx(objective, rel=1e-12)


@pytest.mark.parametrize("point", [{"alpha": 0.5, "reg": 0.1}, {"alpha": 3, "reg": 0.01, "noise": 0.5}], ids=str)
def test_the_free_entropy_falls_with_the_penalty_at_rate_q_over_two(ridge, point):
    h = 1e-4 * point["reg"]
    up, down = (solve(ridge, method=TIGHT, **point | {"reg": point["reg"] + s}) for s in (h, -h))
    slope = (up["free_entropy"] - down["free_entropy"]) / (2 * h)
    assert slope == pytest.approx(-solve(ridge, **point)["q"] / 2, rel=1e-6)  # h^2 and rounding over h


def test_more_noise_never_helps(ridge):
    errors = [solve(ridge, alpha=1.5, reg=0.1, noise=noise)["test_error"] for noise in (0, 0.1, 0.5, 2.0)]
    assert all(np.diff(errors) > np.diff([0, 0.1, 0.5, 2.0]))
