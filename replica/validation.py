"""Theory against repeated finite-size simulations.

A model takes part if it has ``simulate(parameters, size, rng)``, returning the names and values of its observables in
one finite-size realisation.  Here they are repeated, averaged and compared; the theory comes in as plain numbers, so
nothing here solves anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from .dense import library
from .model import Model
from .workers import call_all

#: Ranges of sizes, repeats and seeds, ends included.
SIZES, REPEATS, SEEDS = (10, 20_000), (2, 100_000), (0, 2**63 - 1)


class Simulated(Protocol):
    """What `simulate_points` needs of a model."""

    def simulate(self, parameters: dict[str, float], size: int, rng: np.random.Generator) -> dict[str, Any]: ...


class Estimate(NamedTuple):
    """Mean over repeats and its standard error (of the mean): floats, or arrays of the shape of an indexed observable."""

    mean: Any
    sem: Any


class SimulationError(ValueError):
    """An experiment cannot be done; the message is one line with its size and parameters."""


class DisagreementError(AssertionError):
    """Theory and simulation differ by more than was allowed; the message is the report."""


class SettingError(ValueError):
    """A size, a number of repeats or a seed that cannot be used."""


@dataclass(frozen=True)
class Settings:
    """Sizes, independent repeats at each, and the seed of experiments.

    Raises
    ------
    SettingError
        If one of them is out of range.
    """

    sizes: tuple[int, ...]
    repeats: int
    seed: int

    def __post_init__(self) -> None:
        if not self.sizes:
            raise SettingError("sizes: at least one is needed")
        limits = {"repeats": (self.repeats, REPEATS), "seed": (self.seed, SEEDS), **{
            f"sizes[{i}]": (size, SIZES) for i, size in enumerate(self.sizes)}}  # fmt: skip
        for name, (value, (low, high)) in limits.items():
            if not low <= value <= high:
                raise SettingError(f"{name} = {value} is outside its range [{low}, {high}]")
        if len(set(self.sizes)) < len(self.sizes):
            raise SettingError(f"sizes = {','.join(map(str, self.sizes))}: one is given twice")


def simulate_points(
    model: Simulated,
    points: Sequence[Mapping[str, float]],
    size: int,
    repeats: int,
    seed: int,
    progress: Callable[[int, int], object] | None = None,
) -> list[dict[str, Estimate]]:
    """Simulate every point several times, in this process.

    Parameters
    ----------
    model : object with ``simulate(parameters, size, rng)``
    points : sequence of dict
        Parameters of each point.
    size : int
        Dimension d.
    repeats : int
        Independent realisations per point, at least 2.
    seed : int
        Repeat j of point i has the stream (seed, i, j): it does not depend on the order of execution, and points or
        repeats added at the end leave the others as they were.
    progress : callable, optional
        Called with the experiments done and in total, at the start and after every one.

    Returns
    -------
    list of dict
        For every point, an `Estimate` per observable.

    Raises
    ------
    ValueError
        If ``repeats < 2``.
    SimulationError
        If an experiment cannot be done.
    """
    return [found[size] for found in simulate_sizes(model, points, [size], repeats, seed, progress)]


def simulate_sizes(
    model: Simulated,
    points: Sequence[Mapping[str, float]],
    sizes: Sequence[int],
    repeats: int,
    seed: int,
    progress: Callable[[int, int], object] | None = None,
    workers: int | None = None,
    first: int = 0,
    finished: Callable[[int, dict[int, dict[str, Estimate]]], object] | None = None,
) -> list[dict[int, dict[str, Estimate]]]:
    """Simulate every point several times at each of several sizes.

    Parameters
    ----------
    model, points, repeats, seed, progress
        As in `simulate_points`; with several sizes a stream is (seed, i, j, size), so that sizes are independent.
    sizes : sequence of int
        Dimensions d.
    workers : int, optional
        Processes, each with one BLAS thread: results are the same to the last bit for any number of them.  If left out,
        all is done here, with the threads that BLAS has here.
    first : int
        Number of the first point, which enters the streams: for points that come after others done before.
    finished : callable, optional
        Called with the position of a point and what was found there, in order, as soon as it and those before are done.

    Returns
    -------
    list of dict
        For every point and size, an `Estimate` per observable.

    Raises
    ------
    ValueError
        If ``repeats < 2``.
    SimulationError
        If an experiment cannot be done.
    WorkerError
        If a process was killed.
    DeviceError
        If the device asked for cannot be used.
    """
    if repeats < 2:
        raise ValueError(f"repeats = {repeats}: a standard error needs at least 2")
    library()  # raises if the device cannot be used
    largest_first = sorted(sizes, reverse=True)
    keys = [(i, j, size) for i in range(len(points)) for size in largest_first for j in range(repeats)]
    tasks = [
        (model, dict(points[i]), size, seed, (first + i, j, size) if len(sizes) > 1 else (first + i, j)) for i, j, size in keys
    ]
    report = progress or (lambda done, total: None)
    runs: dict[tuple[int, int, int], dict[str, Any]] = {}
    out: list[dict[int, dict[str, Estimate]]] = []

    def take(number: int, run: dict[str, Any]) -> None:
        runs[keys[number]] = run
        if len(runs) == (len(out) + 1) * len(sizes) * repeats:  # runs come in order
            out.append({size: _average([runs[len(out), j, size] for j in range(repeats)]) for size in sizes})
            if finished:
                finished(len(out) - 1, out[-1])
        report(len(runs), len(tasks))

    report(0, len(tasks))
    if workers is None:
        for number, task in enumerate(tasks):
            take(number, _experiment(*task))
    else:
        call_all(_experiment, tasks, workers, take)
    return out


def _experiment(model: Simulated, point: dict[str, float], size: int, seed: int, key: tuple[int, ...]) -> dict[str, Any]:
    """One realisation, of the stream (seed, *key)."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
    defaults = model.parameter_defaults() if isinstance(model, Model) else {}
    try:
        return model.simulate({**defaults, **point}, size, rng)
    except (ValueError, ArithmeticError, RuntimeError) as error:
        at = ", ".join(f"{name}={value:g}" for name, value in point.items())
        raise SimulationError(f"no experiment of size {size} at {at}: {error or type(error).__name__}") from error


