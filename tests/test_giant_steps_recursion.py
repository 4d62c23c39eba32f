"""The order-parameter recursion: averages by independent routes, published closed forms, gradients of the risk, limits."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from click.testing import CliRunner

from replica.cli import cli
from replica.giant_steps.averages import Student, product_rule, sobol_rule
from replica.giant_steps.erf_averages import erf_rule
from replica.giant_steps.forms import erf_form, erf_scale
from replica.giant_steps.moments import GiantStepError
from replica.giant_steps.pair_averages import _all_pairs, pair_rule, relu_pairs
from replica.giant_steps.problem import giant_steps, labels, make_student, reuse
from replica.results import open_results
from replica.targets import make_target
from solvers import Result

ERF = "erf(z/sqrt(2))"


def overlaps(p, r, rng, size=0.5):
    """Omega of random vectors."""
    W = np.concatenate([size * rng.standard_normal((p, p + r + 2)), np.eye(r, p + r + 2)])
    return W @ W.T


# ---------------------------------------------------------------- averages


def I3(C):
    """<g'(u) v g(w)> for g = erf(x/sqrt 2): D. Saad, S. A. Solla, Phys. Rev. E 52, 4225 (1995)."""
    L3 = (1 + C[0, 0]) * (1 + C[2, 2]) - C[0, 2] ** 2
    return 2 / math.pi / math.sqrt(L3) * (C[1, 2] * (1 + C[0, 0]) - C[0, 1] * C[0, 2]) / (1 + C[0, 0])


def I4(C):
    """<g'(u) g'(v) g(w) g(x)>, ibid."""
    L4 = (1 + C[0, 0]) * (1 + C[1, 1]) - C[0, 1] ** 2
    L0 = (
        L4 * C[2, 3] - C[1, 2] * C[1, 3] * (1 + C[0, 0]) - C[0, 2] * C[0, 3] * (1 + C[1, 1])
        + C[0, 1] * C[0, 2] * C[1, 3] + C[0, 1] * C[0, 3] * C[1, 2]
    )  # fmt: skip
    L1, L2 = (
        L4 * (1 + C[k, k]) - C[1, k] ** 2 * (1 + C[0, 0]) - C[0, k] ** 2 * (1 + C[1, 1]) + 2 * C[0, 1] * C[0, k] * C[1, k]
        for k in (2, 3)
    )
    return 4 / math.pi**2 / math.sqrt(L4) * math.asin(L0 / math.sqrt(L1 * L2))


def test_drift_and_diffusion_are_those_of_saad_and_solla():
    """Soft committee machines, three students and two teachers, one of them dependent on a student."""
    rng = np.random.default_rng(0)
    p, r, noise = 3, 2, 0.3
    target = labels("erf(z1/sqrt(2)) - 0.7*erf(z2/sqrt(2))")
    student = make_student(ERF, rng.standard_normal(p))
    for _ in range(5):
        omega = overlaps(p, r, rng, size=0.8)
        found = erf_rule(student, target.erf, noise)(omega)
        weights = np.concatenate([-student.outer, [1.0, -0.7]])
        drift = np.array([
            [sum(w * I3(omega[np.ix_([i, k, m], [i, k, m])]) for m, w in enumerate(weights)) for k in range(p + r)]
            for i in range(p)
        ])  # fmt: skip
        np.testing.assert_allclose(found.G @ omega, drift, atol=1e-13)
        for i in range(p):
            for j in range(p):
                square = sum(
                    weights[m] * weights[n] * I4(omega[np.ix_([i, j, m, n], [i, j, m, n])])
                    for m in range(p + r)
                    for n in range(p + r)
                )
                alone = 2 / math.pi / math.sqrt((1 + omega[i, i]) * (1 + omega[j, j]) - omega[i, j] ** 2)
                assert found.N[i, j] == pytest.approx(square + noise * alone, abs=1e-13)


CLOSED = [("erf(z1/sqrt(2))", 2), ("z1 + z1**3/3 + erf(z1)/2 + 3/10", 2), ("z1 + z1*z2 + erf(z1 - z2)/5", 1), ("he4(z1)", 1)]


