"""Giant steps of real networks against theory, with z-scores.

Neurons share their batch: the independent unit is the batch (one repeat), and standard errors are over repeats.  The stated
allowance is for effects of order 1/d; |z| < 4 with it.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from replica.activations import make_activation
from replica.giant_steps.alignment import Readout
from replica.giant_steps.moments import step_moments
from replica.giant_steps.problem import alignment, giant_steps, make_student, reuse
from replica.giant_steps.simulations import first_step, train, train_online
from replica.models import GiantStep
from replica.targets import make_target
from replica.validation import compare
from solvers import solve

ERF = "erf(z/sqrt(2))"
NOTEBOOK = "(4*z1+z1**2+z2)/2"


class Experiment:
    """A function of (size, rng) as something `compare` can repeat."""

    def __init__(self, run):
        self.run = run

    def simulate(self, parameters, size, rng):
        return self.run(size, rng)


def one_step(target, activation, *, alpha, p, leap=1, noise=0.0, step=math.inf, removal="none", readout=None, d, repeats, seed):
    """Report of one giant step of p neurons at dimension d."""
    g, s = make_target(target), make_activation(activation)
    chosen = Readout() if readout is None else readout
    theory = alignment(
        g, s, alpha=alpha, noise=noise, leap=leap, step=step, removal=removal, readout=chosen, d=d, width=p,
        probabilities=(0.25, 0.5, 0.75),
    )  # fmt: skip
    predicted = {"cos2": theory.cos2, "norm2": theory.norm**2}
    if leap == 1:
        predicted |= {"cos": theory.cos, "top": theory.top}
    else:
        predicted |= {"share": np.diag(theory.share), "below": np.array(list(theory.quantiles))}

    def run(size, rng):
        # signs that cancel, and a shift: sum a/sqrt(p) is exactly the mean of the theory, and |a|^2/p its square up to 1/p
        signs = rng.permutation(np.tile([1.0, -1.0], p // 2))
        a = None if readout is None else math.sqrt(readout.square) * signs + readout.mean / math.sqrt(p)
        found = first_step(
            g.numeric, g.r, s.numeric_derivative(), alpha=alpha, noise=noise, leap=leap, step=step, d=size, p=p, rng=rng,
            removal=removal, readout=a, activation=s.numeric(),
        )  # fmt: skip
        if leap > 1:
            found["share"] = np.diag(found["share"])
            # probability transform: the fraction of neurons below each predicted quantile
            found["below"] = np.array([np.mean(found["all_cos2"] < q) for q in theory.quantiles.values()])
        return {name: found[name] for name in predicted}

    return compare(Experiment(run), {"alpha": alpha, "noise": noise}, d, repeats, seed, predicted)


def checked(report, allowance, capsys=None):
    print(f"\n{report}")
    for name in report.names:
        size = allowance[name.partition("[")[0]] if isinstance(allowance, dict) else allowance
        assert abs(report.z(name, size)) < 4, f"{name}\n{report}"


LEAP_1 = [
    ("z1+z1*z2", "relu", 2.0, 0.1, math.inf),
    ("z1+z1*z2", ERF, 1.0, 0.0, math.inf),
    (NOTEBOOK, "relu", 3.0, 0.2, math.inf),
    (NOTEBOOK, "relu", 3.0, 0.2, 0.7),
    ("tanh(z1)+z1*z2", "softplus", 2.0, 0.0, math.inf),
    ("z1-z2+he3(z1)/6", "tanh", 0.5, 0.1, 2.0),
    ("sign(z1)+he2(z2)", "relu(z+0.5)", 2.0, 0.5, math.inf),
    ("1+z1", "relu", 1.0, 0.1, 1.5),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", range(len(LEAP_1)))
def test_alignment_of_real_neurons(case):
    target, activation, alpha, noise, step = LEAP_1[case]
    report = one_step(target, activation, alpha=alpha, noise=noise, step=step, p=200, d=1000, repeats=40, seed=100 + case)
    # relative 1/d of the norm: the fourth moments of the batch
    checked(report, {"cos2": 1e-3, "cos": 1e-3, "top": 2e-3, "norm2": 5e-3})


def test_alignment_of_a_few_small_neurons():
    report = one_step("z1+z1*z2", "relu", alpha=2.0, noise=0.1, p=20, d=200, repeats=20, seed=1)
    checked(report, {"cos2": 0.005, "cos": 0.005, "top": 0.01, "norm2": 0.02})  # 1/d


def test_the_model_simulates_what_it_solves():
    """Through `replica scan`: the experiment of the model against its own solution, mean of the labels removed."""
    model = GiantStep(target="1+z1+z1*z2", activation="relu", labels="centred")
    parameters = {"alpha": 2.0, "noise": 0.1, "d": 150.0, "width": 20.0, "time": 2.0}
    report = compare(model, parameters, 150, 20, 11, solve(model, **parameters).values)
    assert set(report.names) == {"cos2", "cos", "top_cos2", "norm"}
    checked(report, 0.01)


@pytest.mark.slow
@pytest.mark.parametrize("removal", ["none", "mean"])
def test_mean_removal_on_the_same_batch(removal):
    report = one_step("1+z1+z1*z2", "relu", alpha=2.0, noise=0.1, p=200, removal=removal, d=1000, repeats=40, seed=7)
    checked(report, {"cos2": 1e-3, "cos": 1e-3, "top": 2e-3, "norm2": 5e-3})


@pytest.mark.slow
@pytest.mark.parametrize("target, mean", [("z1+z1*z2", 0.0), ("z1+z1*z2", 1.0), ("1+z1", 1.0)])
def test_a_random_readout_of_order_one(target, mean):
    """p large: at p = 3000 what is left of the finite width is a percent."""
    report = one_step(target, "relu", alpha=2.0, noise=0.1, p=3000, readout=Readout(1.0, mean), d=500, repeats=20, seed=8)
    checked(report, {"cos2": 3e-3, "cos": 3e-3, "top": 5e-3, "norm2": 1e-2})


LEAP_L = [
    ("z1*z2", "relu", 2, 1.0, 120, "none"),
    ("z1*z2+z2*z3", "relu", 2, 2.0, 120, "none"),
    ("he2(z1)", "relu", 2, 0.5, 120, "none"),
    ("sign(z1*z2)", "tanh(z+0.5)", 2, 1.0, 120, "none"),
    ("z1+z1*z2", "relu", 2, 1.0, 100, "moments"),
    ("z1+z1*z2", "relu", 2, 1.0, 100, "least-squares"),
    ("he3(z1)/sqrt(6)", ERF, 3, 2.0, 48, "none"),
    ("z1*z2*z3", ERF, 3, 4.0, 48, "none"),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", range(len(LEAP_L)))
def test_law_over_real_neurons(case):
    target, activation, leap, alpha, d, removal = LEAP_L[case]
    repeats = 40 if leap == 2 else 16
    report = one_step(target, activation, alpha=alpha, leap=leap, removal=removal, p=200, d=d, repeats=repeats, seed=200 + case)
    # O(1/d): overlaps on the sphere are not Gaussian, and terms of the next orders of the gradient
    width = 1.0 / d
    checked(report, {"cos2": width, "share": width, "below": 2 * width, "norm2": 5 * width})


def test_law_over_a_few_small_neurons():
    report = one_step("z1*z2", "relu", alpha=1.0, leap=2, p=50, d=40, repeats=20, seed=3)
    checked(report, {"cos2": 0.025, "share": 0.025, "below": 0.05, "norm2": 0.1})


def trained(
    target, activation, readout, *, alpha, eta, noise, steps, d, repeats, seed, biases=None, loss="square", M=None, online=None
):  # fmt: skip
    """Report of the overlaps after every step, from weights with exactly the overlaps of the theory at the start."""
    g = make_target(target)
    student = make_student(activation, readout, biases, loss)
    network = giant_steps(g, activation, readout=readout, biases=biases, loss=loss, alpha=alpha, eta=eta, noise=noise, M=M)
    theory = network.run(steps) if online is None else network.flow(online)
    kept = slice(1, None)

    def run(size, rng):
        start = (g.numeric, student, network.M, network.Q)
        if online is None:
            found = train(*start, alpha=alpha, eta=eta, noise=noise, steps=steps, d=size, rng=rng)
        else:
            found = train_online(*start, eta=eta, noise=noise, times=online, d=size, rng=rng)
        return {"M": found["M"][kept], "Q": found["Q"][kept]}

    report = compare(Experiment(run), {"alpha": alpha}, d, repeats, seed, {"M": theory["M"][kept], "Q": theory["Q"][kept]})
    return report, float(theory.quadrature_error.max())


RECURSIONS = [
    ("z1+z1*z2", ERF, [1.0, -1.5, 0.7], None, "square", 2.0, 2.0, 0.1),
    ("z1+z1*z2", ERF, [1.0, -1.5, 0.7], None, "correlation", 2.0, 2.0, 0.1),
    ("z1+z1*z2", "relu", [1.0, -1.0, 0.7], None, "square", 4.0, 1.5, 0.0),
    ("z1+z1*z2", "relu", [1.0, -1.0, 0.7], [0.5, -0.5, 0.2], "square", 4.0, 1.5, 0.1),
    ("z1+z1*z2", "relu", [1.0, -1.0], None, "correlation", 2.0, 1.0, 0.0),
    ("erf(z1/sqrt(2))-erf(z2/sqrt(2))", ERF, [1.0, -1.0], None, "square", 1.0, 2.0, 0.2),
    ("tanh(z1)", "tanh", [1.0, 0.5], [0.3, 0.0], "square", 2.0, 2.0, 0.1),
    # staircases: (1, -1) is never learned in the first, and is in the second
    ("z1+z2+z1*z2", "relu", [1.0, -1.0], [0.5, -0.4], "correlation", 4.0, 1.0, 0.1),
    ("z1+2*z2+z1*z2", "relu", [1.0, -1.0], [0.5, -0.4], "correlation", 4.0, 1.0, 0.1),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", range(len(RECURSIONS)))
def test_three_steps_of_a_real_network(case):
    target, activation, readout, biases, loss, alpha, eta, noise = RECURSIONS[case]
    d = 1500
    report, error = trained(
        target, activation, readout, biases=biases, loss=loss, alpha=alpha, eta=eta, noise=noise, steps=3, d=d, repeats=40,
        seed=300 + case,
    )  # fmt: skip
    scores = [report.z(name, math.hypot(2 / d * max(1.0, abs(report.theory[name])), error / 3)) for name in report.names]
    rms, largest = np.sqrt(np.mean(np.square(scores))), np.abs(scores).max()
    print(f"\ncase {case}: {len(scores)} entries, rms z {rms:.2f}, largest |z| {largest:.2f}, quadrature error {error:.1e}")
    assert np.abs(scores).max() < 4, str(report)


def test_two_steps_of_a_small_network():
    report, error = trained("z1+z1*z2", ERF, [1.0, -1.0], alpha=2.0, eta=1.5, noise=0.1, steps=2, d=200, repeats=20, seed=4)
    assert error == 0
    for name in report.names:
        assert abs(report.z(name, 0.01 * max(1.0, abs(report.theory[name])))) < 4, str(report)  # 2/d


@pytest.mark.slow
def test_population_steps_are_exact_at_small_dimension_when_batches_are_large():
    """alpha = inf at d = 20: 20000 samples per dimension."""
    g = make_target("z1+z1*z2")
    student = make_student("relu", [1.0, -1.0], [0.3, 0.1])
    M = np.array([[0.2, 0.1], [0.0, -0.3]])
    theory = giant_steps(g, "relu", readout=[1.0, -1.0], biases=[0.3, 0.1], alpha=math.inf, eta=1.5, M=M).run(3)

    def run(size, rng):
        return {"M": train(g.numeric, student, M, np.eye(2), alpha=2e4, eta=1.5, noise=0.0, steps=3, d=size, rng=rng)["M"]}

    report = compare(Experiment(run), {}, 20, 12, 5, {"M": theory["M"]})
    checked(report, 1e-4)  # 1/alpha


@pytest.mark.slow
def test_one_pass_sgd_of_a_real_network():
    report, error = trained(
        "erf(z1/sqrt(2))-erf(z2/sqrt(2))", ERF, [1.0, -1.0], alpha=1.0, eta=1.5, noise=0.1, steps=0, d=1000, repeats=20, seed=6,
        M=np.array([[0.3, 0.0], [0.0, 0.2]]), online=[0.0, 1.0, 3.0],
    )  # fmt: skip
    assert error == 0
    checked(report, 4e-3)


BLOCKED = [
    ("z1+z1*z2+z1*z2*z3", "relu", [-0.7, -0.7], 2, 3.0, 4),
    ("z1+he2(z1)*z2", "relu", [0.5, -0.5], 1, 1.2, 3),
    ("z1+z1*z2", ERF, [0.8, -0.8], 1, 1.2, 3),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", range(len(BLOCKED)))
def test_blocked_directions_stay_at_zero_and_biases_unlock_them(case):
    target, activation, biases, hidden, eta, steps = BLOCKED[case]
    setting = {"alpha": 8.0, "eta": eta, "noise": 0.0, "steps": steps, "d": 500, "repeats": 40, "loss": "correlation"}
    for b in (None, biases):
        report, error = trained(target, activation, [1.0, 1.0], biases=b, seed=400 + case, **setting)
        print(f"\n{target} {activation} biases {b}: theory, simulation, sem of the hidden overlap after {steps} steps")
        for i in range(2):
            name = f"M[{steps - 1},{i},{hidden}]"
            print(f"  {report.theory[name]:.5f} {report.simulation[name].mean:.5f} {report.simulation[name].sem:.5f}")
            # sampled batches of finite n: relative effects of order 1/d
            assert abs(report.z(name, math.hypot(4e-3 * max(1.0, abs(report.theory[name])), error / 3))) < 4
        moved = max(abs(report.theory[f"M[{steps - 1},{i},{hidden}]"]) for i in range(2))
        assert (moved < 1e-6) if b is None else (moved > 0.02)


REUSED = [
    ("he3(z1)/sqrt(6)", ERF, 2.0, 2.0, 0.0),
    ("he3(z1)/sqrt(6)", ERF, 1.0, 1.5, 0.2),
    ("z1+he3(z1)/3", "relu", 2.0, 1.0, 0.0),
    ("z1+z1*z2", "tanh", 2.0, 1.0, 0.1),
]


def second_overlap(target, activation, alpha, step, noise, reused, d, repeats, seed):
    g = make_target(target)
    student = make_student(activation, [1.0], loss="correlation")
    theory = reuse(g, activation, alpha=alpha, step=step, noise=noise, reused=reused)

    def run(size, rng):
        start = (g.numeric, student, np.zeros((1, g.r)), np.eye(1))
        out = train(*start, alpha=alpha, eta=step, noise=noise, steps=2, d=size, rng=rng, reuse=reused)
        return {"overlap": (out["M"][2, 0] - out["M"][1, 0]) / step}

    return compare(Experiment(run), {"alpha": alpha, "step": step}, d, repeats, seed, {"overlap": theory.overlap}), theory.error


@pytest.mark.slow
@pytest.mark.parametrize("case", range(len(REUSED)))
@pytest.mark.parametrize("reused", [True, False])
def test_second_step_on_the_same_batch_and_on_a_fresh_one(case, reused):
    report, error = second_overlap(*REUSED[case], reused=reused, d=1000, repeats=150, seed=500 + case)
    print(f"\nreused {reused}\n{report}")
    for name in report.names:
        assert abs(report.z(name, math.hypot(2e-3, error / 3))) < 4, str(report)


def test_second_step_of_a_small_network():
    report, _ = second_overlap("he3(z1)/sqrt(6)", ERF, 2.0, 2.0, 0.0, reused=True, d=200, repeats=60, seed=9)
    assert abs(report.z("overlap[0]", 0.01)) < 4, str(report)
    assert report.simulation["overlap[0]"].mean < -0.03


def test_theory_and_experiment_agree_on_what_the_noise_is():
    """The norm of the gradient at n = alpha d^l is signal plus T/alpha; T from the same moments as everywhere."""
    m = step_moments("z1*z2", "relu", 2)
    assert alignment("z1*z2", "relu", alpha=1.0).norm ** 2 == pytest.approx(m.c[2] ** 2 * 2 + m.second * m.slope, rel=1e-12)
