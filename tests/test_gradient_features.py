"""Gradient features: closed cases and independent routes; predictions against real networks are in test_gradient_networks.py."""

import math

import numpy as np
import pytest
from scipy.special import ndtr

from replica.gradient_features import (
    Dictionary,
    GaussianMixture,
    Initialisation,
    ProblemError,
    Setting,
    SparseParity,
    batch_gradients,
    cosines,
    coverage,
    dictionary_network,
    dictionary_step,
    dominant_directions,
    feature_set,
    fixed_feature_error,
    hinge_bound,
    hit_probability,
    kernel_functions,
    leading_order,
    limiting_accuracy,
    measured_fixed_error,
    mixture_cosines,
    mixture_hits,
    neurons_to_cover,
    parity_hits,
    published_hinge_bound,
    random_relu,
    sampled_coverage,
    sampled_gradients,
    sampled_hits,
    square_bound,
    winners,
    xor_bayes_error,
    xor_limit,
)
from replica.gradient_features.experiments import batch_gradient
from replica.gradient_features.separation import cube, walsh


def crooked(seed=0, clusters=3, d=4):
    """Clusters with full covariances."""
    rng = np.random.default_rng(seed)
    roots = rng.normal(size=(clusters, d, d))
    weights = rng.uniform(0.5, 1, clusters)
    labels = np.where(np.arange(clusters) % 2, -1, 1)
    covariances = roots @ roots.transpose(0, 2, 1) + 0.3 * np.eye(d)
    return GaussianMixture(rng.normal(size=(clusters, d)), labels, weights / weights.sum(), covariances)


def bundled(d=30):
    """Isotropic clusters, one of them stretched along one direction: five coordinates matter."""
    rng = np.random.default_rng(1)
    covariances = np.array([np.eye(d), 2 * np.eye(d), np.eye(d)])
    v = rng.normal(size=d)
    covariances[2] += 3 * np.outer(v, v) / (v @ v)
    return GaussianMixture(3 * rng.normal(size=(3, d)) / math.sqrt(d), [1, -1, 1], [0.3, 0.5, 0.2], covariances)


# ---------------------------------------------------------------- mixtures


def test_mixture_gradient_and_second_moment_are_those_of_samples():
    """4 sigma of 400 000 samples, 28 components."""
    problem, w, b = crooked(), np.random.default_rng(2).normal(size=(2, 4)), np.array([0.3, -0.2])
    x, y = problem.sample(400_000, np.random.default_rng(3))
    g, second = problem.gradient(w, b).value, problem.second_moment(w, b).value
    for i in range(2):
        active = (x @ w[i] > b[i]).astype(float)
        for terms, exact in (((y * active)[:, None] * x, g[i]), (np.einsum("n,ni,nj->nij", active, x, x), second[i])):
            z = (terms.mean(axis=0) - exact) / (terms.std(axis=0) / math.sqrt(len(x)))
            assert np.abs(z).max() < 4


def test_xor_gradient_has_its_closed_form():
    """1/4 [mu_a erf(t_a/sqrt 2) - mu_b erf(t_b/sqrt 2) + 2 sigma what (phi(t_a) - phi(t_b))] at b = 0."""
    d, mean, sigma = 7, 2.3, 0.8
    w = np.random.default_rng(4).normal(size=d)
    unit, axes = w / np.linalg.norm(w), np.eye(d)
    t = [mean * unit[i] / sigma for i in range(2)]
    density = [math.exp(-(s**2) / 2) / math.sqrt(2 * math.pi) for s in t]
    expected = (mean * (axes[0] * math.erf(t[0] / math.sqrt(2)) - axes[1] * math.erf(t[1] / math.sqrt(2)))
                + 2 * sigma * unit * (density[0] - density[1])) / 4  # fmt: skip
    assert np.abs(GaussianMixture.xor(d, mean, sigma).gradient(w).value[0] - expected).max() < 1e-15


def test_small_means_see_first_and_second_moment():
    """G ~ 1/2 sum p y mu + phi(0)/sigma sum p y mu (mu.what), to third order in the means."""
    problem = GaussianMixture(1e-3 * np.random.default_rng(5).normal(size=(3, 5)), [1, -1, -1], [0.5, 0.2, 0.3])
    w = np.random.default_rng(6).normal(size=5)
    unit, p = w / np.linalg.norm(w), problem.charges
    expected = p @ problem.means / 2 + (p * (problem.means @ unit)) @ problem.means / math.sqrt(2 * math.pi)
    along = p.sum() * unit / math.sqrt(2 * math.pi) * (1 - 0)
    second = (p * (problem.means @ unit) ** 2).sum() / 2 * unit / math.sqrt(2 * math.pi)
    assert np.abs(problem.gradient(w).value[0] - expected - along + second).max() < 1e-9


