"""The retry ladder: where Newton's method fails others are tried, the rung is stored, and nothing depends on timing."""

import json
from collections import Counter

import h5py
import numpy as np
import pytest

from replica.results import open_results
from solvers import (
    Anderson,
    DampedIteration,
    Grid,
    Ladder,
    MethodError,
    Newton,
    Result,
    Scan,
    StoreError,
    solve,
    solve_points,
)
from solvers.neighbours import distances, neighbours
from solvers.outcomes import add_rung, failures, status
from solvers.scan import processors

GRID = Grid(alpha=np.linspace(0.3, 3, 14), reg=np.logspace(-3, 0, 11))
FIXED = {"noise": 0.1}
# Few enough steps that every rung is needed somewhere, and some points stay unsolved.
LADDER = Ladder(max_steps=8)
NEIGHBOUR = 3


@pytest.fixture(scope="module")
def finished(ridge, tmp_path_factory):
    path = tmp_path_factory.mktemp("ladder") / "scan.h5"
    return path, Scan(ridge, GRID, FIXED, LADDER).run(path, workers=1)


def contents(path):
    with h5py.File(path) as file:
        return {name: file[name][...] for name in file}


def assert_same(path, other):
    a, b = contents(path), contents(other)
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].tobytes() == b[name].tobytes(), name


def points(problem):
    return np.array([problem.point({"alpha": a, "reg": r, **FIXED}) for a in GRID.axes["alpha"] for r in GRID.axes["reg"]])


def test_the_ladder_is_the_default_of_scans_and_a_named_method_stays_alone(ridge):
    assert Scan(ridge, GRID, FIXED).method == Ladder()
    assert Scan(ridge, GRID, FIXED, Newton()).plan.rungs == [{"name": "newton", **Newton().options()}]


def test_every_rung_solves_points_that_the_rungs_below_do_not(ridge):
    batch = solve_points(ridge, points(ridge), Ladder(max_steps=9))
    solved = Counter(batch.rung[batch.result == Result.CONVERGED].tolist())
    assert solved[0] and solved[1]
    newton = solve_points(ridge, points(ridge), Newton(max_steps=9))
    np.testing.assert_array_equal(newton.result == Result.CONVERGED, (batch.rung == 0))
    # What nothing solves, and what Newton's method solves, is what it would be without a ladder.
    alone = (batch.rung == 0) | (batch.result != Result.CONVERGED)
    assert batch.values[alone].tobytes() == newton.values[alone].tobytes()


def test_a_rescued_point_is_the_solution(ridge, finished):
    exact = solve_points(ridge, points(ridge), Newton(rtol=1e-13))
    with open_results(finished[0]) as data:
        solved = (data.result == 0).values.ravel()
        assert set(data.rung.values.ravel()[solved]) == {0, 1, NEIGHBOUR}
        error = np.abs(data.test_error.values.ravel() - exact.values[:, ridge.values.names.index("test_error")])
        assert (error <= 3 * (data.error + data.quadrature_error).values.ravel())[solved].all()


def test_the_file_says_which_method_each_point_needed(finished):
    path, report = finished
    with open_results(path) as data:
        names = data.rung.attrs["flag_meanings"].split()
        assert names == ["newton", "anderson", "damped", "neighbour"]
        assert [r["name"] for r in json.loads(data.attrs["rungs"])] == names
        assert report.continued == int((data.rung == NEIGHBOUR).sum())
        # Continued or not, each point went up as far as it had to.
        assert ((data.result != 0) <= (data.rung == NEIGHBOUR)).all()


@pytest.mark.parametrize("workers", [2, 5])
def test_the_outcome_does_not_depend_on_workers(ridge, finished, tmp_path, workers):
    Scan(ridge, GRID, FIXED, LADDER).run(tmp_path / "scan.h5", workers=workers)
    assert_same(finished[0], tmp_path / "scan.h5")


@pytest.mark.parametrize("seed", range(8))
def test_the_outcome_does_not_depend_on_interruptions(ridge, finished, tmp_path, seed):
    """From every state that a killed run can leave: some points pending, some failed ones not yet continued."""
    path = tmp_path / "scan.h5"
    path.write_bytes(finished[0].read_bytes())
    rng = np.random.default_rng(seed)
    with h5py.File(path, "r+") as file:
        result, rung = file["result"][...], file["rung"][...]
        first = solve_points(ridge, points(ridge), LADDER)
        before, codes = first.rung.reshape(GRID.shape), first.result.reshape(GRID.shape)
        # Rounds are finished one after the other: all of some depth undone, at the depth above it any subset.
        depth = distances((codes == 0) & (before < NEIGHBOUR))
        reached = rng.integers(0, depth.max() + 1)
        undone = (rung == NEIGHBOUR) & ((depth > reached) | ((depth == reached) & (rng.random(GRID.shape) < 0.5)))
        result[undone], rung[undone] = codes[undone], before[undone]
        # Writing a point anew begins with marking it pending, whatever else is there by then.
        torn = undone & (rng.random(GRID.shape) < 0.3)
        result[torn] = Result.PENDING
        q = file["q"][...]
        q[torn] = np.nan
        file["result"][...], file["rung"][...], file["q"][...] = result, rung, q
    report = Scan(ridge, GRID, FIXED, LADDER).run(path, workers=2)
    assert (report.computed, report.continued) == (torn.sum(), undone.sum())
    for name, values in contents(finished[0]).items():
        # Points that failed keep their first outcome: what was torn there is made again.
        assert values.tobytes() == contents(path)[name].tobytes(), name


