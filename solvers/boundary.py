"""Phase boundaries: where an observable crosses a level, or two solutions exchange their rank by free entropy.

Both are bisections in one parameter, which do not mind jumps: of the solution from one start, or of those from both.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .branches import BRANCHES, SAME, Follower, distance
from .grid import Grid
from .layout import add_axes, add_variable, described, flags
from .methods import Method
from .plan import Plan
from .problem import FixedPointProblem, ParameterError
from .result import Result
from .solve import Batch
from .store import new_file

#: Numbers of a solution that are no values of the model but may be asked for.
MEASURES = ("contraction",)
#: What a boundary may be, by code in files.
KINDS = ("crossing", "jump", "equal_free_entropy", "not_found")
#: Values at which the rank of two solutions is looked at before it is bisected.
LOOKS = 12


class BoundaryError(RuntimeError):
    """No boundary, or no way to tell where; one line."""


class Undecided(BoundaryError):
    """Too close to a boundary: the iteration does not end in the steps it has, or rounding is amplified without bound."""


@dataclass(frozen=True)
class Boundary:
    """A point of a phase boundary.

    Attributes
    ----------
    at, width : float
        The parameter there, as the middle of an interval of this width that it lies in.
    kind : str
        "crossing" or "jump" of an observable, or "equal_free_entropy".
    below, above : float
        The observable, or the difference of free entropies, at the two ends of that interval.
    solves : int
        Points solved.
    """

    at: float
    width: float
    kind: str
    below: float
    above: float
    solves: int


class _Line:
    """What is bisected, on one line through the space of parameters."""

    def __init__(self, follower: Follower, observable: str, level: float, name: str) -> None:
        self.follower, self.level, self.name = follower, level, name
        self.observable = observable
        self.solves = 0
        problem = follower.problem
        known = (*problem.values.component_names, *MEASURES)
        if observable not in known:
            raise ParameterError(f"{problem.name}: unknown observable {observable!r}; it has {', '.join(known)}")

    def solution(self, value: float, name: str) -> Batch:
        """From the start of a branch, cold; BoundaryError if it does not converge."""
        self.solves += 1
        if self.observable in MEASURES:  # of the fixed point that the start leads to, stable or not
            batch = self.follower.plain(value, self.follower.starts[name])
        else:
            batch = self.follower.cold(value, name)
        if batch.result[0] != Result.CONVERGED:
            code = Result(int(batch.result[0]))
            near = code in (Result.MAX_STEPS, Result.QUADRATURE_UNRESOLVED)
            where = f"{self.follower.along} = {value:g}"
            text = f"{self.follower.problem.name}: no {name} solution at {where}: {code.name}: {code.message}"
            raise (Undecided if near else BoundaryError)(text)
        return batch

    def beyond(self, value: float) -> float:
        """The observable less its level."""
        batch = self.solution(value, self.name)
        if self.observable in MEASURES:
            return float(getattr(batch, self.observable)[0]) - self.level
        names = self.follower.problem.values.component_names
        return float(batch.values[0, names.index(self.observable)]) - self.level

    def lead(self, value: float) -> float:
        """Free entropy of the informed solution less that of the uninformed one; 0 if they are the same."""
        first, second = (self.solution(value, name) for name in BRANCHES)
        if distance(self.follower.state(first), self.follower.state(second)) <= SAME:
            return 0.0
        k = self.follower.problem.values.component_names.index("free_entropy")
        return float(second.values[0, k] - first.values[0, k])


def boundary(
    problem: object,
    along: str,
    ends: tuple[float, float],
    fixed: Mapping[str, object] | None = None,
    *,
    of: str | None = None,
    level: float = 0.0,
    start: str = BRANCHES[0],
    method: Method | None = None,
    starts: Mapping[str, Mapping[str, float]] | None = None,
    resolution: float = 1e-6,
) -> Boundary:
    """A phase boundary in one parameter.

    Parameters
    ----------
    problem : FixedPointProblem or model
    along : str
    ends : (float, float)
        Interval to search.
    fixed : mapping of str to float, optional
        The other parameters.
    of : str, optional
        Component of a value of the model (``v``, ``q``, ``V1[0,1]``), or "contraction", that of the fixed point the method itself
        finds, stable or not: the boundary is where it passes `level`, on the solution from `start`.  Left out: where the
        informed solution overtakes the uninformed one by free entropy.
    level : float
    start : str
        "uninformed" or "informed".
    method, starts
        As for `branches.follow`.
    resolution : float
        The boundary is located to this fraction of the interval.

    Returns
    -------
    Boundary

    Raises
    ------
    ParameterError
        For bad parameters, names or ranges; before any work is done.
    BoundaryError
        If there is no boundary between the ends, or a point on the way does not converge.
    """
    low, high = sorted(map(float, ends))
    follower = Follower(problem, along, [low, high], fixed, method, starts)
    if start not in BRANCHES:
        raise ParameterError(f"{follower.problem.name}: unknown start {start!r}; they are {', '.join(BRANCHES)}")
    if not 0 < resolution < 1:
        raise ParameterError(f"resolution = {resolution:g} is outside its range (0, 1)")
    line = _Line(follower, of or "free_entropy", level, start)
    width = resolution * (high - low)
    if of is None:
        low, high = _ranked(line, low, high)
        return _bisect(line, line.lead, low, high, width, lambda below, above: KINDS[2])
    f = [line.beyond(x) for x in (low, high)]
    if f[0] * f[1] > 0:
        raise BoundaryError(
            f"{follower.problem.name}: {of} does not pass {level:g} between {along} = {low:g} and {high:g}: it is "
            f"{f[0] + level:g} and {f[1] + level:g} there"
        )
    whole = abs(f[1] - f[0])

    def kind(below: float, above: float) -> str:
        # What is continuous has moved by little over the last interval, even at a square root.
        return KINDS[1] if abs(above - below) > 2 * np.sqrt(resolution) * whole else KINDS[0]

    return _bisect(line, line.beyond, low, high, width, kind)


def _bisect(
    line: _Line, f: Callable[[float], float], low: float, high: float, width: float, kind: Callable[[float, float], str]
) -> Boundary:
    below, above = f(low), f(high)
    while high - low > width:
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        try:
            value = f(middle)
        except Undecided:  # the interval stays as it is
            break
        if (value > 0) == (above > 0):
            high, above = middle, value
        else:
            low, below = middle, value
    level = 0.0 if f == line.lead else line.level
    return Boundary(float(0.5 * (low + high)), float(high - low), kind(below, above), below + level, above + level, line.solves)


def _ranked(line: _Line, low: float, high: float) -> tuple[float, float]:
    """An interval at whose ends both solutions exist, with opposite ranks.

    Looked for on a few values, then between one with two solutions and its neighbour with one: there the pair may still exchange
    rank before one of them ends.
    """
    xs = np.linspace(low, high, LOOKS)
    leads = [line.lead(x) for x in xs]
    for i in range(LOOKS - 1):
        if leads[i] * leads[i + 1] < 0:
            return float(xs[i]), float(xs[i + 1])
    for i in range(LOOKS - 1):
        if (leads[i] == 0) == (leads[i + 1] == 0):
            continue
        two, one = (i, i + 1) if leads[i] else (i + 1, i)
        here, there, known = float(xs[two]), float(xs[one]), leads[two]
        for _ in range(30):
            middle = 0.5 * (here + there)
            lead = line.lead(middle)
            if lead * known < 0:
                return min(here, middle), max(here, middle)
            here, there = (middle, there) if lead else (here, middle)
    leader = BRANCHES[1 if max(leads) > 0 else 0]
    text = f"the {leader} solution leads wherever there are two" if any(leads) else "one solution only"
    where = f"{line.follower.along} = {low:g} and {high:g}"
    raise BoundaryError(f"{line.follower.problem.name}: no equal free entropy between {where}: {text}")


@dataclass(frozen=True)
class BoundaryCurve:
    """Phase boundaries at every combination of values on some axes.

    Attributes
    ----------
    problem : FixedPointProblem
    along : str
    axes : dict of str to ndarray
    fixed : dict of str to float
    method : Method
    task : dict
        What was looked for.
    found : sequence of Boundary or BoundaryError
        In the order of the axes, the last varying fastest.
    """

    problem: FixedPointProblem
    along: str
    axes: Mapping[str, np.ndarray]
    fixed: Mapping[str, float]
    method: Method
    task: Mapping[str, Any]
    found: Sequence[Boundary | BoundaryError]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A table: setting, boundary, width, kind, or why there is none."""
        out = []
        for setting, b in zip(np.ndindex(*(len(v) for v in self.axes.values())), self.found, strict=True):
            row: dict[str, Any] = {name: float(v[i]) for (name, v), i in zip(self.axes.items(), setting, strict=True)}
            if isinstance(b, Boundary):
                row |= {self.along: b.at, "width": b.width, "kind": b.kind, "below": b.below, "above": b.above}
            else:
                row |= {self.along: np.nan, "width": np.nan, "kind": KINDS[3], "below": np.nan, "above": np.nan}
            out.append(row)
        return out

    def write(self, path: str | Path, overwrite: bool = False) -> None:
        """Write an HDF5 file with the boundary as a variable over the axes.

        Raises
        ------
        StoreError
            If the file exists and may not be overwritten, is not a scan file, or cannot be written.
        """
        grid = Grid(**self.axes) if self.axes else Grid.without_axes()
        plan = Plan(self.problem, grid, self.fixed, self.method, {"boundary": dict(self.task)})
        rows, q = self.rows, self.problem.parameter(self.along)
        codes = [Result.CONVERGED if isinstance(b, Boundary) else Result.ERROR for b in self.found]
        with new_file(path, plan, overwrite) as file:
            add_axes(file, plan)
            over = [file[name] for name in self.axes]
            variables = {
                self.along: ("f8", described(f"boundary in {q.long_name}", q.latex, q.units)),
                "width": ("f8", described(f"width of the interval that the boundary in {self.along} lies in")),
                "below": ("f8", described("observable, or lead in free entropy, at its lower end")),
                "above": ("f8", described("observable, or lead in free entropy, at its upper end")),
            }
            for name, (dtype, attributes) in variables.items():
                add_variable(file, name, np.array([r[name] for r in rows], dtype).reshape(grid.shape), over, attributes)
            kinds = described("kind of boundary") | flags(KINDS, range(len(KINDS)))
            add_variable(file, "kind", np.array([KINDS.index(r["kind"]) for r in rows], "i1").reshape(grid.shape), over, kinds)
            named = described("what became of the point") | flags([c.name.lower() for c in Result], [c.value for c in Result])
            add_variable(file, "result", np.array(codes, "i1").reshape(grid.shape), over, named)
            for name in ("residual", "error", "quadrature_error"):
                add_variable(file, name, np.full(grid.shape, np.nan), over, described(f"{name}: see width"))
            file.attrs["boundary"] = json.dumps(dict(self.task))


