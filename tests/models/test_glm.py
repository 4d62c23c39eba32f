"""Generalised linear model: closed forms, identities, an adaptive-quadrature reference, exact training at finite size."""

from itertools import pairwise

import mpmath
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq, minimize, root
from scipy.special import expit, ndtr

from replica.losses import make_loss
from replica.model import OptionError
from replica.models import GeneralisedLinear
from replica.models.training import fit
from solvers import Newton, ParameterError, Result, solve, solve_points
from solvers.kernels import entry_points
from solvers.quadrature import rule, table_size

REAL = ["square", "huber", "huber(0.3)", "absolute", "quantile(0.3)", "sqrt(1 + (y-z)**2)"]
SIGN = ["square", "logistic", "hinge", "squared_hinge", "exp(-y*z)"]
CASES = [(loss, "real", "identity") for loss in REAL] + [(loss, "sign", "identity") for loss in SIGN]
CASES += [("huber", "real", "sin"), ("hinge", "sign", "sin")]


@pytest.fixture(scope="module")
def problems():
    found = {}

    def problem(loss, labels, target):
        if (loss, labels, target) not in found:
            found[loss, labels, target] = GeneralisedLinear(loss=loss, labels=labels, target=target).compile()
        return found[loss, labels, target]

    return problem


@pytest.mark.parametrize("rho", [0.01, 0.7, 3.0, 100.0])
def test_ridge_has_its_closed_form_for_any_teacher_norm(problems, rho):
    problem = problems("square", "real", "identity")
    for alpha, reg, noise in ((0.4, 0.03, 0.2), (1.0, 1e-3, 0.0), (3.0, 2.0, 1.0)):
        with mpmath.workdps(50):
            a, lam = mpmath.mpf(alpha), mpmath.mpf(reg)
            V = (mpmath.sqrt((lam + a - 1) ** 2 + 4 * lam) - lam - a + 1) / (2 * lam)
            shrink = a * V / (1 + V)
            slope = a * (V / (1 + V)) ** 2
            m = rho * shrink
            q = (rho * shrink**2 + slope * (rho + noise - 2 * m)) / (1 - slope)
            exact = {"V": V, "m": m, "q": q, "test_error": rho + noise - 2 * m + q}
        s = solve(problem, alpha=alpha, reg=reg, noise=noise, rho=rho, throw=True)
        for name, value in exact.items():
            assert s[name] == pytest.approx(float(value), rel=1e-10), name


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_the_gradient_of_the_free_entropy_vanishes(problems, case):
    """Fourth-order differences in every order parameter and conjugate."""
    problem = problems(*case)
    for point in ({"alpha": 1.7, "reg": 0.3, "noise": 0.4}, {"alpha": 0.6, "reg": 0.05, "noise": 0.2, "rho": 1.5}):
        s = solve(problem, method=Newton(rtol=1e-12), throw=True, **point)
        entries, p, r = entry_points(problem), problem.point(point), rule(s.nodes)
        table, out = np.zeros(table_size(problem.table, s.nodes)), np.empty(1)
        entries["tabulate"](p, r, table)
        x = np.array([float(s[n]) for n in (*problem.unknowns.names, *problem.outputs.names[:3])])

        def phi(y, entries=entries, p=p, table=table, out=out):
            entries["entropy"](y, p, table, out)
            return out[0]

        for k in range(6):
            h = 1e-3 * max(abs(x[k]), 1e-3)
            steps = [x + s_ * h * np.eye(6)[k] for s_ in (-2, -1, 1, 2)]
            slope = (phi(steps[0]) - 8 * phi(steps[1]) + 8 * phi(steps[2]) - phi(steps[3])) / (12 * h)
            assert abs(slope * max(abs(x[k]), 1e-3)) < 3e-9 * (1 + abs(phi(x))), k


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_the_free_entropy_is_the_minimum_of_the_training_objective(problems, case):
    """Minus Phi is alpha times the mean loss plus reg q/2, and its slope in reg is q/2."""
    problem, point = problems(*case), {"alpha": 1.3, "noise": 0.3}

    def at(reg):
        return solve(problem, method=Newton(rtol=1e-12), throw=True, reg=reg, **point)

    s, h = at(0.2), 2e-3
    assert -s["free_entropy"] == pytest.approx(1.3 * s["train_loss"] + 0.1 * s["q"], rel=1e-8)
    f = [-at(0.2 + k * h)["free_entropy"] for k in (-2, -1, 1, 2)]
    assert (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * h) == pytest.approx(s["q"] / 2, rel=1e-8)


def test_a_large_threshold_makes_huber_ridge(problems):
    point = {"alpha": 1.4, "reg": 0.1, "noise": 0.5}
    ridge = solve(problems("square", "real", "identity"), **point)
    huber = solve(GeneralisedLinear(loss="huber(1000)"), **point)
    for name in ("V", "q", "m", "test_error", "train_error", "train_loss", "free_entropy"):
        assert huber[name] == pytest.approx(ridge[name], rel=1e-10), name