def test_a_finished_ladder_is_left_alone(ridge, finished, tmp_path):
    path = tmp_path / "scan.h5"
    path.write_bytes(finished[0].read_bytes())
    report = Scan(ridge, GRID, FIXED, LADDER).run(path)
    assert (report.computed, report.continued) == (0, 0)
    assert path.read_bytes() == finished[0].read_bytes()


def test_nothing_solved_means_nothing_to_continue_from(ridge, tmp_path):
    report = Scan(ridge, GRID, FIXED, Ladder(max_steps=1)).run(tmp_path / "scan.h5")
    assert report.counts == {Result.MAX_STEPS: GRID.size}
    assert report.continued == GRID.size
    assert Scan(ridge, GRID, FIXED, Ladder(max_steps=1)).run(tmp_path / "scan.h5").continued == 0


def test_distances_and_neighbours_follow_the_grid():
    solved = np.zeros((3, 4), dtype=bool)
    solved[0, 0] = True
    np.testing.assert_array_equal(distances(solved), np.add.outer(np.arange(3), np.arange(4)))
    assert (distances(np.zeros((2, 2), dtype=bool)) == -1).all()
    assert list(neighbours((1, 1), distances(solved) < 2)) == [(0, 1), (1, 0)]


def test_failures_are_listed_with_their_reason(finished):
    path, report = finished
    unsolved = sum(n for code, n in report.counts.items() if code is not Result.CONVERGED)
    found = failures(path, limit=1000)
    assert len(found) == unsolved
    assert found[0].parameters.keys() == GRID.axes.keys()
    assert "MAX_STEPS (last tried: neighbour): residual still above rtol" in found[0].reason
    assert len(failures(path, limit=3)) == min(3, unsolved)


def test_failed_points_can_be_retried_with_another_method(ridge, finished, tmp_path):
    path = tmp_path / "scan.h5"
    path.write_bytes(finished[0].read_bytes())
    before = contents(path)
    scan = Scan(ridge, GRID, FIXED, LADDER)
    failed = before["result"] != 0
    report = scan.retry(path, [Result.MAX_STEPS], Anderson())
    assert (report.computed, report.counts) == (failed.sum(), {Result.CONVERGED: GRID.size})
    after = contents(path)
    assert (after["rung"][failed] == NEIGHBOUR + 1).all()
    alone = solve_points(ridge, points(ridge)[failed.ravel()], Anderson())
    assert after["residual"][failed].tobytes() == alone.residual.tobytes()
    for name in (*ridge.values.names, "result", "rung", "error"):
        assert after[name][~failed].tobytes() == before[name][~failed].tobytes()
    with open_results(path) as data:
        assert data.rung.attrs["flag_meanings"].split()[-1] == "anderson_4"
        assert json.loads(data.attrs["rungs"])[-1] == {"name": "anderson", **Anderson().options()}
    assert scan.retry(path, [Result.MAX_STEPS], Anderson()).computed == 0
    assert scan.run(path).computed == 0


def test_a_retry_that_fails_is_not_tried_twice_and_another_may_follow(ridge, finished, tmp_path):
    path = tmp_path / "scan.h5"
    path.write_bytes(finished[0].read_bytes())
    scan = Scan(ridge, GRID, FIXED, LADDER)
    few = DampedIteration(max_steps=3)
    assert scan.retry(path, [Result.MAX_STEPS], few).computed > 0
    assert scan.retry(path, [Result.MAX_STEPS], few).computed == 0
    assert scan.retry(path, [Result.MAX_STEPS], Newton()).counts == {Result.CONVERGED: GRID.size}


def test_files_from_before_the_ladder_can_be_resumed_and_retried(ridge, tmp_path):
    path, few = tmp_path / "scan.h5", Newton(max_steps=8)
    Scan(ridge, GRID, FIXED, few).run(path)
    with h5py.File(path, "r+") as file:  # as they were
        del file["rung"], file["violated"], file.attrs["rungs"]
        file["result"][0, :3] = Result.PENDING
    assert failures(path, 1)[0].reason.startswith("MAX_STEPS: ")
    assert Scan(ridge, GRID, FIXED, few).run(path).computed == 3
    report = Scan(ridge, GRID, FIXED, few).retry(path, [Result.MAX_STEPS], Anderson())
    assert report.counts == {Result.CONVERGED: GRID.size}
    assert set(contents(path)["rung"].ravel()) == {0, 1}
    assert status(path).counts == {Result.CONVERGED: GRID.size}


def test_retries_of_nothing_and_by_nothing_are_refused(ridge, finished, tmp_path):
    path = tmp_path / "scan.h5"
    scan = Scan(ridge, GRID, FIXED, LADDER)
    with pytest.raises(StoreError, match="does not exist"):
        scan.retry(path, [Result.MAX_STEPS], Anderson())
    path.write_bytes(finished[0].read_bytes())
    for codes in ([], [Result.CONVERGED], [Result.PENDING]):
        with pytest.raises(ValueError, match="MAX_STEPS"):
            scan.retry(path, codes, Anderson())
    with pytest.raises(ValueError, match="one method"):
        scan.retry(path, [Result.MAX_STEPS], Ladder())
    with pytest.raises(StoreError, match="method max_steps 8 != 9"):
        Scan(ridge, GRID, FIXED, Ladder(max_steps=9)).retry(path, [Result.MAX_STEPS], Anderson())
    assert path.read_bytes() == finished[0].read_bytes()
    assert add_rung(path, {"name": "new"}, 4) == add_rung(path, {"name": "new"}, 4) == 4


def test_one_point_can_climb_too(ridge):
    with pytest.raises(MethodError, match="max_steps = 0"):
        Ladder(max_steps=0)
    assert solve(ridge, alpha=2, reg=0.1, method=Ladder(max_steps=12)).converged
    assert processors() >= 1
