"""Theory against the real thing: trained networks and the spiked random features themselves, with z-scores.

The stated finite-size allowance is ``ALLOWANCE`` times the observable over d: errors of the asymptotic theory are O(1/d),
with a coefficient of a few (the mean mode m costs an eigenvalue of order p, docs/theory/srf.md section 6.4).
"""

import math

import pytest
from by_hand import ByHand

from replica.models import RidgeRegression, SpikedRandomFeatures
from replica.models.simulations import train_spiked_features
from replica.models.training import Labels
from replica.validation import compare
from solvers import solve

ALLOWANCE = 10.0
DEFAULT = {"beta": 1.0, "alpha0": 20.0, "eta": 3.0, "reg": 0.1, "noise": 0.0}


class SpikedFeaturesExperiment:
    """Draws the spiked random features of a model themselves, instead of training a network."""

    def __init__(self, model, problem):
        self.model, self.problem = model, problem

    def simulate(self, parameters, size, rng):
        definitions = ByHand.at(self.problem, **parameters).definitions(self.model)
        spike = {name: definitions[name] for name in ("r", "c", "gamma")}
        rest = {name: parameters[name] for name in ("alpha", "beta", "reg")}
        labels = Labels(self.model.choices["target"], noise=parameters["noise"])
        return train_spiked_features(self.model.choices["activation"].numeric(), labels, **rest, **spike, size=size, rng=rng)


def check(experiment, model, parameters, size, repeats, names=("test_error", "train_error"), seed=0):
    theory = solve(model, throw=True, **parameters)
    report = compare(experiment, parameters, size, repeats, seed, {name: theory[name] for name in names})
    print(f"\n{model.options}\n{report}")
    for name in names:
        allowance = ALLOWANCE * abs(theory[name]) / size
        print(f"  {name}: z with allowance {allowance:.1e} for d = {size}: {report.z(name, allowance):+.2f}")
        assert abs(report.z(name, allowance)) < 4
    return report


def test_small_network_agrees():
    model = SpikedRandomFeatures(bulk="coupled")
    check(model, model, {"alpha": 1.5, **DEFAULT}, size=200, repeats=8)


def test_small_ridge_agrees():
    model = RidgeRegression(target="tanh")
    check(model, model, {"alpha": 1.5, "reg": 0.1, "noise": 0.25}, 300, 8, ("test_error", "train_error", "m", "q"))


NETWORKS = [
    ({"activation": "tanh", "target": "sin"}, {"alpha": 0.9, **DEFAULT}),
    ({"activation": "tanh", "target": "sin"}, {"alpha": 2.3, **DEFAULT}),
    ({"activation": "tanh", "target": "sin"}, {"alpha": 2.0, **DEFAULT, "alpha0": math.inf, "noise": 0.1}),
    ({"activation": "erf", "target": "tanh"}, {"alpha": 1.5, **DEFAULT, "beta": 0.5, "eta": 1.5, "reg": 0.5}),
    ({"activation": "relu", "target": "tanh"}, {"alpha": 1.2, **DEFAULT, "alpha0": math.inf, "eta": 1.0}),
    ({"activation": "softplus", "target": "relu"}, {"alpha": 2.0, **DEFAULT, "alpha0": 0.0, "beta": 2.0}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("options", "parameters"), NETWORKS)
def test_trained_network_agrees(options, parameters):
    """One gradient step, then ridge on fresh samples, d = 1000.

    The network's row norms are coupled to the spike, so the coupled bulk is the theory of it.  At alpha0 = 20 the bulk is
    not quite isotropic either; the note puts that at 0.3 % of the error, inside the allowance of 1 %.
    """
    model = SpikedRandomFeatures(**options, bulk="coupled")
    check(model, model, parameters, size=1000, repeats=16)


FEATURES = [
    ({"activation": "tanh", "target": "sin"}, {"alpha": 0.9, **DEFAULT}),
    ({"activation": "tanh", "target": "sin"}, {"alpha": 2.3, **DEFAULT}),
    ({"activation": "relu", "target": "tanh"}, {"alpha": 1.5, **DEFAULT, "alpha0": 5.0, "eta": 1.0, "noise": 0.1}),
    ({"activation": "tanh", "target": "sign"}, {"alpha": 1.5, **DEFAULT, "beta": 0.5}),
    ({"activation": "sign", "target": "relu"}, {"alpha": 2.0, **DEFAULT, "beta": 2.0}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("options", "parameters"), FEATURES)
def test_spiked_features_agree(options, parameters):
    """The spiked random features themselves, d = 1000, order parameters included."""
    model = SpikedRandomFeatures(**options)
    experiment = SpikedFeaturesExperiment(model, model.compile())
    names = ("test_error", "train_error", "q1", "q2", "psi")
    check(experiment, model, parameters, 1000, 16, names)


@pytest.mark.slow
def test_isotropic_bulk_misses_what_the_network_does():
    """Why `bulk="coupled"` exists: at infinite batch a trained network errs 6 % less than the paper's isotropic features.

    Network and isotropic features are simulated at the same d, so that what both owe to finite size drops out of the
    difference; the theory's difference is that of its two bulks.
    """
    parameters = {"alpha": 2.3, **DEFAULT, "alpha0": math.inf}
    model = SpikedRandomFeatures()
    theory = {b: solve(SpikedRandomFeatures(bulk=b), **parameters)["test_error"] for b in ("isotropic", "coupled")}
    experiments = {"coupled": model, "isotropic": SpikedFeaturesExperiment(model, model.compile())}
    runs = {b: compare(e, parameters, 600, 40, 0, {"test_error": theory[b]}) for b, e in experiments.items()}
    (network, sem1), (features, sem2) = (runs[b].simulation["test_error"] for b in ("coupled", "isotropic"))
    difference, sem = network - features, math.hypot(sem1, sem2)
    expected = theory["coupled"] - theory["isotropic"]
    print(f"\n{runs['coupled']}\n{runs['isotropic']}")
    print(f"network - isotropic: {difference:+.2e} +- {sem:.1e}, theory {expected:+.2e}, z {(difference - expected) / sem:+.2f}")
    assert abs(difference - expected) < 4 * sem
    assert difference < -4 * sem
