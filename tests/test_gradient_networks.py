"""What networks achieve with gradient features, predictions against real networks."""

import math

import numpy as np
import pytest

from replica.gradient_features import (
    Dictionary,
    GaussianMixture,
    Initialisation,
    Setting,
    cosines,
    coverage,
    dictionary_network,
    dictionary_step,
    induced_accuracy,
    induced_loss,
    mixture_hits,
    network_accuracy,
    predicted_accuracy,
    predicted_dictionary_accuracy,
    two_step_accuracy,
    xor_bayes_error,
)
from replica.gradient_features.experiments import batch_gradient


def test_prediction_meets_one_step_networks():
    """XOR, d = 60: 8 real networks per width against the reduced model, 4 standard errors of both."""
    problem, rng = GaussianMixture.xor(60, 4.0), np.random.default_rng(14)
    for pairs, features in ((8, "gradient"), (8, "random")):
        setting = Setting(pairs, batch=2000, fit=2000, test=2000, features=features)
        theory = predicted_accuracy(problem, setting, draws=24)
        runs = np.array([network_accuracy(problem, setting, rng) for _ in range(8)])
        assert abs(runs.mean() - theory.value) < 4 * math.hypot(runs.std(ddof=1) / math.sqrt(8), theory.error / 3)


def test_prediction_meets_dictionary_networks():
    """D = 100, 60 neurons, steps 1 and 0: 6 real networks, 4 standard errors of both and the stated model error of 0.005."""
    problem = Dictionary.parity(100, 5, 0.5)
    for step, n in ((0, 300), (1, 1000)):
        theory = predicted_dictionary_accuracy(problem, n, step, 60, fit=2000, test=2000, draws=8)
        runs = [dictionary_network(problem, 60, n, step, np.random.default_rng([25, step, r]), fit=2000, test=2000)["accuracy"]
                for r in range(6)]  # fmt: skip
        sem = math.hypot(np.std(runs, ddof=1) / math.sqrt(6), theory.error / 3)
        assert abs(np.mean(runs) - theory.value) < 4 * sem + 0.005


def test_gradient_features_reach_the_bayes_error_and_random_ones_do_not():
    problem = GaussianMixture.xor(60, 4.0)
    wide = predicted_accuracy(problem, Setting(32), draws=4)
    assert wide.value == pytest.approx(1 - xor_bayes_error(4.0), abs=0.002)
    assert predicted_accuracy(problem, Setting(32, features="random"), draws=4).value < 0.85
    best = induced_accuracy(problem, np.eye(2, 60), draws=4)
    assert abs(best.value - (1 - xor_bayes_error(4.0))) < best.error + 2e-4


def test_the_induced_class_fits_a_parity_and_a_fixed_one_does_not():
    """OPT = 0 for enough readout on the gradient feature of a dictionary, by linear programming; 1 without any readout."""
    problem = Dictionary.parity(8, 3, 0.5)
    x, y = problem.sample(200, np.random.default_rng(15))
    a, b = problem.exact_network()
    u = math.sqrt(problem.variance * problem.k) * (x @ problem.direction) + problem.k * problem.rate
    features = np.maximum(u[:, None] - b, 0.0)
    assert induced_loss(features, y, float(np.abs(a).sum())) < 1e-9
    assert induced_loss(features, y, 1e-9) == pytest.approx(1.0, abs=1e-6)
    bounded = induced_loss(features, y, 1.0)
    assert 0 < bounded < 1


def test_winning_ticket_beats_a_random_pair():
    problem, axes = GaussianMixture.xor(60, 4.0), np.eye(2, 60)
    ticket = predicted_accuracy(problem, Setting(2, batch=4000, features="ticket", pool=50), axes, draws=24)
    pair = predicted_accuracy(problem, Setting(2, batch=4000), draws=48)
    assert ticket.value - pair.value > ticket.error + pair.error
    assert ticket.value == pytest.approx(0.99, abs=0.01)


# ---------------------------------------------------------------- minutes of simulation


@pytest.mark.slow
@pytest.mark.parametrize("features", ["gradient", "random"])
@pytest.mark.parametrize("pairs", [1, 2, 4, 8, 16, 32, 64])
def test_prediction_meets_networks_at_every_width(pairs, features):
    """XOR, d = 60, |mean| = 4, n = 4000: 40 real networks each, 4 standard errors of both."""
    problem, rng = GaussianMixture.xor(60, 4.0), np.random.default_rng([20, pairs])
    setting = Setting(pairs, batch=4000, features=features)
    theory = predicted_accuracy(problem, setting, draws=200 if pairs < 16 else 40)
    runs = np.array([network_accuracy(problem, setting, rng) for _ in range(40)])
    sem = math.hypot(runs.std(ddof=1) / math.sqrt(40), theory.error / 3)
    print(f"{features} s = {pairs}: {theory.value:.4f} / {runs.mean():.4f}, z = {(runs.mean() - theory.value) / sem:.2f}")
    assert abs(runs.mean() - theory.value) < 4 * sem


