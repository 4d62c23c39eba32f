"""Adaptive scans: points where an observable bends, chosen by the library `adaptive`, kept in a file with the layout of scans.

The library is asked for a batch of points, they are solved, and it is told their values.  What it asks for depends on nothing
else, so a run that was stopped is replayed from its file: points that are there are not solved again, and the rest is what it
would have been.  The file is replaced as a whole after every batch.

References
----------
.. [1] B. Nijholt, J. Weston, J. Hoofwijk, A. Akhmerov, Adaptive, doi:10.5281/zenodo.1182437.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .grid import Grid
from .layout import DIAGNOSTICS, add_dimension, add_variable, described, flags
from .methods import Method
from .plan import Plan, differences
from .problem import ParameterError, Problem, as_problem
from .result import Result, tally
from .solve import check_method, default_method, solve_points
from .store import StoreError, index_dimensions, index_names, new_file, read

#: Most points of one adaptive scan: choosing a point costs the library milliseconds, more than solving it.
MOST_POINTS = 100_000

Point = tuple[float, ...]


@dataclass(frozen=True)
class RefineReport:
    """What a run did.

    Attributes
    ----------
    path : Path
    counts : dict of Result to int
        Points of the whole file by outcome.
    computed, skipped : int
        Points solved by this run, and points that were there already.
    seconds : float
    """

    path: Path
    counts: dict[Result, int]
    computed: int
    skipped: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.path}: {self.computed} points in {self.seconds:.1f} s, {self.skipped} were there; {tally(self.counts)}"


class Refinement:
    """An observable over one or two parameters, to be sampled where it bends.

    Parameters
    ----------
    problem : Problem, or a model with ``compile()``
    observable : str
        Component of a value: ``test_error``, ``V1[0,1]``.
    ranges : mapping of str to (float, float)
        One or two parameters and their ends.
    fixed : mapping of str to float, optional
        The other parameters.
    logarithmic : collection of str, optional
        Parameters that are refined in their logarithm.
    batch : int
        Points chosen together.  The points depend on it, and on nothing else.
    method : Method, optional

    Raises
    ------
    ParameterError
        For bad parameters, names or ranges; before any work is done.
    """

    def __init__(
        self,
        problem: object,
        observable: str,
        ranges: Mapping[str, tuple[float, float]],
        fixed: Mapping[str, object] | None = None,
        *,
        logarithmic: tuple[str, ...] = (),
        batch: int = 8,
        method: Method | None = None,
    ) -> None:
        self.problem: Problem = as_problem(problem)
        self.method = method or default_method(self.problem)
        check_method(self.problem, self.method)
        self.components = self.problem.values.component_names
        if observable not in self.components:
            known = ", ".join(self.components)
            raise ParameterError(f"{self.problem.name}: unknown observable {observable!r}; it has {known}")
        if not 1 <= len(ranges) <= 2:
            raise ParameterError(f"{self.problem.name}: refine over one or two parameters, not {len(ranges)}")
        if not isinstance(batch, int) or not 1 <= batch <= 10_000:
            raise ParameterError(f"batch = {batch!r} is not a whole number in [1, 10000]")
        for name in logarithmic:
            if name not in ranges or min(ranges[name]) <= 0:
                raise ParameterError(f"{self.problem.name}: {name} needs a positive range to be refined in its logarithm")
        points = Grid(**{name: sorted(map(float, ends)) for name, ends in ranges.items()}).points(self.problem, fixed or {})
        self.ranges = {name: (float(v[0]), float(v[1])) for name, v in points.grid.axes.items()}
        if not np.isfinite(list(self.ranges.values())).all():
            raise ParameterError(f"{self.problem.name}: the ends of a refined range must be finite")
        self.observable, self.logarithmic, self.batch = observable, tuple(logarithmic), batch
        self._base, self._columns = points.base, list(points.columns)
        task = {"refine": observable, "ranges": {k: list(v) for k, v in self.ranges.items()},
                "logarithmic": list(self.logarithmic), "batch": batch}  # fmt: skip
        self.plan = Plan(self.problem, Grid.without_axes(), points.fixed, self.method, task)

    def run(
        self, path: str | Path, points: int = 100, overwrite: bool = False, progress: Callable[[int, int], object] | None = None
    ) -> RefineReport:
        """Sample until there are `points` points, rounded up to whole batches; run again, also with more, to go on.

        Parameters
        ----------
        path : path-like
            Made if it does not exist, gone on with if it holds this very refinement.
        points : int
        overwrite : bool
            Start afresh even if there is a file.
        progress : callable, optional
            Called with the points done and in total, at the start and after every batch.

        Raises
        ------
        ParameterError
            If `points` is out of range.
        StoreError
            If the file holds something else, cannot be written or is written by another process meanwhile, or the library is
            not installed.
        """
        begin, path = time.perf_counter(), Path(path)
        if not isinstance(points, int) or not 1 <= points <= MOST_POINTS:
            raise ParameterError(f"points = {points!r} is not a whole number in [1, {MOST_POINTS}]")
        learner = self._learner()
        seen = _stamp(path)
        known = {} if overwrite or seen is None else self._known(path)
        skipped = len(known)
        told: dict[Point, float] = {}
        while len(told) < points:
            if progress:
                progress(len(told), points)
            asked = [p if isinstance(p, tuple) else (float(p),) for p in learner.ask(self.batch)[0]]
            new = [p for p in dict.fromkeys(map(self._parameters, asked)) if p not in known]
            if new:
                self._solve(new, known)
                if _stamp(path) != seen:
                    raise StoreError(f"{path} was changed by another process; its points are kept: run again when it has ended")
                self._write(path, known)
                seen = _stamp(path)
            for p in asked:
                told[p] = self._value(p, known, told)
                learner.tell(p if len(p) > 1 else p[0], told[p])
        if progress:
            progress(points, points)
        codes = np.array([row["result"] for row in known.values()])
        counts = {code: n for code in Result if (n := int(np.count_nonzero(codes == code)))}
        return RefineReport(path, counts, len(known) - skipped, skipped, time.perf_counter() - begin)

    def _learner(self) -> Any:
        try:
            from adaptive import Learner1D, Learner2D
            from adaptive.learner.learner1D import curvature_loss_function
        except ImportError:
            raise StoreError("adaptive scans need the library adaptive: pip install 'replica-solvers[adaptive]'") from None
        logs = self.logarithmic
        bounds = [tuple(math.log10(end) if name in logs else end for end in ends) for name, ends in self.ranges.items()]
        if len(bounds) == 1:
            return Learner1D(_unused, bounds[0], loss_per_interval=curvature_loss_function())
        learner = Learner2D(_unused, tuple(bounds))
        learner.stack_size = 1  # keep no point for later that was chosen before the last values were known
        return learner

    def _parameters(self, p: Point) -> Point:
        """From the coordinates of the library to parameters, rounding kept inside the range."""
        out = []
        for x, (name, (low, high)) in zip(p, self.ranges.items(), strict=True):
            out.append(min(max(10.0**x if name in self.logarithmic else float(x), low), high))
        return tuple(out)

    def _solve(self, new: list[Point], known: dict[Point, dict[str, Any]]) -> None:
        vectors = np.tile(self._base, (len(new), 1))
        vectors[:, self._columns] = new
        batch = solve_points(self.problem, vectors, self.method)
        for i, p in enumerate(new):
            known[p] = {name: getattr(batch, name)[i] for name in DIAGNOSTICS} | {"values": batch.values[i]}

    def _value(self, p: Point, known: Mapping[Point, Mapping[str, Any]], told: Mapping[Point, float]) -> float:
        """The observable; where it did not converge, that of the nearest point told, which bends nothing."""
        row = known[self._parameters(p)]
        value = float(row["values"][self.components.index(self.observable)])
        if row["result"] == Result.CONVERGED and math.isfinite(value):
            return value
        return told[min(told, key=lambda q: math.dist(p, q))] if told else 0.0

    def _known(self, path: Path) -> dict[Point, dict[str, Any]]:
        quantities = self.problem.values.quantities
        attributes, data = read(path, [])
        stored = str(attributes.get("plan", "{}"))
        if stored != self.plan.text:
            changes = "; ".join(differences(json.loads(stored), self.plan.description))
            what = f"{path} holds something else (in the file != asked for)"
            raise StoreError(f"{what}: {changes}. Use another file, or overwrite it")
        _, data = read(path, [*self.ranges, *DIAGNOSTICS, *(q.name for q in quantities)])
        flat = np.stack([data[q.name][(slice(None), *index)] for q in quantities for index in q.components], axis=1)
        points = zip(*(data[name].tolist() for name in self.ranges), strict=True)
        return {p: {name: data[name][i] for name in DIAGNOSTICS} | {"values": flat[i]} for i, p in enumerate(points)}

    def _write(self, path: Path, known: Mapping[Point, Mapping[str, Any]]) -> None:
        """One parameter is a sorted dimension; two are variables over ``point``."""
        order = sorted(known) if len(self.ranges) == 1 else list(known)
        with new_file(path, self.plan, overwrite=path.exists()) as file:
            over = "point"
            if len(self.ranges) == 1:
                (over,) = self.ranges
            else:
                add_dimension(file, over, np.arange(len(order)), described("point, in the order of evaluation"))
            for k, name in enumerate(self.ranges):
                q = self.problem.parameter(name)
                coordinate = np.array([p[k] for p in order])
                if name == over:
                    add_dimension(file, name, coordinate, described(q.long_name, q.latex, q.units))
                else:
                    add_variable(file, name, coordinate, [file[over]], described(q.long_name, q.latex, q.units))
            for name, value in self.plan.fixed.items():
                q = self.problem.parameter(name)
                add_variable(file, name, np.array(value), (), described(q.long_name, q.latex, q.units))
            for name, length in index_dimensions(self.problem.values.quantities).items():
                add_dimension(file, name, np.arange(length), described(f"index {name}"))
            unpacked = self.problem.values.unpack(np.stack([known[p]["values"] for p in order]))
            for q in self.problem.values.quantities:
                scales = [file[d] for d in (over, *index_names(q))]
                add_variable(file, q.name, unpacked[q.name], scales, described(q.long_name, q.latex, q.units))
            for name, (dtype, _, long_name) in DIAGNOSTICS.items():
                codes = flags([c.name.lower() for c in Result], [c.value for c in Result]) if name == "result" else {}
                column = np.array([known[p][name] for p in order], dtype=dtype)
                add_variable(file, name, column, [file[over]], described(long_name) | codes)
            file.attrs["refine"] = json.dumps(dict(self.plan.task))


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes when a file is replaced; None if there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def _unused(x: Any) -> Any:
    raise NotImplementedError("the library is asked and told; it never calls")
