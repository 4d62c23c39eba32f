"""Population gradients of parities and dictionaries, against enumeration of all inputs and against each other."""

import itertools
import math
import time

import numpy as np
import pytest
from scipy.special import ndtr

from replica.gradient_features import Dictionary, ProblemError, SparseParity

RNG = np.random.default_rng(20)


def rotation(D):
    return np.linalg.qr(RNG.normal(size=(D, D)))[0]


def enumerated(problem, w, b, smear=0.0):
    """G and E[x x^T 1] by listing all inputs; ties count one half."""
    if isinstance(problem, SparseParity):
        phi = np.array(list(itertools.product([-1, 1], repeat=problem.D)))
        weight, y = np.full(len(phi), 2.0**-problem.D), phi[:, problem.relevant].prod(axis=1)
        x = problem.outward(phi)
    else:
        bits = np.array(list(itertools.product([0, 1], repeat=problem.D)))
        count = bits[:, : problem.k].sum(axis=1)
        ways = np.array([math.comb(problem.k, c) for c in count])
        weight = problem.counts[count] / ways
        weight = weight * np.where(bits[:, problem.k :], problem.background, 1 - problem.background).prod(axis=1)
        y, mean = problem.labels[count], weight @ bits
        x = problem.outward((bits - mean) / math.sqrt((weight @ (bits - mean) ** 2).sum()))
    u = x @ w.T - b
    active = ndtr(u / smear) if smear else (np.sign(np.where(np.abs(u) < 1e-12, 0, u)) + 1) / 2
    first = np.array([(weight * y * a) @ x for a in active.T])
    return first, np.array([(x.T * (weight * a)) @ x for a in active.T])


PARITIES = [(9, [1, 4, 7]), (12, [0, 11]), (14, [3]), (16, [2, 5, 9, 13]), (1, 1), (2, 2), (5, 5)]
DICTIONARIES = [
    Dictionary.parity(12, 3, 0.4, 0.3, rotation(12)),
    Dictionary.parity(14, 5, 0.4),
    Dictionary.parity(5, 5, 0.7),
    Dictionary.threshold(11, 4, 2, 0.4, 0.2, rotation(11)),
    Dictionary.threshold(16, 3, 1),
    Dictionary(8, 2, [0.5, 0.2, 0.3], [0, 2], 0.1),
]


@pytest.mark.parametrize(("D", "relevant"), PARITIES)
def test_parity_gradient_is_that_of_all_inputs(D, relevant):
    problem = SparseParity(D, relevant, rotation(D))
    w, b = RNG.normal(size=(3, D)), np.array([0.3, 0.0, -0.7])
    first, second = enumerated(problem, w, b)
    assert np.abs(problem.gradient(w, b).value - first).max() < 1e-9
    integral, moment = (f(w, b, max_nodes=4000) for f in (lambda *a, **k: problem.gradient(*a, method="integral", **k),
                                                         problem.second_moment))  # fmt: skip
    assert (np.abs(integral.value - first).max(axis=1) <= integral.error).all()
    assert (np.abs(moment.value - second).max(axis=(1, 2)) <= 4 * moment.error).all()  # rotated, components mix


@pytest.mark.parametrize("problem", DICTIONARIES, ids=lambda p: f"D{p.D}k{p.k}")
def test_dictionary_gradient_is_that_of_all_inputs(problem):
    w, b = RNG.normal(size=(2, problem.D)), np.array([0.3, -0.1])
    first, _ = enumerated(problem, w, b)
    assert np.abs(problem.gradient(w, b).value - first).max() < 1e-9
    integral = problem.gradient(w, b, method="integral", max_nodes=4000)
    assert (np.abs(integral.value - first).max(axis=1) <= 2 * integral.error).all()


@pytest.mark.parametrize("problem", DICTIONARIES, ids=lambda p: f"D{p.D}k{p.k}")
def test_injected_noise_makes_the_integral_exact(problem):
    """The smeared integrand decays like a Gaussian, so there is no truncation left."""
    w, b = RNG.normal(size=(2, problem.D)), np.array([0.3, -0.1])
    first, second = enumerated(problem, w, b, smear=0.5)
    assert np.abs(problem.gradient(w, b, smear=0.5).value - first).max() < 1e-9
    assert np.abs(problem.second_moment(w, b, smear=0.5).value - second).max() < 1e-9