@pytest.mark.slow
@pytest.mark.parametrize("batch", [200, 500, 1000])
def test_prediction_meets_networks_on_small_batches(batch):
    """Here the noise of the step matters; the reduced model is right up to 1/sqrt d, allowed as 0.003."""
    problem, rng = GaussianMixture.xor(60, 4.0), np.random.default_rng([21, batch])
    setting = Setting(8, batch=batch)
    theory = predicted_accuracy(problem, setting, draws=100)
    runs = np.array([network_accuracy(problem, setting, rng) for _ in range(60)])
    sem = math.hypot(runs.std(ddof=1) / math.sqrt(60), theory.error / 3)
    print(f"n = {batch}: {theory.value:.4f} / {runs.mean():.4f}, z = {(runs.mean() - theory.value) / sem:.2f}")
    assert abs(runs.mean() - theory.value) < 4 * math.hypot(sem, 0.003)


@pytest.mark.slow
def test_winning_tickets_meet_their_prediction():
    problem, axes, rng = GaussianMixture.xor(60, 4.0), np.eye(2, 60), np.random.default_rng(22)
    for pool in (4, 16, 64):
        setting = Setting(2, batch=4000, features="ticket", pool=pool)
        theory = predicted_accuracy(problem, setting, axes, draws=200)
        runs = np.array([network_accuracy(problem, setting, rng, axes) for _ in range(60)])
        sem = math.hypot(runs.std(ddof=1) / math.sqrt(60), theory.error / 3)
        print(f"pool {pool}: {theory.value:.4f} / {runs.mean():.4f}, z = {(runs.mean() - theory.value) / sem:.2f}")
        assert abs(runs.mean() - theory.value) < 4 * sem


@pytest.mark.slow
def test_coverage_meets_real_batches():
    """Networks of s neurons on a common batch: neurons share it, so coverage is correlated; 4 sigma + 0.02."""
    problem, rng, n = GaussianMixture.xor(60, 4.0), np.random.default_rng(23), 1000
    hits = mixture_hits(problem, np.eye(2, 60), 0.1, batch=n).value
    for s in (4, 16, 32):
        covered = []
        for _ in range(400):
            w, b = Initialisation().sample(s, 60, rng)
            g = batch_gradient(w, b, *problem.sample(n, rng))
            covered.append(all((np.abs(cosines(g, D)) > 0.9).any() for D in np.eye(2, 60)))
        p = float(np.mean(covered))
        sem = math.sqrt(max(p * (1 - p), 1e-3) / 400)
        print(f"s = {s}: {coverage(hits, s):.3f} / {p:.3f} ({sem:.3f})")
        assert abs(p - coverage(hits, s)) < 4 * sem + 0.02


@pytest.mark.slow
@pytest.mark.parametrize("n", [300, 1000, 3000])
def test_two_step_law_meets_networks(n):
    """300 neurons, D = 100, k = 5: cosine 4 sigma + 0.002; accuracy of step 2 within 0.01 (fit on 4000 samples)."""
    problem = Dictionary.parity(100, 5, 0.5)
    for step in (0, 1, 2):
        runs = [dictionary_network(problem, 300, n, step, np.random.default_rng([24, n, step, r])) for r in range(24)]
        cosine, accuracy = (np.array([run[name] for run in runs]) for name in ("cosine", "accuracy"))
        law = dictionary_step(problem, n, step).mean_cosine().value
        print(f"n = {n}, step {step}: cosine {law:.4f} / {cosine.mean():.4f}, accuracy {two_step_accuracy(problem, n):.4f} / "
              f"{accuracy.mean():.4f} ({accuracy.std(ddof=1) / math.sqrt(24):.4f})")  # fmt: skip
        assert abs(cosine.mean() - law) < 4 * cosine.std(ddof=1) / math.sqrt(24) + 0.002
        predicted, sem = predicted_dictionary_accuracy(problem, n, step, 300, draws=24), accuracy.std(ddof=1) / math.sqrt(24)
        z = (accuracy.mean() - predicted.value) / math.hypot(sem, predicted.error / 3)
        print(f"    networks of the reduced model: {predicted.value:.4f} ({predicted.error / 3:.4f}), z = {z:.2f}")
        assert abs(accuracy.mean() - predicted.value) < 4 * math.hypot(sem, predicted.error / 3) + 0.005
        if step == 2:
            assert abs(accuracy.mean() - two_step_accuracy(problem, n)) < 4 * sem + 0.01
        if step == 1:
            assert accuracy.mean() < two_step_accuracy(problem, n) + 0.01
