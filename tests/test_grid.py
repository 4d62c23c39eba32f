"""Grids check everything before any work, and make the points of any slab."""

from dataclasses import replace

import numpy as np
import pytest
from toys import GRID, PROBLEM

from solvers.grid import Grid
from solvers.problem import ParameterError


def test_shape_follows_the_order_of_the_axes():
    assert GRID.names == ("alpha", "reg", "gain")
    assert GRID.shape == (6, 5, 3)
    assert GRID.size == 90


@pytest.mark.parametrize(
    ("values", "phrase"),
    [
        ([], "no values"),
        ([[1.0]], "one-dimensional"),
        (1.0, "one-dimensional"),
        ([1.0, np.nan], "nan at position 1"),
        ([0.1, 0.2, 0.1], "the value 0.1 more than once"),
        ([0.0, -0.0], "the value"),
        (["a"], "not a list of numbers"),
    ],
)
def test_a_bad_axis_is_refused_by_name(values, phrase):
    with pytest.raises(ParameterError, match=f"axis reg .*{phrase}"):
        Grid(alpha=[1.0], reg=values)


def test_a_grid_without_axes_is_refused():
    with pytest.raises(ParameterError, match="at least one axis"):
        Grid()


@pytest.mark.parametrize(
    ("axes", "fixed", "phrase"),
    [
        ({"alpha": [1.0]}, {"alpha": 2.0, "reg": 0.1, "gain": 1.0}, "alpha is both an axis of the grid and fixed"),
        ({"alpha": [1.0, -2.0]}, {"reg": 0.1, "gain": 1.0}, r"alpha = -2 is outside its range \(0, inf\]"),
        (
            {"alpha": [1.0]},
            {"reg": 0.1, "gain": 1.0, "nois": 1.0},
            "unknown parameter 'nois'; its parameters are alpha",
        ),
        ({"alpha": [1.0], "beta": [1.0]}, {"reg": 0.1, "gain": 1.0}, "unknown parameter 'beta'"),
        ({"alpha": [1.0]}, {"reg": 0.1}, "gain .* was not given"),
        ({"alpha": [1.0], "reg": [0.1, np.inf]}, {"gain": 1.0}, "reg = inf is outside its range"),
    ],
)
def test_parameters_are_checked_before_any_work(axes, fixed, phrase):
    with pytest.raises(ParameterError, match=phrase) as caught:
        Grid(**axes).points(PROBLEM, fixed)
    assert "\n" not in str(caught.value)


def test_infinity_is_a_value_where_the_model_allows_it():
    points = Grid(alpha=[1.0, np.inf]).points(PROBLEM, {"reg": 0.1, "gain": 1.0})
    assert points.vectors((slice(0, 2),), (0,))[1, 0] == np.inf


def test_defaults_count_as_fixed_parameters():
    assert GRID.points(PROBLEM, {}).fixed == {"noise": 0.25}


def test_vectors_of_a_slab_are_in_the_order_of_the_problem():
    shuffled = replace(PROBLEM, parameters=PROBLEM.parameters[::-1])
    vectors = GRID.points(shuffled, {}).vectors((slice(1, 3), slice(0, 2), slice(2, 3)), (2, 0, 1))
    expected = [[0.25, 3.0, reg, alpha] for alpha in GRID.axes["alpha"][1:3] for reg in GRID.axes["reg"][:2]]
    np.testing.assert_array_equal(vectors, expected)


def test_the_first_axis_of_the_order_varies_slowest():
    vectors = GRID.points(PROBLEM, {}).vectors((slice(0, 2), slice(0, 1), slice(0, 3)), (2, 0, 1))
    np.testing.assert_array_equal(vectors[:, 2], [1, 1, 2, 2, 3, 3])
