"""Bayes-optimal generalised linear model: closed limits, quadrature from scratch, identities, message passing at finite size."""

import itertools

import numpy as np
import pytest
from by_hand import ByHand
from scipy.integrate import quad
from scipy.special import log_ndtr, ndtr

from replica.models import BayesOptimal
from replica.models.message_passing import infer
from replica.validation import compare
from solvers import Anderson, DampedIteration, Newton, Result, solve

FEW = [("binary", "sign"), ("gaussian", "modulus"), ("sparse", "linear")]
ALL = list(itertools.product(["gaussian", "binary", "sparse"], ["linear", "sign", "modulus"]))
#: Compiling takes seconds: priors and channels do not know of each other, so three pairs see them all.
CASES = [pytest.param(*c, id="-".join(c), marks=[] if c in FEW else pytest.mark.slow) for c in ALL]


@pytest.fixture(scope="module")
def problems():
    found = {}

    def problem(prior, channel):
        if (prior, channel) not in found:
            found[prior, channel] = BayesOptimal(prior=prior, channel=channel).compile()
        return found[prior, channel]

    return problem


def point(prior, **given):
    return {**given, **({"density": 0.3} if prior == "sparse" else {})}


@pytest.mark.parametrize("prior, channel", CASES)
def test_the_gradient_of_the_free_entropy_vanishes(problems, prior, channel):
    problem = problems(prior, channel)
    for alpha, noise in ((0.9, 0.3), (1.6, 0.02)):
        s = solve(problem, method=DampedIteration(rtol=1e-13), throw=True, **point(prior, alpha=alpha, noise=noise))
        phi = ByHand.at(problem, 2 * s.nodes, **point(prior, alpha=alpha, noise=noise)).entropy
        y = np.array([s["v"], s["q_hat"]])
        assert phi(y) == pytest.approx(s["free_entropy"], abs=1e-10)
        for k in range(2):
            h = 1e-3 * y[k]
            f = [phi(y + j * h * np.eye(2)[k]) for j in (-2, -1, 1, 2)]
            slope = (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / 12e-3
            # 1e-3 to the fourth power, and rounding over 1e-3, against the term v q_hat/2 that the gradient balances
            assert abs(slope) < 1e-9 * (1 + y[0] * y[1]), (k, alpha)


@pytest.mark.parametrize("prior, channel", CASES)
def test_the_slope_of_the_free_entropy_in_alpha_is_that_of_the_channel(problems, prior, channel):
    """Envelope theorem: only the explicit alpha counts; and information never hurts, v falls with alpha."""
    problem, h = problems(prior, channel), 1e-3
    exact = DampedIteration(rtol=1e-13)
    at = {k: solve(problem, method=exact, **point(prior, alpha=1 + k * h, noise=0.2)) for k in (-2, -1, 0, 1, 2)}
    f = {k: s["free_entropy"] for k, s in at.items()}
    by_hand = ByHand.at(problem, 2 * at[0].nodes, **point(prior, alpha=1.0, noise=0.2))
    twice = ByHand.at(problem, 2 * at[0].nodes, **point(prior, alpha=2.0, noise=0.2))
    state = np.array([at[0]["v"], at[0]["q_hat"]])
    slope = (f[-2] - 8 * f[-1] + 8 * f[1] - f[2]) / (12 * h)
    assert slope == pytest.approx(twice.entropy(state) - by_hand.entropy(state), abs=1e-9)
    assert at[1]["v"] <= at[-1]["v"]


def test_gaussian_signals_through_a_linear_channel_are_bayesian_ridge_regression(problems):
    """v of [1], and the log evidence of Gaussian regression from the Marchenko-Pastur law."""
    problem = problems("gaussian", "linear")
    for alpha, noise in ((0.4, 0.3), (2.5, 1e-3)):
        s = solve(problem, method=Newton(), throw=True, alpha=alpha, noise=noise)
        b = noise + alpha - 1
        assert s["v"] == pytest.approx((-b + np.sqrt(b**2 + 4 * noise)) / 2, rel=1e-9)
        edges = (1 - np.sqrt(alpha)) ** 2, (1 + np.sqrt(alpha)) ** 2

        def density(x, alpha=alpha, edges=edges):
            return np.sqrt((edges[1] - x) * (x - edges[0])) / (2 * np.pi * x)

        logdet = quad(lambda x, noise=noise: density(x) * np.log1p(x / noise), *edges, limit=400)[0]
        exact = -0.5 * (alpha * np.log(2 * np.pi * np.e * noise) + logdet)
        assert s["free_entropy"] == pytest.approx(exact, abs=1e-7)  # adaptive quadrature between square roots


def test_message_passing_finds_the_exact_posterior_mean_of_a_gaussian_signal():
    """Where the posterior is Gaussian it is solved by linear algebra, on the very draw that message passing sees."""
    d, n, noise = 300, 450, 0.2
    found = infer("gaussian", "linear", {"alpha": n / d, "noise": noise}, d, np.random.default_rng(3))
    rng = np.random.default_rng(3)
    x, rows = rng.standard_normal(d), rng.standard_normal((n, d)) / np.sqrt(d)
    y = rows @ x + np.sqrt(noise) * rng.standard_normal(n)
    mean = np.linalg.solve(rows.T @ rows + noise * np.eye(d), rows.T @ y)
    assert found["v"] == pytest.approx(np.mean((x - mean) ** 2), rel=1e-6)


def gauss(f):
    return quad(lambda z: f(z) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi), -12, 12, epsabs=1e-13, epsrel=1e-12, limit=400)[0]


