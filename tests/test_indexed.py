"""Vector and symmetric-matrix order parameters, from the free entropy to the arrays of a solution."""

import math

import numpy as np
import pytest
import sympy as sp
from by_hand import ByHand, difference_jacobian, state

from replica.averages import GaussianAverage, gaussian
from replica.free_entropy import FreeEntropy, ModelError
from replica.losses import make_loss
from replica.model import Conjugate, Model, Observable, OrderParameter, Parameter
from solvers.methods import Anderson, DampedIteration, Newton
from solvers.problem import Layout, ParameterError, Quantity
from solvers.result import Result
from solvers.solve import solve

half = sp.Rational(1, 2)
METHODS = [Newton, DampedIteration, Anderson]
u, v = gaussian("u v")


class BlockRidge(Model):
    """Ridge regression whose inputs come in two groups, fraction f of variance s0 and 1 - f of variance s1 (over d).

    Student and teacher overlaps per group, over d: the teacher has f and 1 - f.  Linear teacher with label noise.
    """

    name = "block_ridge"
    alpha = Parameter("samples per dimension", lower=0)
    reg = Parameter("ridge penalty", lower=0)
    noise = Parameter("label noise variance", lower=0, default=0.0)
    s0 = Parameter("input variance of the first group", lower=0)
    s1 = Parameter("input variance of the second group", lower=0)
    f = Parameter("fraction of the first group", lower=0, upper=1)

    V = OrderParameter("response", lower=0, start=1.0, index=("group",))
    q = OrderParameter("self-overlap", lower=0, start=0.1, index=("group",))
    m = OrderParameter("teacher overlap", start=0.1, index=("group",))
    q_hat = Conjugate(V, -half)
    V_hat = Conjugate(q, half)
    m_hat = Conjugate(m, -1)
    test_error = Observable("test error", lower=0)

    def sizes(self):
        return {"group": 2}

    def _groups(self):
        return zip((self.s0, self.s1), (self.f, 1 - self.f), self.V, self.q, self.m, strict=True)

    def _channel(self, f):
        rho = self.s0 * self.f + self.s1 * (1 - self.f)
        m = self.s0 * self.m[0] + self.s1 * self.m[1]
        q = self.s0 * self.q[0] + self.s1 * self.q[1]
        return GaussianAverage(f, (u, v), [[rho + self.noise, m], [m, q]])

    def free_entropy(self):
        width = self.s0 * self.V[0] + self.s1 * self.V[1]
        prior = [
            f * (mh**2 + qh) / (2 * (self.reg + vh))
            for f, mh, qh, vh in zip((self.f, 1 - self.f), self.m_hat, self.q_hat, self.V_hat, strict=True)
        ]
        return FreeEntropy(self.couplings, sp.Add(*prior), -self.alpha * self._channel(make_loss("square").moreau(u, v, width)))

    def observables(self):
        return {self.test_error: self._channel((u - v) ** 2)}


class TiedOutputs(Model):
    """Two ridge regressions on the same inputs, tied by a penalty ``tie <w_0, w_1>``; overlaps are symmetric matrices.

    Output a has labels ``t_a s + noise``.  Rotating to (1, +-1)/sqrt(2) decouples it: ridge with penalties reg +- tie.
    """

    name = "tied_outputs"
    alpha = Parameter("samples per dimension", lower=0)
    reg = Parameter("ridge penalty", lower=0)
    tie = Parameter("penalty on the overlap of the two students", default=0.0)
    noise = Parameter("label noise variance", lower=0, default=0.0)
    t0 = Parameter("teacher amplitude of the first output", default=1.0)
    t1 = Parameter("teacher amplitude of the second output", default=1.0)

    V = OrderParameter("responses", start=0.5, index=("output", "output_other"), symmetric=True)
    Q = OrderParameter("student overlaps", start=0.1, index=("output", "output_other"), symmetric=True)
    m = OrderParameter("teacher overlaps", start=0.1, index=("output",))
    Q_hat = Conjugate(V, -half)
    V_hat = Conjugate(Q, half)
    m_hat = Conjugate(m, -1)
    test_error = Observable("test error summed over outputs", lower=0)

    def sizes(self):
        return {"output": 2, "output_other": 2}

    def _errors(self):
        t = sp.Matrix([self.t0, self.t1])
        m = sp.Matrix(self.m)
        return t * t.T + self.noise * sp.eye(2) - t * m.T - m * t.T + sp.Matrix(self.Q)

    def free_entropy(self):
        penalty = sp.Matrix([[self.reg, self.tie], [self.tie, self.reg]])
        inverse = _inverse(penalty + sp.Matrix(self.V_hat))
        response = _inverse(sp.eye(2) + sp.Matrix(self.V))
        m_hat = sp.Matrix(self.m_hat)
        return FreeEntropy(
            self.couplings,
            potential_hat=half * ((m_hat.T * inverse * m_hat)[0] + (sp.Matrix(self.Q_hat) * inverse).trace()),
            potential=-self.alpha * half * (response * self._errors()).trace(),
        )

    def observables(self):
        return {self.test_error: self._errors().trace()}


