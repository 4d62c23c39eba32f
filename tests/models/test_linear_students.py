"""Linear students in the proportional limit: identities, closed forms, and simulations with z-scores."""

from __future__ import annotations

import numpy as np
import pytest

from replica.experiments import Experiments
from replica.model import OptionError
from replica.models import LinearStudent, OnlineStudent, RidgeRegression, TwoLayerStudent
from replica.results import open_simulation
from replica.validation import compare
from solvers import Grid, ParameterError, Result, Scan, solve, solve_trajectory

SEED = 20261124


@pytest.mark.parametrize("alpha", [0.3, 0.9, 1.0, 1.1, 3.0])
def test_at_the_end_of_time_it_is_ridge_regression(alpha):
    """`ridge` has inputs N(0, 1/d) and an unscaled sum: its penalty is alpha times the one here."""
    reg, noise = 0.2, 0.3
    student = solve(LinearStudent(), alpha=alpha, reg=reg, noise=noise, time=np.inf)
    ridge = solve(RidgeRegression(), alpha=alpha, reg=alpha * reg, noise=noise)
    for name in ("m", "q", "test_error", "train_error"):
        assert student[name] == pytest.approx(ridge[name], rel=1e-9), name


def test_the_closed_form_of_a_mode_is_certified():
    certificates = LinearStudent().derivation().certificates
    assert len(certificates) == 4
    assert all(c.holds for c in certificates), [str(c) for c in certificates]


def test_an_interpolating_student_has_no_training_error_and_the_known_test_error():
    for alpha in (0.2, 0.7):
        s = solve(LinearStudent(), alpha=alpha, noise=0.5, time=np.inf)
        assert s["train_error"] == pytest.approx(0, abs=1e-12)
        assert s["test_error"] == pytest.approx(1 - alpha + 0.5 / (1 - alpha), rel=1e-9)
    s = solve(LinearStudent(), alpha=3.0, noise=0.5, time=np.inf)
    assert s["test_error"] == pytest.approx(0.5 * 3 / 2, rel=1e-9)
    assert s["train_error"] == pytest.approx(0.5 * 2 / 3, rel=1e-9)


def test_the_singular_point_is_not_called_converged():
    assert solve(LinearStudent(), alpha=1.0, noise=0.5, time=np.inf).result is Result.QUADRATURE_UNRESOLVED
    assert solve(LinearStudent(), alpha=1.0, noise=0.5, time=1e4).converged


def test_single_unit_online_is_the_closed_form():
    """R = 1 + (R0 - 1) exp(-eta t), e = e0 exp(-eta (2 - eta) t) + eta noise/(2 - eta) (1 - exp(...))."""
    times, eta, noise = np.array([0.0, 0.3, 1.0, 4.0]), 0.7, 0.2
    t = solve_trajectory(OnlineStudent(), times, eta_w=eta, noise=noise)
    np.testing.assert_allclose(t["R"][:, 0, 0], 1 - np.exp(-eta * times), rtol=1e-10)
    decay = np.exp(-eta * (2 - eta) * times)
    np.testing.assert_allclose(t["test_error"] - noise, 2 * decay + eta * noise / (2 - eta) * (1 - decay), rtol=1e-9)


def test_one_hidden_unit_with_a_frozen_outer_layer_is_the_linear_student():
    times = [0.1, 1.0, 10.0]
    p = {"alpha": 1.5, "noise": 0.3}
    two = solve_trajectory(TwoLayerStudent(u0=[1.0], K0=[[0.5]], o0=[0.2]), times, eta_u=0.0, **p)
    one = solve_trajectory(LinearStudent(), times, q0=0.5, cos_angle0=0.2 / 0.5**0.5, **p)
    for name in ("test_error", "train_error"):
        np.testing.assert_allclose(two[name], one[name], rtol=1e-9, err_msg=name)
    np.testing.assert_allclose(two["norm_w2"], one["q"], rtol=1e-9)


def test_hidden_units_that_start_alike_are_one():
    """Two equal units of weight 1/sqrt 2 are one unit."""
    times = [0.5, 3.0]
    half = np.full((2, 2), 0.5)
    two = solve_trajectory(TwoLayerStudent(u0=[0.5**0.5] * 2, K0=half, o0=[0.0, 0.0], hidden=2), times, alpha=2.0, noise=0.1)
    one = solve_trajectory(TwoLayerStudent(u0=[1.0], K0=[[1.0]], o0=[0.0]), times, alpha=2.0, noise=0.1)
    np.testing.assert_allclose(two["test_error"], one["test_error"], rtol=1e-9)


