"""Adaptive scans: points where an observable bends, the same whether or not a run was stopped."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from replica.cli import cli
from replica.models import LinearStudent
from replica.plotting import PlotError
from replica.refine_plot import plot_refined
from replica.results import open_results
from solvers import Grid, ParameterError, Result, Scan, StoreError, refine, solve
from solvers.outcomes import status
from solvers.refine import Refinement

pytest.importorskip("adaptive")
FIXED = {"reg": 1e-3, "noise": 0.3}
BOTH = {"alpha": (0.2, 4.0), "reg": (1e-4, 10.0)}


def curve(ridge, **more):
    return Refinement(ridge, "test_error", {"alpha": (0.2, 4.0)}, FIXED, **more)


def contents(path):
    with open_results(path) as data:
        return {name: data[name].values for name in data.variables}


def assert_same(one, other):
    a, b = contents(one), contents(other)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_points_gather_where_the_observable_bends(ridge, tmp_path):
    report = curve(ridge).run(tmp_path / "a.h5", points=64)
    assert (report.computed, report.skipped, report.counts) == (64, 0, {Result.CONVERGED: 64})
    with open_results(tmp_path / "a.h5") as data:
        assert data.test_error.dims == ("alpha",)
        assert (np.diff(data.alpha) > 0).all()
        assert int((abs(data.alpha - 1) < 0.19).sum()) > 25  # a tenth of the range; even points would be 6
        one = solve(ridge, alpha=float(data.alpha[20]), **FIXED)
        assert float(data.test_error[20]) == one["test_error"]


def test_interpolation_is_better_than_on_a_grid_of_as_many_points(ridge, tmp_path):
    curve(ridge).run(tmp_path / "a.h5", points=64)
    dense = np.linspace(0.2, 4.0, 801)
    exact = np.array([solve(ridge, alpha=a, **FIXED)["test_error"] for a in dense])
    Scan(ridge, Grid(alpha=np.linspace(0.2, 4.0, 64)), FIXED).run(tmp_path / "grid.h5", workers=1)
    worst = {}
    for name in ("a", "grid"):
        with open_results(tmp_path / f"{name}.h5") as data:
            worst[name] = abs(np.interp(dense, data.alpha, data.test_error) - exact).max()
    assert worst["a"] < 0.2 * worst["grid"]


@pytest.mark.parametrize("ranges, fixed", [({"alpha": (0.2, 4.0)}, FIXED), (BOTH, {"noise": 0.3})], ids=["one", "two"])
def test_a_run_that_was_stopped_ends_like_one_that_was_not(ridge, tmp_path, monkeypatch, ranges, fixed):
    def task():
        return Refinement(ridge, "test_error", ranges, fixed, logarithmic=("reg",) if "reg" in ranges else ())

    task().run(tmp_path / "whole.h5", points=40)
    task().run(tmp_path / "longer.h5", points=16)
    assert task().run(tmp_path / "longer.h5", points=40).computed == 24
    assert_same(tmp_path / "whole.h5", tmp_path / "longer.h5")

    solve_points, calls = refine.solve_points, []

    def killed(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return solve_points(*arguments)

    monkeypatch.setattr(refine, "solve_points", killed)
    with pytest.raises(KeyboardInterrupt):
        task().run(tmp_path / "killed.h5", points=40)
    assert sum(status(tmp_path / "killed.h5").counts.values()) == 24
    assert task().run(tmp_path / "killed.h5", points=40).computed == 16
    assert_same(tmp_path / "whole.h5", tmp_path / "killed.h5")


def test_asking_for_fewer_points_loses_none(ridge, tmp_path):
    curve(ridge).run(tmp_path / "a.h5", points=24)
    before = (tmp_path / "a.h5").read_bytes()
    assert curve(ridge).run(tmp_path / "a.h5", points=8).computed == 0
    assert (tmp_path / "a.h5").read_bytes() == before


def test_a_file_of_something_else_is_left_alone(ridge, tmp_path):
    path = tmp_path / "a.h5"
    curve(ridge).run(path, points=8)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="holds something else"):
        curve(ridge, batch=4).run(path, points=8)
    assert path.read_bytes() == before
    Scan(ridge, Grid(alpha=[1.0, 2.0]), FIXED).run(tmp_path / "grid.h5", workers=1)
    with pytest.raises(StoreError, match="holds something else"):
        curve(ridge).run(tmp_path / "grid.h5", points=8)
    (tmp_path / "text.h5").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(StoreError, match="not an HDF5 file"):
            curve(ridge).run(tmp_path / "text.h5", points=8, overwrite=overwrite)
    assert (tmp_path / "text.h5").read_text() == "mine"
    assert curve(ridge, batch=4).run(path, points=8, overwrite=True).computed == 8


def test_of_two_writers_one_is_told_and_no_point_is_lost(ridge, tmp_path):
    task = curve(ridge)
    task.run(tmp_path / "alone.h5", 40)

    def other(done, total):
        if done == 16:
            task.run(tmp_path / "both.h5", 40)

    with pytest.raises(StoreError, match="changed by another process") as caught:
        task.run(tmp_path / "both.h5", 24, progress=other)
    assert "\n" not in str(caught.value)
    assert_same(tmp_path / "alone.h5", tmp_path / "both.h5")


def test_points_without_solution_are_kept_and_do_not_attract(ridge, tmp_path, monkeypatch):
    solve_points = refine.solve_points

    def failing(problem, points, method):
        batch = solve_points(problem, points, method)
        batch.result[points[:, 0] > 2] = Result.MAX_STEPS.value
        batch.values[points[:, 0] > 2] = np.nan
        return batch

    monkeypatch.setattr(refine, "solve_points", failing)
    report = curve(ridge).run(tmp_path / "a.h5", points=40)
    assert set(report.counts) == {Result.CONVERGED, Result.MAX_STEPS}
    assert report.counts[Result.CONVERGED] > 25
    with open_results(tmp_path / "a.h5") as data:
        assert (data.result.values[data.alpha > 2] == Result.MAX_STEPS).all()
        plot_refined(data, tmp_path / "a.png")


def test_models_in_time_are_refined_too(tmp_path):
    task = Refinement(LinearStudent(), "test_error", {"time": (0.01, 100.0)}, {"alpha": 1.0, "noise": 0.5}, logarithmic=("time",))
    assert task.run(tmp_path / "a.h5", points=16).counts == {Result.CONVERGED: 16}


@pytest.mark.parametrize(
    "observable, ranges, fixed, more, message",
    [
        ("mse", {"alpha": (1, 2)}, FIXED, {}, "unknown observable 'mse'; it has"),
        ("q", {}, {"alpha": 1, **FIXED}, {}, "one or two parameters, not 0"),
        ("q", {"alpha": (1, -2)}, FIXED, {}, "alpha = -2 is outside its range"),
        ("q", {"alpha": (1, 1)}, FIXED, {}, "more than once"),
        ("q", {"alpha": (1, np.inf)}, FIXED, {}, "alpha = inf is outside its range"),
        ("q", {"alpha": (1, 2)}, {}, {}, "parameter reg .* was not given"),
        ("q", {"alpha": (1, 2)}, FIXED, {"batch": 0}, "batch = 0 is not a whole number"),
        ("q", {"reg": (0, 2)}, {"alpha": 1}, {"logarithmic": ("reg",)}, "reg needs a positive range"),
    ],
)
def test_bad_input_is_one_line(ridge, observable, ranges, fixed, more, message):
    with pytest.raises(ParameterError, match=message) as caught:
        Refinement(ridge, observable, ranges, fixed, **more)
    assert "\n" not in str(caught.value)


def test_the_command_line(tmp_path):
    path = tmp_path / "fine.h5"
    arguments = ["refine", "ridge", "alpha=0.2:4", "reg=log:1e-4:10", "noise=0.3", "--observable", "test_error"]
    arguments += ["--output", str(path)]
    done = CliRunner().invoke(cli, [*arguments, "--points", "30", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["counts"] == {"CONVERGED": 32}
    done = CliRunner().invoke(cli, ["plot", str(path), "--output", str(tmp_path / "fine.png")])
    assert done.exit_code == 0, done.output
    with open_results(path) as data, pytest.raises(PlotError, match="unknown variable 'w'"):
        plot_refined(data, tmp_path / "x.png", "w")
    done = CliRunner().invoke(cli, [*arguments, "--points", "0"])
    assert done.exit_code != 0
    assert "points = 0" in str(done.exception)
