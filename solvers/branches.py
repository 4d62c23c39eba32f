"""Branches of solutions along one parameter: followed both ways with warm starts, jumps located, ranked by free entropy.

Where a model has several fixed points, what is found depends on where one comes from.  `follow` goes along a parameter twice:
from the cold start at its first value, and back from the informed start at its last, each solution starting from the one before.
That is a hysteresis loop: between its two jumps both solutions exist, and the one of larger free entropy is the equilibrium.  The
file of a loop has the layout of scans (`store`), over branch and parameter.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .grid import Grid
from .layout import DIAGNOSTICS, add_axes, add_dimension, add_variable, described, flags
from .methods import Method, MethodError, Newton
from .plan import Plan
from .problem import FixedPointProblem, ParameterError, as_problem
from .result import Result
from .solve import Batch, check_method, default_method, solve_points
from .store import index_dimensions, index_names, new_file

#: Names of the two branches, in the order of the file: followed from the first value on, and from the last value back.
BRANCHES = ("uninformed", "informed")
#: Relative distance of states at neighbouring values from which on a jump is looked for; and below which two states are one.
SUSPECT, SAME = 0.1, 1e-6
#: Mixed into an unstable solution to leave it: so much of the way to the start of the other branch.
NUDGE = 1e-3
#: A contraction above 1 by less is 1; residual of a rough iteration; steps of an iteration, if no method is asked for.
MARGINAL, ROUGH, MOST_STEPS = 1e-9, 1e-5, 20_000


@dataclass(frozen=True)
class Jump:
    """Where a branch ends: a fold, beyond which the solution is another one.

    Attributes
    ----------
    branch : str
    at, width : float
        The parameter there, as the middle of an interval of this width that it lies in.
    """

    branch: str
    at: float
    width: float


@dataclass(frozen=True)
class Branches:
    """Both branches on the same values of a parameter.

    Attributes
    ----------
    problem : FixedPointProblem
    along : str
        The parameter.
    grid : ndarray
        Its values, in the order given: "uninformed" is followed in this order, "informed" in the opposite one.
    fixed : dict of str to float
        Every other parameter, defaults included.
    method : Method
    found : dict of str to Batch
        Solutions by branch, in the order of `grid`.
    jumps : tuple of Jump
    """

    problem: FixedPointProblem
    along: str
    grid: np.ndarray
    fixed: Mapping[str, float]
    method: Method
    found: Mapping[str, Batch]
    jumps: tuple[Jump, ...]

    def values(self, name: str) -> np.ndarray:
        """One order parameter, conjugate or observable, shape (branch, value, ...); nan where not converged."""
        both = np.stack([self.problem.values.unpack(b.values)[name] for b in self.found.values()])
        failed = np.stack([b.result for b in self.found.values()]) != Result.CONVERGED
        both[failed] = np.nan
        return both

    @property
    def distinct(self) -> np.ndarray:
        """Whether the two branches differ, by value; False where one of them did not converge."""
        states = [b.values[:, : self.problem.unknowns.size] for b in self.found.values()]
        good = np.all([b.result == Result.CONVERGED for b in self.found.values()], axis=0)
        return good & np.array([distance(x, y) > SAME for x, y in zip(*states, strict=True)])

    @property
    def best(self) -> np.ndarray:
        """Index in `BRANCHES` of the branch of largest free entropy, by value: the first where they are one, -1 without any."""
        phi = self.values("free_entropy")
        first, second = np.where(np.isnan(phi), -np.inf, phi)
        ranked = np.where(np.isneginf(first) | (self.distinct & (second > first)), 1, 0)
        return np.where(np.isnan(phi).all(axis=0), -1, ranked)

    @property
    def plan(self) -> Plan:
        """What was computed, as a scan would describe it."""
        task = {"branches": {"along": self.along, "starts": {name: start(self.problem, name).tolist() for name in BRANCHES}}}
        return Plan(self.problem, Grid(**{self.along: self.grid}), self.fixed, self.method, task)

    def write(self, path: str | Path, overwrite: bool = False) -> None:
        """Write the file.

        Variables are those of a scan, over (branch, parameter); ``best`` is the branch of largest free entropy, ``distinct``
        whether there are two; ``jump_at``, ``jump_width`` and ``jump_branch`` list the jumps.

        Raises
        ------
        StoreError
            If the file exists and may not be overwritten, is not a scan file, or cannot be written.
        """
        plan, codes = self.plan, flags([c.name.lower() for c in Result], [c.value for c in Result])
        names = flags(BRANCHES, range(len(BRANCHES)))
        with new_file(path, plan, overwrite) as file:
            add_dimension(file, "branch", np.arange(len(BRANCHES)), described("branch") | names)
            add_axes(file, plan)
            for name, length in index_dimensions(self.problem.values.quantities).items():
                add_dimension(file, name, np.arange(length), described(f"index {name}"))
            over = [file["branch"], file[self.along]]
            for q in self.problem.values.quantities:
                values = np.stack([self.problem.values.unpack(b.values)[q.name] for b in self.found.values()])
                attributes = described(q.long_name, q.latex, q.units)
                add_variable(file, q.name, values, [*over, *(file[d] for d in index_names(q))], attributes)
            for name, (dtype, _, long_name) in DIAGNOSTICS.items():
                values = np.stack([getattr(b, name) for b in self.found.values()]).astype(dtype)
                add_variable(file, name, values, over, described(long_name) | (codes if name == "result" else {}))
            best = described("branch of largest free entropy") | flags(["none", *BRANCHES], range(-1, len(BRANCHES)))
            add_variable(file, "best", self.best.astype("i1"), over[1:], best)
            add_variable(file, "distinct", self.distinct.astype("i1"), over[1:], described("whether the branches differ"))
            if self.jumps:
                add_dimension(file, "jump", np.arange(len(self.jumps)), described("jump"))
                jumps = {
                    "jump_at": ([j.at for j in self.jumps], described(f"{self.along} where a branch ends")),
                    "jump_width": ([j.width for j in self.jumps], described("width of the interval it lies in")),
                    "jump_branch": ([BRANCHES.index(j.branch) for j in self.jumps], described("branch that ends") | names),
                }
                for name, (listed, attributes) in jumps.items():
                    add_variable(file, name, np.array(listed), [file["jump"]], attributes)
            file.attrs["branches"] = json.dumps(plan.task["branches"])


def start(problem: FixedPointProblem, name: str, given: Mapping[str, float] | None = None) -> np.ndarray:
    """State that a branch begins at.

    Parameters
    ----------
    problem : FixedPointProblem
    name : str
        "uninformed", the model's cold start, or "informed", where it says so (`Quantity.informed`).
    given : mapping of order parameter to value, optional
        In place of the model's.

    Raises
    ------
    ParameterError
        If there is no such start, no such order parameter, or a value is out of range.
    """
    if name not in BRANCHES:
        raise ParameterError(f"{problem.name}: unknown start {name!r}; they are {', '.join(BRANCHES)}")
    given = dict(given or {})
    names = problem.unknowns.names
    for key in given:
        if key not in names:
            raise ParameterError(f"{problem.name}: no order parameter {key!r} to start; they are {', '.join(names)}")
    out, i = problem.unknowns.broadcast("start"), 0
    for q in problem.unknowns.quantities:
        value = given.get(q.name, q.informed if name == BRANCHES[1] else None)
        if value is not None:
            if not q.lower <= value <= q.upper:
                raise ParameterError(f"{problem.name}: start {q.name} = {value:g} is outside its range {q.range_text}")
            out[i : i + len(q.components)] = value
        i += len(q.components)
    return out


def distance(x: np.ndarray, y: np.ndarray) -> float:
    """Largest relative difference of two states, absolute below 1e-9; inf if either is not finite."""
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return np.inf
    return float(np.max(np.abs(x - y) / np.maximum(np.maximum(np.abs(x), np.abs(y)), 1e-9)))


class Follower:
    """Solves along one parameter, each time from a given state.

    Raises
    ------
    ParameterError
        If the problem is no saddle point, or a parameter or start is missing, unknown or out of range.
    """

    def __init__(
        self,
        problem: object,
        along: str,
        values: Sequence[float] | np.ndarray,
        fixed: Mapping[str, object] | None = None,
        method: Method | None = None,
        starts: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        found = as_problem(problem)
        if not isinstance(found, FixedPointProblem):
            raise ParameterError(f"{found.name}: has no fixed points to follow; the models that do are saddle points")
        self.problem, self.along = found, along
        chosen = default_method(found)
        self.method = method or replace(chosen, max_steps=min(chosen.max_steps, MOST_STEPS))
        try:
            check_method(found, self.method)
        except MethodError as error:
            raise ParameterError(str(error)) from None
        common = ("rtol", "nodes", "max_nodes", "quadrature_rtol")
        self.rough = replace(self.method, rtol=max(ROUGH, self.method.rtol))
        own = {name: value for name, value in self.method.options().items() if name in common}
        self.newton = Newton(**own)  # type: ignore[arg-type]
        self.grid = Grid(**{along: values})
        points = self.grid.points(found, fixed or {})
        self.fixed, self.base, (self.column,) = points.fixed, points.base, points.columns
        for name in starts or {}:
            start(found, name, {})
        self.starts = {name: start(found, name, (starts or {}).get(name)) for name in BRANCHES}

    def at(self, value: float, state: np.ndarray, other: str) -> Batch:
        """The solution at one value that belongs to a state.

        Newton's method is tried from the state, and again after a rough iteration, and believed if it stays near and finds a
        fixed point that iteration is attracted to.  Otherwise the problem's own method decides, and from an unstable solution it
        goes on from a step towards the start named `other`.
        """
        batch = self._near(value, state)
        if batch is None:
            rough = self.plain(value, state, self.rough)
            reached = self.state(rough)
            batch = self._near(value, reached) if rough.result[0] == Result.CONVERGED else None
        if batch is not None:
            return batch
        batch = self.plain(value, state)
        if batch.result[0] == Result.CONVERGED and not self._stable(batch):
            here = self.state(batch)
            again = self.plain(value, here + NUDGE * (self.starts[other] - here))
            batch = again if again.result[0] == Result.CONVERGED else batch
        # Iteration leaves an error of rtol/(1 - contraction), which Newton's method removes.
        return (self._near(value, self.state(batch)) if self._stable(batch) else None) or batch

    def plain(self, value: float, state: np.ndarray, method: Method | None = None) -> Batch:
        """What a method, the problem's own if left out, makes of a state at one value."""
        point = self.base.copy()
        point[self.column] = value
        return solve_points(self.problem, point[None, :], method or self.method, state)

    def _near(self, value: float, state: np.ndarray) -> Batch | None:
        """The stable solution that Newton's method finds near a state, if it does."""
        batch = self.plain(value, state, self.newton)
        return batch if self._stable(batch) and distance(state, self.state(batch)) < SUSPECT else None

    def _stable(self, batch: Batch) -> bool:
        return bool(batch.result[0] == Result.CONVERGED and batch.contraction[0] <= 1 + MARGINAL)

    def state(self, batch: Batch) -> np.ndarray:
        """Order parameters of a solution."""
        return batch.values[0, : self.problem.unknowns.size].copy()

    def cold(self, value: float, name: str) -> Batch:
        """The solution at one value from the start of a branch."""
        return self.at(value, self.starts[name], BRANCHES[1 - BRANCHES.index(name)])

    def walk(self, name: str, values: np.ndarray, resolution: float) -> tuple[list[Batch], list[Jump]]:
        """A branch from its start at the first of the values on, and its jumps, located to `resolution`.

        A point that does not converge is passed over: the next one starts from the last one that did.
        """
        other, state = BRANCHES[1 - BRANCHES.index(name)], self.starts[name]
        solutions: list[Batch] = []
        jumps: list[Jump] = []
        last: float | None = None
        for value in values:
            batch = self.at(value, state, other)
            good = batch.result[0] == Result.CONVERGED
            if last is not None and (not good or distance(state, self.state(batch)) > SUSPECT):
                jumps += self._jump(name, other, last, float(value), state, batch, resolution)
                last = None if not good else last
            solutions.append(batch)
            if good:
                state, last = self.state(batch), float(value)
        return solutions, jumps

    def _jump(
        self, name: str, other: str, here: float, there: float, state: np.ndarray, beyond: Batch, resolution: float
    ) -> list[Jump]:
        """Bisect between a solution and the next until they are close, which is no jump, or their parameters are."""
        far = self._end(beyond)
        while abs(there - here) > resolution:
            if distance(state, far) < SUSPECT / 2:
                return []
            middle = 0.5 * (here + there)
            if middle in (here, there):
                break
            batch = self.at(middle, state, other)
            if batch.result[0] == Result.MAX_STEPS:  # too close to the fold to tell the sides apart: the interval stays as it is
                break
            found = self._end(batch)
            if distance(found, state) < distance(found, far):
                here, state = middle, found
            else:
                there, far = middle, found
        return [Jump(name, 0.5 * (here + there), abs(there - here))]

    def _end(self, batch: Batch) -> np.ndarray:
        """State of a solution; not finite if it is none."""
        return self.state(batch) if batch.result[0] == Result.CONVERGED else np.full(self.problem.unknowns.size, np.inf)


