"""One curve over one parameter, asked for and solved: the numbers behind the page of `explorer`.

Ranges of controls and starting values follow from the ranges that a model declares.  Nothing here knows of a page.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import numpy as np

from solvers import EvaluatedProblem, FixedPointProblem, ParameterError, Result, TrajectoryProblem, make_method
from solvers.kernels import entry_points
from solvers.problem import TIME, Problem, Quantity, as_problem
from solvers.scan import processors
from solvers.solve import default_method, solve_points

from .model import Option, OptionError
from .models import MODELS

#: Points of a curve: what is drawn at first (of models whose points are integrals, which are slow), and bounds.
POINTS, SLOW_POINTS, LEAST_POINTS, MOST_POINTS = 200, 24, 2, 5000
#: Decades that a control spans around 1, and where a linear one without bounds ends.
DECADES, REACH = 2, 5.0
#: Rows solved between two looks at whether the curve is still wanted.
BLOCK = 50

_PROBLEMS: dict[tuple[str, tuple[tuple[str, str], ...]], Problem] = {}
_COMPILING = Lock()


class Superseded(Exception):
    """The curve being solved is no longer wanted."""


@dataclass(frozen=True)
class Span:
    """What a control ranges over, ends included; `log`: evenly in the logarithm; `step` is 0 or 1 (whole numbers)."""

    low: float
    high: float
    log: bool
    step: int = 0

    @classmethod
    def of(cls, quantity: Quantity) -> Span:
        """A sensible part of the range of a parameter: two decades on both sides of 1 where it is positive."""
        lower, upper = quantity.lower, quantity.upper
        if quantity.whole:
            return cls(max(lower, -REACH), min(upper, max(lower, 0) + 100), False, 1)
        if quantity.name == TIME:
            return cls(0.0, 10.0, False)
        if lower >= 0 and upper > 100 * max(lower, 1):
            unit = max(lower, 1.0)
            return cls(lower or unit / 10**DECADES, min(upper, unit * 10**DECADES), True)
        low, high = max(lower, -REACH), min(upper, REACH)
        inside = (high - low) / 200
        return cls(low + quantity.lower_open * inside, high - quantity.upper_open * inside, False)

    def including(self, value: float) -> Span:
        """This span, widened to contain a value if it can."""
        if not math.isfinite(value) or (self.log and value <= 0):
            return self
        return Span(min(self.low, value), max(self.high, value), self.log, self.step)

    def values(self, count: int) -> np.ndarray:
        """So many values, fewer if they are whole numbers."""
        even = np.geomspace(self.low, self.high, count) if self.log else np.linspace(self.low, self.high, count)
        even[0], even[-1] = self.low, self.high
        return np.unique(np.round(even)) if self.step else even


@dataclass(frozen=True)
class Sweep:
    """A curve that is wanted: everything it depends on.

    Attributes
    ----------
    options : tuple of (str, str)
        Every option of the model as text.
    parameters : mapping of str to float
        Every parameter; the value of `x` plays no part.
    x : str
        Parameter along the curve, over `span` in `points` steps.
    """

    model: str
    options: tuple[tuple[str, str], ...]
    parameters: Mapping[str, float]
    x: str
    span: Span
    points: int

    def compiled(self) -> Problem:
        """The problem with its kernels, compiled at most once per choice of options."""
        key = (self.model, self.options)
        if key not in _PROBLEMS:
            with _COMPILING:
                if key not in _PROBLEMS:
                    problem = as_problem(MODELS[self.model](**dict(self.options)))
                    if isinstance(problem, FixedPointProblem | TrajectoryProblem):
                        entry_points(problem)
                    _PROBLEMS[key] = problem
        return _PROBLEMS[key]

    def solve(self, progress: Callable[[int, int], None] = lambda done, total: None) -> Curve:
        """Solve it as a scan does, each point from the model's own start.

        Parameters
        ----------
        progress : callable
            Is told points done and in all after every block; what it raises ends the work.

        Raises
        ------
        ParameterError
            Naming parameter, value and range.
        """
        problem = self.compiled()
        start = time.perf_counter()
        x, rows, refused = self._rows(problem)
        method = make_method("ladder") if getattr(problem, "method", "") == "newton" else default_method(problem)
        size = _block(problem, self.x, len(rows))
        blocks = [rows[first : first + size] for first in range(0, len(rows), size)]
        results, values = [], []
        pool = ThreadPoolExecutor(processors())
        try:
            for batch in pool.map(lambda block: solve_points(problem, block, method), blocks):
                results.append(batch.result)
                values.append(batch.values)
                progress(sum(map(len, results)), len(rows))
        finally:
            pool.shutdown(cancel_futures=True)
        seconds = time.perf_counter() - start
        return Curve(self, problem, x, np.concatenate(values), np.concatenate(results), seconds, refused)

    def _rows(self, problem: Problem) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        """Values of x, checked points, and why other values of x do not go together with the other parameters."""
        good, rows, refused = [], [], []
        for value in self._abscissae(problem):
            try:
                rows.append(problem.point({**self.parameters, self.x: value}))
                good.append(value)
            except ValueError as error:
                refused.append(str(error))
        if not rows:
            raise ParameterError(refused[len(refused) // 2])
        return np.array(good), np.array(rows), tuple(refused)

    def _abscissae(self, problem: Problem) -> np.ndarray:
        low, high = self.span.low, self.span.high
        for end in (low, high):
            problem.parameter(self.x).check(end, self.model)
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ParameterError(f"{self.model}: {self.x} from {low:g} to {high:g} is not an interval")
        if self.span.log and low <= 0:
            raise ParameterError(f"{self.model}: {self.x} from {low:g} cannot be drawn on a logarithmic axis; begin above 0")
        if not LEAST_POINTS <= self.points <= MOST_POINTS:
            raise ParameterError(f"{self.model}: points = {self.points} is outside its range [{LEAST_POINTS}, {MOST_POINTS}]")
        return self.span.values(self.points)


@dataclass(frozen=True)
class Curve:
    """A solved `Sweep`.

    Attributes
    ----------
    x, values, result : ndarray
        Shapes (points,), (points, components), (points,); codes of `Result`.
    seconds : float
        What it took, without compiling.
    refused : tuple of str
        Why points are missing: one line for each at which parameters do not go together.
    """

    sweep: Sweep
    problem: Problem
    x: np.ndarray
    values: np.ndarray
    result: np.ndarray
    seconds: float
    refused: tuple[str, ...] = ()

    def of(self, name: str) -> np.ndarray:
        """A component by name, nan where there is no converged result."""
        column = self.values[:, self.problem.values.component_names.index(name)]
        return np.where(self.result == Result.CONVERGED, column, np.nan)

    @property
    def failed(self) -> np.ndarray:
        """Whether a point did not converge."""
        return np.asarray(self.result != Result.CONVERGED)

    def failures(self) -> str:
        """How many points did not converge, by result; empty if none."""
        codes, counts = np.unique(self.result[self.failed], return_counts=True)
        return ", ".join(f"{n} {Result(int(code)).name}" for code, n in zip(codes, counts, strict=True))


def first_sweep(model: str, options: Mapping[str, str], parameters: Mapping[str, Any], points: int | None = None) -> Sweep:
    """The curve a page opens with.

    Parameters
    ----------
    model : str
        A name in `replica.models.MODELS`.
    options, parameters : mapping
        What the user chose, numbers or text; for the rest the default of the model, else 1 (3 if whole) or what is next to it in
        range.
    points : int, optional
        A number that suits the kind of model if left out.

    Raises
    ------
    OptionError, ParameterError
        One line, naming option or parameter, its value and what is known.
    """
    declared = MODELS[model].declared(Option)
    for name in options:
        if name not in declared:
            raise OptionError(f"{model}: unknown option {name!r}; its options are {', '.join(declared) or 'none'}")
    texts = MODELS[model](**options).options
    chosen = tuple((name, texts[name]) for name in declared)
    blank = Sweep(model, chosen, parameters, "", Span(0, 1, False), POINTS)
    problem = blank.compiled()
    for name in parameters:
        problem.parameter(name)
    x = TIME if isinstance(problem, TrajectoryProblem) else problem.parameters[0].name
    number = points or (SLOW_POINTS if isinstance(problem, EvaluatedProblem) else POINTS)
    return refitted(replace(blank, x=x, span=Span.of(problem.parameter(x)), points=number), problem)


def refitted(sweep: Sweep, problem: Problem) -> Sweep:
    """The curve with exactly the parameters that this problem has: known values kept and checked, others at their start."""
    given = sweep.parameters
    values = {q.name: q.check(given[q.name], sweep.model) if q.name in given else _start(q) for q in problem.parameters}
    x = sweep.x if sweep.x in values else problem.parameters[0].name
    span = sweep.span if x == sweep.x else Span.of(problem.parameter(x))
    return replace(sweep, parameters=values, x=x, span=span)


def observables(problem: Problem) -> list[str]:
    """Components that can be drawn, the one of most interest first, conjugates last."""
    names = problem.values.component_names
    outputs = problem.outputs.component_names

    def rank(name: str) -> tuple[bool, bool, bool]:
        return name.split("[")[0].endswith("_hat"), name != "test_error", name not in outputs

    return sorted(names, key=rank)


def _start(quantity: Quantity) -> float:
    if quantity.default is not None:
        return quantity.default
    wanted = 3.0 if quantity.whole else 1.0
    span = Span.of(quantity)
    return min(max(wanted, span.low), span.high)


def _block(problem: Problem, x: str, rows: int) -> int:
    """Rows per call: along time a trajectory is integrated once, an integral may take a second, others are quick."""
    if x == TIME:
        return rows
    return BLOCK if isinstance(problem, FixedPointProblem) else 1
