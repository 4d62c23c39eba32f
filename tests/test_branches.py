"""Branches followed both ways and phase boundaries, on the binary perceptron with noise, whose loop has two folds."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from replica.branches_plot import plot_boundary, plot_branches
from replica.cli import cli
from replica.models import BayesOptimal, LinearStudent
from replica.plotting import PlotError
from replica.results import open_results
from solvers import ParameterError, StoreError, solve
from solvers.boundary import BoundaryError, boundary, boundary_curve
from solvers.branches import BRANCHES, follow
from solvers.outcomes import status

NOISE = {"noise": 0.003}
#: Ends of the two branches and equal free entropy, by bisection at resolution 1e-8 (the fold conditions are tested below).
SPINODALS, EQUAL = (1.51698, 1.01465), 1.38740


@pytest.fixture(scope="module")
def problem():
    return BayesOptimal().compile()


@pytest.fixture(scope="module")
def loop(problem):
    return follow(problem, "alpha", np.linspace(0.8, 1.8, 21), NOISE)


def test_the_loop_has_two_folds_and_one_solution_outside(loop):
    assert [j.branch for j in loop.jumps] == list(BRANCHES)
    assert [j.at for j in loop.jumps] == pytest.approx(SPINODALS, abs=1e-5)
    assert all(j.width <= 1e-5 for j in loop.jumps)
    between = (loop.grid > SPINODALS[1]) & (loop.grid < SPINODALS[0])
    np.testing.assert_array_equal(loop.distinct, between)
    assert all((batch.result == 0).all() for batch in loop.found.values())
    assert all((batch.contraction < 1).all() for batch in loop.found.values())


def test_at_a_fold_the_contraction_is_one(problem, loop):
    """It closes like the root of the distance."""
    fold = loop.jumps[0]
    near, nearer = (1 - solve(problem, alpha=fold.at - d, throw=True, **NOISE).contraction for d in (4e-3, 1e-3))
    assert near / nearer == pytest.approx(2, rel=0.1)


def test_branches_are_ranked_by_free_entropy(loop):
    phi = loop.values("free_entropy")
    assert (loop.best[loop.distinct] == np.argmax(phi, axis=0)[loop.distinct]).all()
    assert (loop.best == (loop.distinct & (loop.grid > EQUAL))).all()


def test_every_point_is_the_solution_one_would_get_alone(problem, loop):
    for k, branch in enumerate(BRANCHES):
        i = 11  # alpha = 1.35, inside the loop
        alone = solve(problem, start={"v": loop.values("v")[k, i]}, alpha=loop.grid[i], throw=True, **NOISE)
        assert alone["v"] == pytest.approx(loop.values("v")[k, i], abs=1e-9), branch


def test_a_falling_axis_exchanges_the_ends(problem):
    """Noise destroys the informed state, so it is followed from large noise to small."""
    found = follow(problem, "noise", np.linspace(0.02, 0.0005, 14), {"alpha": 1.45})
    assert [j.branch for j in found.jumps] == ["informed"]
    assert found.values("v")[0, -1] > 0.1 > 1e-4 > found.values("v")[1, -1]


def test_a_convex_problem_has_one_branch(ridge):
    found = follow(ridge, "alpha", [0.5, 1.0, 2.0, 4.0], {"reg": 0.1})
    assert not found.jumps
    assert not found.distinct.any()
    assert (found.best == 0).all()


def test_what_does_not_converge_is_passed_over_and_not_ranked(problem):
    """Without noise the recovered state has no finite solution; the branch ends where the uninformed one does."""
    found = follow(problem, "alpha", [1.4, 1.45, 1.6, 1.7], {"noise": 0.0})
    assert (found.found["uninformed"].result != 0).tolist() == [False, False, True, True]
    assert found.best.tolist() == [0, 0, -1, -1]
    assert np.isnan(found.values("v")[0, 2:]).all()
    assert found.jumps[0].at == pytest.approx(1.4926, abs=1e-4)


def test_the_file_opens_as_a_labelled_array(loop, tmp_path):
    path = tmp_path / "loop.h5"
    loop.write(path)
    with open_results(path) as data:
        assert data.v.dims == ("branch", "alpha")
        np.testing.assert_array_equal(data.v, loop.values("v"))
        np.testing.assert_array_equal(data.best, loop.best)
        assert data.jump_at.values.tolist() == [j.at for j in loop.jumps]
        assert float(data.noise) == 0.003
        plot_branches(data, tmp_path / "loop.png", "zero_one")
        with pytest.raises(PlotError, match="unknown variable 'w'; the file has v, q_hat"):
            plot_branches(data, tmp_path / "loop.png", "w")
    assert sum(status(path).counts.values()) == 42
    with pytest.raises(StoreError, match="exists"):
        loop.write(path)


@pytest.mark.parametrize(
    "along, values, given, more, message",
    [
        ("beta", [1, 2], {}, {}, "unknown parameter 'beta'"),
        ("alpha", [1, -2], {}, {}, "alpha = -2 is outside its range"),
        ("alpha", [1, 3, 2], {}, {}, "two or more values that rise, or fall"),
        ("alpha", [1], {}, {}, "two or more values"),
        ("alpha", [1, 2], {"noise": -1}, {}, "noise = -1 is outside"),
        ("alpha", [1, 2], {}, {"starts": {"cold": {}}}, "unknown start 'cold'; they are uninformed, informed"),
        ("alpha", [1, 2], {}, {"starts": {"informed": {"w": 1}}}, "no order parameter 'w' to start; they are v"),
        ("alpha", [1, 2], {}, {"starts": {"informed": {"v": 2}}}, "start v = 2 is outside its range"),
        ("alpha", [1, 2], {}, {"resolution": 2}, "resolution = 2 is outside"),
    ],
)
def test_bad_input_is_one_line(problem, along, values, given, more, message):
    with pytest.raises(ParameterError, match=message) as caught:
        follow(problem, along, values, given, **more)
    assert "\n" not in str(caught.value)


def test_a_model_in_time_has_no_branches():
    with pytest.raises(ParameterError, match="no fixed points to follow"):
        follow(LinearStudent(), "alpha", [1, 2], {"time": 1})


def test_boundaries_agree_with_the_loop(problem):
    equal = boundary(problem, "alpha", (0.8, 1.8), NOISE)
    assert (equal.kind, equal.at) == ("equal_free_entropy", pytest.approx(EQUAL, abs=1e-5))
    assert equal.below < 0 < equal.above
    for start, spinodal in zip(BRANCHES, SPINODALS, strict=True):
        found = boundary(problem, "alpha", (0.8, 1.8), NOISE, of="v", level=0.05, start=start)
        assert (found.kind, found.at) == ("jump", pytest.approx(spinodal, abs=1e-5))


def test_a_continuous_crossing_is_not_called_a_jump(ridge):
    found = boundary(ridge, "alpha", (0.5, 4.0), {"reg": 0.1}, of="test_error", level=0.1)
    assert found.kind == "crossing"
    assert solve(ridge, alpha=found.at, reg=0.1)["test_error"] == pytest.approx(0.1, abs=1e-5)


@pytest.mark.parametrize(
    "ends, more, error, message",
    [
        ((0.8, 1.0), {"of": "v", "level": 0.01}, BoundaryError, "v does not pass 0.01 between alpha = 0.8 and 1"),
        ((0.8, 1.0), {}, BoundaryError, "no equal free entropy between alpha = 0.8 and 1: one solution only"),
        ((1.1, 1.3), {}, BoundaryError, "the uninformed solution leads wherever there are two"),
        ((1.0, 2.0), {"of": "w"}, ParameterError, "unknown observable 'w'; it has v, q_hat"),
        ((1.0, 2.0), {"of": "v", "start": "cold"}, ParameterError, "unknown start 'cold'"),
        ((1.0, 1.0), {}, ParameterError, "more than once"),
    ],
)
def test_where_there_is_no_boundary_one_line_says_so(problem, ends, more, error, message):
    with pytest.raises(error, match=message):
        boundary(problem, "alpha", ends, NOISE, **more)


def test_a_curve_of_boundaries_goes_on_past_one_that_is_missing(problem, tmp_path):
    curve = boundary_curve(problem, "alpha", (1.2, 1.7), {"noise": [0.001, 0.005, 0.5]}, of="v", level=0.02, resolution=1e-4)
    at = [row["alpha"] for row in curve.rows]
    assert 1.49 < at[0] < at[1]
    assert np.isnan(at[2])
    curve.write(tmp_path / "line.h5")
    with open_results(tmp_path / "line.h5") as data:
        np.testing.assert_array_equal(data.alpha, at)
        assert data.result.values.tolist() == [0, 0, 6]
        plot_boundary(data, tmp_path / "line.png")


def test_the_command_line_does_both(tmp_path):
    loop, line = tmp_path / "loop.h5", tmp_path / "loop.png"
    done = CliRunner().invoke(cli, ["branches", "bayes-optimal", "noise=0.003", "--along", "alpha=1:1.6:7", "--json",
                                    "--output", str(loop), "--output", str(line)])  # fmt: skip
    assert done.exit_code == 0, done.output
    answer = json.loads(done.output)
    assert answer["best"] == ["one", *["uninformed"] * 3, *["informed"] * 2, "one"]
    assert [j["alpha"] for j in answer["jumps"]] == pytest.approx(SPINODALS, abs=1e-5)
    assert line.stat().st_size > 10_000
    done = CliRunner().invoke(cli, ["plot", str(loop), "--y", "zero_one", "--output", str(tmp_path / "again.svg")])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(cli, ["boundary", "bayes-optimal", "noise=0.003", "--along", "alpha=1:1.6", "--json"])
    (found,) = json.loads(done.output)["boundaries"]
    assert found["alpha"] == pytest.approx(EQUAL, abs=1e-5)
    for arguments, message in (
        (["branches", "bayes-optimal", "--along", "alpha=1:2"], "first:last:count"),
        (["branches", "bayes-optimal", "--along", "alpha=1:2:3", "--output", str(loop)], "exists; --overwrite"),
        (["branches", "bayes-optimal", "--along", "alpha=1:2:3", "--show", "w"], "unknown variable 'w'"),
        (["boundary", "bayes-optimal", "--along", "alpha=1:2", "--of", "v"], "not of the form name=level"),
        (["boundary", "bayes-optimal", "--along", "alpha=1:2", "--output", str(tmp_path / "x.png")], "over one or two axes"),
    ):
        done = CliRunner().invoke(cli, arguments)
        assert done.exit_code == 2
        assert message in done.output