def follow(
    problem: object,
    along: str,
    values: Sequence[float] | np.ndarray,
    fixed: Mapping[str, object] | None = None,
    *,
    method: Method | None = None,
    starts: Mapping[str, Mapping[str, float]] | None = None,
    resolution: float = 1e-5,
) -> Branches:
    """Follow both branches along a parameter: a hysteresis loop.

    Parameters
    ----------
    problem : FixedPointProblem or model
    along : str
        Parameter to follow.
    values : sequence of float
        At least two, rising or falling.
    fixed : mapping of str to float, optional
        The other parameters.
    method : Method, optional
        The problem's own if left out.
    starts : mapping of branch to mapping of order parameter to value, optional
        Where "uninformed" and "informed" begin, in place of the model's.
    resolution : float
        Jumps are located to this fraction of the range.

    Returns
    -------
    Branches

    Raises
    ------
    ParameterError
        For a bad parameter, value or start; before any work is done.
    """
    follower = Follower(problem, along, values, fixed, method, starts)
    grid = follower.grid.axes[along]
    if len(grid) < 2 or not (np.all(np.diff(grid) > 0) or np.all(np.diff(grid) < 0)):
        raise ParameterError(f"{follower.problem.name}: {along} needs two or more values that rise, or fall, to be followed")
    if not 0 < resolution < 1:
        raise ParameterError(f"resolution = {resolution:g} is outside its range (0, 1)")
    width = resolution * abs(grid[-1] - grid[0])
    there, jumps = follower.walk(BRANCHES[0], grid, width)
    back, more = follower.walk(BRANCHES[1], grid[::-1], width)
    found = {BRANCHES[0]: _joined(there), BRANCHES[1]: _joined(back[::-1])}
    return Branches(follower.problem, along, grid, follower.fixed, follower.method, found, (*jumps, *more))


def _joined(batches: Sequence[Batch]) -> Batch:
    parts: dict[str, Any] = {name: np.concatenate([getattr(b, name) for b in batches]) for name in vars(batches[0])}
    return Batch(**parts)
