"""Balanced modes of deep linear networks against their closed forms."""

import mpmath as mp
import numpy as np
import pytest

from replica.balanced_network import BalancedNetwork
from replica.models import DeepMode, LineNetwork
from solvers import solve, solve_trajectory

TIMES = np.array([0.0, 0.5, 2.0, 8.0])


def time_from_start(u, u0, s, depth):
    """t = [I(u) - I(u0)]/N with I the antiderivative of u^-(2 - 2/N)/(s - u), by its hypergeometric form."""
    e = mp.mpf(2) - mp.mpf(2) / depth

    def antiderivative(v):
        v = mp.mpf(v)
        if depth == 1:
            return -mp.log(s - v)
        if depth == 2:
            return mp.log(v / (s - v)) / s
        return v ** (1 - e) / ((1 - e) * s) * mp.hyp2f1(1, 1 - e, 2 - e, v / s)

    return (antiderivative(u) - antiderivative(u0)) / depth


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5, 10, 50])
@pytest.mark.parametrize("u0", [1e-4, 0.3])
def test_the_strength_is_reached_at_the_time_of_the_closed_form(depth, u0):
    s = 1.3
    with mp.workdps(40):
        for share in (0.35, 0.9, 0.999):
            t = float(time_from_start(share * s, u0, s, depth))
            # a relative 1e-16 of the time moves the strength by about depth t of that
            found = solve(DeepMode(), depth=depth, s=s, u0=u0, time=t)["strength"]
            assert found == pytest.approx(share * s, rel=1e-9)


def test_two_layers_are_the_line_network_of_width_one():
    s, v, u0 = 1.7, 1.0, 0.01
    deep = solve_trajectory(DeepMode(), TIMES, depth=2, s=s, u0=u0)
    line = solve_trajectory(
        LineNetwork(), TIMES, A=v, B=s, c_loss=0.5, norm_u0=u0**0.5, norm_w0=u0**0.5, cos_angle0=1.0
    )
    np.testing.assert_allclose(deep["strength"], line["output"], rtol=1e-10)
    np.testing.assert_allclose(line["output"], s / (1 + (s / u0 - 1) * np.exp(-2 * s * TIMES)), rtol=1e-12)


def test_a_mode_above_its_target_shrinks_and_one_on_it_stays():
    above = solve_trajectory(DeepMode(), TIMES, depth=2, u0=5.0)["strength"]
    np.testing.assert_allclose(above, 1 / (1 + (1 / 5 - 1) * np.exp(-2 * TIMES)), rtol=1e-10)
    assert (solve_trajectory(DeepMode(), TIMES, depth=7, u0=1.0)["strength"] == 1).all()


@pytest.mark.parametrize("depth, u0", [(1, 0.1), (3, 0.2), (4, 2.0), (6, 0.5)])
def test_all_layers_trained_do_the_same(depth, u0):
    solution = solve(DeepMode(), depth=depth, u0=u0, time=1.5)
    raw = DeepMode().simulate(solution.parameters, 0, None)
    assert solution["strength"] == pytest.approx(raw["strength"], rel=1e-9)


def test_aligned_modes_of_a_matrix_network_are_line_networks_balanced_or_not():
    """W1 = R diag(a) V^T, W2 = U diag(b) R^T, Sigma = U diag(s) V^T: every mode moves alone, with its own a and b."""
    rng = np.random.default_rng(5)
    R, U, V = (np.linalg.qr(rng.standard_normal((3, 3)))[0] for _ in range(3))
    a, b, s = np.array([0.1, 0.5, 0.02]), np.array([0.4, -0.3, 0.7]), np.array([2.0, 1.0, 0.5])
    network = BalancedNetwork(R @ np.diag(a) @ V.T, U @ np.diag(b) @ R.T, U @ np.diag(s) @ V.T, balance_tol=10.0)
    raw = network.simulate(TIMES)["output"]
    modes = [
        solve_trajectory(LineNetwork(), TIMES, B=s[i], c_loss=0.5, norm_u0=abs(b[i]), norm_w0=a[i], cos_angle0=np.sign(b[i]))
        for i in range(3)
    ]
    strengths = np.array([mode["output"] for mode in modes]).T
    np.testing.assert_allclose(raw, np.einsum("ij,tj,kj->tik", U, strengths, V), atol=1e-9)  # of the integration


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 10, 50])
def test_a_mode_above_its_target_comes_down_at_the_time_of_the_integral(depth):
    """t = int du / (N u^(2 - 2/N) (s - u)) by quadrature in log u, where the hypergeometric form has no meaning."""
    s, u0 = 0.8, 3.0
    with mp.workdps(30):
        for strength in (2.0, 0.9):
            ends = [mp.log(u0), mp.log(strength)]
            power = mp.mpf(2) / depth - 1
            t = mp.quad(lambda y, power=power: mp.exp(power * y) / (s - mp.exp(y)), ends) / depth
            found = solve(DeepMode(), depth=depth, s=s, u0=u0, time=float(t))["strength"]
            assert found == pytest.approx(strength, rel=1e-9)  # the method's rtol, with room for the speed of depth 50
