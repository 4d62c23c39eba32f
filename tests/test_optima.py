"""Curves of optima: what their files hold, how they are drawn, and what is said where there is no optimum."""

import dataclasses
import json

import numpy as np
import pytest
from click.testing import CliRunner

from replica import optima_plot, optimise
from replica.cli import cli
from replica.models import RidgeRegression
from replica.optimise import Optimiser
from replica.plotting import PlotError
from replica.results import open_results
from solvers import Grid, Scan, StoreError, solve
from solvers.optima import STATUS
from solvers.outcomes import status

AXES = {"alpha": [0.5, 1.0, 2.0], "noise": [0.0, 0.1, 0.4]}


@pytest.fixture(scope="module")
def optima():
    """Ridge: the best penalty is noise/rho, and the lower end of the range without noise."""
    return Optimiser(RidgeRegression(), ["reg"], bounds={"reg": (1e-3, 10.0)}).curve(AXES, rho=2.0)


@pytest.fixture(scope="module")
def file(optima, tmp_path_factory):
    path = tmp_path_factory.mktemp("optima") / "best.h5"
    optima.write(path)
    return path


@pytest.fixture
def figures(monkeypatch):
    saved = []
    monkeypatch.setattr(optima_plot, "save", lambda figure, output: saved.append(figure) or output)
    return saved


def test_a_file_holds_optima_gradients_and_solutions(file):
    with open_results(file) as data:
        assert data.reg.dims == data.status.dims == ("alpha", "noise")
        noisy = data.sel(noise=[0.1, 0.4])
        np.testing.assert_allclose(noisy.reg, np.broadcast_to(noisy.noise / 2, noisy.reg.shape), rtol=1e-8)
        assert (noisy.status == STATUS.index("interior")).all()
        assert (abs(noisy.gradient_reg) < 1e-10).all()
        assert (data.sel(noise=0).status == STATUS.index("at_an_end")).all()
        assert (data.sel(noise=0).end_reg == -1).all()
        assert (data.sel(noise=0).gradient_reg > 0).all()  # towards the end the error falls
        assert (data.skipped == 0).all()
        for at in ({"alpha": 0.5, "noise": 0.4}, {"alpha": 2.0, "noise": 0.1}):
            here = data.sel(at)
            again = solve(RidgeRegression(), reg=float(here.reg), rho=2.0, **at)
            for name in ("test_error", "q", "V_hat", "free_entropy"):
                assert float(here[name]) == pytest.approx(again[name], rel=1e-9)
        assert data.status.attrs["flag_meanings"].split() == list(STATUS)
        assert float(data.rho) == 2.0
        assert data.attrs["model"] == "ridge"
        assert json.loads(data.attrs["optimise"]) == {"minimise": "test_error", "ranges": {"reg": [1e-3, 10.0]}}
        assert json.loads(data.attrs["options"])["loss"] == "square"
        assert json.loads(data.attrs["plan"])["axes"] == list(AXES)
        assert "kernel_source" in data.attrs
        assert "versions" in data.attrs
    assert status(file).axes == {"alpha": 3, "noise": 3}


def test_a_file_of_optima_is_no_scan_to_resume(file, optima):
    with pytest.raises(StoreError, match="optima"):
        Scan(RidgeRegression(), Grid(**AXES), fixed={"reg": 0.1, "rho": 2.0}).run(file)
    with pytest.raises(StoreError, match="exists"):
        optima.write(file)


def test_the_figure_has_a_panel_for_the_value_and_one_for_every_parameter(file, figures, tmp_path):
    with open_results(file) as data:
        optima_plot.plot_optima(data, tmp_path / "a.png")
        optima_plot.plot_optima(data, tmp_path / "b.png", x="noise", select={"alpha": 1.0})
        with pytest.raises(PlotError, match="alpha = 7 is not in the file"):
            optima_plot.plot_optima(data, tmp_path / "c.png", select={"alpha": 7.0})
    curves, one = figures
    assert len(curves.axes) == len(one.axes) == 2
    value, penalty = curves.axes
    assert [line for line in value.lines if line.get_marker() == "v"] == []
    ends = [line for line in penalty.lines if line.get_marker() == "v" and len(line.get_xdata())]
    assert len(ends) == 1  # the curve without noise
    np.testing.assert_allclose(ends[0].get_ydata(), 1e-3)
    texts = [text.get_text() for text in value.get_legend().get_texts()]
    assert len(texts) == 4
    assert texts[-1] == "at an end of the range"
    assert "optimal ridge penalty" in penalty.get_ylabel().replace("\n", " ")


