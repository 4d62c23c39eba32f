"""Small linear algebra against numpy, and what happens where numpy raises."""

import numpy as np
import pytest

from solvers.linear import solve_small, spectral_radius


def solved(a, b, pull=None):
    a, b = np.array(a, dtype=float), np.array(b, dtype=float)
    rank = solve_small(a, b, np.zeros(b.size) if pull is None else np.array(pull, dtype=float))
    return rank, b


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
def test_regular_systems_are_solved(n):
    rng = np.random.default_rng(n)
    for _ in range(20):
        a, x = rng.normal(size=(n, n)), rng.normal(size=n)
        rank, found = solved(a, a @ x)
        assert rank == n
        np.testing.assert_allclose(found, x, rtol=0, atol=1e-13 * np.linalg.cond(a) * np.abs(x).max())


def test_rows_of_very_different_size_need_pivoting():
    rank, found = solved([[1e-14, 1.0], [1.0, 1.0]], [1.0, 2.0])
    assert rank == 2
    np.testing.assert_allclose(found, [1.0, 1.0], rtol=1e-13)
    assert solved([[0.0, 2.0], [3.0, 0.0]], [2.0, 3.0])[1].tolist() == [1.0, 1.0]


def test_the_matrix_zero_leaves_everything_at_the_pull():
    rank, found = solved(np.zeros((3, 3)), np.zeros(3), [1.0, 2.0, 3.0])
    assert rank == 0
    assert found.tolist() == [1.0, 2.0, 3.0]


def test_a_consistent_singular_system_takes_the_pull_where_it_is_undetermined_and_is_solved_elsewhere():
    a = np.array([[2.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 3.0]])
    rank, found = solved(a, a @ [1.0, 9.0, 2.0], [7.0, -4.0, 7.0])
    assert rank == 2
    np.testing.assert_allclose(found, [1.0, -4.0, 2.0], rtol=1e-14)


@pytest.mark.parametrize("seed", range(10))
def test_of_the_solutions_of_a_rank_deficient_system_the_nearest_to_the_pull_is_returned(seed):
    """So that a block of a system and the system agree on what neither determines."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(5, 3)) @ rng.normal(size=(3, 5)) * 10.0 ** rng.integers(-3, 4, size=5)
    b, pull = a @ rng.normal(size=5), rng.normal(size=5)
    least, nearest = np.linalg.lstsq(a, b, rcond=1e-12)[0], pull + np.linalg.lstsq(a, b - a @ pull, rcond=1e-12)[0]
    rank, found = solved(a, b)
    assert rank == 3
    np.testing.assert_allclose(found, least, atol=1e-8 * np.abs(least).max())
    np.testing.assert_allclose(solved(a, b, pull)[1], nearest, atol=1e-8 * np.abs(nearest).max())


def test_an_inconsistent_system_has_no_solution():
    rank, found = solved([[1.0, 1.0], [1.0, 1.0]], [1.0, 2.0])
    assert rank == 1
    assert np.isnan(found).any()
    assert np.isnan(solved([[0.0]], [1.0])[1]).all()


def test_nan_anywhere_gives_nan():
    assert np.isnan(solved([[np.nan, 1.0], [1.0, 1.0]], [1.0, 1.0])[1]).all()
    assert np.isnan(solved([[1.0, 0.0], [0.0, 1.0]], [np.nan, 1.0])[1]).any()


@pytest.mark.parametrize("n", [1, 2, 3, 5, 10])
def test_the_spectral_radius_is_that_of_the_eigenvalues_and_errs_upwards(n):
    rng = np.random.default_rng(n)
    for scale in (1e-8, 1.0, 1e8):
        for _ in range(20):
            a = scale * rng.normal(size=(n, n))
            exact = np.abs(np.linalg.eigvals(a)).max()
            # |a^64|^(1/64) in the maximum norm; a non-normal matrix adds its condition to the power 1/64.
            assert exact * (1 - 1e-12) <= spectral_radius(len(a), a) <= 1.1 * exact


@pytest.mark.parametrize("n", [1, 2, 5, 10])
def test_the_spectral_radius_of_a_symmetric_matrix_is_at_most_4_percent_high(n):
    rng = np.random.default_rng(n)
    for _ in range(20):
        a = rng.normal(size=(n, n))
        a = a + a.T
        exact = np.abs(np.linalg.eigvalsh(a)).max()
        assert exact * (1 - 1e-12) <= spectral_radius(len(a), a) <= 1.04 * exact


def test_the_spectral_radius_of_special_matrices():
    assert spectral_radius(3, np.zeros((3, 3))) == 0.0
    assert spectral_radius(2, np.array([[0.0, 1.0], [0.0, 0.0]])) == 0.0  # nilpotent
    assert spectral_radius(1, np.array([[-0.99]])) == pytest.approx(0.99, rel=1e-13)
    angle = 0.3
    turn = 0.5 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert spectral_radius(len(turn), turn) == pytest.approx(0.5, rel=0.01)  # complex pair