def test_reduced_coordinates_lose_nothing():
    """cos(G, D) from a handful of coordinates is that of the gradient in all d dimensions."""
    for problem in (bundled(), crooked(), GaussianMixture.xor(9, 2.0), GaussianMixture.pair(5, 1.0)):
        core, d = problem.reduced, problem.dimension
        w = np.random.default_rng(7).normal(size=(20, d))
        inside = w @ core.basis
        rest = np.linalg.norm(w - inside @ core.basis.T, axis=1)
        small = np.hstack([inside, rest[:, None]]) if core.rest else inside
        g, reduced = problem.gradient(w, 0.3).value, core.mixture.gradient(small, 0.3).value
        assert np.abs(g @ core.basis - reduced[:, : core.rank]).max() < 1e-12
        assert np.abs(np.linalg.norm(g, axis=1) - np.linalg.norm(reduced, axis=1)).max() < 1e-12
    assert bundled().reduced.rank == 4


@pytest.mark.parametrize(
    ("problem", "init"),
    [
        (GaussianMixture.xor(20, 3.0), Initialisation()),
        (GaussianMixture.xor(20, 3.0), Initialisation(bias="sign", scale=1.0)),
        (GaussianMixture.xor(20, 3.0), Initialisation("gaussian", "normal", 0.5)),
        (GaussianMixture.pair(10, 1.0), Initialisation(bias="uniform", scale=2.0)),
        (bundled(), Initialisation(scale=0.5)),
        (crooked(d=3), Initialisation()),
    ],
    ids=["xor", "sign", "gaussian", "pair", "bundled", "crooked"],
)
def test_hit_probability_is_that_of_sampled_neurons(problem, init):
    """Few coordinates against direct sampling in all d, to 0.003; 200 000 neurons have a standard error of 0.001."""
    D = np.eye(problem.dimension)[0] if problem.dimension != 30 else problem.means[0]
    for gamma in (0.1, 0.4):
        found = mixture_hits(problem, [D], gamma, init, points=4096)
        assert found.error[0] < 0.002
        g, b = sampled_gradients(problem, 200_000, 8, init)
        assert abs(found.value[0] - sampled_hits(g, b, D, gamma).value) < 0.003


def test_bias_sign_and_norm_split_the_probability():
    problem, D = GaussianMixture.xor(20, 3.0), np.eye(20)[:1]
    init = Initialisation(bias="sign", scale=1.0)
    both, plus, minus = (mixture_hits(problem, D, 0.2, init, sign=s).value[0] for s in (0, 1, -1))
    assert both == pytest.approx(plus + minus, abs=1e-12)
    lengths = np.linalg.norm(sampled_gradients(problem, 20_000, 1, init)[0], axis=1)
    short = mixture_hits(problem, D, 0.2, init, least=float(np.median(lengths))).value[0]
    assert 0 < short < both


def test_wide_limit_of_xor_and_its_small_mean_limit():
    """d = 4000 against d = inf to 0.004 (quasi-Monte Carlo error); m -> 0 is (2/pi) arctan tan(arccos(1 - gamma))."""
    for m in (0.3, 1.0, 2.0):
        found = mixture_hits(GaussianMixture.xor(4000, m * math.sqrt(4000)), np.eye(2, 4000), 0.1)
        assert np.abs(found.value - xor_limit(m, 0.1).value).max() < 0.004
    for gamma in (0.1, 0.5):
        closed = 2 / math.pi * math.acos(1 - gamma)
        assert xor_limit(0.0, gamma).value == pytest.approx(closed, abs=1e-14)
        assert xor_limit(1e-3, gamma).value == pytest.approx(closed, abs=1e-6)


def test_finite_batches_blur_the_cone():
    """The law in few coordinates against gradients on real batches: 0.005 plus 3.5 standard errors of 1500 batches."""
    problem, n, rng = GaussianMixture.xor(20, 3.0), 300, np.random.default_rng(9)
    w, _ = Initialisation().sample(1500, 20, rng)
    g = np.vstack([batch_gradient(row[None], np.zeros(1), *problem.sample(n, rng)) for row in w])
    found = mixture_hits(problem, np.eye(2, 20), 0.2, batch=n)
    for i in range(2):
        direct = (np.abs(cosines(g, np.eye(20)[i])) > 0.8).mean()
        assert abs(found.value[i] - direct) < 0.005 + 3.5 * math.sqrt(direct * (1 - direct) / 1500)
    assert mixture_hits(problem, np.eye(2, 20), 0.2, batch=10**9).value == pytest.approx(
        mixture_hits(problem, np.eye(2, 20), 0.2).value, abs=0.006
    )


