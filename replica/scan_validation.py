"""The theory in a scan file, at some of its points, beside experiments that are added to the file.

Which points, what is stored, what is missing; experiments themselves are `validation`, the file `experiments`, verdicts
`extrapolation`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from solvers.layout import DIAGNOSTICS, OF_SCANS
from solvers.store import StoreError

from .experiments import add_experiments
from .extrapolation import AGREE, Comparison, compare_all, worst
from .model import Model
from .results import open_results, open_simulation
from .validation import Settings

#: Files of other commands, whose points are no grid of solutions that experiments could be put beside.
OTHER_COMMANDS = ("optimise", "branches", "boundary", "refine")
#: Most points that are validated by one command, each being minutes of work.
MOST_POINTS = 1000
GOLDEN = (math.sqrt(5) - 1) / 2

Index = tuple[int, ...]


class ChoiceError(ValueError):
    """Points that cannot be chosen from a scan; the message names what there is."""


@dataclass(frozen=True)
class Theory:
    """What a scan file says of its model and its points.

    Attributes
    ----------
    path : Path
    model : str
    options : dict of str to str
    axes : dict of str to ndarray
    fixed : dict of str to float
        Parameters that are not axes.
    converged : ndarray of bool
    """

    path: Path
    model: str
    options: dict[str, str]
    axes: dict[str, np.ndarray]
    fixed: dict[str, float]
    converged: np.ndarray

    @classmethod
    def read(cls, path: str | Path) -> Theory:
        """Read a scan file.

        Raises
        ------
        StoreError
            If it is not a readable scan file, or was written by another command.
        """
        with open_results(path) as data:
            for command in OTHER_COMMANDS:
                if command in data.attrs:
                    raise StoreError(f"{path} was written by replica {command}; only files of replica scan can be validated")
            plan = json.loads(data.attrs["plan"])
            axes = {name: data[name].values for name in plan["axes"]}
            return cls(Path(path), plan["model"], plan["options"], axes, plan["fixed"], data["result"].values == 0)

    def solutions(self, chosen: Sequence[Index]) -> list[tuple[dict[str, np.ndarray], float]]:
        """Every quantity at each of some points, and the error of all: iteration and quadrature."""
        with open_results(self.path) as data:
            names = [name for name, v in data.items() if v.dims[: len(self.axes)] == tuple(self.axes)]
            points = [data.isel(dict(zip(self.axes, index, strict=True))) for index in chosen]
            return [
                (
                    {str(name): point[name].values for name in names if name not in DIAGNOSTICS and name not in OF_SCANS},
                    float(point["error"] + point["quadrature_error"]),
                )
                for point in points
            ]

    def coordinates(self, index: Index) -> dict[str, float]:
        """Value of every axis at a point."""
        return {name: float(values[i]) for (name, values), i in zip(self.axes.items(), index, strict=True)}

    def nearest(self, wanted: Mapping[str, Sequence[float]]) -> list[Index]:
        """Every combination of the grid values nearest to the wanted ones; axes not named take all their values.

        Raises
        ------
        ChoiceError
            If an axis is not known, a value lies outside the grid, or the points are too many.
        """
        positions = {name: list(range(len(values))) for name, values in self.axes.items()}
        for name, targets in wanted.items():
            if name not in self.axes:
                raise ChoiceError(f"{name!r} is not an axis of {self.path}; its axes are {', '.join(self.axes)}")
            values = self.axes[name]
            for target in targets:
                if not values.min() <= target <= values.max():
                    raise ChoiceError(f"{name} = {target:g} is outside the grid, [{values.min():g}, {values.max():g}]")
            # equality first: the distance from an infinite value to itself is nan
            positions[name] = list(dict.fromkeys(_nearest(values, target) for target in targets))
        count = math.prod(map(len, positions.values()))
        if count > MOST_POINTS:
            raise ChoiceError(f"{count} points are more than {MOST_POINTS}: name values of more axes, or a number of points")
        return list(product(*positions.values()))

    def every(self) -> list[Index]:
        """All points.

        Raises
        ------
        ChoiceError
            If they are too many.
        """
        return self.nearest({})

    def unsolved(self, chosen: Sequence[Index]) -> str:
        """Where the first of these points without a solution is; empty if there is none."""
        return next((_text(self.coordinates(index)) for index in chosen if not self.converged[index]), "")

    def spread(self, number: int) -> list[Index]:
        """That many points (or all) spread evenly over the first axis and over the other ones, among those that converged.

        Raises
        ------
        ChoiceError
            If the number is out of range, or there is no solution.
        """
        if not 1 <= number <= MOST_POINTS:
            raise ChoiceError(f"points = {number} is outside its range [1, {MOST_POINTS}]")
        solved = np.argwhere(self.converged)
        if not len(solved):
            raise ChoiceError(f"{self.path} has no solution yet")
        shape = np.array(self.converged.shape)
        free = np.ones(len(solved), dtype=bool)
        chosen = []
        for k in range(min(number, len(solved))):
            # Even along the first axis; along the others multiples of irrational numbers, which fall in step with nothing.
            ideal = [(k + 0.5) / number, *((k + 0.5) * GOLDEN**j % 1 for j in range(1, len(shape)))]
            distance = (((solved + 0.5) / shape - ideal) ** 2).sum(axis=1)
            best = int(np.argmin(np.where(free, distance, np.inf)))
            free[best] = False
            chosen.append(tuple(int(i) for i in solved[best]))
        return sorted(chosen)


@dataclass(frozen=True)
class PointReport:
    """Theory and experiments at one point."""

    parameters: dict[str, float]
    comparisons: dict[str, Comparison]

    @property
    def verdict(self) -> str:
        """The worst of its observables."""
        return worst([AGREE, *(c.verdict for c in self.comparisons.values())])

    def __str__(self) -> str:
        width = max(map(len, ["observable", *self.comparisons]))
        columns = f"{'theory':>12}  {'simulation':>12}  {'std error':>9}  {'z':>7}  {'slope in 1/d':>12}  {'chi2':>6}"
        lines = [", ".join(f"{name}={value:g}" for name, value in self.parameters.items())]
        lines.append(f"{'observable':<{width}}  {columns}  verdict")
        for name, c in self.comparisons.items():
            slope, chi2 = ("-" if math.isnan(x) else f"{x:{form}}" for x, form in ((c.line.slope, ".3g"), (c.line.chi2, ".1f")))
            numbers = f"{c.theory:>12.6g}  {c.line.value:>12.6g}  {c.line.error:>9.1e}  {c.z:>7.2f}  {slope:>12}  {chi2:>6}"
            lines.append(f"{name:<{width}}  {numbers}  {c.verdict}")
        return "\n".join(lines)


def validate(
    theory: Theory,
    model: Model,
    chosen: Sequence[Index],
    settings: Settings,
    *,
    workers: int | None,
    overwrite: bool = False,
    sigmas: float = 4.0,
    allowance: float = 0.0,
    progress: Callable[[int, int], object] | None = None,
) -> list[PointReport]:
    """Do the experiments that a scan file lacks at the chosen points, add them to it, and compare.

    Parameters
    ----------
    theory : Theory
    model : Model
        The model of the scan, whose `simulate` is the experiment.
    chosen : sequence of tuple of int
        Positions on the axes.
    settings : Settings
    workers, progress
        As in `validation.simulate_sizes`.
    overwrite : bool
        Replace simulations with other settings; otherwise they are a reason to refuse.
    sigmas, allowance
        As in `extrapolation.compare_number`.

    Returns
    -------
    list of PointReport

    Raises
    ------
    StoreError
        If the file has simulations with other sizes, repeats or seed.
    SimulationError
        If an experiment cannot be done.
    ChoiceError
        If theory and experiments have no observable in common.
    """
    present = _stored(theory, settings, overwrite)
    replaced = overwrite and present is None
    wanted = [theory.coordinates(index) for index in chosen]
    there = present or []
    missing = [at for at in wanted if not any(at == other for other in there)]
    if missing:
        points = {name: np.array([at[name] for at in missing]) for name in theory.axes}
        add_experiments(
            theory.path, model, theory.fixed, points, settings, workers=workers, first=len(there), overwrite=replaced,
            append=not replaced, progress=progress,
        )  # fmt: skip
    reports = []
    with _simulation(theory.path) as data:
        names = [str(name) for name in data.data_vars if f"{name}_sem" in data and not str(name).endswith("_by_size")]
        rows = [{name: float(data[name].values[i]) for name in theory.axes} for i in range(data.sizes["point"])]
        for (here, error), at in zip(theory.solutions(chosen), wanted, strict=True):
            row = rows.index(at)
            means, sems = ({name: _at_sizes(data, name, end, row) for name in names} for end in ("", "_sem"))
            found = compare_all(here, error, settings.sizes, means, sems, settings.repeats, sigmas, allowance)
            if not found:
                raise ChoiceError(f"the theory names {', '.join(here)}, the experiments {', '.join(names)}: nothing to compare")
            reports.append(PointReport({**theory.fixed, **at}, found))
    return reports


def _nearest(values: np.ndarray, target: float) -> int:
    same = np.flatnonzero(values == target)
    finite = np.where(np.isfinite(values), np.abs(np.where(np.isfinite(values), values, 0.0) - target), np.inf)
    return int(same[0]) if same.size else int(np.argmin(finite))


def _text(at: Mapping[str, float]) -> str:
    return ", ".join(f"{name}={value:g}" for name, value in at.items())


def _simulation(path: Path) -> Any:
    found = open_simulation(path)
    if found is None:
        raise StoreError(f"the simulations of {path} have disappeared; run again")
    return found


def _stored(theory: Theory, settings: Settings, overwrite: bool) -> list[dict[str, float]] | None:
    """Points of the file that were simulated with these settings; None if there are none, or they will be replaced."""
    found = open_simulation(theory.path)
    if found is None:
        return None
    with found as data:
        sizes = tuple(int(size) for size in data["size"].values) if "size" in data.dims else (int(data.attrs["size"]),)
        stored = Settings(sizes, int(data.attrs["repeats"]), int(data.attrs["seed"]))
        if stored == settings:
            return [{name: float(data[name].values[i]) for name in theory.axes} for i in range(data.sizes["point"])]
    if overwrite:
        return None
    raise StoreError(
        f"{theory.path} holds simulations with sizes {','.join(map(str, stored.sizes))}, repeats {stored.repeats}, seed "
        f"{stored.seed}; ask for the same, or --overwrite them"
    )


def _at_sizes(data: Any, name: str, end: str, row: int) -> np.ndarray:
    """Means, or with `end` their errors, of shape (sizes, ...) at a simulated point."""
    values = data[f"{name}_by_size{end}"] if "size" in data.dims else data[f"{name}{end}"].expand_dims("size", 1)
    return np.asarray(values.isel(point=row).values)