def boundary_curve(
    problem: object,
    along: str,
    ends: tuple[float, float],
    axes: Mapping[str, Sequence[float] | np.ndarray],
    fixed: Mapping[str, object] | None = None,
    progress: Callable[[int, int], object] | None = None,
    **options: Any,
) -> BoundaryCurve:
    """`boundary` at every combination of values on some axes; where there is none, the reason takes its place.

    Parameters
    ----------
    axes : mapping of parameter to values
        May be empty.
    progress : callable, optional
        Called with the boundaries done and in total.
    problem, along, ends, fixed, **options
        As for `boundary`.

    Raises
    ------
    ParameterError
        For bad parameters, names or ranges; before any work is done.
    """
    grid = Grid(**axes) if axes else Grid.without_axes()
    low, high = map(float, ends)
    check = Follower(problem, along, [low, high], {**(fixed or {}), **{k: v[0] for k, v in grid.axes.items()}},
                     options.get("method"), options.get("starts"))  # fmt: skip
    for name, values in grid.axes.items():
        for value in values:
            check.problem.parameter(name).check(value, check.problem.name)
    found: list[Boundary | BoundaryError] = []
    for index in np.ndindex(*grid.shape):
        setting = {name: float(v[i]) for (name, v), i in zip(grid.axes.items(), index, strict=True)}
        try:
            found.append(boundary(check.problem, along, (low, high), {**(fixed or {}), **setting}, **options))
        except BoundaryError as error:
            found.append(error)
        if progress:
            progress(len(found), grid.size)
    rest = {name: value for name, value in check.fixed.items() if name not in grid.axes}
    task = {"along": along, "ends": [low, high], "of": options.get("of"), "level": options.get("level", 0.0),
            "start": options.get("start", BRANCHES[0])}  # fmt: skip
    return BoundaryCurve(check.problem, along, grid.axes, rest, check.method, task, found)