def test_the_law_of_the_cosine_is_that_of_real_batches():
    """Mean and quantiles of |cos(G_n, D)| over neurons and batches, against 1500 neurons with a real batch each: 4 sigma."""
    problem, n, rng = GaussianMixture.xor(20, 3.0), 300, np.random.default_rng(29)
    w, _ = Initialisation().sample(1500, 20, rng)
    real = np.array([cosines(batch_gradient(row[None], np.zeros(1), *problem.sample(n, rng)), np.eye(20)[0])[0] for row in w])
    law, counts = mixture_cosines(problem, np.eye(1, 20), batch=n)
    assert counts.all()
    assert abs(law.mean() - np.abs(real).mean()) < 4 * np.abs(real).std(ddof=1) / math.sqrt(1500)
    for q in np.quantile(law, [0.1, 0.5, 0.9]):
        p = (law < q).mean()
        assert abs((np.abs(real) < q).mean() - p) < 4 * math.sqrt(p * (1 - p) / 1500)


def test_batches_thin_out_the_feature_set():
    """S_{p, gamma, B} on batches: the same directions, with the probabilities of `mixture_hits` on a batch."""
    problem, gamma = GaussianMixture.xor(60, 8.0), 0.1
    init = Initialisation(scale=2.5)
    whole, small = (feature_set(problem, 0.05, gamma, init, batch=n) for n in (math.inf, 400))
    assert len(small) <= len(whole)
    for feature in small:
        expected = mixture_hits(problem, [feature.direction], gamma, init, batch=400)
        assert feature.probability.value == pytest.approx(expected.value[0])
        assert feature.probability.value < hit_probability(problem, feature.direction, gamma, init).value


def test_a_direction_off_the_means_is_never_hit_in_high_dimension():
    D = np.zeros((1, 60))
    D[0, 5] = 1
    assert mixture_hits(GaussianMixture.xor(60, 4.0), D, 0.3).value[0] < 1e-3


def test_bayes_error_of_xor_and_of_unequal_clusters():
    for mean, sigma in ((1.0, 1.0), (2.0, 0.7)):
        found = GaussianMixture.xor(50, mean, sigma).bayes_error()
        assert abs(found.value - xor_bayes_error(mean, sigma)) < found.error + 1e-4
    found = GaussianMixture.pair(12, 1.3, 0.9).bayes_error()
    assert abs(found.value - ndtr(-1.3 / 0.9)) < found.error + 1e-4
    same = GaussianMixture(np.zeros((2, 6)), [1, -1], [0.3, 0.7])
    assert same.bayes_error().value == pytest.approx(0.3)
    # two variances, equal means: |x|^2 decides, a chi-square threshold
    spread = GaussianMixture(np.zeros((2, 2)), [1, -1], None, [1.0, 4.0])
    r2 = 2 * math.log(4.0) * 4 / 3
    exact = (math.exp(-r2 / 2) + 1 - math.exp(-r2 / 8)) / 2
    found = spread.bayes_error()
    assert abs(found.value - exact) < found.error + 1e-4


# ---------------------------------------------------------------- cones


def test_cosine_of_a_batch_is_that_of_real_batches():
    """Central limit law of one neuron against 600 real batches, 4 sigma."""
    problem, rng = crooked(d=6), np.random.default_rng(10)
    w, n = rng.normal(size=6), 200
    law = cosines(batch_gradients(problem, w, 0.1, n, 20_000, rng), np.eye(6)[0])
    real = np.vstack([batch_gradient(w[None], np.array([0.1]), *problem.sample(n, rng)) for _ in range(600)])
    real = cosines(real, np.eye(6)[0])
    assert abs(real.mean() - law.mean()) < 4 * real.std() / math.sqrt(600) + 0.01  # 1/n corrections
    g = problem.gradient(w, 0.1).value[0]
    trace = np.trace(problem.second_moment(w, 0.1).value[0]) - g @ g
    draws = batch_gradients(problem, w, 0.1, n, 20_000, rng)
    assert (draws**2).sum(axis=1).mean() == pytest.approx(g @ g + trace / n, rel=0.03)  # E|G_n|^2, exactly