def test_least_squares_on_signs_is_ridge_on_the_sign_target(problems):
    point = {"alpha": 1.4, "reg": 0.1}
    signs = solve(problems("square", "sign", "identity"), **point)
    ridge = solve(GeneralisedLinear(target="sign"), **point)
    for name in ("V", "q", "m", "test_error", "train_error", "train_loss"):
        assert signs[name] == pytest.approx(ridge[name], rel=1e-9), name


def test_flipped_labels_and_the_bayes_direction(problems):
    """At large alpha the student points along the teacher: the error is that of the labels themselves."""
    s = solve(problems("logistic", "sign", "identity"), alpha=1e5, reg=1.0, flip=0.1)
    assert s["zero_one"] == pytest.approx(0.1, abs=2e-3)


def reference(alpha, reg, start):
    """Logistic regression on noiseless signs by adaptive quadrature, written from scratch; V, m, q."""

    def fix(w, V):
        return brentq(lambda z: z - w - V * expit(-z), w - 1e-9, w + V + 1e-9, xtol=1e-15, rtol=1e-15)

    def equations(logs):
        V, m, rest = np.exp(logs)
        q = rest + m**2
        s, tilt = np.sqrt(q), m / np.sqrt(rest)
        edges = np.unique(np.clip([-9, -4, -2, -1, -V / s - 8 / s, -V / s, -V / s + 8 / s, -8 / s, -1 / s, 0, 1 / s, 8 / s,
                                   -1 / tilt, 1 / tilt, 4 / tilt, 1, 2, 4, 9], -9, 9))  # fmt: skip

        def average(f):
            def inside(xi):
                z = fix(s * xi, V)
                return f(xi, expit(-z), expit(z) * expit(-z)) * np.exp(-xi * xi / 2) / np.sqrt(2 * np.pi)

            return sum(quad(inside, a, b, epsabs=1e-13, epsrel=1e-11)[0] for a, b in pairwise(edges))

        V_hat = alpha * average(lambda xi, g, c: 2 * ndtr(tilt * xi) * c / (1 + V * c))
        q_hat = alpha * average(lambda xi, g, c: 2 * ndtr(tilt * xi) * g**2)
        m_hat = alpha * average(lambda xi, g, c: 2 * np.exp(-((tilt * xi) ** 2) / 2) / np.sqrt(2 * np.pi) * g) * s / np.sqrt(rest)
        new = 1 / (reg + V_hat), m_hat / (reg + V_hat), q_hat / (reg + V_hat) ** 2
        return np.log(new) - logs

    found = root(equations, start, method="hybr", tol=1e-10)
    assert np.abs(equations(found.x)).max() < 1e-8
    V, m, rest = np.exp(found.x)
    return V, m, rest + m**2


@pytest.mark.parametrize("alpha, reg", [(1.5, 0.1), (20.0, 1e-3)])
def test_logistic_regression_against_adaptive_quadrature(problems, alpha, reg):
    """(20, 1e-3) is the point where a 200-node Gauss-Hermite rule is 38 % off."""
    s = solve(problems("logistic", "sign", "identity"), alpha=alpha, reg=reg, throw=True)
    start = np.log([1.1 * s["V"], 0.9 * s["m"], 1.2 * (s["q"] - s["m"] ** 2)])
    for name, value in zip(("V", "m", "q"), reference(alpha, reg, start), strict=True):
        assert s[name] == pytest.approx(value, rel=1e-6), name


@pytest.mark.parametrize("case", [c for c in CASES if c[2] == "identity"], ids="-".join)
def test_constraints_hold_at_random_points(problems, case):
    """Together ten thousand points: m^2 <= rho q and V > 0 wherever it says converged, which is nearly everywhere."""
    problem, rng, count = problems(*case), np.random.default_rng(11), 910
    points = np.array([
        problem.point({"alpha": 10 ** rng.uniform(-1, 1.3), "reg": 10 ** rng.uniform(-3, 1),
                       "noise": 10 ** rng.uniform(-2, 0), "rho": 10 ** rng.uniform(-1, 1)})
        for _ in range(count)
    ])  # fmt: skip
    b = solve_points(problem, points, Newton())
    done = b.result == Result.CONVERGED.value
    assert done.mean() > 0.98, np.bincount(b.result)
    values = problem.values.unpack(b.values[done])
    rho = points[done, [q.name for q in problem.parameters].index("rho")]
    assert (values["V"] > 0).all()
    assert (values["m"] ** 2 <= rho * values["q"] * (1 + 1e-12)).all()
    assert np.isfinite(b.values[done]).all()


