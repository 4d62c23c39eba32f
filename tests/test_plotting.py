"""Plots draw solutions only, and say which choice is missing."""

import numpy as np
import pytest
import toys
from toys import GRID, PROBLEM

from replica import plotting
from replica.plotting import PlotError, plot_curve, plot_heatmap
from replica.results import open_results, open_simulation
from solvers import scan
from solvers.scan import Scan
from solvers.simulations import write_simulation

POINTS = {"alpha": [0.5, 1.0, 2.0, 2.0], "reg": [0.1, 0.1, 0.1, 10.0], "gain": [1.0] * 4}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("plots") / "scan.h5"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "solve_points", toys.solve_points)
        Scan(PROBLEM, GRID).run(path)
    error = {"test_error": np.array([0.7, 0.5, 0.33, 0.4])}
    write_simulation(path, POINTS, error, {"test_error": np.full(4, 0.02)}, size=1000, repeats=10, seed=0)
    return path


@pytest.fixture(scope="module")
def data(file):
    with open_results(file) as data:
        yield data.load()


@pytest.fixture(scope="module")
def simulation(file):
    with open_simulation(file) as data:
        yield data.load()


@pytest.fixture
def figures(monkeypatch):
    """The figures that were saved, in order."""
    saved = []
    save = plotting.save
    monkeypatch.setattr(plotting, "save", lambda figure, output: (saved.append(figure), save(figure, output))[1])
    return saved


def lines(axes):
    """Lines of the plot, without the rows of crosses and the error bars."""
    return [line for line in axes.lines if line.get_marker() == "."]


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_the_suffix_chooses_the_format(data, tmp_path, suffix):
    output = plot_curve(data, "alpha", "m", output=tmp_path / f"curve.{suffix}", select={"gain": 1, "reg": 0.1})
    assert output.read_bytes()[:8].startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix])


def test_one_line_per_hue_value_labelled_from_the_attributes(data, tmp_path, figures):
    plot_curve(data, "alpha", "test_error", "reg", output=tmp_path / "curve.png", select={"gain": 1})
    (axes,) = figures[0].axes
    assert axes.get_xlabel() == r"samples per dimension  $\alpha$"
    assert axes.get_ylabel() == r"generalisation error  $\epsilon_g$"
    assert legend(axes)[:2] == [r"$\lambda$ = 0.001", r"$\lambda$ = 0.01"]
    for line, reg in zip(lines(axes), GRID.axes["reg"], strict=True):
        expected = data.test_error.where(data.result == 0).sel(gain=1, reg=reg)
        np.testing.assert_array_equal(line.get_ydata(), expected)
    assert axes.get_title().splitlines() == [r"$g$ = 1, $\Delta$ = 0.25", "teacher Identity()"]  # parameters, options


def test_points_that_did_not_converge_are_crosses_and_counted(data, tmp_path, figures):
    plot_curve(data, "alpha", "test_error", "reg", output=tmp_path / "curve.png", select={"gain": 1})
    (axes,) = figures[0].axes
    crosses = [line.get_xdata() for line in axes.lines if line.get_marker() == "x"]
    assert [list(x) for x in crosses] == [[3.0], [], [], [], []]
    assert np.isnan(lines(axes)[0].get_ydata()[-1])
    assert legend(axes)[-1] == "not shown: 1 left domain"


def test_the_only_axis_left_becomes_the_hue(data, tmp_path, figures):
    plot_curve(data, "alpha", "m", output=tmp_path / "curve.png", select={"reg": 0.1})
    assert len(lines(figures[0].axes[0])) == len(GRID.axes["gain"])


def test_simulations_are_drawn_at_matching_parameters_in_matching_colours(data, simulation, tmp_path, figures):
    about = {"output": tmp_path / "curve.png", "select": {"gain": 1}, "simulation": simulation}
    plot_curve(data, "alpha", "test_error", "reg", **about)
    (axes,) = figures[0].axes
    dots = {line.get_color(): list(line.get_xdata()) for line in axes.lines if line.get_marker() == "o"}
    colours = [line.get_color() for line in lines(axes)]
    assert dots == dict(zip(colours, [[], [], [0.5, 1.0, 2.0], [], [2.0]], strict=True))
    assert "simulation, d = 1000, 10 repeats, ± sem" in legend(axes)


def test_quantities_without_simulations_are_drawn_without(data, simulation, tmp_path, figures):
    about = {"output": tmp_path / "curve.png", "select": {"gain": 1, "reg": 0.1}, "simulation": simulation}
    plot_curve(data, "alpha", "m", **about)
    assert figures[0].axes[0].get_legend() is None


def test_components_are_selected_by_index(data, tmp_path, figures):
    where = {"gain": 1, "reg": 0.1, "student": 0, "student_other": 1}
    plot_curve(data, "alpha", "q", output=tmp_path / "curve.png", select=where)
    np.testing.assert_array_equal(lines(figures[0].axes[0])[0].get_ydata(), data.q.sel(where))