def test_dominant_directions_are_found():
    """Saturated XOR prefers the diagonals, a large bias single clusters, a dictionary its one direction."""
    diagonal = feature_set(GaussianMixture.xor(20, 20.0), 0.1, 0.1)
    assert len(diagonal) == 2
    for f in diagonal:
        assert np.abs(f.direction[:2]) == pytest.approx([math.sqrt(0.5)] * 2, abs=0.1)
        assert 0.3 < f.probability.value < 0.5
    biased = feature_set(GaussianMixture.xor(60, 8.0), 0.25, 0.1, Initialisation(scale=2.5))
    assert len(biased) == 2
    assert np.abs([f.direction[:2] for f in biased]).max(axis=1) == pytest.approx([1, 1], abs=0.05)
    problem = Dictionary.parity(60, 3, 0.4)
    (only,) = feature_set(problem, 0.2, 0.05, count=200)
    assert abs(only.direction @ problem.direction) > 0.99
    assert only.probability.value > 0.95
    assert feature_set(GaussianMixture.xor(60, 4.0), 0.9, 0.1) == []


def test_dominant_directions_of_made_up_gradients():
    rng = np.random.default_rng(11)
    axes = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    parts = [np.outer(rng.choice([-1, 1], n) * rng.uniform(1, 9, n), axes[i]) for i, n in enumerate((300, 200, 100))]
    gradients = np.vstack([*parts, rng.normal(size=(50, 8))]) + 1e-2 * rng.normal(size=(650, 8))
    found = dominant_directions(gradients, 0.05, 0.1)
    assert len(found) == 3
    assert [abs(D @ axes[i]) for i, D in enumerate(found)] == pytest.approx([1, 1, 1], abs=1e-3)


def test_parity_hits_have_their_closed_case():
    """k = 2: (2/pi) arccos(1 - gamma); k = 1: always."""
    for gamma in (0.05, 0.1, 0.3):
        found = parity_hits(math.inf, 2, gamma)
        assert abs(found.value - 2 / math.pi * math.acos(1 - gamma)) < found.error
    assert parity_hits(math.inf, 1, 0.1).value == 1.0
    assert parity_hits(10**6, 2, 0.1, 0.5).value == pytest.approx(parity_hits(math.inf, 2, 0.1).value, abs=0.004)
    assert parity_hits(math.inf, 3, 0.1).value == pytest.approx(0.095, abs=0.004)


def test_parity_hits_at_finite_size_are_those_of_exact_gradients():
    """D = 100: relative corrections k^2/D; three standard errors of 3000 neurons."""
    for k, gamma in ((2, 0.1), (3, 0.3)):
        problem = SparseParity(100, k)
        g, b = sampled_gradients(problem, 3000, 1, Initialisation(scale=0.5))
        direct, found = sampled_hits(g, b, problem.direction, gamma), parity_hits(100, k, gamma, 0.5)
        assert abs(found.value - direct.value) < direct.error + found.error + k**2 / 100 * found.value


@pytest.mark.parametrize("k", [2, 3, pytest.param(4, marks=pytest.mark.slow)])
def test_parity_hits_are_those_of_sampled_neurons(k):
    """D = 100 coordinates of 20 000 neurons, exact gradients against leading order, to 0.003.

    On the same neurons, so that the noise of sampling cancels: they differ on 0.2% of them.
    """
    D, count, beta = 100, 20_000 if k == 4 else 6000, 0.5
    problem, init = SparseParity(D, k), Initialisation(scale=beta)
    g, _ = sampled_gradients(problem, count, 1, init)
    w, _ = init.sample(count, D, np.random.default_rng(1))
    leading, background = leading_order(w[:, :k], np.ones(count), np.full(count, beta))
    cosine = np.abs(leading.sum(axis=1)) / math.sqrt(k) / np.sqrt((leading**2).sum(axis=1) + background**2)
    for gamma in (0.05, 0.1, 0.3):
        difference = (np.abs(cosines(g, problem.direction)) > 1 - gamma).astype(float) - (cosine > 1 - gamma)
        sem = difference.std(ddof=1) / math.sqrt(count)
        integral = parity_hits(D, k, gamma, beta)
        assert abs((cosine > 1 - gamma).mean() - integral.value) < integral.error + 4 * math.sqrt(0.25 / count)
        assert abs(difference.mean()) + 2 * sem < 0.003


