"""Early stopping finds the minimum, and says when there is none."""

import numpy as np
import pytest

from replica.models import LinearStudent
from replica.stopping import early_stopping
from solvers import ParameterError, solve, solve_trajectory


@pytest.mark.parametrize("alpha", [0.5, 0.9, 1.5])
def test_no_time_is_better_than_the_best(alpha):
    stop = early_stopping(LinearStudent(), alpha=alpha, noise=0.3)
    assert not stop.at_end
    assert stop.value < stop.last
    fine = solve_trajectory(LinearStudent(), stop.time * np.linspace(0.5, 2, 301), alpha=alpha, noise=0.3)["test_error"]
    assert stop.value <= fine.min() + 1e-12
    assert solve(LinearStudent(), time=stop.time, alpha=alpha, noise=0.3)["test_error"] == stop.value


def test_the_best_ridge_penalty_leaves_nothing_to_stop_for():
    """At reg = noise d/n the student is the posterior mean: its error only falls."""
    stop = early_stopping(LinearStudent(), alpha=2.0, noise=0.5, reg=0.25, longest=100.0)
    assert stop.value == pytest.approx(stop.last, rel=1e-9)


def test_without_signal_it_is_best_not_to_start():
    stop = early_stopping(LinearStudent(), alpha=2.0, noise=0.5, signal=0.0)
    assert (stop.time, stop.value) == (0.0, 0.5)


def test_bad_input_is_named():
    with pytest.raises(ParameterError, match="no observable 'loss'; they are m, q, test_error"):
        early_stopping(LinearStudent(), observable="loss", alpha=1.0)
    with pytest.raises(ParameterError, match="longest = -1"):
        early_stopping(LinearStudent(), longest=-1.0, alpha=1.0)