@pytest.mark.parametrize("loss", ["logistic", "huber(0.5)", "squared_hinge", "square"])
def test_training_is_exact_for_smooth_losses(loss):
    """Against a general minimiser."""
    rng = np.random.default_rng(2)
    x, formula = rng.standard_normal((60, 25)) / 5, make_loss(loss)
    sign = loss in ("logistic", "squared_hinge")
    y = np.sign(x @ rng.standard_normal(25)) if sign else x @ rng.standard_normal(25) + rng.standard_normal(60)
    numpy_loss = {
        "logistic": lambda y, z: np.logaddexp(0, -y * z),
        "huber(0.5)": lambda y, z: np.where(abs(y - z) < 0.5, (y - z) ** 2 / 2, 0.5 * abs(y - z) - 0.125),
        "squared_hinge": lambda y, z: np.maximum(0, 1 - y * z) ** 2,
        "square": lambda y, z: (y - z) ** 2 / 2,
    }[loss]
    found = fit(formula, x, y, 0.3, sign)

    def objective(w):
        return numpy_loss(y, x @ w).sum() + 0.15 * w @ w

    best = minimize(objective, np.zeros(25), method="BFGS", options={"gtol": 1e-10})
    assert objective(found) <= best.fun + 1e-10
    np.testing.assert_allclose(found, best.x, atol=1e-5)


@pytest.mark.parametrize("n, p", [(80, 30), (30, 80)])
def test_training_is_exact_for_kinked_losses(n, p):
    """Hinge and quantile: the weights are a combination of the inputs whose coefficients are subgradients."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((n, p)) / np.sqrt(p)
    y = np.where(rng.random(n) < 0.5, 1.0, -1.0)
    w = fit(make_loss("hinge"), x, y, 0.2, True)
    force, margin = np.linalg.lstsq(x.T, 0.2 * w, rcond=None)[0] * y, y * (x @ w)
    if n < p:  # the coefficients are unique
        assert force.min() > -1e-9
        assert force.max() < 1 + 1e-9
        assert np.abs(force[margin > 1 + 1e-6]).max(initial=0) < 1e-8
        assert np.abs(force[margin < 1 - 1e-6] - 1).max(initial=0) < 1e-8
    objective = np.maximum(0, 1 - margin).sum() + 0.1 * w @ w
    for _ in range(200):
        v = w + 10 ** rng.uniform(-6, -1) * rng.standard_normal(p)
        assert np.maximum(0, 1 - y * (x @ v)).sum() + 0.1 * v @ v > objective
    q = fit(make_loss("quantile(0.3)"), x, y, 0.2, False)
    u = y - x @ q
    objective = np.maximum(0.3 * u, -0.7 * u).sum() + 0.1 * q @ q
    for _ in range(200):
        v = y - x @ (w := q + 10 ** rng.uniform(-6, -1) * rng.standard_normal(p))
        assert np.maximum(0.3 * v, -0.7 * v).sum() + 0.1 * w @ w > objective


SIMULATED = [
    ("logistic", "sign", "identity", {"reg": 0.1, "noise": 0.2}), ("logistic", "sign", "identity", {"reg": 1.0, "flip": 0.1}),
    ("hinge", "sign", "identity", {"reg": 0.3, "noise": 0.2}), ("squared_hinge", "sign", "identity", {"reg": 0.3}),
    ("huber(0.5)", "real", "identity", {"reg": 0.1, "noise": 0.5, "rho": 2.0}), ("huber", "real", "sin", {"reg": 0.2}),
    ("quantile(0.3)", "real", "identity", {"reg": 0.3, "noise": 0.5}), ("square", "sign", "identity", {"reg": 0.2}),
    ("hinge", "sign", "sin", {"reg": 0.5, "noise": 0.1}),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("loss, labels, target, parameters", SIMULATED)
def test_trained_students_are_predicted(loss, labels, target, parameters):
    """|z| < 4 against 20 exactly trained students at d = 400, with an allowance of 4/d of the value for finite size."""
    model, rng, largest = GeneralisedLinear(loss=loss, labels=labels, target=target), np.random.default_rng(20261124), 0.0
    problem = model.compile()
    for alpha in (0.7, 2.0):
        theory = solve(problem, alpha=alpha, throw=True, **parameters)
        runs = [model.simulate(theory.parameters, 400, rng) for _ in range(20)]
        for name in runs[0]:
            values = np.array([r[name] for r in runs])
            spread = values.std(ddof=1) / np.sqrt(20)
            z = (values.mean() - theory[name]) / np.hypot(spread, 4 / 400 * abs(theory[name]) + 1e-4)
            largest = max(largest, abs(z))
            assert abs(z) < 4, (alpha, name, values.mean(), spread, theory[name])
    print(f"{loss} {labels} {target}: largest |z| {largest:.2f}")


def test_bad_choices_are_named():
    with pytest.raises(OptionError, match=r"glm: loss hinge is not a function of y - z.*labels=sign"):
        GeneralisedLinear(loss="hinge").compile()
    with pytest.raises(OptionError, match=r"Known losses: square, absolute, huber\(1\)"):
        GeneralisedLinear(loss="hing")
    with pytest.raises(ParameterError, match="unknown parameter 'flip'"):
        solve(GeneralisedLinear(), alpha=1, reg=1, flip=0.1)
    with pytest.raises(ParameterError, match=r"flip = 0\.7 is outside"):
        solve(GeneralisedLinear(labels="sign"), alpha=1, reg=1, flip=0.7)