def _average(runs: Sequence[Mapping[str, Any]]) -> dict[str, Estimate]:
    return {name: _estimate(np.array([run[name] for run in runs])) for name in runs[0]}


def _estimate(values: np.ndarray) -> Estimate:
    """From repeats along the first axis."""
    mean, sem = values.mean(axis=0), values.std(axis=0, ddof=1) / math.sqrt(len(values))
    return Estimate(mean, sem) if values.ndim > 1 else Estimate(float(mean), float(sem))


def _components(values: Mapping[str, Any]) -> dict[str, Any]:
    """Indexed observables taken apart: ``outer`` becomes ``outer[0]``, ``outer[1]``."""
    out = {}
    for name, value in values.items():
        mean, sem = value if isinstance(value, Estimate) else (value, None)
        for index in np.ndindex(np.shape(mean)):
            label = name + (f"[{','.join(map(str, index))}]" if index else "")
            one = float(np.asarray(mean)[index])
            out[label] = one if sem is None else Estimate(one, float(np.asarray(sem)[index]))
    return out


@dataclass(frozen=True)
class Report:
    """Theory and simulation side by side.

    Attributes
    ----------
    parameters : dict
    size, repeats : int
    theory : dict of float
    simulation : dict of Estimate
        Every simulated observable; those that the theory does not name are printed but not compared.
    """

    parameters: dict[str, float]
    size: int
    repeats: int
    theory: dict[str, float]
    simulation: dict[str, Estimate]

    @property
    def names(self) -> list[str]:
        """Observables that both sides have."""
        return [name for name in self.simulation if name in self.theory]

    def z(self, name: str, allowance: float = 0.0) -> float:
        """(simulation - theory) / sqrt(sem^2 + allowance^2); nan if a number is missing."""
        mean, sem = self.simulation[name]
        difference = mean - self.theory[name]
        width = math.hypot(sem, allowance)
        return difference / width if width > 0 else math.copysign(math.inf, difference) if difference else 0.0

    def check(self, sigmas: float = 4.0, allowance: float = 0.0) -> None:
        """Raise unless every compared observable agrees within `sigmas`.

        Parameters
        ----------
        sigmas : float
            Largest |z| allowed.
        allowance : float
            Expected size of finite-size effects, in the units of the observable.  It counts as one standard deviation
            and is added in quadrature to the standard error.

        Raises
        ------
        DisagreementError
            With the names, their z-scores and the whole table.  A value that is not a number disagrees.
        """
        scores = {name: self.z(name, allowance) for name in self.names}
        wrong = {name: z for name, z in scores.items() if not abs(z) <= sigmas}
        if wrong:
            listed = ", ".join(f"{name} (z = {z:.1f})" for name, z in wrong.items())
            raise DisagreementError(f"beyond {sigmas:g} sigmas with allowance {allowance:g}: {listed}\n{self}")

    def __str__(self) -> str:
        given = ", ".join(f"{name} = {value:g}" for name, value in self.parameters.items())
        width = max(map(len, ["observable", *self.simulation]))
        lines = [
            f"size {self.size}, {self.repeats} repeats, {given}",
            f"{'observable':<{width}}  {'theory':>12}  {'simulation':>12}  {'sem':>8}  {'z':>6}",
        ]
        for name, (mean, sem) in self.simulation.items():
            known = name in self.theory
            theory, z = (f"{self.theory[name]:.6g}", f"{self.z(name):.2f}") if known else ("-", "-")
            lines.append(f"{name:<{width}}  {theory:>12}  {mean:>12.6g}  {sem:>8.1e}  {z:>6}")
        return "\n".join(lines)


def compare(
    model: Simulated, parameters: Mapping[str, float], size: int, repeats: int, seed: int, theory: Mapping[str, Any]
) -> Report:
    """Simulate one point and set it beside the theory.

    Parameters
    ----------
    model, parameters, size, repeats, seed
        As in `simulate_points`.
    theory : mapping of str to float or array
        Predictions by the names that the simulation uses; further names are ignored.

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        If theory and simulation have no name in common.
    """
    (found,) = simulate_points(model, [parameters], size, repeats, seed)
    simulation, predicted = _components(found), _components(theory)
    known = {name: value for name, value in predicted.items() if name in simulation}
    if not known:
        raise ValueError(f"the theory names {sorted(theory)}, the simulation {sorted(found)}: nothing to compare")
    return Report(dict(parameters), size, repeats, known, simulation)
