"""The staircase: exact against quadrature, the same in every frame, and what activations cannot see."""

import itertools
import json
import time

import numpy as np
import pytest
import sympy as sp
from catalogue import CATALOGUE, by_quadrature, rotated, rotation
from click.testing import CliRunner

from replica.cli import cli
from replica.hermite import coefficient
from replica.staircase import conditional_gradients, projector, staircase
from replica.targets import TargetError, make_target

TARGETS = list(CATALOGUE)


def exact_projector(found, stages):
    return projector(found.basis(stages), found.target.r)


@pytest.mark.parametrize("text", TARGETS)
def test_catalogue_by_both_routes(text):
    found = staircase(text)
    assert (found.leaps, found.dims) == CATALOGUE[text]
    assert found.arithmetic == "rational" or text.startswith(("sign(z1) +", "relu", "abs"))
    leaps, dims, bases = by_quadrature(found.target)
    assert (leaps, dims) == CATALOGUE[text]
    for i, basis in enumerate(bases):
        exact = np.array(exact_projector(found, i + 1).evalf().tolist(), dtype=float)
        np.testing.assert_allclose(basis.T @ basis, exact, atol=1e-7)  # eigenvectors of a gram known to 1e-15 or so


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("text", TARGETS)
def test_rotating_the_inputs_rotates_the_answer(text, seed):
    plain = staircase(text)
    matrix = rotation(plain.target.r, seed)
    assert matrix * matrix.T == sp.eye(plain.target.r)
    turned = staircase(rotated(text, matrix))
    assert (turned.leaps, turned.dims) == CATALOGUE[text]
    assert [(k, len(v)) for k, v in turned.direction_leaps] == [(k, len(v)) for k, v in plain.direction_leaps]
    for i in range(len(plain.stages)):
        difference = exact_projector(turned, i + 1) - matrix.T * exact_projector(plain, i + 1) * matrix
        if plain.arithmetic == "rational":
            assert difference == sp.zeros(*difference.shape)
        else:
            assert max(abs(float(x)) for x in difference) < 1e-14  # directions are shown as floats


def test_span_of_values_and_not_of_correlated_directions():
    """z1 + z1 z2 + z3 z4: generic v correlate with g given z1, yet only e2 is learned next."""
    assert conditional_gradients("z1 + z1*z2 + z3*z4", [(1, 0, 0, 0)]) == [(0, 1, 0, 0)]
    assert conditional_gradients("z1 + z1*z2 + z3*z4", [(1, 0, 0, 0)], 2) == [(0, 0, 1, 0), (0, 0, 0, 1)]
    assert conditional_gradients("z1 + z2 + z1*z2", [(1, 1)]) == []


def test_leap_index_of_each_direction():
    found = staircase("z1 + z1*z2 + z3*z4*z5")
    assert found.leap_index == 1 and found.leap_complexity == 3
    assert [(k, len(v)) for k, v in found.direction_leaps] == [(1, 1), (2, 1), (3, 3)]
    assert found.direction_leaps[1][1] == ((0, 1, 0, 0, 0),)
    assert [found.leap_of(v) for v in ([1, 0, 5, 0, 0], [0, 1, 0, 0, 2], [0, 0, 0, 1, -1])] == [1, 2, 3]
    assert staircase("z1*z2 + z2*z3").leap_of((1, 0, -1)) == 0 and staircase("tanh(z1) + z1*z2").leap_of((0, 1)) == 2
    with pytest.raises(TargetError, match="no non-zero vector of 5 numbers"):
        found.leap_of([0, 1])
    assert [stage.claim for stage in found.stages] == ["exact", "exact", "conjectured"]
    assert staircase("z1*z2").stages[0].claim == "asymptotic"


def test_only_directions_that_matter():
    found = staircase("z1*z2 + z2*z3")
    assert found.relevant == ((1, 0, 1), (0, 1, 0))
    assert found.unreached == () and found.dims == [2]