def test_layer_balance_is_conserved_without_decay():
    t = solve_trajectory(TwoLayerStudent(hidden=3), [0.0, 1.0, 5.0], alpha=0.8, noise=0.2, eta_u=0.4, eta_w=1.3)
    balance = (t["outer"] ** 2).sum(1) / 0.4 - t["norm_w2"] / 1.3
    np.testing.assert_allclose(balance, balance[0], rtol=1e-9)


def test_bad_starts_are_named():
    with pytest.raises(OptionError, match=r"u0 has shape \(2,\)"):
        TwoLayerStudent(u0=[1.0, 2.0])
    with pytest.raises(OptionError, match=r"not the overlaps of any vectors .*eigenvalue -1"):
        OnlineStudent(R0=[[2.0]])
    for name, bad in (("a", []), ("v0", [[1.0]]), ("a", [float("nan")]), ("v0", ["x"])):
        with pytest.raises(OptionError, match=f"{name} (has shape|= )"):
            OnlineStudent(**{name: bad})
    with pytest.raises(OptionError, match="K0 and o0 are not the overlaps"):
        TwoLayerStudent(K0=[[-1.0]])
    with pytest.raises(OptionError, match="K0 and o0 are not the overlaps"):
        TwoLayerStudent(K0=[[0.5]], o0=[0.8])
    with pytest.raises(OptionError, match="not symmetric"):
        TwoLayerStudent(K0=[[1.0, 0.5], [0.0, 1.0]], hidden=2)
    with pytest.raises(ParameterError, match="cos_angle0 = 2 is outside"):
        solve(LinearStudent(), alpha=0.2, q0=0.1, cos_angle0=2, time=1)
    with pytest.raises(OptionError, match="hidden"):
        TwoLayerStudent(hidden=9)


CASES = {
    "linear": (LinearStudent(), {"reg": 0.05, "q0": 0.5, "cos_angle0": 0.3, "noise": 0.3}, (0.6, 1.5, 4.0)),
    "two-layer k=1": (TwoLayerStudent(u0=[0.6], K0=[[0.5]], o0=[0.1]), {"noise": 0.3, "decay": 0.02}, (0.6, 1.5, 4.0)),
    "two-layer k=2": (
        TwoLayerStudent(u0=[0.5, -0.3], K0=[[0.5, 0.1], [0.1, 0.4]], o0=[0.1, 0.2], hidden=2),
        {"noise": 0.3, "eta_w": 0.7},
        (0.6, 1.5, 4.0),
    ),
    "online": (
        OnlineStudent(
            a=[1.0, 0.5], T=[[1.0, 0.2], [0.2, 1.0]], v0=[0.7, 0.4], R0=[[0.1, 0], [0, 0.2]], Q0=[[1.0, 0.1], [0.1, 0.8]]
        ),
        {"eta_w": 0.6, "eta_v": 0.5, "noise": 0.2},
        (None,),
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_trained_students_are_predicted(case):
    """|z| < 4 against the standard error of 20 draws at d = 500, with an allowance of 10/d of the value for finite size."""
    model, parameters, alphas = CASES[case]
    size, rng = 500, np.random.default_rng(SEED)
    largest = 0.0
    for alpha in alphas:
        for time in (0.5, 2.0, 8.0) if alpha else (0.5, 1.0, 3.0):
            given = {**parameters, "time": time, **({"alpha": alpha} if alpha else {})}
            theory = solve(model, **given)
            assert theory.converged
            runs = [model.simulate(theory.parameters, size, rng) for _ in range(20)]
            for name in runs[0]:
                values = np.array([r[name] for r in runs])
                sem = values.std(axis=0, ddof=1) / np.sqrt(len(runs))
                distance = np.abs(values.mean(axis=0) - theory[name])
                z = (distance / np.sqrt(sem**2 + (10 / size * np.abs(theory[name])) ** 2)).max()
                largest = max(largest, float(z))
                assert z < 4, (alpha, time, name, z)
    print(f"{case}: largest |z| {largest:.2f}")


def test_indexed_observables_are_simulated_scanned_and_compared(tmp_path):
    model = TwoLayerStudent(hidden=2)
    theory = solve(model, alpha=2.0, time=1.0)
    report = compare(model, theory.parameters, 60, 4, SEED, theory.values)
    assert {"outer[0]", "outer[1]", "test_error"} <= set(report.names)
    scan = Scan(model, Grid(time=[0.0, 1.0, 2.0]), fixed={"alpha": 2.0})
    scan.run(tmp_path / "scan.h5")
    Experiments(model, scan, 60, 3, SEED, {"time": [1.0, 2.0]}).run(tmp_path / "scan.h5")
    with open_simulation(tmp_path / "scan.h5") as data:
        assert data.outer.shape == data.outer_sem.shape == (2, 2)