def perceptron(alpha):
    """The noiseless binary perceptron by adaptive quadrature, written from the textbook: q and the free entropy."""

    def hat(q):
        k = np.sqrt(q / (1 - q))
        return alpha / (np.pi * (1 - q)) * gauss(lambda z: np.exp(-((k * z) ** 2) - log_ndtr(k * z)))

    q = 0.5
    for _ in range(300):
        r = hat(q)
        q, old = gauss(lambda z, r=r: np.tanh(r + np.sqrt(r) * z)), q
        if abs(q - old) < 1e-13:
            break
    k = np.sqrt(q / (1 - q))
    prior = gauss(lambda z: np.logaddexp(0, -2 * (r + np.sqrt(r) * z)) - np.log(2) + np.sqrt(r) * z) + r / 2
    return q, -q * r / 2 + prior + alpha * gauss(lambda z: 2 * ndtr(k * z) * log_ndtr(k * z))


@pytest.mark.parametrize("alpha", [0.7, 1.2])
def test_the_binary_perceptron_agrees_with_adaptive_quadrature(problems, alpha):
    s = solve(problems("binary", "sign"), throw=True, alpha=alpha)
    q, phi = perceptron(alpha)
    assert s["q"] == pytest.approx(q, abs=1e-9)
    assert s["free_entropy"] == pytest.approx(phi, abs=1e-10)
    assert s["zero_one"] == pytest.approx(np.arccos(np.sqrt(q)) / np.pi, abs=1e-9)


def test_few_samples_teach_in_proportion(problems):
    """To first order q_hat is alpha times the Fisher information of a label at v = 1: 2/pi for a sign, nothing for a modulus."""
    s = solve(problems("binary", "sign"), alpha=1e-4, noise=0.5)
    assert s["q"] == pytest.approx(1e-4 * 2 / np.pi / 1.5, rel=1e-3)
    s = solve(problems("gaussian", "modulus"), alpha=1e-4, noise=0.5)
    assert abs(s["q"]) < 1e-10


def test_nothing_is_learnt_from_moduli_below_the_weak_recovery_threshold(problems):
    """At q = 0 the slope of state evolution is 2 alpha/(1 + noise)^2 [Maillard et al., arXiv:2006.05228, at noise 0: 1/2]."""
    problem = problems("gaussian", "modulus")
    for alpha, noise in ((0.3, 0.0), (0.8, 0.5), (1.2, 0.1)):
        s = solve(problem, method=Newton(), start={"v": 1.0}, alpha=alpha, noise=noise, throw=True)
        assert abs(s["q"]) < 1e-12
        assert s.contraction == pytest.approx(2 * alpha / (1 + noise) ** 2, rel=1e-9)
    assert solve(problem, alpha=0.7, noise=0.1, throw=True)["q"] > 0.01
    assert solve(problem, alpha=0.6, noise=0.1, throw=True)["q"] < 1e-7


def test_a_tiny_error_keeps_its_relative_accuracy(problems):
    """Modulus and linear channel differ by a vanishing fraction there, and for those v = noise/(alpha - 1) to leading order."""
    for noise in (1e-12, 1e-60):
        s = solve(problems("gaussian", "modulus"), start={"v": 1e-12}, alpha=1.5, noise=noise)
        assert s["v"] == pytest.approx(2 * noise, rel=1e-5)


def test_perfect_recovery_without_noise_is_not_called_a_solution(problems):
    """v -> 0 there and q_hat has no value."""
    assert solve(problems("gaussian", "modulus"), alpha=2.0).result is Result.NONFINITE


@pytest.mark.parametrize("prior, channel", CASES)
def test_reported_error_bounds_the_true_error_and_methods_agree(problems, prior, channel):
    problem = problems(prior, channel)
    for alpha, noise in ((0.4, 0.3), (1.3, 0.2), (4.0, 0.5)):
        given = point(prior, alpha=alpha, noise=noise)
        exact = solve(problem, method=DampedIteration(rtol=1e-13, damping=0.0, nodes=576), throw=True, **given)
        methods = [DampedIteration(), Newton()] + ([Anderson()] if channel != "modulus" else [])
        for method in methods:
            # From next to the solution: with several fixed points Newton's method goes to any of them.
            s = solve(problem, method=method, start={"v": min(1.01 * exact["v"], 1.0)}, throw=True, **given)
            true = max(abs(s[name] - exact[name]) for name in exact.values)
            assert true <= 3 * (s.error + s.quadrature_error) + exact.error, method.name


def test_iteration_is_the_default_because_newtons_method_may_find_an_unstable_point(problems):
    problem = problems("gaussian", "modulus")
    iterated, newton = solve(problem, alpha=1.5, noise=0.1), solve(problem, method=Newton(), alpha=1.5, noise=0.1)
    assert iterated.contraction < 1 < newton.contraction
    assert iterated["free_entropy"] > newton["free_entropy"]


def test_message_passing_agrees_with_the_theory(problems):
    theory = solve(problems("binary", "sign"), alpha=1.2, noise=0.1)
    report = compare(BayesOptimal(), {"alpha": 1.2, "noise": 0.1}, size=400, repeats=8, seed=5, theory=theory.values)
    print(report)
    report.check(sigmas=4)


@pytest.mark.slow
@pytest.mark.parametrize("prior, channel", [c for c in ALL if c != ("sparse", "modulus")])
def test_message_passing_agrees_with_the_theory_for_all(problems, prior, channel):
    """Left out: sparse signals seen by their modulus, where message passing without damping runs away on some draws."""
    alpha = {"linear": 0.9, "sign": 1.5, "modulus": 2.5}[channel]
    given = point(prior, alpha=alpha, noise=0.3 if channel == "modulus" else 0.1)
    theory = solve(problems(prior, channel), throw=True, **given)
    report = compare(BayesOptimal(prior=prior, channel=channel), given, size=2000, repeats=10, seed=7, theory=theory.values)
    print(report)
    report.check(sigmas=4)