def _inverse(a):
    return sp.Matrix([[a[1, 1], -a[0, 1]], [-a[1, 0], a[0, 0]]]) / (a[0, 0] * a[1, 1] - a[0, 1] ** 2)


@pytest.fixture(scope="module")
def block_ridge():
    return BlockRidge().compile()


@pytest.fixture(scope="module")
def tied():
    return TiedOutputs().compile()


# ------------------------------------------------------------------------------------------------ vectors


def test_solutions_of_an_indexed_model_are_arrays(block_ridge):
    solution = solve(block_ridge, throw=True, alpha=1.5, reg=0.1, s0=1, s1=3, f=0.3)
    for name in ("V", "q", "m", "V_hat", "q_hat", "m_hat"):
        assert solution[name].shape == (2,)
    assert isinstance(solution["test_error"], float)
    assert block_ridge.unknowns.component_names == ("V[0]", "V[1]", "q[0]", "q[1]", "m[0]", "m[1]")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("f", [0.0, 0.3, 0.5, 1.0])
def test_groups_of_equal_variance_add_up_to_plain_ridge(block_ridge, ridge, method, f):
    point = {"alpha": 1.5, "reg": 0.1, "noise": 0.2}
    solution = solve(block_ridge, method=method(rtol=1e-12), throw=True, s0=1, s1=1, f=f, **point)
    plain = solve(ridge, method=Newton(rtol=1e-12), throw=True, **point)
    for name in ("V", "q", "m"):
        np.testing.assert_allclose(solution[name], plain[name] * np.array([f, 1 - f]), rtol=1e-11, atol=1e-12)
    assert solution["test_error"] == pytest.approx(plain["test_error"], rel=1e-11)
    assert solution["free_entropy"] == pytest.approx(plain["free_entropy"], rel=1e-11)


def test_a_group_without_input_is_a_smaller_problem(block_ridge, ridge):
    # Only a fraction f of the inputs is alive: samples per living dimension alpha/f.
    solution = solve(block_ridge, throw=True, alpha=0.6, reg=0.1, s0=1, s1=0, f=0.4, noise=0.2)
    plain = solve(ridge, throw=True, alpha=0.6 / 0.4, reg=0.1 / 0.4, noise=0.2 / 0.4)
    # Inputs have variance 1/d instead of 1/(f d): rescale labels and penalty.
    assert solution["test_error"] == pytest.approx(0.4 * plain["test_error"], rel=1e-10)
    assert solution["m"][1] == pytest.approx(0, abs=1e-12)


def test_unequal_groups_agree_with_finite_dimensional_linear_algebra(block_ridge):
    alpha, reg, noise, s0, s1, f, d = 1.2, 0.3, 0.2, 0.4, 3.0, 0.35, 600
    theory = solve(block_ridge, throw=True, alpha=alpha, reg=reg, noise=noise, s0=s0, s1=s1, f=f)
    variance = np.where(np.arange(d) < f * d, s0, s1)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(24):
        x = rng.normal(size=(int(alpha * d), d)) * np.sqrt(variance / d)
        teacher = rng.normal(size=d)
        y = x @ teacher + math.sqrt(noise) * rng.normal(size=len(x))
        student = np.linalg.solve(x.T @ x + reg * np.eye(d), x.T @ y)
        first = variance == s0
        overlaps = [(student * teacher)[first].sum() / d, (student**2)[~first].sum() / d]
        found.append([noise + variance @ (student - teacher) ** 2 / d, *overlaps])
    mean, sem = np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / math.sqrt(len(found))
    z = (mean - [theory["test_error"], theory["m"][0], theory["q"][1]]) / sem
    assert np.abs(z).max() < 4  # corrections of order 1/d are below the standard error