def test_gradients_of_parities_lie_in_the_relevant_span_but_along_inverse_weights():
    """cos(G, span) = 0.9988 on average at D = 100 (k = 3, b = 1/2), and G is along 1/q_j within it."""
    problem = SparseParity(100, 3)
    rng = np.random.default_rng(12)
    w, b = Initialisation(scale=0.5).sample(400, 100, rng)
    g = problem.gradient(w, b).value
    inside = np.linalg.norm(g[:, :3], axis=1) / np.linalg.norm(g, axis=1)
    assert inside.mean() > 0.995
    inverse = 1 / w[:, :3]
    along = np.abs((g[:, :3] * inverse).sum(axis=1)) / np.linalg.norm(g[:, :3], axis=1) / np.linalg.norm(inverse, axis=1)
    assert np.median(along) > 0.999


def test_uniform_parities_need_many_samples():
    """At n = D a batch hides the direction that the population gradient shows."""
    assert parity_hits(100, 2, 0.1, 0.5).value > 0.25
    assert parity_hits(100, 2, 0.1, 0.5, batch=100).value < 1e-3
    assert parity_hits(100, 2, 0.1, 0.5, batch=1e7).value > 0.25


def test_dictionary_steps_have_the_stated_cosines():
    """cos^2 = nS/(nS + 2) and nS/(nS + 1), D = 100, against 20 real batches of 10 neurons: 4 sigma + 0.01."""
    problem, n = Dictionary.parity(100, 5, 0.5), 1000
    S = problem.signal
    for step, scale in ((1, 2), (2, 1)):
        law = dictionary_step(problem, n, step)
        assert law.mean_cosine().value**2 == pytest.approx(n * S / (n * S + scale), abs=0.01)  # signal fluctuates too
        runs = [dictionary_network(problem, 10, n, step, np.random.default_rng([13, r]), fit=50, test=2) for r in range(20)]
        cosine = np.array([run["cosine"] for run in runs])
        assert abs(cosine.mean() - law.mean_cosine().value) < 4 * cosine.std(ddof=1) / math.sqrt(20) + 0.002
    assert dictionary_step(problem, n, 0).mean_cosine().value == pytest.approx(math.sqrt(2 / (math.pi * 100)), abs=1e-3)
    control = Dictionary.parity(100, 5, 1.0)
    assert dictionary_step(control, n, 2).mean_cosine().value < 0.09
    assert limiting_accuracy(control, dictionary_step(control, n, 2)) < 0.52


def test_population_gradient_of_a_dictionary_is_one_direction():
    """Already after one step, cos > 0.999 at D = 100 and small bias, and the finite-batch law agrees with its CLT form."""
    problem = Dictionary.parity(100, 5, 0.5)
    g, _ = sampled_gradients(problem, 30, 1)
    assert np.abs(cosines(g, problem.direction)).min() > 0.999
    assert np.linalg.norm(g, axis=1).mean() == pytest.approx(math.sqrt(problem.signal) / 2, rel=0.02)


# ---------------------------------------------------------------- tickets and separation


def test_coverage_is_inclusion_and_exclusion():
    assert coverage([0.3], 4) == pytest.approx(1 - 0.7**4)
    assert coverage([0.2, 0.3], 5) == pytest.approx(1 - 0.8**5 - 0.7**5 + 0.5**5)
    assert coverage([0.25] * 4, 3) == pytest.approx(0, abs=1e-12)  # three neurons cannot cover four directions
    rng = np.random.default_rng(16)
    which = rng.choice(4, size=(20_000, 10), p=[0.1, 0.2, 0.3, 0.4])
    direct = np.mean([[(row == k).any() for k in range(3)] for row in which], axis=0)
    joint = np.mean([all((row == k).any() for k in range(3)) for row in which])
    assert abs(coverage([0.1, 0.2, 0.3], 10) - joint) < 4 * math.sqrt(0.25 / 20_000)
    assert direct.min() >= joint


def test_coverage_from_samples_handles_overlapping_cones():
    hits = np.array([[True, False], [True, True], [False, True], [False, False]])
    assert sampled_coverage(hits, 1) == pytest.approx(0.25)  # only the second hits both
    assert sampled_coverage(hits, 2) == pytest.approx(1 - 2 * 0.25 + 1 / 16)
    disjoint = np.array([[True, False]] * 2 + [[False, True]] * 3 + [[False, False]] * 5)
    assert sampled_coverage(disjoint, 5) == pytest.approx(coverage([0.2, 0.3], 5))


