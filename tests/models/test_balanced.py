"""Balanced two-layer networks: the matrix Riccati solution against the weights."""

import json

import numpy as np
import pytest

from replica.balanced_network import BalancedNetwork, BalanceError, certificates
from replica.inputs import read_balanced

TIMES = [0.0, 0.3, 1.0, 3.0]
# inputs, hidden, outputs, lam: unequal sizes, bottlenecks, wide hidden layers that are rank deficient, one hidden unit
CASES = [(4, 3, 5, 0.0), (4, 3, 5, 0.7), (5, 3, 2, -0.5), (6, 2, 2, 0.7), (2, 5, 3, 0.0), (3, 1, 4, 0.3), (3, 4, 4, 0.2)]


def test_the_certificates_hold():
    assert all(c.holds for c in certificates())


@pytest.mark.parametrize("inputs, hidden, outputs, lam", CASES)
def test_the_closed_form_is_the_motion_of_the_weights(inputs, hidden, outputs, lam):
    network = BalancedNetwork.random(inputs, hidden, outputs, lam, 0.5, seed=1)
    assert network.lam == pytest.approx(lam, abs=1e-12)
    exact, raw = network.solve(TIMES), network.simulate(TIMES)
    for name in raw.values:
        np.testing.assert_allclose(exact[name], raw[name], rtol=1e-10, atol=1e-10, err_msg=name)  # of the integration
    assert (exact.error < 1e-11).all()


def test_a_start_of_rank_one_stays_there():
    network = BalancedNetwork(np.outer([1, 0, 0], [0.3, 0, 0]), np.outer([0.3, 0], [1, 0, 0]), [[1.0, 2, 0], [0, 1, 1]])
    exact, raw = network.solve(TIMES), network.simulate(TIMES)
    np.testing.assert_allclose(exact["output"], raw["output"], atol=1e-10)


def test_unequal_learning_rates():
    even = BalancedNetwork.random(4, 3, 5, 0.3, 0.5, seed=2)
    network = BalancedNetwork(np.sqrt(2.0) * even.W1, np.sqrt(0.5) * even.W2, even.Sigma, eta_1=2.0, eta_2=0.5)
    exact, raw = network.solve(TIMES), network.simulate(TIMES)
    for name in raw.values:
        np.testing.assert_allclose(exact[name], raw[name], rtol=1e-10, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("time", [1e4, np.inf])
def test_from_a_tiny_start_to_the_best_fit_of_its_rank(time):
    network = BalancedNetwork.random(4, 2, 5, 0.0, 1e-20, seed=3)
    u, s, v = np.linalg.svd(network.Sigma)
    best = (u[:, :2] * s[:2]) @ v[:2]
    np.testing.assert_allclose(network.solve([time])["output"][0], best, atol=1e-12)


def test_what_cannot_be_balanced_is_refused_with_the_measured_defect():
    with pytest.raises(BalanceError, match=r"closest multiple of the identity, lam = 2\.5, by 2\.69e\+00"):
        BalancedNetwork([[1.0, 2], [0, 1]], [[1.0, 0], [3, 1]], np.eye(2))
    with pytest.raises(BalanceError, match="lam = 1 needs at least 4 outputs"):
        BalancedNetwork.random(5, 4, 2, 1.0, 0.5, 0)
    with pytest.raises(BalanceError, match="shapes W1"):
        BalancedNetwork(np.eye(2), np.eye(3), np.eye(2))
    with pytest.raises(BalanceError, match="eta_1 = -1"):
        BalancedNetwork(np.eye(2), np.eye(2), np.eye(2), eta_1=-1.0)
    with pytest.raises(BalanceError, match="not finite"):
        BalancedNetwork(np.full((2, 2), np.nan), np.eye(2), np.eye(2))
    with pytest.raises(BalanceError, match="times"):
        BalancedNetwork(np.eye(2), np.eye(2), np.eye(2)).solve([-1.0])


def test_a_network_is_read_from_a_file(tmp_path):
    path = tmp_path / "network.json"
    content = {"W1": [[0.1, 0], [0, 0.1]], "W2": [[0.1, 0], [0, 0.1]], "Sigma": [[2, 1], [1, 1]], "times": [0, "inf"]}
    path.write_text(json.dumps(content))
    network, times = read_balanced(path)
    np.testing.assert_allclose(network.solve(times)["output"][1], [[2, 1], [1, 1]], atol=1e-12)
