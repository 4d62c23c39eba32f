"""Published thresholds of the Bayes-optimal generalised linear model, to three digits, by the boundary finder."""

import pytest

from replica.models import BayesOptimal
from solvers import Newton
from solvers.boundary import boundary


@pytest.fixture(scope="module")
def perceptron():
    return BayesOptimal(prior="binary", channel="sign").compile()


@pytest.fixture(scope="module")
def phase_retrieval():
    return BayesOptimal(prior="gaussian", channel="modulus").compile()


def test_binary_perceptron_perfect_generalisation(perceptron):
    """1.245: Gyorgyi, Phys. Rev. A 41, 7097 (1990), abstract."""
    found = boundary(perceptron, "alpha", (1.0, 1.6), {"noise": 1e-12})
    print(found)
    assert found.kind == "equal_free_entropy"
    assert round(found.at, 3) == 1.245
    assert found.below < 0 < found.above


def test_binary_perceptron_message_passing(perceptron):
    """1.493: Barbier et al., arXiv:1708.03395."""
    found = boundary(perceptron, "alpha", (1.0, 1.8), {"noise": 1e-12}, of="v", level=0.05)
    print(found)
    assert found.kind == "jump"
    assert found.at == pytest.approx(1.493, abs=5e-4)
    assert found.width < 1e-5


def test_phase_retrieval_weak_recovery(phase_retrieval):
    """1/2: arXiv:2006.05228.  There the fixed point that knows nothing becomes unstable."""
    found = boundary(
        phase_retrieval, "alpha", (0.3, 0.8), {"noise": 0.0},
        of="contraction", level=1.0, starts={"uninformed": {"v": 1.0}}, resolution=1e-4,
    )  # fmt: skip
    print(found)
    assert found.kind == "crossing"
    assert found.at == pytest.approx(0.5, abs=1e-4)


def test_phase_retrieval_perfect_recovery(phase_retrieval):
    """1: arXiv:2006.05228.  At finite noise 1 + c/log(1/noise) up to a double logarithm, so two tiny noises lead close."""
    at = {}
    for digits in (50, 100):
        noise = 10.0**-digits
        starts = {"uninformed": {"v": 0.5}, "informed": {"v": 200 * noise}}
        window = 1 + 0.15 / digits, 1 + 0.45 / digits
        at[digits] = boundary(phase_retrieval, "alpha", window, {"noise": noise}, method=Newton(), starts=starts).at
    print(at, 2 * at[100] - at[50])
    assert 2 * at[100] - at[50] == pytest.approx(1.0, abs=5e-4)


@pytest.mark.slow
def test_phase_retrieval_message_passing(phase_retrieval):
    """1.128: Barbier et al., arXiv:1708.03395."""
    found = boundary(
        phase_retrieval, "alpha", (1.0, 1.3), {"noise": 1e-12}, of="v", level=0.05, resolution=1e-4,
    )  # fmt: skip
    print(found)
    assert found.kind == "jump"
    assert found.at == pytest.approx(1.1285, abs=5e-4)
