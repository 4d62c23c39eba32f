"""Integration and maps through the whole pipeline, on motions known in closed form."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import sympy as sp

from replica.dynamics import DynamicModel, State, time_parameter
from replica.model import Observable, Parameter
from solvers import Integrate, MethodError, Newton, ParameterError, Result, solve, solve_trajectory


class Toy(DynamicModel):
    """A motion of two numbers."""

    name: ClassVar[str] = "toy"
    title: ClassVar[str] = "Toy"
    kind: ClassVar[str] = "flow"

    rate = Parameter("rate", default=1.0)
    time = time_parameter(infinite=False)
    x = State("first")
    y = State("second")
    first = Observable("first")
    second = Observable("second")

    def observables(self):
        return {self.first: self.x, self.second: self.y}


class LogisticAndTurn(Toy):
    """x grows from 1e-12 to 1; y is the phase of time in the field."""

    def initial(self):
        return {self.x: sp.Float(1e-12), self.y: 0}

    def field(self):
        return {self.x: self.rate * self.x * (1 - self.x), self.y: sp.cos(self.time)}


class BlowUp(Toy):
    """x is infinite at time 1."""

    def initial(self):
        return {self.x: 1, self.y: 1}

    def field(self):
        return {self.x: self.x**2, self.y: -self.y}


class Doubling(Toy):
    """A map."""

    kind: ClassVar[str] = "map"
    time = Parameter("steps", lower=0, whole=True)

    def initial(self):
        return {self.x: 1, self.y: 0}

    def field(self):
        return {self.x: 2 * self.x, self.y: self.y + self.time}


TIMES = np.array([0.0, 0.1, 3.0, 20.0, 27.6, 28.0, 40.0])


@pytest.mark.parametrize("rtol", [1e-6, 1e-8, 1e-10, 1e-11])
def test_reported_error_bounds_the_true_one(rtol):
    t = solve_trajectory(LogisticAndTurn(), TIMES, method=Integrate(rtol=rtol))
    assert t.converged
    exact = 1 / (1 + (1e12 - 1) * np.exp(-TIMES))
    true = np.maximum(abs(t["first"] - exact), abs(t["second"] - np.sin(TIMES)))
    assert (true <= 3 * t.error).all()
    assert (t.residual <= rtol).all()
    assert (t["first"][0], t["second"][0]) == (1e-12, 0.0)


def test_any_subset_in_any_order_gives_the_same_bits():
    problem = LogisticAndTurn().compile()
    whole = solve_trajectory(problem, TIMES)
    order = np.array([5, 2, 2, 6, 0])
    some = solve_trajectory(problem, TIMES[order])
    assert (some["first"] == whole["first"][order]).all()
    assert solve(problem, time=20.0)["second"] == whole["second"][3]


def test_a_blow_up_is_not_finite_and_earlier_times_are_fine():
    t = solve_trajectory(BlowUp(), [0.5, 0.99, 1.5])
    assert list(t.result) == [Result.CONVERGED, Result.CONVERGED, Result.NONFINITE]
    np.testing.assert_allclose(t["first"][:2], [2, 100], rtol=1e-9)  # amplified a hundredfold
    assert np.isnan(t["first"][2])


def test_too_few_steps_are_said_so():
    t = solve_trajectory(LogisticAndTurn(), [0.1, 40.0], method=Integrate(max_steps=5))
    assert t.result[1] == Result.MAX_STEPS
    assert np.isnan(t["first"][1])


def test_a_map_is_exact_and_stops_when_it_overflows():
    t = solve_trajectory(Doubling(), [10, 0, 3, 2000])
    assert list(t["first"][:3]) == [1024, 1, 8]
    assert list(t["second"][:3]) == [45, 0, 3]
    assert t.result[3] == Result.NONFINITE
    with pytest.raises(ParameterError, match=r"time = 0\.5 is not a whole number"):
        solve(Doubling(), time=0.5)


def test_methods_and_models_that_do_not_fit_are_named():
    with pytest.raises(MethodError, match="method newton does not apply to this model; use integrate"):
        solve(Doubling(), time=1, method=Newton())
    with pytest.raises(ParameterError, match=r"time = inf is outside its range \[0, inf\)"):
        solve_trajectory(BlowUp(), [np.inf])
    with pytest.raises(ParameterError, match="times must be a list"):
        solve_trajectory(BlowUp(), [])
