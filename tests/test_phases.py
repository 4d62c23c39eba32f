"""Phases of wide line networks: exponents derived by max-plus rules, and met by networks of finite width."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

from replica.models import WideLineNetwork
from replica.models.schemes import SCHEMES
from replica.phases import NAMES, PHASES, Exponents, PhaseError, classify, derived, leading_exponent, phase_map
from solvers import Result, solve

rng = np.random.default_rng(20261124)


@pytest.mark.parametrize("name, delta, regime, eta", [
    ("kaiming-fan-in", 1, "kernel", -1), ("kaiming-fan-out", 1, "kernel", -1), ("unit", 1, "kernel", -1),
    ("ntk", 0.5, "kernel", 0), ("xavier", 0, "critical", 0), ("mean-field", 0, "critical", 1),
])  # fmt: skip
def test_standard_parametrisations(name, delta, regime, eta):
    phase = classify(Exponents.of_scheme(name))
    assert phase.delta == delta
    assert phase.regime == regime
    assert phase.eta_exponent == eta == SCHEMES[name].c_eta
    assert phase.output_diverges == (name == "unit")


def test_regime_does_not_depend_on_a_common_learning_rate():
    for _ in range(50):
        c = rng.uniform(-2, 2, 5)
        shift = rng.uniform(-3, 3)
        one, other = classify(Exponents(*c)), classify(Exponents(*c[:3], c[3] + shift, c[4] + shift))
        assert (one.regime, one.imbalanced) == (other.regime, other.imbalanced)
        assert other.rate == pytest.approx(one.rate + shift)


def test_imbalance_opens_a_window_of_kernel_with_moving_weights():
    """delta - area = |(c_eta_u - c_eta_w) - (c_u - c_w)|/2 >= 0."""
    for _ in range(50):
        c = rng.uniform(-2, 2, 5)
        phase = classify(Exponents(*c))
        assert phase.delta - phase.area == pytest.approx(abs((c[3] - c[4]) - (c[1] - c[2])) / 2)
    assert classify(Exponents(0, 0, -2.5)).name == "imbalanced kernel"


def test_exponents_follow_max_plus_rules_and_differences_are_refused():
    d, x = sp.symbols("d x", positive=True)
    a = sp.Symbol("a", real=True)
    assert leading_exponent((d * x + 3) ** 2 / x, {d: 1, x: a}) == 2 * sp.Max(0, a + 1) - a
    with pytest.raises(PhaseError, match="could cancel"):
        leading_exponent(d - x, {d: 1, x: a})
    with pytest.raises(PhaseError, match="no exponent"):
        leading_exponent(sp.exp(d), {d: 1})
    assert set(derived()) == {"target", "ntk", "rate", "area", "out0", "delta"}


def test_the_map_agrees_with_single_points():
    xs, ys = np.linspace(-2, 1, 7), np.linspace(-2, 2, 9)
    codes = phase_map("c_u", "c_eta_w", xs, ys, Exponents(-0.5, 0, -1, 0.3, 0))
    for i, y in enumerate(ys):
        for j, x in enumerate(xs):
            assert PHASES[codes[i, j]] == classify(Exponents(-0.5, x, -1, 0.3, y)).name


def test_bad_exponents_are_named():
    with pytest.raises(PhaseError, match="c_u = nan"):
        Exponents(0, float("nan"), 0)
    with pytest.raises(PhaseError, match="unknown exponent 'beta'; they are c_gamma"):
        phase_map("beta", "c_u", [0], [0], Exponents(0, 0, 0))


def test_two_hundred_random_exponents_against_networks_of_finite_width():
    """One draw of the weights at d = 1e3 and 1e6; corrections are powers d^-0.15 and smaller, hence 0.1 in a slope."""
    problem = WideLineNetwork(seed=1).compile()
    seen = 0
    while seen < 200:
        exponents = Exponents(*rng.uniform(-2, 1, 5))
        phase = classify(exponents)
        if abs(phase.delta) < 0.15 or abs(phase.area) < 0.15:
            continue
        seen += 1
        given = {name: getattr(exponents, name) for name in NAMES}
        small, large = (solve(problem, width=d, time=np.inf, **given) for d in (1e3, 1e6))
        assert small.result is large.result is Result.CONVERGED
        change = [np.log10(s["ntk_ratio"]) for s in (small, large)]
        if phase.regime == "kernel":
            assert abs(change[1]) < max(0.05, abs(change[0])), exponents
        else:
            assert (change[1] - change[0]) / 3 == pytest.approx(-phase.delta, abs=0.1), exponents
        moved = abs(np.log10(np.sin(large["angle"]) / np.sin(solve(problem, width=1e6, time=0.0, **given)["angle"])))
        assert (moved > 0.05) == (phase.area < 0), (exponents, moved)
        assert np.log10(large["rate"] / small["rate"]) / 3 == pytest.approx(phase.rate, abs=0.05), exponents