def test_one_command_from_model_to_file_and_figure(tmp_path):
    file, image, table = (str(tmp_path / f"best.{suffix}") for suffix in ("h5", "png", "csv"))
    run = ["optimise", "ridge", "--over", "reg", "alpha=0.5:2:4", "noise=0.3"]
    done = CliRunner().invoke(cli, [*run, "--output", file, "--output", image, "--output", table], catch_exceptions=False)
    assert done.exit_code == 0
    assert (tmp_path / "best.png").read_bytes().startswith(b"\x89PNG")
    for more in ([], ["--x", "alpha", "--y", "reg"]):
        other = str(tmp_path / "again.pdf")
        done = CliRunner().invoke(cli, ["plot", file, *more, "--output", other], catch_exceptions=False)
        assert done.exit_code == 0
    for suffix, message in (("h5", "exists"), ("txt", "suffix must be one of")):
        done = CliRunner().invoke(cli, [*run, "--output", str(tmp_path / f"best.{suffix}")])
        assert message in done.output
    done = CliRunner().invoke(cli, ["optimise", "ridge", "--over", "reg", "alpha=1", "--output", str(tmp_path / "x.png")])
    assert "one optimum is no curve" in done.output


def test_a_single_optimum_is_a_file_too(tmp_path):
    best = Optimiser(RidgeRegression(), ["reg"]).curve({}, alpha=2.0, noise=0.3)
    best.write(tmp_path / "one.h5")
    with open_results(tmp_path / "one.h5") as data:
        assert data.reg.dims == ()
        assert float(data.reg) == pytest.approx(0.3, rel=1e-8)
        with pytest.raises(PlotError, match="no curve"):
            optima_plot.plot_optima(data, tmp_path / "one.png")
    assert best.rows[0]["status"] == "interior"


def test_where_nothing_converges_the_status_says_so(monkeypatch, tmp_path):
    solve_points = optimise.solve_points

    def failing(problem, points, method):
        batch = solve_points(problem, points, method)
        return dataclasses.replace(batch, result=np.where(points[:, 0] > 1, np.int8(1), batch.result))

    monkeypatch.setattr(optimise, "solve_points", failing)
    found = Optimiser(RidgeRegression(), ["reg"]).curve({"alpha": [0.5, 2.0]}, noise=0.3)
    assert [best.status for best in found.found] == ["interior", "nothing converged"]
    assert [best.good for best in found.found] == [True, False]
    assert np.isnan(found.found[1].value)
    assert found.found[1].skipped == 41
    found.write(tmp_path / "some.h5")
    with open_results(tmp_path / "some.h5") as data:
        assert np.isnan(data.reg.values[1])
        optima_plot.plot_optima(data, tmp_path / "some.png")


def test_what_is_not_stationary_is_not_called_an_optimum(monkeypatch):
    optimiser = Optimiser(RidgeRegression(), ["reg"])
    monkeypatch.setattr(optimiser, "_one", lambda axis, values, fixed: np.array([0.0]))
    best = optimiser(alpha=2.0, noise=0.3)
    assert best.status.startswith("not stationary (slope ")
    assert not best.good


def test_progress_covers_every_setting():
    seen = []
    Optimiser(RidgeRegression(), ["reg"]).curve({"alpha": [0.5, 2.0]}, lambda done, total: seen.append((done, total)), noise=0.3)
    assert seen == sorted(seen)
    assert seen[-1] == (82, 82)
    assert len(seen) > 4


@pytest.mark.parametrize("axes, message", [({"alpha": [1.0, 1.0]}, "more than once"), ({"alpha": [-1.0]}, "alpha = -1"),
                                           ({"reg": [1.0]}, "reg is optimised")])  # fmt: skip
def test_bad_axes_are_named(axes, message):
    with pytest.raises(ValueError, match=message):
        Optimiser(RidgeRegression(), ["reg"]).curve({"alpha": [1.0], **axes})