def test_the_compiled_jacobian_of_an_indexed_block_agrees_with_differences(block_ridge):
    point = {"alpha": 1.2, "reg": 0.3, "noise": 0.2, "s0": 0.4, "s1": 3.0, "f": 0.35}
    hand = ByHand.at(block_ridge, **point)
    x = np.random.default_rng(2).uniform(0.2, 1.5, 6)
    for which, block in enumerate(block_ridge.blocks):
        at = list(block.indices)

        def residual(y, which=which, at=at):
            z = x.copy()
            z[at] = y
            return hand.block(which, z)[0]

        np.testing.assert_allclose(hand.block(which, x)[1], difference_jacobian(residual, x[at]), atol=1e-8)


def test_the_responses_of_all_components_come_first_and_the_rest_is_linear(block_ridge, tied):
    for problem, responses in ((tied, (0, 1, 2)), (block_ridge, (0, 1))):
        first, *rest = problem.blocks
        assert (first.indices, first.linear) == (responses, False)
        assert all(b.linear for b in rest)


@pytest.mark.parametrize("name", ["block_ridge", "tied"])
def test_the_compiled_free_entropy_is_stationary_at_the_solution_in_every_component(request, name):
    problem = request.getfixturevalue(name)
    point = {"alpha": 1.2, "reg": 0.3, "noise": 0.2}
    point |= {"s0": 0.4, "s1": 3.0, "f": 0.35} if name == "block_ridge" else {"tie": 0.1, "t1": -0.4}
    solution = solve(problem, method=Newton(rtol=1e-13), throw=True, **point)
    hats = Layout(tuple(q for q in problem.outputs.quantities if q.name.endswith("_hat")))
    x = state(problem, solution)
    h = np.array([np.asarray(solution[q.name])[i] for q in hats.quantities for i in q.components])
    hand = ByHand.at(problem, **point)
    both = np.concatenate([x, h])
    assert hand.entropy(both) == pytest.approx(solution["free_entropy"], rel=1e-13)
    gradient = difference_jacobian(lambda y: np.atleast_1d(hand.entropy(y)), both)
    np.testing.assert_allclose(gradient, 0, atol=1e-8)  # rounding over the step
    off = difference_jacobian(lambda y: np.atleast_1d(hand.entropy(y)), both * 1.1)
    assert np.abs(off).min() > 1e-4  # and every component does enter


# ------------------------------------------------------------------------------------------------ symmetric matrices


def test_off_diagonal_couplings_count_twice():
    couplings = {str(x): (str(h), c) for x, h, c in TiedOutputs().couplings}
    assert couplings == {
        "V_0_0": ("Q_hat_0_0", -half),
        "V_0_1": ("Q_hat_0_1", -1),
        "V_1_1": ("Q_hat_1_1", -half),
        "Q_0_0": ("V_hat_0_0", half),
        "Q_0_1": ("V_hat_0_1", 1),
        "Q_1_1": ("V_hat_1_1", half),
        "m_0": ("m_hat_0", -1),
        "m_1": ("m_hat_1", -1),
    }
    model = TiedOutputs()
    trace = (sp.Matrix(model.V) * sp.Matrix(model.Q_hat)).trace()
    declared = sp.Add(*[x * h * c for x, h, c in model.couplings if str(x).startswith("V")])
    assert sp.expand(declared + half * trace) == 0


def rotated(ridge, alpha, reg, tie, noise, t0, t1):
    """The two ridge problems that the tied one decouples into."""
    for sign in (1, -1):
        amplitude = (t0 + sign * t1) / math.sqrt(2)
        scale = amplitude**2 or 1.0
        # A teacher of amplitude zero: pure noise, that is, all noise beside a teacher of unit amplitude.
        point = {"alpha": alpha, "reg": reg + sign * tie, "noise": noise / scale}
        plain = solve(ridge, method=Newton(rtol=1e-12), throw=True, **point)
        yield sign, amplitude, plain


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("tie", [0.0, 0.15, -0.25])
def test_tied_outputs_are_two_ridge_regressions_in_rotated_coordinates(tied, ridge, method, tie):
    point = {"alpha": 1.4, "reg": 0.4, "noise": 0.3, "t0": 1.0, "t1": 0.5}
    solution = solve(tied, method=method(rtol=1e-12), throw=True, tie=tie, **point)
    turn = np.array([[1, 1], [1, -1]]) / math.sqrt(2)
    V, Q, m = turn @ solution["V"] @ turn, turn @ solution["Q"] @ turn, turn @ solution["m"]
    assert V[0, 1] == pytest.approx(0, abs=1e-12)
    test_error = 0.0
    for k, (_, amplitude, plain) in enumerate(rotated(ridge, tie=tie, **point)):
        assert V[k, k] == pytest.approx(plain["V"], rel=1e-11)
        assert m[k] == pytest.approx(amplitude * plain["m"], rel=1e-10, abs=1e-12)
        assert Q[k, k] == pytest.approx(amplitude**2 * plain["q"], rel=1e-10, abs=1e-12)
        test_error += amplitude**2 * plain["test_error"]
    assert solution["test_error"] == pytest.approx(test_error, rel=1e-10)