def test_ties_count_one_half():
    """Whole-number weights put inputs on the border w.x = b."""
    problem, w = SparseParity(8, 2), np.array([[1.0, 1, 1, 1, 1, 1, 1, 1]])
    first, _ = enumerated(problem, w, np.array([2.0]))
    assert np.abs(problem.gradient(w, 2.0, method="exact").value - first).max() < 1e-12


@pytest.mark.parametrize("D", [36, 38])
def test_meet_in_the_middle_and_the_integral_agree(D):
    """Two routes that share nothing, to 1e-7 (measured: 3e-8 at D = 36), and the error estimate covers the difference."""
    problem, w = SparseParity(D, 3), np.random.default_rng(D).normal(size=(1, D)) / math.sqrt(D)
    exact, integral = problem.gradient(w, 0.4, method="exact"), problem.gradient(w, 0.4, method="integral", rtol=1e-6)
    difference = np.abs(exact.value - integral.value).max()
    assert difference < 1e-7
    assert difference <= integral.error[0]


@pytest.mark.slow
@pytest.mark.parametrize("D", [40, 42, 44])
def test_meet_in_the_middle_and_the_integral_agree_at_larger_size(D):
    problem, w = SparseParity(D, 3), np.random.default_rng(D).normal(size=(1, D)) / math.sqrt(D)
    exact, integral = problem.gradient(w, 0.4, method="exact"), problem.gradient(w, 0.4, method="integral")
    difference = np.abs(exact.value - integral.value).max()
    print(f"D = {D}: {difference:.1e}, estimate {integral.error[0]:.1e}")
    assert difference < 1e-7
    assert difference <= integral.error[0]


def test_error_estimate_covers_the_error_of_many_neurons():
    """Cut early, so that truncation dominates; D = 20 is summed exactly.  Four sigma, over 100 x 20 components."""
    problem = SparseParity(20, 3)
    w = np.random.default_rng(1).normal(size=(100, 20)) / math.sqrt(20)
    for nodes in (1000, 4000):
        integral = problem.gradient(w, 0.3, method="integral", max_nodes=nodes)
        true = np.abs(integral.value - problem.gradient(w, 0.3, method="exact").value).max(axis=1)
        assert (true <= integral.error).mean() > 0.99
        assert (true <= 2 * integral.error).all()
        assert np.median(integral.error / true) < 30  # and is no empty promise


def test_equal_weights_are_not_taken_for_converged():
    """|w_j| all equal: the integrand is periodic and never decays, and partial sums stand still in between."""
    w = np.array([[1.0, -1.0] * 14]) / math.sqrt(28)
    problem = SparseParity(28, 2)
    integral, exact = problem.gradient(w, 0.3, method="integral"), problem.gradient(w, 0.3, method="exact")
    assert np.abs(integral.value - exact.value).max() <= integral.error[0]
    assert SparseParity(200, 2).gradient(np.ones(200) / math.sqrt(200), 0.3).error[0] > 1e-5


def test_a_thousand_coordinates_and_neurons_take_seconds():
    problem = SparseParity(1000, 5)
    w = RNG.normal(size=(100, 1000)) / math.sqrt(1000)
    problem.gradient(w[:1], 0.5)
    start = time.process_time()
    found = problem.gradient(w, 0.5)
    assert time.process_time() - start < 6.0  # 1000 neurons: under a minute; measured 1.5 s for a thousand
    assert (found.error < 1e-8 * np.linalg.norm(found.value, axis=1)).all()


def test_large_dimension_has_the_leading_order():
    """G_j ~ prod_{A - j} (q_l/s) He_{k-2}(beta) phi(beta) at D = 4000, to O(k^2/D)."""
    problem, beta = SparseParity(4000, 3), 0.7
    w = RNG.normal(size=4000)
    w[:3] = [1.0, -0.8, 1.2]
    w /= np.linalg.norm(w)
    g = problem.gradient(w, beta).value[0]
    expected = w[:3].prod() / w[:3] * beta * math.exp(-(beta**2) / 2) / math.sqrt(2 * math.pi)
    assert np.abs(np.abs(g[:3] / expected) - 1).max() < 0.01