def test_algebraic_coefficients_stay_exact():
    found = staircase("sqrt(2)*z1 + z2 + z1*z2")
    assert found.arithmetic == "algebraic" and found.leaps == [1, 1]
    (first,), (second,) = (stage.directions for stage in found.stages)
    assert sp.expand(first[1] * sp.sqrt(2) - first[0]) == 0 and sp.expand(first[0] * second[0] + first[1] * second[1]) == 0
    # a^2 with a along (sqrt 2, -1), orthogonal to C_1 = (1, sqrt 2): no coupling at all, which floats could only guess.
    hidden = staircase("z1 + sqrt(2)*z2 + (sqrt(2)*z1 - z2)**2")
    assert hidden.arithmetic == "algebraic" and hidden.leaps == [1, 2]


@pytest.mark.parametrize("text", ["pi*z1 + z2 + z2*z3", "sign(z1) + z2 + z1*z2*z3", "exp(z1/2)*z2 + z3", "erf(z1)*z2 + z2**2"])
def test_transcendental_coefficients_are_answered_to_sixty_digits(text):
    start = time.perf_counter()
    found = staircase(text)
    assert time.perf_counter() - start < 20  # a fraction of a second; a symbolic field takes minutes
    assert found.arithmetic == "60 digits" and found.dims[-1] == found.target.r
    assert all((stage.kept > 1e-8 and stage.dropped < 1e-100) or stage.dropped < found.threshold for stage in found.stages)


def test_numeric_route_agrees_with_the_exact_one_and_reports_its_threshold():
    for text in ("z1 + z1*z2 + z1*z2*z3", "z1 + z2 + z1*z2", "(4*z1 + z1**2 + z2)/2", "sign(z1*z2)", "z1*z2 + z1*z2*z3"):
        exact = make_target(text)
        numeric = make_target(exact.numeric, r=exact.r)
        found = staircase(numeric)
        assert found.arithmetic == "floats" and not found.complete
        assert (found.leaps, found.dims) == CATALOGUE[{"z1 + z2 + z1*z2": text}.get(text, text)]
        for stage in found.stages:
            assert stage.kept > 1e3 * found.threshold and stage.dropped < found.threshold


def test_threshold_acts_on_squared_couplings():
    """z1 + eps z1 z2: the squared coupling of the second stage is eps^2."""
    target = make_target(lambda z: z[:, 0] + 1e-3 * z[:, 0] * z[:, 1], r=2)
    assert staircase(target).leaps == [1, 1]
    assert staircase(target).stages[1].kept == pytest.approx(1e-6, rel=1e-5)
    assert staircase(target, threshold=2e-6).leaps == [1]
    assert staircase(target, threshold=0.5e-6).leaps == [1, 1]


def test_tanh_has_exact_zeros_where_symmetry_puts_them():
    found = staircase("tanh(z1)*z2*sign(z3)")
    assert found.leaps == [3] and found.arithmetic == "floats" and found.stages[0].dropped == 0


@pytest.mark.parametrize(
    ("text", "activation", "blocked"),
    [
        ("z1 + z1*z2 + z1*z2*z3", "relu", ["z3"]),
        ("z1 + z1*z2 + z1*z2*z3", "softplus", ["z3"]),
        ("z1 + z1*z2 + z1*z2*z3", "tanh", []),  # not z2 first: both at once through degree 3, with leap 2
        ("z1 + he2(z1)*z2", "relu", ["z2"]),
        ("z1 + he2(z1)*z2", "softplus", ["z2"]),
        ("z1 + he2(z1)*z2", "erf", []),
        ("z1 + z1*z2", "erf", ["z2"]),
        ("z1 + z1*z2", "relu", []),
        ("z1 + z1*z2 + z1*z2*z3", "abs", ["z3"]),
        ("z1*z2*z3", "gelu", ["z1", "z2", "z3"]),
        ("z1 + he2(z1)*z2", "leaky_relu", ["z2"]),
    ],
)
def test_what_networks_without_biases_never_learn(text, activation, blocked):
    found = staircase(text, activation)
    units = {f"z{i + 1}": tuple(int(i == j) for j in range(found.target.r)) for i in range(found.target.r)}
    expected = [units[name] for name in blocked]
    everything = projector(expected, found.target.r)
    assert projector(found.unreached, found.target.r) == everything
    assert projector(found.basis(len(found.stages)), found.target.r) == sp.eye(found.target.r) - everything
    unlocked = staircase(text, activation, bias=True)
    assert unlocked.unreached == () and (unlocked.leaps, unlocked.dims) == (staircase(text).leaps, staircase(text).dims)


