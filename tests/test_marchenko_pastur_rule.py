"""The quadrature over eigenvalues of sample covariances, at every ratio, near 1 as well."""

from itertools import pairwise

import mpmath as mp
import numpy as np
import pytest

from solvers.spectra import mp_rule

ALPHAS = (0.05, 0.2, 0.5, 0.9, 0.999, 1 - 1e-6, 1.0, 1 + 1e-6, 1.001, 1.1, 1.5, 2.0, 5.0, 20.0, 100.0)


def rule(alpha, n):
    nodes, weights = np.empty(n + 1), np.empty(n + 1)
    mp_rule(alpha, n, nodes, weights)
    return nodes, weights


def resolvent(alpha, z):
    """<1/(h + z)> over the continuous part, by the quadratic equation of the Stieltjes transform."""
    with mp.workdps(40):
        c, z = 1 / mp.mpf(alpha), mp.mpf(z)
        whole = (-(1 - c + z) + mp.sqrt((1 - c + z) ** 2 + 4 * c * z)) / (2 * c * z)
        return float(whole - max(mp.mpf(0), 1 - mp.mpf(alpha)) / z)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_resolvent_and_moments(alpha):
    nodes, weights = rule(alpha, 288)
    assert nodes[0] == 0 and weights[0] == max(0.0, 1 - alpha)
    for k, moment in enumerate((1.0, 1.0, 1 + 1 / alpha)):
        assert weights @ nodes**k == pytest.approx(moment, rel=1e-13)
    for z in (1e-9, 1e-4, 1.0):
        assert weights[1:] @ (1 / (nodes[1:] + z)) == pytest.approx(resolvent(alpha, z), rel=1e-12)


@pytest.mark.parametrize("alpha", [0.5, 0.999, 1.0, 2.0])
@pytest.mark.parametrize("time", [1.0, 100.0, 1e4])
def test_averages_of_relaxations_do_not_depend_on_the_nodes(alpha, time):
    values = []
    for n in (288, 576):
        nodes, weights = rule(alpha, n)
        h = nodes[1:]
        gained = weights[1:] @ (np.expm1(-h * time) ** 2 / h)
        values.append([weights @ np.exp(-nodes * time), gained])
    np.testing.assert_allclose(values[0], values[1], rtol=1e-10)


def test_few_nodes_do_away_from_the_edge():
    for alpha in (0.2, 0.5, 1.5, 2.0, 10.0):
        nodes, weights = rule(alpha, 72)
        assert weights[1:] @ (1 / (nodes[1:] + 1e-6)) == pytest.approx(resolvent(alpha, 1e-6), rel=1e-13)


@pytest.mark.parametrize("alpha", [0.3, 0.9, 0.999, 1.0, 1 + 1e-6, 1.1])
def test_doubling_the_nodes_cuts_the_error_at_least_tenfold(alpha):
    """Geometric convergence, down to rounding: from 36 nodes on an error e becomes less than e/10 + 1e-14."""
    errors = []
    for n in (36, 72, 144, 288):
        nodes, weights = rule(alpha, n)
        found = (weights[1:] @ (1 / (nodes[1:] + z)) / resolvent(alpha, z) - 1 for z in (1e-9, 1e-4, 1.0))
        errors.append(max(abs(e) for e in found))
    assert all(fine < coarse / 10 + 1e-14 for coarse, fine in pairwise(errors)), errors