def test_odd_parities_need_a_bias():
    """At b = 0 the half-space is odd, so its even Fourier coefficients, all an odd parity sees, vanish."""
    problem, w = SparseParity(15, 3), RNG.normal(size=(4, 15))
    assert np.abs(problem.gradient(w, 0.0).value).max() < 1e-15
    assert np.abs(problem.gradient(w, 0.5).value).max() > 1e-3


def test_samples_have_the_stated_moments():
    """4 sigma of 200 000 samples."""
    n = 200_000
    for problem in (SparseParity(6, [1, 4], rotation(6)), *DICTIONARIES[:5]):
        x, y = problem.sample(n, np.random.default_rng(3))
        w = np.random.default_rng(4).normal(size=problem.D)
        terms = (y * (x @ w > 0.2))[:, None] * x
        z = (terms.mean(axis=0) - problem.gradient(w, 0.2).value[0]) / (terms.std(axis=0) / math.sqrt(n) + 1e-12)
        assert np.abs(z).max() < 4


def test_dictionary_moments():
    x, y = DICTIONARIES[0].sample(400_000, np.random.default_rng(5))
    problem = DICTIONARIES[0]
    along = x @ problem.direction
    assert abs(along.var() - problem.variance_along) < 0.01 * problem.variance_along
    assert abs((y * along).mean() - math.sqrt(problem.signal)) < 4 / math.sqrt(400_000)
    assert Dictionary.parity(30, 5, 0.3).slope == pytest.approx(0.35, abs=1e-15)  # (1 - rho)/2
    assert Dictionary.parity(30, 5, 1.0).slope == pytest.approx(0.0, abs=1e-15)
    assert Dictionary.parity(30, 5, 0.3).balance == pytest.approx(0.0, abs=1e-15)


@pytest.mark.parametrize("problem", DICTIONARIES[:5], ids=lambda p: f"D{p.D}k{p.k}")
def test_three_relus_per_count_fit_every_label(problem):
    """OPT of the class induced by the gradient feature is 0."""
    x, y = problem.sample(2000, np.random.default_rng(6))
    a, b = problem.exact_network()
    u = math.sqrt(problem.variance * problem.k) * (x @ problem.direction) + problem.k * problem.rate
    assert np.abs(np.maximum(u[:, None] - b, 0.0) @ a - y).max() < 1e-10


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SparseParity(4, 5), ["k = 5", "[1, 4]"]),
        (lambda: SparseParity(4, [1, 1]), ["twice"]),
        (lambda: SparseParity(4, [7]), ["relevant = 7", "[0, 3]"]),
        (lambda: SparseParity(3, 2, np.ones((3, 3))), ["not orthonormal"]),
        (lambda: SparseParity(30, 2).gradient(np.ones(29)), ["30 components"]),
        (lambda: SparseParity(50, 2).gradient(np.ones(50), method="exact"), ["D = 50", "[1, 44]"]),
        (lambda: SparseParity(3, 2).gradient(np.zeros(3)), ["no direction"]),
        (lambda: Dictionary.parity(3, 5, 0.5), ["k = 5", "[1, 3]"]),
        (lambda: Dictionary.parity(9, 4, 0.5), ["k = 4", "odd"]),
        (lambda: Dictionary.parity(9, 3, 1.5), ["rho = 1.5", "[0, 1]"]),
        (lambda: Dictionary.threshold(9, 3, 4), ["least = 4", "[1, 3]"]),
        (lambda: Dictionary(9, 2, [0.5, 0.5], [1]), ["counts", "3 probabilities"]),
        (lambda: Dictionary(9, 2, [0.5, 0.2, 0.3], [3]), ["positive = 3", "[0, 2]"]),
        (lambda: Dictionary(9, 2, [0.5, 0.2, 0.3], [1], 1.0), ["background = 1", "(0, 1)"]),
    ],
)
def test_bad_problems_get_one_line(make, words):
    with pytest.raises(ProblemError) as error:
        make()
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)
