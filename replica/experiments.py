"""Finite-size experiments stored beside the theory of a scan.

The experiments are the model's own `simulate`; repeating and averaging is `validation`, the file is `solvers.simulations`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from solvers.scan import Scan
from solvers.simulations import BySize, write_simulation
from solvers.store import StoreError

from .extrapolation import extrapolate_arrays
from .model import Model
from .results import open_simulation
from .validation import Estimate, Settings, simulate_sizes

#: Seconds between two writes of finished points: the file is replaced as a whole.
WRITE_EVERY = 30.0
#: What was found at a point: by size and observable.
BySizes = dict[int, dict[str, Estimate]]


@dataclass(frozen=True)
class Experiments:
    """Repeated experiments at every combination of some values on the axes of a scan.

    Attributes
    ----------
    model : Model
    scan : Scan
        Where the fixed parameters come from.
    size, repeats, seed : int
        Dimension d, independent repeats per point, seed.
    axes : mapping of str to sequence of float
        Values for every axis of the scan.  They need not be on the grid.
    """

    model: Model
    scan: Scan
    size: int
    repeats: int
    seed: int
    axes: Mapping[str, Sequence[float] | np.ndarray]

    def __post_init__(self) -> None:
        for name, values in self.axes.items():
            for value in values:
                self.scan.problem.parameter(name).check(value, self.model.name)

    @property
    def points(self) -> dict[str, np.ndarray]:
        """Value of every axis at every point."""
        combinations = np.array(list(product(*self.axes.values())), dtype=float)
        return {name: combinations[:, i] for i, name in enumerate(self.axes)}

    def run(
        self,
        path: str | Path,
        overwrite: bool = False,
        progress: Callable[[int, int], object] | None = None,
        workers: int | None = None,
    ) -> int:
        """Do the experiments that the scan file lacks, and write them into it.

        Parameters
        ----------
        path, progress, workers
            As in `add_experiments`.
        overwrite : bool
            Replace others that may be there.

        Returns
        -------
        int
            How many points were done now.

        Raises
        ------
        StoreError
            If it has others, and they may not be overwritten.
        """
        points, settings = self.points, Settings((self.size,), self.repeats, self.seed)
        done = self._stored(path, overwrite)
        left = {name: values[done:] for name, values in points.items()}
        count = len(next(iter(left.values())))
        if count:
            add_experiments(
                path, self.model, self.scan.plan.fixed, left, settings, workers=workers, first=done,
                overwrite=overwrite and not done, append=done > 0, progress=progress,
            )  # fmt: skip
        return count

    def _stored(self, path: str | Path, overwrite: bool) -> int:
        """How many of the points, the first ones, the file has."""
        found = open_simulation(path)
        if found is None:
            return 0
        with found:
            settings = {"size": self.size, "repeats": self.repeats, "seed": self.seed}
            same = "size" not in found.dims and all(int(found.attrs[key]) == value for key, value in settings.items())
            points = self.points
            count = min(int(found.sizes["point"]), len(next(iter(points.values()))))
            same = same and all(np.array_equal(found[name].values[:count], v[:count]) for name, v in points.items())
        if same:
            return count
        if not overwrite:
            raise StoreError(f"{path} holds simulations of another size, seed or set of points; use another file, or overwrite")
        return 0


def add_experiments(
    path: str | Path,
    model: Model,
    fixed: Mapping[str, float],
    points: Mapping[str, np.ndarray],
    settings: Settings,
    *,
    workers: int | None = None,
    first: int = 0,
    overwrite: bool = False,
    append: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> None:
    """Do experiments at points and write them into a scan file; those of several sizes also extrapolated.

    Points are written as they are finished, every `WRITE_EVERY` seconds and at the end, also if that is an interrupt.

    Parameters
    ----------
    path : path-like
    model : Model
    fixed : mapping of str to float
        Parameters that are not axes of the scan.
    points : mapping of str to ndarray, shape (n,)
        Value of every axis at every point.
    settings : Settings
    workers, first, progress
        As in `validation.simulate_sizes`.
    overwrite, append
        As in `solvers.simulations.write_simulation`.
    """
    each = [{**fixed, **{k: float(v[i]) for k, v in points.items()}} for i in range(len(next(iter(points.values()))))]
    sizes, repeats, seed = settings.sizes, settings.repeats, settings.seed
    unwritten: list[BySizes] = []
    written, last = 0, time.monotonic()

    def write() -> None:
        nonlocal written, last
        if unwritten:
            batch = unwritten[:]
            unwritten.clear()  # first: interrupted here, a batch is lost rather than written twice
            part = {name: v[written : written + len(batch)] for name, v in points.items()}
            _write(path, part, batch, settings, overwrite=overwrite and not written, append=append or written > 0)
            written += len(batch)
        last = time.monotonic()

    def keep(_: int, found: BySizes) -> None:
        unwritten.append(found)
        if time.monotonic() - last > WRITE_EVERY:
            write()

    try:
        simulate_sizes(model, each, sizes, repeats, seed, progress, workers, first, keep)
    finally:  # also of an interrupt, or of a point that cannot be done
        write()


def _write(
    path: str | Path, points: Mapping[str, np.ndarray], found: Sequence[BySizes], settings: Settings,
    overwrite: bool, append: bool,
) -> None:  # fmt: skip
    sizes, repeats = settings.sizes, settings.repeats
    names = list(found[0][sizes[0]])
    means = {name: np.array([[at[size][name].mean for size in sizes] for at in found]) for name in names}
    sems = {name: np.array([[at[size][name].sem for size in sizes] for at in found]) for name in names}
    if len(sizes) == 1:
        by_size, mean, sem = None, {k: v[:, 0] for k, v in means.items()}, {k: v[:, 0] for k, v in sems.items()}
    else:
        by_size, mean, sem = BySize(sizes, means, sems), {}, {}
        for name in names:
            ends = [extrapolate_arrays(sizes, means[name][i], sems[name][i], repeats) for i in range(len(found))]
            mean[name], sem[name] = (np.array(part) for part in zip(*ends, strict=True))
    write_simulation(
        path, points, mean, sem, size=max(sizes), repeats=repeats, seed=settings.seed, overwrite=overwrite, append=append,
        by_size=by_size,
    )  # fmt: skip