@pytest.mark.parametrize("loss", ["square", "correlation"])
@pytest.mark.parametrize("target, p", CLOSED)
def test_closed_averages_agree_with_the_product_rule(target, p, loss):
    rng = np.random.default_rng(1)
    student = make_student("1.3*erf(z/sqrt(2))", rng.standard_normal(p), loss=loss)
    known = labels(target)
    omega = overlaps(p, known.r, rng, size=0.4)
    a, b = erf_rule(student, known.erf, 0.2)(omega), product_rule(student, known, 0.2, 0.25)(omega)
    np.testing.assert_allclose(a.G, b.G, atol=1e-11)
    np.testing.assert_allclose(a.N, b.N, atol=1e-10)  # up to 60 in size
    assert a.risk == pytest.approx(b.risk, rel=1e-11)  # the rule ends at 9.5, where he4^2 exp(-z^2/2) is 1e-12


@pytest.mark.parametrize("activation", ["relu", "tanh", ERF, "softplus", "abs"])
def test_pairs_of_neurons_agree_with_points_within_their_scatter(activation):
    rng = np.random.default_rng(2)
    target = labels("z1 + z1*z2")
    for biases in (np.zeros(3), rng.standard_normal(3)):
        student = make_student(activation, rng.standard_normal(3), biases)
        omega = overlaps(3, 2, rng)
        a = pair_rule(student, target.tensors, target.second, 12)(omega)
        sets = [sobol_rule(student, target, 0.0, 12, seed)(omega) for seed in range(8)]
        for name, value in (("risk", a.risk), ("G", a.G @ omega)):
            sampled = np.array([s.risk if name == "risk" else s.G @ omega for s in sets])
            error = sampled.std(axis=0, ddof=1) / math.sqrt(8)
            assert np.all(np.abs(sampled.mean(axis=0) - value) < 7 * error + 1e-12), name  # 4 sigma of a t law with 7 degrees


def test_pairs_of_erf_neurons_agree_with_closed_averages():
    rng = np.random.default_rng(3)
    target, student = labels("z1 + z1*z2"), make_student(ERF, rng.standard_normal(3))
    omega = overlaps(3, 2, rng)
    a, b = erf_rule(student, target.erf, 0.0)(omega), pair_rule(student, target.tensors, target.second, 14)(omega)
    np.testing.assert_allclose(a.G, b.G, atol=1e-9)
    assert a.risk == pytest.approx(b.risk, abs=1e-9)