def test_matrices_of_a_solution_are_symmetric_and_named_by_their_upper_triangle(tied):
    solution = solve(tied, throw=True, alpha=1.4, reg=0.4, tie=0.1, t1=-0.7)
    for name in ("V", "Q", "V_hat", "Q_hat"):
        assert solution[name].shape == (2, 2)
        assert solution[name][0, 1] == solution[name][1, 0]
        assert solution[name][0, 0] != solution[name][0, 1]
    assert tied.unknowns.component_names[:4] == ("V[0,0]", "V[0,1]", "V[1,1]", "Q[0,0]")
    assert tied.unknowns.size == 8
    assert np.linalg.eigvalsh(solution["Q"]).min() >= -1e-12


@pytest.mark.parametrize("method", METHODS)
def test_exchanging_the_outputs_exchanges_the_components(tied, method):
    one = solve(tied, method=method(), throw=True, alpha=1.4, reg=0.4, tie=0.1, t0=1.0, t1=-0.7)
    other = solve(tied, method=method(), throw=True, alpha=1.4, reg=0.4, tie=0.1, t0=-0.7, t1=1.0)
    for name in ("V", "Q", "V_hat", "Q_hat"):
        np.testing.assert_allclose(other[name], one[name][::-1, ::-1], rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(other["m"], one["m"][::-1], rtol=1e-8)


def test_starts_of_indexed_order_parameters_may_be_arrays_or_one_number(tied):
    point = {"alpha": 1.4, "reg": 0.4, "tie": 0.1}
    cold = solve(tied, throw=True, **point)
    warm = solve(tied, throw=True, start={"V": cold["V"], "Q": [[1.0, 0.2], [0.2, 1.0]], "m": 0.3}, **point)
    np.testing.assert_allclose(warm["Q"], cold["Q"], rtol=1e-9)
    assert warm.steps <= cold.steps
    one_step = solve(tied, method=Newton(max_steps=1), start={"V": np.eye(2)}, **point)
    assert one_step.result is Result.MAX_STEPS
    with pytest.raises((ParameterError, ValueError)):
        solve(tied, start={"V": np.eye(3)}, **point)


def test_an_index_without_size_is_refused_by_name():
    class Sizeless(BlockRidge):
        """Sizes forgotten."""

        def sizes(self):
            return {"layer": 2}

    with pytest.raises(ModelError, match=r"V is indexed by group, but sizes\(\) knows \['layer'\]"):
        _ = Sizeless().V


# ------------------------------------------------------------------------------------------------ layout


def test_a_layout_unpacks_what_it_ravels():
    layout = Layout(
        (
            Quantity("a", "scalar"),
            Quantity("b", "vector", shape=(3,), dims=("k",)),
            Quantity("c", "symmetric", shape=(2, 2), dims=("k", "l"), symmetric=True),
            Quantity("e", "full", shape=(2, 2), dims=("k", "l")),
        )
    )
    assert layout.size == 1 + 3 + 3 + 4 == len(layout.component_names)
    flat = np.arange(22.0).reshape(2, 11)
    parts = layout.unpack(flat)
    assert {name: part.shape for name, part in parts.items()} == {
        "a": (2,), "b": (2, 3), "c": (2, 2, 2), "e": (2, 2, 2),
    }  # fmt: skip
    assert np.array_equal(parts["c"], parts["c"].swapaxes(1, 2))
    again = [parts[q.name][(slice(None), *index)] for q in layout.quantities for index in q.components]
    assert np.array_equal(np.array(again).T, flat)
