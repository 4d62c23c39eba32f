"""The staircase against networks: giant steps on fresh batches, theory not used anywhere in the training."""

import numpy as np
import pytest

from replica.activations import make_activation
from replica.giant_steps.simulations import gradients
from replica.plateaux import plateaux
from replica.staircase import staircase
from replica.targets import make_target
from replica.validation import compare

NEURONS, SAMPLES_PER_DIMENSION = 60, 150


def moves(text, activation, bias, steps, frame, d, seed):
    """Root mean squared move of the neurons along the rows of frame."""
    rng = np.random.default_rng(seed)
    target = make_target(text)
    slope = make_activation(activation).numeric_derivative()
    n = SAMPLES_PER_DIMENSION * d
    start = rng.normal(size=(NEURONS, d))
    start /= np.linalg.norm(start, axis=1, keepdims=True)
    w = start
    b = 2.0 * rng.choice([-1.0, 1.0], NEURONS) if bias else np.zeros(NEURONS)
    rates = (1.5 if steps < 5 else 1.0) * rng.choice([-1.0, 1.0], NEURONS) * rng.uniform(0.5, 1.0, NEURONS)
    for _ in range(steps):
        x = rng.normal(size=(n, d))
        y = target.numeric(x[:, : target.r])
        w = w + rates[:, None] * ((y[:, None] * slope(x @ w.T + b)).T @ x) / n
    return np.sqrt(np.mean(((w - start)[:, : target.r] @ frame.T) ** 2, axis=0))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "activation", "bias", "steps"),
    [
        ("z1 + z1*z2 + z1*z2*z3", "relu", False, 4),
        ("z1 + z1*z2 + z1*z2*z3", "relu", True, 8),
        ("z1 + he2(z1)*z2", "relu", False, 3),
        ("z1 + he2(z1)*z2", "relu", True, 3),
        ("z1 + he2(z1)*z2", "erf", False, 3),
        ("z1 + z1*z2", "erf", False, 3),
        ("z1 + z1*z2", "erf", True, 3),
        ("z1 + z2 + z1*z2", "relu", True, 3),
        ("(4*z1 + z1**2 + z2)/2 - 1/2", "relu", False, 3),
        ("z1*z2 + z3", "tanh", True, 3),
    ],
)
def test_leap_one_directions_are_learned_at_every_dimension_and_others_are_not(text, activation, bias, steps):
    """From d = 60 to 240, n/d fixed: moves along the leap-one part stay, those along the rest fall like d^(-1/2)."""
    found = staircase(text, activation, bias=bias)
    r = found.target.r
    learned = 0
    for stage in found.stages:
        if stage.leap > 1:
            break
        learned = stage.dim
    vectors = [*found.basis(len(found.stages))[:learned], *np.eye(r)]
    frame = np.linalg.qr(np.array(vectors, dtype=float).T)[0].T[:r]
    small = [moves(text, activation, bias, steps, frame, 60, seed) ** 2 for seed in range(24)]
    large = [moves(text, activation, bias, steps, frame, 240, seed) ** 2 for seed in range(6)]
    ratio = np.sqrt(np.mean(large, axis=0) / np.mean(small, axis=0))
    print(f"{text}, {activation}, bias {bias}: learned {learned} of {r}; moves {np.sqrt(np.mean(large, axis=0)).round(3)}, "
          f"over those at d/4 {ratio.round(2)}")  # fmt: skip
    assert (ratio[:learned] > 0.75).all() and (ratio[learned:] < 0.7).all()


