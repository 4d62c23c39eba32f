"""The staircase against networks: giant steps on fresh batches, theory not used anywhere in the training."""

import numpy as np
import pytest

from replica.activations import make_activation
from replica.staircase import staircase
from replica.targets import make_target

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