@pytest.mark.parametrize(("x", "scale"), [("alpha", "linear"), ("reg", "log")])
def test_the_axis_is_logarithmic_where_its_values_are(data, tmp_path, figures, x, scale):
    other = {"alpha": {"reg": 0.1}, "reg": {"alpha": 1.0}}[x]
    plot_curve(data, x, "m", output=tmp_path / "curve.png", select={"gain": 1, **other})
    assert figures[0].axes[0].get_xscale() == scale


def test_infinite_coordinates_are_left_out_and_counted(data, tmp_path, figures):
    at_infinity = data.assign_coords(alpha=("alpha", [*data.alpha.values[:-1], np.inf], data.alpha.attrs))
    plot_curve(at_infinity, "alpha", "m", output=tmp_path / "curve.png", select={"gain": 1, "reg": 1.0})
    assert legend(figures[0].axes[0]) == ["not shown: 1 at infinite alpha"]
    plot_heatmap(at_infinity, "alpha", "gain", "m", tmp_path / "map.png", select={"reg": 1.0})
    assert figures[1].axes[0].collections[0].get_array().shape == (3, 5)


def test_a_symbol_that_cannot_be_set_is_replaced_by_the_name(data, tmp_path, figures):
    odd = data.copy()
    odd["m"].attrs = {**data.m.attrs, "latex": r"\undefinedmacro{m}"}
    plot_curve(odd, "alpha", "m", output=tmp_path / "curve.png", select={"gain": 1, "reg": 0.1})
    assert figures[0].axes[0].get_ylabel() == "teacher-student overlap  m"


def test_a_heatmap_shows_solutions_only(data, tmp_path, figures):
    plot_heatmap(data, "alpha", "reg", "test_error", tmp_path / "map.png", select={"gain": 1})
    axes = figures[0].axes[0]
    shown = axes.collections[0].get_array()
    expected = data.test_error.where(data.result == 0).sel(gain=1).transpose("reg", "alpha")
    np.testing.assert_array_equal(shown.filled(np.nan), expected)
    assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "log")
    assert figures[0].legends[0].get_texts()[0].get_text() == "not shown: 1 left domain"


def test_the_colours_of_a_peak_are_logarithmic(data, tmp_path, figures):
    high = data.copy()
    high["test_error"] = 10.0 ** (4 * data.test_error / data.test_error.max())
    high["test_error"].attrs = data.test_error.attrs
    for name, scale in ((data, "linear"), (high, "log")):
        plot_heatmap(name, "alpha", "reg", "test_error", tmp_path / "map.png", select={"gain": 1})
        assert figures[-1].axes[1].get_yscale() == scale


def test_values_may_be_selected_by_the_digits_that_are_shown(data, tmp_path, figures):
    third = data.assign_coords(reg=("reg", data.reg.values / 3, data.reg.attrs))
    plot_curve(third, "alpha", "m", output=tmp_path / "curve.png", select={"gain": 1, "reg": 0.333333})
    np.testing.assert_array_equal(lines(figures[0].axes[0])[0].get_ydata(), data.m.where(data.result == 0).sel(gain=1, reg=1.0))


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        ({}, "choose a value of reg and gain, for instance --select reg=0.001 --select gain=1"),
        ({"y": "q", "select": {"gain": 1, "reg": 0.1}}, "choose a value of student and student_other"),
        ({"y": "loss"}, "unknown variable 'loss'; the file has m, q, test_error, result"),
        ({"y": "noise"}, "unknown variable 'noise'"),
        ({"x": "beta"}, "'beta' is not an axis of m; its axes are alpha, reg, gain"),
        ({"hue": "m"}, "'m' is not an axis of m"),
        ({"select": {"student": 0}}, "'student' is not an axis of m"),
        ({"select": {"reg": 0.11, "gain": 1}}, "reg = 0.11 is not in the file; reg has 0.001, 0.01, 0.1, 1, 10"),
        ({"select": {"alpha": 1.0}}, "alpha is drawn"),
        ({"hue": "alpha"}, "alpha cannot be drawn twice"),
        ({"output": "curve.gif"}, "suffix must be one of .png, .svg, .pdf"),
        ({"output": "nowhere/curve.png"}, "there is no directory"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_the_choices(data, tmp_path, options, phrase):
    options = {"x": "alpha", "y": "m", "output": "curve.png", **options}
    output = tmp_path / options.pop("output")
    with pytest.raises(PlotError) as caught:
        plot_curve(data, **options, output=output)
    assert phrase in str(caught.value)
    assert "\n" not in str(caught.value)


def test_too_many_lines_are_refused(data, tmp_path):
    many = data.interp(alpha=np.linspace(0.5, 3.0, 13), method="nearest")
    many["result"].attrs = data.result.attrs
    with pytest.raises(PlotError, match="alpha has 13 values, more than 12 lines"):
        plot_curve(many, "reg", "m", "alpha", output=tmp_path / "curve.png", select={"gain": 1})
