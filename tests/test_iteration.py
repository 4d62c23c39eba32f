"""What a solve returns is what it says: every outcome, every error estimate, whatever the method and the company.

The codes PENDING and ERROR belong to scans and files, and are produced in test_scan.py and test_store.py.
"""

import math

import numpy as np
import pytest
from by_hand import ByHand, difference_jacobian, state
from small_models import CurieWeiss, UpMagnet

from replica.models import SpikedRandomFeatures
from solvers.methods import Anderson, DampedIteration, Newton
from solvers.result import ConvergenceError, Result
from solvers.solve import solve, solve_points

METHODS = [Newton, DampedIteration, Anderson]
DEFAULT = {"alpha": 0.9, "alpha0": 20, "eta": 3, "reg": 0.1}


@pytest.fixture(scope="module")
def magnet():
    return CurieWeiss().compile()


@pytest.fixture(scope="module")
def up_magnet():
    return UpMagnet().compile()


@pytest.fixture(scope="module")
def linear_features():
    return SpikedRandomFeatures(activation="identity").compile()


# ------------------------------------------------------------------------------------------------ every outcome


@pytest.mark.parametrize("method", METHODS)
def test_converged(srf, ridge, magnet, method):
    for problem, point in ((srf, DEFAULT), (ridge, {"alpha": 0.5, "reg": 0.1}), (magnet, {"J": 1.5, "h": 0.1})):
        assert solve(problem, method=method(), **point).result is Result.CONVERGED


@pytest.mark.parametrize("method", METHODS)
def test_max_steps(srf, magnet, method):
    for problem, point in ((srf, DEFAULT), (magnet, {"J": 1.5, "h": 0.1})):
        solution = solve(problem, method=method(max_steps=1), **point)
        assert solution.result is Result.MAX_STEPS
        assert solution.steps == 1


@pytest.mark.parametrize("method", METHODS)
def test_nonfinite_where_a_response_diverges(ridge, linear_features, method):
    # Without regularisation V (ridge, at interpolation) and V2 (as many linear features as dimensions: mu2 = 0) are
    # infinite.  An iteration may run out of steps on the way.
    for problem, point in ((linear_features, DEFAULT | {"alpha": 2.0, "reg": 0}), (ridge, {"alpha": 1.0, "reg": 0})):
        solution = solve(problem, method=method(max_steps=3000), **point)
        assert not solution.converged


@pytest.mark.parametrize("method", METHODS)
def test_left_domain_by_a_bound(up_magnet, method):
    # The only solution at this field is negative.
    solution = solve(up_magnet, method=method(), J=0.5, h=-0.3)
    assert solution.result is Result.LEFT_DOMAIN
    assert solution.constraint == "bounds of m"


@pytest.mark.parametrize("method", METHODS)
def test_left_domain_by_a_constraint(magnet, method):
    solution = solve(magnet, method=method(), J=2.0, h=0.3, cap=0.2)
    assert solution.result is Result.LEFT_DOMAIN
    assert solution.constraint == "m <= cap"
    assert solution["m"] == pytest.approx(math.tanh(2 * solution["m"] + 0.3), rel=1e-9)


@pytest.mark.parametrize("method", [Newton, DampedIteration])
def test_stalled_below_rounding(srf, method):
    # Often a state is hit that the map reproduces to the last bit, or to what rounding explains; hence many points.
    alphas = np.linspace(0.5, 3, 41)
    solutions = [solve(srf, method=method(rtol=1e-18, max_steps=5000), **{**DEFAULT, "alpha": a}) for a in alphas]
    assert all(s.residual < 1e-12 for s in solutions)  # all did arrive; only the tolerance is out of reach
    assert {s.result for s in solutions} <= {Result.STALLED, Result.CONVERGED}
    assert any(s.result is Result.STALLED for s in solutions)


@pytest.mark.parametrize("method", METHODS)
def test_quadrature_unresolved(srf, method):
    solution = solve(srf, method=method(nodes=8, max_nodes=8), **DEFAULT)
    assert solution.result is Result.QUADRATURE_UNRESOLVED
    assert solution.nodes == 8
    assert solution.residual <= 1e-10


def test_a_solve_that_does_not_converge_raises_on_request_and_says_why(srf):
    with pytest.raises(ConvergenceError, match=r"srf: MAX_STEPS after 1 steps.*alpha=0.9.*raise max_steps"):
        solve(srf, method=DampedIteration(max_steps=1), throw=True, **DEFAULT)
    assert solve(srf, throw=True, **DEFAULT).converged