def leap_moves(text, activation, leaps, removals, d, seed):
    """Root mean squared overlaps with the teacher's axes after each step on a fresh batch: a small leap first or a large one.

    A step of leap l has n = 16 d^l samples (150 d if l = 1) and has a length of 5 d^((l-1)/2); `removals` says what is taken from
    the labels on the same batch.
    """
    rng = np.random.default_rng(seed)
    target, slope = make_target(text), make_activation(activation).numeric_derivative()
    w = rng.normal(size=(NEURONS, d))
    w /= np.linalg.norm(w, axis=1, keepdims=True)
    b = rng.choice([-1.0, 1.0], NEURONS)
    out = []
    for leap, removal in zip(leaps, removals, strict=True):
        n = 16 * d**leap if leap > 1 else SAMPLES_PER_DIMENSION * d
        u = gradients(w, target.numeric, target.r, lambda x: slope(x + b), n, 0.0, rng, removal=removal)
        w = w + 5.0 * d ** ((leap - 1) / 2) * rng.choice([-1.0, 1.0], NEURONS)[:, None] * u
        w /= np.linalg.norm(w, axis=1, keepdims=True)
        out.append(np.sqrt(np.mean(w[:, : target.r] ** 2, axis=0)))
    return np.array(out)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "leaps", "removals", "learned"),
    [
        # asymptotic, then steps of leap 1 from what it has learned; signs have light tails
        ("sign(z1*z2) + sign(z1*z2*z3)", (2, 1, 1, 1), ("none",) * 4, ([1, 1, 0], [1, 1, 1])),
        ("he2(z1)/2 + sign(z2*z3*z4)", (2, 1, 1, 1), ("none",) * 4, ([1, 0, 0, 0], [1, 0, 0, 0])),  # the next leap is 3
        ("z1 + z2*z3", (1, 2), ("none", "least-squares"), ([1, 0, 0], [1, 1, 1])),  # conjectured: a leap of 2 from a learned U
    ],
)
def test_leaps_of_two_are_learned_with_d_squared_samples(text, leaps, removals, learned):
    """From d = 40 to 160 the cosines with what is learned stay (or grow), those with the rest fall like d^(-1/2): to 1/2.

    `learned` is after the first step and after the last.
    """
    found = staircase(text, "relu", bias=True)
    expected = [int(stage.dim) for stage in found.stages if stage.leap <= max(leaps)]
    assert expected[-1] == sum(learned[1])
    assert expected[0] == sum(learned[0])
    small, large = (
        np.mean([leap_moves(text, "relu", leaps, removals, d, seed)[[0, -1]] ** 2 for seed in range(runs)], axis=0)
        for d, runs in ((40, 24), (160, 6))
    )
    ratio = np.sqrt(large / small)
    for step, row in enumerate(np.array(learned, dtype=bool)):
        print(f"{text}, after the {('first', 'last')[step]} step: cosines {np.sqrt(large[step]).round(3)}, over those at d/4 "
              f"{ratio[step].round(2)}")  # fmt: skip
        assert (ratio[step][row] > 0.8).all()
        assert (ratio[step][~row] < 0.7).all()


def readout_errors(text, activation, bias, steps, seed, d=150, neurons=900, samples=3000):
    """Test errors of a ridge readout on fresh samples (best of five penalties), before and after every giant step.

    In units of the test labels' own mean square times E[g^2]: products of Gaussians have heavy tails.
    """
    rng = np.random.default_rng(seed)
    target, activation = make_target(text), make_activation(activation)
    sigma, slope = activation.numeric(), activation.numeric_derivative()
    w = rng.normal(size=(neurons, d))
    w /= np.linalg.norm(w, axis=1, keepdims=True)
    b, rates = rng.normal(size=neurons) * bias, 3.0 * rng.normal(size=neurons)

    def features(n):
        x = rng.normal(size=(n, d))
        return np.column_stack([sigma(x @ w.T + b) / np.sqrt(neurons), np.ones(n)]), target.numeric(x[:, : target.r])

    errors = []
    for _ in range(steps + 1):
        (phi, y), (phi_new, y_new) = features(samples), features(4000)
        gram, right = phi.T @ phi, phi.T @ y
        fits = [np.linalg.solve(gram + reg * np.eye(neurons + 1), right) for reg in (1e-3, 1e-2, 0.1, 1.0, 10.0)]
        scale = float(target.second_moment()) / np.mean(y_new**2)
        errors.append(scale * min(np.mean((y_new - phi_new @ fit) ** 2) for fit in fits))
        x = rng.normal(size=(30 * d, d))
        y = target.numeric(x[:, : target.r])
        w = w + rates[:, None] * ((y[:, None] * slope(x @ w.T + b)).T @ x) / len(x)
    return errors


class Readouts:
    """The experiment of `readout_errors`, as something `compare` can repeat."""

    def __init__(self, text, activation, bias, steps):
        self.setting = (text, activation, bias, steps)

    def simulate(self, parameters, size, rng):
        return {"error": np.array(readout_errors(*self.setting, int(rng.integers(2**31)), d=size))}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "activation", "bias"), [("z1+z1*z2", "relu", True), ("z1+z1*z2", "erf", False), ("z1*z2*z3", "relu", False)]
)
def test_readouts_of_trained_networks_stop_at_the_plateaux(text, activation, bias):
    """n, p between d and d^2, so kappa = 1: never below R_1 of the learned subspace, and down towards it as n/d = 20 allows."""
    steps = 2
    found = staircase(text, activation, bias=bias)
    levels = plateaux(found).values[:, 1]
    levels = [float(levels[min(k, len(levels) - 1)]) for k in range(steps + 1)]
    report = compare(Readouts(text, activation, bias, steps), {}, 150, 6, 0, {"error": np.array(levels)})
    print(f"\n{text}, {activation}, bias {bias}; z against the plateau, from above\n{report}")
    for name in report.names:
        # A direction learned but weakly leaves the readout above the plateau, never below it.
        error = report.simulation[name]
        assert report.z(name) > -4
        assert error.mean < report.theory[name] + 0.3 + 4 * error.sem