def test_winners_are_binomial():
    found = winners(0.2, 50)
    assert found.mean == pytest.approx(10)
    assert found.sd == pytest.approx(math.sqrt(8))
    assert found.none == pytest.approx(0.8**50)
    n = neurons_to_cover([0.2, 0.3], 0.9)
    assert coverage([0.2, 0.3], n) >= 0.9 > coverage([0.2, 0.3], n - 1)


def test_walsh_transform_and_fixed_feature_error_against_least_squares():
    x = cube(6)
    values = np.random.default_rng(17).normal(size=(64, 3))
    parities = [np.prod(x[:, [j for j in range(6) if s >> j & 1]], axis=1) for s in range(64)]
    direct = np.array([[(chi * v).mean() for v in values.T] for chi in parities])
    assert np.abs(walsh(values) - direct).max() < 1e-14
    features = random_relu(6, 10, np.random.default_rng(18))
    errors = []
    for s in (s for s in range(64) if s.bit_count() == 2):
        fit = features @ np.linalg.lstsq(features, parities[s], rcond=None)[0]
        errors.append(((fit - parities[s]) ** 2).mean())
    assert fixed_feature_error(features, 2).value == pytest.approx(np.mean(errors), abs=1e-10)


def test_no_fixed_features_beat_the_bound():
    """Random ReLUs stay above; the parities themselves attain it."""
    rng = np.random.default_rng(19)
    for N in (10, 40, 100):
        assert fixed_feature_error(random_relu(10, N, rng), 3).value >= square_bound(N, 10, 3) - 1e-12
    x = cube(8)
    own = np.stack([x[:, i] * x[:, i + 1] for i in range(7)], axis=1)
    assert fixed_feature_error(own, 2).value == pytest.approx(square_bound(7, 8, 2), abs=1e-12)
    own = kernel_functions(8, 20, rng)
    assert fixed_feature_error(own, 3).value >= square_bound(20, 8, 3) - 1e-12
    found = measured_fixed_error("kernel", 8, 3, 20)
    assert square_bound(20, 8, 3) < found.value < 1
    assert hinge_bound(20, 100, 5, 1.0, 0.5) > published_hinge_bound(20, 5, 1.0, 0.5)  # D >= 16 k
    assert hinge_bound(20, 30, 3, 1.0) == pytest.approx(1 - math.sqrt(20 / math.comb(30, 3)))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GaussianMixture([[1, 0], [0, 1]], [1, 2]), ["labels has 2", "1 or -1"]),
        (lambda: GaussianMixture([[1, 0], [0, 1]], [1]), ["labels", "2 clusters"]),
        (lambda: GaussianMixture([[1, 0], [0, 1]], [1, -1], [0.5, 0.6]), ["weights", "sum to 1"]),
        (lambda: GaussianMixture([[1, 0], [0, 1]], [1, -1], None, [[1, 2], [2, 1]]), ["cluster 0", "positive definite", "-1"]),
        (lambda: GaussianMixture([[1, 0], [0, 1]], [1, -1], None, [[1, 0.5], [0, 1]]), ["symmetric"]),
        (lambda: GaussianMixture([[1, 0], [0, 1]], [1, -1], None, [1.0, 0.0]), ["cluster 1", "variance 0"]),
        (lambda: mixture_hits(GaussianMixture.xor(5, 1.0), np.eye(1, 5), 1.0), ["gamma = 1", "(0, 1)"]),
        (lambda: mixture_hits(GaussianMixture.xor(5, 1.0), np.eye(1, 5), 0.0), ["gamma = 0", "(0, 1)"]),
        (lambda: mixture_hits(GaussianMixture.xor(5, 1.0), np.zeros((1, 5)), 0.1), ["direction"]),
        (lambda: mixture_hits(GaussianMixture.xor(5, 1.0), np.eye(1, 4), 0.1), ["direction", "5"]),
        (lambda: parity_hits(3, 4, 0.1), ["D = 3", "[4, inf)"]),
        (lambda: parity_hits(math.inf, 2, 0.1, batch=100), ["D = inf"]),
        (lambda: Initialisation(bias="cauchy"), ["'cauchy'", "uniform"]),
        (lambda: Setting(4, features="learned"), ["'learned'", "ticket"]),
        (lambda: coverage([0.6, 0.6], 3), ["1.2", "overlap"]),
        (lambda: feature_set(GaussianMixture.xor(5, 1.0), 0.0, 0.1), ["p = 0", "(0, 1]"]),
    ],
)
def test_bad_input_gets_one_line(make, words):
    with pytest.raises(ProblemError) as error:
        make()
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)