@pytest.mark.parametrize("cosine", [0.0, 0.3, -0.9, 1 - 1e-7, -1 + 1e-7])
def test_arc_cosine_kernels_agree_with_panels_up_to_parallel_neurons(cosine):
    Q = np.array([[1.3**2, 1.3 * 0.6 * cosine], [1.3 * 0.6 * cosine, 0.6**2]])
    s = make_student("relu", [1.0]).activation
    by_panels = _all_pairs(s.numeric(), s.numeric_derivative(), s.kinks, Q, np.zeros(2), 14, False)
    for a, b in zip(by_panels, relu_pairs(Q), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_forms_are_recognised_or_left_alone():
    assert erf_scale(make_student("2*erf(3*z)", [1.0]).activation) == (2.0, 3.0)
    assert erf_scale(make_student("erf(z + 1)", [1.0]).activation) is None
    assert erf_scale(make_student("tanh(z)", [1.0]).activation) is None
    for text in ("z1*z2", "erf(z1-z2/2)+z1**2", "erf(z1)*z2", "erf(z1**2)", "sign(z1)"):
        target = make_target(text)
        recognised = erf_form(target.expression, target.z) is not None
        assert recognised == (text in ("z1*z2", "erf(z1-z2/2)+z1**2")), text


# ---------------------------------------------------------------- what the recursion must satisfy


NETWORKS = [(ERF, None), ("relu", None), ("relu", [0.3, -0.5, 0.1]), ("tanh", [0.2, 0.0, -1.0])]


@pytest.mark.parametrize("activation, biases", NETWORKS)
def test_the_drift_is_the_gradient_of_the_risk(activation, biases):
    """a_i/sqrt(p) G_i are minus the derivatives of the risk in M_i, Q_ij/2 and Q_ii, by central differences."""
    rng = np.random.default_rng(4)
    target, student = labels("z1 + z1*z2"), make_student(activation, rng.standard_normal(3), biases)
    rule = pair_rule(student, target.tensors, target.second, 14)
    omega = overlaps(3, 2, rng)
    G = student.outer[:, None] * rule(omega).G
    h = 1e-4
    for i in range(3):
        for k in range(5):
            moved = np.zeros((5, 5))
            moved[i, k] = moved[k, i] = h
            slope = (rule(omega + moved).risk - rule(omega - moved).risk) / (2 * h)
            # a vector moves Q_ii twice as fast as Q_ij; an off-diagonal element is one variable
            expected = -slope if i == k else -slope / 2
            assert G[i, k] == pytest.approx(expected, abs=2e-7), (i, k)  # h^2 times third derivatives of order 1


def test_the_first_step_is_the_alignment_formula():
    from replica.giant_steps.problem import alignment

    for activation in ("relu", ERF):
        steps = giant_steps("z1+z1*z2", activation, readout=[1.0], alpha=2.0, eta=1.5, noise=0.1, loss="correlation", power=14)
        found = steps.run(1)
        expected = alignment("z1+z1*z2", activation, alpha=2.0, noise=0.1, step=1.5)
        assert abs(found["cos2"][1, 0] - expected.cos2) < found.quadrature_error[1] + 1e-12
        cosines = found["M"][1, 0] / math.sqrt(found["Q"][1, 0, 0])
        np.testing.assert_allclose(cosines, expected.cos, atol=found.quadrature_error[1] + 1e-12)


def test_two_steps_agree_with_the_fresh_second_step():
    """M_2 - M_1 = t W* u_2: the recursion against the formula of batch reuse without its self-interaction."""
    steps = giant_steps("z1+he3(z1)/2", ERF, readout=[1.0], alpha=2.0, eta=1.2, noise=0.2, loss="correlation").run(2)
    fresh = reuse("z1+he3(z1)/2", ERF, alpha=2.0, step=1.2, noise=0.2, reused=False)
    assert (steps["M"][2, 0, 0] - steps["M"][1, 0, 0]) / 1.2 == pytest.approx(fresh.overlap[0], abs=1e-6 + fresh.error)


def test_small_batches_approach_one_pass_sgd_at_first_order():
    """Steps of size gamma alpha on alpha d samples, time samples/d; the giant step is Euler's step plus one Gram term."""
    setting = {"readout": [1.0, -0.6], "noise": 0.1}
    target = "erf(z1/sqrt(2)) + z1*z2/2"
    flow = giant_steps(target, ERF, alpha=1.0, eta=0.8, **setting).flow([0.0, 2.0], rtol=1e-11)
    distance = []
    for alpha in (0.02, 0.01, 0.005):
        found = giant_steps(target, ERF, alpha=alpha, eta=0.8 * alpha, **setting).run(round(2 / alpha))
        distance.append(np.abs(found["Q"][-1] - flow["Q"][-1]).max())
    assert distance[0] / distance[1] == pytest.approx(2, rel=0.05)
    assert distance[1] / distance[2] == pytest.approx(2, rel=0.05)
    assert flow.error[-1] < 1e-8


def test_sampled_averages_drive_the_same_flow_within_their_error():
    setting = {"readout": [1.0], "alpha": 1.0, "eta": 1.0, "noise": 0.1}
    exact = giant_steps("z1+z1*z2", ERF, **setting).flow([0.0, 1.0])
    sampled = giant_steps("z1+z1*z2", ERF, rule="sobol", power=9, **setting).flow([0.0, 1.0], tolerance=0.1)
    assert (sampled.result == Result.CONVERGED).all()
    for name in ("M", "Q", "risk"):
        assert np.abs(sampled[name] - exact[name]).max() < sampled.quadrature_error[-1] + sampled.error[-1], name


def test_single_erf_unit_learns_its_twin_online():
    found = giant_steps("erf(z1/sqrt(2))", ERF, readout=[1.0], alpha=1.0, eta=1.0, M=[[0.1]]).flow([0.0, 60.0])
    assert found["risk"][-1] < 1e-6
    assert found["M"][-1, 0, 0] == pytest.approx(1.0, abs=1e-3)


def test_population_descent_lowers_the_risk_and_learns_the_staircase():
    biases = [0.5, 0.1, -0.3, -0.1]
    found = giant_steps("z1+z1*z2", "relu", readout=[1.0, -1.0, 1.0, -1.0], alpha=math.inf, eta=1.0, biases=biases).run(40)
    assert (found.result == Result.CONVERGED).all()
    assert np.all(np.diff(found["risk"]) < 0)
    assert found["cos2"][-1].min() > 0.95
    # one direction per step: nothing of z2 after the first
    assert abs(found["M"][1, :, 1]).max() < 1e-12
    assert abs(found["M"][2, :, 1]).min() > 0.03


def test_no_overlap_is_a_fixed_set_for_higher_leaps_and_a_seed_is_not():
    for target in ("z1*z2", "z1*z2*z3"):
        assert np.abs(giant_steps(target, "relu(z+0.4)", readout=[1.0, -1.0], alpha=math.inf, eta=2.0).run(3)["M"]).max() < 1e-14
    seeded = giant_steps("z1*z2", "relu", readout=[1.0], alpha=math.inf, eta=1.0, M=[[0.05, 0.02]], loss="correlation").run(3)
    assert abs(seeded["M"][-1, 0, 0]) > 0.09


BLOCKED = [
    ("z1 + z1*z2 + z1*z2*z3", "relu", 2),  # c_3 = 0
    ("z1 + he2(z1)*z2", "relu", 1),
    ("z1 + z1*z2 + z1*z2*z3", "softplus", 2),
    ("z1 + z1*z2", ERF, 1),  # c_2 = 0
]


@pytest.mark.parametrize("target, activation, hidden", BLOCKED)
def test_directions_a_network_without_biases_never_sees(target, activation, hidden):
    setting = {"readout": [1.0, -0.7], "alpha": math.inf, "eta": 1.0, "loss": "correlation"}
    blocked = giant_steps(target, activation, **setting).run(4)
    assert np.abs(blocked["M"][:, :, hidden]).max() < 1e-9
    assert np.abs(blocked["M"][-1, :, 0]).min() > 0.1
    free = giant_steps(target, activation, biases=[0.6, -0.4], **setting).run(4)
    assert np.abs(free["M"][-1, :, hidden]).max() > 1e-3


def test_neurons_in_the_teacher_space_are_no_exception():
    """Q = M M^T: Omega has the rank of the teacher space."""
    M = np.array([[0.6, 0.8], [1.0, 0.0]])
    for rule in ("closed", "sobol"):
        found = giant_steps("z1+z1*z2", ERF, readout=[1.0, -1.0], alpha=math.inf, eta=0.5, M=M, Q=M @ M.T, rule=rule).run(3)
        assert np.isfinite(found["Q"]).all()
        np.testing.assert_allclose(found["cos2"], 1.0, atol=1e-9)


# ---------------------------------------------------------------- honesty


def test_reported_errors_bound_the_true_ones():
    """Every rule against closed averages, over three steps."""
    setting = {"readout": [1.0], "alpha": 2.0, "eta": 1.0, "noise": 0.1}
    exact = giant_steps("z1+z1*z2", ERF, **setting).run(3)
    for options in ({"rule": "product"}, {"rule": "sobol", "power": 10}, {"rule": "sobol", "power": 13}):
        found = giant_steps("z1+z1*z2", ERF, **setting, **options).run(3)
        true = np.max([np.abs(found[k] - exact[k]).reshape(4, -1).max(axis=1) for k in ("M", "Q", "cos2", "risk")], axis=0)
        assert np.all(true <= found.quadrature_error + found.error), options
        assert found.quadrature_error[3] < 0.05


def test_what_is_not_resolved_or_not_finite_says_so():
    coarse = giant_steps("z1+z1*z2", "relu", readout=[1.0, 1.0], alpha=2.0, eta=3.0, power=6).run(2, tolerance=1e-6)
    assert coarse.result[-1] == Result.QUADRATURE_UNRESOLVED
    blown = giant_steps("z1", "square", readout=[1.0], alpha=1.0, eta=50.0, power=6).run(12)
    assert blown.result[-1] == Result.NONFINITE
    assert blown.result[0] == Result.CONVERGED


BAD = [
    ({"alpha": 0.0}, "alpha = 0 is outside"),
    ({"noise": -1.0}, "noise = -1 is outside"),
    ({"eta": math.inf}, "eta = inf is outside"),
    ({"rule": "exact"}, "unknown rule 'exact'; it is one of auto, closed"),
    ({"rule": "closed"}, "rule closed does not apply"),
    ({"M": [[2.0, 0.0]]}, "not the overlaps of any vectors"),
    ({"M": [[0.0]]}, "they must be (1, 2)"),
    ({"readout": []}, "one number per neuron"),
    ({"readout": [math.nan]}, "must be finite"),
    ({"biases": [0.0, 1.0]}, "one number per neuron"),
    ({"loss": "hinge"}, "unknown loss 'hinge'; it is one of square, correlation"),
]


@pytest.mark.parametrize("options, message", BAD)
def test_bad_input_is_refused_in_one_line(options, message):
    with pytest.raises(GiantStepError) as error:
        giant_steps("z1+z1*z2", "relu", **{"readout": [1.0], "alpha": 1.0, "eta": 1.0, **options})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_steps_and_times_are_checked():
    network = giant_steps("z1", ERF, readout=[1.0], alpha=1.0, eta=1.0)
    for bad in (-1, 1.5):
        with pytest.raises(GiantStepError, match="steps"):
            network.run(bad)
    with pytest.raises(GiantStepError, match="ascending"):
        network.flow([1.0, 0.5])
    with pytest.raises(GiantStepError, match="rtol = 1 is outside"):
        network.flow([1.0], rtol=1.0)
    with pytest.raises(GiantStepError, match="does not know the diffusion"):
        giant_steps("z1", "relu", readout=[1.0], alpha=math.inf, eta=1.0).flow([1.0])


def test_command_and_file_hold_the_trajectory(tmp_path):
    file = tmp_path / "steps.h5"
    command = ["giant-steps", "z1+z1*z2", "alpha=2", "eta=1", "--activation", ERF, "--readout", "1,-1", "--steps", "2"]
    done = CliRunner().invoke(cli, [*command, "--output", str(file), "--json"])
    out = json.loads(done.output)
    assert (out["rule"], out["claim"], out["result"]) == ("closed", "asymptotic", ["CONVERGED"] * 3)
    with open_results(file) as data:
        assert data.M.dims == ("time", "neuron", "direction")
        np.testing.assert_array_equal(data.M.values, np.array(out["values"]["M"]))
        assert data.attrs["claim"] == "asymptotic"
        assert json.loads(data.attrs["options"])["target"] == "z1+z1*z2"
    # the same again is the same file; another setting is refused
    assert CliRunner().invoke(cli, [*command, "--output", str(file)]).exit_code == 0
    other = CliRunner().invoke(cli, [*command, "--bias", "1,0", "--output", str(file)])
    assert "another scan" in str(other.exception)


def test_students_take_what_they_are_given():
    student = make_student("relu", [1.0, 2.0], [0.0, 1.0])
    assert isinstance(student, Student)
    np.testing.assert_allclose(student.outer, np.array([1.0, 2.0]) / math.sqrt(2))