def test_blocked_directions_turn_with_the_inputs():
    matrix = rotation(3, 1)
    turned = staircase(rotated("z1 + z1*z2 + z1*z2*z3", matrix), "relu")
    assert projector(turned.unreached, 3) == matrix.T * projector([(0, 0, 1)], 3) * matrix


def test_population_gradient_is_blind_to_invisible_degrees():
    """The gradient itself, by quadrature: E[g s'(w.x) x] at a w that overlaps with e1 and e2 has no part along e3 for ReLU."""
    from replica.activations import make_activation
    from replica.targets import grid

    target = make_target("z1 + z1*z2 + z1*z2*z3")
    w = np.array([0.6, 0.0, 0.8])  # w = 0.6 e1 + 0.8 of a direction outside the teacher, taken as third axis
    # x = (z1, z2, x_perp); z3 is integrated out: E[z3 g | z1, z2] = z1 z2.
    points, weights = grid(3, 24)
    hidden = points[:, 0] * points[:, 1]  # E[z3 g | z1, z2]
    for name, blind in (("relu", True), ("erf", False)):
        slope = make_activation(name).numeric_derivative()
        for direction in (w, np.array([0.5, 0.5, np.sqrt(0.5)])):
            along = weights @ (hidden * slope(points @ direction))
            if direction[1] == 0:  # no overlap with e2: nothing to couple to
                assert abs(along) < 1e-12
            elif blind:
                assert abs(along) < 2e-3  # the kink lies across the grid
            else:
                assert along == pytest.approx(coefficient(name, 3).value * 0.25, rel=1e-3)  # c_3 w_1 w_2, |w| = 1
    assert target.r == 3


def test_claims_of_floats_are_numeric_and_hopeless_quadrature_is_refused():
    assert [stage.claim for stage in staircase("tanh(z1) + z1*z2").stages] == ["numeric", "numeric"]
    with pytest.raises(TargetError, match="quadrature across its jumps"):
        staircase(make_target(lambda z: np.sign(np.sin(40 * z[:, 0]) + np.sin(31 * z[:, 1])), r=2))


@pytest.mark.parametrize(
    "text",
    [
        "sqrt(2)*z1 + sqrt(3)*z2 + sqrt(5)*z3 + sqrt(7)*z4 + sqrt(11)*z5 + z1*z2*z3",
        "pi**2*z1 + e*z2 + z1*z2*z3 + sqrt(pi)*z3**2*z4 + exp(2/3)*z4",
        "sign(z1*z2*z3*z4*z5*z6) + z7",
        "(z1 + z2 + z3)**20",
        "exp(z1/2 + z2/3 + z3/5 + z4/7) + z1*z2",
    ],
)
def test_heavy_inputs_are_answered(text):
    start = time.perf_counter()
    assert staircase(text).leaps
    assert time.perf_counter() - start < 60  # some seconds at most