@pytest.mark.parametrize("method", METHODS)
def test_stalled_is_not_said_far_from_a_solution(linear_features, method):
    # V2 is infinite; whatever becomes of it, "rtol is below what double precision allows" is not the reason.
    solution = solve(linear_features, method=method(max_steps=3000), **DEFAULT | {"alpha": 2.0, "reg": 0})
    assert solution.result not in (Result.STALLED, Result.CONVERGED)


def test_the_codes_produced_here_and_by_scans_are_all_there_are():
    here = {"CONVERGED", "MAX_STEPS", "NONFINITE", "LEFT_DOMAIN", "STALLED", "QUADRATURE_UNRESOLVED"}
    assert {r.name for r in Result} == here | {"PENDING", "ERROR"}
    assert all(r.message for r in Result)


# ------------------------------------------------------------------------------------------------ honest verdicts


def undamped_residual(problem, solution, **point):
    hand = ByHand.at(problem, solution.nodes, **point)
    x = state(problem, solution)
    floor = problem.unknowns.broadcast("floor")
    return np.max(np.abs(hand.update(x) - x) / np.maximum(np.abs(x), floor))


@pytest.mark.parametrize("damping", [0.0, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("method", [DampedIteration, Anderson])
def test_damping_does_not_loosen_the_tolerance(magnet, srf, method, damping):
    for problem, point in ((magnet, {"J": 0.9, "h": 0.1}), (srf, DEFAULT)):
        solution = solve(problem, method=method(damping=damping, rtol=1e-7, quadrature_rtol=0.1), **point)
        assert solution.converged
        # Up to what rounding does to a residual of this size, which the verdict may forgive.
        assert undamped_residual(problem, solution, **point) <= 1e-7 * (1 + 1e-6)
        assert solution.residual == pytest.approx(undamped_residual(problem, solution, **point), rel=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("J", "h"), [(0.99, 0.0), (0.995, 1e-4), (1.0, 1e-3), (1.01, 0.0)])
def test_slow_contraction_is_not_mistaken_for_rounding(magnet, method, J, h):
    # The damped iteration gains half a percent per step here, and still converges.
    assert solve(magnet, method=method(), J=J, h=h).result is Result.CONVERGED


@pytest.mark.parametrize("rtol", [1e-3, 1e-5, 1e-7])
@pytest.mark.parametrize(("J", "h"), [(0.99, 1e-3), (1.0, 3e-3), (1.02, 1e-3), (0.3, 0.2)])
def test_the_error_bounds_the_true_error_where_the_residual_does_not(magnet, J, h, rtol):
    exact = solve(magnet, method=Newton(rtol=1e-14), J=J, h=h)
    solution = solve(magnet, method=DampedIteration(rtol=rtol, quadrature_rtol=0.5), J=J, h=h)
    true = max(abs(solution[name] - exact[name]) for name in ("m", "m_hat", "energy"))
    # A Newton step from x: relative error of the estimate is of the order of the error itself.
    assert true <= 1.2 * solution.error
    assert solution.error <= 1.2 * true + 1e-11
    if exact.contraction > 0.98:
        assert true > 20 * solution.residual * abs(exact["m"])  # what trusting the residual would have missed


@pytest.mark.parametrize("method", METHODS)
def test_errors_bound_the_true_error_of_spiked_random_features(srf, method):
    exact = solve(srf, method=Newton(rtol=1e-13), **DEFAULT)
    solution = solve(srf, method=method(rtol=1e-6, quadrature_rtol=1e-3), **DEFAULT)
    true = max(abs(solution[name] - exact[name]) for name in exact.values)
    assert true <= 1.05 * solution.error


def test_the_error_of_an_exact_solution_is_rounding(magnet, srf):
    assert solve(magnet, J=1.5, h=0.1).error < 1e-13
    assert solve(srf, **DEFAULT).error < 1e-12


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("J", "h"), [(0.99, 1e-3), (0.7, 0.3), (2.0, 0.1)])
def test_the_contraction_of_the_magnet_is_its_slope(magnet, method, J, h):
    solution = solve(magnet, method=method(), J=J, h=h)
    assert solution.contraction == pytest.approx(J * (1 - solution["m"] ** 2), rel=1e-6)


@pytest.mark.parametrize("reg", [1e-3, 0.1, 10.0])
def test_the_contraction_of_spiked_random_features_is_the_spectral_radius_of_the_map(srf, reg):
    point = DEFAULT | {"reg": reg}
    solution = solve(srf, **point)
    jacobian = difference_jacobian(ByHand.at(srf, solution.nodes, **point).update, state(srf, solution))
    exact = np.abs(np.linalg.eigvals(jacobian)).max()
    assert exact * (1 - 1e-5) <= solution.contraction <= 1.04 * exact  # norms of powers: at most 4 % high


def test_observed_convergence_of_the_undamped_iteration_has_the_reported_rate(srf):
    point = DEFAULT | {"alpha": 3.0}
    solution = solve(srf, **point)
    hand, x = ByHand.at(srf, solution.nodes, **point), state(srf, solution)
    y = x * (1 + 1e-3)
    errors = []
    for _ in range(13):
        y = hand.update(y)
        errors.append(np.abs(y - x).max())
    rate = (errors[12] / errors[4]) ** (1 / 8)  # past the transient, before rounding
    assert rate == pytest.approx(solution.contraction, rel=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_the_iteration_error_is_not_booked_as_quadrature_error(ridge, magnet, method):
    # Neither has a quadrature at solve time; doubling the nodes changes nothing.
    for problem, point in ((ridge, {"alpha": 2.0, "reg": 0.01}), (magnet, {"J": 0.9, "h": 0.01})):
        solution = solve(problem, method=method(rtol=1e-6), **point)
        assert solution.result is Result.CONVERGED
        assert solution.quadrature_error < 1e-12
        assert solution.nodes == method().nodes


def test_the_quadrature_error_bounds_the_distance_to_the_resolved_solution(srf):
    exact = solve(srf, method=Newton(nodes=288), **DEFAULT)
    for nodes in (8, 16, 24, 36):
        solution = solve(srf, method=Newton(nodes=nodes, max_nodes=nodes), **DEFAULT)
        true = max(abs(solution[name] - exact[name]) for name in exact.values)
        # One Newton sweep on the doubled rule: not converged when the rule is very coarse.
        assert true <= 2 * solution.quadrature_error + 1e-12
        assert solution.converged == (solution.quadrature_error < 1e-10)


def test_more_nodes_are_taken_until_the_quadrature_is_resolved(srf):
    solution = solve(srf, method=Newton(nodes=8), **DEFAULT)
    assert solution.converged
    assert solution.nodes in (32, 64, 128)
    exact = solve(srf, **DEFAULT)
    assert solution["test_error"] == pytest.approx(exact["test_error"], abs=1e-10)


# ------------------------------------------------------------------------------------------------ independence


def mixed_points(problem, count=50):
    rng = np.random.default_rng(7)
    points = []
    for k in range(count):
        alpha0 = [0.0, 5.0, 20.0, math.inf][k % 4]
        points.append(
            problem.point(
                {
                    "alpha": rng.uniform(0.1, 4),
                    "beta": rng.uniform(0.3, 3),
                    "alpha0": alpha0,
                    "eta": rng.choice([0.0, 1.0, 3.0]),
                    "reg": 10.0 ** rng.uniform(-6, 2) if k % 11 else 0.0,  # some are singular
                    "noise": rng.choice([0.0, 0.3]),
                }
            )
        )
    return np.array(points)


def everything(batch):
    return np.column_stack(
        [batch.result, batch.steps, batch.nodes, batch.violated, batch.residual, batch.contraction]
        + [batch.error, batch.quadrature_error, batch.values]
    )


@pytest.mark.parametrize("method", [Newton(), Anderson(max_steps=300)])
def test_a_point_does_not_depend_on_its_company(srf, method):
    points = mixed_points(srf)
    together = everything(solve_points(srf, points, method))
    alone = np.concatenate([everything(solve_points(srf, row[None], method)) for row in points])
    order = np.random.default_rng(0).permutation(len(points))
    shuffled = np.empty_like(together)
    shuffled[order] = everything(solve_points(srf, points[order], method))
    # Bytes, so that nan counts and -0.0 does too.
    assert together.tobytes() == alone.tobytes()
    assert together.tobytes() == shuffled.tobytes()
    assert (together[:, 0] == Result.CONVERGED).mean() > 0.7


@pytest.mark.parametrize("method", METHODS)
def test_any_start_leads_to_the_same_solution(srf, method):
    exact = solve(srf, **DEFAULT)
    rng = np.random.default_rng(1)
    for _ in range(20):
        start = {name: 10.0 ** rng.uniform(-3, 3) for name in ("V1", "V2", "q1", "q2")}
        start |= {name: rng.normal() for name in ("theta", "psi", "m")}
        solution = solve(srf, start=start, method=method(rtol=1e-11), **DEFAULT)
        assert solution.converged, start
        for name in exact.values:
            assert solution[name] == pytest.approx(exact[name], rel=1e-9, abs=1e-10), (name, start)


def test_the_start_chooses_the_branch_of_a_ferromagnet(magnet):
    up, down = (solve(magnet, start={"m": m}, J=1.5) for m in (0.9, -0.9))
    assert up["m"] == pytest.approx(-down["m"], rel=1e-12)
    assert up["m"] == pytest.approx(math.tanh(1.5 * up["m"]), rel=1e-12)
    assert up["m"] > 0.5