def test_generic_polynomial_of_degree_six_in_six_variables():
    rng = np.random.default_rng(0)
    z = sp.symbols("z1:7", real=True)
    monomials = [p for p in itertools.product(range(7), repeat=6) if sum(p) <= 6]
    coefficients = {p: sp.Rational(int(rng.integers(-99, 100)), int(rng.integers(1, 30))) for p in monomials}
    start = time.perf_counter()
    found = staircase(make_target(sp.Poly(coefficients, *z).as_expr()))
    assert time.perf_counter() - start < 10  # 1.5 s
    assert (found.leaps, found.dims, found.arithmetic) == ([1, 1], [1, 6], "rational")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "z1 +"}, "incomplete"),
        ({"target": "z1", "activation": "swish"}, "Known names"),
        ({"target": "tanh(z1)", "order": 0}, "order = 0 is not a whole number of at least 1"),
        ({"target": "tanh(z1)", "order": 31}, "outside 0 to 30"),
        ({"target": "z1", "threshold": 0.1}, "threshold = 0.1 means nothing here"),
        ({"target": "tanh(z1)", "threshold": 1.5}, r"threshold = 1.5 is outside its range \(0, 1\)"),
    ],
)
def test_bad_input_is_one_line(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        staircase(arguments.pop("target"), **arguments)
    assert str(error.value).isprintable()


def test_bases_must_match_the_field():
    with pytest.raises(TargetError, match="must be rational"):
        conditional_gradients("z1*z2", [(sp.sqrt(2), 1)])
    with pytest.raises(TargetError, match="no rational or algebraic"):
        conditional_gradients("tanh(z1)*z2", [(1, 0)])


def run(*arguments):
    return CliRunner().invoke(cli, ["staircase", *arguments])


def test_command_prints_the_sequence_as_json():
    out = json.loads(run("z1+z1*z2+z1*z2*z3", "--json").output)
    assert out["dims"] == [1, 2, 3] and out["leaps"] == [1, 1, 1] and out["leap_complexity"] == 1
    assert out["subspaces"] == [np.eye(3)[:k].tolist() for k in (1, 2, 3)]
    assert out["plateaux"]["exact"][0] == ["3", "2", "1", "0"] and "network" not in out


def test_everything_says_what_kind_of_statement_it_is():
    """Stages, plateaux, and what a threshold or an order leaves unseen: in JSON and in words."""
    whole = json.loads(run("z1+z2*z3", "--json").output)
    assert whole["claims"] == ["exact", "conjectured"] and "O(d^2) fresh" in whole["regimes"][1]
    assert whole["limits"] == "" and whole["plateaux"]["claim"] == "asymptotic" and "exact values" in whole["plateaux"]["regime"]
    rough = json.loads(run("tanh(z1)+z1*z2", "--json").output)
    assert rough["claims"] == ["numeric", "numeric"] and "upper bounds" in rough["plateaux"]["regime"]
    assert rough["limits"] == "squared couplings below 1.0e-16 of E[g^2] count as zero"  # all of r = 2 is learned
    assert "a leap above 8 is not seen" in staircase(make_target("tanh(z1)", r=2)).limits
    for text in ("limits", "regime", "plateaux        asymptotic"):
        assert text in run("tanh(z1)+z1*z2").output
    assert "nothing is learned" in run("5").output


def test_exactness_can_be_asked_for():
    assert run("sqrt(2)/2*z1 + sign(z2*z3)", "--exact").exit_code == 0
    refused = run("tanh(z1)*z2", "--exact")
    assert "cannot be treated exactly: its Hermite coefficients have no closed form" in str(refused.exception)


def test_command_says_what_is_blocked():
    out = json.loads(run("z1+z1*z2+z1*z2*z3", "--activation", "relu", "--json").output)
    assert out["dims"] == [1, 2, 3] and out["network"]["dims"] == [1, 2]
    assert out["network"]["blocked"]["directions"] == [[0, 0, 1]] and out["network"]["invisible_degrees"] == [3]
    out = json.loads(run("z1+z1*z2+z1*z2*z3", "--activation", "relu", "--bias", "--json").output)
    assert out["network"]["dims"] == [1, 2, 3] and out["network"]["blocked"]["directions"] == []
    text = run("z1+z1*z2+z1*z2*z3", "--activation", "relu").output
    assert "never learned   (0, 0, 1)" in text and "leap complexity 1" in text
    numeric = run("tanh(z1) + z1*z2", "--activation", "erf")
    assert numeric.exit_code == 0 and "threshold" in numeric.output
    assert run("z1", "--bias").exit_code == 2
